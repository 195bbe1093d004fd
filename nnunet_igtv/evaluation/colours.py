"""Lines and marks of the truth, the models and the observers: on a CT, on a PET, on white and on black.

The colours are those of Okabe and Ito, which colour-blind readers tell apart. Seven of them are seen on a CT:
yellow is the truth's, whose line is the thickest; six are models'. From the seventh model on they return with
other dashes and marks. Names are in every legend.
"""

from typing import NamedTuple


class Line(NamedTuple):
    """How contours and curves of one of them are drawn.

    Attributes:
        colour: as CSS writes it.
        width: pixels of a still picture.
        dash: lengths that are drawn and left out in turn, in pixels; () of a whole line.
        mark: of a point, as a path of SVG about (0, 0); "" of a disc.
    """

    colour: str
    width: float
    dash: tuple[int, ...] = ()
    mark: str = ""


TRUTH = Line("#f0e442", 2.6)
_MODELS = ("#56b4e9", "#d55e00", "#cc79a7", "#009e73", "#0072b2", "#e69f00")
_OBSERVERS = ("#ffffff", "#b5b5b5")
_DASHES = ((), (6, 3), (2, 3), (8, 3, 2, 3))
_MARKS = ("", "M-4.5-4.5h9v9h-9z", "M0-6L5.5 4.5H-5.5z", "M0-6.5L6.5 0 0 6.5-6.5 0z")


def of_model(index: int) -> Line:
    """Of 24 models no two have one line."""
    again, colour = divmod(index, len(_MODELS))
    return Line(_MODELS[colour], 1.6, _DASHES[again % len(_DASHES)], _MARKS[again % len(_MARKS)])


def of_observer(index: int) -> Line:
    """Thin, and of eight observers no two have one line."""
    again, colour = divmod(index, len(_OBSERVERS))
    return Line(_OBSERVERS[colour], 1.0, _DASHES[again % len(_DASHES)])
