"""What the project promises in words holds: versions, commands, paths and recipes."""

import ast
import configparser
import importlib
import importlib.util
import itertools
import json
import re
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from lm_jax.config import Config

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PACKAGES = ("lm_jax", "ar_jax", "mdlm_jax", "experiments")

RUN = "pip install -e . && python -m experiments.compare"
TEST = "pip install -e '.[test]' && python -m pytest"

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CONFIGS = sorted((ROOT / "experiments" / "configs").glob("[!_]*.py"))


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def first_match(pattern: str, file: str) -> str:
    match = re.search(pattern, (ROOT / file).read_text(), re.MULTILINE)
    assert match, f"{file} has nothing like {pattern}"
    return match[1]


def expand(name: str) -> list[str]:
    """a{b,c}d -> abd, acd, as a shell has it; once in a name."""
    match = re.search(r"\{(.*?)\}", name)
    if match is None:
        return [name]
    before, after = name[: match.start()], name[match.end() :]
    return [before + choice + after for choice in match[1].split(",")]


def tree_paths(readme: str) -> set[str]:
    """The paths in README's tree, each behind the folders it is indented under."""
    match = re.search(r"^## The tree\n.*?^```\n(.*?)^```", readme, re.S | re.M)
    assert match, "README has no tree under the heading 'The tree'"
    paths, folders = set(), []
    for line in match[1].splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [[name.rstrip("/") for name in expand(line.split()[0])]]
        paths |= {"/".join(parts) for parts in itertools.product(*folders)}
    return paths


def load_config(path: Path, *arguments: str) -> ConfigDict:
    """What flags do with a config file: run it, and call its get_config()."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*arguments)


@pytest.mark.parametrize(
    "file, pattern",
    [
        ("CHANGELOG.md", r"^## \[(\d[^\]]*)\] - \d{4}-\d{2}-\d{2}$"),
        ("CITATION.cff", r"^version: (.*)$"),
    ],
)
def test_the_version_is_the_same_everywhere(file, pattern):
    """setup.cfg states it; the newest entry of the changelog and the citation agree."""
    assert first_match(pattern, file) == setup_cfg()["metadata"]["version"]


@pytest.mark.parametrize("command", [RUN, TEST])
def test_readme_shows_the_two_commands(command):
    """Each stands on a line of its own, ready to be copied."""
    assert command in README.splitlines()


def test_ci_runs_what_readme_says():
    """.ci/run makes a fresh environment, calls README's line, then make's."""
    script = (ROOT / ".ci" / "run").read_text()
    parts = ("-m venv", TEST, "make check", "make notebooks")
    steps = [script.index(part) for part in parts]
    assert steps == sorted(steps)


def test_every_path_in_the_tree_exists():
    """README's tree names files and folders that are there."""
    missing = [path for path in tree_paths(README) if not (ROOT / path).exists()]
    assert not missing


def test_every_module_is_in_the_tree():
    """README's tree has a line for every module: it is the table of contents."""
    modules = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    missing = sorted(modules - tree_paths(README))
    assert not missing


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md"])
def test_links_between_documents_lead_somewhere(file):
    """Every link to a file of the project finds it."""
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / file).read_text())
    assert not [link for link in links if not (ROOT / link).exists()]


@pytest.mark.parametrize("family", ["ar_jax", "mdlm_jax"])
def test_every_sampler_is_documented(family):
    """docs/samplers.md has a row for each name that a family knows."""
    names = importlib.import_module(family).language_model(Config()).samplers
    rows = (ROOT / "docs" / "samplers.md").read_text()
    assert not [name for name in names if f"\n| `{name}`" not in rows]


@pytest.mark.parametrize(
    "file",
    ["README.md", "CONTRIBUTING.md", "docs/samplers.md", "docs/distributed.md"],
)
def test_commands_in_documents_name_modules_that_exist(file):
    """Every `python -m ...` of the project's own can be found."""
    text = (ROOT / file).read_text()
    commands = set(re.findall(r"python -m ([a-z_]+\.[a-z_.]+)", text))
    assert commands, f"{file} shows no command"
    assert not [name for name in commands if importlib.util.find_spec(name) is None]


@pytest.mark.slow
def test_the_example_from_python_runs(capsys):
    """README's Python block is a program, and prints a line for each family."""
    (code,) = re.findall(r"^```python\n(.*?)^```", README, re.S | re.M)
    exec(compile(code, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["ar", "=="], ["mdlm", "<="]]


def test_the_first_recipes_are_there():
    """`tiny` is what experiments.compare runs by default, `tinystories_cpu` is real."""
    assert {"tiny", "tinystories_cpu"} <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_recipe_is_a_valid_config_with_its_command(path):
    """A config file is a lab notebook: it says how it is run, and it can be run."""
    config = load_config(path)
    assert isinstance(config, ConfigDict)
    assert Config.from_dict(config.to_dict()).to_dict() == config.to_dict()

    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    command = re.search(r"^python -m experiments\.compare.*", docstring, re.M | re.S)
    assert command, "its docstring has no command"
    default = path.stem == "tiny"
    assert default or f"--config=experiments/configs/{path.name}" in command[0]


def test_the_address_of_the_project_is_the_same_everywhere():
    """setup.cfg states it; what README and the notebooks fetch is there."""
    address = setup_cfg()["metadata"]["url"].removeprefix("https://")
    for path in (ROOT / "README.md", *NOTEBOOKS):
        text = path.read_text().replace(
            "colab.research.google.com/github", "github.com"
        )
        found = set(re.findall(r"github\.com/[\w.-]+/mdlm-jax", text))
        assert found == {address}, path.name


def test_readme_opens_every_notebook_in_colab():
    for path in NOTEBOOKS:
        assert f"/blob/main/notebooks/{path.name})" in README


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_no_outputs(path):
    """What a notebook prints is for the reader's own run to say."""
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert not [c for c in code if c["outputs"] or c["execution_count"] is not None]


def test_every_promise_names_a_test_that_exists():
    """README's table of what is promised and which test proves it."""
    named = set(re.findall(r"`(test_\w+)`", README))
    sources = [path.read_text() for path in (ROOT / "tests").glob("test_*.py")]
    defined = set(re.findall(r"^def (test_\w+)", "\n".join(sources), re.M))
    assert len(named) > 15 and not named - defined
