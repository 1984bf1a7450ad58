"""`icm-bench doctor`: check that every node of a cluster can run a recipe.

A run on several nodes makes the same check first. `probe` runs once on each node, as a Ray task. Each check that may
hang (an object store, a mount, a GPU driver) has a timeout, so that the node still answers. Nodes import this module
for the probe, so imports that only the driver needs are inside functions.
"""

import hashlib
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
from benchmark.common.failing import in_words, meant_for_user, outcome_of, propagate_user_errors
from benchmark.common.machine import torch_gpus, unusable_gpus
from benchmark.common.ray.cluster import alive_nodes, connect, connected
from benchmark.common.ray.dashboard import without_agent
from benchmark.common.secrets import public
from benchmark.common.storage.files import Storage, reason
from benchmark.common.storage.places import cache_dir
from benchmark.common.storage.retries import FIRST_CONTACT
from benchmark.datasets.readers import ImageReader

if TYPE_CHECKING:
    from benchmark.backbones.spec import BackboneSpec
    from benchmark.datasets.manifest import Manifest
    from benchmark.recipe.recipe import Recipe

TIMEOUT = 12.0  # seconds for all nodes together
_TRY_STORE = (
    "import sys; from benchmark.commands.stores import store_at; store_at(sys.stdin.read() or None, 0).check_writable()"
)
Image = tuple[str, Any, dict[str, list[Any]]]  # data set, its reader, and one image as columns of the manifest
PACKAGES = ("icm-bench", "torch", "open_clip_torch", "timm", "openvino")  # compared between nodes
AGENT_SECONDS = 10.0  # seconds that an agent has to begin to listen
LIMIT = 8.0  # seconds for the checks of a node, which run side by side
MIN_FREE = 2**30  # free bytes of a disk, below which a node gets a warning
_DIGEST_BYTES = 2**20  # bytes hashed at each end of a file


@dataclass(frozen=True)
class Needs:
    """Store, images and weights that every node must be able to reach."""

    storage: Storage | None = None  # store to which workers write; None if they write nothing
    marker: str = ""  # name of a file that the driver has written into `storage`
    # Name and reader of each data set, and one of its images as columns of the manifest.
    images: tuple[tuple[str, ImageReader, Mapping[str, list[Any]]], ...] = ()
    files: Mapping[str, str] | None = None  # path of weights -> digest of the driver's copy


@dataclass(frozen=True)
class NodeAnswer:
    """What `probe` found on a node."""

    versions: Mapping[str, str]  # package of `PACKAGES` -> installed version
    gpus: tuple[str, ...]  # names of the GPUs that PyTorch sees; empty if Ray declares none
    free_bytes: Mapping[str, int]  # folder of Ray or the cache -> free bytes of its disk
    problems: tuple[str, ...]  # sentences on errors that a run would meet
    doubts: tuple[str, ...]  # sentences on warnings: a run works, but badly or not for long


@dataclass(frozen=True)
class Node:
    """A node: its resources in Ray, and the answer of `probe` on it."""

    name: str  # host name, with the start of Ray's id if several nodes share it
    cpus: int
    gpus: int
    answer: NodeAnswer | None  # answer of the probe; None if there was none


