"""What of the code the rows of a trial depend on, as hashes: code by its meaning, each component by its own modules.

The hash of a module is that of its syntax tree without docstrings: comments, layout and documentation do not count.
With a module count those of this package that it imports, at the top or inside functions, and what these import, but
for what `NOT_HASHED` lists.
"""

import ast
import hashlib
import inspect
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmark.common.registry import Component

ENTRIES = ("benchmark.sweep.evaluate", "benchmark.sweep.loading")  # from embeddings to rows

# Room or module -> why no row depends on its code. Rooms are not even opened.
NOT_HASHED = {
    "benchmark.backbones": "weights, architecture and preprocessing are in the key of every view",
    "benchmark.common": "errors, checks, storage, Ray: no number is computed there",
    "benchmark.datasets": "what it reads is known by the manifest's fingerprint",
    "benchmark.recipe": "what a recipe says is in the id of each trial",
    "benchmark.method.interventions.text": "pairs of texts are known by the name of their file",
    "benchmark.sweep.identity": "it only says which code counts",
    "benchmark.sweep.trials": "what it unfolds is in the id of each trial",
}
_ROOMS = tuple(f"benchmark.{room}." for room in ("backbones", "common", "datasets", "recipe"))
_PACKAGE = Path(__file__).parent.parent


def evaluation_code() -> str:
    """Return the hash (SHA-256, hex) of the code that every row depends on, whatever its components."""
    return _hash(ENTRIES)


def component_code(component: Component) -> str:
    """Return the hash (SHA-256, hex) of the code of a component: of its module, and of what that imports.

    Of the modules that a user's own component imports, only those of this package count.
    """
    return _hash((type(component).__module__,), inspect.getfile(type(component)))


def code_version() -> str:
    """Return the version of this package with the first digits of `evaluation_code`: what rows say of the code."""
    return f"{version('icm-bench')}+{evaluation_code()[:12]}"


@cache
def _hash(modules: tuple[str, ...], file: str | None = None) -> str:
    digest = hashlib.sha256()
    for module in reached_from(modules, file):
        if module not in NOT_HASHED:
            place = _file(module) or Path(file or "")
            digest.update(f"{module}\n{_meaning_of(place)}\n".encode())
    return digest.hexdigest()


def reached_from(modules: tuple[str, ...], file: str | None = None) -> list[str]:
    """Return some modules and what they import of this package, directly or not, sorted; of closed rooms the name.

    Args:
        modules: names with dots.
        file: where the first of them lies, if it is none of this package.
    """
    reached, waiting = set(modules), list(modules)
    while waiting:
        place = _file(waiting.pop()) or Path(file or "")
        names = {name.rpartition(".")[0] if name.startswith(_ROOMS) else name for name in _imports(_tree(place))}
        waiting += [name for name in names - reached if f"{name}." not in _ROOMS]
        reached |= names
    return sorted(reached)


def _imports(tree: ast.Module) -> Iterator[str]:
    """Yield the modules of this package that a module imports anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and _file(node.module):
            yield from (_home(node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _file(alias.name))


def _home(module: str, name: str) -> str:
    """Return the module that `from module import name` really takes: itself one, or where a package has it from."""
    if _file(f"{module}.{name}"):
        return f"{module}.{name}"
    for node in _tree(_file(module) or Path()).body:
        inside = isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{module}.")
        if isinstance(node, ast.ImportFrom) and inside and name in (alias.name for alias in node.names):
            return _home(node.module or "", name)
    return module


@cache
def _file(module: str) -> Path | None:
    """Return the file of a module of this package, or None for any other."""
    top, *parts = module.split(".")
    if top != _PACKAGE.name:
        return None
    place = _PACKAGE.joinpath(*parts)
    return next((f for f in (place.with_suffix(".py"), place / "__init__.py") if f.is_file()), None)


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_bytes())


@cache
def _meaning_of(file: Path) -> str:
    return hashlib.sha256(_meaning(_tree(file)).encode()).hexdigest()


def _meaning(node: Any) -> str:
    """Return a syntax tree as text: without docstrings and places, and the same whatever Python's version."""
    if isinstance(node, list):
        return f"[{','.join(map(_meaning, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
        fields["body"] = node.body[1:]
    # Later versions add fields that are empty where the syntax is not used.
    parts = (f"{name}={_meaning(value)}" for name, value in fields.items() if value not in (None, []))
    return f"{type(node).__name__}({','.join(parts)})"
