"""The network: VMamba encoder, cross-modal interaction, slice interaction, Mamba decoder, presets.

`presets` and `memory` are pure data and arithmetic, so importing this package does not import torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnunet_igtv.architectures.igtv_net import build_network

__all__ = ["build_network"]


def __getattr__(name: str) -> Any:
    if name == "build_network":
        from nnunet_igtv.architectures.igtv_net import build_network

        return build_network
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
