"""Trainers of a few steps, found by nnU-Net in this folder beside the package's own."""

from nnunet_igtv.trainers import GTVPretrainTrainerNano, IGTVTrainerNano, IGTVTransferTrainerNano


class FewSteps:
    epochs, iterations, validation_iterations = 3, 2, 1
    transferred_factor = 0.1  # as the full-size trainers, so that the two rates can be told apart


class GTVPretrainTrainerFewSteps(FewSteps, GTVPretrainTrainerNano): ...


class IGTVTrainerFewSteps(FewSteps, IGTVTrainerNano): ...


class IGTVTransferTrainerFewSteps(FewSteps, IGTVTransferTrainerNano): ...
