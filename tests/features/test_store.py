"""What is written is what is read, and damage is never read."""

import pickle
import zlib

import numpy as np
import pytest
from safetensors.numpy import load_file

from espnet_ext.errors import UserError
from espnet_ext.features.store import FeatureStore, write_shape_file
from espnet_ext.features.store_files import Audio, read_shard
from espnet_ext.features.store_writer import StoreWriter

DIM = 8
FRAMES = {"a": 1, "b": 7, "c/d": 30, "ü": 4, "e": 11}


def description_of(layers=3, dtype="float16", **changes):
    return {
        "weights": "0" * 64,
        "layers": list(range(layers)),
        "dim": DIM,
        "dtype": dtype,
        "compute": "float32",
        "normalize": True,
        **changes,
    }


def states_of(utterance, layers=3):
    """(L, T, D), the same for the same id."""
    rng = np.random.default_rng(zlib.crc32(utterance.encode()))
    shape = (layers, FRAMES[utterance], DIM)
    return rng.standard_normal(shape).astype(np.float16)


def audio_of(utterance):
    return Audio(FRAMES[utterance] * 320 + 80, 44, 123, "ab" * 16)


def fill(path, ids=tuple(FRAMES), layers=3, dtype="float16"):
    filling = StoreWriter(path, description_of(layers, dtype))
    filling.plan(dict.fromkeys(ids, 1.0), 10**9, 2.0)
    claimed = (shard for block in filling.claim(set(ids)) for shard in block)
    for members, writer in claimed:
        with writer:
            for utterance in members:
                states, scale = states_of(utterance, layers), None
                if dtype == "int8":
                    scale = np.abs(states).max(1).astype(np.float32) / 127
                    states = np.round(states / scale[:, None])
                writer.add(utterance, states, scale, audio_of(utterance))
    filling.finish()
    return FeatureStore(path)


def test_several_layers(tmp_path):
    store = fill(tmp_path / "store")
    assert store.ids == tuple(sorted(FRAMES))
    assert len(store) == 5
    assert "b" in store
    assert "z" not in store
    assert (store.num_layers, store.dim) == (3, DIM)
    for utterance, frames in FRAMES.items():
        found = store[utterance]
        assert found.dtype == np.float16
        assert found.shape == (frames, 3, DIM)
        np.testing.assert_array_equal(found, states_of(utterance).transpose(1, 0, 2))
        np.testing.assert_array_equal(
            store.layer(utterance, 1), states_of(utterance)[1]
        )
        assert store.num_frames(utterance) == frames
        assert store.audio(utterance) == audio_of(utterance)


def test_one_layer_has_two_dimensions(tmp_path):
    store = fill(tmp_path / "store", layers=1)
    np.testing.assert_array_equal(store["b"], states_of("b", 1)[0])


def test_int8_is_within_half_a_step(tmp_path):
    store = fill(tmp_path / "store", dtype="int8")
    found, expected = store["c/d"], states_of("c/d").transpose(1, 0, 2)
    step = np.abs(expected).max(0).astype(np.float32) / 127  # (L, D)
    assert found.dtype == np.float16
    error = np.abs(found.astype(np.float32) - expected)
    assert (error <= 0.5 * step + 2e-3).all()  # half a step, and fp16's own rounding


def test_other_libraries_read_shards(tmp_path):
    store = fill(tmp_path / "store")
    tensors = load_file(store.shard_path("ü"))
    np.testing.assert_array_equal(tensors["ü"], states_of("ü"))
    index = load_file(tmp_path / "store" / "index.safetensors")
    assert index["frames"].tolist() == [FRAMES[u] for u in sorted(FRAMES)]


def test_pickle(tmp_path):
    store = fill(tmp_path / "store")
    assert len(store["c/d"]) == 30
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(again["c/d"], store["c/d"])
    assert len(pickle.dumps(store)) < 1000


def test_arrays_are_read_only(tmp_path):
    store = fill(tmp_path / "store")
    with pytest.raises(ValueError, match="read-only"):
        store["b"][0] = 0


def test_shape_file(tmp_path):
    store = fill(tmp_path / "store")
    write_shape_file(store, ["b", "a"], tmp_path / "shape")
    assert (tmp_path / "shape").read_text() == f"b 7,3,{DIM}\na 1,3,{DIM}\n"
    store = fill(tmp_path / "one", layers=1)
    write_shape_file(store, ["b"], tmp_path / "shape")
    assert (tmp_path / "shape").read_text() == f"b 7,{DIM}\n"


def test_more_utterances_later(tmp_path):
    fill(tmp_path / "store", ids=("a", "b"))
    before = {
        path.name: path.read_bytes() for path in (tmp_path / "store/shards").iterdir()
    }
    store = fill(tmp_path / "store")
    assert store.ids == tuple(sorted(FRAMES))
    for name, content in before.items():
        assert (tmp_path / "store/shards" / name).read_bytes() == content


def test_unknown_utterance(tmp_path):
    store = fill(tmp_path / "store")
    with pytest.raises(UserError, match="no utterance 'z'"):
        store["z"]
    with pytest.raises(UserError, match=r"holds the hidden states \[0, 1, 2\], not 9"):
        store.layer("a", 9)


def test_a_digest_is_of_the_named_utterances_alone(tmp_path):
    few = fill(tmp_path / "few", ids=("b", "c/d"))
    many = fill(tmp_path / "many")
    digest = many.digest(["b", "c/d"])
    assert many.shard_path("c/d").name != few.shard_path("c/d").name
    assert few.digest(["c/d", "b"]) == digest
    fill(tmp_path / "few")  # adds the others
    assert FeatureStore(tmp_path / "few").digest(["b", "c/d"]) == digest
    with pytest.raises(UserError, match="no utterance 'z'"):
        many.digest(["b", "z"])


