"""What a source of cases is: a name, its options, and a function that finds the studies in a folder."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_igtv.channels import CT_PET, Channel
from nnunet_igtv.dataset_conversion.case import Case
from nnunet_igtv.dicom.dates import Date
from nnunet_igtv.dicom.identity import Secret
from nnunet_igtv.errors import IGTVError


@dataclass(frozen=True)
class Item:
    """A study to convert: `load` (picklable) makes the case. All other fields may identify the patient.

    Args:
        key: what the study is called in every run.
        patient: cases of one patient stay in one fold.
        path: the folder or file where it was found.
        secrets: what must not appear in messages: the patient's names, ids and birth.
        dates: of examinations, which must not appear in records: people may look for them in a message.
        fold: "train" or "val" where the source comes with a split.
        files: those that the user named for the study beside its CT.
        made_from: those that the case is read from; whether they changed later is seen by their sizes.
        person: name and date of birth, in one spelling; "" where not both are known.
        is_guessed: whether the patient was told by a folder that need not be a patient's.
    """

    key: str
    patient: str
    path: Path
    load: Callable[[], Case]
    secrets: frozenset[Secret] = frozenset()
    fold: str = ""
    dates: frozenset[Date] = frozenset()
    files: tuple[str, ...] = ()
    made_from: tuple[Path, ...] = ()
    person: str = ""
    is_guessed: bool = False

    @property
    def unrecorded(self) -> frozenset[Secret]:
        """What records must not hold."""
        return self.secrets | self.dates


@dataclass(frozen=True)
class Source:
    """A layout of PET/CT studies on disk.

    Args:
        name: what it is called on the command line and in records.
        summary: one line.
        description: what it expects, in full.
        options: frozen dataclass of `nnunet_igtv.settings.setting` fields.
        collect: (folder or file, options, processes) -> one `Item` per study, and one error per file that
            belongs to none. Raises IGTVError where the input as a whole cannot be used.
        dataset: default name of the dataset.
        label: default name of the label.
        channels: what the voxels of the cases mean.
        example: an input, as it may be called.
    """

    name: str
    summary: str
    description: str
    options: type
    collect: Callable[[Path, Any, int], Iterator[Item | IGTVError]]
    dataset: str = "GTV"
    label: str = "GTV"
    channels: tuple[Channel, Channel] = CT_PET
    example: str = "/data/studies"


def relative(path: str | Path, root: Path) -> str:
    """A file as errors name it: from the input folder on."""
    path = Path(path)
    return os.path.relpath(path, root) if path.is_absolute() == root.is_absolute() else path.name
