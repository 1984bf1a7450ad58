"""What must be known of a backbone before images are embedded: its facts, and the text embeddings of the classes."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from benchmark.backbones import Backbone, BackboneFacts
from benchmark.cluster import gpu_count
from benchmark.recipe import BackboneSpec, canonical_hash
from benchmark.storage import Storage


def prompts(classes: Sequence[str], template: str) -> list[str]:
    """Return the prompt of every class, with spaces for underscores as in the released code."""
    return [template.replace("{}", name.replace("_", " ")) for name in classes]


def describe(
    storage: Storage, spec: BackboneSpec, class_lists: Sequence[Sequence[str]], templates: Sequence[str]
) -> tuple[BackboneFacts, list[NDArray[np.float32]]]:
    """Load a backbone on a worker; return its facts and the text embeddings of each list of classes.

    Text embeddings, shape (classes, D), are the mean over templates of unit-length embeddings, at unit length again;
    they are computed once per weights, classes and templates and kept in the store. Needs a connection to Ray.
    """
    resources = {"num_gpus": 1} if gpu_count() else {"num_cpus": 1}
    answer: tuple[BackboneFacts, list[NDArray[np.float32]]] = ray.get(
        _describe.options(**resources).remote(storage, spec, class_lists, templates)
    )
    return answer


@ray.remote(max_retries=0)
def _describe(
    storage: Storage, spec: BackboneSpec, class_lists: Sequence[Sequence[str]], templates: Sequence[str]
) -> tuple[BackboneFacts, list[NDArray[np.float32]]]:
    backbone = Backbone(spec)
    return backbone.facts, [_texts(storage, backbone, classes, templates) for classes in class_lists]


def _texts(
    storage: Storage, backbone: Backbone, classes: Sequence[str], templates: Sequence[str]
) -> NDArray[np.float32]:
    key = canonical_hash([backbone.facts.identity(), list(classes), list(templates)])
    name = f"texts/{key[:32]}.parquet"
    if storage.exists(name):
        return np.array(storage.read_table(name)["embedding"].to_pylist(), dtype=np.float32)
    total = np.zeros((len(classes), backbone.facts.dim))
    for template in templates:
        embeddings = backbone.encode_texts(prompts(classes, template)).astype(np.float64)
        total += embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    texts = (total / np.linalg.norm(total, axis=1, keepdims=True)).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(texts.ravel()), texts.shape[1])
    storage.write_table(name, pa.table({"class_name": pa.array(list(classes)), "embedding": column}))
    return texts
