"""Code by its meaning, as hashes: what the answers of a class depend on.

The meaning of a module is its syntax tree without docstrings and without how reports show a class (`PRESENTATION`):
comments, layout, documentation and labels do not count. A class of the user's own counts with its module and with all
that this imports of the user's own, directly or not, at the top or inside functions: every module of its top-level
package or, where it is in none, of the folder of its file. What is imported by a name that only exists at run time
(`importlib.import_module`), and files of data, are not seen.
"""

import ast
import hashlib
import inspect
import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from typing import Any, NamedTuple

PRESENTATION = ("label", "short", "role", "place")  # keywords of a component's class
PACKAGE = __name__.partition(".")[0]
HOME = Path(__file__).parents[2]  # the folder of this project's packages
NO_PLUGINS = "ICM_BENCH_NO_PLUGINS"  # variable that keeps code that is not of this package from being imported
UNASKED = "unasked"  # its value in commands that only read: what the command line does not ask for is not imported
OWN_PATH = "ICM_BENCH_OWN_PATH"  # variable with folders, each a line, in which processes of ours look for modules last
# Folders in which everybody's modules lie: there, one in no package counts alone.
_SHARED = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib", "platstdlib")}


class Source(NamedTuple):
    """A file of code as it is now: one that is edited while a process lives is read again."""

    file: Path
    modified_ns: int  # since 1970
    bytes: int

    @classmethod
    def of(cls, file: Path) -> "Source":
        """Return the file as it is now."""
        info = file.stat()
        return cls(file, info.st_mtime_ns, info.st_size)


@cache
def tree_of(source: Source) -> ast.Module:
    """Return the syntax tree of a file; an empty one where nobody can import it, since it is no valid Python."""
    try:
        return ast.parse(source.file.read_bytes())
    except (SyntaxError, ValueError):
        return ast.Module(body=[], type_ignores=[])


@cache
def meaning_of(source: Source) -> str:
    """Return the hash (SHA-256, hex) of what a file means."""
    return hashlib.sha256(meaning(tree_of(source)).encode()).hexdigest()


def meaning(node: Any) -> str:
    """Return a syntax tree as text: without docstrings, labels and places, and the same whatever Python's version."""
    if isinstance(node, list):
        return f"[{','.join(map(meaning, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
        fields["body"] = node.body[1:]
    if isinstance(node, ast.ClassDef):
        fields["keywords"] = [keyword for keyword in node.keywords if keyword.arg not in PRESENTATION]
    # Later versions add fields that are empty where the syntax is not used.
    parts = (f"{name}={meaning(value)}" for name, value in fields.items() if value not in (None, []))
    return f"{type(node).__name__}({','.join(parts)})"


def packages_as_they_are() -> str:
    """Return the hash (SHA-256, hex) of the files of the packages that make a report, to the byte.

    Reports show labels and data files too, which a meaning is without.
    """
    digest = hashlib.sha256()
    for package in (PACKAGE, "reports"):
        for file in sorted(f for f in (HOME / package).rglob("*") if f.is_file() and f.parent.name != "__pycache__"):
            digest.update(f"{file.relative_to(HOME)}\n{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def own_code(cls: type) -> str:
    """Return the hash (SHA-256, hex) of a class of the user's own: of every module of `own_modules`."""
    digest = hashlib.sha256()
    for module, source in sorted(own_modules(cls).items()):
        digest.update(f"{module}\n{meaning_of(source)}\n".encode())
    return digest.hexdigest()


def own_modules(cls: type) -> dict[str, Source]:
    """Return name -> file of the modules of the user's own that a class depends on, its own among them.

    Of this package only the module that a class of this package is in.

    Raises:
        OSError, TypeError: the class is in no file.
    """
    module, file = cls.__module__, Path(inspect.getfile(cls))
    place, modules = _Place.of(module, file), dict[str, Source]()
    waiting = [module, *_packages_of(module)]
    while waiting:
        name = waiting.pop()
        found = file if name == module else place.file(name)
        if found and name not in modules:
            modules[name] = Source.of(found)
            waiting += _imports(name, modules[name])
    return modules


_importable: list[str] = []  # folders of the blocks of `importable_from`
_last: list[str] = []  # those that `find_own_code` has put at the end of Python's path


@contextmanager
def importable_from(*folders: Path) -> Iterator[None]:
    """Let code of the user's own that the block asks for lie in some folders too; see `find_own_code`.

    What the block sets of the variables `NO_PLUGINS` and `OWN_PATH` ends with it.
    """
    path, already, variables = list(sys.path), list(_importable), {n: os.environ.get(n) for n in (NO_PLUGINS, OWN_PATH)}
    _importable.extend(map(str, folders))
    try:
        yield
    finally:
        sys.path[:], _importable[:], _last[:] = path, already, (folder for folder in _last if folder in path)
        for name, value in variables.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def find_own_code() -> None:
    """Append the folders of `importable_from` to the search path: a class of the user's own is to be imported.

    Processes that are started from here on look wherever this one does, after their own places.
    """
    new = [folder for folder in dict.fromkeys(_importable) if folder not in sys.path]
    sys.path += new
    _last.extend(new)
    places = [Path(folder).absolute() for folder in sys.path]
    own = [str(place) for place in places if place.exists() and place.resolve() not in _SHARED]
    os.environ[OWN_PATH] = "\n".join(own)


def environment() -> dict[str, str]:
    """Return the environment of a process of ours that is to find the modules that this one finds.

    Places of `find_own_code` are not in its PYTHONPATH, which comes first: it finds them by `OWN_PATH`.
    """
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p and p not in _last)}


def is_installed(file: Path) -> bool:
    """Say whether a file of code is part of an installed package, or of Python."""
    return bool(_SHARED & set(file.resolve().parents))


@dataclass(frozen=True)
class _Place:
    """Where the modules lie that belong to a class of the user's own."""

    package: str  # name of its top-level package; empty where it is in none
    folders: tuple[Path, ...]  # of that package (several, where it is spread over some), else the one of its file

    @classmethod
    def of(cls, module: str, file: Path) -> "_Place":
        """Return the place of the class that a module defines."""
        top = module.partition(".")[0]
        if top == PACKAGE:
            return cls("", ())
        if folders := getattr(sys.modules.get(top), "__path__", None):
            return cls(top, tuple(map(Path, folders)))
        return cls("", () if file.parent.resolve() in _SHARED else (file.parent,))

    def file(self, module: str) -> Path | None:
        """Return the file of a module that belongs to the class, None for any other."""
        top, *parts = module.split(".")
        if top == PACKAGE or (self.package and top != self.package):
            return None
        for folder in self.folders:
            place = folder.joinpath(*parts) if self.package else folder.joinpath(top, *parts)
            if found := next((f for f in (place / "__init__.py", place.with_suffix(".py")) if f.is_file()), None):
                return found
        return None


@cache
def _imports(module: str, source: Source) -> tuple[str, ...]:
    """Return every name that may be a module that a module imports anywhere in it, packages above it included."""
    package = module if source.file.name == "__init__.py" else module.rpartition(".")[0]
    return tuple(dict.fromkeys(n for name in _named(tree_of(source), package) for n in (name, *_packages_of(name))))


def _named(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            try:
                home = resolve_name(f"{'.' * node.level}{node.module or ''}", package)
            except ImportError:  # beyond the top, or in no package: it cannot be imported
                continue
            yield from (home, *(f"{home}.{alias.name}" for alias in node.names))


def _packages_of(module: str) -> list[str]:
    """Return the packages around a module, which are imported with it."""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]
