"""Checkpoints: what comes back is what was saved, or the damage has a name."""

import dataclasses
import shutil

import chex
import jax
import numpy as np
import optax
import pytest
from fake_models import batches, bigram

from lm_jax import checkpoint
from lm_jax.sharding import make_mesh, replicate
from lm_jax.training.train_step import init_state, make_train_step

TX = optax.adamw(0.1)

# tensorstore's callbacks outlive the event loop of a read that failed.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


@jax.jit
def init():
    return init_state(bigram(), TX, jax.random.key(0), ema=True)


def directory_of(workdir, scores, keep=2):
    """Saves one checkpoint per step, at scores[step - 1]; returns the states."""
    train_step = make_train_step(bigram(), TX, jax.random.key(1), ema=0.5)
    state, x, states = init(), batches(), {}
    with checkpoint.manager(workdir, keep) as mngr:
        for step, score in enumerate(scores, start=1):
            state, _ = train_step(state, next(x))
            states[step] = jax.tree.map(np.array, state)
            metrics = None if score is None else {"nats_per_token": score}
            checkpoint.save(mngr, state, x, {"tokens": 10 * step}, metrics)
        train_step(state, next(x))  # donates what is still being saved
    return states


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Three checkpoints, of which the first is the best, and their states."""
    path = tmp_path_factory.mktemp("saved")
    return path, directory_of(path, [1.0, 3.0, 2.0], keep=2)


@pytest.fixture
def workdir(saved, tmp_path):
    return shutil.copytree(saved[0], tmp_path / "copy")


def restore(path, init=init):
    with checkpoint.manager(path, keep=2) as mngr:
        return checkpoint.restore_latest(mngr, init, batches())


def data_files(path):
    """All that hold arrays, as some are indices that nothing reads any more."""
    files = [*path.glob("state/**/d/*")]
    assert files
    return files


def flip_bits(path):
    for file in data_files(path):
        flip_a_bit(file)


def flip_a_bit(path):
    octets = bytearray(path.read_bytes())
    octets[len(octets) // 2] ^= 1
    path.write_bytes(octets)


def truncate_all(path):
    for file in data_files(path):
        truncate(file)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def take_from_another(path):
    """Puts what belongs to step 2 in the place of step 3: readable, but wrong."""
    other = path.parents[1] / "2" / path.name
    shutil.rmtree(path)
    shutil.copytree(other, path)


def change_a_number(path, number, other):
    file = path / "manifest" / "metadata"
    text = file.read_text()
    assert number in text
    file.write_text(text.replace(number, other))


DAMAGES = {
    "bits of the state": flip_bits,
    "half the state": truncate_all,
    "the state of another step": lambda path: take_from_another(path / "state"),
    "no state": lambda path: shutil.rmtree(path / "state"),
    "half the manifest": lambda path: truncate(path / "manifest" / "metadata"),
    "the manifest of another step": lambda path: take_from_another(path / "manifest"),
    "a total": lambda path: change_a_number(path, '"tokens": 3', '"tokens": 38'),
    "the position": lambda path: change_a_number(
        path, '"next_index": 3', '"next_index": 7'
    ),
}


def test_what_is_restored_is_what_was_saved(saved):
    """State, totals and the next batches, bit for bit and type for type, although the
    state was donated to the next step, and a batch read, while the save was running."""
    path, states = saved
    state, x, totals = restore(path)
    chex.assert_trees_all_equal(state, states[3])
    chex.assert_trees_all_equal_shapes_and_dtypes(state, states[3])
    assert totals == {"tokens": 30}
    straight = batches()
    for _ in range(3):
        next(straight)
    for _ in range(20):
        np.testing.assert_array_equal(next(x), next(straight))


def test_an_empty_directory_gives_the_initial_state(tmp_path):
    state, x, totals = restore(tmp_path / "new")
    chex.assert_trees_all_equal(state, init())
    assert totals == {} and x.get_state() == batches().get_state()


def test_the_latest_and_the_best_are_kept(tmp_path):
    """The best never pushes out the latest, and unscored checkpoints are never best."""
    directory_of(tmp_path, [3.0, 1.0, None, float("nan"), 2.0, None], keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "5", "6"]
    assert checkpoint.latest_step(tmp_path) == 6


def test_a_checkpoint_is_deleted_at_once(tmp_path, monkeypatch):
    """kill -9 between the removal of two files leaves no part of it under its step."""
    with monkeypatch.context() as killed:
        killed.setattr(checkpoint, "_remove_deleted", lambda directory: None)
        directory_of(tmp_path, [1.0, 3.0, 2.0, 4.0], keep=2)
    kept = {path.name for path in tmp_path.iterdir()}
    deleted = {path.name for path in (tmp_path / "deleted").iterdir()}
    assert (kept, deleted) == ({"1", "3", "4", "deleted"}, {"2"})
    assert restore(tmp_path)[2] == {"tokens": 40}
    assert not (tmp_path / "deleted").exists()


def test_a_score_that_is_no_number_is_never_the_best(tmp_path):
    """Also if it comes first, as NaN is not larger than any number."""
    directory_of(tmp_path, [float("nan"), 1.0, 2.0], keep=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "3"]
    assert checkpoint.restore_params(tmp_path, which="best").step == 2


def test_the_best_of_an_earlier_process_is_remembered(tmp_path):
    """Scores are read back from disk, where the manager did not save them itself."""
    directory_of(tmp_path, [3.0, 1.0, 2.0], keep=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "3"]
    with checkpoint.manager(tmp_path, keep=1) as mngr:
        state, x, _ = checkpoint.restore_latest(mngr, init, batches())
        checkpoint.save(mngr, dataclasses.replace(state, step=np.int32(4)), x, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "4"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_skipped(workdir, saved, caplog, damage):
    """One wrong number is enough, and the step is free to be saved again."""
    DAMAGES[damage](workdir / "3")
    with checkpoint.manager(workdir, keep=2) as mngr:
        state, x, totals = checkpoint.restore_latest(mngr, init, batches())
        chex.assert_trees_all_equal(state, saved[1][2])
        assert totals == {"tokens": 20} and x.get_state()["next_index"] == 2
        assert f"{workdir}/3 is damaged" in caplog.text
        checkpoint.save(mngr, dataclasses.replace(state, step=np.int32(3)), x, {})
    assert (workdir / "3.damaged").is_dir()
    assert restore(workdir)[0].step == 3


def test_no_file_of_a_checkpoint_can_do_harm(saved, tmp_path):
    """Whatever is deleted, emptied or flipped: either nothing is lost, or the one
    before is taken; never a wrong number, never a crash."""
    path, states = saved
    files = [p.relative_to(path) for p in (path / "3").rglob("*") if p.is_file()]
    restored = []
    for i, file in enumerate(files):
        for j, damage in enumerate([flip_a_bit, lambda p: p.write_bytes(b""), _remove]):
            copy = shutil.copytree(path, tmp_path / f"{i}-{j}")
            damage(copy / file)
            state, _, _ = restore(copy)
            chex.assert_trees_all_equal(state, states[int(state.step)])
            restored.append(int(state.step))
    assert set(restored) == {2, 3}


def _remove(path):
    path.unlink()


def test_when_all_are_damaged_the_run_stops(workdir):
    """It says how to start over on purpose, and moves nothing: neither before nor
    after somebody has renamed the damaged ones."""
    for step in (1, 2, 3):
        truncate_all(workdir / str(step))
    for suffix in ("", ".damaged"):
        for step in (1, 2, 3):
            (workdir / str(step)).rename(workdir / f"{step}{suffix}")
        before = sorted(path.name for path in workdir.iterdir())
        with pytest.raises(ValueError, match="none is sound.* to start over"):
            restore(workdir)
        assert sorted(path.name for path in workdir.iterdir()) == before


def test_nothing_that_was_set_aside_is_overwritten(workdir):
    """The step that was damaged is damaged again: both directories stay."""
    for expected in ("3.damaged", "3.damaged.2", "3.damaged.3"):
        if not (workdir / "3").exists():
            shutil.copytree(workdir / "2", workdir / "3")
        (workdir / "3" / "mark").write_text(expected)
        truncate_all(workdir / "3")
        (workdir / "3" / checkpoint.DIGESTS).write_text("{}")
        change_a_number(workdir / "3", '"tokens": ', '"tokens":  1')
        restore(workdir)
        assert (workdir / expected / "mark").read_text() == expected


def test_an_error_of_a_library_is_no_damage(workdir, monkeypatch):
    """What orbax raises over files that are what was written stops the call."""

    def fail(*args, **kwargs):
        raise ValueError("INTERNAL: no idea")

    monkeypatch.setattr(checkpoint.ocp.Checkpointer, "restore", fail)
    before = sorted(path.name for path in workdir.iterdir())
    for read in (restore, checkpoint.restore_params):
        with pytest.raises(OSError, match=r"INTERNAL: no idea.*run the same command"):
            read(workdir)
    assert sorted(path.name for path in workdir.iterdir()) == before


def test_what_a_killed_save_left_is_ignored(workdir):
    shutil.copytree(workdir / "3", workdir / "4.orbax-checkpoint-tmp")
    assert checkpoint.latest_step(workdir) == 3
    assert restore(workdir)[0].step == 3


@pytest.mark.parametrize(
    "init, message",
    [
        (
            lambda: init_state(bigram(12), TX, jax.random.key(0), ema=True),
            r"params/bias is float32\(11,\) there, float32\(12,\) here",
        ),
        (
            lambda: init_state(bigram(), TX, jax.random.key(0)),
            r"ema/bias is float32\(11,\) there, absent here",
        ),
        (
            lambda: init_state(bigram(), optax.sgd(0.1, 0.9), jax.random.key(0), True),
            r"opt_state/0/trace/bias is absent there",
        ),
    ],
    ids=["vocabulary", "average", "optimiser"],
)
def test_a_checkpoint_of_another_model_is_refused(workdir, init, message):
    """It is not damaged: nothing is skipped, and nothing is moved."""
    with pytest.raises(
        ValueError, match=f"/3 is a checkpoint of another model: {message}"
    ):
        restore(workdir, init)
    assert checkpoint.latest_step(workdir) == 3


def test_the_average_is_what_is_sampled_from(saved):
    """Without being told the shapes, and without reading moments."""
    path, states = saved
    params = checkpoint.restore_params(path).params
    chex.assert_trees_all_equal(params, states[3].ema)
    assert isinstance(params["bias"], jax.Array)
    best = checkpoint.restore_params(path, jax.eval_shape(init).params, which="best")
    chex.assert_trees_all_equal(best.params, states[1].ema)
    assert best.step == 1


def test_without_an_average_the_parameters_are_sampled_from(tmp_path):
    state = dataclasses.replace(init(), ema=None)
    with checkpoint.manager(tmp_path, keep=1) as mngr:
        checkpoint.save(mngr, state, batches(), {})
    chex.assert_trees_all_equal(
        checkpoint.restore_params(tmp_path).params, state.params
    )


def test_samplers_skip_damage_too(workdir, saved, caplog):
    flip_bits(workdir / "3")
    found = checkpoint.restore_params(workdir)
    chex.assert_trees_all_equal(found.params, saved[1][2].ema)
    assert found.step == 2  # and that is what samples say of themselves
    assert f"{workdir}/3 is damaged" in caplog.text
    assert checkpoint.latest_step(workdir) == 3  # only training moves anything


@pytest.mark.parametrize("damage", DAMAGES)
def test_samplers_skip_every_damage_that_training_skips(workdir, saved, damage):
    """Also arrays that can be read and are those of another step."""
    DAMAGES[damage](workdir / "3")
    found = checkpoint.restore_params(workdir)
    chex.assert_trees_all_equal(found.params, saved[1][2].ema)
    assert found.step == 2


def test_parameters_of_another_model_are_refused(saved):
    abstract = jax.eval_shape(bigram(12).init, jax.random.key(0))
    with pytest.raises(ValueError, match="another model: ema/bias is"):
        checkpoint.restore_params(saved[0], abstract)


def test_a_directory_without_checkpoints_says_so(tmp_path):
    with pytest.raises(ValueError, match="holds no checkpoint: train first"):
        checkpoint.restore_params(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_state_from_eight_devices_goes_on_on_one_and_back(tmp_path):
    """A checkpoint does not know how many devices there were."""
    mesh = make_mesh(8)
    with checkpoint.manager(tmp_path, keep=1) as mngr:
        checkpoint.save(mngr, replicate(mesh, init()), batches(), {})
    state, _, _ = restore(tmp_path)
    chex.assert_trees_all_equal(state, init())
    for places, count in ((None, 1), (mesh, 8)):
        x = replicate(places, state).params["bias"]
        assert len(x.devices()) == count
