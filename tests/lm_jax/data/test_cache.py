"""The cache: digests of files are computed once, and again after every change."""

import hashlib
import os
import time

import pytest

from lm_jax import files
from lm_jax.data import cache

HOUR_AGO = time.time_ns() - 3600 * 10**9


@pytest.fixture
def calls(monkeypatch):
    """The files that were read for a digest."""
    read, plain = [], files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: read.append(path) or plain(path))
    return read


def write(path, content, time_ns=HOUR_AGO):
    path.write_bytes(content)
    os.utime(path, ns=(time_ns, time_ns))
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_read_once(tmp_path, calls):
    path = tmp_path / "text.txt"
    digest = write(path, b"once")
    assert [cache.sha256(path, tmp_path / "cache") for _ in range(3)] == [digest] * 3
    assert calls == [path]


def test_a_changed_file_is_read_again(tmp_path, calls):
    """Of the same size too, and a copy with an earlier time of change."""
    path, root = tmp_path / "text.txt", tmp_path / "cache"
    for content, time_ns in ((b"once", 0), (b"more", 1), (b"less", -1), (b"longer", 0)):
        digest = write(path, content, HOUR_AGO + time_ns)
        assert cache.sha256(path, root) == digest
    assert len(calls) == 4


def test_a_file_written_just_now_is_read_again(tmp_path, calls):
    """A second write within one tick of the clock would leave the time as it is."""
    path, root, now = tmp_path / "text.txt", tmp_path / "cache", time.time_ns()
    for content in (b"once", b"more"):
        digest = write(path, content, now)
        assert cache.sha256(path, root) == digest
    assert len(calls) == 2


def test_a_damaged_record_is_not_believed(tmp_path, calls):
    path, root = tmp_path / "text.txt", tmp_path / "cache"
    digest = write(path, b"once")
    assert cache.sha256(path, root) == digest
    (record,) = (root / "sha256").iterdir()
    record.write_text(digest[:-1])
    assert cache.sha256(path, root) == digest
    assert len(calls) == 2


def test_a_cache_that_cannot_be_written_to_is_no_error(tmp_path, calls, monkeypatch):
    path = tmp_path / "text.txt"
    digest = write(path, b"once")

    def refuse(path):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(files, "whole_file", refuse)
    assert [cache.sha256(path, tmp_path / "cache") for _ in range(2)] == [digest] * 2
    assert len(calls) == 2
