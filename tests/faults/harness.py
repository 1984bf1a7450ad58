"""A small real run under faults: whatever goes wrong, a rerun ends it, and nothing is lost, doubled or changed.

Real images files, the pipeline, the sweep and the report; the encoder has random weights (`encoder.py`).
"""

import hashlib
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmark.common.storage.files import Storage
from benchmark.store import upkeep
from benchmark.store.upkeep import foreign
from tests.conftest import make_toy
from tests.faults.command import LEFT
from tests.faults.inject import HEAD, PLAN
from tests.faults.plan import Plan, plan_of
from tests.forks import Forked, forks
from tests.nodes import Nodes, nodes

RERUNS = 2  # of a command that ended with an error, without faults: the first is to do
COMMAND_SECONDS = 480
MORE = 8  # files and threads that a disturbed command may have open beyond an undisturbed one on the same place
_RECIPE = {
    "name": "faults",
    "backbones": [{"name": "tests.faults.encoder:Blocks", "pretrained": "random", "engine": "torch"}],
    "interventions": {"kinds": ["grayscale"]},
    "sweep": {
        "seeds": [0, 1], "projections": ["identity", "icm"], "lambdas": [1], "ranks": [4, 16],
        "predictors": ["zero_shot"],
    },
    "run": {"max_bad_images": 0.1, "chunk_timeout": 30, "storage_timeout": 10},
}  # fmt: skip


class BrokenPromiseError(AssertionError):
    """A store is not what an undisturbed run leaves."""


@dataclass(frozen=True)
class Contents:
    """What a store holds that no disturbance may change.

    Attributes:
        files: name -> digest of its bytes, or of its rows where these say when they were made.
    """

    files: dict[str, str]

    @classmethod
    def of(cls, storage: Storage) -> "Contents":
        """Read a store."""
        kinds = {
            "embeddings": (".parquet", ".json"), "sums": (".safetensors",), "texts": (".parquet",),
            "rows": (".parquet",), "tested": (".parquet",), "images": (".parquet",),
        }  # fmt: skip
        names = [name for root, ends in kinds.items() for end in ends for name in storage.files(root, end)]
        found = {name: cls._digest(storage, name) for name in names if not name.endswith("speed.json")}
        return cls(found)

    @staticmethod
    def _digest(storage: Storage, name: str) -> str:
        content = storage.read_bytes(name)
        if name.startswith("rows/"):  # NaN equals NaN in text
            return str(pq.read_table(pa.BufferReader(content)).to_pylist())
        return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Outcome:
    """What came of a seed.

    Attributes:
        plan: what was to go wrong.
        met: faults that were met, in words.
        exits: exit codes of the disturbed commands, then of the reruns.
        lost: number of nodes that were lost.
        left: the most files and threads that one of them had open at its end, as it said.
        seconds: that it took.
    """

    plan: Plan
    met: list[str]
    exits: list[int]
    lost: int
    left: dict[str, int]
    seconds: float

    def __str__(self) -> str:
        left = ", ".join(f"{count} {what}" for what, count in {"nodes lost": self.lost, **self.left}.items() if count)
        return f"{self.plan} -> {len(self.met)} met, exit codes {self.exits}, {left}, {self.seconds:.0f} s"


