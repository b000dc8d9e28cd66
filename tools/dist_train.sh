#!/usr/bin/env bash
# Train on several GPUs (or, without any, in several processes) of one or more machines.
set -euo pipefail

if [[ $# -lt 2 ]]; then
    echo "usage: $0 CONFIG GPUS [arguments of tools/train.py]" >&2
    echo "of several machines on each: NNODES=2 MASTER_ADDR=first PORT=29500 $0 ..." >&2
    echo "RESTARTS=3 starts again after a failure; with --resume it goes on" >&2
    exit 2
fi
config=$1 gpus=$2
shift 2
if [[ ! $gpus =~ ^[1-9][0-9]*$ ]]; then
    echo "$0: expected the number of GPUs of this machine, got '$gpus'" >&2
    exit 2
fi

# A new store for every start: NCCL would find what processes that are gone have left.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --rdzv-backend=c10d \
    --rdzv-endpoint="${MASTER_ADDR:-127.0.0.1}:${PORT:-29500}" \
    --nproc-per-node="$gpus" \
    --max-restarts="${RESTARTS:-0}" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
