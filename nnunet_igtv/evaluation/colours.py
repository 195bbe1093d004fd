"""Colours of contours and marks: seen on a CT, on white and on black."""

TRUTH = "#2fd67b"
_MODELS = ("#ff9f1c", "#3fb8ef", "#f15bb5", "#d9b300", "#9d7bff", "#ff5d5d")
_OBSERVERS = ("#b9e3c9", "#7fb08f", "#dfe8c8", "#8fc7c0")


def of_model(index: int) -> str:
    return _MODELS[index % len(_MODELS)]


def of_observer(index: int) -> str:
    return _OBSERVERS[index % len(_OBSERVERS)]
