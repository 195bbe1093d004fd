"""What the channels of a dataset hold: written into dataset.json by the converters, read wherever it matters.

    "nnunet_igtv": {"version": "0.2.0", "channels": [{"modality": "CT", "unit": "HU", "window": null}, …]}

nnU-Net's own `channel_names` cannot say this: both channels are named "CT" there, so that nnU-Net clips and
scales them with the statistics of the dataset and keeps the meaning of HU and SUV.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nnunet_igtv import __version__

KEY = "nnunet_igtv"


@dataclass(frozen=True)
class Channel:
    """One channel.

    Attributes:
        modality: "CT" or "PET".
        unit: of the voxels: "HU", "SUVbw" or "8-bit grey levels"; "" where it is not known.
        window: the values of the lowest and the highest grey level, where voxels are grey levels and they are
            known.
    """

    modality: str
    unit: str
    window: tuple[float, float] | None = None

    def __str__(self) -> str:
        return f"{self.modality} in {self.unit or 'an unknown unit'}"


CT_PET: tuple[Channel, Channel] = (Channel("CT", "HU"), Channel("PET", "SUVbw"))
GREY: tuple[Channel, Channel] = (Channel("CT", "8-bit grey levels"), Channel("PET", "8-bit grey levels"))


def described(channels: Sequence[Channel]) -> dict[str, Any]:
    """The entry of dataset.json that says what the channels are."""
    return {KEY: {"version": __version__, "channels": [asdict(channel) for channel in channels]}}


def channels_of(dataset_json: Mapping[str, Any]) -> tuple[Channel, ...]:
    """The channels of a dataset, by our own entry in dataset.json.

    Without it: by what version 0.1 wrote into the description; else by nnU-Net's channel names alone, without
    units.
    """
    entry = dataset_json.get(KEY)
    if isinstance(entry, Mapping) and "channels" in entry:
        return tuple(
            Channel(c["modality"], c["unit"], tuple(c["window"]) if c.get("window") else None)
            for c in entry["channels"]
        )
    return channels_in_words(str(dataset_json.get("description", ""))) or tuple(
        Channel(str(name), "") for name in dataset_json.get("channel_names", {}).values()
    )


def channels_in_words(text: str) -> tuple[Channel, ...] | None:
    """The channels that a sentence of version 0.1 describes; None for any other text."""
    if values_of(CT_PET) in text:
        return CT_PET
    return GREY if "8-bit grey levels" in text else None


def values_of(channels: Sequence[Channel]) -> str:
    """What the voxels of a case mean, in words."""
    return " and ".join(map(str, channels))
