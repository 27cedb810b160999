"""Checkpoints: what a run needs to go on as if it had never stopped.

A checkpoint holds the state and a manifest: the shape, type and checksum of every
array, the position in the data, the run's totals and its validation loss. It knows
neither processes nor devices: each process writes and reads its own parts of the
arrays, on whatever mesh. No other module imports orbax.

A checkpoint is damaged where a checksum of an array, a digest of a file or a parser of
JSON refutes it, and for no other reason: an error of the disk or of a library ends the
call and leaves every file as it is.
"""

import contextlib
import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import grain
import jax
import orbax.checkpoint as ocp
import tensorstore as ts
from jax.experimental import multihost_utils

from lm_jax import checkpoint_metadata, distributed, files, sharding
from lm_jax.files import CorruptFileError
from lm_jax.types import Params

_log = logging.getLogger(__name__)

State = TypeVar("State")  # a pytree with a field `step`

DIRECTORY = "checkpoints"  # within the directory of a run
DIGESTS = "digests.json"  # within a checkpoint
_STATE = "state"  # the arrays within a checkpoint
_DAMAGED = ".damaged"  # behind the name of one that was set aside
_UNFINISHED = ".orbax-checkpoint-tmp"  # what orbax calls a directory until it is whole


@contextlib.contextmanager
def manager(directory: str | Path, keep: int) -> Iterator[ocp.CheckpointManager]:
    """Saves in the background; keeps the latest `keep` checkpoints and the best one.

    The best has the lowest validation loss among those that were saved with one. When
    the `with` statement ends, every save is complete, or discarded whole.

    Raises:
      OSError: something could not be saved.
    """
    directory = Path(directory).absolute()
    options = ocp.CheckpointManagerOptions(
        preservation_policy=_LatestAndBest(directory, keep),
        cleanup_tmp_directories=True,  # what a killed run left half-written
        async_options=ocp.options.AsyncOptions(
            post_finalization_callback=partial(_write_digests, directory),
            # Or a directory that cannot be made is waited for, for minutes.
            create_directories_asynchronously=False,
        ),
    )
    mngr = None
    try:
        with _as_os_error(f"{directory} cannot be opened"):
            mngr = ocp.CheckpointManager(directory, options=options)
        yield mngr
        finish(mngr)
    finally:
        if mngr is not None:
            with contextlib.suppress(Exception):  # that ended the run, or finish told
                mngr.close()


def finish(mngr: ocp.CheckpointManager) -> None:
    """Waits until every save is complete.

    Raises:
      OSError: one could not be.
    """
    with _as_os_error("no checkpoint can be saved"):
        mngr.wait_until_finished()


