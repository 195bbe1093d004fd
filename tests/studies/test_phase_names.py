"""The phase in a structure's name is read as it is written: never a part of a number, never by chance."""

import pytest

from nnunet_igtv.dicom.phases import MILLISECONDS, NUMBER, Moment
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.studies.phase_names import numbers_in, readings

CHANCE = "by chance"


def read(pattern, name):
    return [CHANCE if each.is_part else each.number + each.direction for each in readings(pattern, name)]


@pytest.mark.parametrize(
    ("pattern", "name", "found"),
    [
        ("GTV_{phase}", "GTV_10", ["10"]),
        ("GTV_{phase}", "gtv-010", ["010"]),
        ("GTV_{phase}", "GTV 12.5 %", ["12.5"]),
        ("GTV_{phase}", "GTV_1.0", ["1.0"]),  # not 10
        ("GTV_{phase}", "GTV_20 In", ["20In"]),
        ("GTV_{phase}", "GTV_10_inner", []),
        ("GTV_{phase}", "GTV_1_0", []),  # nor is this 10
        ("GTV_{phase}", "GTV1_0", []),
        ("GTV_{phase}", "PTV_10", []),
        ("GTV_{phase}%", "GTV_20%", ["20"]),
        ("{phase}_GTV", "10 GTV", ["10"]),
        # expressions: the whole number, whatever a wildcard could take of it
        ("GTV.*{phase}", "GTV_10", ["10"]),
        ("GTV.*{phase}", "GTV_010", ["010"]),
        ("GTV.*{phase}", "GTV_12.5", ["12.5"]),
        ("GTV_{phase}.*", "GTV_10", ["10"]),
        ("GTV_{phase}.*", "GTV_10.1", ["10.1"]),
        ("GTV[pn]{phase}", "GTV p_10", ["10"]),
        ("GTV_0*{phase}", "GTV_010", ["010"]),
        (r"GTV.*(?<!\d){phase}", "GTV_10", ["10"]),
        ("(GTV_{phase}|GTV{phase}_new)", "GTV10_new", ["10"]),
        ("GTV.*{phase}.*", "GTV_2_10", ["2", "10"]),  # open
        # the number of a tumour before it
        ("GTV1_{phase}", "GTV1_10", ["10"]),
        ("GTV1{phase}", "GTV1_10", ["10"]),
        ("GTV1{phase}", "GTV110", ["10"]),
        ("GTV[12]{phase}", "GTV110", ["10"]),
        ("GTV1_{phase}", "GTV_10", []),
        ("GTV1_{phase}", "GTV1.10", ["10"]),
        ("GTV_1.{phase}", "GTV_1.10", ["10"]),
        ("GTV_1.{phase}", "GTV_12.5", []),
        (r"GTV_{phase}\.\d", "GTV_10.1", ["10"]),
        ("GTV_1.*{phase}", "GTV_1_10", ["10"]),
        ("GTV_1.*{phase}", "GTV_10", [CHANCE]),
        ("GTV_1.*{phase}", "GTV_12.5", [CHANCE]),
        # several places hold one phase
        ("T{phase}_GTV_{phase}", "T10_GTV_10", ["10"]),
        ("T{phase}_GTV_{phase}", "T10_GTV_20", []),
    ],
)
def test_the_number_in_the_place_of_the_phase_is_a_whole_one(pattern, name, found):
    assert list(dict.fromkeys(read(pattern, name))) == found


def test_a_pattern_that_is_no_expression_is_shown_as_it_was_given():
    with pytest.raises(IGTVError, match=r"'GTV\[\{phase\}' is not a regular expression"):
        readings("GTV[{phase}", "GTV_10")


@pytest.mark.parametrize(
    ("spelled", "moment", "same"),
    [
        *((spelled, Moment("", 0), True) for spelled in ("0", "00", "000", "0.0", "0%", "0.0 %")),
        *((spelled, Moment("", 10), True) for spelled in ("10", "010", "10.0", "10%")),
        *((spelled, Moment("", 10), False) for spelled in ("1", "1.0", "100", "10.5")),
        ("5%", Moment("", 50), False),
        ("50%", Moment("", 5), False),
        ("12.5", Moment("", 12.5), True),
        ("33.3", Moment("", 100 / 3), True),
        *((spelled, Moment("", 12.5), False) for spelled in ("12", "13", "125", "5", "2.5")),
        *((spelled, Moment("", 1, NUMBER), True) for spelled in ("1", "01", "001")),
        *((spelled, Moment("", 1, NUMBER), False) for spelled in ("1.0", "1%", "10", "0")),
        *((spelled, Moment("", 10, NUMBER), False) for spelled in ("1.0", "10.0", "10%", "100")),
        ("400", Moment("", 400, MILLISECONDS), True),
        ("40", Moment("", 400, MILLISECONDS), False),
    ],
)
def test_which_numbers_are_those_of_a_moment(spelled, moment, same):
    (number,) = numbers_in(f"GTV_{spelled}")
    assert number.has_number_of(moment) is same
