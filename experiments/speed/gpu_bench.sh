#!/usr/bin/env bash
# Speed of both families and of the PyTorch baseline on one GPU: JSON and tables in OUT.
#
#   experiments/speed/gpu_bench.sh OUT           on a GPU, with the extras cuda and bench
#   experiments/speed/gpu_bench.sh OUT training_study sampling       some parts, in this order
#   SMALL=1 experiments/speed/gpu_bench.sh OUT   the same commands with small shapes, anywhere
#
# PYTHON names the interpreter.
set -euo pipefail
out=${1:?usage: gpu_bench.sh OUT [PART ...]}
mkdir -p "$out"
out=$(realpath "$out") PYTHON=${PYTHON:-python}
cd "$(dirname "$0")/../.."
# By default JAX takes three quarters of the memory, but PyTorch runs in the same process.
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.6}
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$out/cache}

# The step of the paper (study: with GPT-2's vocabulary size), and our recipe.
model=(--config=experiments/configs/controlled.py)
study=(--config.model.vocab_size=50257)
shapes=32x512 many=1000 repeats=5
if [ "${SMALL:-}" ]; then
  model=(--config=experiments/configs/tiny.py --config.model.dtype=bfloat16
    --config.model.length=16 --config.model.num_layers=2 --config.evaluate.num_draws=2)
  study=(--config.model.vocab_size=1000)
  shapes=4x32 many=4 repeats=2
fi
windows=${shapes%x*} length=${shapes#*x}
torch_modes=()
if "$PYTHON" -c 'import torch' 2>/dev/null; then torch_modes=(--torch=eager,compile); fi

# run NAME MODULE FLAGS...: writes NAME.json and NAME.txt.
run() {
  local name=$1 module=$2
  shift 2
  "$PYTHON" -m "experiments.$module" --out="$out/$name.json" "$@" | tee "$out/$name.txt"
}
train=(speed --only=training --repeats="$repeats" --shapes="$shapes")
draw=(speed --only=sampling --repeats=3)
part() {
  case $1 in
  training_study) run "$1" "${train[@]}" "${model[@]}" "${study[@]}" "${torch_modes[@]}" ;;
  training_study_float32)
    run "$1" "${train[@]}" "${model[@]}" "${study[@]}" --config.model.dtype=float32 ;;
  training_study_whole_head)
    run "$1" "${train[@]}" "${model[@]}" "${study[@]}" --config.mdlm.head=all ;;
  training) run "$1" "${train[@]}" "${model[@]}" ;;
  hot_spots)
    run "$1" speed.hot_spots "${model[@]}" "${study[@]}" --config.train.batch_size="$windows" \
      --config.model.length="$length" ;;
  loop) run "$1" speed --only=loop --shapes="$shapes" "${model[@]}" ;;
  evaluation) run "$1" speed --only=evaluation --repeats="$repeats" "${model[@]}" ;;
  sampling) run "$1" "${draw[@]}" "${model[@]}" "${study[@]}" --batches=1 ;;
  sampling_many)
    run "$1" "${draw[@]}" "${model[@]}" "${study[@]}" --batches="$many" \
      --num_steps=8,100 ;;
  *) echo "error: no part $1: choose from ${parts[*]}" >&2; exit 2 ;;
  esac
}
parts=(training_study hot_spots sampling_many sampling training loop evaluation
  training_study_float32 training_study_whole_head)
shift
(($#)) || set -- "${parts[@]}"
for name in "$@"; do part "$name"; done
