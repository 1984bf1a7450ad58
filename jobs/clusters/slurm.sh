#!/bin/bash
# A recipe on Slurm: starts Ray on every node of the job, runs the recipe, and stops Ray. See docs/places.md.
#   sbatch jobs/clusters/slurm.sh RECIPE --store /shared/icm-bench [other options of `icm-bench run`]
#SBATCH --job-name=icm-bench
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -euo pipefail

if [ $# -eq 0 ]; then
    echo "slurm.sh: name a recipe: sbatch slurm.sh RECIPE --store /shared/icm-bench" >&2
    exit 2
fi

# A token for this job only, in the shared home, readable only by its owner.
umask 077
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH="$HOME/.ray/icm-bench-$SLURM_JOB_ID.token"
mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
python -c 'import secrets; print(secrets.token_hex(32), end="")' > "$RAY_AUTH_TOKEN_PATH"
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT

# Two minutes before the time limit, or on preemption, the job is requeued. Finished work is in the store, and the next
# run continues from there.
requeue() {
    echo "slurm.sh: requeued; finished work is kept" >&2
    scontrol requeue "$SLURM_JOB_ID"
    kill -TERM "$running" 2>/dev/null || true
}
trap requeue USR1

# `ray symmetric-run` exits with 0 even if Ray could not start, so the recipe writes its exit code to a file.
code_file="$HOME/.ray/icm-bench-$SLURM_JOB_ID.code"
rm -f "$code_file"
head="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
srun --kill-on-bad-exit=1 --export=ALL ray symmetric-run \
    --address "$head:${ICM_BENCH_PORT:-6379}" --min-nodes "$SLURM_JOB_NUM_NODES" --disable-usage-stats -- \
    bash -c 'code=0; icm-bench run "$@" || code=$?; echo "$code" > "$0"; exit "$code"' "$code_file" "$@" &
running=$!
wait "$running" || true
if [ ! -f "$code_file" ]; then
    echo "slurm.sh: the recipe was not run, since Ray did not start on $head or not on all nodes; see above" >&2
    exit 1
fi
code="$(cat "$code_file")"
rm -f "$code_file"
exit "$code"