def test_a_digest_tells_other_features(tmp_path, monkeypatch):
    store = fill(tmp_path / "store")
    one_layer = fill(tmp_path / "one", layers=1)
    rounded = fill(tmp_path / "int8", dtype="int8")
    digests = [store.digest(["b"]), one_layer.digest(["b"]), rounded.digest(["b"])]
    digests += [store.digest(["a"]), store.digest(["a", "b"]), store.digest([])]
    states = states_of("b")
    states[1, 2, 3] += 1
    monkeypatch.setattr(
        "features.test_store.states_of",
        lambda utterance, layers=3: states if utterance == "b" else None,
    )
    digests.append(fill(tmp_path / "other", ids=("b",)).digest(["b"]))
    assert len(set(digests)) == 7


def test_no_store(tmp_path):
    with pytest.raises(UserError, match="no feature store"):
        FeatureStore(tmp_path)
    StoreWriter(tmp_path / "store", description_of())
    with pytest.raises(UserError, match="not finished"):
        FeatureStore(tmp_path / "store")


@pytest.mark.parametrize(
    ("key", "value"),
    [("weights", "1" * 64), ("dtype", "float32"), ("layers", [2]), ("dim", 16)],
)
def test_store_of_something_else(tmp_path, key, value):
    fill(tmp_path / "store")
    with pytest.raises(UserError, match=f"made with {key}"):
        StoreWriter(tmp_path / "store", {**description_of(), key: value})


def test_folder_of_something_else(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.txt"):
        StoreWriter(tmp_path, description_of())


def test_a_flipped_bit_in_any_place_of_a_shard_is_never_read(tmp_path):
    path = fill(tmp_path / "store", ids=("a", "b")).shard_path("a")
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    sound = {u: states_of(u).transpose(1, 0, 2) for u in ("a", "b")}
    for place in range(start, len(whole), 13):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        store = FeatureStore(tmp_path / "store")
        refused = []
        for utterance, expected in sound.items():
            try:
                np.testing.assert_array_equal(store[utterance], expected)
            except UserError as error:
                refused.append((utterance, str(error)))
        ((utterance, message),) = refused
        assert repr(utterance) in message
        assert "does not have its checksum" in message


def flips(path, bits):
    """Flip one bit after the other in a file; give its number while it is flipped."""
    whole = path.read_bytes()
    with open(path, "r+b", buffering=0) as stream:
        for bit in bits:
            stream.seek(bit // 8)
            stream.write(bytes([whole[bit // 8] ^ 1 << (bit % 8)]))
            yield bit
            stream.seek(bit // 8)
            stream.write(whole[bit // 8 : bit // 8 + 1])
    assert path.read_bytes() == whole


def test_any_flipped_bit_of_the_index_is_found(tmp_path):
    fill(tmp_path / "store", ids=("a", "b", "c/d"))
    path = tmp_path / "store" / "index.safetensors"
    for _ in flips(path, range(8 * path.stat().st_size)):
        with pytest.raises(UserError) as caught:
            FeatureStore(tmp_path / "store")
        assert str(caught.value).startswith(f"{path}: damaged")
        assert "remove this file and run ser_extract again" in str(caught.value)
    assert len(FeatureStore(tmp_path / "store")["b"]) == FRAMES["b"]


def test_any_flipped_bit_of_a_shards_header_is_found(tmp_path):
    path = fill(tmp_path / "store", ids=("a", "b")).shard_path("a")
    size = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    # All of what is written, and a part of the room that is left behind it.
    written = len(path.read_bytes()[:size].rstrip())
    assert written < 1000
    sample = range(8 * written, 8 * size, 101)
    for _ in flips(path, [*range(8 * written), *sample]):
        with pytest.raises(UserError) as caught:
            read_shard(path)
        assert str(caught.value).startswith(f"{path}: damaged")
        assert "remove this file and run ser_extract again" in str(caught.value)
    assert read_shard(path)[0]["b"].frames == FRAMES["b"]


@pytest.mark.parametrize("content", [b"", b"x", bytes(100), b"<html>" * 50])
def test_what_is_no_index_is_named(tmp_path, content):
    fill(tmp_path / "store")
    path = tmp_path / "store" / "index.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"index\.safetensors: damaged, or not of"):
        FeatureStore(tmp_path / "store")


def test_other_formats_are_named(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("espnet_ext.features.store_files.FORMAT", 3)
        patch.setattr("espnet_ext.features.store_writer.FORMAT", 3)
        store = fill(tmp_path / "new")
    with pytest.raises(UserError, match="of store format 3, and this version"):
        FeatureStore(store.path)
    with pytest.raises(UserError, match="made with format 3 and you ask for 2"):
        StoreWriter(store.path, description_of())


@pytest.mark.parametrize("cut", [0, 5, 100, -1])
def test_truncated_shard(tmp_path, cut):
    path = fill(tmp_path / "store").shard_path("a")
    path.write_bytes(path.read_bytes()[:cut])
    store = FeatureStore(tmp_path / "store")
    assert not store.is_whole()
    with pytest.raises(UserError, match="run ser_extract again"):
        store["a"]


def test_a_failed_write_leaves_nothing(tmp_path):
    filling = StoreWriter(tmp_path / "store", description_of())
    filling.plan({"a": 1.0}, 10**9, 2.0)
    claim = filling.claim({"a"})
    ((_, writer),) = next(claim)

    def write():
        with writer:
            writer.add("a", states_of("a"), None, audio_of("a"))
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write()
    claim.close()
    assert not list((tmp_path / "store" / "shards").glob("*.safetensors*"))
    assert not list((tmp_path / "store" / "shards").glob(".tmp-*"))
