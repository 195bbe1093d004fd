# ruff: noqa: N801  nnU-Net writes its schedules as `_5epochs`
"""The named trainers, nnU-Net style: a class per meaning. What a name says is all that differs.

IGTVTrainer            the IGTV network from scratch
GTVPretrainTrainer     the same network from scratch on a GTV cohort: the source of a transfer
IGTVTransferTrainer    the IGTV network from GTV weights

…Nano …Small …Base     another size of the network than `tiny`; Nano has a short schedule for CPUs too
…NoSIM                 without the slice interaction: each slice by itself
…NoMamba               convolutions in place of the scans, with as many weights
…StagesSIM             with the first form of the slice interaction, at the four encoder stages
…CrossSliceAttention   with attention across slices in its place, at the same stages
…DiceCE                Dice + cross-entropy instead of Dice alone
…DeepSupervision       heads at 1/4 and 1/8 of the size are trained too
…Scale                 the SUV is multiplied by a factor of 0.4 to 1.6 in each sample
…ModalityDropout       samples lose their PET at random: the model predicts without one too
…FrozenEncoder         (transfer only) the encoder keeps its weights for the first tenth of the run
…OtherUnits            (transfer only) from weights of data in other units, such as grey levels
…_Nepochs              another number of epochs
"""

from nnunet_igtv.trainers.igtv_trainer import IGTVTrainer
from nnunet_igtv.trainers.pet_scale import FACTORS
from nnunet_igtv.trainers.transfer_trainer import IGTVTransferTrainer


class GTVPretrainTrainer(IGTVTrainer):
    """Trains on a GTV cohort; its checkpoint is what `IGTVTransferTrainer` starts from."""


# --------------------------------------------------------------------- what the parts of a name mean


class Nano:
    """The smallest network, and a run of a few minutes on two CPU cores."""

    preset = "nano"
    epochs, iterations, validation_iterations = 24, 25, 3
    checkpoint_every = 1
    learning_rate = 2e-3
    transferred_factor = 1.0  # at 0.1, 350 steps did not get the transferred layers from GTV to IGTV


class Small:
    preset = "small"


class Base:
    preset = "base"


class NoSIM:
    slice_interaction = "none"


class NoMamba:
    mixer = "convolution"


class StagesSIM:
    slice_interaction = "stages"


class CrossSliceAttention:
    slice_interaction = "cross_slice_attention"


class DiceCE:
    loss_function = "dice_ce"


class DeepSupervision:
    deep_supervision = True


class Scale:
    pet_scale: tuple[float, float] | None = FACTORS


class ModalityDropout:
    modality_dropout = 0.3


class FrozenEncoder:
    frozen_share = 0.1


class OtherUnits:
    other_units = True


class OneEpoch:
    epochs = 1


class FiveEpochs:
    epochs = 5


class HundredEpochs:
    epochs = 100


class TwoHundredAndFiftyEpochs:
    epochs = 250


# --------------------------------------------------------------------- from scratch


class IGTVTrainerNano(Nano, IGTVTrainer): ...


class IGTVTrainerSmall(Small, IGTVTrainer): ...


class IGTVTrainerBase(Base, IGTVTrainer): ...


class IGTVTrainerNoSIM(NoSIM, IGTVTrainer): ...


class IGTVTrainerNoMamba(NoMamba, IGTVTrainer): ...


class IGTVTrainerStagesSIM(StagesSIM, IGTVTrainer): ...


class IGTVTrainerCrossSliceAttention(CrossSliceAttention, IGTVTrainer): ...


class IGTVTrainerDiceCE(DiceCE, IGTVTrainer): ...


class IGTVTrainerDeepSupervision(DeepSupervision, IGTVTrainer): ...


class IGTVTrainerScale(Scale, IGTVTrainer): ...


class IGTVTrainerModalityDropout(ModalityDropout, IGTVTrainer): ...


class IGTVTrainer_1epoch(OneEpoch, IGTVTrainer): ...


class IGTVTrainer_5epochs(FiveEpochs, IGTVTrainer): ...


class IGTVTrainer_100epochs(HundredEpochs, IGTVTrainer): ...


class IGTVTrainer_250epochs(TwoHundredAndFiftyEpochs, IGTVTrainer): ...


class IGTVTrainerNanoNoSIM(NoSIM, IGTVTrainerNano): ...


class IGTVTrainerNanoNoMamba(NoMamba, IGTVTrainerNano): ...


class IGTVTrainerNanoStagesSIM(StagesSIM, IGTVTrainerNano): ...


class IGTVTrainerNanoCrossSliceAttention(CrossSliceAttention, IGTVTrainerNano): ...


class IGTVTrainerNanoDiceCE(DiceCE, IGTVTrainerNano): ...


class IGTVTrainerNanoDeepSupervision(DeepSupervision, IGTVTrainerNano): ...


class IGTVTrainerNanoScale(Scale, IGTVTrainerNano): ...


class IGTVTrainerNanoModalityDropout(ModalityDropout, IGTVTrainerNano): ...


class IGTVTrainerNano_1epoch(OneEpoch, IGTVTrainerNano): ...


class IGTVTrainerNano_5epochs(FiveEpochs, IGTVTrainerNano): ...


# --------------------------------------------------------------------- GTV


class GTVPretrainTrainerNano(Nano, GTVPretrainTrainer): ...


class GTVPretrainTrainerSmall(Small, GTVPretrainTrainer): ...


class GTVPretrainTrainerBase(Base, GTVPretrainTrainer): ...


class GTVPretrainTrainerNoSIM(NoSIM, GTVPretrainTrainer): ...


