"""The precision `auto`: decided once for a run, by its store or its GPUs, and never seen in what the run writes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.backbones.loading import Backbone
from benchmark.backbones.spec import BackboneSpec
from benchmark.commands.planning import machines
from benchmark.commands.planning.machines import automatic_precision
from benchmark.commands.preparing import precision
from benchmark.common.errors import IcmBenchError
from benchmark.common.machine import float32_products
from benchmark.common.storage.files import Storage
from benchmark.recipe.loading import parse_recipe
from benchmark.store.rows import all_trials, read_rows
from tests.commands.conftest import Command
from tests.conftest import REPOSITORY
from tests.stand_in import FACTS
from tests.test_cli import write_recipe

SMALL = {"seeds": [0], "ranks": [16], "projections": ["identity"], "predictors": ["zero_shot"]}
T4, H100 = ("Tesla T4", 7), ("NVIDIA H100", 9)
AUTO, ON_CPUS = (
    parse_recipe({"name": "r", "datasets": ["PACS"], "backbones": ["MiniLiT"], "run": {"device": device}})
    for device in ("auto", "cpu")
)
PRECISION = "backbones.0.precision="


def gpus(monkeypatch: pytest.MonkeyPatch, *nodes: list[tuple[str, int]]) -> None:
    """Declare a GPU in each node of a local Ray; `nodes` has what PyTorch says of each."""
    answers = iter(nodes)
    there = [{"NodeID": str(i), "Resources": {"GPU": 1.0}} for i in range(len(nodes))]
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(precision, "connect", lambda: None)
    monkeypatch.setattr(precision, "available_gpus", lambda: len(nodes))
    monkeypatch.setattr(precision, "alive_nodes", lambda: [{"NodeID": "head", "Resources": {"CPU": 1.0}}, *there])
    monkeypatch.setattr(precision, "torch_gpus", lambda: next(answers))


@pytest.mark.parametrize(
    ("nodes", "run", "chosen", "says"),
    [
        ([], {}, "float32", []),
        ([[H100]], {"device": "cpu"}, "float32", []),
        ([[H100]], {}, "bfloat16", ["precision: auto is bfloat16, by the GPUs: NVIDIA H100."]),
        ([[T4]], {}, "float32", ["precision: auto is float32, by the GPUs: Tesla T4."]),
        ([[H100], [T4]], {}, "float32", ["precision: auto is float32, by the GPUs: NVIDIA H100, Tesla T4."]),
        ([[H100, T4]], {}, "float32", ["precision: auto is float32, by the GPUs: NVIDIA H100, Tesla T4."]),
        ([[H100], []], {}, "float32", ["as GPUs are unknown; bfloat16 suits recent ones."]),
        ([], {"device": "gpu"}, "float32", ["as GPUs are unknown; bfloat16 suits recent ones."]),
    ],
)
def test_all_gpus_decide_once_for_the_run(
    nodes: list[Any], run: dict[str, Any], chosen: str, says: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(monkeypatch, *nodes)
    backbones = ["MiniLiT", {"name": "ViT-B-32", "pretrained": "openai", "precision": "float16"}, "ViT-B-16"]
    recipe = parse_recipe({"name": "r", "datasets": ["PACS"], "backbones": backbones, "run": run})
    notes: list[str] = []
    resolved = precision.resolved(recipe, Storage(str(tmp_path)), (), [FACTS] * 3, notes)
    assert [spec.precision for spec in resolved.backbones] == [chosen, "float16", chosen]
    assert len(notes) == len(says)
    assert all(words in note for words, note in zip(says, notes, strict=True))
    assert (resolved.hash() == recipe.hash()) == (chosen == "float32")
    named = [b if isinstance(b, dict) else {"name": b, "precision": chosen} for b in backbones]
    assert resolved.hash() == parse_recipe({"name": "r", "datasets": ["PACS"], "backbones": named}).hash()


ON_NODES = """
import os, sys
from ray.cluster_utils import Cluster
import ray
from benchmark.commands.preparing import precision
from benchmark.common.ray.cluster import alive_nodes, connected
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
for _ in range(2):
    cluster.add_node(num_cpus=1, num_gpus=1, env_vars={"PYTHONPATH": sys.argv[1]})
