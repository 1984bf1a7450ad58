"""What goes wrong in a run, drawn by a seed: the same seed draws the same faults."""

import json
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

# Where a writer of a file can be stopped: before it begins, with half of the file in its temporary file, with all of
# it, and once the file has its name. In an object store there is nothing between the first and the last.
POINTS = ("begin", "torn", "written", "named")
POINTS_OF_OBJECTS = ("begin", "named")
# What happens there: the process dies (SIGKILL); the command gets SIGTERM; the call ends with EIO, or with ENOSPC; it
# takes some seconds; the node dies, or is silent from then on though its workers go on (the process dies where its node
# is the head's).
ACTS = ("kill", "kill", "kill", "term", "error", "full", "hang", "node", "silence")
OF_READING = ("kill", "error", "hang", "node")
LOSE_NODES = ("node", "silence")
OF_WORKERS = ("embeddings", "sums", "rows", "tested", "texts")  # folders whose files workers write


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        folder: of the store, in whose files it is.
        point: see `POINTS`; `read` where a file is read.
        nth: the how manieth such call of all processes of the run it is, from 1.
        act: see `ACTS`.
    """

    folder: str
    point: str
    nth: int
    act: str

    def __str__(self) -> str:
        return f"{self.act} at {self.point} of file {self.nth} in {self.folder}"


@dataclass(frozen=True)
class Plan:
    """All that goes wrong with one seed.

    Attributes:
        seed: the seed.
        where: `folder` or `s3`.
        faults: in no order: each happens once, where it is met.
        writers: number of commands that fill the store at the same time.
    """

    seed: int
    where: str
    faults: tuple[Fault, ...]
    writers: int

    def __str__(self) -> str:
        side_by_side = ", two writers" if self.writers > 1 else ""
        return f"seed {self.seed} ({self.where}{side_by_side}): {'; '.join(map(str, self.faults))}"

    def write(self, file: Path) -> None:
        """Write the faults for the processes of a run."""
        file.write_text(json.dumps([asdict(fault) for fault in self.faults]))


def plan_of(seed: int, files: Mapping[str, int]) -> Plan:
    """Return what goes wrong with a seed.

    Args:
        seed: the seed.
        files: folder of the store -> number of files that an undisturbed run writes there.
    """
    draws = random.Random(seed)
    where = "s3" if seed % 4 == 3 else "folder"
    points = POINTS_OF_OBJECTS if where == "s3" else POINTS
    faults: list[Fault] = []
    for _ in range(draws.choice((1, 1, 2, 3))):
        folder = draws.choice(sorted(files))
        point = draws.choice((*points, "read"))
        act = draws.choice(ACTS if point != "read" else OF_READING)
        if act in LOSE_NODES and any(fault.act in LOSE_NODES for fault in faults):
            act = "kill"  # a node is left to go on with
        if act in LOSE_NODES and folder not in OF_WORKERS:  # the node of the driver is the head's
            folder = OF_WORKERS[seed % len(OF_WORKERS)]
        faults.append(Fault(folder, point, draws.randint(1, files[folder]), act))
    return Plan(seed, where, tuple(faults), draws.choice((1, 1, 1, 2)))
