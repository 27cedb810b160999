#!/usr/bin/env bash
# Starts N processes of one comparison on this machine, over the loopback interface:
#
#   experiments/launch_local.sh 2 --workdir=runs/tiny
#
# All further arguments are passed to experiments.compare. On a CPU the processes share
# the cores. With GPUs each process uses one: CUDA_VISIBLE_DEVICES is set to its number.
# If one process fails, the others are stopped; the same command then continues from the
# last checkpoint.
set -euo pipefail

if [[ ! ${1:-} =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: experiments/launch_local.sh N [flags of experiments.compare]" >&2
  exit 2
fi
num_processes=$1
shift
python=${PYTHON:-python}
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

processes=()
trap 'kill "${processes[@]}" 2>/dev/null || true' EXIT INT TERM
for ((i = 0; i < num_processes; i++)); do
  CUDA_VISIBLE_DEVICES=$i "$python" -m experiments.compare "$@" \
    --coordinator="127.0.0.1:$port" --num_processes="$num_processes" --process_id="$i" &
  processes+=($!)
done

status=0
for _ in "${processes[@]}"; do
  wait -n || { status=$?; break; }  # the trap stops the rest
done
exit "$status"
