"""Hashes of the code that the rows of a trial depend on: code of the evaluation, and code of each component.

Trial ids contain them, so a change of hashed code makes trials run again. A module is hashed by its meaning, see
`common.code`, together with all modules of this package that it imports directly or indirectly, except those in
`NOT_HASHED`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

from benchmark.common.code import Code, Source, code_of, keep_known, own_modules
from benchmark.common.registry import Component

ENTRIES = ("benchmark.sweep.evaluate", "benchmark.sweep.loading")  # modules that compute rows from embeddings

# Package or module -> why no row depends on its code. Packages are also in `_ROOMS`, whose imports are not searched.
NOT_HASHED = {
    "benchmark.backbones": "weights, architecture and preprocessing are in the key of every view",
    "benchmark.common": "errors, checks, storage, Ray: no number is computed there",
    "benchmark.datasets": "what it reads is known by the manifest's fingerprint",
    "benchmark.recipe": "what a recipe says is in the id of each trial",
    "benchmark.method.interventions.text": "pairs of texts are known by the name of their file",
    "benchmark.sweep.identity": "it only says which code counts",
    "benchmark.sweep.trials": "what it unfolds is in the id of each trial",
}
_ROOMS = tuple(f"benchmark.{room}" for room in ("backbones", "common", "datasets", "recipe"))
_PACKAGE = Path(__file__).parent.parent
_version = cache(version)


@cache  # a sweep asks for each trial
def evaluation_code() -> str:
    """Return the SHA-256 (hex) of the code that all rows depend on, without components."""
    return _hash(tuple((module, _source(module)) for module in ENTRIES))


def component_code(component: Component) -> str:
    """Return the SHA-256 (hex) of the code of a component: its modules and their imports.

    A user's component is hashed with all user modules that it depends on, see `common.code`.
    """
    kind = type(component)
    if _file(kind.__module__):
        return _module_code(kind.__module__)
    return _hash(tuple(sorted(own_modules(kind).items())))


@cache
def _module_code(module: str) -> str:
    return _hash(((module, _source(module)),))


def code_version() -> str:
    """Return the package version and the first digits of `evaluation_code`, as rows store them."""
    return f"{_version('icm-bench')}+{evaluation_code()[:12]}"


@cache
def _hash(modules: tuple[tuple[str, Source], ...]) -> str:
    digest, sources = hashlib.sha256(), dict(modules)
    for module in reached_from(sources, sources):
        if module not in NOT_HASHED:
            digest.update(f"{module}\n{code_of(_source(module, sources)).meaning}\n".encode())
    keep_known()
    return digest.hexdigest()


def reached_from(modules: Iterable[str], sources: Mapping[str, Source] = MappingProxyType({})) -> list[str]:
    """Return, sorted, the given modules and all modules of this package that they import directly or indirectly.

    Modules inside one of `_ROOMS` are represented by the room, and their imports are not searched.
    """
    reached = set(modules)
    waiting = list(reached)
    while waiting:
        code = code_of(_source(waiting.pop(), sources))
        names = {next((r for r in _ROOMS if name.startswith(f"{r}.")), name) for name in _imports(code)}
        waiting += [name for name in names - reached if name not in _ROOMS]
        reached |= names
    return sorted(reached)


def _imports(code: Code) -> Iterator[str]:
    """Yield the modules of this package that a file imports, also inside functions."""
    for one in code.imports:
        if one.level is None:
            yield from filter(_file, one.names)
        elif _file(one.module):
            yield from (_home(one.module, name) for name in one.names)


def _home(module: str, name: str) -> str:
    """Return the module that `name` comes from in `from module import name`, following re-exports."""
    if _file(f"{module}.{name}"):
        return f"{module}.{name}"
    for one in code_of(_source(module)).imports:
        if one.is_top and one.module.startswith(f"{module}.") and name in one.names:
            return _home(one.module, name)
    return module


def _source(module: str, others: Mapping[str, Source] = MappingProxyType({})) -> Source:
    """Return the source of a module: the one in `others` if there is one, otherwise the one in this package."""
    return others.get(module) or Source.of(_file(module) or Path())


@cache
def _file(module: str) -> Path | None:
    """Return the file of a module of this package; None for other modules."""
    top, *parts = module.split(".")
    if top != _PACKAGE.name:
        return None
    place = _PACKAGE.joinpath(*parts)
    return next((f for f in (place.with_suffix(".py"), place / "__init__.py") if f.is_file()), None)
