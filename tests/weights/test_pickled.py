"""nnU-Net's own pickles are taken; what would call anything is refused, and never runs."""

import pickle

import numpy as np
import pytest
from small_model import Call

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.weights.pickled import check_pickle
from nnunet_igtv.weights.trust import check_model


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