class Harness:
    """One cluster and an undisturbed run on each place, for any number of seeds. See `harness`.

    Args:
        folder: for images, stores and logs.
        cluster: on which commands run.
        forks: address of the process that forks, see `tests.forks`.
        bucket: URI and environment of an object store; seeds that want one are run on a folder without.
    """

    def __init__(self, folder: Path, cluster: Nodes, forks: str, bucket: tuple[str, dict[str, str]] | None) -> None:
        self._folder, self._cluster, self._forks, self._bucket, self._commands = folder, cluster, forks, bucket, 0
        self._started: list[Forked] = []
        images = make_toy(folder / "toy", environments=2, classes=2, images=40)
        (images / "env1" / "dog" / "bad.png").write_bytes(b"no image")
        recipe = {**_RECIPE, "datasets": [{"name": "toy", "root": str(images)}]}
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        self._left = {"folder": self._undisturbed(str(folder / "undisturbed"), {})}
        undisturbed = Storage(str(folder / "undisturbed"))
        self._expected = Contents.of(undisturbed)
        roots = Counter(name.split("/")[0] for name, _, _ in undisturbed.details(""))
        self._files = {root: count for root, count in roots.items() if root != "reports"}
        if bucket:
            uri, variables = bucket
            self._left["s3"] = self._undisturbed(f"{uri}/undisturbed", variables)
            with _environment(variables):
                self._check(Storage(f"{uri}/undisturbed"))

    def _undisturbed(self, store: str, variables: dict[str, str]) -> dict[str, int]:
        """Run the recipe, and return what its command had open at its end."""
        exit_code, said = self._command(store, variables)
        if exit_code:
            raise BrokenPromiseError(f"The undisturbed run ended with {exit_code}: {said}")
        return self._take_left()

    def plan(self, seed: int) -> Plan:
        """Return what goes wrong with a seed."""
        return plan_of(seed, self._files)

    def run(self, plan: Plan) -> Outcome:
        """Run a plan: disturbed, then to the end.

        Raises:
            BrokenPromiseError: the store is not that of the undisturbed run; names plan and difference.
        """
        try:
            return self._run(plan)
        except BrokenPromiseError as error:
            raise BrokenPromiseError(f"{plan}: {error}") from None
        finally:  # whatever one seed leaves, the next begins with all nodes
            for process in self._started:
                process.kill()
            self._started.clear()
            self._cluster.replace_lost()

    def _run(self, plan: Plan) -> Outcome:
        began, file = time.monotonic(), self._folder / f"plan{plan.seed}.json"
        plan.write(file)
        self._take_left()  # what a seed that broke has said
        where = plan.where if plan.where in self._left else "folder"
        uri, variables = self._bucket if where == "s3" and self._bucket else (str(self._folder), {})
        store = f"{uri}/seed{plan.seed}"
        faults = {PLAN: str(file), HEAD: str(self._cluster.pid(0, "raylet"))}
        disturbed = [self._start(store, variables | faults) for _ in range(plan.writers)]
        ended = [self._ended(process) for process in disturbed]
        lost = 0
        exits = [exit_code for exit_code, _ in ended]
        for exit_code, said in ended:
            self._check_words(exit_code, said)
        for _ in range(RERUNS):
            lost += self._cluster.replace_lost()  # by workers that outlived their driver for a moment
            exit_code, said = self._command(store, variables)
            exits.append(exit_code)
            if not exit_code:
                break
        else:
            raise BrokenPromiseError(f"a rerun without faults ends with {exit_code}: {said}")
        with _environment(variables):
            self._check(Storage(store))
        left = self._take_left()
        undisturbed = self._left[where]
        if grown := [what for what, count in left.items() if count > undisturbed[what] + MORE]:
            raise BrokenPromiseError(f"more {grown} are open at the end: {left}, undisturbed {undisturbed}")
        met = [str(f) for i, f in enumerate(plan.faults) if _size(Path(f"{file}.{i}")) >= f.nth]
        return Outcome(plan, met, exits, lost, left, time.monotonic() - began)

    def _check_words(self, exit_code: int, said: str) -> None:
        """See that a command that could end by itself did so with a sentence."""
        killed = exit_code < 0
        if exit_code not in (0, 2, 143) and not killed:
            raise BrokenPromiseError(f"it ended with {exit_code}: {said}")
        if "Traceback" in said:
            raise BrokenPromiseError(f"it ended with a traceback: {said}")

    def _check(self, storage: Storage) -> None:
        found, expected = Contents.of(storage).files, self._expected.files
        if found.keys() != expected.keys():
            raise BrokenPromiseError(f"files that only one has: {sorted(found.keys() ^ expected.keys())}")
        if changed := [name for name in found if found[name] != expected[name]]:
            raise BrokenPromiseError(f"files that differ: {changed}")
        if problems := [problem for directory in upkeep.verify(storage) for problem in directory.problems]:
            raise BrokenPromiseError(str(problems))
        if left := foreign(storage):
            raise BrokenPromiseError(f"nobody's files: {left}")

    def _start(self, store: str, variables: dict[str, str]) -> Forked:
        self._commands += 1
        recipe, out = str(self._folder / "recipe.yaml"), str(self._folder / "report")
        left, said = (self._folder / f"{name}{self._commands}" for name in ("left", "said"))
        environment = {**self._cluster.environment, **variables, LEFT: str(left)}
        arguments = ["run", recipe, "--store", store, "--out", out]
        process = Forked(self._forks, "tests.faults.command", arguments, environment, said)
        self._started.append(process)
        return process

    def _take_left(self) -> dict[str, int]:
        """Return the most that a command since the last time had open at its end."""
        files = sorted(self._folder.glob("left*"))
        counts = [json.loads(file.read_text()) for file in files]
        for file in files:
            file.unlink()
        return {what: max(count[what] for count in counts) for what in (counts[0] if counts else ())}

    def _ended(self, process: Forked) -> tuple[int, str]:
        try:
            return process.wait(timeout=COMMAND_SECONDS)
        except TimeoutError:
            process.kill()
            _, said = process.wait(timeout=60)
            raise BrokenPromiseError(f"A command did not end within {COMMAND_SECONDS} s: {said}") from None

    def _command(self, store: str, variables: dict[str, str]) -> tuple[int, str]:
        return self._ended(self._start(store, variables))


@contextmanager
def harness(bucket: tuple[str, dict[str, str]] | None = None) -> Iterator[Harness]:
    """Start a cluster of a head for the driver and two nodes for workers, and do the undisturbed run.

    Args:
        bucket: URI and environment of an object store. Default: none.
    """
    with (
        tempfile.TemporaryDirectory(prefix="icm-bench-faults-") as name,
        forks(Path(name)) as address,
        nodes(Path(name), 3, head_cores=0, forks=address) as cluster,
    ):
        yield Harness(Path(name), cluster, address, bucket)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
