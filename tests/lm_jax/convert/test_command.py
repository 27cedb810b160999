"""python -m lm_jax.convert: what it prints, and its exit status."""

import pytest
from llama_files import own_run
from programs import Programs


@pytest.fixture(scope="module")
def program():
    with Programs() as run:
        yield lambda *args: run("lm_jax.convert", *args)


def test_a_file_becomes_a_run_and_a_run_a_directory(program, made_up, tmp_path):
    """Import with --from, export with --out; each says what it has made."""
    pytest.importorskip("safetensors", reason="needs the extra 'hf'")
    workdir, out = tmp_path / "run", tmp_path / "out"
    source = f"--checkpoint={made_up[2] / 'model.bin'}"
    done = program("--from=llama2c", source, f"--workdir={workdir}", "--length=16")
    assert done.status == 0, done
    assert "family ar: 2 layers of width 16, 275 ids, windows of 16" in done.out
    done = program(f"--workdir={workdir}", f"--out={out}")
    assert done.status == 0 and "README.md" in done.out, done
    assert (out / "model.safetensors").is_file()


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "pass --from=FORMAT"),
        (
            ["--from=vae", "--checkpoint=x"],
            "--from=vae is unknown: choose one of llama2c, llama, dit, gpt",
        ),
        (["--from=llama2c"], "--checkpoint is missing"),
        (["--from=llama2c", "--checkpoint=/none.bin"], "/none.bin does not exist"),
        (["--from=llama", "--checkpoint={folder}"], "holds no config.json"),
        (["--from=llama2c", "--checkpoint={folder}"], "is no file"),
        (["--from=llama2c", "--checkpoint={cut}"], "it is cut off, or no such file"),
        (["--from=llama2c", "--checkpoint={cut}", "--tokenizer=/x"], "--tokenizer=/x"),
        (["--out={new}"], "is no run directory"),
        (["--out={new}", "--length=3"], "--length is about an import"),
    ],
)
def test_bad_input_is_one_sentence(program, made_up, tmp_path, args, message):
    """Status 2, and no directory is made."""
    folder, cut = made_up[2], tmp_path / "cut.bin"
    cut.write_bytes((folder / "model.bin").read_bytes()[:-8])
    names = {"folder": folder, "cut": cut, "new": tmp_path / "new"}
    args = [arg.format(**names) for arg in args]
    done = program(f"--workdir={tmp_path / 'run'}", *args)
    assert done.status == 2 and message in done.sentence
    assert [path.name for path in tmp_path.iterdir()] == ["cut.bin"]


def test_families_without_a_counterpart_are_named(tmp_path, monkeypatch):
    """A family of somebody's own is refused before anything is written."""
    from lm_jax.convert import export

    own_run(tmp_path / "run")
    monkeypatch.delitem(export.EXPORTS, "ar")
    with pytest.raises(ValueError, match="transformers cannot express: choose.*mdlm"):
        export.export_run(tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()
