"""`icm-bench doctor`: whether all nodes of a cluster can do what a recipe asks; a run of several nodes asks it too.

On each node `probe` runs once, as a task of Ray's, before any work does. Everything that may hang there (an object
store, a mount, a driver of GPUs) has a limit of its own, so that a node that hangs in one place still says so. For the
probe a node imports this module, so what only the asking side needs is imported where it is used.
"""

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from benchmark.common.code import environment
from benchmark.common.errors import FaultError, IcmBenchError
from benchmark.common.failing import in_words, meant_for_user, outcome_of, told
from benchmark.common.ray.cluster import alive_nodes, connect, connected
from benchmark.common.secrets import public
from benchmark.common.storage.files import Storage, reason
from benchmark.common.storage.places import cache_dir
from benchmark.common.storage.retries import FIRST_CONTACT
from benchmark.datasets.readers import ImageReader

if TYPE_CHECKING:
    from benchmark.backbones.spec import BackboneSpec
    from benchmark.datasets.manifest import Manifest
    from benchmark.recipe.recipe import Recipe

TIMEOUT = 12.0  # seconds for all nodes together, of the fifteen that a person waits
_TRY = (
    "import sys; from benchmark.commands.stores import store_at; store_at(sys.stdin.read() or None, 0).check_writable()"
)
Image = tuple[str, Any, dict[str, list[Any]]]
PACKAGES = ("icm-bench", "torch", "open_clip_torch", "timm", "openvino")  # on which numbers depend, or encoders run
LIMIT = 8.0  # seconds for what a node looks at, all at once
MIN_FREE = 2**30  # bytes of a disk, below which Ray or the cache will soon find it full
_ENDS = 2**20  # bytes at each end of a file that its digest reads
_GPUS = (
    "import json, torch; print(json.dumps([torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]))"
)


@dataclass(frozen=True)
class Needs:
    """What every node must have for a run."""

    storage: Storage | None = None  # where workers write; None where they write nothing
    marker: str = ""  # a file of it that the driver has written
    # Of each data set its name, its reader and one of its images, as columns of the manifest.
    images: tuple[tuple[str, ImageReader, Mapping[str, list[Any]]], ...] = ()
    files: Mapping[str, str] | None = None  # path of each file or folder of weights -> its digest on the driver


@dataclass(frozen=True)
class NodeAnswer:
    """What a node says of itself."""

    versions: Mapping[str, str]  # of packages; those that are not installed are left out
    gpus: tuple[str, ...]  # names of those that PyTorch sees there; not asked for where Ray has none
    free_bytes: Mapping[str, int]  # folder where Ray or the cache write -> what is free on its disk
    problems: tuple[str, ...]  # a sentence on each thing that keeps a run from working
    doubts: tuple[str, ...]  # the same on each thing with which a run works, but not well or not for long


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


def doctor(recipe: "Recipe | None", notify: Callable[[str], None]) -> Checked:
    """Check the cluster that RAY_ADDRESS names, or else this machine.

    Args:
        recipe: whose store, data and weights every node must have. None: packages, GPUs and disks alone.
        notify: takes each line for the person who watches.
    """
    with connected():
        connect()
        if recipe is None:
            return _asked(None, (), (), notify)
        from benchmark.datasets.manifest import dataset_reader

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
    manifests: "Sequence[Manifest]",
    backbones: "Iterable[BackboneSpec]",
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


def _opened(recipe: "Recipe") -> Storage:
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
    from benchmark.commands.stores import open_store

    return open_store(recipe)  # which says why it cannot be written to


