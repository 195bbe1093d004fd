"""Walking through a dataset and its sequences."""

from collections.abc import Iterator

from pydicom import DataElement, Dataset
from pydicom.tag import Tag

_CONTOUR_DATA = Tag("ContourData")  # millions of numbers, and never what is looked for


def elements_of(dataset: Dataset) -> Iterator[DataElement]:
    """Every element at any depth, but sequences themselves and contour data.

    Raises whatever pydicom raises for an element that cannot be decoded.
    """
    for tag in list(dataset.keys()):
        if tag == _CONTOUR_DATA:
            continue
        element = dataset[tag]
        if element.VR == "SQ":
            for item in element.value:
                yield from elements_of(item)
        else:
            yield element
