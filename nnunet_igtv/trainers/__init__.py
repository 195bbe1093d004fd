"""The trainers that nnU-Net discovers; `variants.py` says what each name means."""

from nnunet_igtv.trainers.variants import *  # noqa: F403
from nnunet_igtv.trainers.variants import __all__ as __all__
