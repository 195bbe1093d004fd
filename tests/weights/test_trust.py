"""Models of unknown origin: what would run code is refused before anything is loaded."""

import errno
import json
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch

from nnunet_igtv.commands.main import main
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.plans import NETWORK
from nnunet_igtv.weights import trust
from nnunet_igtv.weights.pickled import check_pickle
from nnunet_igtv.weights.trust import check_model


class Call:
    def __init__(self, marker):
        self.line = f"touch {marker}"

    def __reduce__(self):
        return os.system, (self.line,)


PLANS = {
    "dataset_name": "Dataset902_IGTV",
    "configurations": {"2d": {"architecture": {"network_class_name": NETWORK, "arch_kwargs": {}}}},
}

DESCRIPTION = {
    "channel_names": {"0": "CT", "1": "CT"},
    "labels": {"background": 0, "IGTV": 1},
    "file_ending": ".nii.gz",
}


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(PLANS))
    (folder / "dataset.json").write_text(json.dumps(DESCRIPTION))
    save(folder, logging={"dice": [np.float64(0.5)]})
    return folder


def save(folder, zipped=True, **more):
    content = {
        "network_weights": {"w": torch.ones(2)},
        "trainer_name": "T",
        "init_args": {"configuration": "2d"},
    }
    path = folder / "fold_0" / "checkpoint_final.pth"
    torch.save(content | more, path, _use_new_zipfile_serialization=zipped)


def test_a_sound_model_is_described(model, capsys):
    facts = check_model(model)
    assert (facts.dataset, facts.labels) == ("Dataset902_IGTV", ("background", "IGTV"))
    assert facts.checkpoints[0].trainer == "T"
    assert main(["check-model", str(model)]) == 0
    assert facts.checkpoints[0].digest in capsys.readouterr().out


@pytest.mark.parametrize("zipped", [True, False])
def test_a_call_in_a_checkpoint_never_runs(model, tmp_path, capsys, zipped):
    save(model, zipped, remark=Call(tmp_path / "executed"))
    assert main(["check-model", str(model)]) == 1
    assert "holds more than data" in capsys.readouterr().err
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_call_in_a_pickle_never_runs(model, tmp_path, protocol):
    (model / "postprocessing.pkl").write_bytes(pickle.dumps([1, Call(tmp_path / "executed")], protocol))
    with pytest.raises(IGTVError, match=r"would call (posix|nt)\.system"):
        check_model(model)
    assert not (tmp_path / "executed").exists()


def test_nnunets_own_postprocessing_is_taken(tmp_path):
    from nnunetv2.postprocessing.remove_connected_components import (
        remove_all_but_largest_component_from_segmentation as largest,
    )
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    for protocol in range(6):
        (tmp_path / "p.pkl").write_bytes(pickle.dumps(([largest], [{"labels_or_regions": 1}]), protocol))
        check_pickle(tmp_path / "p.pkl")
    # as determine_postprocessing writes it: the labels are NumPy's numbers
    labels = LabelManager({"background": 0, "IGTV": 1, "GTV": 2}, None).foreground_labels
    assert isinstance(labels[0], np.integer)
    regions = [largest] * 3, [{"labels_or_regions": label} for label in (labels, labels[0], (1, 2))]
    for protocol in (3, 4, 5):  # nnU-Net writes Python's default
        (tmp_path / "p.pkl").write_bytes(pickle.dumps(regions, protocol))
        check_pickle(tmp_path / "p.pkl")
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(([], [])))
    check_pickle(tmp_path / "p.pkl")


