"""Text embeddings of classes, prompts and pairs: once per weights and texts, kept in the store."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmark.backbones.facts import BackboneFacts
from benchmark.backbones.loading import Backbone
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.errors import IcmBenchError
from benchmark.common.ray.cluster import connect, gpu_count
from benchmark.common.ray.remote import remote
from benchmark.common.storage.files import Storage
from benchmark.method.interventions.text import TextPair
from benchmark.method.predictors.base import PLACEHOLDER
from benchmark.method.prompts import Prompt, fill
from benchmark.store.embeddings import have_texts, pairs_file, prompts_file, text_file, write_pairs, write_texts

if TYPE_CHECKING:
    import torch

# Noise as CLAP inserts it (Cai et al., ECCV 2024, arXiv 2311.16445): vectors with entries of mean 0 and this standard
# deviation stand where as many words could, in the place of embeddings of tokens, as learnt context vectors do.
VECTORS, DEVIATION = 4, 0.02
PLACES = ((4, 0), (2, 2), (0, 4))  # vectors before and after the text
BATCH = 256


@dataclass(frozen=True)
class TextJob:
    """Texts whose embeddings the store is to have.

    Attributes:
        spec: which dual encoder.
        facts: what is known of it; the loaded weights must be the same.
        class_lists: lists of class names, each of which stands in all `templates`.
        templates: of prompts.
        pairs: pairs of texts, whose embeddings are kept as the backbone gives them.
        prompt_lists: the prompts of each projection that asks for some.
    """

    spec: BackboneSpec
    facts: BackboneFacts
    class_lists: Sequence[Sequence[str]]
    templates: Sequence[str]
    pairs: Sequence[TextPair] = ()
    prompt_lists: Sequence[Sequence[Prompt]] = ()

    def lacking(self, storage: Storage) -> tuple[dict[str, tuple[list[str], list[tuple[str, ...]]]], list[TextPair]]:
        """Return file -> names and texts of its embeddings, and the pairs, of what the store does not have."""
        facts, templates = self.facts, self.templates
        wanted = {
            text_file(facts, names, templates): (list(names), [tuple(fill(t, n) for t in templates) for n in names])
            for names in self.class_lists
        }
        wanted |= {prompts_file(facts, p): ([x.texts[0] for x in p], [x.texts for x in p]) for p in self.prompt_lists}
        missing = {file: what for file, what in wanted.items() if not have_texts(storage, file)}
        return missing, [] if have_texts(storage, pairs_file(facts, self.pairs)) else list(self.pairs)


def begin_texts(storage: Storage, job: TextJob, after: Sequence[Any] = ()) -> list[Any]:
    """Begin to embed what the store lacks of the texts of a job. In a block of `connected`.

    Those of a class are the mean over templates of unit-length embeddings, at unit length again. `after` is what this
    returned for others, whose worker is to end before, since each holds a whole backbone.

    Returns:
        References of Ray's that are there once the texts are; none where the store lacks nothing. Getting them raises
        IcmBenchError if the weights are not those of the job any more, or texts with noise cannot be embedded.

    Raises:
        DamagedError: a file of them is there, and not what was written.
    """
    if not any(job.lacking(storage)):
        return []
    connect()
    resources = {"num_gpus": 1} if gpu_count() else {"num_cpus": 1}
    return [_embed_on_worker.options(**resources).remote(storage, job, *after)]


@remote()
def _embed_on_worker(storage: Storage, job: TextJob, *_: None) -> None:
    missing, pairs = job.lacking(storage)  # by now: other jobs, for which Ray waits, may have had the same texts
    if not missing and not pairs:
        return
    backbone = Backbone(job.spec, known=job.facts)
    for file, (names, texts) in missing.items():
        write_texts(storage, file, names, _means(backbone, texts))
    if pairs:
        caption = backbone.encode_texts([pair.caption for pair in pairs])
        rewrite = backbone.encode_texts([pair.rewrite for pair in pairs])
        seeds = {row: pair.noise for row, pair in enumerate(pairs) if pair.noise is not None}
        if seeds:
            noisy = encode_with_noise(backbone, [pairs[row].rewrite for row in seeds], [*seeds.values()])
            rewrite[list(seeds)] = noisy
        write_pairs(storage, pairs_file(job.facts, pairs), pairs, caption, rewrite)


def _means(backbone: Backbone, texts: Sequence[tuple[str, ...]]) -> NDArray[np.float32]:
    """Return for each tuple of texts the mean of their unit-length embeddings at unit length, shape (tuples, D)."""
    total = np.zeros((len(texts), backbone.facts.dim))
    for number in range(max(map(len, texts))):
        rows = [row for row, of_row in enumerate(texts) if len(of_row) > number]
        embeddings = backbone.encode_texts([texts[row][number] for row in rows]).astype(np.float64)
        total[rows] += embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return (total / np.linalg.norm(total, axis=1, keepdims=True)).astype(np.float32)


def encode_with_noise(backbone: Backbone, texts: Sequence[str], seeds: Sequence[int]) -> NDArray[np.float32]:
    """Return raw (not normalised) embeddings of texts with noise, drawn and placed by the seed of each, shape (n, D).

    Raises:
        IcmBenchError: the backbone's table of tokens is not known, its tokenizer has no single token as placeholder, or
            a text leaves no room for four more.
    """
    blocks = [slice(start, start + BATCH) for start in range(0, len(texts), BATCH)]
    return np.concatenate([_block_with_noise(backbone, texts[block], seeds[block]) for block in blocks])


def _block_with_noise(backbone: Backbone, texts: Sequence[str], seeds: Sequence[int]) -> NDArray[np.float32]:
    import torch

    tokenize, table, encode = backbone.text_tower()
    draws = [np.random.default_rng(seed) for seed in seeds]
    places = [PLACES[rng.integers(len(PLACES))] for rng in draws]
    around = [(f"{PLACEHOLDER} " * before, f" {PLACEHOLDER}" * after) for before, after in places]
    with_room = [before + text + after for text, (before, after) in zip(texts, around, strict=True)]
    tokens = tokenize(with_room)
    columns = _columns(tokens, tokenize([" ".join([PLACEHOLDER] * VECTORS)])[0], places, with_room)
    rows = torch.arange(len(with_room), device=tokens.device)[:, None]

    def put(_module: object, _inputs: object, found: "torch.Tensor") -> "torch.Tensor":
        noise = np.stack([DEVIATION * rng.standard_normal((VECTORS, found.shape[-1])) for rng in draws])
        found = found.clone()
        found[rows, columns] = torch.from_numpy(noise).to(found)
        return found

    hook = table.register_forward_hook(put)
    try:
        with torch.no_grad():
            return np.asarray(encode(tokens).cpu().numpy(), dtype=np.float32)
    finally:
        hook.remove()


def _columns(
    tokens: "torch.Tensor", alone: "torch.Tensor", places: Sequence[tuple[int, int]], texts: Sequence[str]
) -> "torch.Tensor":
    """Return where the placeholders stand, shape (n, VECTORS): the first and the last ones, if the text has more."""
    import torch

    (run,) = torch.nonzero(alone == alone[1], as_tuple=True)
    if len(run) != VECTORS or int(run[-1] - run[0]) != VECTORS - 1:
        raise IcmBenchError(
            f"The text tower's tokenizer has no single token for '{PLACEHOLDER}', in whose place noise could stand; "
            f"leave 'noise' out of interventions.text.edits."
        )
    columns = []
    for of_text, (before, after), text in zip(tokens, places, texts, strict=True):
        (there,) = torch.nonzero(of_text == alone[1], as_tuple=True)
        if len(there) < VECTORS:
            raise IcmBenchError(
                f"'{text:.60}' has more tokens than the text tower takes, and noise has no place in it; give the class "
                f"a shorter name, or leave 'noise' out of interventions.text.edits."
            )
        columns.append(torch.cat([there[:before], there[len(there) - after :]]))
    return torch.stack(columns)
