"""The shape of the library: the families are twins, and imports point one way."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import ROOT

PACKAGES = ("lm_jax", "ar_jax", "mdlm_jax", "experiments")
FAMILIES = ("ar_jax", "mdlm_jax")

MAINS = {"train.py", "sample.py", "evaluate.py"}
TWIN_FUNCTIONS = {
    "model.py": "language_model",
    "objective.py": "token_nll",
    "likelihood.py": "log_likelihood",
    "sampling.py": "sample",
}
TWINS = {"__init__.py", *TWIN_FUNCTIONS, *MAINS}
# What autoregression has no use for: nothing is corrupted, so there is no time.
ONLY_MDLM = {"config.py", "schedule.py", "forward_process.py", "time_embedding.py"}
# Nor has it an order to choose: left to right is one clock and one rule.
ONLY_MDLM_ARGUMENTS = {"alpha", "times"}

MAX_MAIN_LINES = 6


def sources(*packages: str) -> list[Path]:
    paths = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    assert paths, f"no Python file in {packages}"
    return sorted(paths)


def modules(package: str) -> set[str]:
    return {path.name for path in (ROOT / package).glob("*.py")}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Full names of everything that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = ".".join([*path.parent.relative_to(ROOT).parts]) + "."
            module = (origin if node.level else "") + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imported_packages(package: str) -> set[str]:
    names = (name for path in sources(package) for name in imports(path))
    return {name.partition(".")[0] for name in names}


def function(path: Path, name: str) -> ast.FunctionDef:
    body = ast.parse(path.read_text()).body
    found = [n for n in body if isinstance(n, ast.FunctionDef) and n.name == name]
    assert found, f"{relative(path)} defines no function {name}"
    return found[0]


def arguments(node: ast.FunctionDef) -> list[str]:
    """Names from `params` on: before it stand the network's own functions."""
    args = node.args
    names = [arg.arg for arg in args.posonlyargs + args.args + args.kwonlyargs]
    return names[names.index("params") :] if "params" in names else names


def without_docstring(path: Path) -> str:
    tree = ast.parse(path.read_text())
    return ast.unparse(ast.Module(tree.body[1:], []))


def test_mdlm_adds_only_its_forward_process():
    """modules(mdlm) - modules(ar) is the forward process, and the rest are twins."""
    assert modules("ar_jax") == TWINS
    assert modules("mdlm_jax") - modules("ar_jax") == ONLY_MDLM
    assert modules("ar_jax") - modules("mdlm_jax") == set()


@pytest.mark.parametrize("module", sorted(TWIN_FUNCTIONS))
def test_twin_functions_differ_only_in_the_schedule(module):
    """Twin modules define one function of one name, and its arguments are the same."""
    name = TWIN_FUNCTIONS[module]
    ar = arguments(function(ROOT / "ar_jax" / module, name))
    mdlm = arguments(function(ROOT / "mdlm_jax" / module, name))
    assert ar == [arg for arg in mdlm if arg not in ONLY_MDLM_ARGUMENTS]


@pytest.mark.parametrize("module", sorted(MAINS))
def test_mains_differ_only_in_the_name_of_the_family(module):
    """A main wires and nothing else, so one family's is the other's, renamed."""
    ar, mdlm = (without_docstring(ROOT / family / module) for family in FAMILIES)
    mdlm = mdlm.replace("mdlm_jax", "ar_jax")
    assert sorted(ar.splitlines()) == sorted(mdlm.splitlines())  # imports are sorted
    assert len(ar.splitlines()) <= MAX_MAIN_LINES


@pytest.mark.parametrize(
    "package, forbidden",
    [
        ("lm_jax", {"ar_jax", "mdlm_jax", "experiments"}),
        ("ar_jax", {"mdlm_jax", "experiments"}),
        ("mdlm_jax", {"ar_jax", "experiments"}),
    ],
)
def test_imports_point_one_way(package, forbidden):
    """experiments -> families -> lm_jax, and a family never knows the other."""
    assert not imported_packages(package) & (forbidden | {"tests"})


# Rooms of lm_jax from top to bottom; a room imports its own layer and those below.
LAYERS = (
    {"app", "doctor", "command_line", "usage", "convert"},
    {"run"},
    {"sampling", "training"},
    {"checkpoint", "checkpoint_metadata"},
    {"data", "model", "evaluation"},
    {"language_model"},
    {"sharding", "devices", "config", "validation", "files"},
    {"types", "keys", "progress", "signals", "distributed", "old_names"},
)


def graph() -> dict[str, set[str]]:
    """The modules of the project, each with those that it imports."""
    names = {}
    for path in sources(*PACKAGES):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts).removesuffix(".__init__")] = path
    return {
        name: {
            found
            for full in imports(path)
            for found in (full, full.rpartition(".")[0])
            if found in names and found != name
        }
        for name, path in names.items()
    }


def test_layers_import_downwards():
    """The order of LAYERS, and every module has its place in it."""
    layer = {room: i for i, rooms in enumerate(LAYERS) for room in rooms}
    for name, imported in graph().items():
        package, _, rest = name.partition(".")
        for other in imported:
            other_package, _, other_rest = other.partition(".")
            if rest and other_rest and package == other_package == "lm_jax":
                upper, lower = rest.split(".")[0], other_rest.split(".")[0]
                assert layer[upper] <= layer[lower], f"{name} imports {other}"


def test_imports_have_no_cycle():
    """Between modules, wherever in a file the import stands."""
    imported, done = graph(), set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above, name])
        if name not in done:
            for other in imported[name]:
                is_own_package = name.startswith(f"{other}.")
                if not is_own_package:
                    visit(other, (*above, name))
            done.add(name)

    for name in imported:
        visit(name, ())


def test_only_the_front_end_and_the_experiments_read_flags():
    """Importing the library defines no flag: everything is a function's argument."""
    flags = ("absl.flags", "ml_collections.config_flags", "argparse")
    readers = {
        relative(path)
        for path in sources("lm_jax", *FAMILIES)
        for name in imports(path)
        if name.startswith(flags)
    }
    assert readers <= {"lm_jax/app.py", "lm_jax/command_line.py"}


def test_no_file_imports_tensorflow():
    """TFDS is read through data sources, which need no TensorFlow."""
    assert not {"tensorflow"} & set().union(*map(imported_packages, PACKAGES))


def test_importing_the_library_imports_no_tensorflow(tmp_path):
    """Not even where TensorFlow is installed, and not by way of another library."""
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("")
    code = (
        "import sys, lm_jax.app, lm_jax.data.dataset, ar_jax, mdlm_jax\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr or "tensorflow was imported"


@pytest.mark.parametrize(
    "path", [p for p in sources(*PACKAGES) if p.name == "__init__.py"], ids=relative
)
def test_packages_only_re_export(path):
    """An __init__ holds a docstring, imports and __all__."""
    _, *body = ast.parse(path.read_text()).body
    for node in body:
        is_import = isinstance(node, ast.Import | ast.ImportFrom)
        assert is_import or ast.unparse(node).startswith("__all__ =")


@pytest.mark.parametrize("path", sources(*PACKAGES, "tests"), ids=relative)
def test_shapes_and_keys_can_be_checked(path):
    """Annotations stay objects, and keys stay typed: what checks them needs both."""
    assert "__future__.annotations" not in set(imports(path))
    nodes = ast.walk(ast.parse(path.read_text()))
    called = {ast.unparse(n.func) for n in nodes if isinstance(n, ast.Call)}
    assert "jax.random.PRNGKey" not in called, "use jax.random.key"
