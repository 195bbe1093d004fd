"""Numbers in descriptions: those of moments of a breath, and those of everything else that is numbered."""

import pytest

from nnunet_igtv.dicom.breath_words import tells_breath
from nnunet_igtv.dicom.phases import NUMBER, Moment, moments_in


@pytest.mark.parametrize(
    "text",
    [
        # seconds after the injection
        "Thorax art. Phase 30s",
        "Thorax ART phase 25 s 1.5 B31f",
        "Abdomen phase 30 sec",
        "Abdomen Phase 70 Sek.",
        "phase 70 seg",
        "phase 30''",
        'phase 30"',
        "phase 5 min",
        "T30s",
        "T 40 sec",
        # thickness, kernel, energy, volume of contrast medium
        "Thorax ven. Phase 1.0 Br40",
        "Thorax Phase  1.5  Br60",
        "Thorax Phase 0.75",
        "Thorax Phase 3 Br40",
        "Thorax Phase 5 B31f",
        "Thorax Phase 5 mm",
        "Phase 80 kV",
        "Phase 70keV",
        "Phase 80 ml",
        # phases of a contrast medium
        "PV phase 60",
        "portal venous phase 70",
        "portalvenöse Phase 70",
        "Spätphase 90",
        "späte Phase 90",
        "late phase 90",
        "delayed phase 10",
        "native Phase 10",
        "nativ Phase 1",
        "KM Phase 30",
        "contrast phase 2",
        "Phase 2 of 4 multiphase liver",
        "multifásico phase 2",
        "tardive phase 90",
        "veineuse phase 70",
        "parenchymal phase 70",
        "Parenchymphase 70",
        "fase parenquimatosa 70",
        "venosa phase 70",
        "4D ven. Phase 70",
        # doses and reconstructions
        "CT 100% dose",
        "CT 50 % of full dose",
        "50% der Dosis",
        "Dosis 50%",
        "dose=25%",
        "25 % dosi",
        "Thorax IR 60%",
        "Thorax AIDR 50%",
        "Thorax ASiR-V 50%",
        "0-90%",
        "0 - 90%",
        "0% - 90 %",
        "0 to 90%",
        "blend 50%",
        "50 % mixed",
        "M_0.5",
        # the heart
        "75% RR",
        "40 % R-R",
        "BestDiast 70%",
        "BestSyst 35 %",
        "Diastole 70%",
        "cardiac gated 75%",
        "ECG gated 40%",
        "EKG-getriggert 40 %",
        "Herz 70 %",
        # a word that is no direction
        "Thorax 3 in Inspiration",
        "Thorax 5 in tiefer Inspiration",
        # of no moment at all
        "Ave 0-90%",
        "thorax 120 kV",
        "150%",
        "inter 30",
    ],
)
def test_numbers_of_other_things(text):
    assert moments_in([text]) == [None]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("Thorax Phase 40 %", Moment("", 40)),
        ("Thorax Phase 40", Moment("", 40)),
        ("Phase 0.0", Moment("", 0)),
        ("Phase 12.5", Moment("", 12.5)),
        ("Phase 12.5%", Moment("", 12.5)),
        ("phase 40% Ex", Moment("Ex", 40)),
        ("T=40% In", Moment("In", 40)),
        ("phase 3 of 10", Moment("", 3, NUMBER)),
        ("4D Phase 40 B30f", Moment("", 40)),
        ("4D Phase 40 S2", Moment("", 40)),
        ("4D Phase 5 B30f", Moment("", 5)),
        ("4D KM Phase 40", Moment("", 40)),
        ("4D-CT mit KM 40 %", Moment("", 40)),
        ("4D nativ 40%", Moment("", 40)),
        ("Resp 2.0 B30f 40% Ex", Moment("Ex", 40)),
        ("Resp-gated cardiac 40%", Moment("", 40)),
        ("Atemphase 40 %", Moment("", 40)),
        ("40 % Exspiration", Moment("Ex", 40)),
        ("40 % inspiration", Moment("In", 40)),
        ("40% espiración", Moment("Ex", 40)),
        ("inspiratoire 40 %", Moment("In", 40)),
        ("40 % espiratorio", Moment("Ex", 40)),
        ("Low dose gated 40%", Moment("", 40)),
        ("low-dose 40%", Moment("", 40)),
        ("4D FBP 40%", Moment("", 40)),
        ("T=0% ASIR 40%", Moment("", 0)),
        ("Gated 0% iDose4", Moment("", 0)),
        ("Gated 40% SAFIRE 3", Moment("", 40)),
        # the level of a reconstruction before the phase
        ("4D Lung AIDR 3D 40%", Moment("", 40)),
        ("4D AIDR3D 40%", Moment("", 40)),
        ("RESP iDose 4 40%", Moment("", 40)),
        ("4D SAFIRE 3 40%", Moment("", 40)),
        ("4D IMR1 40%", Moment("", 40)),
        ("4D ASiR-V 30% 40%", Moment("", 40)),
        # no delay after an injection
        ("TRIGGER_DELAY 25%", Moment("", 25)),
        # the lung's window, no phase of a contrast medium
        ("Poumon Parenchyme 4D Phase 10", Moment("", 10)),
        ("Phase 10 Lung Parenchyma 4D", Moment("", 10)),
        # a thickness or a date, no range
        ("Thorax 4D 3.0 - 40%", Moment("", 40)),
        ("4D 2024-03-05 - 40%", Moment("", 40)),
        ("Study 1 - 40%", Moment("", 40)),
        ("amplitude 80 In", Moment("In", 80)),
        ("80In B30f", Moment("In", 80)),
        ("P4^P100^S300^I00003, Gated, 40.0%B", Moment("", 40)),
        ("EX 20%", Moment("Ex", 20)),
        ("80In", Moment("In", 80)),
        ("40 % inhale", Moment("In", 40)),
        ("ASiR 50% T10", Moment("", 10)),
    ],
)
def test_moments_of_a_breath(text, moment):
    assert moments_in([text]) == [moment]


@pytest.mark.parametrize(
    ("text", "tells"),
    [
        ("Gated, 40.0%B", True),
        ("4D-CT", True),
        ("4DCT Thorax", True),
        ("Thorax 4D_Phase_30", True),
        ("RT_Resp 2.0", True),
        ("free breathing 40%", True),
        ("Atemtriggerung", True),
        ("respiración", True),
        ("respiratoire", True),
        ("respiratorio", True),
        ("4D-CT mit KM", True),
        ("breath-hold", False),
        ("Gated, DIBH", False),
        ("Atemanhalt", False),
        ("respirazione in apnea", False),
        ("Thorax in Inspiration", False),
        ("4D perfusion", False),
        ("4D CTA", False),
        ("ECG gated", False),
        ("cardiac 4D", False),
        ("4D ven. Phase", False),
        ("corresponding", False),
        ("CT 3D", False),
        ("", False),
    ],
)
def test_whether_a_text_speaks_of_breathing(text, tells):
    assert tells_breath(text) is tells
