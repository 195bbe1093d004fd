"""Source `autopet`: the FDG-PET-CT-Lesions layout (TCIA, autoPET), <patient>/<study>/{CTres,SUV,SEG}.nii.gz.

The cases keep the grid of the PET, on which the lesions were drawn and to which CTres was resampled.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nnunet_igtv.dataset_conversion.case import Case
from nnunet_igtv.dataset_conversion.source import Item, Source, relative
from nnunet_igtv.dataset_conversion.sources import nifti
from nnunet_igtv.dicom.files import find_files
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.settings import setting
from nnunet_igtv.tables import read_table

FILES = ("CTres.nii.gz", "SUV.nii.gz", "SEG.nii.gz")


@dataclass(frozen=True)
class Options:
    """Which studies are converted."""

    lung_only: bool = setting(
        False, "only patients whose diagnosis is lung cancer, and of these only studies with a lesion"
    )
    metadata: str | None = setting(
        None, "the clinical table (default: the CSV in the input folder)", metavar="CSV", recorded=False
    )


def collect(root: Path, options: Options, jobs: int = 1) -> Iterator[Item | IGTVError]:
    """One item per folder that holds a file of a study; patients are the folders above.

    A study that lacks one of its files is refused by name when it is read.
    """
    files, closed = find_files(root)
    studies = sorted({file.parent for file in files if file.name in FILES})
    if not studies:
        raise IGTVError(
            f"no {', '.join(FILES)} in the folder", file=root, remedy="give the folder of the PETCT_… folders"
        )
    lung = _lung_patients(_table(root, options.metadata)) if options.lung_only else None
    items = []
    for study in studies:
        patient = study.parent.name if study != root else study.name
        if lung is not None and patient not in lung:
            continue
        load = partial(_load, study, root, may_be_empty=not options.lung_only)
        name = str(study.relative_to(root))
        made_from = tuple(study / name for name in FILES)
        items.append(Item(f"autopet/{name}", patient, study, load, frozenset({patient}), made_from=made_from))
    if not items:
        raise IGTVError("the metadata table names no lung cancer patient of this folder", file=root)
    yield from items
    yield from (error.but(file=relative(error.file or "", root)) for error in closed)


def _load(study: Path, root: Path, may_be_empty: bool) -> Case:
    ct, pet, label = (study / name for name in FILES)
    return nifti.load_triple(ct, pet, label, nifti.Options(grid="pet"), root, may_be_empty)


def _table(root: Path, given: str | None) -> Path:
    tables = [Path(given)] if given else sorted(root.glob("*.csv"))
    if len(tables) != 1 or not tables[0].is_file():
        raise IGTVError(
            f"the choice of lung cancer patients needs the clinical table; {len(tables)} CSV files found",
            file=root,
            remedy="name the table",
            settings=["metadata"],
        )
    return tables[0]


def _lung_patients(table: Path) -> set[str]:
    """Patients with a row whose diagnosis is lung cancer ("Subject ID", "diagnosis", in any case)."""
    _, found = read_table(table, "the metadata table")
    rows = [{name.strip().casefold(): value.strip() for name, value in row.items()} for row in found]
    if not rows or not {"subject id", "diagnosis"} <= set(rows[0]):
        raise IGTVError('the metadata table lacks the columns "Subject ID" and "diagnosis"', file=table)
    return {row["subject id"] for row in rows if row["diagnosis"].upper().replace(" ", "_") == "LUNG_CANCER"}


SOURCE = Source(
    name="autopet",
    summary="FDG-PET-CT-Lesions (autoPET): CTres.nii.gz, SUV.nii.gz, SEG.nii.gz",
    description=__doc__,
    options=Options,
    collect=collect,
    dataset="AutoPET",
)
