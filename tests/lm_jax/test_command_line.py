"""The command line: what --help says, and how every error ends a program."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import workers
from programs import ROOT, Programs

import mdlm_jax.config  # noqa: F401 - the section of the programs below
from lm_jax import command_line, doctor, files, usage
from lm_jax.config import Config, EvaluateConfig, SampleConfig

FOLDERS = ("lm_jax", "ar_jax", "mdlm_jax", "experiments")
FAMILIES = ("ar", "mdlm")
NAMES_OF_HELP = ("--help", "-help", "-h", "-?", "--helpshort", "--helpfull")


def mains() -> list[str]:
    """Every module that does something when it is run."""
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    texts = {path: path.read_text() for path in sorted(paths)}
    found = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        for path, text in texts.items()
        if '__name__ == "__main__"' in text
    ]
    assert len(found) >= 18
    return found


def source(module: str) -> ast.Module:
    path = ROOT / module.replace(".", "/")
    main = path / "__main__.py"
    return ast.parse((main if path.is_dir() else path.with_suffix(".py")).read_text())


def defined_flags(module: str) -> set[str]:
    """The names in the calls flags.DEFINE_*("name", ...) of a file."""
    calls = [node for node in ast.walk(source(module)) if isinstance(node, ast.Call)]
    defining = [c for c in calls if ast.unparse(c.func).startswith("flags.DEFINE_")]
    return {ast.literal_eval(c.args[0]) for c in defining if c.args}


@pytest.fixture(scope="module")
def run():
    with Programs() as programs:
        yield programs


# --help.


@pytest.mark.parametrize("module", mains())
def test_help_explains_every_program(run, module):
    """The docstring of the main, then every flag of its own and none of a library's,
    each with its meaning; status 0, although no flag that is required is given."""
    done = run(module, "--help")
    assert (done.status, done.err) == (0, "")
    about, _, rest = done.out.partition("\n\nFlags:\n")
    assert about == ast.get_docstring(source(module))
    lines = rest.partition("\n\nFields of --config")[0].splitlines()
    starts = [line for line in lines if line.startswith("  --")]
    found = {line.split(":")[0].strip(" -").removeprefix("[no]") for line in starts}
    assert defined_flags(module) | {"traceback", "help"} <= found
    assert not any(word in rest for word in ("grain", "absl", "pdb", "tfds", "orbax"))
    assert all(len(line.partition(": ")[2]) > 8 for line in starts)


@pytest.mark.parametrize("name", NAMES_OF_HELP)
def test_help_has_many_names_and_precedes_every_error(run, name):
    """What stands beside it is not even read: no file, no field, no flag."""
    bad = ("--nonsense", "--config=nope.py", "--config.train.typo=1", "surplus")
    for program in ("mdlm_jax.sample", "ar_jax.train", "experiments.compare"):
        done = run(program, *bad, name)
        assert (done.status, done.err) == (0, "") and "Flags:" in done.out


def test_help_lists_each_field_of_the_config_once(run):
    """With the values of the program's default file, or else of the library, written as
    the same program takes them."""
    for program in ("ar_jax.train", "experiments.compare", "experiments.ablation"):
        lines = run(program, "--help").out.splitlines()
        fields = [line.strip() for line in lines if line.startswith("  --config.")]
        names = [field.partition("=")[0].removeprefix("--config.") for field in fields]
        assert names == [
            name for name, _ in usage.fields(Config().complete().to_dict())
        ]
    values = dict(usage.fields(Config().complete().to_dict()))
    lines = run("ar_jax.train", "--help").out.splitlines()
    assert all(f"  --config.{name}={value}" in lines for name, value in values.items())
    assert "  --config.train.batch_size=4" in run("experiments.compare", "-h").out


@pytest.mark.parametrize(
    "word, meaning",
    [
        ("--config.data.train_files=a.txt,b.txt", "('a.txt', 'b.txt')"),
        (r"--config.data.train_files=a\,b.txt", "('a,b.txt',)"),
        ("--config.frontier.top_ps=", "()"),
        ("--config.frontier.samplers=('margin',)", "('margin',)"),
        ("--config.sample.sampler=a,b", "a,b"),
    ],
)
def test_lists_are_written_with_commas(word, meaning):
    """A field that is a list takes a,b as well as a tuple; others keep their text."""
    assert command_line._readable(word) == f"{word.partition('=')[0]}={meaning}"


@pytest.mark.parametrize("section", [SampleConfig, EvaluateConfig])
def test_every_field_has_a_meaning(section):
    """From "Attributes:" of the class, whatever follows or precedes it there."""
    meanings = usage.meanings(section)
    assert meanings.keys() == section.__annotations__.keys()
    assert all(len(meaning) > 10 for meaning in meanings.values())


def test_meanings_are_read_from_a_docstring():
    """One entry may be about several fields and go on over lines, with colons in it."""

    class Section:
        """A section.

        Attributes:
          a, b_2: both: on
            two lines.
          c: one.

        Raises:
          ValueError: no field.
        """

    both = "both: on two lines."
    assert usage.meanings(Section) == {"a": both, "b_2": both, "c": "one."}
    assert usage.meanings(int) == {}


def test_sampling_flags_mean_what_the_config_says(run):
    done = run("mdlm_jax.sample", "--help")
    text = " ".join(done.out.split())
    meaning = usage.meanings(SampleConfig)["top_p"].rstrip(".")
    assert (
        f"--top_p: {meaning[0].upper()}{meaning[1:]}. Default: the run's own." in text
    )


# Errors that the command line itself makes.


@pytest.mark.parametrize(
    "command, sentence",
    [
        ("ar_jax.train", "--config is missing: pass --config=FILE"),
        (
            "ar_jax.train --config.train.num_steps=3 --workdir=x",
            "--config is missing: pass --config=FILE",
        ),
        (
            "ar_jax.train --config=experiments/configs/tiny.py",
            "--workdir is missing: pass --workdir=DIR",
        ),
        ("mdlm_jax.sample", "--workdir is missing: pass --workdir=DIR"),
        ("ar_jax.evaluate --workdir=", "--workdir is missing: pass --workdir=DIR"),
        ("experiments.report", "--workdir is missing: pass --workdir=DIR"),
        ("experiments.report --workdir=", "--workdir is missing: pass --workdir=DIR"),
        ("experiments.compare.judge --out=x", "--halve is missing: pass --halve=FILE"),
        (
            "experiments.compare.diversity",
            "SAMPLES is missing: write it after the program's name",
        ),
        (
            "experiments.ablation.report",
            "DIR is missing: write it after the program's name",
        ),
        (
            "mdlm_jax.sample --wrkdir=x",
            "--wrkdir is no flag of this program: write --workdir, or see --help",
        ),
        (
            "experiments.compare.diversity a.jsonl --referense=b",
            "--referense is no flag of this program: write --reference, or see --help",
        ),
        (
            "mdlm_jax.sample --workdir=x --qqqq=1",
            "--qqqq is no flag of this program: see --help",
        ),
        (
            "ar_jax.train --config=nope.py --workdir=x",
            "--config=nope.py is no file: pass --config=FILE",
        ),
        (
            "experiments.compare --config=tests",
            "--config=tests is no file: pass --config=FILE",
        ),
        (
            "experiments.compare --config.train.num_step=3",
            "--config.train.num_step is no field of the configuration: write "
            "--config.train.num_steps, or see --help",
        ),
        (
            "experiments.compare --config.train.num_steps=x",
            "--config.train.num_steps=x is no integer: write digits, as in 8",
        ),
        (
            "experiments.compare --config.sample.top_k=-1",
            "--config.sample.top_k=-1 is too small: it must be at least 0",
        ),
        (
            "ar_jax.sample --workdir=x --seed=1e3",
            "--seed=1e3 is no integer: write digits, as in 8",
        ),
        (
            "ar_jax.sample --workdir=x --top_p=a",
            "--top_p=a is no number: write digits, as in 0.5",
        ),
        (
            "ar_jax.sample --workdir=x --trace=maybe",
            "--trace=maybe is neither true nor false: write one of them",
        ),
        (
            "ar_jax.sample --workdir=x y",
            "unknown argument 'y': flags are written --name=value",
        ),
        (
            "experiments.compare.diversity a b",
            "unknown argument 'b': flags are written --name=value, and only one "
            "SAMPLES is allowed",
        ),
        (
            "experiments.speed --batches=4,x",
            "--batches=4,x is no list of positive integers: write them with commas, as "
            "in --batches=1,8",
        ),
        (
            "experiments.compare.judge --halve=LICENSE --out=",
            "--out is empty: pass --out=PATH",
        ),
    ],
)
def test_a_bad_command_line_is_refused_in_one_sentence(run, command, sentence):
    """With status 2: the value, the rule and a way out that this program has."""
    program, *arguments = command.split()
    done = run(program, *arguments)
    assert (done.status, done.out) == (2, "")
    assert done.sentence == sentence


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("def get_config():\n    return 1 / 0\n", "ZeroDivisionError: division by"),
        ("def get_config(:\n", "SyntaxError: "),
        ("import nothing_there\n", "ModuleNotFoundError: No module named"),
        ("x = 1\n", "AttributeError: module 'config_config' has no attribute"),
        ("def get_config():\n    raise ValueError('a\\nb')\n", "cannot be loaded ("),
        ("def get_config():\n    return 3\n", "is no section"),
    ],
)
def test_a_config_that_cannot_be_loaded_says_why(run, tmp_path, text, sentence):
    """Whatever its code raises: one sentence and status 2."""
    config = tmp_path / "config.py"
    config.write_text(text)
    for program in ("ar_jax.train", "experiments.compare"):
        done = run(program, f"--config={config}", f"--workdir={tmp_path / 'x'}")
        assert done.status == 2 and sentence in done.sentence
    assert set(os.listdir(tmp_path)) <= {"config.py", "__pycache__"}


def test_a_word_of_a_config_that_is_unknown_is_named(run):
    """By the sentence of get_config, without its traceback."""
    done = run("experiments.ablation", "--config=experiments/configs/controlled.py:zzz")
    assert done.status == 2 and "controlled.py:zzz is unknown: choose" in done.sentence


@pytest.mark.parametrize("flag", ["prompt", "infill", "workdir", "sampler", "qqqq"])
def test_a_flag_that_is_no_text_is_refused(run, flag):
    """A byte that is not UTF-8 reaches Python as half a surrogate pair."""
    done = run("mdlm_jax.sample", "--workdir=x", f"--{flag}=caf\udce9")
    assert done.status == 2
    assert (
        done.sentence == f"'--{flag}=caf\\udce9' is not UTF-8 text: write it in UTF-8"
    )
    done = run("experiments.compare.diversity", "caf\udce9.jsonl")
    assert done.status == 2 and "is not UTF-8 text" in done.sentence


def test_a_message_names_the_flag_of_its_program(run, finished):
    """Also where the config of a run has the field under another name."""
    workdir = finished[0] / "mdlm"
    done = run("mdlm_jax.sample", f"--workdir={workdir}", "--sampler=beam")
    assert done.sentence.startswith("--sampler='beam' is unknown: choose one of ")
    done = run("mdlm_jax.evaluate", f"--workdir={workdir}", "--num_draws=3")
    assert done.sentence.startswith("--num_draws=3 must be even: ")


# Paths.


def test_the_directory_of_a_comparison_is_none_of_a_run(run, finished):
    """Each command names the directories that it can read."""
    workdir = finished[0]
    done = run("mdlm_jax.sample", f"--workdir={workdir}")
    choice = f"choose --workdir={workdir}/ar or --workdir={workdir}/mdlm"
    assert done.status == 2 and done.sentence.endswith(choice)
    done = run("experiments.report", f"--workdir={workdir}/ar")
    assert done.status == 2 and f"pass --workdir={workdir}, of" in done.sentence


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("program", ["sample", "evaluate"])
def test_a_directory_without_a_run_says_so(run, tmp_path, family, program):
    """Absent, empty, or full of other things: nothing is made there."""
    (tmp_path / "file").write_text("")
    for workdir in (tmp_path / "absent", tmp_path):
        done = run(f"{family}_jax.{program}", f"--workdir={workdir}")
        assert done.status == 2 and "delete" not in done.sentence
        assert done.sentence.startswith(f"{workdir} is no run directory")
    assert os.listdir(tmp_path) == ["file"]


def test_the_home_directory_may_be_written_as_a_tilde(run, tmp_path):
    """No shell expands it behind a "=", so the programs do, and where they name such a
    path in an error it is the whole one."""
    home = str(tmp_path)
    (tmp_path / "config.py").write_text("def get_config():\n    return 3\n")
    for program, *arguments in (
        ("ar_jax.sample", "--workdir=~/x"),
        ("mdlm_jax.evaluate", "--workdir=~/x"),
        ("experiments.report", "--workdir=~/x"),
        ("experiments.compare.judge", "--halve=~/x"),
        ("experiments.compare.diversity", __file__, "--reference=~/x"),
        ("experiments.compare.diversity", __file__, "--training=~/x"),
        ("ar_jax.train", "--config=~/x.py", "--workdir=y"),
        ("experiments.ablation", "--config=~/x.py"),
    ):
        done = run(program, *arguments, HOME=home)
        assert done.status == 2 and f"{tmp_path}/x" in done.sentence, program
    done = run("ar_jax.train", "--config=~/config.py", "--workdir=y", HOME=home)
    assert "is no section" in done.sentence  # it was found and read
    (tmp_path / "text.txt").write_text("\n\n".join(f"Day {i}." for i in range(20)))
    done = run(
        "experiments.compare.judge", "--halve=~/text.txt", "--out=~/halves", HOME=home
    )
    assert done.status == 0 and (tmp_path / "halves" / "judge.txt").is_file()


def test_a_judge_s_halves_replace_nothing(run, tmp_path):
    """Neither the input nor another half, and no half is empty."""
    text = tmp_path / "families.txt"
    text.write_text("\n\n".join(f"Day {i}." for i in range(20)))
    before = text.read_bytes()
    done = run("experiments.compare.judge", f"--halve={text}", f"--out={tmp_path}")
    assert done.status == 2 and "exists already: name another --out" in done.sentence
    assert text.read_bytes() == before and list(tmp_path.iterdir()) == [text]
    text.write_text("One day.")
    done = run("experiments.compare.judge", f"--halve={text}", f"--out={tmp_path}/new")
    assert done.status == 2 and "fall into one half" in done.sentence
    assert not (tmp_path / "new").exists()


def test_scores_replace_no_file_that_is_no_json(run, finished, tmp_path):
    """Least of all the text that is scored."""
    text = tmp_path / "text.txt"
    text.write_text("One day, Ben ran.")
    arguments = [f"--workdir={finished[0] / 'ar'}", f"--text_file={text}"]
    done = run("ar_jax.evaluate", *arguments, f"--out={text}")
    assert done.status == 2 and "something else than JSON" in done.sentence
    assert text.read_text() == "One day, Ben ran."


def test_a_text_file_is_blamed_on_the_flag_that_named_it(run, finished):
    """Not on --config.data.train_files, which these programs lack."""
    workdir = finished[0] / "ar"
    for flag, program, *arguments in (
        ("--halve", "experiments.compare.judge"),
        ("--reference", "experiments.compare.diversity", __file__),
        ("--training", "experiments.compare.diversity", __file__),
        ("--text_file", "ar_jax.evaluate", f"--workdir={workdir}"),
    ):
        done = run(program, *arguments, f"{flag}=nope.txt")
        assert done.status == 2
        assert done.sentence.startswith("the text file nope.txt does not exist")
        assert done.sentence.endswith(flag)


# Errors of the program itself.


@pytest.fixture
def failing(tmp_path):
    """A program that raises an exception, written as Python, and prints before it."""

    def write(exception: str) -> Path:
        path = tmp_path / "program.py"
        path.write_text(
            '"""A program."""\n'
            "from lm_jax import command_line\n"
            "def main():\n"
            "    print('begun')\n"
            f"    raise {exception}\n"
            "command_line.run(main)\n"
        )
        return path

    return write


@pytest.mark.parametrize(
    "exception, status, sentence",
    [
        ("ValueError('x=3 is\\ntoo large')", 2, "x=3 is too large"),
        ("FloatingPointError('loss is nan')", 2, "loss is nan"),
        (
            "OSError(5, 'Input/output error', '/a/b')",
            2,
            "cannot read or write /a/b (Input/output error): remove the cause, and run "
            "the same command again",
        ),
        ("OSError('the disk is gone')", 2, "the disk is gone"),
        ("OverflowError()", 1, "OverflowError; --traceback shows where"),
        (
            "RuntimeError('no backend\\n  for cuda.')",
            1,
            "RuntimeError: no backend for cuda; --traceback shows where",
        ),
        ("KeyError('name')", 1, "KeyError: 'name'; --traceback shows where"),
        (
            "UnicodeError('a surrogate')",
            1,
            "UnicodeError: a surrogate; --traceback shows where",
        ),
    ],
)
def test_every_exception_ends_in_one_sentence(
    run, failing, exception, status, sentence
):
    """Status 2 for bad input, 1 for what nobody foresaw; --traceback shows it all."""
    program = failing(exception)
    done = run(program)
    assert (done.status, done.out) == (status, "begun\n")
    assert done.sentence == sentence
    done = run(program, "--traceback")
    assert "Traceback" in done.err and "line 5, in main" in done.err


def test_an_error_without_end_is_cut():
    """XLA's message on memory is a table of thousands of lines."""
    text, status = usage.explain(RuntimeError("word " * 10_000))
    assert status == 1 and len(text) < 1_000 and "\n" not in text
    assert text.endswith(" ...; --traceback shows where")


