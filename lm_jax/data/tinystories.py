"""TinyStories: URLs and checksums of the official files, and their download."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.checksums import UrlInfo
from tensorflow_datasets.core.units import Size

from lm_jax import progress

_URL = (
    "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/"
    "f54c09fd23315a6f9c86f9dc80f725de7d8f9c64/"
)


class _Checksum(UrlInfo):
    """TFDS's record of a download, compared by its checksum alone."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UrlInfo) and other.checksum == self.checksum

    def __hash__(self) -> int:
        return hash(self.checksum)


def _download(name: str, sha256: str) -> tuple[str, UrlInfo]:
    return _URL + name, _Checksum(Size(0), sha256, name)


# The training and the validation file of each edition.
DOWNLOADS: dict[str, dict[str, UrlInfo]] = {
    "first": dict(
        [
            _download(
                "TinyStories-train.txt",
                "c5cf5e22ff13614e830afbe61a99fbcbe8bcb7dd72252b989fa1117a368d401f",
            ),
            _download(
                "TinyStories-valid.txt",
                "94e431816c4cce81ff71e4408ff8d3bda9a42e8d2663986697c3954288cb38b4",
            ),
        ]
    ),
    "second": dict(
        [
            _download(
                "TinyStoriesV2-GPT4-train.txt",
                "6418d412de72888f52b5142c761ac21a582f7d1166f0bfbdb5f03ccfdec90443",
            ),
            _download(
                "TinyStoriesV2-GPT4-valid.txt",
                "6874bae9a4c1a4e7edcf0e53b86c17817e9cf881fc75ff2368da457b80c0585d",
            ),
        ]
    ),
}


def all_downloads() -> dict[str, UrlInfo]:
    """The files of all editions by URL, in the form that TFDS expects."""
    return {url: info for infos in DOWNLOADS.values() for url, info in infos.items()}


def edition_of(checksums: Iterable[str]) -> str:
    """The edition whose files include all these checksums; "" if there is none."""
    for edition, infos in DOWNLOADS.items():
        if set(checksums) <= {info.checksum for info in infos.values()}:
            return edition
    return ""


def download(dl_manager: Any, edition: str) -> list[Path]:
    """Downloads the training and the validation file; TFDS checks their sha256.

    Raises:
      ValueError: the download failed.
    """
    urls = list(DOWNLOADS[edition])
    way_out = (
        "pass copies of yours with --config.data.train_files and "
        "--config.data.valid_files"
    )
    try:  # TFDS would wait for minutes before it gives up
        requests.head(urls[0], timeout=5)
    except requests.RequestException:
        raise ValueError(
            f"there is no network to download {urls[0]}: {way_out}"
        ) from None
    tfds.display_progress_bar(enable=progress.is_terminal())
    progress.note(f"downloading the {edition} edition of TinyStories, some 2 GB")
    try:
        return [Path(path) for path in dl_manager.download(urls)]
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"the download of TinyStories failed: try again, or {way_out} ({reason})"
        ) from error
    finally:
        tfds.disable_progress_bar()
