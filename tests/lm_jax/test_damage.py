"""Damage to the files of a run or of the cache is seen, named and mended."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_configs import toy

from lm_jax import files, run
from lm_jax.checkpoint_metadata import checksum
from lm_jax.data import corpora, dataset
from lm_jax.data.tokenizers.sentencepiece import SentencePiece
from lm_jax.sharding import make_mesh, shardings


def flip_a_bit(path):
    octets = bytearray(path.read_bytes())
    octets[len(octets) // 2] ^= 1
    path.write_bytes(octets)


# Checksums of arrays.


def test_a_checksum_knows_no_sharding():
    """One device, eight, and two copies cut over four give the same number."""
    x = np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32)
    expected = int(checksum(jnp.asarray(x)))
    for fsdp in (1, 4, 8):
        mesh = make_mesh(8, fsdp=fsdp)
        placed = jax.device_put(x, shardings(mesh, jax.eval_shape(lambda: x)))
        assert int(checksum(placed)) == expected


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8", "bool"])
def test_a_checksum_sees_every_bit_and_every_place(dtype):
    """A change of any one element, and any exchange of two, changes it."""
    x = jnp.arange(12).astype(dtype).reshape(3, 4) % 2
    numbers = {int(checksum(x))}
    for i in range(12):
        row, column = divmod(i, 4)
        numbers.add(int(checksum(x.at[row, column].set(1 - x[row, column]))))
    assert len(numbers) == 13
    assert int(checksum(x[:, ::-1])) not in numbers


# Looking for files.


def test_what_is_missing_must_be_missing_in_its_folder_too(tmp_path, monkeypatch):
    """One "no such file" is not believed where the folder names it; and a folder that
    may not be listed hides nothing."""
    (tmp_path / "run").mkdir()
    assert files.exists(tmp_path / "run") and files.names(tmp_path) == ["run"]
    assert (
        not files.exists(tmp_path / "none" / "x") and files.names(tmp_path / "y") == []
    )

    def lie(error):
        def fail(path):
            raise error(str(path))

        return fail

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "stat", lie(FileNotFoundError))
        with pytest.raises(FileNotFoundError):
            files.exists(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "listdir", lie(PermissionError))
        assert not files.exists(tmp_path / "none")
        with pytest.raises(PermissionError):
            files.names(tmp_path)


# Damage beside the checkpoints.


@pytest.fixture
def run_path(cache_dir, tmp_path):
    cfg = toy(cache_dir)
    run.create(tmp_path / "run", "ar", cfg, dataset.load(cfg))
    return tmp_path / "run"


def test_every_file_that_a_run_begins_with_is_sealed(run_path):
    """All but the record, which holds the digests and one of itself."""
    names = {path.name for path in run_path.iterdir()}
    assert names == {*run.SEALED, run.RECORD}


@pytest.mark.parametrize("damage", [flip_a_bit, Path.unlink])
@pytest.mark.parametrize("name", run.SEALED)
def test_a_damaged_file_of_a_run_is_named(run_path, name, damage):
    """Also where its text is still valid: "seed": 0 may have been 2."""
    run.open_run(run_path, "ar")
    damage(run_path / name)
    with pytest.raises(ValueError, match=rf"{name} is damaged: .* another --workdir"):
        run.open_run(run_path, "ar")


def test_a_changed_record_of_a_run_is_named(run_path):
    text = (run_path / "run.json").read_text()
    (run_path / "run.json").write_text(text.replace("storyworld", "storyw0rld"))
    with pytest.raises(ValueError, match=r"run.json is damaged"):
        run.open_run(run_path, "ar")


@pytest.mark.parametrize("text", ["null", "[]", '"x"', "{}", '{"family": "ar"}'])
def test_json_that_is_no_run_is_named(run_path, text):
    (run_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run.json is damaged: .* another --workdir"):
        run.open_run(run_path, "ar")


def test_digests_never_look_beyond_their_directory(tmp_path):
    """A record from elsewhere cannot make us read what lies outside."""
    (tmp_path / "run").mkdir()
    (tmp_path / "secret").write_text("x")
    found = {"../secret": files.sha256(tmp_path / "secret")}
    values = {files.DIGESTS: found}
    values = {files.DIGESTS: {**found, "": files._digest(values)}}
    with pytest.raises(ValueError, match="names ../secret, outside its folder"):
        files.require_undamaged(tmp_path / "run" / "run.json", values)


def test_a_record_without_digests_is_refused(run_path):
    """Somebody has changed it."""
    path = run_path / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in record.items() if k != files.DIGESTS}))
    with pytest.raises(files.CorruptFileError, match="run.json is damaged"):
        run.open_run(run_path, "ar")


@pytest.mark.parametrize(
    "pattern", ["corpora/**/*array_record*", "tokenizers/*.model", "windows/*.npy"]
)
def test_damage_in_the_cache_is_mended(pattern, tmp_path):
    """One bit flips in a file: it is made again, and the data are the same."""
    cfg = toy(tmp_path)
    before = dataset.load(cfg)
    expected = (
        before.train.copy(),
        before.tokenizer.data,
        [*before.train_documents],
    )
    file = max(tmp_path.glob(pattern), key=lambda path: path.stat().st_size)
    whole = file.read_bytes()
    flip_a_bit(file)
    after = dataset.load(cfg)
    np.testing.assert_array_equal(after.train, expected[0])
    assert after.tokenizer.data == expected[1]
    assert [*after.train_documents] == expected[2]
    assert len(file.read_bytes() if file.exists() else whole) == len(whole)
    corpora.prepare(cfg.data)


def test_a_cached_tokenizer_of_other_pieces_is_mended(tmp_path):
    """A changed letter leaves a valid tokenizer, which is not the one that was made."""
    cfg = toy(tmp_path)
    expected = dataset.load(cfg).tokenizer.data
    (path,) = tmp_path.glob("tokenizers/*.model")
    changed = expected.replace(b"once", b"onca", 1)
    assert changed != expected and SentencePiece(changed)
    path.write_bytes(changed)
    assert dataset.load(cfg).tokenizer.data == expected
