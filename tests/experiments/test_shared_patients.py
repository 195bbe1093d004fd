"""Nobody is scored whose images a network was pre-trained on."""

import pytest
from workflow_run import script

from nnunet_igtv.dataset_conversion.manifest import manifest_text
from nnunet_igtv.dataset_conversion.record import Row
from nnunet_igtv.errors import IGTVError

SCRIPT = script("shared_patients")


def study(number, patient, key="", split="train", status="converted", **uids):
    return Row(
        key or f"2.25.{patient}{number}", number, f"C_{number}", split, "lucid", patient, "in", "at",
        status=status, identity=uids,
    )  # fmt: skip


def dataset(folder, name, *rows):
    """A dataset with the manifest that a conversion leaves."""
    named = [row.__class__(**vars(row) | {"case": f"{name}_{row.number:04d}"}) for row in rows]
    (folder / f"{name}_manifest.csv").write_text(manifest_text(named))
    return folder / name


def refusal(trained, scored, split="train"):
    try:
        SCRIPT.require_apart(trained, scored, split)
    except IGTVError as error:
        return str(error)
    return ""


def test_patients_of_both_cohorts_are_refused_and_only_their_cases_named(tmp_path):
    gtv = dataset(tmp_path, "G", study(1, "Ada"), study(2, "Bo"), study(3, "Cy"))
    igtv = dataset(tmp_path, "I", study(1, "Cy"), study(2, "Dan"), study(3, "Ada"), study(4, "Ada"))
    other = dataset(tmp_path, "O", study(1, "Eve"), study(2, "Fay"))
    found = refusal(gtv, igtv)
    assert "patients of 2 cases that networks are trained on are scored too" in found
    assert "G_0001 (I_0003, I_0004), G_0003 (I_0001)" in found
    assert str(gtv) in found
    assert "Remedy: take their studies out of this cohort" in found
    assert not any(name in found for name in ("Ada", "Cy", "Bo", "Dan"))
    assert refusal(other, igtv) == ""


def test_what_is_scored_are_the_test_cases_where_there_are_some(tmp_path):
    igtv = dataset(tmp_path, "I", study(1, "Ada"), study(2, "Bo", split="test"), study(3, "Cy", split="test"))
    gtv = dataset(tmp_path, "G", study(1, "Ada"), study(2, "Eve"))
    assert refusal(gtv, igtv, "test") == refusal(igtv, igtv, "test") == ""
    gtv = dataset(tmp_path, "G", study(1, "Bo"), study(2, "Cy", status="failed"))
    assert "G_0001 (I_0002)" in (found := refusal(gtv, igtv, "test"))
    assert "I_0003" not in found


@pytest.mark.parametrize("name", ["key", "ct_series", "pet_series", "structure_set"], ids=range(4))
def test_a_study_or_series_of_both_cohorts_is_of_one_patient_whatever_the_ids(tmp_path, name):
    uid = {name: "2.25.7", "ct_series": "2.25.7" if name == "ct_series" else "2.25.8"}
    gtv = dataset(tmp_path, "G", study(1, "Ada", **uid), study(2, "Bo"))
    igtv = dataset(
        tmp_path, "I", study(1, "Cy", **uid | ({"ct_series": "2.25.9"} if name != "ct_series" else {}))
    )
    assert "G_0001 (I_0001)" in refusal(gtv, igtv)


@pytest.mark.parametrize(
    "rows",
    [
        [study(1, "Ada"), study(2, "Ada")],  # one id for all, which tells nobody apart
        [
            study(1, "lucid/1", key="lucid/1"),
            study(2, "lucid/2", key="lucid/2"),
        ],  # files, of unknown patients
        [study(1, ""), study(2, "")],
    ],
    ids=range(3),
)
def test_who_is_not_known_is_not_refused(tmp_path, rows):
    gtv, igtv = dataset(tmp_path, "G", *rows), dataset(tmp_path, "I", *rows)
    assert refusal(gtv, igtv) == ""


def test_a_dataset_without_a_manifest_is_named(tmp_path, capsys):
    igtv = dataset(tmp_path, "I", study(1, "Ada"))
    assert refusal(tmp_path / "G", igtv) == ""
    assert "G_manifest.csv is not there: nobody knows" in capsys.readouterr().out
