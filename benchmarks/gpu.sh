#!/usr/bin/env bash
# Accuracies and speeds on one GPU: accuracies first, into FOLDER, then speeds, into FOLDER/gpu, the table of results last.
#   bash benchmarks/gpu.sh [FOLDER]        (FOLDER is results by default; PYTHON names another python3)
# The records in results/ are of an H100: on another GPU name a new FOLDER, so that the two do not stand side by side.
# CIFAR-10 is found as by cifar-train. What has its record is not measured again, and a series of runs continues where it was
# cut off: complete runs are taken from FOLDER/runs and runs/bench, where config.json, metrics.json and history.csv are enough.
# So where time is bounded, give the same command again. The last line says how many measures failed, and which.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-results} failed=()

run() { # stopped by Ctrl-C, it stops all
  local rc=0; printf '\n== python %s\n' "$*"
  "${PYTHON:-python3}" "$@" || rc=$?
  [ "$rc" -ne 130 ] || exit 130
  [ "$rc" -eq 0 ] || failed+=("$*")
}
bench() { run -m cifar_fastai.cli bench "$@"; }
speed() { # RECORD SCRIPT OPTIONS...
  local record=$out/gpu/bench-$1.json script=benchmarks/$2.py; shift 2
  [ -s "$record" ] || run "$script" "$@" --out "$record"
}
accuracy() { # RECIPE SEEDS VALID_EVERY; not again where all seeds ran on a GPU
  grep -qsE "^ ?\"n_seeds\": *$2," "$out/$1.json" && ! grep -qs '"device": "cpu' "$out/$1.json" ||
    bench accuracy --recipe "$1" --seeds "$2" --valid-every "$3" --tta flip_translate --out "$out"
}

mkdir -p "$out/gpu" runs/bench
[ -d "$out/runs" ] && cp -rn "$out/runs/." runs/bench/
for recipe in fast20 plain quick plain5; do accuracy $recipe 5 5; done
for recipe in R1 R2 R5 R4 R3; do accuracy $recipe 1 1; done
speed step step --n-batches 40 --bs 500
speed goal goal
speed loader loader --n 20000 --bs 500 --workers 8
speed cam cam
speed recipes recipes --n-batches 20
speed growth growth
speed step-compiled step --n-batches 40 --bs 500 --compile
bench table "$out"

printf '\n%d failed\n' "${#failed[@]}"
for o in ${failed[@]+"${failed[@]}"}; do printf '  python %s\n' "$o"; done
[ "${#failed[@]}" -eq 0 ]
