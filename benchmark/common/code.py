"""Hashes of code by its meaning, to identify the code that results depend on; and the search path for plugins.

The meaning of a module is its syntax tree without docstrings and without labels of components (the keywords in
`PRESENTATION`). Comments, layout, documentation and labels therefore do not change the hash. The code of a user's class
is the module of the class and every module of the user that it imports, directly or indirectly, at the top or inside
functions. A module is the user's if it lies in the same top-level package or, without a package, in the same folder.
Data files, and imports whose names are computed at run time (`importlib.import_module`), are not tracked.

Parsing all files takes a second. What is found is kept in `code.json` in the cache folder, by the content of the file.
"""

import ast
import hashlib
import inspect
import json
import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.common.storage.places import cache_dir

# Keywords of component classes that only reports use; a new keyword is also a field of `registry.Presentation`.
PRESENTATION = ("label", "role", "place")
PACKAGE = __name__.partition(".")[0]
HOME = Path(__file__).parents[2]  # the folder of this project's packages
NO_PLUGINS = "ICM_BENCH_NO_PLUGINS"  # environment variable that refuses plugins: code from outside this package
UNASKED = "unasked"  # value of NO_PLUGINS in commands that only read: they import only plugins of the command line
# Environment variable: folders, one per line, that our processes search last. benchmark/__init__.py reads it by name.
OWN_PATH = "ICM_BENCH_OWN_PATH"
MAX_KNOWN = 2000  # number of codes that `code.json` keeps, the newest
# Folders that many packages share: a module of the user in one of them, outside a package, is hashed alone.
_SHARED = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib", "platstdlib")}


class Source(NamedTuple):
    """A code file with its time of modification and its size, which change when the file is edited."""

    file: Path
    modified_ns: int  # time of modification, ns since 1970
    bytes: int

    @classmethod
    def of(cls, file: Path) -> "Source":
        """Return the current version of a file."""
        info = file.stat()
        return cls(file, info.st_mtime_ns, info.st_size)


class Import(NamedTuple):
    """An import statement."""

    level: int | None  # number of leading dots of `from`; None for `import NAME`
    module: str  # module after `from`, without dots; may be empty
    names: tuple[str, ...]
    is_top: bool  # whether the module itself runs it, not a function or class in it


class Code(NamedTuple):
    """What hashes need to know of a code file."""

    meaning: str  # SHA-256 (hex) of its meaning
    imports: tuple[Import, ...]  # also those inside functions


@cache
def code_of(source: Source) -> Code:
    """Return meaning and imports of a file; a file that is not valid Python counts as empty."""
    content, known = source.file.read_bytes(), _known()
    digest = hashlib.sha256(content).hexdigest()
    if digest not in known:
        known[digest] = _parsed(content)
        _unwritten.append(digest)
    return known[digest]


def keep_known() -> None:
    """Write what `code_of` has found for later processes. A cache folder that is not writable is no error."""
    if not _unwritten:
        return
    file, codes = cache_dir() / "code.json", dict([*_known().items()][-MAX_KNOWN:])
    new = file.with_name(f"{file.name}.{os.getpid()}")
    _unwritten.clear()
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps({"version": _version(), "codes": codes}))
        new.replace(file)


_unwritten: list[str] = []  # files whose code `keep_known` has not written


@cache
def _known() -> dict[str, Code]:
    """Return SHA-256 (hex) of a file -> its code; at first what earlier processes found."""
    try:
        kept = json.loads((cache_dir() / "code.json").read_bytes())
        codes = kept["codes"] if kept["version"] == _version() else {}
        return {
            digest: Code(
                meant, tuple(Import(level, module, tuple(names), top) for level, module, names, top in imports)
            )
            for digest, (meant, imports) in codes.items()
        }
    except (OSError, ValueError, TypeError, LookupError, AttributeError):  # none, or a damaged one
        return {}


def _version() -> list[str]:
    """Return what a code depends on besides the file: this module, and the Python that parses."""
    return [hashlib.sha256(Path(__file__).read_bytes()).hexdigest(), sys.version]


def _parsed(content: bytes) -> Code:
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        tree = ast.Module(body=[], type_ignores=[])
    imports = (
        Import(getattr(node, "level", None), getattr(node, "module", "") or "", names, node in tree.body)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom) and (names := tuple(alias.name for alias in node.names))
    )
    return Code(hashlib.sha256(meaning(tree).encode()).hexdigest(), tuple(imports))


