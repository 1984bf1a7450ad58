"""`icm-bench doctor`: whether all nodes of a cluster can do what a recipe asks; a run of several nodes asks it too."""

import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray

from benchmark.backbones.spec import BackboneSpec
from benchmark.commands.cluster.probe import LIMIT, Needs, NodeAnswer, digest, marked, probe, unanswered, versions
from benchmark.commands.stores import open_store
from benchmark.common.code import environment
from benchmark.common.errors import FaultError, IcmBenchError
from benchmark.common.failing import in_words, meant_for_user, told
from benchmark.common.ray.cluster import alive_nodes, connect, connected
from benchmark.common.secrets import public
from benchmark.common.storage.files import Storage
from benchmark.datasets.manifest import Manifest, dataset_reader
from benchmark.recipe.recipe import Recipe

PATIENCE = 12.0  # seconds for all nodes together, of the fifteen that a person waits
_TRY = (
    "import sys; from benchmark.commands.stores import store_at; store_at(sys.stdin.read() or None, 0).check_writable()"
)
Image = tuple[str, Any, dict[str, list[Any]]]


@dataclass(frozen=True)
class Node:
    """A node, what Ray has there, and what it says of itself."""

    name: str  # of the host, with the start of Ray's id where several nodes share it
    cpus: int
    gpus: int
    answer: NodeAnswer | None  # None where it does not


@dataclass(frozen=True)
class Checked:
    """What is known of a cluster; of each problem, doubt and note a sentence with the node's name."""

    nodes: tuple[Node, ...]  # that live, or lived a moment ago
    problems: tuple[str, ...]  # which keep a run from working
    doubts: tuple[str, ...]  # with which a run works, but not well or not for long
    notes: tuple[str, ...]  # on nodes that have just died, and are left out

    def text(self) -> str:
        """Return a table of the nodes that answered, for a person."""
        import pandas as pd

        rows = [
            {
                "node": node.name,
                "CPUs": node.cpus,
                "GPUs": ", ".join(f"{n} x {name}" for name, n in Counter(answer.gpus).items()) or node.gpus,
                **{name: answer.versions.get(name, "-") for name in ("icm-bench", "torch")},
                "GiB free": f"{min(answer.free_bytes.values(), default=0) / 2**30:.0f}",
            }
            for node in self.nodes
            if (answer := node.answer)
        ]
        return pd.DataFrame(rows).to_string(index=False) if rows else ""


def doctor(recipe: Recipe | None, notify: Callable[[str], None]) -> Checked:
    """Check the cluster that RAY_ADDRESS names, or else this machine.

    Args:
        recipe: whose store, data and weights every node must have. None: packages, GPUs and disks alone.
        notify: takes each line for the person who watches.
    """
    with connected():
        connect()
        if recipe is None:
            return _asked(None, (), (), notify)
        images: list[Image] = []
        for spec in () if recipe.is_imported else recipe.located():
            reader = dataset_reader(spec)
            entry = next(iter(reader.entries()), None)  # without reading the others
            if entry is None:
                place = reader.storage.path("").rstrip("/")
                raise IcmBenchError(f"{place} has no images; see docs/data.md for layouts.")
            images.append((spec.name, reader, {key: [value] for key, value in asdict(entry).items()}))
        return _asked(_opened(recipe), images, recipe.backbones, notify)


def check_nodes(
    storage: Storage | None,
    manifests: Sequence[Manifest],
    backbones: Iterable[BackboneSpec],
    notify: Callable[[str], None],
) -> None:
    """Refuse a connected cluster in which a node cannot do what a run asks; does nothing on a single machine.

    Every node must reach the store (None where workers write nothing), read one image of each data set, and have the
    weights of backbones that are files.
    """
    if len(alive_nodes()) < 2:
        return
    own = [manifest for manifest in manifests if not manifest.is_imported]
    images: list[Image] = [(m.name, m.reader, m.table.slice(0, 1).to_pydict()) for m in own]
    checked = _asked(storage, images, backbones, notify)
    for note in (*checked.doubts, *checked.notes):
        notify(f"note: {note}")
    if checked.problems:
        first, more = checked.problems[0], len(checked.problems) - 1
        raise IcmBenchError(f"{first} (`icm-bench doctor` tells {more} more.)" if more else first)


