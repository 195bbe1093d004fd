"""Breathing: displacement of tumour, lung and diaphragm at each phase of the cycle."""

from dataclasses import dataclass

import numpy as np

PHASES = 20  # equally long moments at which the cycle is sampled
LUNG_APEX = 150.0  # mm above the heart's centre; at this height and above, nothing moves
MAX_AMPLIFICATION = 1.5  # of the tumour's motion, at the diaphragm


@dataclass(frozen=True)
class Breathing:
    """Regular breathing. Lengths in mm; phase 0 is end-exhale, inhaling moves tissue towards the feet.

    Attributes:
        amplitude: displacement of the tumour from end-exhale to end-inhale along the body axis.
        forward: its displacement towards the front, as a fraction of `amplitude`.
        lag: phase by which the forward motion follows the axial one (hysteresis), in cycles.
        power: exponent n of the trace sin^(2n): the larger it is, the longer the tumour stays near its
            position at end-exhale (Lujan et al., Med Phys 26:715, 1999).
        tumour_height: the tumour's height at end-exhale.
    """

    amplitude: float
    forward: float
    lag: float
    power: int
    tumour_height: float

    def trace(self, phase: float) -> float:
        """Inhaled fraction, 0 at end-exhale to 1 at end-inhale, at a phase of the cycle (0 to 1)."""
        return float(np.sin(np.pi * phase) ** (2 * self.power))

    def tumour_shift(self, phase: float) -> np.ndarray:
        """Displacement (x, y, z) of the tumour from its position at end-exhale, mm; it moves rigidly."""
        return np.array(
            [
                0.0,
                -self.forward * self.amplitude * self.trace(phase - self.lag),
                -self.amplitude * self.trace(phase),
            ]
        )

    def descent(self, height: np.ndarray | float, phase: float) -> np.ndarray:
        """Displacement of the lung towards the feet at a height, mm, relative to end-exhale.

        It is the tumour's displacement at the tumour's height, falls linearly to 0 at the apex, and grows
        below the tumour to at most `MAX_AMPLIFICATION` times that of the tumour.
        """
        share = (LUNG_APEX - np.asarray(height)) / (LUNG_APEX - self.tumour_height)
        return self.amplitude * np.clip(share, 0, MAX_AMPLIFICATION) * self.trace(phase)


def phases() -> np.ndarray:
    """The phases at which the cycle is sampled, each standing for the same time."""
    return (np.arange(PHASES) + 0.5) / PHASES
