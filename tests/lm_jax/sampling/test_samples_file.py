"""Samples on their way to a file: whole or to be gone on with, and never half wrong."""

import itertools
import subprocess
import sys
import tracemalloc
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import workers
from scipy import stats

import ar_jax
import mdlm_jax
from lm_jax import files, run
from lm_jax.config import Config, ModelConfig, SampleConfig
from lm_jax.data.tokenizers.sentencepiece import train_tokenizer
from lm_jax.sampling import generate
from lm_jax.sampling.generate import compile_sampler
from lm_jax.sampling.order import kendall_tau
from lm_jax.sampling.samples_file import Sample, SampleWriter, read_samples, to_json
from lm_jax.sampling.trace import events
from lm_jax.types import MASK, SampleOutput

pytestmark = pytest.mark.usefixtures("fast_compilation")

FAMILIES = {"ar": ar_jax.FAMILY, "mdlm": mdlm_jax.FAMILY}
LENGTH = 16
IDENTITY = {"seed": 0, "trace": False, "sampler": {"family": "ar"}}


def story(row: int) -> Sample:
    return Sample(
        text=f"Story {row}: Zoë.\u2028",
        tokens=[5, row],
        seed=0,
        sampler={"family": "ar", "row": row},
        finished=True,
    )


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """(family, **settings) -> a model that nobody has trained, and how to write."""
    texts = ["Tom had a big red ball.", "Once Mia had a dog. She lost it."] * 20
    tokenizer = train_tokenizer(texts, 290)
    model = ModelConfig(
        length=LENGTH,
        vocab_size=290,
        width=8,
        num_layers=1,
        num_heads=2,
        ffn_width=8,
    )

    def write(
        family,
        out,
        num_samples=16,
        trace=False,
        prompt="",
        infill="",
        overwrite=False,
        init_seed=0,
        prompts=None,
        infills=None,
        **rest,
    ):
        own = FAMILIES[family]
        lm = own.build(Config(model=model))
        settings: dict[str, Any] = {"num_steps": 4} | rest
        content = run.Run(
            path=tmp_path_factory.mktemp("run"),
            family=family,
            cfg=Config(model=model),
            tokenizer=tokenizer,
            valid=np.zeros((1, LENGTH), np.uint16),
            fingerprint="",
        )
        params = lm.init(jax.random.key(init_seed))
        clock = map(float, itertools.count()).__next__
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(generate, "time", SimpleNamespace(perf_counter=clock))
            return run.sample(
                run.Trained(own, lm, content, params, 7),
                SampleConfig(num_samples=num_samples, **settings),
                seed=1,
                prompt=prompt,
                infill=infill,
                prompts=prompts,
                infills=infills,
                out=out,
                overwrite=overwrite,
                trace=trace,
            )

    return write


def test_a_file_takes_its_name_when_it_is_whole(tmp_path):
    """Before, it is a .part; what an error leaves behind is found again."""
    path = tmp_path / "new" / "samples.jsonl"
    with pytest.raises(RuntimeError, match="out of luck"):
        with SampleWriter(path, IDENTITY, 3) as file:
            file.append([story(0)])
            assert not path.exists()
            raise RuntimeError("out of luck")
    assert not path.exists()
    with SampleWriter(path, IDENTITY, 3) as file:
        assert file.found == [story(0)]
        file.append([story(1), story(2)])
    assert read_samples(path) == [story(0), story(1), story(2)]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "torn",
    [
        to_json(story(2)).encode()[:20],
        to_json(story(2)).encode(),  # whole but for its end of line
        (to_json(story(7)) + "\n").encode(),  # another row's
        b'{"text": "a"}\n' + (to_json(story(2)) + "\n").encode(),
        b"\xff\xfe\n",
    ],
)
def test_a_torn_line_is_cut_off(tmp_path, torn):
    """The lines before it stay, and what is appended joins them."""
    path = tmp_path / "samples.jsonl"
    with pytest.raises(RuntimeError), SampleWriter(path, IDENTITY, 3) as file:
        file.append([story(0), story(1)])
        raise RuntimeError
    part = tmp_path / "samples.jsonl.part"
    part.write_bytes(part.read_bytes() + torn)
    with SampleWriter(path, IDENTITY, 3) as file:
        assert file.found == [story(0), story(1)]
        file.append([story(2)])
    assert read_samples(path) == [story(0), story(1), story(2)]