IN_NNUNET = b"nnunetv2.postprocessing.remove_connected_components\n"
LARGEST = b"c" + IN_NNUNET + b"remove_all_but_largest_component_from_segmentation\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"c" + IN_NNUNET + b"load_pickle\n(Vother.pkl\ntR.", "load_pickle"),
        (b"c" + IN_NNUNET + b"load_pickle\n.", "load_pickle"),  # nnU-Net would call it
        (b"c" + IN_NNUNET + b"save_json\n.", "save_json"),
        (b"(i" + IN_NNUNET + b"load_pickle\n.", "load_pickle"),
        (b"cnnunetv2.postprocessing\nremove_connected_components\n.", "would call"),
        (LARGEST + b"(tR.", "would call .*remove_all_but_largest"),
        (LARGEST + b"(I1\nt\x81.", "no.* examined"),  # NEWOBJ
        (LARGEST + b")}\x92.", "no.* examined"),  # NEWOBJ_EX
        (b"(" + LARGEST + b"I1\no.", "would call .*remove_all_but_largest"),  # OBJ
        (b"(I1\ni" + LARGEST[1:] + b".", "would call .*remove_all_but_largest"),  # INST
        (LARGEST + b"}(V__code__\nI1\nub.", "no.* examined"),  # BUILD
        (LARGEST + b"N}(V__defaults__\nI1\nu\x86b.", "no.* examined"),
        (b"cnumpy\ndtype\n(VO\nI00\nI01\ntR.", "numpy.dtype"),
        (b"cnumpy._core.multiarray\nscalar\n(VO\nI01\ntR.", "numpy.scalar"),
        (b"cnumpy\ndtype\n(VO\nt\x81.", "no.* examined"),
        (b"cnumpy\nload\n.", "numpy.load"),
    ],
)
def test_a_pickle_refers_to_one_function_and_never_calls_it(model, content, message):
    (model / "postprocessing.pkl").write_bytes(content)
    with pytest.raises(IGTVError, match=rf"{message}.*postprocessing\.pkl"):
        check_model(model)


