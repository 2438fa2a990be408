#!/usr/bin/env bash
# Test with several processes on each machine: tools/dist_test.sh CONFIG CHECKPOINT NPROC [arguments of tools/test.py]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT (or PORT), or torchrun's own flags in
# TORCHRUN_ARGS, as in tools/dist_train.sh.
set -eu
if [ $# -lt 3 ]; then
    echo "usage: $0 CONFIG CHECKPOINT NPROC [arguments of tools/test.py]" >&2
    exit 2
fi
CONFIG=$1
CHECKPOINT=$2
NPROC=$3
shift 3
# shellcheck disable=SC2086  # TORCHRUN_ARGS may hold several arguments
exec "${PYTHON:-python}" "$(dirname "$0")/_launch.py" \
    --nnodes "${NNODES:-1}" \
    --node_rank "${NODE_RANK:-0}" \
    --master_addr "${MASTER_ADDR:-127.0.0.1}" \
    --master_port "${MASTER_PORT:-${PORT:-29500}}" \
    --nproc_per_node "$NPROC" \
    ${TORCHRUN_ARGS:-} \
    "$(dirname "$0")/test.py" "$CONFIG" "$CHECKPOINT" --launcher pytorch "$@"
