"""A cohort of PET/CT studies becomes an nnU-Net raw dataset: the whole of a conversion in one function."""

import json
import math
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from nnunet_igtv.dataset_conversion.raw_dataset import DatasetSpec, RawDataset
from nnunet_igtv.dataset_conversion.source import Item, Source
from nnunet_igtv.dataset_conversion.sources import SOURCES
from nnunet_igtv.dicom.identity import redact
from nnunet_igtv.dicom.quiet import quiet_itk
from nnunet_igtv.dicom.redaction import redacted
from nnunet_igtv.errors import IGTVError


@dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Attributes:
        dataset: folder of the raw dataset; it exists if at least one case was ever converted into it.
        manifest: the table of which study became which case. It identifies patients.
        converted: names of the cases converted now.
        kept: how many studies had been converted before.
        to_do: what the user still has to do before training, in one sentence; None if nothing.
        failures: what could not be converted, and files that belong to no study; no patient is named.
        warnings: what may be wrong with the cases converted now or before, "CASE: what"; no patient is named.
        summaries: case -> where its study was found and what the case was made from, with dates; no patient
            is named.
        cases, patients: how many cases the split has now (after a dry run: would have), and of how many
            patients they are.
    """

    dataset: Path
    manifest: Path
    converted: tuple[str, ...]
    kept: int
    failures: tuple[IGTVError, ...]
    to_do: str | None = None
    warnings: tuple[str, ...] = ()
    summaries: dict[str, tuple[str, ...]] = field(default_factory=dict)
    cases: int = 0
    patients: int = 0


def convert(
    source: str,
    folder: str | Path,
    dataset_id: int,
    *,
    name: str | None = None,
    label: str | None = None,
    split: str = "train",
    append: bool = False,
    jobs: int | None = None,
    dry_run: bool = False,
    **options: Any,
) -> Conversion:
    """Convert a cohort to an nnU-Net raw dataset under `nnUNet_raw`; what is there already is kept.

    Args:
        source: layout of the studies, a key of `nnunet_igtv.dataset_conversion.sources.SOURCES`.
        folder: where the studies are (for `nifti`, the CSV file).
        dataset_id: nnU-Net's number of the dataset, 1 to 999.
        name: its name; None takes the source's default.
        label: name of the label; None takes the source's default.
        split: "train" fills imagesTr, "test" imagesTs.
        append: add to a dataset that was made from other input.
        jobs: worker processes; None for as many as there are cores, at most 4.
        dry_run: make and check every case, and write nothing; `converted` are the cases that would be.
        options: of the source, the fields of its `options` dataclass.

    Raises:
        IGTVError: the input, the id or an option cannot be used. A single study that cannot be converted is
            in `failures` instead, and the others are converted.

    Examples:
        >>> from nnunet_igtv import convert
        >>> done = convert("lucid", "studies", 502, name="LungIGTV", jobs=1)  # nnUNet_raw must be set
        >>> done.converted, done.failures
        (('LungIGTV_0001', 'LungIGTV_0002'), ())
        >>> done.dataset.name, sorted(path.name for path in (done.dataset / "labelsTr").iterdir())
        ('Dataset502_LungIGTV', ['LungIGTV_0001.nii.gz', 'LungIGTV_0002.nii.gz'])
    """
    chosen = _source(source)
    settings = _options(chosen, options)
    spec = DatasetSpec(dataset_id, name or chosen.dataset, label or chosen.label, chosen.channels)
    jobs = min(4, os.cpu_count() or 1) if jobs is None else jobs
    quiet_itk()
    with RawDataset(spec, chosen.name, _recorded(settings), Path(folder), split, append, dry_run) as dataset:
        found = list(chosen.collect(Path(folder), settings, jobs))
        items = [entry for entry in found if isinstance(entry, Item)]
        loose = [entry for entry in found if isinstance(entry, IGTVError)]
        outcomes = sorted(dataset.convert(items, jobs), key=lambda o: o.case) if items else []
    everybody = frozenset().union(*(item.secrets for item in items))
    root = Path(folder) if Path(folder).is_dir() else Path(folder).parent
    place = {o.case: _place(o.item.path, root) for o in outcomes}
    failures = [
        redacted(o.error.but(file=o.error.file or place[o.case]), o.item.secrets) for o in outcomes if o.error
    ]
    failures += [redacted(error, everybody) for error in loose]
    return Conversion(
        dataset=dataset.folder,
        manifest=dataset.manifest,
        converted=tuple(o.case for o in outcomes if not o.error),
        kept=len(items) - len(outcomes),
        failures=tuple(failures),
        to_do=dataset.to_do,
        warnings=(
            *dataset.warnings,
            *(f"{o.case}: {warning}" for o in outcomes for warning in o.warnings),
        ),
        summaries={
            o.case: (redact(place[o.case], o.item.secrets), *o.summary) for o in outcomes if not o.error
        },
        cases=len(dataset.owners),
        patients=len(set(dataset.owners.values())),
    )


def _place(study: Path, root: Path) -> str:
    """Where a study was found, below what the user gave; the name of that if it is the study."""
    below = os.path.relpath(study, root)
    return root.resolve().name if below == "." else below


def _recorded(settings: Any) -> dict[str, Any]:
    """What is kept of the options, as it will be read again from JSON (tuples are lists)."""
    kept = {}
    for each in fields(settings):
        value, how = getattr(settings, each.name), each.metadata["recorded"]
        if how:
            kept[each.name] = how(value) if callable(how) else value
    recorded: dict[str, Any] = json.loads(json.dumps(kept))
    return recorded


def _source(name: str) -> Source:
    if name not in SOURCES:
        raise IGTVError(
            f"no source {name!r}", remedy=f"choose one of {', '.join(SOURCES)}", settings=["source"]
        )
    return SOURCES[name]


def _options(source: Source, given: dict[str, Any]) -> Any:
    known = [field.name for field in fields(source.options)]
    try:
        options = source.options(**given)
    except TypeError as error:
        raise IGTVError(
            f"the source {source.name} has the options {', '.join(known)}, "
            f"and was given: {', '.join(given) or 'none'}",
            remedy="give those without a default, and none that it lacks",
        ) from error
    for name, value in vars(options).items():
        numbers = value if isinstance(value, list | tuple) else (value,)
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise IGTVError(f"not a finite number: {value!r}", remedy="give one", settings=[name])
    return options
