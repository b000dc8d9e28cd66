#!/usr/bin/env bash
# Train in a Slurm job of its own, or as a step of the batch job that calls this.
set -euo pipefail

if [[ $# -lt 4 ]]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]" >&2
    echo "set by variables: GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS" >&2
    echo "GPUS_PER_NODE=0 asks for none: GPUS processes train on CPUs" >&2
    exit 2
fi
partition=$1 job_name=$2 config=$3 work_dir=$4
shift 4
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-8}
if [[ ! $gpus =~ ^[1-9][0-9]*$ || ! $per_node =~ ^[0-9]+$ ]]; then
    echo "$0: expected numbers, got GPUS='$gpus' GPUS_PER_NODE='$per_node'" >&2
    exit 2
fi
read -r -a more <<<"${SRUN_ARGS:-}"
if ((per_node > 0)); then
    ((per_node = per_node < gpus ? per_node : gpus))
    more+=("--gres=gpu:$per_node" "--ntasks-per-node=$per_node")
fi
# Jobs that share a node must not share a port.
export MASTER_PORT=${MASTER_PORT:-$((20000 + ${SLURM_JOB_ID:-$$} % 20000))}

# Of a batch job that Slurm has started again.
if ((${SLURM_RESTART_COUNT:-0} > 0)); then
    set -- "$@" --resume
fi
while true; do
    status=0
    PYTHONUNBUFFERED=1 srun \
        --partition="$partition" \
        --job-name="$job_name" \
        --ntasks="$gpus" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" \
        --kill-on-bad-exit=1 \
        "${more[@]}" \
        python -u "$(dirname "$0")/train.py" "$config" \
        --work-dir "$work_dir" --launcher slurm "$@" || status=$?
    # 75: saved when it was told to end, as by preemption; to be continued.
    if ((status != 75)); then
        exit "$status"
    elif [[ -n ${SLURM_JOB_ID:-} ]]; then
        exec scontrol requeue "$SLURM_JOB_ID"
    fi
    echo "$0: preempted; waiting for $partition again" >&2
    set -- "$@" --resume
done
