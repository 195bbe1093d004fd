"""Multi-frame (enhanced and legacy-converted) objects seen as what they replace: one flat header per slice."""

from collections.abc import Iterator

from pydicom.dataset import Dataset

_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


def flat_headers(header: Dataset) -> Iterator[tuple[int | None, Dataset]]:
    """(frame index, header) per slice of a file.

    Single-frame headers pass through with index None. A frame's header holds the attributes of the file, then
    those of its functional groups (DICOM PS3.3 C.7.6.16), per frame before shared, lifted to the top level.
    """
    if "PerFrameFunctionalGroupsSequence" not in header:
        yield None, header
        return
    common = Dataset()
    for element in header:
        if element.keyword not in _GROUPS:
            common.add(element)
    for shared in header.get("SharedFunctionalGroupsSequence") or []:
        _lift(shared, common)
    for index, groups in enumerate(header.PerFrameFunctionalGroupsSequence):
        flat = Dataset()
        flat.update(common)
        _lift(groups, flat)
        yield index, flat


def _lift(groups: Dataset, target: Dataset) -> None:
    """Write the attributes of every functional group's first item into `target`."""
    for group in groups:
        if group.VR == "SQ" and group.value:
            for element in group.value[0]:
                target.add(element)
