"""Which engine runs a backbone on this machine: measured once, and remembered in the cache folder."""

import json
from dataclasses import replace

from benchmark.backbones.engines import openvino_missing, rates
from benchmark.backbones.facts import BackboneFacts
from benchmark.backbones.loading import Backbone, best_device
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.cache import cache_dir
from benchmark.common.errors import IcmBenchError
from benchmark.common.hashing import canonical_hash
from benchmark.common.machine import machine
from benchmark.common.storage import Storage


def with_engine(spec: BackboneSpec) -> BackboneFacts:
    """Return the facts of a backbone with the engine that runs it here.

    `torch` on a GPU, where OpenVINO is not installed, and where it cannot run the model, which a note says. `auto` is
    decided by measuring both.

    Args:
        spec: the backbone.

    Raises:
        IcmBenchError: the backbone cannot be loaded, see `Backbone`.
    """
    in_torch = Backbone(spec.model_copy(update={"engine": "torch"}), device="cpu")
    facts = in_torch.facts
    if spec.engine == "torch" or best_device() != "cpu" or (spec.engine == "auto" and openvino_missing()):
        return facts
    engine, note = _chosen(spec, in_torch)
    label = spec.model_copy(update={"engine": engine}).label
    return replace(facts, engine=engine, label=label, notes=(*facts.notes, f"{spec.label}: {note}"))


def _chosen(spec: BackboneSpec, in_torch: Backbone) -> tuple[str, str]:
    """Return the engine and a sentence on it, from the cache folder if they stand there."""
    depends = [spec.engine, in_torch.facts.identity(), machine()]
    memory, name = Storage(str(cache_dir() / "engines")), f"fastest-{canonical_hash(depends)[:32]}.json"
    try:
        engine, note = json.loads(memory.read_bytes(name))
    except (IcmBenchError, ValueError):  # missing or damaged
        engine, note = _measured(spec.engine, in_torch)
        memory.write_bytes(name, json.dumps([engine, note]).encode())
    return engine, note


def _measured(asked: str, in_torch: Backbone) -> tuple[str, str]:
    height, width = in_torch.preprocess["size"]
    try:
        found = rates({"torch": in_torch.embed, "openvino": in_torch.in_openvino().embed}, (height, width))
    except IcmBenchError as error:
        return "torch", str(error)
    engine = "openvino" if asked == "openvino" else max(found, key=lambda name: found[name])
    speeds = " and ".join(f"{name} {rate:.1f}" for name, rate in found.items())
    return engine, f"{engine} runs it; measured once on this machine: {speeds} images/s."