os.environ["RAY_ADDRESS"] = cluster.address
with connected():
    print(precision._gpus())  # declared GPUs, and PyTorch sees none
    ids = sorted(node["NodeID"] for node in alive_nodes() if node["Resources"].get("GPU"))
    def told(hidden):  # on the nodes
        return [("H100", 9)] if ray.get_runtime_context().get_node_id() == ids[0] else [("T4", 7)]
    def broken(hidden):
        raise OSError("no driver")
    for precision.torch_gpus in (told, broken):
        print(sorted(precision._gpus()))
cluster.shutdown()
"""


def test_each_node_of_a_cluster_is_asked_for_its_gpus() -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("RAY_ADDRESS", "RAY_AUTH_MODE")}
    words = [sys.executable, "-c", ON_NODES, str(REPOSITORY)]
    run = subprocess.run(words, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert run.stdout.splitlines() == ["[]", "[('H100', 9), ('T4', 7)]", "[]"], run.stderr


@pytest.mark.usefixtures("local_ray")
def test_what_the_store_has_is_kept_and_each_precision_has_its_own_place(
    tmp_path: Path, toy_root: Path, tiny_random: dict[str, Any], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe(tmp_path, toy_root, tiny_random, sweep=SMALL)

    def embedded(*options: str) -> tuple[int, str]:
        printed = command("embed", recipe, "--json", *options)
        return sum(one["embedded"] for one in json.loads(printed.out)), printed.err

    def stored() -> list[str]:
        about = (json.loads(file.read_text()) for file in (tmp_path / "store" / "embeddings").glob("*/about.json"))
        return sorted(one["depends_on"]["backbone"]["precision"] for one in about)

    count, said = embedded()
    assert (stored(), "precision" in said) == (["float32"] * 2, False)
    assert embedded("--set", f"{PRECISION}float32")[0] == 0
    gpus(monkeypatch, [H100])
    reused, said = embedded()
    assert (reused, stored()) == (0, ["float32"] * 2)
    assert "precision: auto is float32, which the store has; `precision: bfloat16` embeds again." in said
    monkeypatch.undo()
    assert embedded("--set", f"{PRECISION}tf32")[0] == count
    assert stored() == ["float32"] * 2 + ["tf32"] * 2
    listed = {one["backbone"] for one in command.json("store", "list", "--store", tmp_path / "store")}
    assert {"tiny tf32 RANDOM WEIGHTS (seed 0)", "tiny RANDOM WEIGHTS (seed 0)"} <= listed


@pytest.mark.usefixtures("local_ray")
def test_a_run_on_recent_gpus_is_one_in_bfloat16_from_its_views_to_its_report(
    tmp_path: Path, toy_root: Path, tiny_random: dict[str, Any], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, storage = write_recipe(tmp_path, toy_root, tiny_random, sweep=SMALL), Storage(str(tmp_path / "store"))
    gpus(monkeypatch, [H100])
    said = command("run", recipe)
    assert "precision: auto is bfloat16, by the GPUs: NVIDIA H100." in said.err
    rows = read_rows(storage, all_trials(storage))
    assert set(rows["precision"]) == {"bfloat16"}
    assert set(rows["backbone"]) == {"tiny bfloat16 RANDOM WEIGHTS (seed 0)"}
    explicit = command.json("run", recipe, "--set", f"{PRECISION}bfloat16")
    monkeypatch.undo()  # without GPUs nothing is embedded or fitted again
    report = command.json("report", recipe)
    again = command("run", recipe, "--json")
    assert json.loads(again.out)["report"] == report["report"] == explicit["report"]
    assert "precision: auto is bfloat16, as in the store." in again.err
    assert len(read_rows(storage, all_trials(storage))) == len(rows)
    files = [file for file in (tmp_path / "store").rglob("*") if file.suffix in (".json", ".csv", ".md", ".parquet")]
    assert files
    assert not [file for file in files if b'"precision": "auto"' in file.read_bytes()]
    assert "holds no results" in command.refused("report", recipe, "--set", f"{PRECISION}float32")


def test_two_backbones_that_may_become_the_same_are_refused() -> None:
    backbones = ["MiniLiT", {"name": "MiniLiT", "precision": "bfloat16"}]
    with pytest.raises(IcmBenchError, match="two differ only in precision, and one has 'auto'; name its precision"):
        parse_recipe({"name": "r", "datasets": ["PACS"], "backbones": backbones})


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        *((name, "bfloat16") for name in ("l4", "H100", "RTX 4090", "rtx3090", "A10G", "GB200", "RTX A6000", "L40S")),
        *((name, "float32") for name in ("T4", "V100", "P100", "RTX 2080 Ti", "GTX 1080", "K80", "MI300X")),
    ],
)
def test_a_plan_knows_recent_gpus_by_name(name: str, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert automatic_precision(AUTO, name, None) == chosen
    nodes: list[dict[str, float]] = [{"CPU": 4, "accelerator_type:T4": 1}, {"GPU": 2, f"accelerator_type:{name}": 1}]
    monkeypatch.setattr(machines, "nodes_of", lambda _: nodes)
    assert automatic_precision(AUTO, None, "http://head:8265") == chosen
    nodes.append({"CPU": 4, "GPU": 1})  # of unknown type
    assert automatic_precision(AUTO, None, "http://head:8265") == "float32"
    assert automatic_precision(ON_CPUS, name, None) == "float32"


def test_a_plan_asks_the_gpus_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "gpu_devices", list)
    assert automatic_precision(AUTO, None, None) == "float32"
    monkeypatch.setattr(machines, "gpu_devices", lambda: ["/dev/nvidia0"])
    monkeypatch.setattr(machines, "torch_gpus", lambda: [H100])
    assert automatic_precision(AUTO, None, None) == "bfloat16"
    monkeypatch.setattr(machines, "torch_gpus", lambda: [H100, T4])
    assert automatic_precision(AUTO, None, None) == "float32"


def allowed() -> list[bool]:
    return [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32]


@pytest.mark.parametrize(("asked", "tf32"), [("float32", False), ("tf32", True)])
def test_products_on_gpus_are_ieee_or_tf32_as_asked_and_as_before_afterwards(
    asked: str, tf32: bool, tiny_random: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, before, seen = Backbone(BackboneSpec(**tiny_random, precision=asked), device="cpu"), allowed(), []

    def encoded(texts: list[str]) -> torch.Tensor:
        seen.append(allowed())
        return torch.ones(len(texts), 16)

    monkeypatch.setattr(backbone, "device", torch.device("cuda"))
    monkeypatch.setattr(backbone.encoder, "encode_texts", encoded)
    backbone.encode_texts(["a dog"])
    assert seen == [[tf32] * 2]
    assert allowed() == before
    with float32_products("cpu", tf32=True):
        assert allowed() == before


def test_tf32_computes_float32_on_a_cpu_under_an_identity_of_its_own(tiny_random: dict[str, Any]) -> None:
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    auto, single, tf32 = (
        Backbone(BackboneSpec(**tiny_random, **keys), device="cpu")
        for keys in ({}, {"precision": "float32"}, {"precision": "tf32"})
    )
    assert (tf32.encode_images(pixels) == single.encode_images(pixels)).all()
    assert auto.facts == single.facts
    assert tf32.facts.identity() == {**single.facts.identity(), "precision": "tf32", "engine": "torch"}
    assert (tf32.facts.label, single.facts.label) == (
        "tiny tf32 RANDOM WEIGHTS (seed 0)",
        "tiny RANDOM WEIGHTS (seed 0)",
    )