def _opened(recipe: Recipe) -> Storage:
    """Return the recipe's store, which this machine can write to.

    A process of its own tries it first: a service that does not answer would hold this one even when it ends.
    """
    try:
        subprocess.run(
            [sys.executable, "-P", "-c", _TRY], input=recipe.run.store or "", timeout=LIMIT, capture_output=True,
            text=True, env=environment(), check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise IcmBenchError(unanswered(f"The store {public(recipe.run.store or 'in the cache')}", LIMIT)) from None
    return open_store(recipe)  # which says why it cannot be written to


def _asked(
    storage: Storage | None, images: Sequence[Image], backbones: Iterable[BackboneSpec], notify: Callable[[str], None]
) -> Checked:
    """Ask all nodes at once, and judge what they say."""
    nodes = alive_nodes()
    notify(f"asking {len(nodes)} {'nodes' if len(nodes) > 1 else 'node'} what they have")
    specs = [spec.with_absolute_paths() for spec in backbones]
    places = [place for spec in specs for place in (spec.local_folder, spec.pretrained) if place]
    files = {place: digest(place) for place in places if Path(place).exists()}
    with marked(storage) as marker:
        return _judged(nodes, _answers(nodes, Needs(storage, marker, tuple(images), files)))


def _answers(nodes: Sequence[dict[str, Any]], needs: Needs) -> list[NodeAnswer | Exception | None]:
    """Return what each node answers, or why it does not; None of one that has not answered in time."""
    affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    task = ray.remote(num_cpus=0, max_retries=0)(told(probe))
    with ThreadPoolExecutor(len(nodes)) as pool:
        died = list(pool.map(_death, nodes))
    waiting = {
        i: task.options(scheduling_strategy=affinity(node["NodeID"], soft=False)).remote(
            needs, int(node["Resources"].get("GPU", 0))
        )
        for i, node in enumerate(nodes)
        if not died[i]
    }
    answers: list[NodeAnswer | Exception | None] = [*died]
    done, late = ray.wait([*waiting.values()], num_returns=len(waiting), timeout=PATIENCE) if waiting else ([], [])
    for i, ref in waiting.items():
        try:
            answers[i] = ray.get(ref) if ref in done else None
        except Exception as error:  # of Ray's
            answers[i] = error
            if isinstance(fault := meant_for_user(error), FaultError):
                raise fault from None
    for ref in late:
        ray.cancel(ref, force=True)
    return answers


def _death(node: dict[str, Any]) -> OSError | None:
    """Return the error that shows that a node has died, of which Ray hears after some 20 s; None of one that lives."""
    try:
        socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), timeout=1).close()
    except OSError as error:  # no answer is no death: it is waited for
        return error if isinstance(error, ConnectionRefusedError) else None
    return None


def _judged(nodes: Sequence[dict[str, Any]], answers: Sequence[NodeAnswer | Exception | None]) -> Checked:
    """Return what is known of a cluster by what its nodes answered."""
    problems: list[str] = []
    doubts: list[str] = []
    notes: list[str] = []
    of_nodes = []
    hosts = Counter(node["NodeManagerHostname"] for node in nodes)
    for node, answer in zip(nodes, answers, strict=True):
        host, has = node["NodeManagerHostname"], node["Resources"]
        name = host if hosts[host] == 1 else f"{host} ({node['NodeID'][:6]})"
        cpus, gpus = int(has.get("CPU", 0)), int(has.get("GPU", 0))
        of_nodes.append(Node(name, cpus, gpus, answer if isinstance(answer, NodeAnswer) else None))
        if isinstance(answer, NodeAnswer):
            problems += [f"The node {name}: {text}" for text in (*_other_versions(gpus, answer), *answer.problems)]
            doubts += [f"The node {name}: {text}" for text in answer.doubts]
        elif answer is None:
            doubts.append(
                f"The node {name} has not answered within {PATIENCE:.0f} s: see whether it hangs or is overloaded, or "
                f"end it."
            )
        elif isinstance(answer, ray.exceptions.RayTaskError):
            problems.append(f"The node {name}: {_why_no_probe(answer)}")
        else:
            notes.append(f"The node {name} has just died, and is left out ({type(answer).__name__}).")
    if len(notes) == len(of_nodes):
        problems.append("No node of the cluster is left: see whether its head runs, or start it anew.")
    return Checked(tuple(of_nodes), tuple(problems), tuple(doubts), tuple(notes))


def _other_versions(gpus: int, answer: NodeAnswer) -> list[str]:
    """Return a sentence on each package of which a node with so many GPUs has another version than here, or none."""
    sentences = []
    for package, here in versions().items():
        if package == "openvino" and gpus:
            continue  # which only runs encoders on CPUs
        there = answer.versions.get(package)
        if there is None:
            sentences.append(f"{package} is not installed; install version {here}, as where the run starts.")
        elif there.partition("+")[0] != here.partition("+")[0]:  # after it: for which GPUs it is built
            sentences.append(f"{package} is {there}, and {here} where the run starts; install {package}=={here} there.")
    return sentences


def _why_no_probe(error: Exception) -> str:
    """Return a sentence on a node on which the probe does not even start."""
    module = re.search(r"No module named '([\w.]+)'", str(error))
    if module and module[1].partition(".")[0] == "benchmark":
        return f"icm-bench is not installed; install version {versions()['icm-bench']} with constraints.txt there."
    if module:
        return f"the module {module[1]} is missing; install it there, as where the run starts."
    cause = getattr(error, "cause", None)
    return f"the check does not run ({in_words(cause if isinstance(cause, Exception) else error)}); see Ray's logs."
