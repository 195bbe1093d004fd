"""The one writer of nnU-Net raw datasets: atomic per case, resumable, parallel, without patient identity.

DatasetXXX_Name/imagesTr/CASE_0000.nii.gz  CT      labelsTr/CASE.nii.gz  {background 0, <label> 1}
                imagesTr/CASE_0001.nii.gz  PET     dataset.json, conversion.json (how, per case; no identity)
DatasetXXX_Name_manifest.csv               which study became which case; mode 600, beside the dataset
"""

import json
import os
import re
import shutil
import signal
import tempfile
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import SimpleITK as sitk
from tqdm import tqdm

from nnunet_igtv import __version__
from nnunet_igtv.atomic import write_text
from nnunet_igtv.channels import CT_PET, Channel, channels_in_words, described, values_of
from nnunet_igtv.dataset_conversion.case import case_files, write_case
from nnunet_igtv.dataset_conversion.manifest import Manifest, Row
from nnunet_igtv.dataset_conversion.redaction import without_secrets
from nnunet_igtv.dataset_conversion.source import Item
from nnunet_igtv.dataset_conversion.splits import write_splits
from nnunet_igtv.environment import nnunet_folder
from nnunet_igtv.errors import IGTVError

SCRATCH = ".unfinished"


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


@dataclass
class Outcome:
    """What became of one item."""

    item: Item
    case: str
    provenance: dict[str, object] = field(default_factory=dict)
    identity: dict[str, str] = field(default_factory=dict)
    error: IGTVError | None = None


