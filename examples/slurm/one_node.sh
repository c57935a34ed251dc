#!/bin/bash
# One node with 8 GPUs, one process: the process takes all of them.
#   sbatch examples/slurm/one_node.sh
#SBATCH --job-name=demega
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@120
set -euo pipefail
RUN=${RUN:-runs/one-node}

# SLURM sends SIGTERM two minutes before the time is over: the step is finished and saved, and the status is 143.
if [ -e "$RUN/config.yaml" ]; then
  srun demega-jax train --resume --run "$RUN"
else
  srun demega-jax train configs/default.yaml --data data --run "$RUN"
fi
