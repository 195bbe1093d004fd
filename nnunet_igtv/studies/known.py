"""What decides about the series of a study apart from the series themselves: what a person said, and what
structure sets and registration objects tell."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from nnunet_igtv.dicom.series import Series
from nnunet_igtv.settings import setting
from nnunet_igtv.studies.registration import Registration
from nnunet_igtv.studies.selectors import Selector, anonymous
from nnunet_igtv.suv.body import check_given


def _selector(name: str, help: str) -> Any:
    recorded = partial(anonymous, setting=name)
    return setting(None, help, metavar="SELECTOR", recorded=recorded)


def no_pet_setting() -> Any:
    """The switch for an absent PET, of every source that may have one."""
    return setting(
        None,
        "take studies without a PET too (missing), or leave the PET of every study out (all)",
        choices=("missing", "all"),
    )


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """Which series of a study are read, and how."""

    study: str | None = _selector(
        "study", "the study to read where there are several: description, date or UID"
    )
    ct: str | None = _selector(
        "ct",
        "the CT to read where several could serve: number, description, date, phase:40, average, maximum or "
        "uid:…",
    )
    pet: str | None = _selector(
        "pet", "the PET to read where several could serve: number, description, date, phase:40 or uid:…"
    )
    no_pet: str | None = no_pet_setting()
    register: bool = setting(
        False,
        "where no registration object joins PET and CT, register the PET/CT's own CT to the CT (rigid, by "
        "mutual information); look at the picture that convert and predict-dicom write",
    )
    trust_frames: bool = setting(False, "accept different frames of reference: the series are aligned")
    weight_kg: float | None = setting(None, "body weight where the PET headers have none")

    def __post_init__(self) -> None:
        """Raises IGTVError for a selector that cannot mean anything, and a weight that no patient has."""
        self.selectors("study", "ct", "pet")
        check_given(self.weight_kg)

    def selectors(self, *names: str) -> list[Selector]:
        """What was given for some of `study`, `ct` and `pet`."""
        return [Selector.parse(given, name) for name in names if (given := getattr(self, name)) is not None]


@dataclass(frozen=True)
class Known:
    """What structure sets, registrations or a chosen CT tell about the series that is looked for.

    Attributes:
        series: UIDs of the series that the structure was drawn on.
        images: gives the SOP Instance UIDs of the images that its contours refer to.
        studies: UIDs of the studies that its structure sets belong to.
        frames: frames of reference that it lives in.
        points: (n, 3) mm, points of its contours.
        ct: the CT, where a PET is looked for.
        others: the series of the study, where a PET may have to be registered by its own CT.
        contoured: UIDs of the series that other structure sets were drawn on.
        registrations: the registration objects of the study.
        registered: frames of reference that they join with a PET's, where a CT is looked for.
    """

    series: frozenset[str] = frozenset()
    images: Callable[[], frozenset[str]] = frozenset
    studies: frozenset[str] = frozenset()
    frames: frozenset[str] = frozenset()
    points: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))
    ct: Series | None = None
    others: tuple[Series, ...] = ()
    contoured: frozenset[str] = frozenset()
    registrations: tuple[Registration, ...] = ()
    registered: frozenset[str] = frozenset()
