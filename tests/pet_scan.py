"""PET headers from the physics of a scan, so that the right factor is known without the code under test."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
from pydicom.dataset import Dataset

F18, GA68, C11, RB82, O15 = 6586.2, 4062.6, 1221.8, 75.5, 122.2
CU64, ZR89, I124 = 45_720.0, 282_240.0, 360_806.0
GE, SIEMENS, PHILIPS = "GE MEDICAL SYSTEMS", "SIEMENS", "Philips Medical Systems"


def day(moment):
    return moment.strftime("%Y%m%d")


def clock(moment):
    return moment.strftime("%H%M%S.%f")


@dataclass
class Scan:
    """A PET of several bed positions, one slice each.

    Injected `uptake_min` before `began`; decay corrected to `began` (START), to the injection (ADMIN) or not
    (NONE).
    """

    uptake_min: float = 60.0
    half_life: float = F18
    dose: float = 350e6
    weight: float = 70.0
    decay: str = "START"
    began: datetime = datetime(2024, 3, 5, 10, 0)
    beds_s: tuple[float, ...] = (0.0, 180.0, 360.0)
    frame_s: float = 180.0
    vendor: str = SIEMENS
    words: str = ""
    changes: dict = field(default_factory=dict)

    @property
    def constant(self):
        return np.log(2) / self.half_life

    @property
    def injected(self):
        return self.began - timedelta(minutes=self.uptake_min)

    @property
    def factors(self):
        """Body weight in g over the activity in Bq to which each slice refers, by direct integration."""
        full = self.weight * 1000 / self.dose
        if self.decay == "ADMIN":
            return np.full(len(self.beds_s), full)
        if self.decay == "START":
            return np.full(len(self.beds_s), full * np.exp(self.constant * self.uptake_min * 60))
        t = np.linspace(0, self.frame_s, 100_001)
        means = [np.exp(-self.constant * (self.uptake_min * 60 + bed + t)).mean() for bed in self.beds_s]
        return full / np.array(means)

    @property
    def middle_s(self):
        """When, in a frame, the activity is its mean: by bisection."""
        mean = np.exp(-self.constant * np.linspace(0, self.frame_s, 100_001)).mean()
        low, high = 0.0, self.frame_s
        for _ in range(60):
            half = (low + high) / 2
            low, high = (half, high) if np.exp(-self.constant * half) > mean else (low, half)
        return low

    @property
    def decay_factors(self):
        """What each slice was multiplied by, from the mean of its frame to `began`, by direct integration."""
        t = np.linspace(0, self.frame_s, 100_001)
        return [1 / np.exp(-self.constant * (bed + t)).mean() for bed in self.beds_s]

    def headers(self):
        return [self._header(bed) for bed in self.beds_s]

    def _header(self, bed):
        header, item = Dataset(), Dataset()
        started = self.began + timedelta(seconds=bed)
        header.Manufacturer, header.Modality = self.vendor, "PT"
        header.Units, header.DecayCorrection = "BQML", self.decay
        header.CorrectedImage = ["NORM", "ATTN", "SCAT"] + (["DECY"] if self.decay != "NONE" else [])
        header.StudyDate = header.SeriesDate = day(self.began)
        header.SeriesTime, header.PatientWeight = clock(self.began), self.weight
        header.AcquisitionDate, header.AcquisitionTime = day(started), clock(started)
        header.ActualFrameDuration = int(self.frame_s * 1000)
        header.FrameReferenceTime = f"{(bed + (0 if self.vendor == GE else self.middle_s)) * 1000:.3f}"
        header.RescaleSlope, header.RescaleIntercept = 1, 0
        item.RadionuclideTotalDose, item.RadionuclideHalfLife = self.dose, self.half_life
        item.RadiopharmaceuticalStartTime = clock(self.injected)
        item.RadiopharmaceuticalStartDateTime = day(self.injected) + clock(self.injected)
        if self.words:
            item.Radiopharmaceutical = self.words
        header.RadiopharmaceuticalInformationSequence = [item]
        for name, value in self.changes.items():
            put(header, name, value)
        return header


def put(header, name, value):
    """Set an attribute of a header or of its injection, or a private one ((group, element)); None removes."""
    target = header
    of_the_injection = isinstance(name, str) and name.startswith(("Radionuclide", "Radiopharmaceutical"))
    if of_the_injection and name != "RadiopharmaceuticalInformationSequence":
        target = header.RadiopharmaceuticalInformationSequence[0]
    if isinstance(name, tuple):
        target.add_new(name, *value)
        return
    target.pop(name, None)
    if value is not None:
        setattr(target, name, value)


def coded(value, meaning):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return [item]
