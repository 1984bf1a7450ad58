"""Text embeddings of the classes: once per weights, classes and templates, kept in the store."""

from collections.abc import Sequence

import numpy as np
import ray

from benchmark.backbones.facts import BackboneFacts
from benchmark.backbones.loading import Backbone
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.cluster import gpu_count
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage import Storage
from benchmark.method.interventions.text import TextPair
from benchmark.store.texts import have_texts, pairs_file, text_file, write_pairs, write_texts


def prompts(classes: Sequence[str], template: str) -> list[str]:
    """Return the prompt of every class, with spaces for underscores as in the released code."""
    return [template.replace("{}", name.replace("_", " ")) for name in classes]


def embed_texts(
    storage: Storage,
    spec: BackboneSpec,
    facts: BackboneFacts,
    class_lists: Sequence[Sequence[str]],
    templates: Sequence[str],
    pairs: Sequence[TextPair] = (),
) -> None:
    """Make sure that the store has the text embeddings of each list of classes. Needs a connection to Ray.

    They are the mean over templates of unit-length embeddings, at unit length again, computed once per weights,
    classes and templates. Those of `pairs` are kept as the backbone gives them.

    Raises:
        DamagedError: a file of them is there, and not what was written.
        IcmBenchError: the weights are not those of `facts` any more.
    """
    missing = [c for c in class_lists if not have_texts(storage, text_file(facts, c, templates))]
    if have_texts(storage, pairs_file(facts, pairs)):
        pairs = ()
    if missing or pairs:
        resources = {"num_gpus": 1} if gpu_count() else {"num_cpus": 1}
        ray.get(_embed_on_worker.options(**resources).remote(storage, spec, facts, missing, templates, pairs))


@ray.remote(max_retries=0)
def _embed_on_worker(
    storage: Storage,
    spec: BackboneSpec,
    facts: BackboneFacts,
    lists: Sequence[Sequence[str]],
    templates: Sequence[str],
    pairs: Sequence[TextPair],
) -> None:
    backbone = Backbone(spec)
    if backbone.facts.fingerprint != facts.fingerprint:
        raise IcmBenchError(f"The weights of '{facts.label}' changed during the run; run again.")
    for classes in lists:
        _embed(storage, text_file(facts, classes, templates), backbone, classes, templates)
    if pairs:
        caption, rewrite = (
            backbone.encode_texts([getattr(pair, name) for pair in pairs]) for name in ("caption", "rewrite")
        )
        write_pairs(storage, pairs_file(facts, pairs), pairs, caption, rewrite)


def _embed(storage: Storage, name: str, backbone: Backbone, classes: Sequence[str], templates: Sequence[str]) -> None:
    total = np.zeros((len(classes), backbone.facts.dim))
    for template in templates:
        embeddings = backbone.encode_texts(prompts(classes, template)).astype(np.float64)
        total += embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    texts = (total / np.linalg.norm(total, axis=1, keepdims=True)).astype(np.float32)
    write_texts(storage, name, classes, texts)
