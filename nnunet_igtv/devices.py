"""Whether the device that a person asked for is there."""

from nnunet_igtv.errors import IGTVError


def require_device(kind: str) -> None:
    """Checks that this machine has a device, "cuda", "cpu" or "mps", before work is lost.

    Raises:
        IGTVError: it has none; the remedy is to ask for the CPU.
    """
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there[kind]:
        raise IGTVError(
            f"there is no {kind} device on this machine that PyTorch can use",
            remedy="ask for the device cpu, which is slower; `nnunet-igtv doctor` shows what is there",
            settings=["device"],
        )
