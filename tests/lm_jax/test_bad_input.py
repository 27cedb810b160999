"""Bad input: whatever comes in, nothing is lost, nothing runs, and errors are clean."""

import dataclasses
import gzip
import io
import re
import string
import subprocess
import sys

import jaxtyping
import numpy as np
import pytest
import workers
from absl import flags
from checkout import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lm_jax import command_line
from lm_jax.config import Config
from lm_jax.data import text_files
from lm_jax.data.tokenizers.sentencepiece import SentencePiece, train_tokenizer
from lm_jax.data.windows import pack
from lm_jax.files import read_json
from lm_jax.sampling.templates import make_template
from lm_jax.types import EOS, MASK, NUM_NON_TEXT, PAD
from lm_jax.validation import split_list

PACKAGES = ("lm_jax", "ar_jax", "mdlm_jax", "experiments")
WORDS = "the cat sat on a mat and saw Tom; Tom had a red ball.".split()

checked = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# Whatever JSON or a flag may hold.
plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    plain,
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=4), x),
    max_leaves=4,
)
any_text = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.fixture(scope="module")
def tokenizer():
    rng = np.random.default_rng(0)
    return train_tokenizer([" ".join(rng.choice(WORDS, 12)) for _ in range(200)], 330)


@pytest.fixture
def unchecked():
    """Without the run-time check of types, which users do not have."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def sections():
    names = [field.name for field in dataclasses.fields(Config)]
    return [name for name in names if dataclasses.is_dataclass(getattr(Config(), name))]


# Configurations.


@checked
@given(data=st.data(), section=st.sampled_from(sections()))
def test_a_config_is_valid_or_names_its_field(unchecked, data, section):
    """One field gets any value: either it comes back unchanged, a text as the list that
    it stands for, or a ValueError names the section's class or the field."""
    tree = Config().to_dict()
    field = data.draw(st.sampled_from(sorted(tree[section])))
    is_list = isinstance(tree[section][field], list)
    tree[section][field] = value = data.draw(values)
    try:
        config = Config.from_dict(tree)
    except ValueError as error:
        assert field in str(error) or section in str(error).lower()
    else:
        found = config.to_dict()[section][field]
        if is_list and isinstance(value, str):
            parts = split_list(value)
            value = [type(x)(part) for x, part in zip(found, parts, strict=True)]
        assert found == value
        assert Config.from_dict(config.to_dict()) == config


@checked
@given(tree=st.dictionaries(st.sampled_from([*sections(), "seed", "x"]), values))
def test_a_config_of_any_shape_is_valid_or_refused(unchecked, tree):
    """Sections that are no sections, unknown names, anything: a ValueError at most."""
    try:
        Config.from_dict(tree)
    except ValueError as error:
        assert str(error)


# Tokenizers.


@checked
@given(text=any_text)
def test_every_text_comes_back(tokenizer, text):
    """decode(encode(text)) == text for all of Unicode, and nothing in it is a special
    id, whatever it looks like."""
    (tokens,) = tokenizer.encode([text])
    assert tokenizer.decode(tokens) == text
    assert all(token >= NUM_NON_TEXT and token != EOS for token in tokens.tolist())


@pytest.mark.parametrize("plane", range(17))
def test_every_character_of_unicode_comes_back(tokenizer, plane):
    """All 1,112,064 of them, in pieces, as a text of many and as a text each."""
    points = range(plane * 0x10000, (plane + 1) * 0x10000)
    characters = [chr(p) for p in points if not 0xD800 <= p < 0xE000]
    texts = ["".join(characters[i : i + 64]) for i in range(0, len(characters), 64)]
    texts += characters[::997]
    for text, tokens in zip(texts, tokenizer.encode(texts), strict=True):
        assert tokenizer.decode(tokens) == text


@checked
@given(octets=st.binary(max_size=200))
def test_a_tokenizer_of_other_bytes_is_refused(octets):
    with pytest.raises(ValueError, match="no tokenizer of this library"):
        SentencePiece(octets)


# Windows.

documents = st.lists(
    st.lists(st.integers(NUM_NON_TEXT + 1, 60), min_size=1, max_size=12),
    min_size=1,
    max_size=20,
)


@checked
@given(documents=documents, length=st.integers(2, 16))
def test_packing_keeps_every_story_or_its_beginning(documents, length):
    """Read in order, the windows are the stories, each once, each with its EOS; only
    what the end of a window cuts off is missing, and the next window begins with the
    next story."""
    try:
        windows = pack([np.array(d, np.uint16) for d in documents], length, "document")
    except ValueError as error:
        assert "hold no whole document" in str(error)
        return
    left = [[*document, EOS] for document in documents]
    for window in windows.tolist():
        while window and window[0] != PAD:
            story = left.pop(0)
            assert window[: len(story)] == story[: len(window)]
            window = window[len(story) :]
        assert set(window) <= {PAD} and (not window or not left)
    assert not left


@checked
@given(documents=documents, length=st.integers(1, 16))
def test_a_stream_keeps_every_token(documents, length):
    """All tokens of all stories, in order, once; less than a window is missing."""
    stream = [token for document in documents for token in document]
    try:
        windows = pack([np.array(d, np.uint16) for d in documents], length, "stream")
    except ValueError as error:
        assert "do not fill a window" in str(error) and len(stream) < length
        return
    assert np.ravel(windows).tolist() == stream[: windows.size]
    assert len(stream) - windows.size < length


