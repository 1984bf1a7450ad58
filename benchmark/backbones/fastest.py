"""Which engine runs a backbone on this machine: measured once, and remembered in the cache folder."""

import json
from contextlib import suppress
from dataclasses import replace

from benchmark.backbones.engines import rates
from benchmark.backbones.facts import BackboneFacts
from benchmark.backbones.loading import Backbone, best_device
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.conversion import CONVERSION, openvino_missing
from benchmark.common.errors import IcmBenchError
from benchmark.common.failing import in_words, meant_for_user
from benchmark.common.hashing import canonical_hash
from benchmark.common.machine import machine
from benchmark.common.storage.cache import cache_dir
from benchmark.common.storage.files import Storage


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
    _check_texts(spec, in_torch)
    if spec.engine == "torch" or best_device() != "cpu" or (spec.engine == "auto" and openvino_missing()):
        return facts
    engine, note = _chosen(spec, in_torch)
    label = spec.model_copy(update={"engine": engine}).label
    return replace(facts, engine=engine, label=label, notes=(*facts.notes, f"{spec.label}: {note}"))


def _check_texts(spec: BackboneSpec, backbone: Backbone) -> None:
    """Embed a text, so that a tokenizer that is not there is missed now and not when all images are embedded.

    Raises:
        IcmBenchError: it cannot be embedded.
    """
    if backbone.facts.texts != "any":
        return
    try:
        backbone.encode_texts(["a photo of a dog."])
    except IcmBenchError:
        raise
    except Exception as error:  # a tokenizer that is absent or damaged, a hub that does not answer: anything is raised
        if meant := meant_for_user(error):
            raise meant from error
        raise IcmBenchError(
            f"The backbone '{spec.label}' embeds images and no texts: {in_words(error)}; see to its tokenizer, which "
            f"lies beside its weights or on the hub."
        ) from error


def _chosen(spec: BackboneSpec, in_torch: Backbone) -> tuple[str, str]:
    """Return the engine and a sentence on it, from the cache folder if they stand there."""
    depends = [spec.engine, in_torch.facts.identity(), machine(), CONVERSION]
    memory, name = Storage(str(cache_dir() / "engines")), f"fastest-{canonical_hash(depends)[:32]}.json"
    try:
        engine, note = json.loads(memory.read_bytes(name))
    except (IcmBenchError, ValueError):  # missing or damaged
        engine, note = _measured(spec.engine, in_torch)
        with suppress(IcmBenchError):  # where it cannot be kept it is measured again
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