@pytest.mark.parametrize(
    "error, where",
    [
        (FileNotFoundError(2, "No such file", "a"), "a (No such file)"),
        (OSError(18, "Cross-device link", ".part", None, "whole"), "whole (Cross-"),
        (OSError(28, "No space left on device"), "a file (No space left on device)"),
        (OSError(9, "Bad file descriptor", 7), "a file (Bad file descriptor)"),
    ],
)
def test_a_failing_disk_is_told_by_the_path_that_the_user_knows(error, where):
    """The errno says nothing to a user, and a temporary name neither."""
    text, status = usage.explain(error)
    assert status == 2 and text.startswith(f"cannot read or write {where}")


# What the applications make of their flags.


def test_ar_refuses_an_infill_and_says_why(run, finished):
    """The flag is there for every family; the model's own error names a way out."""
    workdir = finished[0] / "ar"
    done = run("ar_jax.sample", f"--workdir={workdir}", "--infill=Sara had [3] ball.")
    assert done.status == 2 and not (workdir / "samples.jsonl").exists()
    assert "give what comes before the first gap as --prompt" in done.sentence


@pytest.mark.parametrize("seed", ["-1", str(2**32), str(2**63), "9" * 40])
def test_a_seed_that_jax_cannot_tell_apart_is_refused(run, finished, seed):
    """Also one that no integer type holds."""
    workdir = finished[0] / "ar"
    done = run("ar_jax.sample", f"--workdir={workdir}", f"--seed={seed}")
    assert done.status == 2 and f"seed={seed} must lie between" in done.sentence