def test_other_settings_begin_anew(tmp_path):
    """A half-written file of other samples is no beginning, and more than enough lines
    are cut."""
    path = tmp_path / "samples.jsonl"
    for identity, found in ((IDENTITY, 0), (IDENTITY, 2), (IDENTITY | {"seed": 1}, 0)):
        with pytest.raises(RuntimeError), SampleWriter(path, identity, 3) as file:
            assert len(file.found) == found
            file.append([story(0), story(1)][: 2 - found])
            raise RuntimeError
    with SampleWriter(path, IDENTITY | {"seed": 1}, 1) as file:
        assert file.found == [story(0)]
    assert read_samples(path) == [story(0)]


def test_two_writers_never_share_a_file(tmp_path):
    """The second is refused at once, in this process as in any other, and the first
    ends with its own lines; then the second may come."""
    path = tmp_path / "samples.jsonl"
    with SampleWriter(path, IDENTITY, 2) as file:
        file.append([story(0)])
        for identity in (IDENTITY, IDENTITY | {"seed": 1}):
            with pytest.raises(ValueError, match="being written by another process"):
                SampleWriter(path, identity, 2)
        with subprocess.Popen(
            [sys.executable, "-c", SECOND_WRITER, str(path)],
            env=workers.environment(1),
            stderr=subprocess.PIPE,
            text=True,
        ) as second:
            assert "being written by another process" in second.communicate()[1]
        file.append([story(1)])
    assert read_samples(path) == [story(0), story(1)]
    assert list(tmp_path.iterdir()) == [path]
    with SampleWriter(path, IDENTITY, 2) as file:
        assert file.found == [story(0), story(1)]


SECOND_WRITER = """
import sys
from lm_jax.sampling.samples_file import SampleWriter
SampleWriter(sys.argv[1], {"seed": 0, "trace": False, "sampler": {}}, 2)
"""


def test_a_writer_that_comes_as_another_finishes_sees_the_whole_file(
    tmp_path, monkeypatch
):
    """It may have opened the half-written file that has just been given its name."""
    path = tmp_path / "samples.jsonl"
    first = SampleWriter(path, IDENTITY, 1)
    first.append([story(0)])
    lock = files.lock

    def lock_late(file):
        monkeypatch.setattr(files, "lock", lock)
        first.finish()
        return lock(file)

    monkeypatch.setattr(files, "lock", lock_late)
    with SampleWriter(path, IDENTITY, 1) as second:
        assert second.found == [story(0)]
    assert list(tmp_path.iterdir()) == [path]


def test_other_samples_are_replaced_only_when_asked(tmp_path):
    """The sentence says what differs, and nothing is left beside the file."""
    path = tmp_path / "samples.jsonl"
    with SampleWriter(path, IDENTITY, 2) as file:
        file.append([story(0), story(1)])
    before = path.read_bytes()
    prompted = {"family": "ar", "prompt": "Once"}
    for identity, num_samples, message in (
        (IDENTITY | {"seed": 1}, 2, "whose seed is 0 and not 1: .*--overwrite"),
        (IDENTITY | {"trace": True}, 2, "whose trace is False and not True"),
        (IDENTITY | {"sampler": prompted}, 2, "whose prompt is None and not 'Once'"),
        (IDENTITY, 1, "holds 2 samples, more than the 1 requested"),
    ):
        with pytest.raises(ValueError, match=message):
            SampleWriter(path, identity, num_samples)
        assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    with SampleWriter(path, IDENTITY, 3) as file:  # more of the same
        assert file.found == [story(0), story(1)]
        file.append([story(2)])
    with SampleWriter(path, IDENTITY, 1, overwrite=True) as file:
        assert file.found == []
        file.append([story(7)])
    assert read_samples(path) == [story(7)]
    path.write_text(to_json(story(1)) + "\n")  # it has lost its first line
    with pytest.raises(ValueError, match="line 1 is not sample 0; name another --out"):
        SampleWriter(path, IDENTITY, 1)
    path.write_text("a diary")
    with pytest.raises(ValueError, match="something else than samples: name another"):
        SampleWriter(path, IDENTITY, 1)
    with pytest.raises(ValueError, match="is no file: name another --out"):
        SampleWriter(tmp_path, IDENTITY, 1)