@pytest.mark.parametrize(
    "architecture",
    [
        {"network_class_name": "subprocess.check_call", "arch_kwargs": {"args": ["true"]}},
        {"network_class_name": "os.system"},
        {"network_class_name": NETWORK, "arch_kwargs": {"a": "os.system"}, "_kw_requires_import": ["a"]},
    ],
)
def test_plans_name_networks_only(model, architecture):
    plans = {"configurations": {"2d": {"architecture": architecture}}}
    (model / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(IGTVError, match="called"):
        check_model(model)


def planned(model, change=lambda plans, stock: None):
    """nnU-Net's own plans in the model folder, changed: `stock` is their configuration."""
    plans = {
        "dataset_name": "Dataset902_IGTV",
        "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager",
        "experiment_planner_used": "SomebodysPlanner",  # nnU-Net never looks it up
        "configurations": {
            "2d": {
                "preprocessor_name": "DefaultPreprocessor",
                "normalization_schemes": ["CTNormalization", "ZScoreNormalization"],
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_seg": "resample_torch_fornnunet",
                "resampling_fn_probabilities": "no_resampling_hack",
                "architecture": {
                    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                    "arch_kwargs": {
                        "n_stages": 2,
                        "conv_op": "torch.nn.modules.conv.Conv2d",
                        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
                        "dropout_op": None,
                        "nonlin": "torch.nn.LeakyReLU",
                        "nonlin_kwargs": {"inplace": True},
                    },
                    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
                },
            },
            "3d_fullres": {"inherits_from": "2d"},
        },
    }
    change(plans, plans["configurations"]["2d"])
    (model / "plans.json").write_text(json.dumps(plans))
    return model


@pytest.mark.parametrize(
    "network",
    [
        "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
        # where older versions had it: nnU-Net finds it in the newer file
        "dynamic_network_architectures.architectures.residual_unet.ResidualEncoderUNet",
    ],
)
def test_nnunets_own_plans_are_taken(model, network):
    def change(_, stock):
        stock["architecture"]["network_class_name"] = network

    assert check_model(planned(model, change)).network == {"2d": network}


NOT_NAMES_OF_LAYERS = [
    "torch.nn.functional.torch.os.system",  # by way of what a module imports
    "torch.nn.modules.torch.nn.Conv2d",
    "torch.nn.functional.relu",
    "torch.nn.Module.__init__",
    "torch.nn.parallel.DataParallel",
    "torch.nn.modules.conv",
    "torch.nn.modules.conv.",
    "torch.nn.modules.conv.Conv9d",
    "torch..nn.Conv2d",
    "torch.nn" + ".conv" * 5000,
    "torch.nn.modules.activation.\N{CYRILLIC CAPITAL LETTER ER}ReLU",
    "exec",
    ["torch.nn.Conv2d"],
    5,
]


@pytest.mark.parametrize("name", NOT_NAMES_OF_LAYERS)
@pytest.mark.parametrize("field", ["nonlin", "conv_op"])
def test_what_a_layers_name_leads_to_counts(model, field, name):
    def change(_, stock):
        stock["architecture"]["arch_kwargs"][field] = name
        stock["architecture"]["_kw_requires_import"].remove(
            "conv_op"
        )  # nnUNetTrainerBN looks it up all the same

    with pytest.raises(IGTVError, match=r"would have .* called.*plans\.json"):
        check_model(planned(model, change))


@pytest.mark.parametrize(
    "name",
    [
        "dynamic_network_architectures.architectures.unet.nn.Sequential",
        "dynamic_network_architectures.architectures.unet.np.load",
        "dynamic_network_architectures.architectures.unet.PlainConvUNet.forward",
        "dynamic_network_architectures.building_blocks.helper.convert_dim_to_conv_op",
        "dynamic_network_architectures.architectures.gone.Sequential",
        "dynamic_network_architectures.architectures.__path__.PlainConvUNet",
        "nnunet_igtv.architectures.igtv_net.torch.load",
        "torch.nn.Conv2d",
    ],
)
def test_what_a_networks_name_leads_to_counts(model, name):
    def change(_, stock):
        stock["architecture"]["network_class_name"] = name

    with pytest.raises(IGTVError, match=r"would have .* called.*plans\.json"):
        check_model(planned(model, change))


def test_a_name_that_nnunet_would_call_runs_nothing_in_the_examination(model, tmp_path):
    marker = tmp_path / "executed"

    def change(_, stock):
        stock["architecture"]["arch_kwargs"] |= {
            "nonlin": "torch.nn.functional.torch.os.system",
            "nonlin_kwargs": {"command": f"touch {marker}"},
        }

    with pytest.raises(IGTVError, match="called"):
        check_model(planned(model, change))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("image_reader_writer", "recursive_find_python_class"),  # a function, imported there
        ("image_reader_writer", "SomebodysReader"),
        ("label_manager", "partial"),
        ("label_manager", ["LabelManager"]),
        ("preprocessor_name", "recursive_find_python_class"),
        ("normalization_schemes", ["CTNormalization", "Type"]),
        ("normalization_schemes", "np"),
        ("resampling_fn_data", "map_coordinates"),
        ("resampling_fn_seg", "join"),
        ("resampling_fn_probabilities", {"a": 1}),
    ],
)
def test_single_names_are_those_that_nnunet_defines(model, field, name):
    def change(plans, stock):
        (plans if field in plans else stock)[field] = name

    with pytest.raises(IGTVError, match=r"would have .* called.*plans\.json"):
        check_model(planned(model, change))


def test_a_reader_that_dataset_json_names_is_nnunets_own(model):
    description = json.loads((model / "dataset.json").read_text())
    for name in ("None", "NibabelIOWithReorient"):
        (model / "dataset.json").write_text(json.dumps(description | {"overwrite_image_reader_writer": name}))
        check_model(model)
    (model / "dataset.json").write_text(json.dumps(description | {"overwrite_image_reader_writer": "glob"}))
    with pytest.raises(IGTVError, match=r"would have 'glob' called.*dataset\.json"):
        check_model(model)


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