@pytest.mark.parametrize("flag, limit", [(None, None), ("0", None), ("3", 3)])
def test_a_text_file_is_scored_whole(run, finished, tmp_path, flag, limit):
    """The run's own max_windows, 8, is about its corpus; that of the flag holds."""
    workdir, cfg, _ = finished
    assert cfg.evaluate.max_windows == 8
    text, out = tmp_path / "long.txt", tmp_path / "scores.json"
    text.write_text("One day, Sara saw a red ball. She was happy.\n\n" * 400)
    flags = [f"--text_file={text}", f"--out={out}", "--detail_windows=0"]
    flags += [f"--max_windows={flag}"] * (flag is not None)
    done = run("ar_jax.evaluate", f"--workdir={workdir / 'ar'}", *flags)
    assert done.status == 0, done
    found = json.loads(out.read_text())
    assert found["num_windows"] == limit or (limit is None and found["num_windows"] > 8)
    assert found["num_bytes_left_out"] == 0 or limit == 3


@pytest.mark.parametrize("family, kind", [("ar", "prompt"), ("mdlm", "infill")])
def test_a_file_of_prompts_or_infills(run, finished, tmp_path, family, kind):
    """One sample for each line, in order; and a line that is too long is named before
    anything is written."""
    lines, out = tmp_path / "lines.txt", tmp_path / "samples.jsonl"
    gap = " [3]" * (kind == "infill")
    texts = [f"{text}{gap}" for text in ("One day, Ben", "Sara had", "Zo\u00eb")]
    lines.write_bytes("\r\n".join(texts).encode())
    flags = [f"--workdir={finished[0] / family}", f"--{kind}s_file={lines}"]
    done = run(f"{family}_jax.sample", *flags, f"--out={out}")
    assert done.status == 0, done
    samples = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [(s["line"], s["prompt"]) for s in samples] == [*enumerate(texts, 1)]
    starts = zip(samples, ("One day, Ben", "Sara had", "Zo\u00eb"), strict=True)
    assert all(sample["text"].startswith(start) for sample, start in starts)
    lines.write_text("\n".join([*texts, "Ben ran. " * 99 + gap]))
    done = run(f"{family}_jax.sample", *flags, f"--out={tmp_path / 'new.jsonl'}")
    assert done.status == 2 and not (tmp_path / "new.jsonl").exists()
    assert done.sentence.startswith(f"line 4 of the {kind}s: the {kind} ")
    done = run(f"{family}_jax.sample", *flags, f"--{kind}=Ben")
    wanted = f"--{kind}s_file and --{kind} exclude each other: pass one"
    assert (done.status, done.sentence) == (2, wanted)
    done = run(f"{family}_jax.sample", *flags[:1], f"--{kind}s_file=nope.txt")
    assert done.status == 2 and done.sentence.endswith(f"correct --{kind}s_file")


