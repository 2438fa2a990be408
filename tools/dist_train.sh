#!/usr/bin/env bash
# Train with several processes on each machine: tools/dist_train.sh CONFIG NPROC [arguments of tools/train.py]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT (or PORT), or torchrun's own flags as in
# TORCHRUN_ARGS='--nnodes 2 --rdzv-backend c10d --rdzv-endpoint HOST:29400 --rdzv-id NAME', the same on all machines.
set -eu
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG NPROC [arguments of tools/train.py]" >&2
    exit 2
fi
LAUNCH_VARIABLES='PYTHON NNODES NODE_RANK MASTER_ADDR MASTER_PORT PORT TORCHRUN_ARGS'
. "$(dirname "$0")/_typed.sh"
CONFIG=$1
NPROC=$2
shift 2
# shellcheck disable=SC2086  # TORCHRUN_ARGS may hold several arguments
exec "${PYTHON:-python}" "$(dirname "$0")/_launch.py" \
    --nnodes "${NNODES:-1}" \
    --node_rank "${NODE_RANK:-0}" \
    --master_addr "${MASTER_ADDR:-127.0.0.1}" \
    --master_port "${MASTER_PORT:-${PORT:-29500}}" \
    --nproc_per_node "$NPROC" \
    ${TORCHRUN_ARGS:-} \
    "$(dirname "$0")/train.py" "$CONFIG" --launcher pytorch "$@"
