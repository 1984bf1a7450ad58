"""The files uploaded to a cluster: a recipe and the files that it names, and no others.

On the cluster as here, relative paths in a recipe start at the working directory, so the files that it names keep their
places in that directory. The recipe itself goes to the top of it: if it kept a folder `jobs`, that folder would hide
the package `jobs`. The user's modules go where Python finds them. A new recipe key for a file goes into `_named_files`;
one for a place of data or results into `_check_places` and `_unpacked_places`.
"""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from benchmark.backbones.models import model_class
from benchmark.common.code import is_installed, own_modules
from benchmark.common.errors import IcmBenchError
from benchmark.common.registry import Component
from benchmark.common.secrets import has_secret, hidden_in, public
from benchmark.datasets.readers import READERS
from benchmark.recipe.recipe import Recipe

PACKAGES = ("benchmark", "jobs", "reports")  # packages of this project, which uploaded files must not hide
MAX_BYTES = 100 * 2**20  # limit of Ray's dashboard for a request


@dataclass(frozen=True)
class Package:
    """The files that are uploaded for a job."""

    recipe: str  # place of the recipe in the package
    files: dict[str, Path]  # place in the package, with `/` -> local file; sorted
    elsewhere: tuple[str, ...]  # folders, files and URIs in the recipe that are not uploaded; all nodes need access

    @property
    def sizes(self) -> dict[str, int]:
        """Size of each file in bytes; the keys are places in the package."""
        return {place: file.stat().st_size for place, file in self.files.items()}

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 (hex) of each file; the keys are places in the package."""
        return {place: hashlib.sha256(file.read_bytes()).hexdigest() for place, file in self.files.items()}

    def copy_to(self, folder: Path) -> None:
        """Copy all files to their places in a folder."""
        for place, file in self.files.items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / place)


def packed(recipe: Recipe, file: Path, options: Sequence[str] = ()) -> Package:
    """Return the package of a recipe.

    Args:
        recipe: the recipe, with the overrides of the command line.
        file: YAML file of the recipe.
        options: options of the command line that the job gets too.

    Raises:
        IcmBenchError: a path would not exist on the cluster, a value holds a password, or the package is too large.
    """
    content = recipe.model_dump(mode="json")  # checked for secrets, since Ray stores a job's files
    texts = [*options, file.read_text(encoding="utf-8", errors="replace")]
    if any(map(has_secret, texts)) or hidden_in(content) != content:
        raise IcmBenchError(
            f"{file} or an option has a password or a key, which Ray would store: give the nodes their "
            f"credentials by a role or a file on each node."
        )
    _check_places(recipe)
    named, elsewhere = list[tuple[str, Path]](), list(_unpacked_places(recipe))
    for key, path in _named_files(recipe):
        if _is_absolute(path):
            elsewhere.append(path)
        else:
            named += _below(key, path)
    files = {file.name: file}
    for place, source in (*named, *_modules(recipe)):
        if place in files and files[place].resolve() != source.resolve():
            raise IcmBenchError(f"{files[place]} and {source} would both lie at '{place}'; rename one of them.")
        files[place] = source
    package = Package(file.name, dict(sorted(files.items())), tuple(dict.fromkeys(map(public, elsewhere))))
    sizes = package.sizes
    if (total := sum(sizes.values())) > MAX_BYTES:
        largest = max(sizes, key=sizes.__getitem__)
        raise IcmBenchError(
            f"The recipe names {total / 2**20:,.0f} MiB of files, but Ray accepts {MAX_BYTES // 2**20}; put {largest} "
            f"on storage that all nodes share, and give its absolute path."
        )
    return package


def _check_places(recipe: Recipe) -> None:
    """Refuse outputs and data inside the job's folder, which is deleted after the job."""
    outputs = {f"run.{key}": getattr(recipe.run, key) for key in ("store", "out", "data")}
    outputs["run.logs"] = recipe.run.logs if recipe.run.loggers else None
    roots = {f"datasets.{i}.root": dataset.root for i, dataset in enumerate(recipe.datasets)}
    for key, place in {**outputs, **roots}.items():
        if place and not _is_absolute(place):
            raise IcmBenchError(
                f"{key}: '{place}' would lie in the job's own folder, which is deleted after it; give an absolute path "
                f"that all nodes have, or s3://..."
            )


