"""What the project promises in words holds: versions, commands, paths and recipes."""

import ast
import configparser
import importlib
import importlib.util
import json
import re
from types import ModuleType

import pytest
from checkout import ROOT
from ml_collections import ConfigDict
from tiny_configs import load_config

from lm_jax.config import Config

README = (ROOT / "README.md").read_text()

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


def test_ci_runs_what_readme_says():
    """.ci/run makes a fresh environment, calls README's line, then make's."""
    script = (ROOT / ".ci" / "run").read_text()
    parts = ("-m venv", TEST, "make lint", "make docs", "make notebooks")
    steps = [script.index(part) for part in parts]
    assert steps == sorted(steps)


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md"])
def test_links_between_documents_lead_somewhere(file):
    """Every link to a file of the project finds it."""
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / file).read_text())
    assert not [link for link in links if not (ROOT / link).exists()]


@pytest.mark.parametrize("family", ["ar_jax", "mdlm_jax"])
def test_every_sampler_is_documented(family):
    """docs/samplers.md has a row for each name that a family knows."""
    names = importlib.import_module(family).FAMILY.samplers()
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
    cfg = Config.from_dict(config.to_dict())
    assert cfg.to_config_dict().to_dict() == config.to_dict()

    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    command = re.search(r"^python -m experiments\.compare.*", docstring, re.M | re.S)
    assert command, "its docstring has no command"
    default = path.stem == "tiny"
    assert default or f"--config=experiments/configs/{path.name}" in command[0]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_no_outputs(path):
    """What a notebook prints is for the reader's own run to say."""
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert not [c for c in code if c["outputs"] or c["execution_count"] is not None]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_import_names_that_exist(path):
    """`make notebooks` runs them whole; a rename that forgot one is told at once."""
    cells = json.loads(path.read_text())["cells"]
    lines = [x for c in cells if c["cell_type"] == "code" for x in c["source"]]
    shell = re.compile(r"^(\s*)[!%]")  # IPython's own lines
    tree = ast.parse("".join(shell.sub(r"\1pass  # ", x + "\n") for x in lines))
    modules: dict[str, object] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            source = importlib.import_module(node.module)
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if not hasattr(source, alias.name):
                    importlib.import_module(name)
                modules[alias.asname or alias.name] = getattr(source, alias.name)
    assert modules
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            value = modules.get(node.value.id)
            assert not isinstance(value, ModuleType) or hasattr(value, node.attr), (
                f"{node.value.id}.{node.attr}"
            )