@dataclass(frozen=True)
class Checked:
    """Result of checking a cluster; each sentence names its node."""

    nodes: tuple[Node, ...]
    problems: tuple[str, ...]  # errors that a run would meet
    doubts: tuple[str, ...]  # warnings: a run works, but badly or not for long
    notes: tuple[str, ...]  # remarks about nodes that died during the check

    def text(self) -> str:
        """Return a text table of the nodes that answered."""
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
        recipe: recipe whose store, data and weights every node must reach. None: packages, GPUs and disks only.
        notify: function that receives each message.
    """
    with connected():
        connect()
        if recipe is None:
            return _with_agent(_check(None, (), (), notify))
        from benchmark.datasets.manifest import dataset_reader

        images: list[Image] = []
        for spec in () if recipe.is_imported else recipe.located():
            reader = dataset_reader(spec)
            entry = next(iter(reader.entries()), None)
            if entry is None:
                raise IcmBenchError(f"{reader.storage.path('')} has no images; see docs/data.md for layouts.")
            images.append((spec.name, reader, {key: [value] for key, value in asdict(entry).items()}))
        return _with_agent(_check(_writable_store(recipe), images, recipe.backbones, notify))


def check_nodes(
    storage: Storage | None,
    manifests: "Sequence[Manifest]",
    backbones: "Iterable[BackboneSpec]",
    notify: Callable[[str], None],
) -> None:
    """Refuse a connected cluster if a node cannot run a recipe; does nothing on a single machine.

    Every node must reach the store, read one image of each data set, and have all weights that are local files.
    `storage` is None if workers write nothing.
    """
    if len(alive_nodes()) < 2:
        return
    own = [manifest for manifest in manifests if not manifest.is_imported]
    images: list[Image] = [(m.name, m.reader, m.table.slice(0, 1).to_pydict()) for m in own]
    checked = _check(storage, images, backbones, notify)
    for note in (*checked.doubts, *checked.notes):
        notify(f"note: {note}")
    if checked.problems:
        first, more = checked.problems[0], len(checked.problems) - 1
        raise IcmBenchError(f"{first} (`icm-bench doctor` lists {more} more.)" if more else first)


def _writable_store(recipe: "Recipe") -> Storage:
    """Return the recipe's store, after another process has tried to open it.

    This process does not try first, since a store that hangs keeps a process from exiting.
    """
    try:
        subprocess.run(
            [sys.executable, "-P", "-c", _TRY_STORE], input=recipe.run.store or "", timeout=LIMIT,
            capture_output=True, text=True, env=environment(), check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        store = public(recipe.run.store or "in the cache")
        raise IcmBenchError(_no_answer(f"The store {store}", LIMIT)) from None
    from benchmark.commands.stores import open_store

    return open_store(recipe)


def _check(
    storage: Storage | None, images: Sequence[Image], backbones: "Iterable[BackboneSpec]", notify: Callable[[str], None]
) -> Checked:
    """Probe all nodes at once, and summarize their answers."""
    nodes = alive_nodes()
    notify(f"checking {len(nodes)} {'nodes' if len(nodes) > 1 else 'node'}")
    specs = [spec.with_absolute_paths() for spec in backbones]
    places = [place for spec in specs for place in (spec.local_folder, spec.pretrained) if place]
    files = {place: digest(place) for place in places if Path(place).exists()}
    with marked(storage) as marker:
        return _summarized(nodes, _probe_all(nodes, Needs(storage, marker, tuple(images), files)))


def _with_agent(checked: Checked) -> Checked:
    """Add a doubt if the head of the cluster at RAY_ADDRESS cannot start jobs; runs do not need this.

    An agent writes its address into the cluster's table as soon as it listens, some seconds after the head has started.
    """
    from ray._private.ray_constants import KV_NAMESPACE_DASHBOARD
    from ray.dashboard.consts import DASHBOARD_AGENT_ADDR_NODE_ID_PREFIX
    from ray.experimental.internal_kv import _internal_kv_get

    heads = [node["NodeID"] for node in alive_nodes() if "node:__internal_head__" in node["Resources"]]
    if not os.environ.get("RAY_ADDRESS") or not heads:
        return checked
    key, end = f"{DASHBOARD_AGENT_ADDR_NODE_ID_PREFIX}{heads[0]}", time.monotonic() + AGENT_SECONDS
    while not _internal_kv_get(key, namespace=KV_NAMESPACE_DASHBOARD):
        if time.monotonic() > end:
            doubt = f"This cluster takes no submitted jobs: {without_agent()}"
            return replace(checked, doubts=(*checked.doubts, doubt))
        time.sleep(0.5)
    return checked


def _probe_all(nodes: Sequence[dict[str, Any]], needs: Needs) -> list[NodeAnswer | Exception | None]:
    """Return for each node its answer or error; None if it has not answered before the timeout."""
    affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    task = ray.remote(num_cpus=0, max_retries=0)(propagate_user_errors(probe))
    with ThreadPoolExecutor(len(nodes)) as pool:
        died = list(pool.map(_death, nodes))
    waiting = {}
    for i, node in enumerate(nodes):
        if not died[i]:
            on_node = task.options(scheduling_strategy=affinity(node["NodeID"], soft=False))
            waiting[i] = on_node.remote(needs, int(node["Resources"].get("GPU", 0)))
    answers: list[NodeAnswer | Exception | None] = [*died]
    done, late = ray.wait([*waiting.values()], num_returns=len(waiting), timeout=TIMEOUT) if waiting else ([], [])
    for i, ref in waiting.items():
        try:
            answers[i] = ray.get(ref) if ref in done else None
        except Exception as error:
            answers[i] = error
            if isinstance(fault := meant_for_user(error), FaultError):
                raise fault from None
    for ref in late:
        ray.cancel(ref, force=True)
    return answers


def _death(node: dict[str, Any]) -> OSError | None:
    """Return a connection error if the node has died, which Ray notices only after 20 s; None for a live node."""
    try:
        socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), timeout=1).close()
    except OSError as error:  # a node that is only slow may still answer
        return error if isinstance(error, ConnectionRefusedError) else None
    return None


def _summarized(nodes: Sequence[dict[str, Any]], answers: Sequence[NodeAnswer | Exception | None]) -> Checked:
    """Return the result of the check; `answers` are in the order of `nodes`."""
    problems: list[str] = []
    doubts: list[str] = []
    notes: list[str] = []
    checked = []
    hosts = Counter(node["NodeManagerHostname"] for node in nodes)
    for node, answer in zip(nodes, answers, strict=True):
        host, has = node["NodeManagerHostname"], node["Resources"]
        name = host if hosts[host] == 1 else f"{host} ({node['NodeID'][:6]})"
        cpus, gpus = int(has.get("CPU", 0)), int(has.get("GPU", 0))
        checked.append(Node(name, cpus, gpus, answer if isinstance(answer, NodeAnswer) else None))
        if isinstance(answer, NodeAnswer):
            problems += [f"The node {name}: {text}" for text in (*_version_problems(gpus, answer), *answer.problems)]
            doubts += [f"The node {name}: {text}" for text in answer.doubts]
        elif answer is None:
            doubts.append(f"The node {name} has not answered within {TIMEOUT:.0f} s: check its load, or end it.")
        elif isinstance(answer, ray.exceptions.RayTaskError):
            problems.append(f"The node {name}: {_start_problem(answer)}")
        else:
            notes.append(f"The node {name} has just died, and is ignored ({type(answer).__name__}).")
    if len(notes) == len(checked):
        problems.append("No node of the cluster is left: check that its head runs, or restart it.")
    return Checked(tuple(checked), tuple(problems), tuple(doubts), tuple(notes))


def _version_problems(gpus: int, answer: NodeAnswer) -> list[str]:
    """Return a sentence on each package that a node with `gpus` GPUs lacks, or whose version is not the driver's."""
    sentences = []
    for package, here in versions().items():
        if package == "openvino" and gpus:
            continue  # it runs encoders on CPUs only
        there = answer.versions.get(package)
        if there is None:
            sentences.append(f"{package} is not installed; install version {here}, as on the driver.")
        elif there.partition("+")[0] != here.partition("+")[0]:  # without the build, such as +cu126
            sentences.append(f"{package} is {there} here and {here} on the driver; install {package}=={here}.")
    return sentences


