"""What the channels of a dataset are, by our own entry or by nnU-Net's names."""

import pytest

from nnunet_igtv.channels import (
    CT_PET,
    CT_PET_OF_ANY_UNIT,
    GREY,
    KEY,
    Channel,
    channels_of,
    described,
    mismatch,
    unknown,
    values_of,
)
from nnunet_igtv.errors import IGTVError


def named(*names):
    return {"channel_names": {str(number): name for number, name in enumerate(names)}}


def order(dataset_json):
    return mismatch(channels_of(dataset_json), CT_PET_OF_ANY_UNIT)


@pytest.mark.parametrize(
    "names",
    [
        *(("CT", "CT"), ("CT", "PET"), ("ct", "pet"), ("CT", "PT"), ("CT", "SUV"), ("CTres", "SUV")),
        *(("CTAC", "FDG-PET"), ("CT_HU", "PET_SUVbw"), ("lowdoseCT", "pet_ac"), ("0_CT", "1_PT")),
        *(("CT", "zscore"), ("noNorm", "PET")),
    ],
)
def test_ct_then_pet_under_the_names_that_people_give(names):
    assert order(named(*names)) is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("PET", "CT"), "channel 0 is PET, not CT"),
        (("SUV", "CT"), "channel 0 is PET, not CT"),
        (("pt", "ct"), "channel 0 is PET, not CT"),
        (("PET", "PET"), "channel 0 is PET, not CT"),
        (("FDG-PET", "zscore"), "channel 0 is PET, not CT"),
        (("zscore", "CT"), "channel 1 is CT, not PET"),
        (("CT",), "the number of channels is 1, not 2"),
        (("CT", "PET", "MR"), "the number of channels is 3, not 2"),
        ((), "the number of channels is 0, not 2"),
    ],
)
def test_another_order_or_number_is_said(names, message):
    assert order(named(*names)) == message


def test_names_that_say_neither_are_known_to_be_unknown():
    assert unknown(channels_of(named("zscore", "noNorm"))) == ["zscore", "noNorm"]
    assert unknown(channels_of(named("PET/CT", "direct SPECT"))) == ["PET/CT", "direct SPECT"]
    assert unknown(channels_of(named("CT", "PET"))) == []
    assert order(named("zscore", "noNorm")) is None


def test_channels_are_counted_by_their_numbers_not_by_their_place_in_the_file():
    assert order({"channel_names": {"1": "PET", "0": "CT"}}) is None
    assert order({"channel_names": {"1": "CT", "0": "PET"}}) == "channel 0 is PET, not CT"
    assert order({"modality": {"0": "PET", "1": "CT"}}) == "channel 0 is PET, not CT"  # older nnU-Net
    assert order({"channel_names": ["CT", "PET"]}) is None


@pytest.mark.parametrize("channels", [CT_PET, GREY, (Channel("CT", "HU", (-1000.0, 400.0)), CT_PET[1])])
def test_our_own_entry_is_read_back(channels):
    assert channels_of(named("CT", "CT") | described(channels)) == channels


def test_our_own_entry_counts_more_than_names():
    swapped = tuple(reversed(CT_PET))
    assert order(named("CT", "CT") | described(CT_PET)) is None
    assert order(described(swapped)) == "channel 0 is PET, not CT"
    assert order(named("CT", "CT") | described(swapped)) == "channel 0 is PET, not CT"


@pytest.mark.parametrize("entry", [described(CT_PET), {"description": f"Voxels: {values_of(CT_PET)}."}])
def test_names_that_contradict_what_we_wrote_are_refused(entry):
    with pytest.raises(IGTVError, match=r"contradicts itself.*channel 0 is PET.*raw/dataset\.json"):
        channels_of(named("PET", "CT") | entry, "raw/dataset.json")


@pytest.mark.parametrize("entry", [{}, None, {"channels": [{"modality": "CT"}]}, {"channels": 3}])
def test_a_damaged_entry_is_refused_by_name(entry):
    with pytest.raises(IGTVError, match=r"nnunet_igtv.*damaged.*raw/dataset\.json"):
        channels_of(named("CT", "CT") | {KEY: entry}, "raw/dataset.json")


@pytest.mark.parametrize("channels", [CT_PET, GREY])
def test_descriptions_of_version_0_1_are_understood(channels):
    assert channels_of(named("CT", "CT") | {"description": f"PET/CT. {values_of(channels)}"}) == channels


def test_units_differ_only_where_both_are_known():
    assert mismatch(GREY, CT_PET) == "channel 0 is in 8-bit grey levels, not in HU"
    assert mismatch(CT_PET_OF_ANY_UNIT, CT_PET) is None
    assert mismatch(CT_PET, CT_PET_OF_ANY_UNIT) is None