def test_scores_of_documents_are_json_lines(run, finished, tmp_path):
    """They replace their like and nothing else, and need a file."""
    text, out = tmp_path / "text.txt", tmp_path / "scores.jsonl"
    text.write_text("One day, Ben ran.\n\nHe fell.")
    workdir = f"--workdir={finished[0] / 'ar'}"
    flags = [workdir, f"--text_file={text}", "--per_document", "--stride=8"]
    for _ in range(2):
        done = run("ar_jax.evaluate", *flags, f"--out={out}")
        assert done.status == 0, done
    total = json.loads(done.out)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["text"] for line in lines] == ["One day, Ben ran.", "He fell."]
    nats = total["nats_per_token"] * total["num_tokens"]
    assert sum(line["nats"] for line in lines) == pytest.approx(nats)
    assert (total["windows"], total["stride"]) == ("document", 8)
    done = run("ar_jax.evaluate", *flags)
    assert done.status == 2 and done.sentence.endswith("pass --out=scores.jsonl")
    done = run("ar_jax.evaluate", *flags, f"--out={text}")
    assert done.status == 2 and "else than scores of documents" in done.sentence
    done = run("ar_jax.evaluate", workdir, "--stride=8")
    assert done.status == 2 and done.sentence.endswith("pass --text_file=FILE")


