"""Batches: their order is a function of (seed, step), on any number of processes."""

import json

import numpy as np
import pytest

from lm_jax.data.batches import train_batches

WINDOWS = np.arange(10 * 3, dtype=np.uint16).reshape(10, 3)


def read(batches, num_steps):
    return [next(batches).tolist() for _ in range(num_steps)]


def test_batches_are_rows_of_the_windows():
    """int32 (B, L), every row a window."""
    batch = next(train_batches(WINDOWS, 4, seed=0))
    assert batch.dtype == np.int32 and batch.shape == (4, 3)
    assert all(row in WINDOWS.tolist() for row in batch.tolist())


def test_every_epoch_is_a_new_permutation():
    """Each window once an epoch, though batches run across its end; no order twice."""
    rows = np.concatenate(read(train_batches(WINDOWS, 4, seed=0), 10))[:, 0] // 3
    epochs = rows.reshape(4, 10)
    assert np.all(np.sort(epochs, axis=1) == np.arange(10))
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_the_order_is_a_function_of_the_seed():
    """The same seed repeats it; another changes it."""
    orders = {
        seed: [read(train_batches(WINDOWS, 4, seed), 5) for _ in range(2)]
        for seed in (0, 1, 2**31, 2**32 - 1)
    }
    assert all(first == second for first, second in orders.values())
    assert len({str(first) for first, _ in orders.values()}) == 4


@pytest.mark.parametrize("step", [0, 1, 2, 7])
def test_a_resumed_order_goes_on(step):
    """State at any step, also mid-epoch, through JSON into a fresh iterator."""
    batches = train_batches(WINDOWS, 4, seed=0)
    read(batches, step)
    state = json.dumps(batches.get_state())
    expected = read(batches, 8)
    resumed = train_batches(WINDOWS, 4, seed=0)
    read(resumed, 3)
    resumed.set_state(json.loads(state))
    assert read(resumed, 8) == expected
    assert len(state) < 100


@pytest.mark.parametrize("process_count", [1, 2, 4])
def test_processes_share_the_same_batches(process_count):
    """Their rows, one process after the other, are the batch of a single process."""
    shares = [
        read(train_batches(WINDOWS, 4, 3, index, process_count), 6)
        for index in range(process_count)
    ]
    assert np.concatenate(shares, axis=1).tolist() == read(
        train_batches(WINDOWS, 4, 3), 6
    )


@pytest.mark.parametrize("num_windows", [1, 3])
def test_a_batch_may_be_larger_than_the_data(num_windows):
    """Few windows repeat within a batch, each as often as the others."""
    batch = next(train_batches(WINDOWS[:num_windows], 6, seed=0))
    _, counts = np.unique(batch[:, 0], return_counts=True)
    assert counts.tolist() == [6 // num_windows] * num_windows


def test_windows_may_lie_on_disk(tmp_path):
    """A memory-mapped file gives the same batches as the array."""
    np.save(tmp_path / "windows.npy", WINDOWS)
    mapped = np.load(tmp_path / "windows.npy", mmap_mode="r")
    batches = (train_batches(windows, 4, seed=0) for windows in (WINDOWS, mapped))
    assert read(next(batches), 5) == read(next(batches), 5)


def test_a_batch_that_cannot_be_shared_is_refused():
    """The error names the batch, the processes and the way out."""
    with pytest.raises(ValueError, match="batch_size=6 .* 4 processes: .*--config"):
        train_batches(WINDOWS, 6, 0, 0, 4)
