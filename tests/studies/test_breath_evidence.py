"""Moments are those of a breath only where something more than their numbers says so."""

from copy import deepcopy
from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from nnunet_igtv.dicom.series import group_series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.studies.phases import find_4d, the_4d


def series_of(patient, *changes, one_series=False):
    """The CT of a small study once for each of some dictionaries of attributes."""
    images, common = [], generate_uid()
    for values in changes:
        uid = common if one_series else generate_uid()
        for image in deepcopy(patient.ct):
            image.SeriesInstanceUID, image.SOPInstanceUID = uid, generate_uid()
            for name, value in values.items():
                setattr(image, name, value)
            images.append(image)
    return group_series((Path(f"{k}.dcm"), image) for k, image in enumerate(images))


def described(*texts):
    return [{"SeriesDescription": text} for text in texts]


def each(name, values, **common):
    return [{name: value} | common for value in values]


NO_BREATHS = {
    "seconds": described("Thorax art. Phase 30s", "Thorax ven. Phase 70s"),
    "seconds, apart": described("ART phase 25 s 1.5 B31f", "PV phase 60 s 1.5 B31f"),
    "dose": described("CT 100% dose", "CT 50% dose"),
    "dose of three": described("CT 100%", "CT 75%", "CT 50%"),
    "dose of one": described("CT 100%", "CT 100%"),
    "dose of five": described(*(f"CT {p}%" for p in (10, 20, 30, 50, 100))),
    "dose of four, one in two": described("CT 25%", "CT 50%", "CT 75%", "CT 100%"),
    "FBP and IR": described("Thorax FBP 0%", "Thorax IR 60%"),
    "two of FBP": described("FBP 0%", "FBP 50%"),
    "strengths without a name": described("Lung 30%", "Lung 40%", "Lung 50%"),
    "thicknesses": described("Thorax ven. Phase 1.0 Br40", "Thorax ven. Phase 2.0 Br40"),
    "whole thicknesses": described("Phase 3 Br40", "Phase 5 Br40"),
    "two numbers": described("Phase 30", "Phase 70"),
    "two percentages": described("CT 20%", "CT 70%"),
    "different words": described("CT bone 0%", "CT lung 50%"),
    "liver": described(*(f"Phase {k} of 4" for k in range(1, 5))),
    "liver, plain": described(*(f"Phase {k}" for k in range(1, 5))),
    "liver from zero": described(*(f"Phase {k}" for k in range(4))),
    "agents": described("KM 0%", "KM 50%"),
    "held": described("breath-hold 0%", "breath-hold 50%"),
    "heart": described(*(f"BestDiast {p}%" for p in (70, 75, 80))),
    "heart, whole": described(*(f"ECG gated {p}%" for p in range(0, 100, 10))),
    "heart, by its attribute": each("NominalPercentageOfCardiacPhase", range(0, 100, 10)),
    "heart, by its protocol": [
        {"SeriesDescription": f"Thorax {p}%", "ProtocolName": "Cardiac CTA"} for p in range(0, 100, 10)
    ],
    "overlaps": described("Lung overlap 0%", "Lung overlap 50%"),
    "heart, by its gate": [
        {"SeriesDescription": f"Gated {p}%", "CardiacSynchronizationTechnique": "RETROSPECTIVE"}
        for p in range(0, 100, 10)
    ],
    "heart, by its trigger": each("TriggerTime", range(0, 900, 90)),
    "energies": described("DE blend 0%", "DE blend 50%"),
    "two kernels": [
        {"SeriesDescription": f"CT {p}%", "ConvolutionKernel": kernel}
        for p, kernel in ((0, "B30f"), (50, "B60f"))
    ],
    "two voltages": [{"SeriesDescription": f"CT {p}%", "KVP": kvp} for p, kvp in ((0, 80), (50, 140))],
    "two agents": [
        {"SeriesDescription": f"CT {p}%", "ContrastBolusAgent": agent}
        for p, agent in ((0, ""), (50, "Iomeprol"))
    ],
    "native and contrast": each("AcquisitionNumber", (1, 2)),
    "held, with a belt": each(
        "AcquisitionNumber",
        (1, 2),
        RespiratorySignalSource="BELT",
        RespiratoryMotionCompensationTechnique="BREATH_HOLD",
    ),
    "six acquisitions far apart": each("AcquisitionNumber", (1, 2, 3, 30, 40, 50)),
    "native, arterial, venous": each("AcquisitionNumber", (1, 2, 3)),
    "five of the liver": each("AcquisitionNumber", range(1, 6)),
    "two in time": each("TemporalPositionIdentifier", (1, 2), SeriesDescription="Thorax"),
    "perfusion": each("TemporalPositionIdentifier", range(1, 21), SeriesDescription="Perfusion 4D"),
    "dynamic with an agent": each("TemporalPositionIdentifier", range(1, 21), ContrastBolusAgent="Iomeprol"),
    "dynamic over a minute": [
        {"TemporalPositionIdentifier": k + 1, "AcquisitionTime": f"1100{3 * k:02d}"} for k in range(20)
    ],
    "dynamic, by its trigger": each("TriggerTime", range(0, 60000, 3000)),
    "in words of breathing, apart in time": [
        {"AcquisitionNumber": k, "SeriesDescription": "4D", "AcquisitionTime": time}
        for k, time in ((1, "110000"), (2, "110100"))
    ],
}