def _asked(
    storage: Storage | None, images: Sequence[Image], backbones: "Iterable[BackboneSpec]", notify: Callable[[str], None]
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
    done, late = ray.wait([*waiting.values()], num_returns=len(waiting), timeout=TIMEOUT) if waiting else ([], [])
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
                f"The node {name} has not answered within {TIMEOUT:.0f} s: see whether it hangs or is overloaded, or "
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


def probe(needs: Needs, declared: int) -> NodeAnswer:
    """Return what the node it runs on says of itself; raises nothing, and takes little more than `LIMIT`.

    Ray has `declared` GPUs there.
    """
    doubts: list[str] = []
    gpus: list[str] = []
    free: dict[str, int] = {}
    checks: dict[str, Callable[[], None]] = {
        p: partial(_check_file, p, known) for p, known in (needs.files or {}).items()
    }
    for name, reader, image in needs.images:
        first = replace(reader, timeout=FIRST_CONTACT)
        checks[f"{name} in {reader.storage.path('').rstrip('/')}"] = partial(_check_image, first, image)
    if storage := needs.storage:
        checks[f"the store {storage.path('').rstrip('/')}"] = partial(_check_store, storage.at_first(), needs.marker)
    checks["the disk"] = partial(_look_at_disks, free, doubts)
    if declared:
        checks["PyTorch, asked for its GPUs,"] = partial(_look_at_gpus, declared, gpus, doubts)
    problems = within(LIMIT, checks)
    return NodeAnswer(versions(), tuple(gpus), dict(free), tuple(problems), tuple(doubts))


def within(seconds: float, checks: Mapping[str, Callable[[], None]]) -> list[str]:
    """Run checks side by side, and return a sentence on each that raises or does not end in time.

    Checks stand under what the sentence calls a thing that does not answer. A mistake of this package is raised.
    """
    said: dict[str, str] = {}
    faults: list[FaultError] = []

    def run(name: str) -> None:
        try:
            checks[name]()
            said[name] = ""
        except OSError as error:
            said[name] = f"{name} cannot be used ({reason(error)})."
        except Exception as error:
            outcome = outcome_of(error)
            said[name] = str(outcome)
            faults.extend([outcome] if isinstance(outcome, FaultError) else [])

    threads = [threading.Thread(target=run, args=(name,), daemon=True) for name in checks]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    if faults:
        raise faults[0]
    return [sentence for name in checks if (sentence := said.get(name, unanswered(name, seconds)))]


def unanswered(name: str, seconds: float) -> str:
    """Return the sentence on a thing that has not answered in time."""
    return f"{name} has not answered within {seconds:.0f} s: see whether it is mounted, reachable and not overloaded."


def versions() -> dict[str, str]:
    """Return package -> version of those of `PACKAGES` that are installed here."""
    known = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            known[name] = version(name)
    return known


def digest(path: str) -> str:
    """Return what tells a file, or all files of a folder, from others: names, sizes, and both ends of each."""
    place = Path(path)
    known = hashlib.sha256()
    for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
        if not file.is_file():
            continue
        size = file.stat().st_size
        known.update(f"{file.relative_to(place)}\t{size}\n".encode())
        with file.open("rb") as content:
            known.update(content.read(_ENDS))
            content.seek(max(0, size - _ENDS))
            known.update(content.read(_ENDS))
    return known.hexdigest()


@contextmanager
def marked(storage: Storage | None) -> Iterator[str]:
    """Let a storage have a small file in the block, by which other nodes see that it is the same; give its name."""
    if storage is None:
        yield ""
        return
    marker = _small_name()
    storage.write_bytes(marker, b"here")
    try:
        yield marker
    finally:
        storage.delete(marker)


def _small_name() -> str:
    return f".node-test-{uuid.uuid4().hex}"  # files with a dot are no part of a store


def _check_store(storage: Storage, marker: str) -> None:
    """Write, read and delete a small object."""
    if not storage.exists(marker):  # looked for first: writing would make the folder
        raise _unseen(storage.path("").rstrip("/"))
    name, content = _small_name(), b"x" * 4096
    storage.write_bytes(name, content)
    try:
        if storage.read_bytes(name) != content:
            raise IcmBenchError(f"{storage.path(name)} was written and reads otherwise: see to its disk or service.")
    finally:
        storage.delete(name)


def _check_image(reader: ImageReader, image: Mapping[str, list[Any]]) -> None:
    """Read one image."""
    if (folder := reader.local_folder) and not folder.exists():
        raise _unseen(str(folder))
    next(iter(reader.read(image)))  # one that is rejected says nothing of the node


def _check_file(path: str, known: str) -> None:
    """See that weights are there, and are those of the driver."""
    if not Path(path).exists():
        raise _unseen(path)
    if digest(path) != known:
        raise IcmBenchError(f"{path} has another content than where the run starts; copy it from there.")


def _unseen(place: str) -> IcmBenchError:
    return IcmBenchError(
        f"{place} is not seen there; with more than one node, store, data and checkpoints must lie on shared storage, "
        f"for example a mount."
    )


def _look_at_disks(free: dict[str, int], doubts: list[str]) -> None:
    """Note what is free where Ray and the cache write."""
    from ray._private import worker

    node = worker._global_node  # Ray's public interface tells the name of a session, and not where it lies
    session = Path(node.get_session_dir_path() if node else "/tmp/ray")
    for name, folder, variable in (("Ray", session, "RAY_TMPDIR"), ("the cache", cache_dir(), "ICM_BENCH_CACHE")):
        while not folder.exists():
            folder = folder.parent
        free[str(folder)] = shutil.disk_usage(folder).free
        if free[str(folder)] < MIN_FREE:
            doubts.append(
                f"{folder}, where {name} writes, has {free[str(folder)] / 2**20:.0f} MiB left: free some space, or let "
                f"{variable} name another disk before `ray start`."
            )


def _look_at_gpus(declared: int, gpus: list[str], doubts: list[str]) -> None:
    """Note the GPUs that PyTorch sees, from a process of its own: Ray hides them from a task that asks for none."""
    hidden = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    asked = subprocess.run(
        [sys.executable, "-P", "-c", _GPUS], env=environment, capture_output=True, text=True, check=False, timeout=LIMIT
    )
    if asked.returncode:
        why = (asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"])[-1].rstrip(".")
        raise IcmBenchError(f"PyTorch does not load ({why}); install it anew.")
    gpus += json.loads(asked.stdout.splitlines()[-1])
    if len(gpus) < declared:
        doubts.append(
            f"Ray declares {declared} GPUs and PyTorch sees {len(gpus)}: install a PyTorch that suits the driver of "
            f"the GPUs, or start Ray there with --num-gpus={len(gpus)}."
        )
