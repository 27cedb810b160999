"""Published weights, and made-up ones, that the tests of conversion share."""

import llama2c
import pytest
from checkout import ROOT

from lm_jax import run
from lm_jax.convert import import_run

STORIES = ROOT.parent / "shared" / "stories260k"


@pytest.fixture(scope="session")
def stories_dir():
    """Where stories260K lies, beside the checkout."""
    if not (STORIES / "checkpoint_v1.bin").is_file():
        pytest.skip(
            f"needs checkpoint_v1.bin and tokenizer.bin of stories260K, {STORIES}"
        )
    return STORIES


@pytest.fixture(scope="session")
def stories(stories_dir, tmp_path_factory):
    """stories260K as a run of the library."""
    workdir = tmp_path_factory.mktemp("convert") / "stories260k"
    import_run("llama2c", stories_dir / "checkpoint_v1.bin", workdir)
    return run.load(workdir)


@pytest.fixture(scope="session")
def made_up(tmp_path_factory):
    """(sizes, weights, folder): a small llama2.c file with its tokenizer."""
    folder = tmp_path_factory.mktemp("made_up")
    sizes = llama2c.Sizes()
    weights = llama2c.random_weights(sizes)
    (folder / "model.bin").write_bytes(llama2c.to_bytes(sizes, weights))
    words = " ", " t", "he", " the", "Once", " O", "nce", "ce", "on", " on", "day", "\n"
    (folder / "tokenizer.bin").write_bytes(llama2c.tokenizer_bytes(words))
    return sizes, weights, folder