@pytest.mark.parametrize("one_series", [False, True], ids=["apart", "together"])
@pytest.mark.parametrize("case", NO_BREATHS)
def test_what_is_no_breath(patient, case, one_series):
    series = series_of(patient(), *NO_BREATHS[case], one_series=one_series)
    assert find_4d(series) == []
    with pytest.raises(IGTVError, match="no phases of the breath can be recognised"):
        the_4d(series)


BREATHS = {
    "respiratory phase": each("NominalPercentageOfRespiratoryPhase", (20, 70)),
    "extremes": described("0%", "50%"),
    "thirds": described("Thorax 0 %", "Thorax 33 %", "Thorax 67 %"),
    "quarters": described("T00", "T25%", "T50", "T75%"),
    "gated": described("Gated, 20%A", "Gated, 70%A"),
    "in words of four dimensions": described("4D Phase 20", "4D Phase 70"),
    "in Spanish": described("respiración 20%", "respiración 70%"),
    "in Image Comments": [{"SeriesDescription": "4D", "ImageComments": f"{p} %"} for p in (20, 70)],
    "in Image Type": [
        {"SeriesDescription": f"CT {p}%", "ImageType": ["DERIVED", "SECONDARY", "RESP"]} for p in (20, 70)
    ],
    "directions": described("Thorax 100% In", "Thorax 20% Ex"),
    "directions in German": described("Thorax 100% Inspiration", "Thorax 0% Exspiration"),
    "compensated": each(
        "NominalPercentageOfCardiacPhase", (20, 70), RespiratoryMotionCompensationTechnique="GATING"
    ),
    "a field for the heart": each(
        "NominalPercentageOfCardiacPhase", range(0, 100, 10), SeriesDescription="Resp"
    ),
    "with an agent": described(*(f"CT KM {p}%" for p in range(0, 100, 10))),
    "at low dose": described(*(f"low dose {p}%" for p in range(0, 100, 10))),
    "from ten to a hundred": described(*(f"T={p}%" for p in range(10, 101, 10))),
    "delays of a trigger": described(*(f"TRIGGER_DELAY {p}%" for p in (0, 25, 50, 75))),
    "beside a level": described(*(f"4D AIDR 3D {p}%" for p in (20, 70))),
    "of the lung's window": described(*(f"Parenchyme 4D Phase {p}" for p in (20, 70))),
    "to a hundred": described(*(f"{p}%" for p in range(0, 101, 10))),
    "numbered": described(*(f"Phase {k}" for k in range(1, 11))),
    "four acquisitions of ten missing": each("AcquisitionNumber", (1, 2, 3, 7, 9, 10)),
    "six acquisitions": each("AcquisitionNumber", range(1, 7)),
    "two acquisitions, gated": each("AcquisitionNumber", (1, 2), SeriesDescription="Gated"),
    "three triggers": each("TriggerTime", (0, 1300, 2600)),
}


@pytest.mark.parametrize("one_series", [False, True], ids=["apart", "together"])
@pytest.mark.parametrize("case", BREATHS)
def test_what_is_a_breath(patient, case, one_series):
    (found,) = find_4d(series_of(patient(), *BREATHS[case], one_series=one_series))
    assert len(found.phases) == len(BREATHS[case])


def test_a_breath_beside_scans_with_contrast(patient):
    """The phases of the breath are found, and the others are none of them."""
    own = patient()
    scans = series_of(own, *each("AcquisitionNumber", (1, 2), SeriesDescription="Thorax"), one_series=True)
    breath = series_of(own, *described("Gated, 0%", "Gated, 50%"))
    other = series_of(own, *described("Thorax art. Phase 30s", "Thorax ven. Phase 70s", "CT 50% dose"))
    (found,) = find_4d([*scans, *breath, *other])
    assert [s.description for s in found.series] == ["Gated, 0%", "Gated, 50%"]
    assert len(scans) == 2  # still apart: each can be chosen


def test_one_series_of_phases_beside_one_of_scans(patient):
    own = patient()
    scans = series_of(own, *each("AcquisitionNumber", (1, 2), SeriesDescription="Thorax"), one_series=True)
    percents = [{"SeriesDescription": "4D", "ImageComments": f"{p} %"} for p in (0, 50)]
    (found,) = find_4d([*scans, *series_of(own, *percents, one_series=True)])
    assert [str(phase) for phase in found.phases] == ["0 %", "50 %"]
    assert {s.description for s in found.series} == {"4D"}


def test_what_was_told_and_not_believed_is_said(patient):
    with pytest.raises(IGTVError, match="Series Description tells 20 %, 70 %") as raised:
        the_4d(series_of(patient(), *described("CT 20%", "CT 70%")))
    assert "0020,9245" in raised.value.remedy
