"""The facts of a backbone, which must be known before images are embedded, from a process that ends when it knows them.

A process of its own, so that it can load (or build, in the cache) while data sets are drawn and Ray starts, and that no
worker keeps the weights in memory afterwards.
`python -m benchmark.backbones.describe` is that process: a backbone as JSON comes in, its facts or a sentence go out.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.backbones.facts import BackboneFacts
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.code import environment
from benchmark.common.errors import IcmBenchError
from benchmark.common.failing import in_words, meant_for_user, where
from benchmark.common.machine import gpus_in_sight, machine
from benchmark.common.plain import canonical_hash
from benchmark.common.storage.files import Storage
from benchmark.common.storage.places import cache_dir

if TYPE_CHECKING:
    from benchmark.backbones.loading import Backbone

_processes: dict[BackboneSpec, "subprocess.Popen[str]"] = {}


@contextmanager
def preloading(spec: BackboneSpec) -> Iterator[None]:
    """Start to load a backbone of which the facts are not remembered, so that `describe` waits for less.

    A context for whoever imports what takes seconds, or waits for Ray, before it comes to `describe`.
    """
    if not is_cached(spec):
        _processes[spec] = _start(spec)
    try:
        yield
    finally:
        if process := _processes.pop(spec, None):
            process.terminate()
            process.wait()


def describe(spec: BackboneSpec) -> BackboneFacts:
    """Return the facts of a backbone.

    They are remembered in the cache folder while the files of the weights do not change: a second run loads
    no backbone for them.
    """
    if known := _cached_facts(spec):
        return known
    process = _processes.pop(spec, None) or _start(spec)
    try:
        output, _ = process.communicate()
    except KeyboardInterrupt:  # an interrupt may have reached this process alone: it ends its child
        process.terminate()
        process.wait()
        raise
    try:
        content: dict[str, Any] = json.loads(output.splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise IcmBenchError(
            f"The backbone '{spec.label}' cannot be loaded: the process ended with code {process.returncode}, "
            f"perhaps because memory ran out."
        ) from error
    if sentence := content.get("error"):
        raise IcmBenchError(sentence)
    facts = _facts(content)
    if file := _cache_file(spec):
        with suppress(IcmBenchError):  # a cache that cannot be written costs time and nothing else
            Storage(str(file.parent)).write_bytes(file.name, json.dumps(asdict(facts)).encode())
    return facts


def is_cached(spec: BackboneSpec) -> bool:
    """Say whether `describe` would answer at once, and load no backbone."""
    return _cached_facts(spec) is not None


def _start(spec: BackboneSpec) -> "subprocess.Popen[str]":
    """Start the process that loads a backbone and prints its facts."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", __name__],  # without -P the working directory hides packages
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    process.stdin.write(spec.model_dump_json())
    process.stdin.close()
    process.stdin = None  # so that nobody closes it again
    return process


def answer(spec: BackboneSpec) -> str:
    """Return what the process says of a backbone: its facts, or the sentence why it cannot be loaded, as JSON.

    The engine among them is the one that runs it here: `auto` is decided.
    """
    try:
        return json.dumps(asdict(with_engine(spec)))
    except Exception as error:  # of a model of anybody's
        said = f"The backbone '{spec.label}' cannot be loaded: {in_words(error)} at {where(error)}."
        return json.dumps({"error": str(meant_for_user(error) or said)})


def with_engine(spec: BackboneSpec) -> BackboneFacts:
    """Return the facts of a backbone with the engine that runs it here.

    `torch` on a GPU, where OpenVINO is not installed, and where it cannot run the model, which a note says. `auto` is
    decided by measuring both, and the answer is remembered in the cache folder.
    """
    from benchmark.backbones.loading import Backbone, best_device
    from benchmark.common.conversion import CONVERSION, openvino_missing

    in_torch = Backbone(spec.model_copy(update={"engine": "torch"}), device="cpu")
    facts = in_torch.facts
    _check_texts(spec, in_torch)
    if spec.engine == "torch" or best_device() != "cpu" or (spec.engine == "auto" and openvino_missing()):
        return facts
    depends = [spec.engine, facts.identity(), machine(), CONVERSION]
    memory, name = Storage(str(cache_dir() / "engines")), f"fastest-{canonical_hash(depends)[:32]}.json"
    try:
        engine, note = json.loads(memory.read_bytes(name))
    except (IcmBenchError, ValueError):  # missing or damaged
        engine, note = _fastest(spec.engine, in_torch)
        with suppress(IcmBenchError):  # where it cannot be kept it is measured again
            memory.write_bytes(name, json.dumps([engine, note]).encode())
    label = spec.model_copy(update={"engine": engine}).label
    return replace(facts, engine=engine, label=label, notes=(*facts.notes, f"{spec.label}: {note}"))


def _check_texts(spec: BackboneSpec, backbone: "Backbone") -> None:
    """Embed a text, so that a tokenizer that is not there is missed now and not when all images are embedded."""
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


def _fastest(asked: str, in_torch: "Backbone") -> tuple[str, str]:
    """Return the engine to use (the requested one, or the faster of the two) and a sentence that says why."""
    from benchmark.backbones.engines import throughputs

    height, width = in_torch.preprocess["size"]
    try:
        found = throughputs({"torch": in_torch.embed, "openvino": in_torch.in_openvino().embed}, (height, width))
    except IcmBenchError as error:
        return "torch", str(error)
    engine = "openvino" if asked == "openvino" else max(found, key=lambda name: found[name])
    speeds = " and ".join(f"{name} {rate:.1f}" for name, rate in found.items())
    return engine, f"{engine} runs it; measured once on this machine: {speeds} images/s."


def _facts(content: dict[str, Any]) -> BackboneFacts:
    return BackboneFacts(**{**content, "notes": tuple(content["notes"])})


def _cache_file(spec: BackboneSpec) -> Path | None:
    """Return the file that remembers a backbone's facts; None for weights of which no file can be watched."""
    from benchmark.backbones.models.open_clip_model import place_of_built  # imported embeddings need no model's module

    folder = place_of_built(spec) if spec.is_built else spec.local_folder
    if folder:
        files = sorted(path for path in Path(folder).expanduser().rglob("*") if path.is_file())
    elif spec.family and spec.pretrained and Path(spec.pretrained).is_file():
        files = [Path(spec.pretrained)]
    elif spec.random_weights and spec.family:  # the code of a user-defined class may change
        files = []
    else:  # a hub may give other weights under the same name
        return None
    stamps = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    key = canonical_hash([spec.model_dump(mode="json"), stamps, machine(), gpus_in_sight()])
    return cache_dir() / "backbones" / f"{key[:32]}.json"


def _cached_facts(spec: BackboneSpec) -> BackboneFacts | None:
    try:
        file = _cache_file(spec)
        return _facts(json.loads(file.read_text(encoding="utf-8"))) if file else None
    except (OSError, ValueError, KeyError, TypeError):  # missing or damaged
        return None


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # a folder that is being built is not left behind
        signal.signal(number, lambda *_: sys.exit(1))
    print(answer(BackboneSpec.model_validate_json(sys.stdin.read())))
