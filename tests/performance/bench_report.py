"""What a report of very many rows takes: seconds and peak memory, tables, figures and page included.

    python -m tests.performance.bench_report [--sets 127] [--lambdas 25] [--seeds 1000] [--backbones 10]

INVENTED answers: no model was run. Three stores, at eight ranks; in two of them 400 images of each of four held-out
environments are tested under each seed. `sets`: CLIP-ICM in two orders under four seeds, with every number of lambdas and
intervention sets, beside plain prediction and PCA: 100,000 rows in 1,000 files by default. `seeds`: ten methods under very
many seeds, each with a row file of its own: 10,000 files and 40,000 rows by default. `settings`: ten methods, with what
images are taken for, on ten backbones by default and five data sets of 1,000 images in five environments, each with
five folds. Each report is written in a process of its own, and then asked for once more with nothing changed.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.metrics import CURVES, Answers
from benchmark.method.evaluation.selection import packed
from benchmark.method.evaluation.tested import Tested
from benchmark.method.predictors import PREDICTORS
from benchmark.method.subspace import PROJECTIONS
from benchmark.store.rows import read_rows, schema, write_rows
from benchmark.store.tested import read_tested, write_tested
from reports.build import write_report
from reports.text.sentences import Origin
from tests.conftest import REPOSITORY
from tests.performance.figures import arguments, keep
from tests.reports.synthetic import presentation_of

ENVIRONMENTS = ("art", "cartoon", "photo", "sketch")
RANKS, CLASSES, POOL, TESTED = (4, 8, 16, 32, 64, 128, 256, 512), 7, 2000, 400
DATA_SETS, FOLDS, IN_FOLD = 5, 5, 40  # of the store of many settings, which has an environment more
PROJECTIONS_OF_TEN = (("identity", None), ("pca", None), ("random", None), ("icm", "released"), ("icm", "largest"))
UNCHANGED = "the same once more, with nothing changed"
Row = dict[str, Any]


class Unsynced(Storage):
    """A folder whose files are written without waiting for the disk."""

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write file `name`."""
        file = Path(self.path(name))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def common() -> Row:
    """Return what all rows share."""
    same = {
        "dataset": "invented", "dataset_fingerprint": "data", "grouped": False, "backbone": "ViT-B-32",
        "backbone_fingerprint": "weights", "random_weights": False, "precision": "fp32",
        "prompts": json.dumps(["a photo of a {}."]), "projection_params": "{}", "normalize": "none",
        "predictor_params": "{}", "protocol": "held_out", "test_split": "out_20", "class_half": "all", "folds": 0,
        "fold": -1, "view_draw": 0, "dim": RANKS[-1], "classes": [f"class {i}" for i in range(CLASSES)],
        "n_classes": CLASSES, "n_base": 4, "n_sources": 3, "n_train": 4800, "n_test": TESTED, "n_shared": 0, "clusters": None,
        "labels_fit": 0, "labels_choice": 1200, "notes": [], "recipe_hash": "recipe", "code_version": "0",
    }  # fmt: skip
    return {**dict.fromkeys(schema().names), **same}


