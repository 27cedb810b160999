"""Checkpoints: training state and data position, so that a run continues bit for bit.

A checkpoint holds the state and a manifest: the shape, type and checksum of every
array, the position in the data, the run's totals and its validation loss. It does not
depend on processes or devices: each process writes and reads its own parts of the
arrays, on any mesh. No other module imports orbax, except for its types.

A checkpoint counts as damaged only if a checksum of an array, a digest of a file or the
JSON parser shows it. An error of the disk or of a library ends the call and leaves
every file as it is.
"""

import contextlib
import json
import logging
import math
import shutil
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

DIRECTORY = "checkpoints"  # in the directory of a run
DIGESTS = "digests.json"  # in a checkpoint
_STATE = "state"  # the arrays in a checkpoint
_DAMAGED = ".damaged"  # suffix of a checkpoint that was set aside
_UNFINISHED = ".orbax-checkpoint-tmp"  # suffix of orbax for an incomplete directory
_DELETED = "deleted"  # where checkpoints go before their files are removed


@contextlib.contextmanager
def manager(directory: str | Path, keep: int) -> Iterator[ocp.CheckpointManager]:
    """Checkpoint manager: saves in the background, keeps the last `keep` and the best.

    The best has the lowest validation loss among those that were saved with one. When
    the `with` statement ends, every save is complete, or discarded as a whole.

    Raises:
      OSError: a save failed.
    """
    directory = Path(directory).absolute()
    options = ocp.CheckpointManagerOptions(
        preservation_policy=_LatestAndBest(directory, keep),
        cleanup_tmp_directories=True,  # half-written saves of a killed run
        # Killed while it removes the files of a checkpoint, orbax would leave a part of
        # it under its step; a rename is atomic.
        todelete_subdir=_DELETED,
        async_options=ocp.options.AsyncOptions(
            post_finalization_callback=partial(_write_digests, directory),
            # Else orbax waits minutes for a directory that cannot be created.
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
            with contextlib.suppress(Exception):  # it has been raised before
                mngr.close()


def finish(mngr: ocp.CheckpointManager) -> None:
    """Waits until every save is complete.

    Raises:
      OSError: a save failed.
    """
    with _as_os_error("no checkpoint can be saved"):
        mngr.wait_until_finished()
    _remove_deleted(Path(mngr.directory))


def _remove_deleted(directory: Path) -> None:
    """Removes the files of deleted checkpoints; what fails is tried again later."""
    if jax.process_index() == 0:
        shutil.rmtree(directory / _DELETED, ignore_errors=True)


@contextlib.contextmanager
def _as_os_error(what: str) -> Iterator[None]:
    """Turns the many error types of orbax and tensorstore into OSError."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise OSError(f"{what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).partition("\n")[0]


def _write_digests(directory: Path) -> None:
    """Writes the digests of the files of a new checkpoint.

    Orbax calls this after all files are written, and before it renames their directory
    and deletes older checkpoints.

    Raises:
      OSError: the checkpoint is not complete.
    """
    if jax.process_index() == 0:
        (part,) = directory.glob(f"*{_UNFINISHED}*")
        _require_complete(part)
        # Files outside the items are left out: orbax writes them again after this.
        written = [path for path in part.rglob("*/*") if path.is_file()]
        files.write_json(part / DIGESTS, files.with_digests({}, part, written))
        _remove_deleted(directory)


def _require_complete(path: Path) -> None:
    """Raises OSError unless every chunk of every array exists.

    If listing its directories fails, orbax writes a checkpoint without arrays and
    reports success.
    """
    item: Any = path / "manifest"  # orbax's handlers declare another type of path
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
            raise OSError(f"{path} is incomplete: data of {name} are missing")


def save(
    mngr: ocp.CheckpointManager,
    state: Any,
    batches: grain.DatasetIterator,
    totals: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
) -> None:
    """Saves a checkpoint of step `state.step`; afterwards the state may be donated.

    Args:
      mngr: manager from `manager`.
      state: training state.
      batches: iterator, whose position is saved.
      totals: sums over the run, as JSON; `restore_latest` returns them.
      metrics: scores of a validation at this step, if any; "nats_per_token" decides
        which checkpoint is the best.

    Raises:
      OSError: this save, or the one before it, failed.
    """
    score = (metrics or {}).get("nats_per_token")
    _save(mngr, state, batches.get_state(), totals, score)


def save_alone(directory: str | Path, state: Any) -> None:
    """Saves a state that was not trained here as the only checkpoint of a directory.

    Raises:
      OSError: the save failed.
    """
    with manager(directory, keep=1) as mngr:
        _save(mngr, state, {}, {}, None)


def _save(
    mngr: ocp.CheckpointManager,
    state: Any,
    position: Mapping[str, Any],
    totals: Mapping[str, Any],
    score: float | None,
) -> None:
    manifest = checkpoint_metadata.make(state, position, totals, score)
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
    """Restores the newest undamaged checkpoint, or returns `init()` if none was saved.

    A damaged checkpoint is logged, and the one before it is tried. Once an undamaged
    one is found, the damaged ones are renamed to `<step>.damaged`.

    Args:
      mngr: manager from `manager`.
      init: () -> state before the first step; it is jitted here.
      batches: iterator, whose position is set.
      shardings: sharding of each array of the state; default: one device.

    Returns:
      The state, the batches at their position, and the totals ({} from scratch).

    Raises:
      ValueError: the checkpoint is of another model, and the message names an array
        that differs; or there are checkpoints, and all are damaged.
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
                batches.set_state(manifest["position"])
            checkpoint_metadata.require_equal_sums(path, manifest["arrays"], state)
        except CorruptFileError as damage:
            _log.warning("%s: trying the one before it", damage)
            damaged.append(path)
            continue
        _set_aside(mngr, damaged)
        return state, batches, manifest["totals"]
    if any(name.isdecimal() or _DAMAGED in name for name in names):
        raise ValueError(_none_is_sound(directory))
    return jax.jit(init, out_shardings=shardings)(), batches, {}


class Restored(NamedTuple):
    """Parameters, and the step of their checkpoint."""

    params: Params
    step: int


def restore_params(
    directory: str | Path, abstract_params: Params = None, which: int | str = "latest"
) -> Restored:
    """Restores the parameters for sampling and evaluation: their average if one exists.

    One process may call this alone; the parameters are on one of its devices.

    Args:
      directory: directory of the checkpoints.
      abstract_params: expected shapes and types; default: any, as nested dictionaries.
      which: "latest", "best" (lowest validation loss) or a step. With "latest" and
        "best", damaged checkpoints are skipped.

    Raises:
      ValueError: all checkpoints are damaged, or there is none, or it is of another
        model.
      OSError: a checkpoint cannot be read.
    """
    directory = Path(directory).absolute()
    steps = _chosen_steps(directory, which)
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
            one_device = sharding.shardings(None, abstract)
            arrays = _read_arrays(path, abstract, one_device)
            checkpoint_metadata.require_equal_sums(path, manifest["arrays"], arrays)
            return Restored(arrays[part], step)
        except CorruptFileError as damage:
            _log.warning("%s: trying the next one", damage)
    raise ValueError(
        _none_is_sound(directory)
        if steps
        else f"{directory} holds no checkpoint: train first, or name another --workdir"
    )


def _chosen_steps(directory: Path, which: int | str) -> list[int]:
    """The steps that "latest", "best" or a step stands for, the first choice first."""
    steps = sorted(_steps(directory), reverse=True)
    if which == "best":
        steps.sort(key=lambda step: _score(directory / str(step)))
    elif steps and which != "latest":
        if str(which) not in map(str, steps):
            raise ValueError(
                f"{directory} holds no checkpoint {which!r}: choose latest, best or "
                f"one of the steps {', '.join(map(str, sorted(steps)))}"
            )
        steps = [int(which)]
    return steps


def latest_step(directory: str | Path) -> int | None:
    """Step of the newest checkpoint, damaged or not; None if there is none."""
    return max(_steps(Path(directory)), default=None)


def identity(directory: str | Path, which: int | str = "latest") -> str:
    """Identifies a checkpoint by its step and the checksum of its manifest.

    Args:
      directory, which: see `restore_params`.

    Raises:
      ValueError: there is no such step.
      OSError: the checkpoint cannot be read.
    """
    directory = Path(directory).absolute()
    step = next(iter(_chosen_steps(directory, which)), None)
    try:
        path = directory / str(step)
        return f"{step} {_read_manifest(path)['crc32']:08x}"
    except CorruptFileError:
        return f"{step} damaged"


class _LatestAndBest:
    """Preservation policy: scores are those of the manifests, which have a checksum.

    Orbax's BestN reads scores from a file of its own that no checksum covers; without
    that file it knows none of an earlier process, and keeps every checkpoint.
    """

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
        if checkpoint.metrics is not None:  # saved just now, perhaps not yet on disk
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
        f"{directory} holds checkpoints and none is sound: restore one from a copy, "
        "name another --workdir, or move that directory away to start over"
    )


def _read_manifest(path: Path) -> dict[str, Any]:
    return checkpoint_metadata.checked(
        path, _read(path, manifest=ocp.args.JsonRestore())
    )


def _read_arrays(path: Path, abstract: Any, shardings: Any) -> Any:
    """Sharded arrays; each process reads the parts for its own devices."""
    restore_args = jax.tree.map(
        lambda x, spec: ocp.ArrayRestoreArgs(sharding=spec, dtype=x.dtype),
        abstract,
        shardings,
    )
    return _read(
        path,
        **{
            _STATE: ocp.args.PyTreeRestore(abstract, restore_args, partial_restore=True)
        },
    )


@contextlib.contextmanager
def _agreed(path: Path) -> Iterator[None]:
    """Raises an error of one process in all of them."""
    found = None
    try:
        yield
    except (CorruptFileError, OSError) as error:
        found = error
    for kind, what in ((OSError, "cannot be read"), (CorruptFileError, "is damaged")):
        is_own = isinstance(found, kind)
        if distributed.any_of(is_own):
            raise found if is_own else kind(f"{path} {what}, as another process found")


def _read(path: Path, **item: ocp.args.CheckpointArgs) -> Any:
    """Reads one item of a checkpoint; no process waits for another.

    Orbax has no error type for damage, so after an error the digests are checked.

    Raises:
      CorruptFileError: a digest of a file differs, or JSON cannot be parsed.
      OSError: any other error.
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
            "that directory away to continue from the checkpoint before it"
        ) from error


def _require_undamaged(path: Path) -> None:
    """Raises CorruptFileError if the digest of a file of the checkpoint differs.

    Without the file of digests nothing is known to be damaged.
    """
    digests = path / DIGESTS
    if not files.exists(digests):
        return
    try:
        files.require_undamaged(digests, files.read_json(digests, rename=False))
    except CorruptFileError as damage:
        raise CorruptFileError(f"{path} is damaged: {damage}") from damage


def _set_aside(mngr: ocp.CheckpointManager, paths: Sequence[Path]) -> None:
    """Renames damaged checkpoints, so that their steps can be saved again."""
    if not paths:
        return
    if jax.process_index() == 0:
        for path in paths:
            name, taken = f"{path.name}{_DAMAGED}", files.names(path.parent)
            for number in range(2, len(taken) + 2):
                if name not in taken:
                    break
                name = f"{path.name}{_DAMAGED}.{number}"
            path.rename(path.with_name(name))
    multihost_utils.sync_global_devices("set aside")
    mngr.reload()
