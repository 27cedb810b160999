"""TinyStories: where the official files are, and how to know them."""

import contextlib
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.checksums import UrlInfo
from tensorflow_datasets.core.units import Size

from lm_jax import files, progress

_URL = (
    "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/"
    "f54c09fd23315a6f9c86f9dc80f725de7d8f9c64/"
)
_CHECKSUMS = {
    "TinyStories-train.txt": (
        "c5cf5e22ff13614e830afbe61a99fbcbe8bcb7dd72252b989fa1117a368d401f"
    ),
    "TinyStories-valid.txt": (
        "94e431816c4cce81ff71e4408ff8d3bda9a42e8d2663986697c3954288cb38b4"
    ),
    "TinyStoriesV2-GPT4-train.txt": (
        "6418d412de72888f52b5142c761ac21a582f7d1166f0bfbdb5f03ccfdec90443"
    ),
    "TinyStoriesV2-GPT4-valid.txt": (
        "6874bae9a4c1a4e7edcf0e53b86c17817e9cf881fc75ff2368da457b80c0585d"
    ),
}
_SIZES = {
    "TinyStoriesV2-GPT4-train.txt": 2_227_753_162,
    "TinyStoriesV2-GPT4-valid.txt": 22_502_601,
}

# Of the second edition, whose stories are all by GPT-4: training, then validation.
DOWNLOADS = {
    _URL + name: UrlInfo(Size(size), _CHECKSUMS[name], name)
    for name, size in _SIZES.items()
}


def is_official(paths: Iterable[Path]) -> bool:
    """Whether these are official files, of the first edition or the second."""
    return all(files.sha256(path) in _CHECKSUMS.values() for path in paths)


def download(dl_manager: Any) -> list[Path]:
    """The training and the validation file, whose size and sha256 TFDS has checked.

    Raises:
      ValueError: within ten seconds where there is no network; or the download failed.
    """
    urls = list(DOWNLOADS)
    way_out = (
        "pass copies of yours with --config.data.train_files and "
        "--config.data.valid_files"
    )
    if not _answers(urls[0]):
        raise ValueError(f"there is no network to download {urls[0]} from: {way_out}")
    tfds.display_progress_bar(enable=progress.is_terminal())
    progress.note(f"downloading TinyStories, {sum(_SIZES.values()) / 1e9:.1f} GB")
    try:
        return [Path(path) for path in dl_manager.download(urls)]
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"the download of TinyStories failed: try again, or {way_out} ({reason})"
        ) from error
    finally:
        tfds.disable_progress_bar()


def _answers(url: str) -> bool:
    """Whether a server is there; TFDS would take minutes to find that none is."""
    answers: list[requests.Response] = []

    def ask() -> None:
        with contextlib.suppress(requests.RequestException):
            answers.append(requests.head(url, timeout=5))

    thread = threading.Thread(target=ask, daemon=True)  # no timeout ends a name lookup
    thread.start()
    thread.join(8.0)
    return bool(answers)