@dataclass(eq=False)
class Invented:
    """A store that is filled with rows of invented answers.

    Attributes:
        storage: where they lie.
        environments: that are held out.
        folds: of each environment; 0 for a draw under each seed.
        names: of the trials, each of which has a file.
    """

    storage: Storage
    environments: tuple[str, ...] = ENVIRONMENTS
    folds: int = 0
    names: list[str] = field(default_factory=list)
    _rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    @cache  # noqa: B019, one store for each process
    def images(self, environment: str, seed: int, fold: int) -> Tested:
        """Return the images that are tested of an environment under a seed, or in a fold of it, and write them."""
        number = self.environments.index(environment)
        rng = np.random.default_rng([number, seed])
        own = np.sort(rng.permutation(POOL)[:TESTED]) if fold < 0 else np.arange(fold * IN_FOLD, (fold + 1) * IN_FOLD)
        tested = Tested(number * POOL + own, np.zeros(len(own), np.int64), own % CLASSES, (environment,))
        write_tested(self.storage, tested)
        return tested

    def answers(self, tested: Tested) -> NDArray[np.bool_]:
        """Return answers at every rank: those that the image has under all methods and seeds, but for a tenth of them."""
        own = (tested.position * 7919 % 1000 < 700)[None, :]
        return own ^ (self._rng.random((len(RANKS), len(own[0]))) < 0.1)

    def rows(self, seed: int, **columns: Any) -> list[Row]:
        """Return a row for each environment, or for each of its folds."""
        rows = []
        for environment, fold in product(self.environments, range(self.folds) if self.folds else [-1]):
            tested = self.images(environment, seed, fold)
            correct = self.answers(tested)
            answers = Answers(correct, tested.label, CLASSES)
            values: Row = {m.key: np.asarray(m.compute(answers)).tolist() for m in CURVES}
            ranks = RANKS if columns["projection"] != "identity" else RANKS[-1:]
            values |= {rule: self._rng.integers(700, size=len(RANKS)) / 700 for rule in ("training_domain", "lodo")}
            values = {name: list(curve)[-len(ranks) :] for name, curve in values.items()}
            if len(ranks) > 1:
                values["spectrum"] = np.sort(self._rng.random(RANKS[-1]))[::-1].tolist()
            values |= {"correct": packed(correct[-len(ranks) :]), "ranks": list(ranks), "tested": tested.hash}
            values |= {"n_test": len(tested), "fold": fold, "folds": self.folds}
            if self.folds:
                values |= {"test_split": "out_fold", **taken_for(tested, correct[-len(ranks) :], values)}
            said = presentation_of(PROJECTIONS, columns["projection"]).columns("projection")
            said |= presentation_of(PREDICTORS, columns["predictor"]).columns("predictor")
            rows.append({**common(), **said, **values, "held_out": environment, "seed": seed, **columns})
        return rows

    def write(self, name: str, rows: Sequence[Row]) -> None:
        """Write the rows of a trial."""
        write_rows(self.storage, name, [*rows])
        self.names.append(name)


def taken_for(tested: Tested, correct: NDArray[np.bool_], values: Row) -> Row:
    """Return what images are taken for at the ranks that rules of the sources pick."""
    at = sorted({int(np.argmax(values[rule])) for rule in ("training_domain", "lodo")})
    classes = np.where(correct[at], tested.label, (tested.label + 1) % CLASSES)
    ranks, margins = [values["ranks"][place] for place in at], np.ones(classes.shape, "<f4")
    return {"predicted_ranks": ranks, "predicted": classes.astype("<u2").tobytes(), "margins": margins.tobytes()}


def interventions(kinds: Iterable[int]) -> str:
    """Return what rows say of interventions: kinds by their numbers."""
    return json.dumps({"kinds": [{"name": f"kind {i}"} for i in kinds], "seed": 0, "pairing": "same"})


def of_sets(store: Invented, sets: int, lambdas: int) -> Invented:
    """Write the rows of CLIP-ICM with very many intervention sets and lambdas, of plain prediction and of PCA."""
    for seed in range(4):
        for projection in ("identity", "pca"):
            store.write(f"{projection}-{seed}", store.rows(seed, projection=projection, predictor="zero_shot"))
        for number, order in product(range(sets), ("largest", "released")):
            about: Row = {
                "projection": "icm",
                "order": order,
                "predictor": "zero_shot",
                "intervention_set": f"set {number}",
            }
            about["interventions"] = interventions([i for i in range(7) if number + 1 >> i & 1])
            grid = np.geomspace(0.01, 100, lambdas).tolist()
            store.write(
                f"icm-{number}-{order}-{seed}", [row for x in grid for row in store.rows(seed, lambda_=x, **about)]
            )
    return store


def of_seeds(store: Invented, seeds: int) -> Invented:
    """Write the rows of ten methods under very many seeds."""
    for seed in range(seeds):
        of_ten(store, seed, str(seed))
    return store


