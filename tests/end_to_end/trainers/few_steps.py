"""Trainers of a few steps, found by nnU-Net in this folder beside the package's own."""

from nnunet_igtv.trainers import GTVPretrainTrainerNano, IGTVTrainerNano, IGTVTransferTrainerNano


class FewSteps:
    epochs, iterations, validation_iterations = 3, 2, 1


class GTVPretrainTrainerFewSteps(FewSteps, GTVPretrainTrainerNano): ...


class IGTVTrainerFewSteps(FewSteps, IGTVTrainerNano): ...


class IGTVTransferTrainerFewSteps(FewSteps, IGTVTransferTrainerNano): ...
