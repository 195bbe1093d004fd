"""Values of PET headers, private ones too, and the refusal of those that do not determine an SUV."""

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import attribute, is_absent, text
from nnunet_igtv.errors import IGTVError

# vendor's blocks of private elements: group, creator
GE, SIEMENS = (0x0009, "GEMS_PETD_01"), (0x0071, "SIEMENS MED PT")
PHILIPS = (0x7053, "Philips PET Private Group")


def refuse(
    what: str, remedy: str = "correct the header, or leave this study out", settings: Sequence[str] = ()
) -> IGTVError:
    return IGTVError(f"SUV: {what}", remedy=remedy, settings=settings)


def text_of(value: object) -> str:
    """The value of a private element as text. Implicit VR leaves it as bytes."""
    value = getattr(value, "value", value)
    if value is None:
        return ""
    return (value.decode("ascii", "ignore") if isinstance(value, bytes) else str(value)).strip("\0 ")


def same_text(headers: Sequence[Dataset], name: str) -> str:
    """The value that all slices share. Raises IGTVError where they differ."""
    values = {text(h, name) for h in headers}
    if len(values) > 1:
        raise refuse(f"{name} differs between the slices")
    return values.pop()


def number(header: Dataset, name: str) -> float:
    """A finite number; 0 for an absent one. Raises IGTVError for anything else."""
    value = text(header, name)
    if not value and is_absent(header, name):
        return 0.0
    try:
        result = float(value)
    except ValueError:
        result = np.nan
    if not np.isfinite(result):
        raise refuse(f"{name} is not a finite number")
    return result


def private_text(header: Dataset, block: tuple[int, str], element: int) -> str:
    """A private element, wherever the file has the vendor's block; "" if absent.

    De-identified files may keep the elements and lose the creator's name: the usual place, block 10, then
    counts as the vendor's, as long as nobody else claims it.
    """
    group, creator = block
    owners = {number: text_of(attribute(header, (group, number))) for number in range(0x10, 0x20)}
    ours = [number for number, owner in owners.items() if owner.lower().startswith(creator.lower())]
    if not ours and owners[0x10]:
        return ""
    return text_of(attribute(header, (group, (ours or [0x10])[0] << 8 | element)))


def private_number(header: Dataset, block: tuple[int, str], element: int) -> float:
    """A private number; 0 if absent or not a finite number."""
    try:
        value = float(private_text(header, block, element))
    except ValueError:
        return 0.0
    return value if np.isfinite(value) else 0.0