@pytest.mark.parametrize(
    "more", [{"trainer_name": 3}, {"init_args": [1]}, {"init_args": {"configuration": 2}}]
)
def test_fields_of_a_checkpoint_of_another_type_are_named(model, more):
    save(model, **more)
    with pytest.raises(IGTVError, match=r"no texts.*checkpoint_final\.pth"):
        check_model(model)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_archive_is_named(tmp_path, capsys, method):
    with zipfile.ZipFile(tmp_path / "m.zip", "w", method) as archive:
        archive.writestr("notes.txt", "".join(str(i * 7919) for i in range(4000)))
    sound = (tmp_path / "m.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "m.zip") as archive:
        size = archive.infolist()[0].compress_size
    for at in range(39, 39 + size, size // 60):
        damaged = bytearray(sound)
        damaged[at] ^= 0xFF
        (tmp_path / "damaged.zip").write_bytes(damaged)
        assert main(["check-model", str(tmp_path / "damaged.zip")]) == 1
        assert "damaged.zip" in capsys.readouterr().err


def test_an_archive_stays_in_its_folder(model, tmp_path, capsys):
    sound = tmp_path / "sound.zip"
    with zipfile.ZipFile(sound, "w") as archive:
        for path in model.rglob("*.*"):
            archive.write(path, path.relative_to(tmp_path))
    assert main(["check-model", str(sound)]) == 0
    for name in ("../evil", "/tmp/evil", "a/../../evil"):
        with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
            archive.writestr(name, "x")
        assert main(["check-model", str(tmp_path / "evil.zip")]) == 1
        assert "leaves its folder" in capsys.readouterr().err
    (tmp_path / "text.zip").write_text("no archive")
    assert main(["check-model", str(tmp_path / "text.zip")]) == 1
    assert "not a zip file" in capsys.readouterr().err


def test_a_folder_that_cannot_be_listed_is_no_sound_part_of_a_model(model, monkeypatch, capsys):
    walk = os.walk

    def closed(top, onerror=None, **more):
        onerror(PermissionError(errno.EACCES, "Permission denied", str(model / "fold_1")))
        return walk(top, onerror=onerror, **more)

    monkeypatch.setattr(trust.os, "walk", closed)
    assert main(["check-model", str(model)]) == 1
    captured = capsys.readouterr()
    assert "Permission denied" in captured.err
    assert "runs no code" not in captured.out


def test_folds_that_are_links_are_examined_also_where_links_go_round(model, tmp_path, capsys):
    elsewhere = model.rename(tmp_path / "elsewhere")
    shutil.move(elsewhere / "fold_0", tmp_path / "fold")
    (elsewhere / "fold_0").symlink_to(tmp_path / "fold")
    (tmp_path / "fold" / "round").symlink_to(elsewhere)
    assert main(["check-model", str(elsewhere)]) == 0
    assert "checkpoint_final.pth" in capsys.readouterr().out


def test_an_archive_of_more_than_the_free_space_is_not_unpacked(model, tmp_path, monkeypatch, capsys):
    archive = shutil.make_archive(str(tmp_path / "model"), "zip", model)
    with zipfile.ZipFile(archive) as entries:
        needed = sum(entry.file_size for entry in entries.infolist())
    unpacked, usage = [], shutil.disk_usage(tmp_path)
    monkeypatch.setattr(trust.zipfile.ZipFile, "extractall", lambda *_: unpacked.append(archive))
    monkeypatch.setattr(trust.shutil, "disk_usage", lambda folder: usage._replace(free=needed - 1))
    assert main(["check-model", archive]) == 1
    assert "more than there is room for" in capsys.readouterr().err
    assert not unpacked
    monkeypatch.undo()
    assert main(["check-model", archive]) == 0


def test_a_full_disk_is_not_the_fault_of_an_archive(model, tmp_path, monkeypatch, capsys):
    archive = shutil.make_archive(str(tmp_path / "model"), "zip", model)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(trust.zipfile.ZipFile, "extractall", full)
    assert main(["check-model", archive]) == 1
    assert "No space left on device" in capsys.readouterr().err
