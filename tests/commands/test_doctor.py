"""A cluster whose nodes are not alike: each fault is a sentence with the node's name; the other nodes are told."""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.commands.cluster import doctor
from benchmark.commands.cluster.doctor import (
    Checked,
    Needs,
    NodeAnswer,
    check_nodes,
    digest,
    marked,
    probe,
    versions,
    within,
)
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.datasets.manifest import read_manifest
from benchmark.datasets.spec import DatasetSpec
from tests.commands.conftest import Command
from tests.conftest import REPOSITORY, make_toy

CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
others = [cluster.add_node(wait=False, num_cpus=1, env_vars={"PYTHONPATH": path}) for path in sys.argv[1:]]
cluster.wait_for_nodes()
print(cluster.address, *(n.node_id[:6] for n in others),
      *(n.all_processes["raylet"][0].process.pid for n in others), flush=True)
sys.stdin.read()
cluster.shutdown()
"""
# What Python imports at its start: this node has no such package, wherever the driver says that it is.
WITHOUT = """
import sys
class Lacks:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "benchmark":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Lacks())
"""

# The command, with time for a node of a busy machine to start its first worker.
PATIENT = """
import sys
from benchmark.cli import main
from benchmark.commands.cluster import doctor
doctor.TIMEOUT = 90.0
sys.exit(main())
"""


@pytest.fixture
def unlike(tmp_path: Path) -> Iterator[list[str]]:
    """A head, a node with another open_clip, one without this package, one like the head: address, ids, raylets' pids."""
    old, without = tmp_path / "old" / "open_clip_torch-9.9.9.dist-info", tmp_path / "without"
    old.mkdir(parents=True)
    without.mkdir()
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: open_clip_torch\nVersion: 9.9.9\n")
    (without / "sitecustomize.py").write_text(WITHOUT)
    paths = [f"{old.parent}{os.pathsep}{REPOSITORY}", str(without), str(REPOSITORY)]
    with (tmp_path / "cluster.log").open("w") as log:
        words, pipe = [sys.executable, "-c", CLUSTER, *paths], subprocess.PIPE
        process = subprocess.Popen(words, cwd=REPOSITORY, stdin=pipe, stdout=pipe, stderr=log, text=True)
        assert process.stdout
        said = process.stdout.readline()
        assert said, (tmp_path / "cluster.log").read_text()
        yield said.split()
        process.communicate("")


