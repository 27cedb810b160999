"""Corpora: documents stored by TFDS as ArrayRecord files, without TensorFlow."""

import contextlib
import hashlib
import inspect
import io
import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, overload

import tensorflow_datasets as tfds
from tensorflow_datasets.core.utils import shard_utils

from lm_jax import files, progress
from lm_jax.config import DataConfig, require
from lm_jax.data import cache, splits, storyworld, text_files, tinystories
from lm_jax.data.storyworld import grammar

_RECORDS_PER_SHARD = 10_000


class Corpus(NamedTuple):
    """A train and a validation split that share no document.

    Attributes:
      name: "storyworld", "text" or "tinystories".
      train: training documents, read from disk on access.
      valid: validation documents, read from disk on access.
      fingerprint: hash of all documents.
      is_held_out: whether the validation documents come from the training files.
      edition: edition of official TinyStories, "first" or "second"; else "".
    """

    name: str
    train: "Documents"
    valid: "Documents"
    fingerprint: str
    is_held_out: bool = False
    edition: str = ""


def prepare(cfg: DataConfig) -> Corpus:
    """Opens the corpus; builds it in the cache first if it is not there.

    Raises:
      ValueError: a file or a setting is wrong; the message says how to correct it.
    """
    require(
        cfg.corpus in CORPORA,
        f"DataConfig.corpus={cfg.corpus!r} is unknown: choose one of "
        f"{', '.join(map(repr, CORPORA))}",
    )
    builder, options, content, is_held_out, edition = CORPORA[cfg.corpus](cfg)
    key = cache.content_key(builder.name, str(builder.VERSION), content)
    root = cache.root(cfg.cache_dir)
    directory = root / "corpora" / f"{builder.name}-{key}"
    if not _is_whole(directory, root):
        shutil.rmtree(directory, ignore_errors=True)
        _build(builder, options, directory, root / "downloads")
    record = files.read_json(directory / "corpus.json")
    train, valid = _read(tfds.builder_from_directory(directory / record["builder"]))
    fingerprint = record["fingerprint"]
    return Corpus(cfg.corpus, train, valid, fingerprint, is_held_out, edition)


class Documents(Sequence[str]):
    """The documents of a split, read from disk on access."""

    def __init__(self, source: Any):
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return self.read(range(*index.indices(len(self))))
        return self.read([range(len(self))[index]])[0]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), 1000):  # one by one takes ten times as long
            yield from self[start : start + 1000]

    def read(self, indices: Iterable[int]) -> list[str]:
        """The documents with these indices."""
        records = self._source.__getitems__(list(indices))
        return [record["text"].decode() for record in records]


class DocumentsBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """TFDS builder of a corpus: records with one text each, in their original order.

    A subclass returns `self.examples(train, valid)` from `_split_generators`.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=inspect.getdoc(type(self)),
            features=tfds.features.FeaturesDict({"text": tfds.features.Text()}),
            disable_shuffling=True,  # texts keep their order; training shuffles windows
        )

    def examples(self, train: Iterable[str], valid: Iterable[str]) -> dict[str, Any]:
        """The two splits, in the form that TFDS expects."""
        return {
            "train": self._generate_examples(train),
            "validation": self._generate_examples(valid),
        }

    def _generate_examples(self, texts: Iterable[str]) -> Iterator[tuple[int, Any]]:
        tracked = progress.over(texts, f"writing {self.name}", "documents")
        for i, text in enumerate(tracked):
            yield i, {"text": text}


class Storyworld(DocumentsBuilder):
    """Stories of the embedded grammar: the first ones validate, the others train.

    A training story that equals a validation story is left out.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        num_stories: int = 20_000,
        num_valid_stories: int = 1_000,
        **kwargs: Any,
    ):
        self._seed = seed
        self._num_train, self._num_valid = num_stories, num_valid_stories
        super().__init__(**kwargs)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        stories = storyworld.generate(self._seed, self._num_valid + self._num_train)
        valid, train = stories[: self._num_valid], stories[self._num_valid :]
        return self.examples(splits.without(train, valid), valid)


class Text(DocumentsBuilder):
    """Documents of the user's own .txt, .gz and .xz files.

    Without validation files, a share of the distinct documents is held out.
    """

    def __init__(
        self,
        *,
        train_files: Sequence[Path] = (),
        valid_files: Sequence[Path] = (),
        valid_share: float = 0.05,
        seed: int = 0,
        **kwargs: Any,
    ):
        self._train_files, self._valid_files = train_files, valid_files
        self._valid_share, self._seed = valid_share, seed
        super().__init__(**kwargs)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return self._split(self._train_files, self._valid_files)

    def _split(
        self, train_files: Sequence[Path], valid_files: Sequence[Path]
    ) -> dict[str, Any]:
        if valid_files:
            return self.examples(_documents(train_files), _documents(valid_files))
        seed = self._seed
        chosen = splits.hold_out(_documents(train_files), self._valid_share, seed)
        if not chosen:  # there is a single document
            text = next(_documents(train_files))
            progress.note(
                f"{train_files[0]} is one document of {len(text.splitlines()):,} "
                "lines, whose end validates; if it contains several documents, put "
                "blank lines or <|endoftext|> between them"
            )
            return self.examples(*([s] for s in splits.cut(text, self._valid_share)))
        return self.examples(
            (
                s
                for s in _documents(train_files)
                if splits.digest(s, seed) not in chosen
            ),
            (s for s in _documents(train_files) if splits.digest(s, seed) in chosen),
        )