def test_the_doctor_trains_both_families(run):
    """It names versions, devices and the cache, and the losses fall."""
    done = run("lm_jax.doctor")
    assert (done.status, done.err) == (0, ""), done
    for words in (
        "\njax ",
        "JAX devices: cpu",
        "cuDNN attention: no",
        "cores: ",
        "cache: ",
    ):
        assert words in done.out
    for name in FAMILIES:
        line = next(
            x for x in done.out.splitlines() if x.startswith(f"{name}: trained")
        )
        first, last = line.rpartition("loss ")[2].split(" -> ")
        assert float(last) < float(first) - 0.5
    assert done.out.endswith("all is well\n")


def test_the_doctor_says_what_is_wrong(monkeypatch, capsys):
    """One sentence and status 1."""
    monkeypatch.setattr(doctor, "train", lambda family: (1.0, float("nan")))
    with pytest.raises(SystemExit) as end:
        doctor.main()
    assert end.value.code == 1
    assert "error: ar does not learn" in capsys.readouterr().err
    monkeypatch.setattr(doctor, "FAMILIES", ("nothing",))
    with pytest.raises(SystemExit) as end:
        doctor.main()
    said = capsys.readouterr()
    assert end.value.code == 1 and "no family can be imported" in said.err
    assert "the family 'nothing' cannot be imported" in said.out


