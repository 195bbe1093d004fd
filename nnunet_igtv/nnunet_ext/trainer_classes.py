"""What nnUNet_extTrainer points at: nnU-Net imports this file and takes a class from it by name."""

from nnunet_igtv.trainers import *  # noqa: F403
