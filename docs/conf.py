"""Settings of Sphinx for `make site`, which builds README.md, the pages and a reference of the Python API as one site.

Sphinx, since MkDocs has had no release since 2024. The source folder is the repository, so that links stay as they are.
"""

import importlib.util
import shutil
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ADDRESS = PYPROJECT["tool"]["icm-bench"]["address"]
# The modules whose `__all__` is public. An object is described in the first one that has it.
PUBLIC = ["icm_bench", "benchmark", *(f"benchmark.method.{room}" for room in ("subspace", "interventions", "predictors"))]
# Titles in the navigation -> pages of this folder.
NAVIGATION = {
    "Use": ["data", "recipe", "report", "does-it-help", "comparisons", "adding", "examples/README"],
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
autodoc_default_options = {"members": True, "member-order": "bysource", "exclude-members": "model_config"}
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
            kind = "class" if isinstance(one, type) else "module" if isinstance(one, ModuleType) else "data"
            kind = "function" if callable(one) and kind == "data" else kind
            parts.append(f"```{{eval-rst}}\n.. auto{kind}:: {module}.{name}\n```\n")
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


def _index(app: Any, error: Exception | None) -> None:
    """Let the site begin with README."""
    if error is None:
        shutil.copy(Path(app.outdir) / "README.html", Path(app.outdir) / "index.html")


def setup(app: Any) -> None:
    """Connect the functions above."""
    app.connect("source-read", _complete)
    app.connect("build-finished", _index)
