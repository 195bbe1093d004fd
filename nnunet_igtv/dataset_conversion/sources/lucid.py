"""Source `lucid`: PET/CT studies with a structure IGTV, as in LUCID (Lung-cancer Unified Cross-modal Imaging
Dataset, arXiv 2509.22841), which is private.

DICOM studies are found by their headers, whatever the folders: `lucid` is `dicom-rt` with the structure IGTV,
and `4dct` where that was drawn on a phase of a 4D-CT (one phase does not show an IGTV: the average is taken).
A folder without DICOM is read as NIfTI triples:
each folder that holds NIfTI files must hold one CT, one PET (unless studies without one are taken) and one
IGTV, told apart by these words in the file names. A folder with both is refused.
"""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

from nnunet_igtv.dataset_conversion.case import Case
from nnunet_igtv.dataset_conversion.folder_patients import are_guessed, patients_of
from nnunet_igtv.dataset_conversion.label_values import check_value
from nnunet_igtv.dataset_conversion.source import Item, Source, relative
from nnunet_igtv.dataset_conversion.sources import dicom_rt, four_d_ct, nifti
from nnunet_igtv.dicom.files import find_files, packed
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.settings import setting
from nnunet_igtv.studies.grouping import Study, index_file
from nnunet_igtv.studies.known import ReadingOptions
from nnunet_igtv.studies.phase_structures import has_place
from nnunet_igtv.studies.phases import find_4d

WORDS = {"CT": {"ct"}, "PET": {"pet", "pt", "suv"}, "IGTV": {"igtv"}}


@dataclass(frozen=True, kw_only=True)
class Options(dicom_rt.Options):
    structure: str = setting("IGTV", dicom_rt.STRUCTURE)
    label_value: int | None = setting(
        None, "of NIfTI files: label value to segment (default: the only value but 0)"
    )


def collect(root: Path, options: Options, jobs: int = 1) -> Iterator[Item | IGTVError]:
    """The DICOM studies under a folder, or else its NIfTI triples."""
    files, closed = find_files(root)
    images = [f for f in files if f.name.lower().endswith((".nii", ".nii.gz"))]
    check_value(options.label_value)
    if not images:
        _refuse_a_label_value(options, root)
        yield from dicom_rt.collect_studies(root, (files, closed), options, jobs, case_of)
        return
    _refuse_options_of_dicom(options, root)
    others = sorted(set(files) - set(images))
    if dicom := next((file for file in others if index_file(file) is not None), None):
        raise IGTVError(
            f"the folder holds NIfTI files ({relative(images[0], root)}) and DICOM files "
            f"({relative(dicom, root)})",
            file=root,
            remedy="convert them from folders of their own, one after the other, and append the second; or "
            "take out those that are no studies",
            settings=["append"],
        )
    closed += packed(files, root)
    yield from (error.but(file=relative(error.file or "", root)) for error in closed)
    folders = sorted({f.parent for f in images})
    names = [str(folder.relative_to(root)) for folder in folders]
    is_guessed = are_guessed(names)
    for folder, name, patient in zip(folders, names, patients_of(names), strict=True):
        try:
            ct, pet, label = _triple([f for f in images if f.parent == folder], name, options.no_pet)
        except IGTVError as error:
            yield error
            continue
        own = nifti.Options(options.grid, options.label_value, options.no_pet)
        load = partial(nifti.load_triple, ct, pet, label, own, root, one_value=True)
        secrets = frozenset({patient} - {"."})
        made_from = tuple(file for file in (ct, pet, label) if file)
        yield Item(
            f"lucid/{name}", patient, folder, load, secrets, made_from=made_from, is_guessed=is_guessed
        )


def case_of(study: Study, options: Options) -> Case:
    """The case of a DICOM study."""
    if not _is_of_phases(study, options):
        return dicom_rt.case_of(study, options)
    known = {field.name for field in fields(four_d_ct.Options)}
    given = {name: value for name, value in asdict(options).items() if name in known}
    case = four_d_ct.case_of(study, four_d_ct.Options(**given))
    said = (
        f"the CT channel is the {case.provenance['ct_channel']}, not the CT that the structure was drawn on"
    )
    warnings = case.provenance["warnings"]
    case.provenance["warnings"] = [said, *(warnings if isinstance(warnings, list) else [])]
    return case


def _is_of_phases(study: Study, options: Options) -> bool:
    """Whether the structure belongs to a 4D-CT: named after phases, or drawn on a phase, on their maximum, or
    on a series that is not there."""
    if options.ct is not None or not (breaths := find_4d(study.series)):
        return False
    if has_place(options.structure):
        return True
    elsewhere = [
        s for s in study.of("CT") if not any(s is p for b in breaths for p in (*b.series, *b.maxima))
    ]
    sets = [s for s in study.structure_sets if s.match(options.structure)]
    return bool(sets) and not any(s.series_uids & {ct.uid for ct in elsewhere} for s in sets)


def _refuse_a_label_value(options: Options, root: Path) -> None:
    if options.label_value is not None:
        raise IGTVError(
            "a label value was given, and the folder holds no NIfTI files: structures of DICOM have names",
            file=root,
            remedy="leave the value out",
            settings=["label_value"],
        )


def _refuse_options_of_dicom(options: Options, root: Path) -> None:
    names = [f.name for f in fields(ReadingOptions) if getattr(options, f.name) != f.default]
    given = [name for name in names if name != "no_pet"]
    if given:
        raise IGTVError(
            "the folder holds NIfTI triples, of which no series can be chosen and no header read",
            file=root,
            remedy="leave these options out",
            settings=given,
        )


def _triple(files: list[Path], folder: str, no_pet: str | None) -> tuple[Path, Path | None, Path]:
    """CT, PET and IGTV among the files of a folder; None for a PET that may be absent, and is."""
    found = {kind: [f for f in files if words & _words(f)] for kind, words in WORDS.items()}
    if no_pet == "all" or (no_pet and not found["PET"]):
        del found["PET"]
    for kind, matching in found.items():
        if len(matching) != 1:
            is_without_pet = kind == "PET" and not matching
            raise IGTVError(
                f"{len(matching)} NIfTI files are named {kind}",
                file=folder,
                remedy="one CT, one PET and one IGTV per folder; or name them in a CSV for the source nifti"
                + ("; or accept studies without a PET" if is_without_pet else ""),
                settings=["no_pet"] if is_without_pet else [],
            )
    pet = found["PET"][0] if "PET" in found else None
    return found["CT"][0], pet, found["IGTV"][0]


def _words(file: Path) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", file.name.lower()))


SOURCE = Source(
    name="lucid",
    summary="PET/CT studies with a structure IGTV, as in LUCID (DICOM, or NIfTI triples)",
    description=__doc__,
    options=Options,
    collect=collect,
    dataset="LUCID",
    label="IGTV",
)
