"""Text embeddings of classes, prompts and pairs: once per weights and texts, kept in the store."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.backbones.facts import BackboneFacts
from benchmark.backbones.loading import Backbone
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.ray.cluster import connect, gpu_count
from benchmark.common.ray.remote import remote
from benchmark.common.storage.files import Storage
from benchmark.embedding.noise import encode_with_noise
from benchmark.method.interventions.text import TextPair
from benchmark.method.prompts import Prompt, filled
from benchmark.store.texts import have_texts, pairs_file, prompts_file, text_file, write_pairs, write_texts


@dataclass(frozen=True)
class _Wanted:
    """A file of text embeddings that is to be there.

    Attributes:
        file: its name inside the store.
        names: what each embedding is of.
        texts: for each embedding the texts whose unit-length embeddings are averaged.
    """

    file: str
    names: list[str]
    texts: list[tuple[str, ...]]


def begin_texts(
    storage: Storage,
    spec: BackboneSpec,
    facts: BackboneFacts,
    class_lists: Sequence[Sequence[str]],
    templates: Sequence[str],
    pairs: Sequence[TextPair] = (),
    prompt_lists: Sequence[Sequence[Prompt]] = (),
    after: Sequence[Any] = (),
) -> list[Any]:
    """Begin to embed what the store lacks of the texts of each list of classes. In a block of `connected`.

    They are the mean over templates of unit-length embeddings, at unit length again, computed once per weights,
    classes and templates. Those of `pairs` are kept as the backbone gives them.

    Args:
        storage: where they go.
        spec: which dual encoder.
        facts: what is known of it.
        class_lists: lists of class names.
        templates: of the prompts of these.
        pairs: pairs of texts; by default none.
        prompt_lists: for each projection that asks for some its prompts; by default none.
        after: what this returned for others, whose worker is to end before: each holds a whole backbone. By default
            none.

    Returns:
        References of Ray's that are there once the texts are; none where the store lacks nothing. Getting them raises
        IcmBenchError if the weights are not those of `facts` any more, or texts with noise cannot be embedded.

    Raises:
        DamagedError: a file of them is there, and not what was written.
    """
    wanted = [
        *(
            _Wanted(text_file(facts, c, templates), list(c), [tuple(filled(t, n) for t in templates) for n in c])
            for c in class_lists
        ),
        *(_Wanted(prompts_file(facts, p), [x.texts[0] for x in p], [x.texts for x in p]) for p in prompt_lists),
    ]
    missing, pairs = _lacking(storage, facts, wanted, pairs)
    if not missing and not pairs:
        return []
    connect()
    resources = {"num_gpus": 1} if gpu_count() else {"num_cpus": 1}
    return [_embed_on_worker.options(**resources).remote(storage, spec, facts, missing, pairs, *after)]


def _lacking(
    storage: Storage, facts: BackboneFacts, wanted: Sequence[_Wanted], pairs: Sequence[TextPair]
) -> tuple[list[_Wanted], Sequence[TextPair]]:
    """Return the files and the pairs that the store does not have."""
    missing = [file for file in wanted if not have_texts(storage, file.file)]
    return missing, () if have_texts(storage, pairs_file(facts, pairs)) else pairs


@remote()
def _embed_on_worker(
    storage: Storage,
    spec: BackboneSpec,
    facts: BackboneFacts,
    missing: Sequence[_Wanted],
    pairs: Sequence[TextPair],
    *_: None,  # others, for which Ray waits
) -> None:
    # Others, before which these were asked for, may have been of the same texts.
    missing, pairs = _lacking(storage, facts, missing, pairs)
    if not missing and not pairs:
        return
    backbone = Backbone(spec, known=facts)
    for file in missing:
        write_texts(storage, file.file, file.names, _means(backbone, file.texts))
    if pairs:
        caption = backbone.encode_texts([pair.caption for pair in pairs])
        write_pairs(storage, pairs_file(facts, pairs), pairs, caption, _rewrites(backbone, pairs))


def _means(backbone: Backbone, texts: Sequence[tuple[str, ...]]) -> NDArray[np.float32]:
    """Return for each tuple of texts the mean of their unit-length embeddings at unit length, shape (tuples, D)."""
    total = np.zeros((len(texts), backbone.facts.dim))
    for number in range(max(map(len, texts))):
        rows = [row for row, of_row in enumerate(texts) if len(of_row) > number]
        embeddings = backbone.encode_texts([texts[row][number] for row in rows]).astype(np.float64)
        total[rows] += embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return (total / np.linalg.norm(total, axis=1, keepdims=True)).astype(np.float32)


def _rewrites(backbone: Backbone, pairs: Sequence[TextPair]) -> NDArray[np.float32]:
    """Return the embeddings of the rewrites, with noise where a pair has some, shape (pairs, D)."""
    rewrites = backbone.encode_texts([pair.rewrite for pair in pairs])
    seeds = {row: pair.noise for row, pair in enumerate(pairs) if pair.noise is not None}
    if seeds:
        rewrites[list(seeds)] = encode_with_noise(backbone, [pairs[row].rewrite for row in seeds], [*seeds.values()])
    return rewrites
