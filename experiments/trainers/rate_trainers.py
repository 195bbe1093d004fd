"""The transfer in which what was learnt from GTVs is changed more slowly (larger.yaml).

Slow    transferred layers learn at a tenth of the rate, as with `tiny`; with `Nano` at the whole
"""

from experiment_trainers import with_part  # of this folder, which nnU-Net searches

from nnunet_igtv.trainers import IGTVTransferTrainerNano


class Slow:
    transferred_factor = 0.1


globals().update(with_part(Slow, IGTVTransferTrainerNano))