# Infills and prompts.

gaps = st.integers(0, 9).map(lambda n: f"[{n}]") | st.just("[x]") | st.just("[")
pieces = st.sampled_from([f"{word} " for word in WORDS]) | any_text | gaps


@checked
@given(parts=st.lists(pieces, max_size=6))
def test_an_infill_keeps_its_text_or_is_refused(tokenizer, parts):
    """A template holds MASK in the gaps and the given tokens elsewhere, in every row;
    or one sentence says why there is none."""
    infill = "".join(parts)
    try:
        template = np.asarray(make_template(tokenizer, (2, 48), "", infill))
    except ValueError as error:
        assert str(error)
        return
    assert template.shape == (2, 48) and np.array_equal(template[0], template[1])
    wanted = [int(n) for n in re.findall(r"\[(\d+)\]", infill)]
    if infill:
        ids = template[0].tolist()
        story = ids[: ids.index(EOS)]
        assert story.count(MASK) == sum(wanted)
        fixed = [token for token in story if token != MASK]
        # A gap takes the space before it, as words are written with theirs.
        assert tokenizer.decode(fixed) == re.sub(r" ?\[\d+\]", "", infill)
        assert set(ids[len(story) + 1 :]) <= {MASK}


# Files.

junk = st.binary(max_size=300) | any_text.map(str.encode)
suffixes = st.sampled_from([".txt", ".gz", ".xz", ".TXT", ""])


@settings(checked, max_examples=200)
@given(octets=junk, suffix=suffixes, is_packed=st.booleans())
def test_the_text_reader_reads_or_refuses(tmp_path, octets, suffix, is_packed):
    """Random bytes, packed or claimed to be: stories without white space around them,
    whose words are those of the file; or a ValueError that names the file."""
    path = tmp_path / f"stories{suffix}"
    path.write_bytes(gzip.compress(octets) if is_packed else octets)
    try:
        stories = list(text_files.documents(path))
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return
    assert stories and all(story == story.strip() != "" for story in stories)
    text = octets.decode().removeprefix("\ufeff").replace(text_files.MARK, " ")
    assert " ".join(stories).split() == text.split()


@checked
@given(octets=junk)
def test_a_file_of_a_run_that_is_no_json_is_named(tmp_path, octets):
    path = tmp_path / "config.json"
    path.write_bytes(octets)
    try:
        read_json(path)
    except ValueError as error:
        assert f"{path} is damaged: it is no JSON" in str(error)


def test_an_array_that_would_run_code_is_refused(tmp_path):
    """NumPy can hide a pickle in an .npy file; nobody here lets it."""
    path = tmp_path / "valid_windows.npy"
    np.save(path, np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        np.load(path)


# The command line.

arguments = st.lists(
    st.text(alphabet=string.printable, max_size=20)
    | st.binary(max_size=12).map(lambda b: b.decode("latin-1").replace("\0", ""))
    | st.sampled_from(["--config", "--workdir=", "--config.train.num_steps="]).flatmap(
        lambda flag: any_text.map(lambda text: flag + text)
    ),
    max_size=4,
)


@settings(checked, max_examples=200)
@given(argv=arguments)
def test_flags_are_parsed_or_refused(argv):
    """Any words: parsed, or refused in one line."""
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", "", "", flag_values=values)
    flags.DEFINE_integer("seed", 0, "", flag_values=values)
    try:
        values(["program", *argv])
    except Exception as error:
        sentence = command_line.bad_flag(error)
        assert sentence and "\n" not in sentence and "cannot be loaded" not in sentence


@pytest.mark.slow
def test_the_command_line_survives_random_bytes(tmp_path):
    """The real programs on a directory and a config of noise: status 2, one sentence,
    no traceback, and not a file that was not there before."""
    rng = np.random.default_rng(0)
    noise = tmp_path / "noise"
    noise.mkdir()
    for name in ("config.json", "run.json", "tokenizer.model", "stories.txt"):
        (noise / name).write_bytes(rng.bytes(300))
    (noise / "config.py").write_text("def get_config():\n    return 3\n")
    before = sorted(noise.rglob("*"))
    commands = [
        ["ar_jax.sample", f"--workdir={noise}"],
        ["mdlm_jax.evaluate", f"--workdir={noise}"],
        ["ar_jax.train", f"--workdir={noise}", f"--config={noise}/config.py"],
        ["experiments.compare", f"--workdir={noise}", "--config.data.corpus=text"]
        + [f"--config.data.train_files={noise}/stories.txt"]
        + [f"--config.data.cache_dir={tmp_path}/cache"],
        ["mdlm_jax.sample", rng.bytes(20).replace(b"\0", b"").decode("latin-1")],
    ]
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            env=workers.environment(1),
            cwd=ROOT,
            capture_output=True,
            check=False,
            timeout=120,
        )
        text = io.TextIOWrapper(io.BytesIO(done.stderr), errors="replace").read()
        assert done.returncode == 2, (command, text)
        assert "Traceback" not in text and text.splitlines()[-1].startswith("error: ")
    after = {path.name for path in noise.rglob("*")} - {path.name for path in before}
    assert after <= {"ar", "mdlm", "lock"}