class RawDataset:
    """One conversion into one raw dataset.

    Args:
        spec: what the dataset is.
        source: name of the converter, with `options` what makes two runs "the same conversion".
        source_input: the folder or file converted (kept in the manifest only).
        split: "train" or "test".
        append: add to a dataset that another conversion made.

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
    ) -> None:
        self.spec, self.source, self.options, self.split = spec, source, options, split
        self.input = str(source_input.resolve())
        self.to_do: str | None = None  # what the user still has to do after a conversion
        root = nnunet_folder("nnUNet_raw")
        root.mkdir(parents=True, exist_ok=True)
        self.folder = root / spec.folder_name
        self.manifest = Manifest(root / f"{spec.folder_name}_manifest.csv")
        self._check_id(root, append)
        record = self.folder / "conversion.json"
        self.record: dict = json.loads(record.read_text()) if record.is_file() else {"cases": {}}

    def _check_id(self, root: Path, append: bool) -> None:
        taken = f"dataset id {self.spec.dataset_id} exists"
        others = [
            p for p in root.glob(f"Dataset{self.spec.dataset_id:03d}_*") if p.is_dir() and p != self.folder
        ]
        if others:
            raise IGTVError(
                taken,
                file=others[0].name,
                remedy="choose another id, or give the name of the dataset that has it",
                settings=["dataset_id", "name"],
            )
        if not self.folder.exists():
            return
        record = self.folder / "conversion.json"
        if not record.is_file() or not self.manifest.rows:
            raise IGTVError(
                f"{taken} and was not made by this converter, or its manifest is gone",
                file=self.folder.name,
                remedy="choose another id",
                settings=["dataset_id"],
            )
        made = json.loads(record.read_text())
        if channels_in_words(made["values"]) != self.spec.channels or made["label"] != self.spec.label:
            raise IGTVError(
                f"{taken} and holds {made['values']} with label {made['label']!r}, not {self.spec.values} "
                f"with {self.spec.label!r}",
                file=self.folder.name,
                remedy="choose another id",
                settings=["dataset_id"],
            )
        mine = [r for r in self.manifest.rows.values() if r.split == self.split]
        same = all(r.input == self.input and r.source == self.source for r in mine)
        # an option that one of the two versions of this package did not have says nothing
        before = made["options"].get(self.source, {})
        same = same and all(before.get(name, value) == value for name, value in self.options.items())
        if not same and not append:
            raise IGTVError(
                f"{taken} and was made from other input or with other options",
                file=self.folder.name,
                remedy="choose another id, or append to it",
                settings=["dataset_id", "append"],
            )

    # ------------------------------------------------------------------------------------------- conversion

    def convert(self, items: Sequence[Item], jobs: int = 1) -> list[Outcome]:
        """Convert what is not there yet; write the dataset's own files also when interrupted.

        Returns the outcomes of this run, errors included. A run without a single case leaves nothing behind.
        """
        todo = [(self._row(item), item) for item in items]
        todo = [(row, item) for row, item in todo if not self._done(row)]
        outcomes: list[Outcome] = []

        def note(outcome: Outcome) -> None:
            self._note(outcome)
            outcomes.append(outcome)

        created = not self.folder.exists()
        (self.folder / SCRATCH).mkdir(parents=True, exist_ok=True)
        try:
            self._save()
            self._run(todo, jobs, note)
        finally:
            shutil.rmtree(self.folder / SCRATCH, ignore_errors=True)
            if created and not any(self._complete(row) for row in self.manifest.rows.values()):
                shutil.rmtree(self.folder)
                self.manifest.path.unlink()
            else:
                self._save()
                self._finish()
        return outcomes

    def _row(self, item: Item) -> Row:
        known = self.manifest.rows.get(item.key)
        if known is not None:
            if known.split != self.split:
                raise IGTVError(
                    f"a study of this input is in the {known.split} split already",
                    case=known.case,
                    remedy="take it out of the input: training cases must not be test cases",
                )
            return known
        used = (int(row.case.rpartition("_")[2]) for row in self.manifest.rows.values())
        case = f"{self.spec.name}_{max(used, default=0) + 1:04d}"
        study = str(item.path.resolve())
        row = Row(
            case, "pending", self.split, self.source, item.patient, item.key, self.input, study, item.fold
        )
        self.manifest.rows[item.key] = row
        return row

    def _run(self, todo: list[tuple[Row, Item]], jobs: int, note: Callable[[Outcome], None]) -> None:
        """Convert all; `note` is called with each outcome, also of what was under way at an interruption."""
        with tqdm(total=len(todo), desc=f"converting to {self.spec.folder_name}", unit="case") as bar:
            if jobs <= 1 or len(todo) <= 1:
                for row, item in todo:
                    note(_convert(item, row.case, self.folder, self.split))
                    bar.update()
                return
            pool = ProcessPoolExecutor(min(jobs, len(todo)), get_context("spawn"), _start_worker)
            futures = {
                pool.submit(_convert, item, row.case, self.folder, self.split): (row, item)
                for row, item in todo
            }
            try:
                for future in as_completed(list(futures)):
                    note(_result(future, *futures.pop(future)))
                    bar.update()
            finally:
                pool.shutdown(cancel_futures=True)
                for future, (row, item) in futures.items():
                    if not future.cancelled():
                        note(_result(future, row, item))

    def _note(self, outcome: Outcome) -> None:
        row = self.manifest.rows[outcome.item.key]
        row.fold, row.identity = outcome.item.fold, outcome.identity
        if outcome.error:
            row.status, row.message = "failed", str(outcome.error)
            self.record["cases"].pop(row.case, None)
        else:
            row.status, row.message, row.provenance = "converted", "", outcome.provenance
            self.record["cases"][row.case] = {"split": self.split, "source": self.source} | outcome.provenance
        self._save()

    # -------------------------------------------------------------------------------------------------- files

    def _files(self, row: Row) -> list[Path]:
        return case_files(self.folder, row.case, row.split)

    def _complete(self, row: Row) -> bool:
        return all(f.is_file() for f in self._files(row))

    def _done(self, row: Row) -> bool:
        return row.status == "converted" and self._complete(row)

    def _save(self) -> None:
        self.manifest.save()
        self.record |= {
            "package": f"nnunet-igtv {__version__}",
            "values": self.spec.values,
            "label": self.spec.label,
            "options": self.record.get("options", {}) | {self.source: self.options},
        }
        write_text(self.folder / "conversion.json", json.dumps(self.record, indent=1, sort_keys=True))

    def _finish(self) -> None:
        """dataset.json by nnU-Net's own function; splits by patient where nnU-Net's split by case would
        leak.
        """
        from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json

        training = [r for r in self.manifest.rows.values() if r.split == "train" and self._done(r)]
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            generate_dataset_json(
                scratch,
                {"0": "CT", "1": "CT"},
                {"background": 0, self.spec.label: 1},
                len(training),
                ".nii.gz",
                dataset_name=self.spec.name,
                description=self.spec.description,
                license="that of the source data",
                converted_by=f"nnunet-igtv {__version__}",
                **described(self.spec.channels),
            )
            os.replace(Path(scratch) / "dataset.json", self.folder / "dataset.json")
        self.to_do = write_splits(training, self.folder)


# ------------------------------------------------------------------------------------------------- one case


def _start_worker() -> None:
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # the parent sees to interruption; cases under way are finished
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # they quote file names


def _result(future: Future[Outcome], row: Row, item: Item) -> Outcome:
    try:
        return future.result()
    except BrokenProcessPool:
        error = IGTVError(
            "a worker process died (out of memory?)",
            remedy="run it again with fewer processes",
            settings=["jobs"],
        )
        return Outcome(item, row.case, error=error.but(case=row.case))


def _convert(item: Item, case: str, folder: Path, split: str) -> Outcome:
    """Load one item and write its three files; runs in a worker process."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's remarks may quote the header
            loaded = item.load()
        write_case(loaded, case_files(folder, case, split), folder / SCRATCH)
        return Outcome(item, case, without_secrets(loaded.provenance, item.secrets), loaded.identity)
    except IGTVError as error:
        return Outcome(item, case, error=error.but(case=case))
    except Exception as error:  # one broken study must not end the others
        what = f"unexpected {type(error).__name__}: {error}"
        return Outcome(item, case, error=IGTVError(what, case=case, remedy="please report this"))