class Tinystories(Text):
    """TinyStories; Eldan and Li 2023, arXiv:2305.07759.

    Without files it downloads the official ones of an edition and checks their sha256.
    A story that is in both official files is used for validation only. Licence
    CDLA-Sharing-1.0.
    """

    url_infos = tinystories.all_downloads()

    def __init__(self, *, edition: str = "second", **kwargs: Any):
        self._edition = edition
        super().__init__(**kwargs)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        train_files, valid_files = self._train_files, self._valid_files
        if not train_files:
            *train_files, valid = tinystories.download(dl_manager, self._edition)
            valid_files = [valid]
        checksums = [files.sha256(path) for path in (*train_files, *valid_files)]
        if valid_files and tinystories.edition_of(checksums):
            train = splits.without(_documents(train_files), _documents(valid_files))
            return self.examples(train, _documents(valid_files))
        return self._split(train_files, valid_files)


class Source(NamedTuple):
    """A TFDS builder, its options, and the inputs that determine its documents.

    Attributes:
      builder: class of the TFDS builder; its name is part of the cache directory's.
      options: keyword arguments of the builder.
      content: plain JSON values that determine the documents; if they change, the
        corpus is built again.
      is_held_out: whether the validation documents come from the training files.
      edition: edition of official TinyStories, "first" or "second"; else "".
    """

    builder: type[DocumentsBuilder]
    options: dict[str, Any]
    content: Any
    is_held_out: bool = False
    edition: str = ""


def _storyworld(cfg: DataConfig) -> Source:
    if files := cfg.train_files or cfg.valid_files:
        raise ValueError(
            f"corpus='storyworld' reads no files, but {files} is given: pass "
            "--config.data.corpus=text too"
        )
    options = {
        "seed": cfg.seed,
        "num_stories": cfg.num_stories,
        "num_valid_stories": cfg.num_valid_stories,
    }
    return Source(Storyworld, options, [options, _grammar_hash()])


def _from_files(builder: type[Text], cfg: DataConfig) -> Source:
    train = text_files.paths(cfg.train_files, "--config.data.train_files")
    valid = text_files.paths(cfg.valid_files, "--config.data.valid_files")
    if valid and not train:
        raise ValueError(
            f"{valid[0]} can only validate: pass --config.data.train_files as well"
        )
    hold_out = {} if valid else {"valid_share": cfg.valid_share, "seed": cfg.seed}
    options = {"train_files": train, "valid_files": valid, **hold_out}
    if not train:  # the official files
        urls = list(tinystories.DOWNLOADS[cfg.edition])
        options["edition"] = cfg.edition
        return Source(builder, options, urls, edition=cfg.edition)
    root = cache.root(cfg.cache_dir)
    hashes = [[cache.sha256(path, root) for path in paths] for paths in (train, valid)]
    edition = tinystories.edition_of([*hashes[0], *hashes[1]])
    return Source(builder, options, [hashes, hold_out], not valid, edition)


CORPORA: dict[str, Callable[[DataConfig], Source]] = {
    "storyworld": _storyworld,
    "text": partial(_from_files, Text),
    "tinystories": partial(_from_files, Tinystories),
}


def _grammar_hash() -> str:
    folder = Path(grammar.__file__).parent
    sources = [path.read_bytes() for path in sorted(folder.glob("*.py"))]
    return hashlib.sha256(b"".join(sources)).hexdigest()


def _documents(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        yield from text_files.documents(path)


class _ShardConfig(shard_utils.ShardConfig):
    """Small shards, as a record of a large one takes longer to read; at most 512."""

    def get_number_shards(self, total_size: int, num_examples: int, *_: Any) -> int:
        return min(math.ceil(num_examples / _RECORDS_PER_SHARD), 512)


class _DownloadConfig(tfds.download.DownloadConfig):
    def get_shard_config(self) -> shard_utils.ShardConfig:
        return _ShardConfig()


def _build(
    builder_class: type[DocumentsBuilder],
    options: dict[str, Any],
    directory: Path,
    downloads: Path,
) -> None:
    tfds.disable_progress_bar()  # `progress` prints lines that fit a log
    with files.whole_directory(directory) as part:
        builder = builder_class(data_dir=part, file_format="array_record", **options)
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints a temporary path
            builder.download_and_prepare(
                download_dir=downloads,
                download_config=_DownloadConfig(try_download_gcs=False),
            )
        written = [path for path in part.rglob("*") if path.is_file()]
        record = {
            "fingerprint": splits.fingerprint(*map(_checked, _read(builder))),
            "builder": str(Path(builder.data_dir).relative_to(part)),
            "files": {str(f.relative_to(part)): files.sha256(f) for f in written},
        }
        (part / "corpus.json").write_text(json.dumps(record, indent=2))


def _checked(documents: Documents) -> Iterator[str]:
    return progress.over(documents, "checking the split", "documents")


def _is_whole(directory: Path, root: Path) -> bool:
    """Whether every file has the checksum that was recorded.

    Raises:
      OSError: a file cannot be read, which is no reason to build the corpus again.
    """
    if not files.exists(directory / "corpus.json"):
        return False
    try:
        checksums = files.read_json(directory / "corpus.json")["files"].items()
        paths = [(directory / name, checksum) for name, checksum in checksums]
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return all(
        files.exists(path) and checksum == cache.sha256(path, root)
        for path, checksum in paths
    )


def _read(builder: Any) -> tuple[Documents, Documents]:
    train, valid = (builder.as_data_source(s) for s in ("train", "validation"))
    return Documents(train), Documents(valid)
