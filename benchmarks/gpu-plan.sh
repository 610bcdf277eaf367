# The plans of a short lease of a GPU (a quarter of an hour), for a script that defines the functions one, bench and the
# variables py, work, out, end and small. For a GPU of your own, where time is not bounded: benchmarks/gpu.sh.
# Measured on an H100: a step is bound by Python's launches, so two trainings side by side are as fast as one alone
# (fast20 2.3 s an epoch); seven at once are slower in sum than three.

speed() { local label=$1 script=$2; shift 2; one "$label" "$py" "benchmarks/$script.py" "$@"; } # LABEL SCRIPT OPTIONS...

# plan_first: the speeds that need no CIFAR-10, one after the other.
plan_first() {
  "$py" -c "from cifar_fastai.shapes import shapes10; [shapes10(n_train=n, n_test=10) for n in (4000, 10000)]" > "$work/shapes.log" 2>&1
  cap=60 speed step step --n-batches 20 --bs 500 --out "$work/results/bench-step.json"
  speed loader loader --n 4000 --bs 500 --workers 8 --out "$work/results/bench-loader.json"
}

# plan_accuracy: what results/runs does not hold yet of the full runs, in three lanes, and the cuda tests beside them; R1 with
# Adam (and its default of no weight decay) and with a higher rate, for why it misses its reference; then fast20's variants
# on held-out images.
seeds() { # RECIPE SEEDS VALID_EVERY OPTIONS...
  local r=$1 n=$2 v=$3; shift 3
  bench "accuracy-$r-$n${*// /}" accuracy --recipe "$r" --seeds "$n" --valid-every "$v" --tta flip_translate \
    --out "$work/results" --runs "$work/runs" "$@" "${small[@]}"
}
plan_accuracy() {
  cp -rn results/runs/. "$work/runs/" 2>/dev/null
  ( seeds fast20 5 5; seeds plain 5 5; variants images 'translate 2' smaller ) &
  ( cap=75 sig=INT PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 one cuda "$py" -m pytest -m cuda -q -rA tests/test_train.py tests/robustness/test_trouble.py
    seeds quick 5 5; seeds plain5 5 5; variants weights 'average of' 'no warm-up' ) &
  ( seeds R1 1 20 --opt adam --lr 0.0522; seeds R1 1 20 --lr 0.2; variants rates 'batch 250' 'rate 0.1' ) &
  wait
}

# plan_ablate: fast20's variants (benchmarks/fast20.json), two seeds each.
variants() { # LABEL WORDS...: those of benchmarks/fast20.json whose names hold one of the words
  local label=$1 file=$work/variants-$1.json; shift
  "$py" -c "
import json, sys
every = json.load(open('benchmarks/fast20.json'))
json.dump({k: v for k, v in every.items() if any(o in k for o in sys.argv[2:])}, open(sys.argv[1], 'w'))" "$file" "$@"
  bench "ablate-$label" ablate --recipe fast20 --valid 0.1 --valid-every 20 --tta none --variants "$file" --seeds 2 \
    --out "$work/results/ablation-fast20-$label.json" --runs "$work/runs/ablate-$label" "${small[@]}"
}
plan_ablate() { variants all ''; }

# plan_rest: seconds and joules to 94 %, maps a second, the compiled step, one after the other.
plan_rest() {
  speed goal goal --seeds 2 --out "$work/results/bench-goal.json"
  cap=45 speed cam cam --n 300 --out "$work/results/bench-cam.json"
  speed compiled step --n-batches 20 --bs 500 --compile --out "$work/results/bench-step-compiled.json"
}
