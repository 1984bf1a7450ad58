"""Computes the facts of a backbone in a separate process; they are needed before images are embedded.

The process loads the backbone (or builds it in the cache) while data sets are built and Ray starts. When the process
ends, the memory of the weights is free. Its command is `python -m benchmark.backbones.describe`. It reads a
`BackboneSpec` as JSON from stdin, and writes the facts or an error message as JSON to stdout.
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
from benchmark.common.machine import machine, visible_gpus
from benchmark.common.plain import canonical_hash
from benchmark.common.storage.files import Storage
from benchmark.common.storage.places import cache_dir

if TYPE_CHECKING:
    from benchmark.backbones.loading import Backbone

_processes: dict[BackboneSpec, "subprocess.Popen[str]"] = {}


@contextmanager
def preloading(spec: BackboneSpec) -> Iterator[None]:
    """Start a process that loads a backbone, unless its facts are cached; end it after the block.

    Meanwhile the block does slow work, such as imports or the start of Ray. A call of `describe` later in the block
    then waits less.
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

    The facts of local weights are cached on disk until their files change, so that a second run loads no backbone.
    """
    if known := _cached_facts(spec):
        return known
    process = _processes.pop(spec, None) or _start(spec)
    try:
        output, _ = process.communicate()
    except KeyboardInterrupt:  # an interrupt may have reached only this process
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
        with suppress(IcmBenchError):  # without a writable cache, the next run loads the backbone again
            Storage(str(file.parent)).write_bytes(file.name, json.dumps(asdict(facts)).encode())
    return facts


def is_cached(spec: BackboneSpec) -> bool:
    """Return whether the facts of a backbone are cached, so that `describe` need not load it."""
    return _cached_facts(spec) is not None


def _start(spec: BackboneSpec) -> "subprocess.Popen[str]":
    """Start the process that loads a backbone and prints its facts."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", __name__],  # without -P the working directory shadows packages
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    process.stdin.write(spec.model_dump_json())
    process.stdin.close()
    process.stdin = None  # prevents a second close
    return process


def answer(spec: BackboneSpec) -> str:
    """Return the output of the process as JSON: facts of a backbone, or an error message.

    For the engine `auto`, the facts have the engine that is used on this machine.
    """
    try:
        return json.dumps(asdict(with_engine(spec)))
    except Exception as error:  # models may raise anything
        message = f"The backbone '{spec.label}' cannot be loaded: {in_words(error)} at {where(error)}."
        return json.dumps({"error": str(meant_for_user(error) or message)})


def with_engine(spec: BackboneSpec) -> BackboneFacts:
    """Return the facts of a backbone, with the engine that is used on this machine.

    The engine is `torch` on a GPU. It is also `torch` if OpenVINO cannot run the model, which adds a note, and for
    `auto` if OpenVINO is not installed. Otherwise, for `auto`, the speed of both engines is measured once, and the
    faster engine is cached.
    """
    from benchmark.backbones.loading import Backbone, best_device
    from benchmark.common.conversion import CONVERSION, openvino_missing

    in_torch = Backbone(spec.model_copy(update={"engine": "torch"}), device="cpu")
    facts = in_torch.facts
    _check_texts(spec, in_torch)
    if best_device() == "mps" and not in_torch.agrees_on("mps"):
        note = f"{spec.label}: it runs on the CPU, since its embeddings on this GPU (mps) are not those of the CPU."
        facts = replace(facts, notes=(*facts.notes, note))
    if spec.engine == "torch" or best_device() != "cpu" or (spec.engine == "auto" and openvino_missing()):
        return facts
    depends = [spec.engine, facts.identity(), machine(), CONVERSION]
    memory, name = Storage(str(cache_dir() / "engines")), f"fastest-{canonical_hash(depends)[:32]}.json"
    try:
        engine, note = json.loads(memory.read_bytes(name))
    except (IcmBenchError, ValueError):  # missing or damaged
        engine, note = _fastest(spec.engine, in_torch)
        with suppress(IcmBenchError):  # without a writable cache, the next run measures again
            memory.write_bytes(name, json.dumps([engine, note]).encode())
    label = spec.model_copy(update={"engine": engine}).label
    return replace(facts, engine=engine, label=label, notes=(*facts.notes, f"{spec.label}: {note}"))


def _check_texts(spec: BackboneSpec, backbone: "Backbone") -> None:
    """Embed a text, so that a missing tokenizer is detected before images are embedded."""
    if backbone.facts.texts != "any":
        return
    try:
        backbone.encode_texts(["a photo of a dog."])
    except IcmBenchError:
        raise
    except Exception as error:  # a damaged tokenizer or an unreachable hub can raise any error
        if meant := meant_for_user(error):
            raise meant from error
        raise IcmBenchError(
            f"The backbone '{spec.label}' embeds images but no texts: {in_words(error)}; check its tokenizer, "
            f"next to its weights or on the hub."
        ) from error


def _fastest(asked: str, in_torch: "Backbone") -> tuple[str, str]:
    """Return the engine for this machine and a note: the measured speeds, or why OpenVINO cannot run the model."""
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
    """Return the cache file of a backbone's facts; None if the weights have no local files, so nothing is cached."""
    from benchmark.backbones.models.open_clip_model import place_of_built  # not needed for imported embeddings

    folder = place_of_built(spec) if spec.is_built else spec.local_folder
    if folder:
        files = sorted(path for path in Path(folder).expanduser().rglob("*") if path.is_file())
    elif spec.family and spec.pretrained and Path(spec.pretrained).is_file():
        files = [Path(spec.pretrained)]
    elif spec.random_weights and spec.family:  # the code of a user-defined class may change
        files = []
    else:  # a hub may change weights under the same name
        return None
    stamps = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    key = canonical_hash([spec.model_dump(mode="json"), stamps, machine(), visible_gpus()])
    return cache_dir() / "backbones" / f"{key[:32]}.json"


def _cached_facts(spec: BackboneSpec) -> BackboneFacts | None:
    try:
        file = _cache_file(spec)
        return _facts(json.loads(file.read_text(encoding="utf-8"))) if file else None
    except (OSError, ValueError, KeyError, TypeError):  # missing or damaged
        return None


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # a normal exit removes a partly built folder
        signal.signal(number, lambda *_: sys.exit(1))
    print(answer(BackboneSpec.model_validate_json(sys.stdin.read())))
