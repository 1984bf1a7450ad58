"""Three nodes, the real encoder, real images: whatever is lost, the same command ends with what an undisturbed run has.

The nodes are processes of this machine, their workers are forks (`tests/forks.py`).
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from benchmark.common.storage.files import Storage
from benchmark.store.made import Made, MadeBy, read_made
from tests.conftest import some_of
from tests.faults.harness import Contents
from tests.forks import Forked
from tests.nodes import Nodes, nodes

pytestmark = [
    pytest.mark.long("what a lost node or head had under way is embedded twice, or never"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found through /proc"),
]
TIMEOUT = 10  # seconds without an answer, of an encoder that takes two for a chunk
RECIPE = {
    "name": "losses",
    "backbones": [{"name": "MiniLiT", "image_size": 96, "engine": "torch"}],
    "interventions": {"kinds": ["grayscale"]},
    "sweep": {
        "seeds": [0, 1], "projections": ["identity", "icm"], "lambdas": [1, 10], "ranks": [16, 64],
        "predictors": ["zero_shot", {"name": "linear_probe", "C": [0.316]}],
    },
    "run": {"chunk_timeout": TIMEOUT},
}  # fmt: skip
IMAGES_OF = {4: 300 - 4 * 64}  # of the last chunk


@dataclass(frozen=True)
class Place:
    """Where commands run, and what an undisturbed one leaves."""

    folder: Path
    forks: str
    cluster: Nodes

    def start(self, name: str, node: int = 0) -> Forked:
        arguments = [f"node{node}", "run", str(self.folder / "recipe.yaml"), "--store", str(self.folder / name)]
        arguments += ["--out", str(self.folder / f"{name}-report")]
        said = self.folder / f"{name}-{time.monotonic_ns()}"
        return Forked(self.forks, "tests.commands.on_node", arguments, self.cluster.environment, said)

    def finish(self, name: str) -> str:
        """Run a command that must end well, and return what it says."""
        exit_code, said = self.start(name).wait(timeout=200)
        assert exit_code == 0, said
        return said

    def left_by(self, name: str) -> dict[str, object]:
        """Return what a run has left: files of the store, tables of the report."""
        tables = sorted((self.folder / f"{name}-report" / "tables").iterdir())
        assert {file.suffix for file in tables} >= {".csv", ".tex", ".md"}
        report = {file.name: file.read_bytes() for file in tables}
        return {**Contents.of(Storage(str(self.folder / name))).files, **report}

    def made_by(self, name: str) -> list[Made]:
        return read_made(Storage(str(self.folder / name)))

    def parts(self, name: str) -> dict[str, int]:
        """Return each part of a store with the time of its last change."""
        return {str(part): part.stat().st_mtime_ns for part in (self.folder / name).glob(PARTS)}

    def wait_for(self, run: Forked, name: str, pattern: str, count: int) -> None:
        """Wait until a store has so many files of a kind."""
        until = time.monotonic() + 120
        while len(list((self.folder / name).glob(pattern))) < count:
            assert time.monotonic() < until
            assert run.is_running, run.wait(timeout=1)
            time.sleep(0.02)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, fork_server: Callable[[], str], demo_set: Path) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("losses")
    images = some_of(demo_set, 5, folder / "emoji_styles")
    recipe = {**RECIPE, "datasets": [{"name": "emoji_styles", "root": str(images)}]}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with nodes(folder, 3, forks=fork_server()) as cluster:
        place = Place(folder, fork_server(), cluster)
        place.finish("undisturbed")
        yield place


PARTS, ROWS = "embeddings/*/part-*.parquet", "rows/*.parquet"


def test_a_node_is_lost_in_embedding(place: Place) -> None:
    number = 1
    for attempt in range(3):
        if lost := encoders_lost_with(place, number, f"embedding{attempt}"):
            break
        number = place.cluster.newest  # no encoder had come to the other one when it was lost
    assert lost


def encoders_lost_with(place: Place, number: int, name: str) -> list[MadeBy]:
    """Let a run lose a node while it embeds, check what it leaves, and return the encoders of that node."""
    run = place.start(name)
    place.wait_for(run, name, PARTS, 3)
    node = place.cluster.id(number)
    place.cluster.kill(number, "raylet")
    exit_code, said = run.wait(timeout=200)
    place.cluster.replace_lost()
    assert exit_code == 0, said
    assert place.left_by(name) == place.left_by("undisturbed")
    [made] = place.made_by(name)
    assert made.embedded + made.lost == made.total == 600
    lost = [encoder for encoder in made.encoders if node[:6] in encoder.host]
    again = set(made.chunks.filter(made.chunks["again"])["chunk"].to_pylist())
    assert again <= {chunk for encoder in lost for chunk in encoder.under_way}
    assert made.lost == sum(2 * IMAGES_OF.get(chunk, 64) for chunk in again)
    assert "aylet" not in said
    assert "marked dead" not in said
    return lost


def test_the_node_of_the_driver_is_lost_and_one_in_the_sweep_of_its_rerun(place: Place) -> None:
    run = place.start("its-node", node=place.cluster.newest)
    place.wait_for(run, "its-node", PARTS, 3)
    place.cluster.kill(place.cluster.newest, "raylet")
    run.kill()
    kept = place.parts("its-node")
    place.cluster.replace_lost()
    again = place.start("its-node")
    place.wait_for(again, "its-node", ROWS, 1)
    place.cluster.kill(place.cluster.newest, "raylet")
    exit_code, said = again.wait(timeout=200)
    place.cluster.replace_lost()
    assert exit_code == 0, said
    assert kept.items() <= place.parts("its-node").items()
    assert place.left_by("its-node") == place.left_by("undisturbed")


def test_the_head_is_lost_in_embedding(place: Place, tmp_path: Path) -> None:
    run = place.start("head")
    place.wait_for(run, "head", PARTS, 3)
    place.cluster.kill(0, "gcs_server")
    exit_code, said = run.wait(timeout=200)
    assert exit_code == 2, said
    assert "run the same command again on another cluster" in said
    assert "Traceback" not in said
    kept = place.parts("head")
    with nodes(tmp_path, 1, forks=place.forks) as other:
        replace(place, cluster=other).finish("head")
    assert kept.items() <= place.parts("head").items()
    assert place.left_by("head") == place.left_by("undisturbed")
