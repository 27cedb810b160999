"""Training batches: an endless, resumable iterator over shuffled windows."""

import grain
import numpy as np
from jaxtyping import Int
from numpy import ndarray

from lm_jax.types import Windows


def train_batches(
    windows: Windows,
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator:
    """Yields int32 (B, L), B = batch_size / process_count.

    Each epoch is a new permutation of all windows; a batch may span two epochs. The
    order is a function of (seed, step) alone. Each process takes its share of the rows
    of a batch, so that any number of processes together sees the same batches. The
    iterator's `get_state` is a small dictionary, from which `set_state` resumes.

    Raises:
      ValueError: process_count does not divide batch_size.
    """
    if batch_size % process_count:
        raise ValueError(
            f"TrainConfig.batch_size={batch_size} cannot be split among "
            f"{process_count} processes: pass a multiple with --config.train.batch_size"
        )
    rows_each = batch_size // process_count
    rows = slice(process_index * rows_each, (process_index + 1) * rows_each)

    def read(index: ndarray) -> Int[ndarray, "B L"]:
        return windows[index[rows]].astype(np.int32)

    dataset = batch_indices(len(windows), batch_size, seed).map(read)
    # Reading rows from memory is faster than passing them between threads.
    options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    return iter(dataset.to_iter_dataset(options))


def batch_indices(num_windows: int, batch_size: int, seed: int) -> grain.MapDataset:
    """Item s - 1: the window index of each row of the whole batch at step s."""
    return (
        grain.MapDataset.range(num_windows)
        .seed(seed)
        .shuffle()
        .repeat(None)
        .batch(batch_size)
    )
