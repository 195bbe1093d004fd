"""The one writer of nnU-Net raw datasets: whole cases or none, resumable, parallel, without patient identity.

DatasetXXX_Name/imagesTr/CASE_0000.nii.gz  CT      labelsTr/CASE.nii.gz  {background 0, <label> 1}
                imagesTr/CASE_0001.nii.gz  PET     dataset.json, conversion.json (how, per case; no identity)
                registration/CASE.png              CT and PET/CT's CT together, where that was registered
                motion/CASE.json, CASE.png         how the tumour moves, of a 4D-CT
DatasetXXX_Name_record.sqlite              the record, which all else is written from; mode 600
DatasetXXX_Name_manifest.csv               which study became which case; mode 600
DatasetXXX.lock                            held by the one conversion that may write
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from nnunet_igtv import __version__, folds
from nnunet_igtv.atomic import replace, written_whole
from nnunet_igtv.channels import CT_PET, KEY, Channel, described, values_of
from nnunet_igtv.dataset_conversion.case import Case, case_files, check_case, write_case
from nnunet_igtv.dataset_conversion.manifest import manifest_text
from nnunet_igtv.dataset_conversion.met_again import (
    Converted,
    differing,
    edited,
    remark_on_options,
    sizes_of,
)
from nnunet_igtv.dataset_conversion.motion_files import FOLDER as MOTION
from nnunet_igtv.dataset_conversion.motion_files import write_motion
from nnunet_igtv.dataset_conversion.patient_remarks import remarks_on_copies, remarks_on_patients
from nnunet_igtv.dataset_conversion.record import Record, Row
from nnunet_igtv.dataset_conversion.source import Item
from nnunet_igtv.dataset_conversion.splits import write_splits
from nnunet_igtv.dataset_conversion.workers import Outcome, make_cases
from nnunet_igtv.dicom.identity import redact, without_secrets
from nnunet_igtv.environment import nnunet_folder
from nnunet_igtv.errors import IGTVError

SCRATCH = ".unfinished"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetSpec:
    """What a raw dataset is. Cases whose channels mean something else are never added."""

    dataset_id: int
    name: str
    label: str
    channels: tuple[Channel, ...] = CT_PET

    def __post_init__(self) -> None:
        if not 1 <= self.dataset_id <= 999:
            raise IGTVError(
                f"{self.dataset_id} is not a dataset id",
                remedy="give a number from 1 to 999",
                settings=["dataset_id"],
            )
        if not re.fullmatch(r"[A-Za-z0-9]+(?:[A-Za-z0-9_-]*[A-Za-z0-9])?", self.name):
            raise IGTVError(
                f"{self.name!r} is not a dataset name",
                remedy="use letters, digits, '-' and '_' only",
                settings=["name"],
            )

    @property
    def values(self) -> str:
        return values_of(self.channels)

    @property
    def description(self) -> str:
        return (
            f"Channel 0: CT, channel 1: PET; {self.values}. Both channels are named CT so that nnU-Net clips "
            "and scales them with the statistics of the dataset, which keeps the meaning of the values; "
            "z-score per image would not."
        )

    @property
    def folder_name(self) -> str:
        return f"Dataset{self.dataset_id:03d}_{self.name}"


class RawDataset:
    """One conversion into one raw dataset, which nothing else can write to meanwhile: a context.

    Args:
        spec: what the dataset is.
        source: name of the converter, with `options` what makes two runs "the same conversion".
        source_input: the folder or file converted (kept in the record and the manifest only).
        split: "train" or "test".
        append: add to a dataset that another conversion made.
        dry_run: write nothing: cases are made and checked, and forgotten.

    Raises IGTVError, before anything is written, if the id is taken by something else.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        source: str,
        options: dict[str, object],
        source_input: Path,
        split: str = "train",
        append: bool = False,
        dry_run: bool = False,
    ) -> None:
        self.spec, self.source, self.options, self.split = spec, source, options, split
        self.append, self.dry_run, self.input = append, dry_run, os.path.realpath(source_input)
        self.shown = options  # without what identifies a patient
        self.to_do: str | None = None  # what the user still has to do after a conversion
        self.warnings: list[str] = []  # "CASE: what" may be wrong with cases that were there before
        self.owners: dict[str, str] = {}  # the cases of the split after a conversion, and their patients
        self.root = nnunet_folder("nnUNet_raw")
        self.folder = self.root / spec.folder_name
        self.manifest = self.root / f"{spec.folder_name}_manifest.csv"
        self.lock = FileLock(self.root / f"Dataset{spec.dataset_id:03d}.lock")

    def __enter__(self) -> "RawDataset":
        if not self.dry_run:
            self._lock()
        try:
            self.record = Record(self.root / f"{self.spec.folder_name}_record.sqlite")
            self._check_id()
        except BaseException:
            self.lock.release()
            raise
        return self

    def _lock(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            logger.warning("waiting for another conversion into dataset %d to end", self.spec.dataset_id)
            self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.record.close()
        self.lock.release()

    def _check_id(self) -> None:
        taken = f"dataset id {self.spec.dataset_id} exists"
        others = [
            p
            for p in self.root.glob(f"Dataset{self.spec.dataset_id:03d}_*")
            if p.is_dir() and p not in (self.folder, self.manifest)
        ]
        if others:
            raise IGTVError(
                taken,
                file=others[0].name,
                remedy="choose another id, or give the name of the dataset that has it",
                settings=["dataset_id", "name"],
            )
        if self.folder.exists() and not self.record.values:
            raise IGTVError(
                f"{taken} and was not made by this converter, or its record is gone",
                file=self.folder.name,
                remedy="choose another id",
                settings=["dataset_id"],
            )
        if not self.record.wrote(self.manifest):
            raise IGTVError(
                "the manifest of the dataset is damaged or was edited; it is written, never read",
                file=self.manifest.name,
                remedy="move it away: the next run writes it anew",
            )
        converted = [r for r in self.record.rows.values() if r.status == "converted"]
        if not converted:
            return
        made = self.record.values
        if made["values"] != self.spec.values or made["label"] != self.spec.label:
            raise IGTVError(
                f"{taken} and holds {made['values']} with label {made['label']!r}, not {self.spec.values} "
                f"with {self.spec.label!r}",
                file=self.folder.name,
                remedy="choose another id",
                settings=["dataset_id"],
            )
        mine = [r for r in converted if r.split == self.split]
        same = all(r.input == self.input and r.source == self.source for r in mine)
        known = [r.options for r in mine or converted if r.source == self.source and r.options]
        before = known or [made["options"].get(self.source, {})]
        same = same and not any(differing(options, self.options) for options in before)
        if not same and not self.append:
            raise IGTVError(
                f"{taken} and was made from other input or with other options",
                file=self.folder.name,
                remedy="choose another id, or append to it",
                settings=["dataset_id", "append"],
            )

    # ------------------------------------------------------------------------------------------- conversion

    def convert(self, items: Sequence[Item], jobs: int = 1) -> list[Outcome]:
        """Convert what is not there yet; write the dataset's own files also when interrupted.

        Returns the outcomes of this run, errors included. A run without a single case leaves the record and
        the manifest with the reasons, and no dataset.
        """
        converted = Converted(self._all_done(), items)
        rows, outcomes = self._rows(items, converted)
        todo = [(row.case, item) for row, item in rows if item.key not in converted.by_key]
        self._warn(rows, converted)
        label = f"converting to {self.spec.folder_name}"
        if self.dry_run:
            make_cases(todo, _check, jobs, label, outcomes.append)
            self._see_to_patients(rows, outcomes)
            return outcomes

        def note(outcome: Outcome) -> None:
            self._note(outcome)
            outcomes.append(outcome)

        shutil.rmtree(self.folder / SCRATCH, ignore_errors=True)
        (self.folder / SCRATCH).mkdir(parents=True, exist_ok=True)
        try:
            make_cases(todo, partial(_write, self.folder, self.split), jobs, label, note)
        finally:
            try:
                self._finish()
            finally:
                shutil.rmtree(self.folder / SCRATCH, ignore_errors=True)
        self._see_to_patients(rows, outcomes)
        return outcomes

    def _rows(
        self, items: Sequence[Item], converted: Converted
    ) -> tuple[list[tuple[Row, Item]], list[Outcome]]:
        """Each item's row, under the number that it has already or under a new one; and those refused."""
        rows, refused, number = [], [], self.record.next_number
        for item in items:
            if error := converted.refusal(item):
                refused.append(Outcome(item, error.case or "", error=error))
                continue
            known = self.record.rows.get(item.key)
            if known is not None and known.status == "converted" and known.split != self.split:
                raise IGTVError(
                    f"a study of this input is in the {known.split} split already",
                    case=known.case,
                    remedy="take it out of the input: training cases must not be test cases",
                )
            row = converted.by_key.get(item.key)
            if row is None:
                own = number if known is None else known.number
                number += known is None
                row = Row(
                    item.key,
                    own,
                    f"{self.spec.name}_{own:04d}",
                    self.split,
                    self.source,
                    item.patient,
                    self.input,
                    os.path.realpath(item.path),
                )
            # of a case that is kept, too: a CSV may name its patient and fold now
            row.patient, row.fold, row.files = item.patient, item.fold, list(item.files)
            rows.append((row, item))
        everybody = frozenset().union(*(item.unrecorded for item in items))
        self.shown = without_secrets(self.options, everybody)
        if not self.dry_run:
            for name, value in (
                ("values", self.spec.values),
                ("label", self.spec.label),
                ("options", self.record.values.get("options", {}) | {self.source: self.options}),
                ("shown", self.record.values.get("shown", {}) | {self.source: self.shown}),
            ):
                self.record.set(name, value)
            self.record.put(*(row for row, _ in rows))
        return rows, refused

    def _warn(self, rows: Sequence[tuple[Row, Item]], converted: Converted) -> None:
        kept = [row for row, item in rows if item.key in converted.by_key]
        self.warnings += remark_on_options(kept, self.options)
        for row, item in rows:
            files = case_files(self.folder, row.case, row.split)
            self.warnings += [
                f"{row.case}: {file.parent.name}/{file.name} was changed after its conversion, and is kept"
                for file in edited(row, files)
            ]
            if converted.has_other_input(item):
                self.warnings.append(
                    f"{row.case}: the files of its study are not those that it was converted from, and it is "
                    "kept; to make it anew, delete its files in the dataset and convert again"
                )
            if other := converted.case_in_the_other_split(item, self.split):
                self.warnings.append(
                    f"{row.case}: a patient of the same id has {other} in the other split; if it is one "
                    "patient, scores on the test cases are not those of new patients"
                )

    def _see_to_patients(self, rows: Sequence[tuple[Row, Item]], outcomes: Sequence[Outcome]) -> None:
        failed = {outcome.case for outcome in outcomes if outcome.error}
        named = [(row.case, item) for row, item in rows if row.case not in failed]
        done, now = self._all_done(), {case: (item.patient, item.fold) for case, item in named}
        mine = {row.case: (row.patient, row.fold) for row in done if row.split == self.split} | now
        self.owners = {case: patient for case, (patient, _) in mine.items()}
        cts = {row.case: row.ct for row in done} | {o.case: o.ct for o in outcomes if not o.error}
        everybody = {row.case: row.patient for row in done} | self.owners
        self.warnings += remarks_on_copies(cts, everybody, now.keys())
        if self.split == "train":
            self.warnings += remarks_on_patients(named, mine)

    def _note(self, outcome: Outcome) -> None:
        row = self.record.rows[outcome.item.key]
        row.identity, row.sizes, row.options = outcome.identity, outcome.sizes, self.options
        row.ct = outcome.ct
        row.provenance = outcome.provenance | {"options": self.shown}
        row.made_from = sizes_of(outcome.item.made_from)
        row.status, row.message = "converted", ""
        if outcome.error:
            row.status, row.message = "failed", redact(str(outcome.error), outcome.item.unrecorded)
        self.record.put(row)

    # -------------------------------------------------------------------------------------------------- files

    def _done(self, row: Row) -> bool:
        """Whether a case is converted and its files are there in full, as they were written or edited."""
        files = case_files(self.folder, row.case, row.split)
        sizes = [file.stat().st_size for file in files if file.is_file()]
        return row.status == "converted" and (row.sizes == sizes or bool(edited(row, files)))

    def _all_done(self) -> list[Row]:
        return [row for row in self.record.rows.values() if self._done(row)]

    def _finish(self) -> None:
        """The files that repeat the record: manifest, conversion.json, dataset.json and the splits."""
        self.record.publish(self.manifest, manifest_text(self.record.rows.values()), mode=0o600)
        done = self._all_done()
        if not done:
            shutil.rmtree(self.folder)
            return
        record = {
            "package": f"nnunet-igtv {__version__}",
            "values": self.spec.values,
            "label": self.spec.label,
            "options": self.record.values["options"] | self.record.values.get("shown", {}),
            "cases": {r.case: {"split": r.split, "source": r.source} | r.provenance for r in done},
        }
        text = json.dumps(record, indent=1, sort_keys=True)
        self.record.publish(self.folder / "conversion.json", text)
        training = [row for row in done if row.split == "train"]
        known = folds.groups({row.case: (row.patient, row.fold) for row in training})
        self._write_dataset_json(training, known)
        self.to_do = write_splits(known, self.folder)

    def _write_dataset_json(self, training: Sequence[Row], known: folds.Groups) -> None:
        """By nnU-Net's own function."""
        from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json

        scratch = self.folder / SCRATCH
        without_pet = sum(row.provenance.get("pet") == "absent" for row in training)
        own = described(self.spec.channels, without_pet)
        own[KEY] |= folds.described(known)
        generate_dataset_json(
            str(scratch),
            {"0": "CT", "1": "CT"},
            {"background": 0, self.spec.label: 1},
            len(training),
            ".nii.gz",
            dataset_name=self.spec.name,
            description=self.spec.description,
            license="that of the source data",
            converted_by=f"nnunet-igtv {__version__}",
            **own,
        )
        replace(scratch / "dataset.json", self.folder / "dataset.json")


def _write(folder: Path, split: str, name: str, case: Case) -> list[int]:
    """Write the files of a case, a report of its motion first; runs in a worker process."""
    if isinstance(motion := case.provenance.get("motion"), dict):
        write_motion(motion, folder / MOTION / name, name, overwrite=True)
    for kind, picture in case.pictures.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        with written_whole(folder / kind / f"{name}.png") as unfinished:
            unfinished.write_bytes(picture)
    return write_case(case, case_files(folder, name, split), folder / SCRATCH)


def _check(name: str, case: Case) -> list[int]:
    """What is checked before a case is written, and no more."""
    check_case(case)
    return []
