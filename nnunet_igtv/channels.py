"""What the channels of a dataset hold: written into dataset.json by the converters, checked where it is read.

    "nnunet_igtv": {"version": "0.2.0", "channels": [{"modality": "CT", "unit": "HU", "window": null}, …]}

nnU-Net's own `channel_names` cannot say this: both channels are named "CT" there, so that nnU-Net clips and
scales them with the statistics of the dataset and keeps the meaning of HU and SUV.

The network reads CT in channel 0 and PET in channel 1. Datasets of other origin are known by their names:

    {"0": "CT", "1": "PET"}, {"0": "CT", "1": "SUV"}      as it should be
    {"0": "CT", "1": "CT"}                                the same, named as nnU-Net's normalisation wants it
    {"0": "PET", "1": "CT"}, {"0": "PET", "1": "PET"}     another order
    {"0": "zscore", "1": "noNorm"}                        not known
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunet_igtv import __version__
from nnunet_igtv.errors import IGTVError

KEY = "nnunet_igtv"
WITHOUT_PET = "cases_without_pet"
CT, PET = "CT", "PET"
_PET_NAME = re.compile(r"pet|suv|fdg|(?<![a-z])pt(?![a-z])", re.IGNORECASE)
# "ct", "CTres", "CTAC", "lowdoseCT", "CBCT", "HU"; not "direct" or "SPECT"
_CT_NAME = re.compile(r"(?<![A-Za-z])[Cc][Tt]|(?<!SPE)CT(?![A-Za-z])|(?<![A-Za-z])(?:cbct|ldct|HU)(?![a-z])")


@dataclass(frozen=True)
class Channel:
    """One channel.

    Attributes:
        modality: "CT" or "PET"; the channel's name where that does not say which.
        unit: of the voxels: "HU", "SUVbw" or "8-bit grey levels"; "" where it is not known.
        window: the values of the lowest and the highest grey level, where voxels are grey levels and they are
            known.
    """

    modality: str
    unit: str
    window: tuple[float, float] | None = None

    def __str__(self) -> str:
        return f"{self.modality} in {self.unit or 'an unknown unit'}"


CT_PET: tuple[Channel, Channel] = (Channel(CT, "HU"), Channel(PET, "SUVbw"))
GREY: tuple[Channel, Channel] = (Channel(CT, "8-bit grey levels"), Channel(PET, "8-bit grey levels"))
CT_PET_OF_ANY_UNIT: tuple[Channel, Channel] = (Channel(CT, ""), Channel(PET, ""))


def described(channels: Sequence[Channel], without_pet: int = 0) -> dict[str, Any]:
    """The entry of dataset.json that says what the channels are, and how many training cases have no PET."""
    entry = {"version": __version__, "channels": [asdict(channel) for channel in channels]}
    return {KEY: entry | ({WITHOUT_PET: without_pet} if without_pet else {})}


def cases_without_pet(dataset_json: Mapping[str, Any]) -> int:
    """How many training cases of a dataset have no PET: their channel 1 is 0 everywhere."""
    entry = dataset_json.get(KEY)
    count = entry.get(WITHOUT_PET, 0) if isinstance(entry, Mapping) else 0
    return count if isinstance(count, int) else 0


def channels_of(dataset_json: Mapping[str, Any], file: str | Path | None = None) -> tuple[Channel, ...]:
    """The channels of a dataset, by our own entry in dataset.json.

    Without it: by what version 0.1 wrote into the description; else by nnU-Net's channel names alone, without
    units.

    Args:
        dataset_json: content of dataset.json.
        file: where that is from, to be named in an error.

    Raises:
        IGTVError: our entry is damaged, or the channel names contradict it.
    """
    names = _modalities(dataset_json)
    twice_ct = names == [CT, CT]  # a PET too is named CT for nnU-Net's normalisation
    named = tuple(Channel(name, "") for name in ((CT, PET) if twice_ct else names))
    written = _entry(dataset_json, file) or channels_in_words(str(dataset_json.get("description", "")))
    if written is None:
        return named
    if named and not twice_ct and (contradiction := mismatch(named, written)):
        raise IGTVError(
            f"dataset.json contradicts itself: by its channel names, {contradiction}",
            file=file,
            remedy="correct the channel names or convert the data again",
        )
    return written


def channels_in_words(text: str) -> tuple[Channel, ...] | None:
    """The channels that a sentence of version 0.1 describes; None for any other text."""
    if values_of(CT_PET) in text:
        return CT_PET
    return GREY if "8-bit grey levels" in text else None


def values_of(channels: Sequence[Channel]) -> str:
    """What the voxels of a case mean, in words."""
    return " and ".join(map(str, channels))


def mismatch(channels: Sequence[Channel], wanted: Sequence[Channel]) -> str | None:
    """How channels differ from those wanted, in words; None if they do not, as far as both are known."""
    if len(channels) != len(wanted):
        return f"the number of channels is {len(channels)}, not {len(wanted)}"
    for number, (channel, other) in enumerate(zip(channels, wanted, strict=True)):
        if {channel.modality, other.modality} == {CT, PET}:
            return f"channel {number} is {channel.modality}, not {other.modality}"
        if channel.unit and other.unit and channel.unit != other.unit:
            return f"channel {number} is in {channel.unit}, not in {other.unit}"
    return None


def unknown(channels: Sequence[Channel]) -> list[str]:
    """The names of the channels that say neither CT nor PET."""
    return [channel.modality for channel in channels if channel.modality not in (CT, PET)]


def _entry(dataset_json: Mapping[str, Any], file: str | Path | None) -> tuple[Channel, ...] | None:
    """What a converter of ours wrote; None if none did."""
    if KEY not in dataset_json:
        return None
    try:
        return tuple(
            Channel(str(c["modality"]), str(c["unit"]), tuple(c["window"]) if c.get("window") else None)
            for c in dataset_json[KEY]["channels"]
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise IGTVError(
            f"the entry {KEY!r} is damaged: it has no list of channels with modality and unit",
            file=file,
            remedy="convert the data again, or take the entry out",
        ) from error


def _modalities(dataset_json: Mapping[str, Any]) -> list[str]:
    """What nnU-Net's channel names say, in the order of their numbers: CT, PET, or the name itself."""
    names = dataset_json.get("channel_names", dataset_json.get("modality", {}))  # the second in older files
    pairs = list(names.items()) if isinstance(names, Mapping) else list(enumerate(names))
    if all(str(number).isdecimal() for number, _ in pairs):
        pairs.sort(key=lambda pair: int(pair[0]))
    return [_modality(str(name)) for _, name in pairs]


def _modality(name: str) -> str:
    ct, pet = _CT_NAME.search(name), _PET_NAME.search(name)
    if bool(ct) == bool(pet):
        return name
    return CT if ct else PET
