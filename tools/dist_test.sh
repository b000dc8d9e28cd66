#!/usr/bin/env bash
# Test on several GPUs (or, without any, in several processes) of one or more machines.
set -euo pipefail

if [[ $# -lt 3 ]]; then
    echo "usage: $0 CONFIG CHECKPOINT GPUS [arguments of tools/test.py]" >&2
    echo "of several machines on each: NNODES=2 MASTER_ADDR=first PORT=29500 $0 ..." >&2
    exit 2
fi
config=$1 checkpoint=$2 gpus=$3
shift 3
if [[ ! $gpus =~ ^[1-9][0-9]*$ ]]; then
    echo "$0: expected the number of GPUs of this machine, got '$gpus'" >&2
    exit 2
fi

exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --rdzv-backend=c10d \
    --rdzv-endpoint="${MASTER_ADDR:-127.0.0.1}:${PORT:-29500}" \
    --nproc-per-node="$gpus" \
    "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
