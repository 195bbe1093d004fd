"""Whether a network that comes from another data set would see the numbers that it learned from.

nnU-Net's CT normalisation clips to percentiles of the voxels in the structures of a data set and takes their
mean and deviation. An IGTV holds lung that the tumour sweeps, a GTV does not: planned each for itself, one
tissue becomes two numbers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

PROPERTIES = "foreground_intensity_properties_per_channel"  # of a plans file
BOUNDS = ("percentile_00_5", "percentile_99_5")
TOLERANCE = 0.1  # in standard deviations


def differences(checkpoint: Any, plans: Mapping[str, Any], schemes: Sequence[str]) -> list[str]:
    """One sentence per channel whose normalisation was another where the weights come from.

    Args:
        checkpoint: content of the file with the weights; where it tells no plans, nothing is found.
        plans: of the data set that will be trained on.
        schemes: its normalisation by channel; only `CTNormalization` depends on the data set.
    """
    theirs = _properties(checkpoint)
    found = []
    for channel, scheme in enumerate(schemes):
        a, b = (properties.get(str(channel)) for properties in (theirs, plans.get(PROPERTIES, {})))
        if scheme != "CTNormalization" or not a or not b:
            continue
        scale = max(a["std"], b["std"])
        distances = [abs(a[key] - b[key]) / scale for key in ("mean", "std", *BOUNDS)]
        if max(distances) > TOLERANCE:
            found.append(f"channel {channel}: {_written(a)} there, {_written(b)} here")
    return found


def _properties(checkpoint: Any) -> Mapping[str, Any]:
    value = checkpoint
    for key in ("init_args", "plans", PROPERTIES):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _written(properties: Mapping[str, float]) -> str:
    low, high = (f"{properties[key]:.3g}" for key in BOUNDS)
    return f"clipped to {low} … {high}, mean {properties['mean']:.3g}, deviation {properties['std']:.3g}"
