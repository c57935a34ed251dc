#!/bin/bash
# Two nodes with 8 GPUs each, a process for each GPU: 16 processes train one model.
#   sbatch examples/slurm/two_nodes.sh
# No option says who is who: the tasks of `srun` find each other by what SLURM sets. The data and the configuration are
# at the same path on both nodes; the run folder is written by the first task alone.
#SBATCH --job-name=demega
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=4
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@120
set -euo pipefail
RUN=${RUN:-runs/two-nodes}

# The time to wait for all tasks is longer than that which the slowest node needs to import jax.
if [ -e "$RUN/config.yaml" ]; then
  srun demega-jax train --resume --run "$RUN" --join-within 300
else
  srun demega-jax train configs/default.yaml --data data --run "$RUN" --join-within 300
fi
