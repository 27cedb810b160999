"""What stands beside numbers says where they come from."""

import shlex
import shutil
import subprocess

import jax
import pytest

from experiments import provenance
from lm_jax.config import Config


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository of one commit, which `provenance` takes for its own."""
    git = shutil.which("git")
    if git is None:
        pytest.skip("needs git")

    def run(*arguments):
        command = [git, "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
        return done.stdout.decode().strip()

    code = tmp_path / "experiments" / "provenance.py"
    code.parent.mkdir()
    code.write_text("one\n")
    run("init", "-q")
    run("add", ".")
    run("commit", "-q", "-m", "one")
    monkeypatch.setattr(provenance, "__file__", str(code))
    return code, run


def test_the_commit_is_that_of_the_code_and_says_where_files_differ(repository):
    """40 digits; with "-dirty" where a tracked file has changed."""
    code, run = repository
    head = run("rev-parse", "HEAD")
    assert provenance.commit() == head and len(head) == 40
    code.write_text("two\n")
    assert provenance.commit() == f"{head}-dirty"


def test_outside_a_repository_there_is_no_commit(repository):
    """None, not that of a repository further up; None as well where git is broken."""
    code, _ = repository
    shutil.rmtree(code.parents[1] / ".git")
    assert provenance.commit() is None
    (code.parents[1] / ".git").mkdir()
    assert provenance.commit() is None


def test_the_command_can_be_pasted_into_a_shell(monkeypatch):
    arguments = ["--prompt=Tom's [8] end", "--out=a b.json"]
    monkeypatch.setattr("sys.argv", ["/elsewhere/speed.py", *arguments])
    command = provenance.command_of("speed")
    assert shlex.split(command) == ["python", "-m", "experiments.speed", *arguments]


def test_numbers_stand_beside_config_machine_and_versions():
    """The config is whole, so that it can be trained with again."""
    cfg = Config(seed=7)
    about = provenance.made_by("command", cfg)
    assert Config.from_dict(about["config"]) == cfg
    assert about["machine"]["devices"] == [d.device_kind for d in jax.devices()]
    assert about["machine"]["num_cores"] >= 1 and about["machine"]["cpu"]
    assert about["versions"]["jax"] == jax.__version__
