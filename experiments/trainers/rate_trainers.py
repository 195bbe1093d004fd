"""The transfer in which what was learnt from GTVs is changed more slowly (larger.yaml).

Slow    transferred layers learn at a tenth of the rate, as with `tiny`; with `Nano` at the whole
"""

from experiment_trainers import with_part  # of this folder, which nnU-Net searches

from nnunet_igtv.trainers import IGTVTransferTrainerNano, IGTVTransferTrainerNanoUptake


class Slow:
    transferred_factor = 0.1


for base in (IGTVTransferTrainerNano, IGTVTransferTrainerNanoUptake):
    globals().update(with_part(Slow, base))
