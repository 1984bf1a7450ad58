"""`icm-bench reproduce`: runs the recipe of published records again, and compares the results with the records."""

import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmark.backbones.models import model_class
from benchmark.commands.embed import embed_stage
from benchmark.commands.preparing.prepare import notify_on_stderr, prepared
from benchmark.commands.results.labels import label_of
from benchmark.commands.results.publish import records_of
from benchmark.commands.stores import first_backbone_loading
from benchmark.commands.sweep import sweep_stage
from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import canonical_hash
from benchmark.common.storage.files import Storage
from benchmark.common.storage.places import cache_dir
from benchmark.datasets.readers import READERS
from benchmark.recipe.published import recipe_from
from benchmark.recipe.recipe import Recipe
from benchmark.results.checking import problems_of
from benchmark.results.comparing import DIFFERS, EQUAL, Compared, compared, same_result
from benchmark.results.records import PATH, Published, Publisher, read_results


@dataclass
class Reproduced:
    """The outcome of a reproduction.

    Attributes:
        records: the records, each compared with the result of the run.
        embedded: number of (image, view) pairs embedded by the runs.
        reused: number of such pairs found in the store.
        store: URIs of the stores of the runs that are kept.
        notes: notes, one sentence each.
    """

    records: list[Compared] = field(default_factory=list)
    embedded: int = 0
    reused: int = 0
    store: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Return the outcome as plain data for JSON."""
        return {**asdict(self), "reproduced": self.failure is None}

    def text(self) -> str:
        """Return the outcome as text: one line for each record, and a summary."""
        each = sorted(self.records, key=lambda one: one.status)
        counts = ", ".join(f"{number} {status}" for status, number in Counter(one.status for one in each).items())
        summary = f"{len(each)} records: {counts}; {self.embedded} views embedded, {self.reused} reused."
        kept = [f"The store of the run is kept: {store}" for store in self.store]
        return "\n".join([*(one.text() for one in each), *self.notes, summary, *kept])

    @property
    def failure(self) -> str | None:
        """Return a sentence if a record was not reproduced, else None."""
        wrong = [one.record for one in self.records if one.status == DIFFERS]
        count = f"{len(wrong)} of {len(self.records)} records were not reproduced"
        return f"{count}, the first: {wrong[0]}." if wrong else None


def reproduce(places: Sequence[Path], overrides: Mapping[str, Any]) -> Reproduced:
    """Run the recipes of published records, each recipe once, and compare every record with its result.

    If weights, versions and processor are those of the record, both must be equal but for times and names, see
    `benchmark.results.comparing.canonical`; otherwise scores may differ by a tolerance.

    Args:
        places: records (JSON files in a results folder), or whole results folders.
        overrides: dotted key -> value that replaces a key of the recipe, such as the place of weights. `run.data` is
            the parent folder or URI of the data sets that are images in folders. `run.store` is a folder or URI for
            embeddings and rows; finished work in it is not repeated. Default: a folder in the cache, which a later call
            continues after an interruption, and which is removed if all records are equal.

    Raises:
        IcmBenchError: a record cannot be read or has errors, or its recipe needs something that is missing, such as
            a folder of data, a class from outside the package without `--plugins`, imported embeddings or predictions.
    """
    groups = defaultdict[str, list[Published]](list)
    for one in _read(places):
        groups[canonical_hash([one.details.recipe, one.details.shortened])[:32]].append(one)
    own = {key: cache_dir() / "reproduce" / key for key in groups}
    recipes = {key: _recipe_of(of, {"run.store": str(own[key]), **overrides}) for key, of in groups.items()}
    done = Reproduced()
    for key, recipe in recipes.items():
        if (stated := groups[key][0].details.recipe_hash) not in {one.hash() for one in recipe.resolutions()}:
            why = "the hash counts the values given with --set, and depends on the version of icm-bench"
            done.notes.append(f"note: the recipe's hash is {recipe.hash()[:12]} and was {stated[:12]}; {why}.")
        with first_backbone_loading(recipe), prepared(recipe, notify_on_stderr) as run:
            reports = embed_stage(run, time.time())
            sweep_stage(run)
        ids = dict.fromkeys((subject.facts.label for subject in run.subjects), "reproduced/encoder")
        again = records_of(run.recipe, run.storage, Publisher("reproduced", "other", ids, 0), run.subjects)
        results = {same_result(one.details): one for one in again}
        new = [compared(one, results.get(same_result(one.details))) for one in groups[key]]
        done.records += new
        done.embedded += sum(one.embedded for one in reports)
        done.reused += sum(one.reused for one in reports)
        if "run.store" not in overrides and all(one.status == EQUAL for one in new):
            shutil.rmtree(own[key], ignore_errors=True)
        elif (store := str(recipe.run.store)) not in done.store:
            done.store.append(store)
    return done


def _read(places: Sequence[Path]) -> list[Published]:
    """Return the records at some places; refuse those that cannot be read or do not pass the checks."""
    found: dict[str, Published] = {}
    for place in places:
        root, name = place.absolute(), ""
        if not root.is_dir():
            name, root = "/".join(root.parts[-5:]), Path(*root.parts[:-5])
            if not (place.is_file() and PATH.fullmatch(name)):
                shape = "RESULTS/data/COLLECTION/DEVELOPER/MODEL/UUID.json"
                raise IcmBenchError(f"{place} is no record; give a file {shape}, or the folder RESULTS.")
        records, problems = read_results(Storage(str(root)))
        problems += problems_of(records, label_of, unread=True)  # other records of the publication need not be there
        for problem in problems:
            if name.removesuffix(".json") in problem:
                raise IcmBenchError(f"{problem[:-1]} (in {root}; `icm-bench results check` lists all problems).")
        found |= {f"{root}/{one.path}": one for one in records if name in ("", one.path)}
    if not found:
        raise IcmBenchError(f"{places[0]} holds no record; `icm-bench publish` writes them into its folder data.")
    return list(found.values())


def _recipe_of(records: Sequence[Published], overrides: Mapping[str, Any]) -> Recipe:
    """Return the recipe of some records; refuse it if it needs something that is not there."""
    for one in records:
        if one.details.projection == "imported":
            method = one.details.method
            raise IcmBenchError(f"{one.path}: the predictions of '{method}' were imported, and no recipe makes them.")
    first = records[0]
    recipe = recipe_from(first.details.recipe, first.details.shortened, first.path, overrides)
    for backbone in recipe.backbones:
        model_class(backbone)  # refuses classes from outside the package without --plugins, as `recipe_from` does
    for dataset in recipe.datasets:
        if ":" in dataset.layout:
            READERS.component_class(dataset.layout)
    return recipe
