"""Several stores read as one."""

import pickle

import numpy as np
import pytest

from espnet_ext.errors import UserError
from espnet_ext.features.joint_store import JointStore, open_store, write_store_list
from espnet_ext.features.store import FeatureStore, write_shape_file
from features.test_store import fill, states_of


@pytest.fixture
def listed(tmp_path):
    fill(tmp_path / "one" / "store", ids=("a", "b"))
    fill(tmp_path / "two" / "store", ids=("b", "e"))
    path = tmp_path / "sets" / "stores"
    stores = {"x": tmp_path / "one" / "store", "y": tmp_path / "two" / "store"}
    write_store_list(stores, path)
    return path


def test_an_id_leads_to_the_store_of_its_corpus(listed):
    store = open_store(listed)
    assert isinstance(store, JointStore)
    assert set(store) == {"x-a", "x-b", "y-b", "y-e"} == set(store.ids)
    assert len(store) == 4
    assert "y-a" not in store
    for joint, own in (("x-a", "a"), ("y-b", "b"), ("y-e", "e")):
        np.testing.assert_array_equal(store[joint], states_of(own).transpose(1, 0, 2))
        assert store.num_frames(joint) == states_of(own).shape[1]


def test_the_loader_and_shape_files_take_it(listed, tmp_path):
    loader = pickle.loads(pickle.dumps(open_store(str(listed))))
    assert "x-a" in loader
    assert loader["x-a"].shape == (1, 3, 8)
    write_shape_file(loader, ["y-e", "x-b"], tmp_path / "shape")
    assert (tmp_path / "shape").read_text() == "y-e 11,3,8\nx-b 7,3,8\n"


def test_the_list_moves_with_its_stores(listed, tmp_path):
    assert listed.read_text() == "x ../one/store\ny ../two/store\n"
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("one", "two", "sets"):
        (tmp_path / name).rename(moved / name)
    assert open_store(moved / "sets" / "stores").num_frames("x-b") == 7


def test_a_folder_is_one_store(listed):
    assert isinstance(open_store(listed.parents[1] / "one" / "store"), FeatureStore)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no feature store"),
        ("x\n", ":1: expected 'corpus store'"),
        ("x ../one/store\nx ../two/store\n", ":2: expected 'corpus store' and each"),
        ("x nowhere\n", "no feature store there"),
    ],
)
def test_a_malformed_list_is_named(listed, text, message):
    listed.write_text(text)
    with pytest.raises(UserError, match=message):
        open_store(listed)


def test_the_digest_is_of_each_store_and_the_named_utterances(listed, tmp_path):
    digest = open_store(listed).digest(["y-b", "x-a"])
    assert open_store(listed).digest(["x-b", "y-b"]) != digest
    fill(tmp_path / "two" / "store")  # adds the others
    assert open_store(listed).digest(["x-a", "y-b"]) == digest


def test_what_is_missing_is_named(listed):
    store = open_store(listed)
    with pytest.raises(UserError, match=r"no utterance 'b' in .*one.*two"):
        store["b"]


def test_stores_of_different_layers_do_not_mix(listed, tmp_path):
    fill(tmp_path / "three", ids=("a",), layers=1)
    write_store_list({"x": tmp_path / "one" / "store", "z": tmp_path / "three"}, listed)
    with pytest.raises(UserError, match="one feature config"):
        open_store(listed)
