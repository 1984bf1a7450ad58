"""The precision `auto`: one precision for a run, decided by its store, or else by the GPUs of its encoders."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import ray

from benchmark.backbones.facts import BackboneFacts
from benchmark.backbones.spec import AUTOMATIC, precision_on
from benchmark.commands.preparing import imported_sets
from benchmark.common.errors import IcmBenchError, some
from benchmark.common.machine import gpu_devices, torch_gpus
from benchmark.common.ray.autoscaler import available_gpus
from benchmark.common.ray.cluster import alive_nodes, connect
from benchmark.common.storage.files import Storage
from benchmark.datasets.manifest import Manifest
from benchmark.recipe.recipe import Recipe
from benchmark.store.embeddings import parts


def on_gpus(recipe: Recipe) -> bool:
    """Return whether encoders run on GPUs, as far as known without a connection to Ray."""
    return recipe.run.device != "cpu" and bool(available_gpus() or recipe.run.device == "gpu")


def resolved(
    recipe: Recipe, storage: Storage, manifests: Sequence[Manifest], facts: Sequence[BackboneFacts], notes: list[str]
) -> Recipe:
    """Return the recipe without the precision `auto`; a note on GPUs says which precision is used, and why.

    If the store has embeddings of such a backbone in float32, `auto` is float32; else, if it has some in bfloat16, it
    is bfloat16. `facts` describes the backbones, those with `auto` in float32.
    """
    automatic = [of for spec, of in zip(recipe.backbones, facts, strict=True) if spec.precision == "auto"]
    precision, local = _begun(recipe, storage, manifests, automatic), recipe.run.device != "cpu" and gpu_devices()
    gpus = on_gpus(recipe) or local
    if not gpus and any(spec.precision == "tf32" for spec in recipe.backbones):
        notes.append("precision: tf32 computes as float32 on CPUs; its embeddings are stored apart from float32.")
    if not automatic:
        return recipe
    if precision:
        why = "which the store has; `precision: bfloat16` embeds again" if precision == "float32" else "as in the store"
    else:
        models = _gpus() if gpus else []
        precision, names = precision_on([major for _, major in models]), sorted({name for name, _ in models})
        why = f"by the GPUs: {some(names)}" if names else "as GPUs are unknown; bfloat16 suits recent ones"
    if gpus or precision != "float32":
        notes.append(f"precision: auto is {precision}, {why}.")
    return recipe.at_precision(precision)


def _begun(recipe: Recipe, storage: Storage, manifests: Sequence[Manifest], facts: list[BackboneFacts]) -> str | None:
    """Return the first precision in which the store has original images of the recipe under one of the backbones."""
    for precision in AUTOMATIC:
        pairs = [(m, replace(of, precision=precision, engine="torch")) for of in facts for m in manifests]
        subjects = (imported_sets.without_views(recipe, m, recipe.backbones[0], of, ()) for m, of in pairs)
        if any(parts(storage, subject.with_kinds([None]).views[0].directory) for subject in subjects):
            return precision
    return None


def _gpus() -> list[tuple[str, int]]:
    """Return name and major compute capability of the cluster's GPUs; empty if a node does not tell."""
    connect()
    nodes = [node["NodeID"] for node in alive_nodes() if node["Resources"].get("GPU")]
    task = ray.remote(num_cpus=0, max_retries=0)(torch_gpus)
    affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    answers = list[list[tuple[str, int]]]()
    with suppress(IcmBenchError, OSError, ray.exceptions.RayError):
        if os.environ.get("RAY_ADDRESS"):
            on = [task.options(scheduling_strategy=affinity(node, soft=False)) for node in nodes]
            answers = ray.get([there.remote(hidden=True) for there in on], timeout=90)
        else:
            answers = [torch_gpus() for _ in nodes]
    return [gpu for answer in answers for gpu in answer] if all(answers) else []
