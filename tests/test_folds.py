"""Folds of whole patients."""

import pytest

from nnunet_igtv.folds import described, groups, groups_of, leaking, splits_by_patient


def patients_of(cases):
    """A description of cases as the converters have it."""
    return groups({case: (patient, fold) for case, (patient, fold) in cases.items()})


@pytest.mark.parametrize(
    "cases",
    [
        {f"c{k}": (f"p{k}", "") for k in range(8)},
        {f"c{k}": ("ANONYMOUS", "") for k in range(8)},  # an anonymiser's one id for all says nothing
        {},
    ],
)
def test_where_nnunets_own_folds_do_nothing_is_said(cases):
    assert patients_of(cases) == {}
    assert described({}) == {}


def test_no_patient_is_on_both_sides_and_each_is_held_out_once():
    cases = patients_of({f"c{k:02d}": (f"p{k // 2}", "") for k in range(24)})
    splits = splits_by_patient(cases, cases)
    assert len(splits) == 5
    for fold in splits:
        assert sorted([*fold["train"], *fold["val"]]) == sorted(cases)
        assert not leaking(fold, cases)
    assert sorted(case for fold in splits for case in fold["val"]) == sorted(cases)


def test_a_split_of_the_source_is_the_only_fold():
    given = patients_of({"c1": ("p1", "train"), "c2": ("p2", "val"), "c3": ("p3", "")})
    assert splits_by_patient(given, given) == [{"train": ["c1", "c3"], "val": ["c2"]}]


def test_a_split_of_the_source_that_divides_a_patient_is_not_taken():
    given = patients_of({"c1": ("p1", "train"), "c2": ("p1", "val"), "c3": ("p2", ""), "c4": ("p2", "val")})
    splits = splits_by_patient(given, given)
    assert len(splits) == 2
    assert not any(leaking(split, given) for split in splits)


def test_one_id_for_all_leaves_the_split_of_the_source():
    given = patients_of({"c1": ("ANONYMOUS", "train"), "c2": ("ANONYMOUS", "val")})
    (split,) = splits_by_patient(given, given)
    assert split == {"train": ["c1"], "val": ["c2"]}
    assert not leaking(split, given)


def test_a_source_that_calls_all_cases_train_divides_nothing():
    given = patients_of({f"c{k}": (f"p{k}", "train") for k in range(6)})
    splits = splits_by_patient(given, given)
    assert len(splits) == 5
    assert all(split["train"] and split["val"] for split in splits)


def test_cases_that_leak_are_named():
    cases = patients_of({"c1": ("p1", ""), "c2": ("p1", ""), "c3": ("p2", "")})
    assert leaking({"train": ["c1", "c3"], "val": ["c2"]}, cases) == ["c2"]
    assert leaking({"train": ["c3", "of another origin"], "val": ["c1", "c2"]}, cases) == []


def test_dataset_json_says_it_in_numbers():
    cases = patients_of({"c1": ("Miller", ""), "c2": ("Miller", "val"), "c3": ("Smith", "")})
    entry = described(cases)
    assert "Miller" not in str(entry)
    assert groups_of({"nnunet_igtv": entry}) == cases
    for other in ({}, {"nnunet_igtv": {}}, {"nnunet_igtv": "0.1"}):
        assert groups_of(other) == {}


def test_cases_that_are_not_known_are_patients_of_their_own():
    cases = patients_of({"c1": ("p1", ""), "c2": ("p1", ""), "c3": ("p2", "")})
    splits = splits_by_patient(["c1", "c2", "other"], cases)
    assert len(splits) == 2
    assert sorted(len(fold["val"]) for fold in splits) == [1, 2]
