"""Plans and dataset.json that are damaged, or lack a field, or have one of another type, are named."""

import json

import pytest
from small_model import DESCRIPTION, PLANS

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.weights.trust import check_model


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\x80\x81", b"[" * 100_000])
@pytest.mark.parametrize("name", ["plans.json", "dataset.json"])
def test_damaged_files_are_named(model, name, content):
    (model / name).write_bytes(content)
    with pytest.raises(IGTVError, match=name):
        check_model(model)


ARCHITECTURE = "configurations.2d.architecture"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"arch_kwargs": ["a"]}, f"{ARCHITECTURE}.arch_kwargs is a list instead of a dictionary"),
        ({"_kw_requires_import": 5}, f"{ARCHITECTURE}._kw_requires_import is a number instead of a list"),
        ({"_kw_requires_import": [["a"]]}, r"_kw_requires_import\[0\] is a list instead of a text"),
        ({"network_class_name": None}, f"{ARCHITECTURE}.network_class_name is null instead of a text"),
        ([], f"{ARCHITECTURE} is a list instead of a dictionary"),
        (None, f"{ARCHITECTURE} is null instead of a dictionary"),
    ],
)
def test_a_field_of_the_plans_of_another_type_is_named(model, value, message):
    sound = PLANS["configurations"]["2d"]["architecture"]
    architecture = sound | value if isinstance(value, dict) else value
    (model / "plans.json").write_text(
        json.dumps(PLANS | {"configurations": {"2d": {"architecture": architecture}}})
    )
    with pytest.raises(IGTVError, match=rf"{message}.*plans\.json"):
        check_model(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"configurations": None}, "configurations is null instead of a dictionary"),
        ({"configurations": {"2d": 3}}, "configurations.2d is a number instead of a dictionary"),
        ({"configurations": {"2d": {"inherits_from": True}}}, "inherits_from is true or false"),
        ({"dataset_name": {}}, "dataset_name is a dictionary instead of a text"),
    ],
)
def test_plans_of_another_type_are_named(model, change, message):
    (model / "plans.json").write_text(json.dumps(PLANS | change))
    with pytest.raises(IGTVError, match=rf"{message}.*plans\.json"):
        check_model(model)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("channel_names", value) for value in (5, None, "text", True)),
        *(("labels", value) for value in (5, None, "text", True, [])),
        *(("file_ending", value) for value in (5, None, "text", True, [], {})),
    ],
)
def test_a_field_of_the_dataset_of_another_type_is_named(model, field, value):
    (model / "dataset.json").write_text(json.dumps(DESCRIPTION | {field: value}))
    with pytest.raises(IGTVError, match=rf"the field {field} is .*dataset\.json"):
        check_model(model)


@pytest.mark.parametrize("field", DESCRIPTION)
def test_a_field_that_the_dataset_lacks_is_named(model, field):
    fields = {key: value for key, value in DESCRIPTION.items() if key != field}
    (model / "dataset.json").write_text(json.dumps(fields))
    with pytest.raises(IGTVError, match=rf"the field {field} is missing .*dataset\.json"):
        check_model(model)


@pytest.mark.parametrize("ending", ["nii", ".", "/../../x.nii", ".nii/x", ".\0"])
def test_an_ending_that_would_lead_elsewhere_is_refused(model, ending):
    (model / "dataset.json").write_text(json.dumps(DESCRIPTION | {"file_ending": ending}))
    with pytest.raises(IGTVError, match=r"file_ending is no ending of a file.*dataset\.json"):
        check_model(model)