@contextlib.contextmanager
def _as_os_error(what: str) -> Iterator[None]:
    """Orbax and tensorstore have many names for a disk that fails."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise OSError(f"{what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).partition("\n")[0]


def _write_digests(directory: Path) -> None:
    """Adds the digests of its files to the checkpoint that is about to appear.

    Orbax calls this when all files are written and before it renames their directory
    and deletes older ones.

    Raises:
      OSError: the checkpoint is not complete.
    """
    if jax.process_index() == 0:
        (part,) = directory.glob(f"*{_UNFINISHED}*")
        _require_complete(part)
        # Not those beside the items, which orbax writes once more after this.
        written = [path for path in part.rglob("*/*") if path.is_file()]
        files.write_json(part / DIGESTS, files.with_digests({}, part, written))


def _require_complete(path: Path) -> None:
    """Raises OSError unless every chunk of every array is there.

    Where a listing of its directories fails, orbax writes a checkpoint without arrays
    and reports success.
    """
    item: Any = path / "manifest"  # orbax's handlers want a Path of their own kind
    arrays = ocp.JsonCheckpointHandler().restore(item)["arrays"]
    item = path / _STATE
    ocp.PyTreeCheckpointHandler().metadata(item)
    base = {"driver": "file", "path": f"{item}/"}
    store = ts.KvStore.open({"driver": "ocdbt", "base": base}).result()
    stored = Counter(
        key.decode().rpartition("/")[0]
        for key in store.list().result()
        if not key.endswith(b"/.zarray")
    )
    for name in (name.replace("/", ".") for name in arrays):
        layout = json.loads(store.read(f"{name}/.zarray").result().value or "{}")
        sizes = zip(layout.get("shape", [0]), layout.get("chunks", [1]), strict=True)
        if stored[name] != math.prod(-(-size // chunk) for size, chunk in sizes):
            raise OSError(f"{path} was not written whole: {name} lacks data")


def save(
    mngr: ocp.CheckpointManager,
    state: Any,
    batches: grain.DatasetIterator,
    totals: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
) -> None:
    """Saves at `state.step`; the state may be donated as soon as this returns.

    Args:
      mngr: from `manager`.
      state: what to save.
      batches: its position is saved.
      totals: the run's, as JSON; `restore_latest` gives them back.
      metrics: of the validation, where there was one; "nats_per_token" decides which
        checkpoint is the best.

    Raises:
      OSError: this save, or the one before it, failed.
    """
    score = (metrics or {}).get("nats_per_token")
    manifest = checkpoint_metadata.make(state, batches.get_state(), totals, score)
    with _as_os_error("no checkpoint can be saved"):
        mngr.save(
            int(state.step),
            args=ocp.args.Composite(
                **{_STATE: ocp.args.StandardSave(state)},
                manifest=ocp.args.JsonSave(manifest),
            ),
            metrics={"nats_per_token": score},
        )


def restore_latest(
    mngr: ocp.CheckpointManager,
    init: Callable[[], State],
    batches: grain.DatasetIterator,
    shardings: Any = None,
) -> tuple[State, grain.DatasetIterator, dict[str, Any]]:
    """The newest sound checkpoint, or `init()` where nothing was ever saved.

    A damaged checkpoint is named in the log and skipped for the one before; where that
    one is sound, the damaged one is renamed to `<step>.damaged`.

    Args:
      mngr: from `manager`.
      init: makes the state before the first step; it is jitted here.
      batches: whose position is set.
      shardings: where each array of the state shall lie; default: on one device.

    Returns:
      The state, the batches at their position, and the totals ({} from scratch).

    Raises:
      ValueError: the checkpoint is of another model, and an array that differs is
        named; or there are checkpoints, and none is sound.
      OSError: a checkpoint cannot be read.
    """
    directory = Path(mngr.directory)
    abstract = jax.eval_shape(init)
    shardings = shardings or sharding.shardings(None, abstract)
    damaged = []
    names = files.names(directory)
    for step in sorted((int(name) for name in names if name.isdecimal()), reverse=True):
        path = directory / str(step)
        try:
            with _agreed(path):
                manifest = _read_manifest(path)
                checkpoint_metadata.require_equal_shapes(
                    path, manifest["arrays"], abstract
                )
                state = _read_arrays(path, abstract, shardings)
                _set_position(path, manifest, batches)
            checkpoint_metadata.require_equal_sums(path, manifest["arrays"], state)
        except CorruptFileError as damage:
            _log.warning("%s: looking at the one before", damage)
            damaged.append(path)
            continue
        _set_aside(mngr, damaged)
        return state, batches, manifest["totals"]
    if any(name.isdecimal() or _DAMAGED in name for name in names):
        raise ValueError(_none_is_sound(directory))
    return jax.jit(init, out_shardings=shardings)(), batches, {}


class Restored(NamedTuple):
    """Parameters, and the step of the checkpoint that they were read from."""

    params: Params
    step: int


def restore_params(
    directory: str | Path, abstract_params: Params = None, which: int | str = "latest"
) -> Restored:
    """The parameters to sample from and to evaluate: the average where there is one.

    A process may call this alone; they lie on one of its devices.

    Args:
      directory: of the checkpoints.
      abstract_params: what shapes to expect; default: whatever was saved, as nested
        dictionaries.
      which: "latest", "best" (the lowest validation loss) or a step. Of the first two
        a damaged checkpoint is skipped for the next one.

    Raises:
      ValueError: there is no sound checkpoint, or it is of another model.
      OSError: a checkpoint cannot be read.
    """
    directory = Path(directory).absolute()
    steps = sorted(_steps(directory), reverse=True)
    if which == "best":
        steps.sort(key=lambda step: _score(directory / str(step)))
    elif steps and which != "latest":
        _require_step(directory, steps, which)
        steps = [int(which)]
    for step in steps:
        path = directory / str(step)
        try:
            manifest = _read_manifest(path)
            parts = checkpoint_metadata.split(manifest["arrays"])
            part = "ema" if "ema" in parts else "params"
            if abstract_params is None:
                abstract = checkpoint_metadata.abstract(parts[part])
            else:
                abstract = {part: abstract_params}
                checkpoint_metadata.require_equal_shapes(path, parts[part], abstract)
            here = sharding.shardings(None, abstract)
            arrays = _read_arrays(path, abstract, here)
            checkpoint_metadata.require_equal_sums(path, manifest["arrays"], arrays)
            return Restored(arrays[part], step)
        except CorruptFileError as damage:
            _log.warning("%s: reading the next one", damage)
    raise ValueError(
        _none_is_sound(directory)
        if steps
        else f"{directory} holds no checkpoint: train first, or name another --workdir"
    )


def _require_step(directory: Path, steps: list[int], which: int | str) -> None:
    if str(which) not in map(str, steps):
        raise ValueError(
            f"{directory} holds no checkpoint {which!r}: choose latest, best or one of "
            f"the steps {', '.join(map(str, sorted(steps)))}"
        )


def latest_step(directory: str | Path) -> int | None:
    """The step of the newest checkpoint, sound or not; None where there is none."""
    return max(_steps(Path(directory)), default=None)


def identity(directory: str | Path) -> str:
    """Stands for the newest checkpoint: its step, and a checksum of all that it holds.

    Raises:
      OSError: it cannot be read.
    """
    step = latest_step(directory)
    try:
        path = Path(directory).absolute() / str(step)
        return f"{step} {_read_manifest(path)['crc32']:08x}"
    except CorruptFileError:
        return f"{step} damaged"


class _LatestAndBest:
    """A policy of orbax's kind; its own would rank scores that may be damaged."""

    def __init__(self, directory: Path, keep: int):
        self.directory, self.keep = directory, keep

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: Any
    ) -> list[bool]:
        del context
        latest = {c.step for c in checkpoints[-self.keep :]}
        best = min(checkpoints, key=self._score).step
        return [c.step in latest or c.step == best for c in checkpoints]

    def _score(self, checkpoint: Any) -> float:
        if (
            checkpoint.metrics is not None
        ):  # saved by this process, perhaps not yet on disk
            return _or_inf(checkpoint.metrics["nats_per_token"])
        return _score(self.directory / str(checkpoint.step))