def _unpacked_places(recipe: Recipe) -> Iterator[str]:
    """Yield the places of data and results in a recipe, without tables inside the root of a data set."""
    for dataset in recipe.located():
        tables = [dataset.table, *(lookup.table for lookup in (dataset.lookup or {}).values())]
        yield from filter(None, [dataset.root, *(table for table in tables if table and _is_absolute(table))])
    yield from filter(None, (recipe.run.store, recipe.run.out))


def _is_absolute(path: str) -> bool:
    """Return whether a path is independent of the working directory."""
    return "://" in path or Path(path).expanduser().is_absolute()


def _named_files(recipe: Recipe) -> list[tuple[str, str]]:
    """Return (recipe key, path) of each file or folder that a recipe names, except data."""
    texts = recipe.interventions.text
    named = [("interventions.text.pairs", texts.pairs)] if texts and texts.pairs else []
    for i, backbone in enumerate(recipe.backbones):
        if backbone.local_folder:
            named.append((f"backbones.{i}", backbone.local_folder))
        elif backbone.pretrained and Path(backbone.pretrained).expanduser().is_file():
            named.append((f"backbones.{i}.pretrained", backbone.pretrained))
    for own in _own_components(recipe):  # built-in components read no files
        named += [(own.name, t) for t in _texts(own.params) if t and Path(t).expanduser().is_file()]
    return named


def _below(key: str, path: str) -> Iterator[tuple[str, Path]]:
    """Yield (place in the package, local file) for the file at a relative path, or for all files in a folder."""
    source, folder = Path(path), Path.cwd()
    place = PurePosixPath(source.as_posix())
    if ".." in place.parts:
        raise IcmBenchError(f"{key}: '{path}' lies outside {folder}; submit from a folder that holds it.")
    if any(part.startswith(".") for part in place.parts):
        raise IcmBenchError(f"{key}: '{path}' is hidden, and hidden files are not uploaded; rename it.")
    if place.parts and place.parts[0] in PACKAGES:
        raise IcmBenchError(f"{key}: a folder '{place.parts[0]}' would hide the package of that name; move '{path}'.")
    if source.is_dir():
        if not place.parts:
            raise IcmBenchError(f"{key}: '{path}' is the working directory; put the files into a folder inside it.")
        inside = ((file.relative_to(source), file) for file in sorted(source.rglob("*")) if file.is_file())
        yield from ((str(place / n.as_posix()), f) for n, f in inside if not any(p[0] == "." for p in n.parts))
    elif source.is_file():
        yield str(place), source
    else:
        raise IcmBenchError(f"{key}: there is no file '{path}' in {folder}.")


def _modules(recipe: Recipe) -> Iterator[tuple[str, Path]]:
    """Yield (place in the package, local file) for the user's modules that a recipe's classes depend on."""
    classes: list[type] = [type(component) for component in _own_components(recipe)]
    classes += [READERS.component_class(dataset.layout) for dataset in recipe.datasets if ":" in dataset.layout]
    classes += [model_class(backbone) for backbone in recipe.backbones if not backbone.family]
    for cls in classes:
        for name, source in own_modules(cls).items():
            if is_installed(source.file):
                continue
            parts = name.split(".")
            if parts[0] in PACKAGES:
                raise IcmBenchError(f"The module {name} would hide a package of icm-bench; give it another name.")
            ending = "/__init__.py" if source.file.name == "__init__.py" else ".py"
            yield "/".join(parts) + ending, source.file


def _own_components(recipe: Recipe) -> list[Component]:
    """Return the user's components, which the recipe names by `module:Class`."""
    sweep = recipe.sweep
    of_sweep = (*sweep.protocols, *sweep.all_projections(), *sweep.predictors)
    return [one for one in (*recipe.interventions.kinds, *recipe.metrics, *of_sweep) if ":" in one.name]


def _texts(content: Any) -> Iterator[str]:
    """Yield every string inside plain data."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from _texts(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _texts(value)