def meaning(node: Any) -> str:
    """Return a syntax tree as text without docstrings and `PRESENTATION`, equal for all versions of Python."""
    if isinstance(node, list):
        return f"[{','.join(map(meaning, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
        fields["body"] = node.body[1:]
    if isinstance(node, ast.ClassDef):
        fields["keywords"] = [keyword for keyword in node.keywords if keyword.arg not in PRESENTATION]
    # Later Python versions add fields to nodes; such a field is empty if the code does not use the new syntax.
    parts = (f"{name}={meaning(value)}" for name, value in fields.items() if value not in (None, []))
    return f"{type(node).__name__}({','.join(parts)})"


def packages_as_they_are() -> str:
    """Return the hash (SHA-256, hex) of all files of the packages that write reports, byte for byte.

    Changes of labels and data files change the hash, since reports show them.
    """
    digest = hashlib.sha256()
    for package in (PACKAGE, "reports"):
        for file in sorted(f for f in (HOME / package).rglob("*") if f.is_file() and f.parent.name != "__pycache__"):
            digest.update(f"{file.relative_to(HOME)}\n{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def own_code(cls: type) -> str:
    """Return the hash (SHA-256, hex) of the meaning of all modules in `own_modules(cls)`."""
    digest = hashlib.sha256()
    for module, source in sorted(own_modules(cls).items()):
        digest.update(f"{module}\n{code_of(source).meaning}\n".encode())
    return digest.hexdigest()


def own_modules(cls: type) -> dict[str, Source]:
    """Return module name -> file for all modules of the user that a class depends on, its own module included.

    For a class of this package, return only its own module.

    Raises:
        OSError, TypeError: the class has no source file.
    """
    module, file = cls.__module__, Path(inspect.getfile(cls))
    if module.partition(".")[0] == PACKAGE:
        return {module: Source.of(file)}
    place, modules = _Place.of(module, file), dict[str, Source]()
    waiting = [module, *_packages_of(module)]
    while waiting:
        name = waiting.pop()
        found = file if name == module else place.file(name)
        if found and name not in modules:
            modules[name] = Source.of(found)
            waiting += _imports(name, modules[name])
    return modules


_importable: list[str] = []  # folders of active blocks of `importable_from`
_last: list[str] = []  # folders that `find_own_code` has appended to `sys.path`


@contextmanager
def importable_from(*folders: Path) -> Iterator[None]:
    """Allow the user's code to be imported from more folders inside the block; see `find_own_code`.

    At the end of the block the variables `NO_PLUGINS` and `OWN_PATH` get their earlier values back.
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
    """Append the folders of `importable_from` to `sys.path`. Call it before importing a user's class.

    Processes started later search these folders too, after their own folders.
    """
    new = [folder for folder in dict.fromkeys(_importable) if folder not in sys.path]
    sys.path += new
    _last.extend(new)
    places = [Path(folder).absolute() for folder in sys.path]
    own = [str(place) for place in places if place.exists() and place.resolve() not in _SHARED]
    os.environ[OWN_PATH] = "\n".join(own)


def environment() -> dict[str, str]:
    """Return the environment variables with which a child process finds the same modules as this process.

    The folders of `find_own_code` are passed in `OWN_PATH`, not in PYTHONPATH, so that they are searched last.
    """
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p and p not in _last)}


def is_installed(file: Path) -> bool:
    """Return whether a code file belongs to an installed package or to Python."""
    return bool(_SHARED & set(file.resolve().parents))


@dataclass(frozen=True)
class _Place:
    """The package or folder of a user's class, in which its modules lie."""

    package: str  # name of the top-level package of the class; empty without a package
    folders: tuple[Path, ...]  # folders of the package (several for a namespace package), else the folder of the file

    @classmethod
    def of(cls, module: str, file: Path) -> "_Place":
        """Return the place of a class that `file` defines in `module`."""
        top = module.partition(".")[0]
        if folders := getattr(sys.modules.get(top), "__path__", None):
            return cls(top, tuple(map(Path, folders)))
        return cls("", () if file.parent.resolve() in _SHARED else (file.parent,))

    def file(self, module: str) -> Path | None:
        """Return the file of a module at this place; None for any other module."""
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
    """Return the names in imports of a module that may be modules, each followed by its parent packages."""
    package = module if source.file.name == "__init__.py" else module.rpartition(".")[0]
    return tuple(dict.fromkeys(n for name in _named(source, package) for n in (name, *_packages_of(name))))


def _named(source: Source, package: str) -> Iterator[str]:
    for one in code_of(source).imports:
        if one.level is None:
            yield from one.names
            continue
        with suppress(ImportError):  # a relative import that leaves the top-level package, or outside a package
            home = resolve_name(f"{'.' * one.level}{one.module}", package)
            yield from (home, *(f"{home}.{name}" for name in one.names))


def _packages_of(module: str) -> list[str]:
    """Return the parent packages of a module, which are imported with it."""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]
