# Sourced by the scripts that train: puts the command as it was typed into MLP_DENSE_COMMAND, which the training shows,
# with --resume, when a signal has ended it. LAUNCH_VARIABLES names the variables that belong to the command.
MLP_DENSE_COMMAND=
for NAME in $LAUNCH_VARIABLES; do
    [ -z "${!NAME:-}" ] || MLP_DENSE_COMMAND+="$(printf '%q' "$NAME=${!NAME}") "
done
MLP_DENSE_COMMAND="${MLP_DENSE_COMMAND:+env }$MLP_DENSE_COMMAND$(printf '%q ' "$0" "$@")"
export MLP_DENSE_COMMAND=${MLP_DENSE_COMMAND% }