def _start_problem(error: Exception) -> str:
    """Return the error message for a node on which the probe does not start."""
    module = re.search(r"No module named '([\w.]+)'", str(error))
    if module and module[1].partition(".")[0] == "benchmark":
        return f"icm-bench is not installed; install version {versions()['icm-bench']} with constraints.txt."
    if module:
        return f"the module {module[1]} is missing; install it, as on the driver."
    cause = getattr(error, "cause", None)
    return f"the check does not run ({in_words(cause if isinstance(cause, Exception) else error)}); see Ray's logs."


def probe(needs: Needs, declared: int) -> NodeAnswer:
    """Check the node that runs this, within about `LIMIT` seconds; `declared` is its number of GPUs in Ray."""
    doubts: list[str] = []
    gpus: list[str] = []
    free: dict[str, int] = {}
    checks: dict[str, Callable[[], None]] = {}
    for path, known in (needs.files or {}).items():
        checks[path] = partial(_check_file, path, known)
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
    """Run checks side by side; return a sentence on each one that fails or exceeds the timeout.

    `checks` maps what is checked, such as "the store s3://b", to its check. Sentences begin with this key. A bug of
    this package is raised as `FaultError`.
    """
    results: dict[str, str] = {}
    faults: list[FaultError] = []

    def run(name: str) -> None:
        try:
            checks[name]()
            results[name] = ""
        except OSError as error:
            results[name] = f"{name} cannot be used ({reason(error)})."
        except Exception as error:
            outcome = outcome_of(error)
            results[name] = str(outcome)
            faults.extend([outcome] if isinstance(outcome, FaultError) else [])

    threads = [threading.Thread(target=run, args=(name,), daemon=True) for name in checks]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    if faults:
        raise faults[0]
    return [sentence for name in checks if (sentence := results.get(name, _no_answer(name, seconds)))]


