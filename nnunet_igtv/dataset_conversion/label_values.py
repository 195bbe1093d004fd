"""Which voxels of a label are the structure, where a label may hold several values."""

import numpy as np

from nnunet_igtv.errors import IGTVError

SHOWN = 6  # values in a message


def check_value(value: int | None) -> None:
    """Raises IGTVError if it is the background's."""
    if value == 0:
        raise IGTVError(
            "the label value 0 is the background",
            remedy="give the value of the tumour, or none for every other value",
            settings=["label_value"],
        )


def structure_in(
    label: np.ndarray, value: int | None, file: str, may_be_empty: bool, one_value: bool
) -> tuple[np.ndarray, list[str]]:
    """The voxels of the structure, and a warning where several values are taken for it.

    Args:
        label: whole numbers; 0 is the background.
        value: that of the structure; None for every value but 0.
        file: what the label is called in errors.
        may_be_empty: whether a label without the structure is a case without a tumour.
        one_value: whether several values are refused, unless one was asked for.
    """
    chosen = label != 0 if value is None else label == value
    if not chosen.any() and not may_be_empty:
        what = "the label is empty" if value is None else f"the label has no voxel of the value {value}"
        raise IGTVError(what, file=file, remedy="leave this case out")
    if value is not None or not (found := _several(label[chosen])):
        return chosen, []
    if one_value:
        raise IGTVError(
            found,
            file=file,
            remedy="give the value of the structure; if all of them are it, write them as one value",
            settings=["label_value"],
        )
    return chosen, [f"{found}: all are taken for the structure; if one of them is it, give that label value"]


def _several(labelled: np.ndarray) -> str:
    """The values and how often each occurs, in words; "" where there is but one."""
    values, counts = np.unique(labelled, return_counts=True)
    if len(values) < 2:
        return ""
    shown = [
        f"{value:g} ({count} voxel{'s' if count > 1 else ''})"
        for value, count in zip(values[:SHOWN], counts[:SHOWN], strict=True)
    ]
    more = [f"{len(values) - SHOWN} more"] if len(values) > SHOWN else []
    return f"the label holds several values: {', '.join(shown + more)}"
