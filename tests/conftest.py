"""The strictest modes of every library, switched on once for all tests.

setup.cfg turns on the run-time check of shapes and types before this file is read.
"""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest
from absl import flags
from checkout import ROOT


def _has_gpu() -> bool:
    plugins = ("jax_cuda12_plugin", "jax_cuda13_plugin")
    is_supported = any(importlib.util.find_spec(plugin) for plugin in plugins)
    return is_supported and any(Path("/dev").glob("nvidia[0-9]*"))


# CPU first, also where there is a GPU: what the tests say must not depend on it.
PLATFORMS = os.environ.get("JAX_PLATFORMS") or ("cpu,cuda" if _has_gpu() else "cpu")

os.environ["MPLBACKEND"] = "Agg"
jax.config.update("jax_platforms", PLATFORMS)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)
flags.FLAGS.mark_as_parsed()  # grain reads flags, and no main has parsed any


def pytest_configure(config: pytest.Config) -> None:
    """Compiles once what many tests compile, and what the last run compiled."""
    if getattr(config, "cache", None):
        path = config.cache.mkdir("jax")  # pyright: ignore[reportOptionalMemberAccess]
        jax.config.update("jax_compilation_cache_dir", str(path))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` run where JAX finds one, and say so where it does not."""
    if "cuda" in PLATFORMS:
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a GPU; JAX finds none here"))


@pytest.fixture(scope="module")
def fast_compilation() -> Iterator[None]:
    """For modules where compiling takes far longer than running: XLA optimises less."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def tinystories_dir() -> Path:
    """Where real TinyStories lie, beside the checkout: train.txt and valid.txt."""
    path = ROOT.parent / "shared" / "tinystories"
    if not (path / "train.txt").is_file():
        pytest.skip(f"needs TinyStories as train.txt and valid.txt in {path}")
    return path


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Corpora, tokenizers and windows that tests of whole runs share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def finished(
    cache_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any, Any]:
    """(directory, config, results) of a toy comparison."""
    from tiny_configs import toy

    from experiments.compare.comparison import compare

    workdir, cfg = tmp_path_factory.mktemp("compare"), toy(cache_dir)
    return workdir, cfg, compare(cfg, workdir, command="test")