@pytest.mark.long("a node without the package ends the check instead of being named")
def test_each_fault_of_a_cluster_is_a_sentence_that_names_the_node(
    unlike: list[str], tiny_random: dict[str, Any], tmp_path: Path
) -> None:
    address, old, without, dead, *pids = unlike
    toy = {"name": "toy", "root": str(make_toy(tmp_path / "toy"))}
    recipe = {"name": "d", "datasets": [toy], "backbones": [tiny_random], "run": {"store": str(tmp_path / "store")}}
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    os.kill(int(pids[-1]), signal.SIGKILL)
    done = subprocess.run(
        [sys.executable, "-c", PATIENT, "doctor", str(tmp_path / "r.yaml"), "--address", address, "--json"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    checked = json.loads(done.stdout)
    by_node = {node: [said for said in checked["problems"] if f"({node})" in said] for node in (old, without, dead)}
    (of_old,), (of_without,), of_dead = by_node.values()
    here, clip = versions()["icm-bench"], versions()["open_clip_torch"]
    assert f"open_clip_torch is 9.9.9 here and {clip} on the driver; install open_clip_torch=={clip}" in of_old
    assert f"icm-bench is not installed; install version {here}" in of_without
    assert of_dead == []
    [note] = checked["notes"]
    assert f"({dead}) has just died" in note
    answered = {node["name"].rpartition("(")[2].rstrip(")"): bool(node["answer"]) for node in checked["nodes"]}
    assert [answered[node] for node in (old, without, dead)] == [True, False, False]
    assert sum(answered.values()) == 2
    assert list((tmp_path / "store").iterdir()) == []


def test_a_person_sees_a_table_of_the_nodes_that_answered() -> None:
    answered = NodeAnswer({"torch": "2.9"}, ("L4", "L4"), {"/tmp": 5 * 2**30}, (), ())
    checked = doctor.Checked((doctor.Node("a", 4, 2, answered), doctor.Node("b", 4, 0, None)), (), (), ())
    _, line = checked.text().splitlines()
    assert line.split() == ["a", "4", "2", "x", "L4", "-", "2.9", "5"]


def needs_of(tmp_path: Path) -> Needs:
    """Return what a run of a small data set needs, with a store and weights."""
    manifest = read_manifest(DatasetSpec(name="toy", root=str(make_toy(tmp_path / "toy"))))
    weights = tmp_path / "weights.bin"
    weights.write_bytes(bytes(100))
    image = manifest.table.slice(0, 1).to_pydict()
    return Needs(Storage(str(tmp_path / "store")), "marker", (("toy", manifest.reader, image),),
                 {str(weights): digest(str(weights))})  # fmt: skip


def test_a_node_that_has_everything_says_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    needs = needs_of(tmp_path)
    with marked(needs.storage) as marker:
        answer = probe(replace(needs, marker=marker), 0)
    assert (answer.problems, answer.doubts) == ((), ())
    assert answer.versions == versions()
    assert min(answer.free_bytes.values()) > 0
    assert list((tmp_path / "store").iterdir()) == []


def test_what_a_node_does_not_have_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = needs_of(tmp_path)  # nobody has written the marker
    weights, toy = tmp_path / "weights.bin", tmp_path / "toy"
    weights.write_bytes(bytes(99) + b"1")
    toy.rename(tmp_path / "elsewhere")
    monkeypatch.setattr(doctor, "MIN_FREE", 2**80)
    answer = probe(needs, 0)
    said = [f"{weights} differs", f"{toy} is missing;", f"{tmp_path / 'store'} is missing;"]
    assert [problem.startswith(words) for problem, words in zip(answer.problems, said, strict=True)] == [True] * 3
    assert not (tmp_path / "store").exists()  # looking for it makes none
    assert ["MiB left: free some space" in doubt for doubt in answer.doubts] == [True] * 2


def test_gpus_that_are_declared_and_not_there_are_a_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LIMIT", 90.0)  # PyTorch takes long to load on a busy machine
    answer = probe(Needs(), 99)
    assert answer.doubts[-1].startswith(f"Ray declares 99 GPUs and PyTorch {torch.__version__} (")
    assert f") sees {len(answer.gpus)}, with " in answer.doubts[-1]


def test_what_hangs_is_named_and_the_rest_is_told() -> None:
    def raises() -> None:
        raise PermissionError(13, "Permission denied")

    began = time.monotonic()
    said = within(0.2, {"the store s3://x": lambda: time.sleep(5), "y": raises, "z": lambda: None})
    assert time.monotonic() - began < 4
    hangs, denied = said
    assert hangs.startswith("the store s3://x has not answered within 0 s")
    assert denied == "y cannot be used (Permission denied)."


def test_a_digest_tells_weights_apart_by_name_size_and_both_ends(tmp_path: Path) -> None:
    file = tmp_path / "f" / "w.bin"
    file.parent.mkdir()
    known = set()
    for content in (b"", b"a" * 10, b"a" * 11, b"b" + b"a" * (3 * 2**20), b"a" * (3 * 2**20) + b"b"):
        file.write_bytes(content)
        known.add(digest(str(tmp_path / "f")))
    file.rename(file.with_name("v.bin"))
    known.add(digest(str(tmp_path / "f")))
    assert len(known) == 6


def test_a_run_stops_at_a_problem_notes_a_doubt_and_asks_one_machine_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def node(name: str) -> dict[str, Any]:
        return {"NodeManagerHostname": name, "NodeID": name, "Resources": {"CPU": 1.0}, "Alive": True}

    known = NodeAnswer(versions(), (), {}, (), ())
    answers: list[Any] = [replace(known, doubts=("slow.",)), replace(known, problems=("no x.", "no y."))]
    monkeypatch.setattr(doctor, "_probe_all", lambda *_: answers)
    said: list[str] = []
    monkeypatch.setattr(doctor, "alive_nodes", lambda: [node("a")])
    check_nodes(None, (), (), said.append)
    assert said == []
    monkeypatch.setattr(doctor, "alive_nodes", lambda: [node("a"), node("b")])
    with pytest.raises(IcmBenchError, match=r"^The node b: no x\. \(`icm-bench doctor` lists 1 more\.\)$"):
        check_nodes(None, (), (), said.append)
    assert said[1:] == ["note: The node a: slow."]
    answers[1] = None  # not in time
    check_nodes(None, (), (), said.append)
    assert said[-1].startswith("note: The node b has not answered within 12 s")
    answers[:] = [ConnectionRefusedError()] * 2
    with pytest.raises(IcmBenchError, match=r"^No node of the cluster is left: "):
        check_nodes(None, (), (), said.append)
    assert said[-1] == "note: The node b has just died, and is ignored (ConnectionRefusedError)."


def test_a_report_has_versions_and_hardware_and_nothing_private(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, host, secret = tmp_path / "planted-user", "planted-host", "planted-secret-1234"
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "nvidia-smi").write_text(f"#!/bin/sh\necho '555.42.06\n555.42.06\nfailed on {host}'\n")
    (tools / "nvidia-smi").chmod(0o755)
    for name, value in {"HOME": home, "USER": home.name, "LOGNAME": home.name, "HOSTNAME": host, "HF_TOKEN": secret,
                        "OMP_NUM_THREADS": "2,1", "MKL_NUM_THREADS": secret,
                        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}.items():  # fmt: skip
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("ICM_BENCH_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(platform, "release", lambda: f"6.1.0-{home.name}@{host}")
    monkeypatch.setattr(platform, "node", lambda: host)
    said = command.json("doctor", "--report")
    assert said["icm-bench"] == version("icm-bench")
    assert said["python"].split()[0] == ".".join(map(str, sys.version_info[:3]))
    assert said["cores"] == os.cpu_count()
    assert {name: said["packages"][name] for name in ("ray", "torch", "open_clip_torch", "numpy", "pyarrow")} == {
        name: version(name) for name in ("ray", "torch", "open_clip_torch", "numpy", "pyarrow")
    }
    assert said["gpu_driver"] == "555.42.06"
    assert said["threads"]["OMP_NUM_THREADS"] == "2,1"
    assert said["threads"]["MKL_NUM_THREADS"] == "not a number"
    assert ", kernel 6.1.0, " in said["system"]
    assert said["cache"].startswith("writable, ")
    assert not home.exists()
    text = command("doctor", "--report").out
    assert [line.partition(":")[0] for line in text.splitlines()] == [name.replace("_", " ") for name in said]
    for private in (home.name, host, secret, str(tmp_path)):
        assert private not in text + json.dumps(said)


def test_a_report_tells_a_cache_that_cannot_be_written_and_pytorch_that_does_not_load(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> list[tuple[str, int]]:
        raise IcmBenchError(f"PyTorch does not load ({tmp_path}/libtorch.so is damaged).")

    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("ICM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("benchmark.commands.cluster.machine_report.torch_gpus", fails)
    said = command.json("doctor", "--report")
    assert said["cache"] == "not writable (Not a directory)"
    assert said["gpus"] == ["PyTorch does not load"]
    assert "leave out RECIPE" in command.refused("doctor", "demo", "--report")


@pytest.mark.usefixtures("local_ray")
def test_a_cluster_whose_head_has_no_agent_is_a_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    table: list[bytes | None] = [None]
    monkeypatch.setattr("ray.experimental.internal_kv._internal_kv_get", lambda *_, **__: table[0])
    monkeypatch.setattr(doctor, "AGENT_SECONDS", 0.0)
    sound = Checked((), (), ("slow.",), ())
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert doctor._with_agent(sound) == sound  # a Ray of this command alone takes no jobs
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    first, added = doctor._with_agent(sound).doubts
    assert first == "slow."
    for words in ("the port 52365", "dashboard_agent.log", "--dashboard-agent-listen-port=N"):
        assert words in added
    table[0] = b'["127.0.0.1", 52365, 1]'
    assert doctor._with_agent(sound) == sound