def test_samples_say_what_parameters_they_are_of(make, tmp_path):
    """The checkpoint that was read and the parameters in it; of others, the file is of
    other samples."""
    path = tmp_path / "samples.jsonl"
    samples, _ = make("ar", path)
    assert samples[0].sampler["checkpoint"] == 7
    again, stats = make("ar", path)
    assert again == samples and stats.num_samples == 0
    with pytest.raises(ValueError, match="whose parameters is '[0-9a-f]{8}' and not"):
        make("ar", path, init_seed=1)
    assert make("ar", path, init_seed=1, overwrite=True)[0] != samples


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize("ending", [" ", "   ", "\n", " \n\n"])
def test_white_space_behind_a_prompt_changes_nothing(make, name, ending, capfd):
    """A token holds the space before its word, so a space at the end would be followed
    by anything but a word; and no text of this run goes on after a line end."""
    plain, _ = make(name, None, num_samples=4, prompt="Tom had")
    ended, _ = make(name, None, num_samples=4, prompt="Tom had" + ending)
    assert [s.tokens for s in ended] == [s.tokens for s in plain]
    assert ("left out" in capfd.readouterr().err) == ("\n" in ending)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_resumed_file_is_the_same_byte_for_byte(make, tmp_path, name):
    """Cut anywhere, gone on with in batches of another size, on one device or eight."""
    whole, path = tmp_path / "whole.jsonl", tmp_path / "samples.jsonl"
    samples, stats = make(name, whole, num_samples=10, batch_size=8)
    assert read_samples(whole) == samples
    assert stats.num_samples == 10 and stats.seconds == 2
    assert [s.sampler["row"] for s in samples] == list(range(10))
    written = whole.read_bytes()
    assert make(name, path, num_samples=4, batch_size=4)[0] == samples[:4]
    for cut in (len(written) // 2, len(path.read_bytes())):
        head = tmp_path / "samples.jsonl.part.json"
        path.unlink()
        with pytest.raises(KeyboardInterrupt):  # leaves a .part with its head
            interrupted(make, name, path)
        assert head.exists()
        (tmp_path / "samples.jsonl.part").write_bytes(written[:cut])
        resumed, rest = make(name, path, num_samples=10, batch_size=3)
        assert path.read_bytes() == written and resumed == samples
        assert rest.num_samples == 10 - written[:cut].count(b"\n")


def interrupt(*args, **kwargs):
    raise KeyboardInterrupt


def interrupted(make, name, path):
    """A call that ends before its first chunk, as if Ctrl-C had been pressed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generate, "compile_sampler", interrupt)
        make(name, path, num_samples=10, batch_size=3)


def test_a_trace_tells_the_order(make, tmp_path):
    """Its events lead from the given tokens to the text, each in its place."""
    path, infill = tmp_path / "samples.jsonl", "Tom [4] ball. [3]"
    samples, _ = make(
        "mdlm",
        path,
        trace=True,
        sampler="remdm_cap",
        eta=0.5,
        infill=infill,
        num_steps=6,
    )
    assert read_samples(path) == samples
    assert any(token == MASK for s in samples for _, _, token in s.trace)
    for sample in samples:
        z = {}
        for step, at, token in sample.trace:
            z[at] = (token, step)
        for at, step in enumerate(sample.unmask_step):
            if step >= 0:
                assert z[at] == (sample.tokens[at], step)
            else:
                assert at not in z
        assert sample.nfe <= 6


def test_the_cost_is_that_of_the_tokens_that_were_drawn():
    """Also in step 0; neither given tokens nor the rows that fill the batch count."""
    steps = jnp.array([[-1, 0, 1], [0, 0, -1], [0, 1, 2]])
    output = SampleOutput(steps, steps, jnp.int32(3), jnp.array([2, 1, 3]))
    stats = generate.SamplingStats(1, 10, 5, 2.0).plus(output, 2, 0.5)
    assert stats == (3, 14, 8, 2.5) and stats.tokens_per_second == 14 / 2.5


def test_samples_are_of_all_settings_that_change_them(make):
    """Whoever goes on with a file compares every field but these two."""
    samples, _ = make("mdlm", None, num_samples=1)
    fields = vars(SampleConfig()).keys() - {"num_samples", "batch_size"}
    assert fields <= samples[0].sampler.keys()


def test_without_a_trace_nothing_of_it_is_stored(make, tmp_path):
    """Files stay small, and one that was begun without a trace is not gone on with."""
    path = tmp_path / "samples.jsonl"
    samples, _ = make("ar", path)
    assert samples[0].trace is None and '"trace"' not in path.read_text()
    traced, _ = make("ar", None, trace=True)
    assert [s.tokens for s in traced] == [s.tokens for s in samples]
    steps = [step for step, _, _ in traced[0].trace]
    assert steps == sorted(steps)


def test_what_is_given_is_checked(make):
    """A prompt and an infill exclude each other, and AR does not look ahead."""
    with pytest.raises(ValueError, match="'Tom' and infill 'Mia .2.' exclude"):
        make("mdlm", None, prompt="Tom", infill="Mia [2]")
    with pytest.raises(ValueError, match="left-to-right model cannot look ahead"):
        make("ar", None, infill="Mia [2] dog.")
    with pytest.raises(ValueError, match="'margin' is unknown.*'left_to_right'"):
        make("ar", None, sampler="margin")


def test_the_study_s_ar_begins_with_once(make):
    """Every text of AR's "vicentino2026" begins with "Once" by default; no
    text of MDLM's does by rule. The samples say with which settings they were drawn."""
    samples, _ = make("ar", None, sampler="vicentino2026")
    assert all(s.text.startswith("Once") for s in samples)
    assert samples[0].sampler["prompt"] == "Once"
    assert samples[0].sampler["temperature"] == 0.8
    other, _ = make("ar", None, sampler="vicentino2026", prompt="Mia")
    assert all(s.text.startswith("Mia") for s in other)
    samples, _ = make("mdlm", None, sampler="vicentino2026")
    assert not all(s.text.startswith("Once") for s in samples)
    assert samples[0].sampler["num_steps"] == 100


def test_events_are_the_changes():
    """[step, position, token], MASK where a position shuts."""
    start = np.array([7, MASK, MASK])
    history = np.array([[7, MASK, 9], [7, MASK, 9], [7, 8, MASK], [7, 8, 6]])
    expected = [[0, 2, 9], [2, 1, 8], [2, 2, MASK], [3, 2, 6]]
    assert events(start, history) == expected


@pytest.mark.parametrize("seed", range(4))
def test_order_is_kendall_s_tau(seed):
    """tau-b as SciPy has it, over what was written, ties included."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(-1, 12, 40)
    places = np.flatnonzero(steps >= 0)
    expected: Any = stats.kendalltau(steps[places], places)[0]
    np.testing.assert_allclose(kendall_tau(steps), expected)


def test_left_to_right_is_one():
    """1, -1 in reverse, and nothing to say where all is written at once."""
    assert kendall_tau(np.arange(9)) == 1.0
    assert kendall_tau(np.arange(9)[::-1].copy()) == -1.0
    assert np.isnan(kendall_tau(np.zeros(9, int)))
    assert np.isnan(kendall_tau(np.array([-1, 3])))


def test_memory_does_not_grow_with_the_samples():
    """4,096 samples leave as much on the device and on the host as 64 do."""

    def sample(params, key, shape, cfg, template, first_row, traced):
        tokens = jnp.broadcast_to(first_row[:, None], shape)
        return SampleOutput(tokens, tokens, jnp.int32(1), tokens[:, 0])

    lm = FAMILIES["ar"].build(Config())._replace(sample=sample)
    template = np.full((64, 1_024), MASK, np.int32)
    draw = compile_sampler(lm, {}, jax.random.key(0), template, SampleConfig())
    draw(0)
    num_arrays, size = len(jax.live_arrays()), 64 * 1_024 * 4
    tracemalloc.start()
    for first in range(0, 4_096, 64):
        assert np.all(draw(first).tokens == first)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(jax.live_arrays()) <= num_arrays
    assert peak < 20 * size


# Several prompts or infills.

PROMPTS = ["Tom", "Once Mia had a dog.", "She", "Tom had a big red", "Tom"]
INFILLS = ["Tom [2] ball.", "Once [1] had a [3].", "[4]"]


@pytest.mark.parametrize(
    "name, kind, lines, settings",
    [
        ("ar", "prompts", PROMPTS, {}),
        ("ar", "prompts", PROMPTS, {"repetition_penalty": 1.5}),
        ("mdlm", "prompts", PROMPTS, {"sampler": "ancestral"}),
        ("mdlm", "prompts", PROMPTS, {"sampler": "threshold", "threshold": 0.01}),
        ("mdlm", "infills", INFILLS, {"sampler": "confidence"}),
        ("mdlm", "infills", INFILLS, {"sampler": "remdm_cap", "eta": 0.5}),
    ],
)
def test_a_sample_of_a_line_depends_on_nothing_but_the_line(
    make, tmp_path, name, kind, lines, settings
):
    """Not on the batch size, the other lines, or the number of samples; and the records
    are in the order of the lines, which they name."""
    write = partial(make, name, **settings)
    samples, _ = write(None, num_samples=2, batch_size=64, **{kind: lines})
    numbers = [i for i in range(1, len(lines) + 1) for _ in range(2)]
    assert [sample.line for sample in samples] == numbers
    assert [sample.prompt for sample in samples] == [lines[i - 1] for i in numbers]
    path = tmp_path / "samples.jsonl"
    small, _ = write(path, num_samples=2, batch_size=3, **{kind: lines})
    assert small == samples == read_samples(path)
    other, _ = write(None, num_samples=1, **{kind: [lines[2], *lines[1:]]})
    assert [s.tokens for s in other[1:]] == [s.tokens for s in samples[2::2]]
    single = {kind.removesuffix("s"): lines[0]}
    alone, _ = write(None, num_samples=2, **single)
    assert [s.tokens for s in alone] == [s.tokens for s in samples[:2]]
    assert len({tuple(s.tokens) for s in samples}) > len(lines)


def test_a_killed_call_with_many_prompts_continues(make, tmp_path):
    """Byte for byte, from any cut; and a file of other lines is not taken for it."""
    whole, path = tmp_path / "whole.jsonl", tmp_path / "samples.jsonl"
    settings = {"prompts": PROMPTS, "num_samples": 2}
    make("ar", whole, **settings)
    written = whole.read_bytes()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(generate, "compile_sampler", interrupt)
        make("ar", path, **settings)
    (tmp_path / "samples.jsonl.part").write_bytes(written[: len(written) // 2])
    _, rest = make("ar", path, batch_size=3, **settings)
    assert path.read_bytes() == written and 0 < rest.num_samples < 10
    for change in ({"prompts": PROMPTS[::-1]}, {"num_samples": 1}, {"prompts": None}):
        what = "of other prompts" if change.get("prompts") else "whose num_samples"
        with pytest.raises(ValueError, match=f"holds other samples, {what}"):
            make("ar", path, **{**settings, **change})


@pytest.mark.parametrize(
    "name, given, sentence",
    [
        (
            "ar",
            {"prompts": ["Tom", "Tom had a dog. " * 9]},
            "line 2 of the prompts: the",
        ),
        ("mdlm", {"infills": ["[1]", "[1]", "[99]"]}, "line 3 of the infills: the inf"),
        (
            "ar",
            {"infills": ["Tom [1]."]},
            "line 1 of the infills: .* cannot look ahead",
        ),
        ("mdlm", {"infills": ["Tom"]}, "line 1 of the infills: .* has no gap"),
        ("ar", {"prompts": ["Tom", " "]}, "line 2 of the prompts: it is blank"),
        ("ar", {"prompts": []}, "there are no prompts"),
        ("ar", {"prompts": ["Tom"], "prompt": "Tom"}, "exclude another prompt"),
        ("mdlm", {"prompts": ["Tom"], "infills": ["[1]"]}, "exclude another prompt"),
        ("ar", {"prompts": ["Tom"], "num_samples": 5_000}, "too many: give at most"),
    ],
)
def test_lines_that_cannot_be_used_are_refused_before_sampling(
    make, tmp_path, name, given, sentence
):
    """By the number of the line, and no file is made."""
    with pytest.raises(ValueError, match=sentence):
        make(name, tmp_path / "samples.jsonl", **given)
    assert not list(tmp_path.iterdir())
