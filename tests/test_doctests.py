"""The examples in docstrings are true."""

import ast
import doctest
import importlib

import pytest
from checkout import ROOT

PACKAGES = ("lm_jax", "ar_jax", "mdlm_jax", "experiments")
KINDS = ast.Module | ast.ClassDef | ast.FunctionDef


def examples() -> dict[str, doctest.DocTest]:
    """Every docstring with an example, by module and line.

    Found in the source: what checks shapes at run time wraps functions, and doctest's
    own search takes them for another module's.
    """
    found = {}
    for path in sorted(p for name in PACKAGES for p in (ROOT / name).rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = ast.get_docstring(node) if isinstance(node, KINDS) else None
            if text and ">>>" in text:
                line = getattr(node, "lineno", 1)
                name = f"{module}.{getattr(node, 'name', '')}"
                found[name] = doctest.DocTestParser().get_doctest(
                    text, {}, module, str(path), line
                )
    return found


EXAMPLES = examples()


@pytest.mark.parametrize("name", EXAMPLES)
def test_docstring(name):
    test = EXAMPLES[name]
    test.globs = dict(vars(importlib.import_module(test.name)))
    said: list[str] = []
    doctest.DocTestRunner().run(test, out=said.append)
    assert not said, "".join(said)