# Programs in processes of their own.


def python(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=300,
        **options,
    )


@pytest.mark.slow
def test_an_output_that_nobody_reads_is_no_traceback():
    """A full disk, and a reader that has gone, as in `... --help | head -1`."""
    environment = workers.environment(1)
    command = ("-m", "experiments.compare.diversity", "--help")
    with open("/dev/full", "w") as full:
        done = python(*command, env=environment, stdout=full)
    assert (done.returncode, done.stderr) == (1, "")
    reader, writer = os.pipe()
    os.close(reader)
    done = python(*command, env=environment, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.slow
def test_a_platform_that_is_not_there_is_one_sentence(finished):
    """JAX raises a RuntimeError, at the first computation."""
    environment = workers.environment(1) | {"JAX_PLATFORMS": "nonsense"}
    workdir = finished[0] / "ar"
    done = python("-m", "ar_jax.sample", f"--workdir={workdir}", env=environment)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: JAX finds no device for JAX_PLATFORMS=nonsense: ")


@pytest.mark.slow
def test_a_device_that_is_not_there_is_one_sentence(finished, tmp_path):
    """The sentence names what was asked for and ways out."""
    run = finished[0] / "ar"
    arguments = [f"--workdir={run}", "--num_samples=1", f"--out={tmp_path}/x.jsonl"]
    done = subprocess.run(
        [sys.executable, "-m", "ar_jax.sample", *arguments],
        env=workers.environment(1) | {"JAX_PLATFORMS": "cuda"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "no device for JAX_PLATFORMS=cuda: unset" in done.stderr.splitlines()[-1]


def test_results_that_cannot_be_written_are_told_before_the_work(tmp_path):
    """A directory, and one that takes no file; nothing is left of the trial."""
    files.require_writable(tmp_path / "new" / "x.json")
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(ValueError, match="is a directory: name a file in it"):
        files.require_writable(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file/x.json"):
        files.require_writable(tmp_path / "file" / "x.json")
