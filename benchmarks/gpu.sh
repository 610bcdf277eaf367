#!/usr/bin/env bash
# All that is measured on one GPU, most wanted first: speeds into FOLDER/gpu, accuracies into FOLDER, the table of results last.
#   bash benchmarks/gpu.sh [FOLDER]        (FOLDER is results by default; PYTHON names another python3)
# CIFAR-10 is found as by cifar-train. A speed that has its record is not measured again, and a series of runs goes on where it
# was cut off, so where time is bounded the same command is given again. The last line says how many measures failed, and which.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-results} failed=()

bench() { printf '\n== cifar-bench %s\n' "$*"; "${PYTHON:-python3}" -m cifar_fastai.cli bench "$@" || failed+=("$*"); }
speed() { local record=$out/gpu/bench-$1.json; [ -s "$record" ] || bench "$@" --out "$record"; } # NAME OPTIONS...
accuracy() { bench accuracy --recipe "$1" --seeds "$2" --out "$out"; } # RECIPE SEEDS; runs that are complete are taken as they are

mkdir -p "$out/gpu"
speed step --n-batches 40 --bs 500 --compile
speed loader --n 10000 --bs 500 --rounds 5
speed goal
for recipe in fast20 plain; do accuracy $recipe 5; done
for recipe in R1 R2 R5 R4 R3; do accuracy $recipe 1; done
for recipe in quick plain5; do accuracy $recipe 5; done
speed recipes --n-batches 20
speed cam
speed growth
speed start
bench table "$out"

printf '\n%d failed\n' "${#failed[@]}"
for o in ${failed[@]+"${failed[@]}"}; do printf '  cifar-bench %s\n' "$o"; done
[ "${#failed[@]}" -eq 0 ]
