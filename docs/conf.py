"""Settings of Sphinx for `make site`, which builds README.md, the pages and a reference of the Python API as one site.

Sphinx, since MkDocs has had no release since 2024. The source folder is the repository, so that links stay as they are.
"""

import importlib.util
import re
import shutil
import sys
import tomllib
from inspect import isclass, isroutine
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ADDRESS = PYPROJECT["tool"]["icm-bench"]["address"]
# The modules whose `__all__` is public. An object is described in the first one that has it.
ROOMS = ("subspace", "interventions", "predictors")
PUBLIC = ["icm_bench", "benchmark", *(f"benchmark.method.{room}" for room in ROOMS)]
# Titles in the navigation -> pages of this folder.
NAVIGATION = {
    "Use": ["data", "recipe", "report", "does-it-help", "comparisons", "results", "adding", "examples/README"],
    "Run": ["reproducing", "clusters", "places", "speed", "scale"],
    "Know": ["glossary", "limits", "preregistration", "icons", "architecture", "api"],
}

project = "icm-bench"
author = "icm-bench contributors"
release = version = PYPROJECT["project"]["version"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "README"
include_patterns = ["*.md", "docs/**.md"]
exclude_patterns = [".*", "build", "dist", "tests", "icm-bench-*"]
default_role = "code"
myst_heading_anchors = 4
HIDDEN = "model_config, set_fit_request, set_transform_request"  # of pydantic and scikit-learn
autodoc_default_options = {"members": True, "member-order": "bysource", "exclude-members": HIDDEN}
autodoc_typehints = "description"
html_theme = "furo"
html_title = f"icm-bench {version}"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"source_repository": ADDRESS, "source_branch": f"v{version}"} if ADDRESS else {}


def public_names() -> dict[str, list[str]]:
    """Return the public names that each module of `PUBLIC` is the first to have."""
    seen: list[Any] = []
    found: dict[str, list[str]] = {}
    for module in (importlib.import_module(name) for name in PUBLIC if importlib.util.find_spec(name)):
        new = [name for name in module.__all__ if not any(getattr(module, name) is one for one in seen)]
        seen += [getattr(module, name) for name in new]
        found[module.__name__] = new
    return found


def _reference() -> str:
    """Return the reference of all public names as MyST Markdown."""
    parts = []
    for module, names in public_names().items():
        parts.append(f"## {module}\n")
        for name in names:
            one = getattr(sys.modules[module], name)
            kind = "class" if isclass(one) and not get_origin(one) else "function" if isroutine(one) else "data"
            options = "\n   :no-value:" if kind == "data" else ""
            parts.append(f"```{{eval-rst}}\n.. auto{kind}:: {module}.{name}{options}\n```\n")
    return "\n".join(parts)


def _navigation() -> str:
    parts = [
        f"```{{toctree}}\n:hidden:\n:caption: {title}\n" + "\n".join(f"docs/{page}" for page in pages) + "\n```\n"
        for title, pages in NAVIGATION.items()
    ]
    project_pages = "\n".join(("CONTRIBUTING", "SECURITY", "CHANGELOG"))
    return "\n".join([*parts, f"```{{toctree}}\n:hidden:\n:caption: Project\n{project_pages}\n```\n"])


def _complete(_: Any, page: str, source: list[str]) -> None:
    """Add to README the navigation, and to docs/api.md the reference."""
    if page == root_doc:
        source[0] += "\n" + _navigation()
    if page == "docs/api":
        source[0] += "\n" + _reference()


def _signature(_app: Any, _what: str, _name: str, one: Any, *_: Any) -> tuple[str, None] | None:
    """Leave out the defaults of a recipe, which are pages long; docs/recipe.md has them."""
    return ("(**keys)", None) if isclass(one) and issubclass(one, BaseModel) else None


def _escape(_app: Any, _what: str, _name: str, _one: Any, _options: Any, lines: list[str]) -> None:
    """Escape what is plain text in docstrings and markup in reStructuredText: `lambda_` and bars, outside of code."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = line.split("`")
            parts[::2] = [re.sub(r"(?<=\w)_(?!\w)|(?<!\\)\|", r"\\\g<0>", part) for part in parts[::2]]
            lines[i] = "`".join(parts)


def _index(app: Any, error: Exception | None) -> None:
    """Let the site begin with README."""
    if error is None:
        shutil.copy(Path(app.outdir) / "README.html", Path(app.outdir) / "index.html")


def setup(app: Any) -> None:
    """Connect the functions above."""
    app.connect("source-read", _complete)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _escape, priority=900)  # after napoleon
    app.connect("build-finished", _index)
