#!/usr/bin/env bash
# Both families, sampling and the PyTorch twin on one GPU: JSON and tables in a folder.
#
#   experiments/gpu_bench.sh OUT           on a GPU, with the extras cuda and bench
#   SMALL=1 experiments/gpu_bench.sh OUT   the same commands with small shapes, anywhere
set -euo pipefail
out=${1:?usage: gpu_bench.sh OUT}
cd "$(dirname "$0")/.."
mkdir -p "$out"
# JAX would take three quarters of the memory, and PyTorch stands in the same process.
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.5}
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$out/cache}

# The step of the study (--config.model.vocab_size is GPT-2's), and our recipe of it.
model=(--config=experiments/configs/controlled.py)
study=(--config.model.vocab_size=50257)
shapes=32x512 batches=1,1000 repeats=5
if [ "${SMALL:-}" ]; then
  model=(--config=experiments/configs/tiny.py --config.model.dtype=bfloat16
    --config.model.length=16 --config.model.num_layers=2 --config.evaluate.num_draws=2)
  study=(--config.model.vocab_size=1000)
  shapes=4x32 batches=1,4 repeats=2
fi
twin=()
if python -c 'import torch' 2>/dev/null; then twin=(--twin=eager,compile); fi

run() {
  local name=$1
  shift
  python -m experiments.speed --repeats="$repeats" --out="$out/$name.json" "$@" |
    tee "$out/$name.txt"
}
run training_study "${model[@]}" "${study[@]}" --only=training --shapes="$shapes" "${twin[@]}"
run training_study_float32 "${model[@]}" "${study[@]}" --only=training --shapes="$shapes" \
  --config.model.dtype=float32
run training_study_whole_head "${model[@]}" "${study[@]}" --only=training \
  --shapes="$shapes" --config.model.head=all
run training "${model[@]}" --only=training --shapes="$shapes" --profile="$out/trace"
run evaluation "${model[@]}" --only=evaluation
run sampling "${model[@]}" "${study[@]}" --only=sampling --batches="$batches"
