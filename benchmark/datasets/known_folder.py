"""The folder of a data set of the catalog: ROOT/FOLDER, or ROOT if that is the set itself, and never another set's."""

from collections.abc import Collection, Iterator
from pathlib import PurePosixPath

from benchmark.common.errors import IcmBenchError, closest, some
from benchmark.common.storage.files import FileInfo, Storage
from benchmark.datasets.catalog import CATALOG, DatasetFacts
from benchmark.datasets.columns import AUTO, FOLDER
from benchmark.datasets.readers import ImageReader, detect, is_hidden
from benchmark.datasets.spec import DatasetSpec

ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar")


def child(uri: str, name: str) -> str | None:
    """Return the URI of the folder `name` in `uri`; None if it does not exist."""
    if not Storage(uri).is_folder(name):
        return None
    address, mark, query = uri.partition("?") if "://" in uri else (uri, "", "")
    return f"{address.rstrip('/')}/{name}{mark}{query}"


def known_folder(spec: DatasetSpec, root: str) -> str:
    """Return the URI of the folder that holds a data set of the catalog; `root` is the URI of an existing folder.

    Raises:
        IcmBenchError: neither ROOT/FOLDER nor ROOT has an environment of the set (a class of an ImageNet variant, the
            authors' table of a set of WILDS).
    """
    facts, folder = CATALOG[spec.name], child(root, CATALOG[spec.name].folder)
    uri = folder or root
    if facts.single:
        uri = next((inner for part in ("val", "train") if (inner := child(uri, part))), uri)
    if _is_read_otherwise(spec, facts) or _holds(facts, Storage(uri), deep=folder is not None):
        return uri
    where = Storage(folder or root)
    place, infos = where.path("").rstrip("/"), _shown(where)
    held = some(PurePosixPath(info.name).name for info in infos) or "nothing"
    wrong = f"{place} holds none of the {facts.contents} of {facts.name}, but {held}"
    if folder is None:
        wrong = f"{facts.name} is read from {place}/{facts.folder}, and {place} has no such folder, but {held}"
    raise IcmBenchError(f"datasets: {wrong}; {_remedy(facts, root, folder, infos)}.")


def check_environments(spec: DatasetSpec, reader: ImageReader, there: Collection[str]) -> None:
    """Refuse a data set of the catalog that lacks an environment, if each environment is a folder in the catalog.

    `there` has the environments of the images that `reader` has listed.
    """
    facts = CATALOG.get(spec.name)
    if facts is None or facts.reads or facts.single or not reader.labelled or _is_read_otherwise(spec, facts):
        return
    missing = sorted(set(facts.environments) - {*there, *reader.unlabelled})
    if not missing:
        return
    place, more = reader.storage.path("").rstrip("/"), sorted(set(there) - set(facts.environments))
    theirs = next((other.name for other in CATALOG.values() if set(other.environments) == set(there)), None)
    near = closest(missing[0], more)
    is_it = f" (these are {theirs}'s)" if theirs else f" (is it '{near}'?)" if near else ""
    expected = f", expected in {place}/{missing[0]}" if reader.folders()[0] else ""
    raise IcmBenchError(
        f"datasets: {place} has no images of the {'environments' if missing[1:] else 'environment'} "
        f"{some(missing)} of {facts.name}{expected}{is_it}; add them, or read what is there under a name of your own: "
        f"{{name: my-{facts.name}, root: {place}}}."
    )


def _is_read_otherwise(spec: DatasetSpec, facts: DatasetFacts) -> bool:
    """Whether the recipe says itself how the images are listed, so that the catalog's folders do not apply."""
    other_layout = bool(facts.reads) and spec.layout not in (AUTO, facts.reads["layout"])
    return spec.table is not None or ":" in spec.layout or other_layout


def _holds(facts: DatasetFacts, storage: Storage, deep: bool) -> bool:
    """Return whether a folder may be the set, by its entries or by shards, whose environments are known later.

    Unless `deep`, shards count only in the folder itself and in `data`. Archives of whole sets, `PACS.tar`, are none.
    """
    names = {info.name for info in storage.listing()}
    if facts.is_in(names):
        return True
    if any(name.lower().startswith(f"{known.folder.lower()}.") for name in names for known in CATALOG.values()):
        return False
    places = [""] if deep else ["", *(["data"] if storage.is_folder("data") else [])]
    return not facts.reads and any(detect(storage, place, deep) not in (None, FOLDER) for place in places)


def _shown(storage: Storage) -> list[FileInfo]:
    return [info for info in storage.listing() if not is_hidden(info.name)]


def _remedy(facts: DatasetFacts, root: str, folder: str | None, infos: list[FileInfo]) -> str:
    """Return what to do about a set that `folder`, or `root` without such a folder, with the entries `infos` lacks."""
    place = Storage(folder or root).path("").rstrip("/")
    names = {info.name for info in infos}
    others = {other.folder for other in CATALOG.values()} - {facts.folder}
    if odd := next((info.odd for info in infos if info.odd and info.name == facts.folder), None):
        return f"{place}/{facts.folder} is {odd}: let it point to the images"
    if found := next(_elsewhere(facts, [folder, root] if folder else [root], others), None):
        return f"it lies in {found}: set its root to that"
    archives = [name for name in sorted(names) if name.lower().endswith(ARCHIVES)]
    if archive := closest(facts.folder, [n for n in archives if folder or n.lower().startswith(facts.folder.lower())]):
        return f"unpack {place}/{archive} there"
    if folder and (theirs := next((f.name for f in CATALOG.values() if f.environments.keys() <= names), None)):
        return f"these are the environments of {theirs}: put {facts.name} there, or set its root to another folder"
    if not folder and (near := closest(facts.folder, sorted({i.name for i in infos if i.is_folder} - others))):
        return f"is it {place}/{near}? Set its root to that if so"
    if not folder and PurePosixPath(place).name in facts.entries:
        return f"{place} is one environment of it: set its root to the folder above"
    return f"put it there ({facts.obtain}), or set its root to its folder; give images of your own another name"


def _elsewhere(facts: DatasetFacts, uris: list[str], others: Collection[str]) -> Iterator[str]:
    """Yield the folders in `uris` that hold the whole set, or the folder of the set; `others` are folders of others."""
    for uri in uris:
        storage = Storage(uri)
        for info in _shown(storage):
            if info.is_folder:
                inner = Storage(str(child(uri, info.name)))
                names = {entry.name for entry in inner.listing()}
                whole = facts.entries <= names if facts.entries else facts.is_in(names) and info.name not in others
                if whole or (facts.folder in names and inner.is_folder(facts.folder)):
                    yield storage.path(info.name)
