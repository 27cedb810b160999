"""Pages of the site that are made from other files: the API reference from docstrings,
the notebooks, and the texts outside docs/. A hook of mkdocs; see mkdocs.yml.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("lm_jax", "ar_jax", "mdlm_jax")
TEXTS = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    *sorted(
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "experiments" / "results").rglob("*.md")
    ),
)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages."""
    pages = {f"project/{name}": (ROOT / name).read_text("utf-8") for name in TEXTS}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        pages[f"notebooks/{path.stem}.md"] = notebook(path)
    modules = [module for package in PACKAGES for module in modules_of(package)]
    for module in modules:
        pages[page_of(module)] = f"# {module}\n\n::: {module}\n"
    lines = [f"- [{name}]({page_of(name).split('/', 1)[1]})" for name in modules]
    pages["reference/index.md"] = "# API reference\n\n" + "\n".join(lines) + "\n"
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    for path in (ROOT / "experiments" / "results").rglob("*.png"):
        name = path.relative_to(ROOT).as_posix()
        file = File.generated(config, f"project/{name}", abs_src_path=str(path))
        files.append(file)
    return files


def modules_of(package: str) -> list[str]:
    """Full names of the modules of a package, itself first."""
    paths = sorted((ROOT / package).rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return sorted(name.removesuffix(".__init__") for name in names)


def page_of(module: str) -> str:
    """The page of a module."""
    return f"reference/{module}.md"


def notebook(path: Path) -> str:
    """A notebook as Markdown: its texts, and its code in blocks."""
    parts = []
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        text = "".join(cell["source"])
        is_code = cell["cell_type"] == "code"
        parts.append(f"```python\n{text}\n```" if is_code else text)
    return "\n\n".join(parts) + "\n"


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Points links at the pages of this site; those without a page become text."""
    source = page.file.src_uri
    base = Path(source).parent
    if source.startswith("project/"):
        folder = Path(source).relative_to("project").parent
    else:
        folder = base if source.startswith("notebooks/") else "docs" / base

    def link(found: re.Match) -> str:
        mark, text, target = found.groups()
        address, _, anchor = target.partition("#")
        if not address or re.match(r"[a-z]+:", address):
            return found[0]
        name = os.path.normpath(folder / address)
        page_name = site_page(name)
        if files.get_file_from_path(page_name) is None:
            # A file without a page, or a broken link, which mkdocs tells.
            return text if (ROOT / name).exists() else found[0]
        anchor = f"#{anchor}" if anchor else ""
        return f"{mark}[{text}]({os.path.relpath(page_name, base)}{anchor})"

    blocks = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(x if x.startswith("```") else LINK.sub(link, x) for x in blocks)


def site_page(name: str) -> str:
    """The page, or the picture, that a file of the project would have."""
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    if name == "docs":
        return "index.md"
    if name.startswith("reference/"):
        return name
    if name == "notebooks" or name.endswith(".ipynb"):
        stem = Path(name).stem if name.endswith(".ipynb") else "quickstart"
        return f"notebooks/{stem}.md"
    if name.endswith(".py"):
        module = name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        return page_of(module)
    return f"project/{name}"