class GTVPretrainTrainerNoMamba(NoMamba, GTVPretrainTrainer): ...


class GTVPretrainTrainerStagesSIM(StagesSIM, GTVPretrainTrainer): ...


class GTVPretrainTrainerCrossSliceAttention(CrossSliceAttention, GTVPretrainTrainer): ...


class GTVPretrainTrainerDiceCE(DiceCE, GTVPretrainTrainer): ...


class GTVPretrainTrainerDeepSupervision(DeepSupervision, GTVPretrainTrainer): ...


class GTVPretrainTrainerScale(Scale, GTVPretrainTrainer): ...


class GTVPretrainTrainerModalityDropout(ModalityDropout, GTVPretrainTrainer): ...


class GTVPretrainTrainer_1epoch(OneEpoch, GTVPretrainTrainer): ...


class GTVPretrainTrainer_5epochs(FiveEpochs, GTVPretrainTrainer): ...


class GTVPretrainTrainer_100epochs(HundredEpochs, GTVPretrainTrainer): ...


class GTVPretrainTrainer_250epochs(TwoHundredAndFiftyEpochs, GTVPretrainTrainer): ...


class GTVPretrainTrainerNanoNoSIM(NoSIM, GTVPretrainTrainerNano): ...


class GTVPretrainTrainerNanoNoMamba(NoMamba, GTVPretrainTrainerNano): ...


class GTVPretrainTrainerNanoStagesSIM(StagesSIM, GTVPretrainTrainerNano): ...


class GTVPretrainTrainerNanoCrossSliceAttention(CrossSliceAttention, GTVPretrainTrainerNano): ...


class GTVPretrainTrainerNanoDiceCE(DiceCE, GTVPretrainTrainerNano): ...


class GTVPretrainTrainerNanoDeepSupervision(DeepSupervision, GTVPretrainTrainerNano): ...


class GTVPretrainTrainerNanoScale(Scale, GTVPretrainTrainerNano): ...


class GTVPretrainTrainerNanoModalityDropout(ModalityDropout, GTVPretrainTrainerNano): ...


class GTVPretrainTrainerNano_1epoch(OneEpoch, GTVPretrainTrainerNano): ...


class GTVPretrainTrainerNano_5epochs(FiveEpochs, GTVPretrainTrainerNano): ...


# --------------------------------------------------------------------- transfer


class IGTVTransferTrainerNano(Nano, IGTVTransferTrainer): ...


class IGTVTransferTrainerSmall(Small, IGTVTransferTrainer): ...


class IGTVTransferTrainerBase(Base, IGTVTransferTrainer): ...


class IGTVTransferTrainerNoSIM(NoSIM, IGTVTransferTrainer): ...


class IGTVTransferTrainerNoMamba(NoMamba, IGTVTransferTrainer): ...


class IGTVTransferTrainerStagesSIM(StagesSIM, IGTVTransferTrainer): ...


class IGTVTransferTrainerCrossSliceAttention(CrossSliceAttention, IGTVTransferTrainer): ...


class IGTVTransferTrainerDiceCE(DiceCE, IGTVTransferTrainer): ...


class IGTVTransferTrainerDeepSupervision(DeepSupervision, IGTVTransferTrainer): ...


class IGTVTransferTrainerScale(Scale, IGTVTransferTrainer): ...


class IGTVTransferTrainerModalityDropout(ModalityDropout, IGTVTransferTrainer): ...


class IGTVTransferTrainerFrozenEncoder(FrozenEncoder, IGTVTransferTrainer): ...


class IGTVTransferTrainerOtherUnits(OtherUnits, IGTVTransferTrainer): ...


class IGTVTransferTrainer_1epoch(OneEpoch, IGTVTransferTrainer): ...


class IGTVTransferTrainer_5epochs(FiveEpochs, IGTVTransferTrainer): ...


class IGTVTransferTrainer_100epochs(HundredEpochs, IGTVTransferTrainer): ...


class IGTVTransferTrainer_250epochs(TwoHundredAndFiftyEpochs, IGTVTransferTrainer): ...


class IGTVTransferTrainerNanoNoSIM(NoSIM, IGTVTransferTrainerNano): ...


class IGTVTransferTrainerNanoNoMamba(NoMamba, IGTVTransferTrainerNano): ...


class IGTVTransferTrainerNanoStagesSIM(StagesSIM, IGTVTransferTrainerNano): ...


class IGTVTransferTrainerNanoCrossSliceAttention(CrossSliceAttention, IGTVTransferTrainerNano): ...


class IGTVTransferTrainerNanoDiceCE(DiceCE, IGTVTransferTrainerNano): ...


class IGTVTransferTrainerNanoDeepSupervision(DeepSupervision, IGTVTransferTrainerNano): ...


class IGTVTransferTrainerNanoScale(Scale, IGTVTransferTrainerNano): ...


class IGTVTransferTrainerNanoModalityDropout(ModalityDropout, IGTVTransferTrainerNano): ...


class IGTVTransferTrainerNanoFrozenEncoder(FrozenEncoder, IGTVTransferTrainerNano): ...


class IGTVTransferTrainerNanoOtherUnits(OtherUnits, IGTVTransferTrainerNano): ...


class IGTVTransferTrainerNano_1epoch(OneEpoch, IGTVTransferTrainerNano): ...


class IGTVTransferTrainerNano_5epochs(FiveEpochs, IGTVTransferTrainerNano): ...


TRAINERS: dict[str, type[IGTVTrainer]] = {
    name: value
    for name, value in list(globals().items())
    if isinstance(value, type) and issubclass(value, IGTVTrainer)
}

__all__ = ["TRAINERS", *TRAINERS]
