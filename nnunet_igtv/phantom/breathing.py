"""Breathing: where things are at each moment of the cycle."""

from dataclasses import dataclass

import numpy as np

PHASES = 20  # moments of equal duration that stand for the cycle
LUNG_APEX = 150.0  # mm above the heart's centre; what lies this high does not move
MAX_AMPLIFICATION = 1.5  # of the tumour's motion, at the diaphragm


@dataclass(frozen=True)
class Breathing:
    """A regular breath. Lengths in mm; 0 is end-exhale, inhaling moves things towards the feet.

    Attributes:
        amplitude: the tumour's way from end-exhale to end-inhale along the body axis.
        forward: the tumour's way towards the chest's front, as a part of `amplitude`.
        lag: phase by which the forward motion follows the other (hysteresis), in cycles.
        power: exponent n of the trace sin^(2n): the larger, the longer the rest at end-exhale
            (Lujan et al., Med Phys 26:715, 1999).
        tumour_height: the tumour's height at end-exhale.
    """

    amplitude: float
    forward: float
    lag: float
    power: int
    tumour_height: float

    def trace(self, phase: float) -> float:
        """Inhaled part of the breath, 0 to 1, at a moment of the cycle (0 to 1)."""
        return float(np.sin(np.pi * phase) ** (2 * self.power))

    def tumour_shift(self, phase: float) -> np.ndarray:
        """Displacement (x, y, z) of the tumour from its place at end-exhale, mm; it moves as a rigid body."""
        return np.array(
            [
                0.0,
                -self.forward * self.amplitude * self.trace(phase - self.lag),
                -self.amplitude * self.trace(phase),
            ]
        )

    def descent(self, height: np.ndarray | float, phase: float) -> np.ndarray:
        """How far the lung has come down at a height, mm: at the tumour's as far as it, at the apex not."""
        share = (LUNG_APEX - np.asarray(height)) / (LUNG_APEX - self.tumour_height)
        return self.amplitude * np.clip(share, 0, MAX_AMPLIFICATION) * self.trace(phase)


def phases() -> np.ndarray:
    """The moments that stand for the cycle, each for the same time."""
    return (np.arange(PHASES) + 0.5) / PHASES