def _no_answer(name: str, seconds: float) -> str:
    return f"{name} has not answered within {seconds:.0f} s: check that it is mounted, reachable and not overloaded."


def versions() -> dict[str, str]:
    """Return the installed versions of `PACKAGES`."""
    known = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            known[name] = version(name)
    return known


def digest(path: str) -> str:
    """Return a hash of a file, or of all files of a folder. It covers names, sizes, and the bytes at both ends."""
    place = Path(path)
    known = hashlib.sha256()
    for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
        if not file.is_file():
            continue
        size = file.stat().st_size
        known.update(f"{file.relative_to(place)}\t{size}\n".encode())
        with file.open("rb") as content:
            known.update(content.read(_DIGEST_BYTES))
            content.seek(max(0, size - _DIGEST_BYTES))
            known.update(content.read(_DIGEST_BYTES))
    return known.hexdigest()


@contextmanager
def marked(storage: Storage | None) -> Iterator[str]:
    """Yield the name of a new small file by which nodes recognize the driver's store; delete it after the block."""
    if storage is None:
        yield ""
        return
    marker = f".node-test-{uuid.uuid4().hex}"  # the store ignores dot files
    storage.write_bytes(marker, b"here")
    try:
        yield marker
    finally:
        storage.delete(marker)


def _check_store(storage: Storage, marker: str) -> None:
    """Write, read and delete a small file in the store; refuse a store without the driver's file `marker`."""
    if not storage.exists(marker):  # checked first, since writing would create the folder
        raise _not_shared(storage.path("").rstrip("/"))
    name, content = f".node-test-{uuid.uuid4().hex}", b"x" * 4096
    storage.write_bytes(name, content)
    try:
        if storage.read_bytes(name) != content:
            raise IcmBenchError(f"{storage.path(name)} does not read back as written: check its disk or service.")
    finally:
        storage.delete(name)


def _check_image(reader: ImageReader, image: Mapping[str, list[Any]]) -> None:
    """Read one image of a data set."""
    if (folder := reader.local_folder) and not folder.exists():
        raise _not_shared(str(folder))
    next(iter(reader.read(image)))  # that the image is rejected is not the node's fault


def _check_file(path: str, known: str) -> None:
    """Refuse weights of a node that are missing, or whose digest is not that of the driver, `known`."""
    if not Path(path).exists():
        raise _not_shared(path)
    if digest(path) != known:
        raise IcmBenchError(f"{path} differs from that of the driver; copy it from there.")


def _not_shared(place: str) -> IcmBenchError:
    return IcmBenchError(f"{place} is missing; the nodes of a cluster need store, data and weights on shared storage.")


def _look_at_disks(free: dict[str, int], doubts: list[str]) -> None:
    """Fill `free` with the free bytes of the disks to which Ray and the cache write."""
    from ray._private import worker

    node = worker._global_node  # Ray's public API does not give this path
    session = Path(node.get_session_dir_path() if node else "/tmp/ray")
    for name, folder, variable in (("Ray", session, "RAY_TMPDIR"), ("the cache", cache_dir(), "ICM_BENCH_CACHE")):
        while not folder.exists():
            folder = folder.parent
        free[str(folder)] = shutil.disk_usage(folder).free
        if free[str(folder)] < MIN_FREE:
            doubts.append(
                f"{folder} of {name} has {free[str(folder)] / 2**20:.0f} MiB left: free some space, or set {variable} "
                f"to a folder on another disk before `ray start`."
            )


def _look_at_gpus(declared: int, gpus: list[str], doubts: list[str]) -> None:
    """Fill `gpus` with the names of the GPUs that PyTorch sees."""
    gpus += [name for name, _ in torch_gpus(LIMIT, hidden=True)]
    if len(gpus) < declared:
        doubts.append(unusable_gpus(declared, len(gpus)))
