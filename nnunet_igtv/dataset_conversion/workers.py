"""Studies -> cases, one after the other or in worker processes; an error of one does not end the others."""

import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context

import SimpleITK as sitk
from tqdm import tqdm

from nnunet_igtv.dataset_conversion.case import Case, digest_of_voxels
from nnunet_igtv.dataset_conversion.source import Item
from nnunet_igtv.dicom.identity import redact, without_secrets
from nnunet_igtv.dicom.quiet import quiet, quiet_itk
from nnunet_igtv.errors import IGTVError

Write = Callable[[str, Case], list[int]]  # (name of the case, the case) -> sizes of what was written


@dataclass
class Outcome:
    """What became of one item; `ct` is `digest_of_voxels` of its CT."""

    item: Item
    case: str
    provenance: dict[str, object] = field(default_factory=dict)
    identity: dict[str, str] = field(default_factory=dict)
    summary: tuple[str, ...] = ()
    sizes: list[int] = field(default_factory=list)
    ct: str = ""
    error: IGTVError | None = None

    @property
    def warnings(self) -> list[str]:
        """What its provenance warns of."""
        found = self.provenance.get("warnings")
        return [str(warning) for warning in found] if isinstance(found, list) else []


def make_cases(
    todo: Sequence[tuple[str, Item]], write: Write, jobs: int, label: str, note: Callable[[Outcome], None]
) -> None:
    """Make a case of every item and write it.

    Args:
        todo: names of cases and their items.
        write: what is done with a case; picklable, and called in a worker process if there are several.
        jobs: how many processes.
        label: of the progress bar.
        note: called with each outcome, also of what was under way at an interruption.
    """
    with tqdm(total=len(todo), desc=label, unit="case") as bar:
        if jobs <= 1 or len(todo) <= 1:
            for name, item in todo:
                note(make_case(item, name, write))
                bar.update()
            return
        pool = ProcessPoolExecutor(min(jobs, len(todo)), get_context("spawn"), _start_worker)
        futures = {pool.submit(make_case, item, name, write): (name, item) for name, item in todo}
        try:
            for future in as_completed(list(futures)):
                note(_result(future, *futures.pop(future)))
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)
            for future, (name, item) in futures.items():
                if not future.cancelled():
                    note(_result(future, name, item))


def make_case(item: Item, name: str, write: Write) -> Outcome:
    """Load one item and write its case."""
    try:
        with quiet():
            case = item.load()
        sizes, ct = write(name, case), digest_of_voxels(case.ct)
    except IGTVError as error:
        return Outcome(item, name, error=error.but(case=name))
    except OSError as error:
        what = f"the case could not be read or written ({error.strerror or error})"
        return Outcome(item, name, error=IGTVError(what, case=name, remedy="make room, or give access"))
    except Exception as error:  # one broken study must not end the others
        what = f"unexpected {type(error).__name__}: {error}"
        return Outcome(item, name, error=IGTVError(what, case=name, remedy="please report this"))
    return Outcome(
        item,
        name,
        without_secrets(case.provenance, item.unrecorded),
        case.identity,
        tuple(redact(line, item.secrets) for line in case.summary),
        sizes,
        ct,
    )


def _start_worker() -> None:
    # the parent sees to interruption; cases under way are finished
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    quiet_itk()


def _result(future: Future[Outcome], name: str, item: Item) -> Outcome:
    try:
        return future.result()
    except BrokenProcessPool:
        error = IGTVError(
            "a worker process died (out of memory?)",
            remedy="run it again with fewer processes",
            settings=["jobs"],
        )
        return Outcome(item, name, error=error.but(case=name))