def _score(path: Path) -> float:
    try:
        return _or_inf(_read_manifest(path)["nats_per_token"])
    except CorruptFileError:
        return math.inf


def _or_inf(score: float | None) -> float:
    return math.inf if score is None or math.isnan(score) else score


def _steps(directory: Path) -> list[int]:
    return [int(name) for name in files.names(directory) if name.isdecimal()]


def _none_is_sound(directory: Path) -> str:
    return (
        f"{directory} holds checkpoints and none is sound: bring one back from a copy, "
        "name another --workdir, or move that directory away to start over"
    )


def _read_manifest(path: Path) -> dict[str, Any]:
    return checkpoint_metadata.checked(
        path, _read(path, manifest=ocp.args.JsonRestore())
    )


def _read_arrays(path: Path, abstract: Any, shardings: Any) -> Any:
    """Arrays in their places; each process reads what lies on its own devices."""
    restore_args = jax.tree.map(
        lambda x, place: ocp.ArrayRestoreArgs(sharding=place, dtype=x.dtype),
        abstract,
        shardings,
    )
    return _read(
        path,
        **{
            _STATE: ocp.args.PyTreeRestore(abstract, restore_args, partial_restore=True)
        },
    )


def _set_position(
    path: Path, manifest: Mapping[str, Any], batches: grain.DatasetIterator
) -> None:
    """The same in every process, as each knows the order of the whole batches."""
    if "position" in manifest:
        batches.set_state(manifest["position"])
        return
    # Version 0.1.0 kept it in a file of its own.
    _read(path, data=grain.checkpoint.CheckpointRestore(batches))
    if checkpoint_metadata.crc32(batches.get_state()) != manifest["data"]:
        raise CorruptFileError(
            f"{path} is damaged: its data position is not what was saved"
        )


@contextlib.contextmanager
def _agreed(path: Path) -> Iterator[None]:
    """What one process finds in its own parts holds for all of them."""
    found = None
    try:
        yield
    except (CorruptFileError, OSError) as error:
        found = error
    for kind, what in ((OSError, "cannot be read"), (CorruptFileError, "is damaged")):
        if distributed.any_of(isinstance(found, kind)):
            is_mine = isinstance(found, kind)
            raise found if is_mine else kind(f"{path} {what}, as another process found")


def _read(path: Path, **item: ocp.args.CheckpointArgs) -> Any:
    """One item of a checkpoint; no process waits for another.

    Orbax has no error of its own for damage, so what it raises is asked of the digests.

    Raises:
      CorruptFileError: a file is not what was written.
      OSError: anything else went wrong.
    """
    (name,) = item
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})
    options = ocp.CompositeOptions(multiprocessing_options=alone)
    try:
        reader = ocp.Checkpointer(
            ocp.CompositeCheckpointHandler(composite_options=options),
            multiprocessing_options=alone,
        )
        return reader.restore(path, args=ocp.args.Composite(**item))[name]
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
            raise CorruptFileError(
                f"{path} is damaged: its {name} is no JSON"
            ) from error
        _require_undamaged(path)
        raise OSError(
            f"cannot read the {name} of {path} ({_reason(error)}), although none of "
            "its files is known to be damaged: run the same command again, or move "
            "that directory away to go on from the checkpoint before it"
        ) from error


def _require_undamaged(path: Path) -> None:
    """Raises CorruptFileError where a file of the checkpoint is not what was written.

    Checkpoints of version 0.1.0 have no digests, and nothing is said of their files.
    """
    digests = path / DIGESTS
    if not files.exists(digests):
        return
    try:
        files.require_undamaged(digests, files.read_json(digests))
    except CorruptFileError as damage:
        raise CorruptFileError(f"{path} is damaged: {damage}") from damage


def _set_aside(mngr: ocp.CheckpointManager, paths: Sequence[Path]) -> None:
    """Frees the steps for new saves, and destroys nothing."""
    if not paths:
        return
    if jax.process_index() == 0:
        for path in paths:
            aside, taken = f"{path.name}{_DAMAGED}", files.names(path.parent)
            for number in range(2, len(taken) + 2):
                if aside not in taken:
                    break
                aside = f"{path.name}{_DAMAGED}.{number}"
            path.rename(path.with_name(aside))
    multihost_utils.sync_global_devices("set aside")
    mngr.reload()
