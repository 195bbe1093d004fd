"""The motion report of one study with a 4D-CT, without a conversion."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_igtv.dataset_conversion.phase_union import united
from nnunet_igtv.dicom.files import list_files
from nnunet_igtv.dicom.identity import Secret, redact, secrets_of
from nnunet_igtv.dicom.redaction import naming_nobody
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.settings import setting
from nnunet_igtv.studies.choice import refuse_several_patients, selected
from nnunet_igtv.studies.grouping import read_study
from nnunet_igtv.studies.known import ReadingOptions
from nnunet_igtv.studies.phase_structures import has_place, phase_structures
from nnunet_igtv.studies.phases import the_4d

MIN_PHASES = "how many phases must have images and a structure (default: all)"


@dataclass(frozen=True, kw_only=True)
class MotionOptions:
    """Which structures of a study are followed through the breath."""

    structure: str = setting(
        help="the structure of each phase, with {phase} in the place of the phase; without {phase}, the "
        "structures of this name that were drawn on the phases",
        example="GTV_{phase}",
    )
    study: str | None = setting(None, "the study, where there are several", metavar="SELECTOR")
    min_phases: int | None = setting(None, MIN_PHASES, metavar="N")
    interpolate: bool = setting(False, "interpolate between contours that are some slices apart")


def motion_of(folder: str | Path, options: MotionOptions) -> tuple[dict[str, Any], list[str]]:
    """The report (see `motion_report`), and what a person should know about the contours.

    Raises IGTVError as the source `4dct` does.
    """
    with naming_nobody(folder):
        try:
            study = read_study(list_files(folder))
            refuse_several_patients(study.series)
            by_name = has_place(options.structure)
            breath = the_4d(selected(study.series, ReadingOptions(study=options.study), "study"))
            drawn = phase_structures(study, breath, options.structure, options.min_phases)
            label = united(drawn, breath, options.interpolate)
        except IGTVError as error:
            raise error.but(file=error.file or folder) from error
    headers = [breath.phases[0].series.headers[0], *(s.header for s in study.structure_sets)]
    secrets = frozenset[Secret]().union(*map(secrets_of, headers))
    told = f"phases told by {breath.told_by}, structures by their {'names' if by_name else 'series'}"
    return label.motion or {}, [told, *(redact(note, secrets) for note in label.notes)]
