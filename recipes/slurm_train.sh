#!/bin/bash
# Train on several nodes by Slurm: sbatch recipes/slurm_train.sh --track 2 --hr clean/ --lr noisy/ -o runs/mine
#
# One launcher a node, one process a GPU. When a process or a node dies, those that are left go on from the last save,
# each with a larger share of the same batch. At the time limit the step in hand is finished and saved; the same command
# goes on. Run folder and photos lie on a disk that all nodes see; fetch the feature weights beforehand (docs/training.md).
#SBATCH --job-name=ddnsr-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@180
#SBATCH --no-kill

set -euo pipefail

first_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 10000)) # two jobs on one node do not meet
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 # each start meets at a store of its own
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=150 # seconds for the step in hand and its save; torchrun kills after 30 by itself

srun --kill-on-bad-exit=0 torchrun \
    --nnodes "1:$SLURM_NNODES" --nproc-per-node "${SLURM_GPUS_ON_NODE:-1}" --max-restarts 3 \
    --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$first_node:$port" \
    -m ddnsr_cli train "$@"
