#!/usr/bin/env bash
# The paper's comparison at its own size on one GPU: `published` and `controlled`.
#
#   OUT=out DATA=tinystories TRAIN_FILES=train.txt VALID_FILES=valid.txt \
#       bash experiments/speed/gpu_study.sh
#   OUT=out DATA=storyworld bash experiments/speed/gpu_study.sh
#   SMALL=1 OUT=out DATA=storyworld bash experiments/speed/gpu_study.sh    # a rehearsal, CPU
#
# A call runs for at most PIECE_SECONDS and saves. It exits with status 75 if there is more
# to do: call it again on the same disk until it exits with 0. Each call copies the metrics,
# samples and results so far to OUT, without checkpoints. The folders have the names that
# experiments/paper_claims/claims.py reads in experiments/results.
#
# OUT            folder of the results, at most MAX_MEGABYTES
# RUNS           checkpoints, prepared text and compiled programs; default runs/gpu_study
# DATA           tinystories (TRAIN_FILES, VALID_FILES; neither: the official files are
#                downloaded) or storyworld (NUM_STORIES stories; default: 50M tokens)
# RECIPES        default "published controlled"
# VOCABULARY     "vocab.json,merges.txt" of GPT-2; default: SentencePiece of VOCAB_SIZE
# STEPS, SEEDS, DTYPE, PIECE_SECONDS, MAX_MEGABYTES, PYTHON; MORE: further flags
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

OUT=${OUT:?name the folder of the results: OUT=out bash experiments/speed/gpu_study.sh}
RUNS=${RUNS:-runs/gpu_study}
DATA=${DATA:-tinystories}
RECIPES=${RECIPES:-published controlled}
STEPS=${STEPS:-20000}
SEEDS=${SEEDS:-1}
DTYPE=${DTYPE:-bfloat16}
PIECE_SECONDS=${PIECE_SECONDS:-510}
MAX_MEGABYTES=${MAX_MEGABYTES:-60}
PYTHON=${PYTHON:-python}
GRACE=25  # seconds between SIGTERM (save) and SIGKILL

mkdir -p "$OUT" "$RUNS"
OUT=$(realpath "$OUT") RUNS=$(realpath "$RUNS")
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$RUNS/compiled}
end=$((SECONDS + PIECE_SECONDS))

flags=(
    "--config.train.num_steps=$STEPS"
    "--config.num_seeds=$SEEDS"
    "--config.model.dtype=$DTYPE"
    "--config.data.corpus=$DATA"
    "--config.data.cache_dir=$RUNS/cache"
    "--config.evaluate.order_windows=0"
    "--config.frontier.num_samples=0"
)
if [[ $DATA == storyworld ]]; then
    VOCAB_SIZE=${VOCAB_SIZE:-1024}
    flags+=(
        "--config.data.num_stories=${NUM_STORIES:-510000}"
        "--config.data.num_valid_stories=${NUM_VALID_STORIES:-10000}"
        "--config.data.max_documents=0"
    )
else
    VOCAB_SIZE=${VOCAB_SIZE:-8192}
    flags+=(
        "--config.data.train_files=${TRAIN_FILES:-}"
        "--config.data.valid_files=${VALID_FILES:-}"
    )
fi
if [[ -n ${VOCABULARY:-} ]]; then
    flags+=(
        "--config.data.tokenizer=gpt2"
        "--config.data.tokenizer_files=$VOCABULARY"
        "--config.model.vocab_size=50262"
    )
else
    flags+=(
        "--config.data.tokenizer=sentencepiece"
        "--config.model.vocab_size=$VOCAB_SIZE"
    )
fi
if [[ ${SMALL:-} == 1 ]]; then  # shapes that a CPU trains in a minute
    length=512  # TinyStories are longer than 128 tokens
    [[ $DATA == storyworld ]] && length=128
    flags+=(
        "--config.model.length=$length" --config.model.width=32 --config.model.num_layers=2
        --config.model.num_heads=2 --config.model.ffn_width=64
        --config.model.dtype=float32 --config.train.batch_size=8
        --config.optimizer.warmup_steps=5 --config.train.log_every=10
        --config.train.eval_every=20 --config.train.eval_windows=16
        --config.train.save_every=10 --config.sample.num_samples=16
        --config.sample.batch_size=8 --config.sample.num_steps=8
        --config.evaluate.max_windows=16 --config.evaluate.num_draws=2
        --config.evaluate.detail_windows=8
    )
fi

# Copies the results of one recipe, without checkpoints and TensorBoard events.
bring_back() {
    local from=$RUNS/$1_$DATA to=$OUT/$1_gpu_$DATA
    [[ -d $from ]] || return 0
    rm -rf "$to" && mkdir -p "$to"
    (cd "$from" && find . -type d -name checkpoints -prune -o -type f \
        \( -name '*.json' -o -name '*.jsonl' -o -name 'report.*' -o -name '*.png' \) \
        -print0 | xargs -0 -r cp --parents -t "$to")
}

status=0
for recipe in $RECIPES; do
    left=$((end - SECONDS - GRACE))
    ((left > GRACE)) || { status=75; break; }
    log=$OUT/$recipe.log
    started=$SECONDS
    # shellcheck disable=SC2086  # MORE is several flags
    timeout --signal=TERM --kill-after=$GRACE "$left" "$PYTHON" -m experiments.compare \
        --config="experiments/configs/$recipe.py" --workdir="$RUNS/${recipe}_$DATA" \
        "${flags[@]}" ${MORE:-} >"$log" 2>&1 && code=0 || code=$?
    bring_back "$recipe"
    echo "$recipe: $((SECONDS - started)) s, status $code"
    if ((code == 0)) && [[ -f $RUNS/${recipe}_$DATA/results.json ]]; then
        continue
    fi
    tail -n 3 "$log"
    case $code in
    0 | 124 | 137) status=75 ;;  # stopped by the time limit; there is more to do
    *) exit "$code" ;;
    esac
    break
done

megabytes=$(du -sm "$OUT" | cut -f1)
echo "$OUT: $megabytes MB"
if ((megabytes > MAX_MEGABYTES)); then
    echo "error: $OUT holds more than MAX_MEGABYTES=$MAX_MEGABYTES: raise it, or ask for" \
        "fewer samples by MORE=--config.sample.num_samples=500" >&2
    exit 2
fi
((status == 0)) && echo "finished" || echo "not finished: call again"
exit $status