def of_settings(store: Invented, backbones: int) -> Invented:
    """Write the rows of ten methods of very many data sets and backbones."""
    for data, backbone in product(range(DATA_SETS), range(backbones)):
        about = {"dataset": f"data {data}", "dataset_fingerprint": f"data {data}"}
        about |= {"backbone": f"backbone {backbone}", "backbone_fingerprint": f"weights {backbone}"}
        of_ten(store, 0, f"{data}-{backbone}", **about)
    return store


def of_ten(store: Invented, seed: int, name: str, **columns: Any) -> None:
    """Write the rows of ten methods, a trial for each."""
    for (projection, order), predictor in product(PROJECTIONS_OF_TEN, ("zero_shot", "linear_probe")):
        about: Row = {"projection": projection, "order": order, "predictor": predictor}
        if projection == "icm":
            about |= {"lambda_": 1.0, "intervention_set": "all", "interventions": interventions(range(7))}
        store.write(f"{projection}-{order}-{predictor}-{name}", store.rows(seed, **about, **columns))


def measured(folder: str, names: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Yield what is done with a store, and its seconds."""
    storage, began = Storage(folder), time.perf_counter()

    def seconds() -> float:
        nonlocal began
        began, before = time.perf_counter(), began
        return began - before

    rows = read_rows(storage, list(names))
    yield "reading rows", seconds()
    tested = read_tested(storage, rows["tested"])
    yield "reading tested images", seconds()
    with tempfile.TemporaryDirectory() as out:
        write_report(rows, tested, Storage(out), "", Origin("INVENTED ANSWERS"))
        page = (Path(out) / "index.html").stat().st_size
        yield f"writing the report, its page of {page / 1e6:.2f} MB", seconds()
        write_report(rows, tested, Storage(out), "", Origin("INVENTED ANSWERS"))
        yield UNCHANGED, seconds()


def main() -> None:
    """Fill both stores, measure each in a process of its own and print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--sets", type=int, default=127, help="intervention sets")
    parser.add_argument("--lambdas", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=1000, help="of the store of ten methods")
    parser.add_argument("--backbones", type=int, default=10, help="of the store of many settings")
    parser.add_argument("--stores", nargs="+", default=["sets", "seeds", "settings"], help="which are measured")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the stores there, and take what is there")
    parser.add_argument("--measure", metavar="STORE", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        names = json.loads((Path(args.measure) / "names.json").read_text())
        took = dict(measured(args.measure, names))
        took["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps(took))
        return
    figures: dict[str, float] = {}
    fill: dict[str, Callable[[Unsynced], Invented]] = {
        "sets": lambda place: of_sets(Invented(place), args.sets, args.lambdas),
        "seeds": lambda place: of_seeds(Invented(place), args.seeds),
        "settings": lambda place: of_settings(Invented(place, (*ENVIRONMENTS, "clipart"), FOLDS), args.backbones),
    }
    print("INVENTED ANSWERS: time and memory only")
    with tempfile.TemporaryDirectory() as place:
        for name in args.stores:
            folder = (args.keep or Path(place)) / name
            if not (folder / "names.json").exists():
                store = fill[name](Unsynced(str(folder)))
                read_rows(store.storage, store.names)  # which makes the index, as the first report does
                (folder / "names.json").write_text(json.dumps(store.names))
            command = [sys.executable, "-m", "tests.performance.bench_report", "--measure", str(folder)]
            said = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True).stdout
            took = json.loads(said)
            peak, again = took.pop("peak_gib"), took.pop(UNCHANGED)
            print(f"{name}: {sum(took.values()):.1f} s, peak memory {peak:.2f} GiB")
            print("\n".join(f"  {what}: {seconds:.2f} s" for what, seconds in (took | {UNCHANGED: again}).items()))
            figures |= {f"{name}_s": sum(took.values()), f"{name}_peak_gib": peak}
    keep(args.json, figures)


if __name__ == "__main__":
    main()
