"""Text embeddings of class names, prompts and text pairs, computed once for each backbone and kept in the store.

A change of the computation needs a new `TEXTS_VERSION` (store/embeddings.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmark.backbones.facts import BackboneFacts
from benchmark.backbones.loading import Backbone, best_device
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

# Noise as in CLAP (Cai et al., ECCV 2024, arXiv 2311.16445): Gaussian vectors with mean 0 and this standard deviation
# replace the embeddings of placeholder tokens before and after the text, where prompt learning has context vectors.
NOISE_VECTORS, NOISE_STD = 4, 0.02
NOISE_PLACES = ((4, 0), (2, 2), (0, 4))  # (vectors before, vectors after) the text
BATCH = 256  # texts with noise that are embedded at a time


@dataclass(frozen=True)
class TextJob:
    """Texts to embed into the store.

    Attributes:
        spec: the dual encoder.
        facts: facts of the dual encoder's weights; workers must load the same weights.
        class_lists: lists of class names; each name is inserted into all `templates`.
        templates: prompt templates.
        pairs: text pairs; their embeddings are stored unnormalised. Default: none.
        prompt_lists: the prompts of each projection that uses prompts. Default: none.
    """

    spec: BackboneSpec
    facts: BackboneFacts
    class_lists: Sequence[Sequence[str]]
    templates: Sequence[str]
    pairs: Sequence[TextPair] = ()
    prompt_lists: Sequence[Sequence[Prompt]] = ()

    def missing(self, storage: Storage) -> tuple[dict[str, tuple[list[str], list[tuple[str, ...]]]], list[TextPair]]:
        """Return a dictionary of the missing files of class names and prompts, and a list of the missing pairs.

        The dictionary maps a file to two lists: names, and for each name the texts whose embeddings are averaged.
        """
        facts, templates = self.facts, self.templates
        wanted = {
            text_file(facts, names, templates): (list(names), [tuple(fill(t, n) for t in templates) for n in names])
            for names in self.class_lists
        }
        wanted |= {prompts_file(facts, p): ([x.texts[0] for x in p], [x.texts for x in p]) for p in self.prompt_lists}
        missing = {file: what for file, what in wanted.items() if not have_texts(storage, file)}
        return missing, [] if have_texts(storage, pairs_file(facts, self.pairs)) else list(self.pairs)


def begin_texts(storage: Storage, job: TextJob, device: str = "auto", after: Sequence[Any] = ()) -> list[Any]:
    """Start to embed the missing texts of a job on a worker. Call it in a block of `connected`.

    The embedding of a class is the normalised mean over templates of normalised embeddings.

    Args:
        storage: the store.
        job: the texts.
        device: `run.device` of the recipe; texts are embedded on a GPU if the cluster has some, unless it is `cpu`.
        after: the result of an earlier call; its worker ends before this one starts, since each holds a whole backbone.

    Returns:
        Ray references that are ready once the texts are in the store; empty if no text is missing. `ray.get` of them
        raises IcmBenchError if the weights have changed, or if the backbone cannot embed texts with added noise.

    Raises:
        DamagedError: a text file in the store is damaged.
    """
    if not any(job.missing(storage)):
        return []
    connect()
    on_gpu = device != "cpu" and gpu_count() > 0
    resources = {"num_gpus": 1} if on_gpu else {"num_cpus": 1}
    return [_embed_on_worker.options(**resources).remote(storage, job, on_gpu, *after)]


@remote()
def _embed_on_worker(storage: Storage, job: TextJob, on_gpu: bool, *_: None) -> None:
    missing, pairs = job.missing(storage)  # earlier jobs may have written the same texts
    if not missing and not pairs:
        return
    backbone = Backbone(job.spec, best_device(reserved=True) if on_gpu else "cpu", known=job.facts)
    for file, (names, texts) in missing.items():
        write_texts(storage, file, names, _mean_embeddings(backbone, texts))
    if pairs:
        caption = backbone.encode_texts([pair.caption for pair in pairs])
        rewrite = backbone.encode_texts([pair.rewrite for pair in pairs])
        seeds = {row: pair.noise for row, pair in enumerate(pairs) if pair.noise is not None}
        if seeds:
            noisy = encode_with_noise(backbone, [pairs[row].rewrite for row in seeds], [*seeds.values()])
            rewrite[list(seeds)] = noisy
        write_pairs(storage, pairs_file(job.facts, pairs), pairs, caption, rewrite)


def _mean_embeddings(backbone: Backbone, texts: Sequence[tuple[str, ...]]) -> NDArray[np.float32]:
    """Return the normalised mean of the normalised embeddings of each tuple of texts, shape (tuples, D)."""
    total = np.zeros((len(texts), backbone.facts.dim))
    for number in range(max(map(len, texts))):
        rows = [row for row, of_row in enumerate(texts) if len(of_row) > number]
        embeddings = backbone.encode_texts([texts[row][number] for row in rows]).astype(np.float64)
        total[rows] += embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return (total / np.linalg.norm(total, axis=1, keepdims=True)).astype(np.float32)


def encode_with_noise(backbone: Backbone, texts: Sequence[str], seeds: Sequence[int]) -> NDArray[np.float32]:
    """Return unnormalised embeddings, shape (n, D), of texts with noise vectors before and after them.

    `seeds` has one seed per text. It determines the noise vectors, and how many of them come before the text.

    Raises:
        IcmBenchError: the token embedding of the backbone is unknown, its tokenizer has no single token for the
            placeholder, or a text has no room for four more tokens.
    """
    blocks = [slice(start, start + BATCH) for start in range(0, len(texts), BATCH)]
    return np.concatenate([_block_with_noise(backbone, texts[block], seeds[block]) for block in blocks])


def _block_with_noise(backbone: Backbone, texts: Sequence[str], seeds: Sequence[int]) -> NDArray[np.float32]:
    import torch

    tokenize, table, encode = backbone.text_tower()
    draws = [np.random.default_rng(seed) for seed in seeds]
    places = [NOISE_PLACES[rng.integers(len(NOISE_PLACES))] for rng in draws]
    around = [(f"{PLACEHOLDER} " * before, f" {PLACEHOLDER}" * after) for before, after in places]
    with_room = [before + text + after for text, (before, after) in zip(texts, around, strict=True)]
    tokens = tokenize(with_room)
    columns = _placeholder_columns(tokens, tokenize([" ".join([PLACEHOLDER] * NOISE_VECTORS)])[0], places, with_room)
    rows = torch.arange(len(with_room), device=tokens.device)[:, None]

    def insert_noise(_module: object, _inputs: object, found: "torch.Tensor") -> "torch.Tensor":
        noise = np.stack([NOISE_STD * rng.standard_normal((NOISE_VECTORS, found.shape[-1])) for rng in draws])
        found = found.clone()
        found[rows, columns] = torch.from_numpy(noise).to(found)
        return found

    hook = table.register_forward_hook(insert_noise)
    try:
        with torch.no_grad():
            return np.asarray(encode(tokens).cpu().numpy(), dtype=np.float32)
    finally:
        hook.remove()


def _placeholder_columns(
    tokens: "torch.Tensor", alone: "torch.Tensor", places: Sequence[tuple[int, int]], texts: Sequence[str]
) -> "torch.Tensor":
    """Return token positions, shape (n, NOISE_VECTORS), of the placeholders before and after each text.

    Placeholders that the text itself contains are left out.
    """
    import torch

    (run,) = torch.nonzero(alone == alone[1], as_tuple=True)
    if len(run) != NOISE_VECTORS or int(run[-1] - run[0]) != NOISE_VECTORS - 1:
        raise IcmBenchError(
            f"The text tower's tokenizer has no single token for '{PLACEHOLDER}' that noise could replace; "
            f"leave 'noise' out of interventions.text.edits."
        )
    columns = []
    for of_text, (before, after), text in zip(tokens, places, texts, strict=True):
        (there,) = torch.nonzero(of_text == alone[1], as_tuple=True)
        if len(there) < NOISE_VECTORS:
            raise IcmBenchError(
                f"'{text:.60}' has more tokens than the text tower takes, which leaves no room for noise; give the "
                f"class a shorter name, or leave 'noise' out of interventions.text.edits."
            )
        columns.append(torch.cat([there[:before], there[len(there) - after :]]))
    return torch.stack(columns)
