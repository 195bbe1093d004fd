#!/bin/bash
# One training on 2 machines with 4 GPUs each, which continues by itself when its time is up or it is preempted.
#   sbatch docs/slurm.sh
# Every machine must see the same: nnUNet_preprocessed, nnUNet_results, the GTV weights, the Python environment.

#SBATCH --job-name=igtv
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=igtv-%j.log
#SBATCH --signal=B:USR1@300

set -euo pipefail

: "${nnUNet_raw:?}" "${nnUNet_preprocessed:?}" "${nnUNet_results:?}"   # sbatch passes on what you exported
gpus=4                                       # per machine, as above
export OMP_NUM_THREADS=1                     # PyTorch's threads per process; the GPUs compute
export nnUNet_n_proc_DA=6                    # augmentation workers per process: below CPUs / GPUs
export nnUNet_def_n_proc=6                   # the same for the export of the final validation
# IGTVTransferTrainer: by this variable, since --c and -pretrained_weights exclude each other
# export nnUNet_igtv_gtv_weights=/shared/gtv/checkpoint_final.pth

train=(502 2d 0 -tr IGTVTrainer --c)         # --c: from the latest checkpoint, or from scratch without one

mapfile -t machines < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 20000))

# five minutes before the end, SLURM signals this script, which puts the job back into the queue
trap 'echo "time is up: back into the queue"; scontrol requeue "$SLURM_JOB_ID"' USR1

srun --kill-on-bad-exit=1 torchrun \
    --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "$gpus" \
    --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "${machines[0]}:$port" \
    -m nnunet_igtv train "${train[@]}" &

status=0
wait $! || status=$?                         # the training's status; 138 when the signal came
exit "$status"
