"""Pairs of texts by the prompt edits of CLAP (Cai et al., ECCV 2024, arXiv 2311.16445): a prompt, and it edited.

    "a sketch of a large red dog"  ->  "a large dog in a cartoon style"

A prompt names the type of an image, the object's size, its colour and the class. Words and edits are those of the
authors' code: `size` and `colour` delete that word, `type` the type of the image, `type_swap` puts another type in its
place, `order` says the object first, `noise` inserts Gaussian noise among the tokens. There each edit has a probability
of its own (for VLCS 1/2 for size, colour and order, 0 for the type) and noise comes always; here every set of edits
that can be made together, of those asked for, is as likely as any other, and a deleted type leaves no stray words.
"""

from collections.abc import Sequence
from itertools import combinations, product

import numpy as np

from benchmark.method.interventions.base import view_rng
from benchmark.method.interventions.text import Edit, TextPair, readable, with_article

TYPES = ("painting", "sketch", "cartoon", "clipart", "photograph", "infograph", "mosaic art", "sculpture")
SIZES = ("large", "normal sized", "small")
COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "black", "white", "brown", "multicolored")
_APART = ({"type", "type_swap"}, {"type", "order"})  # a type that is deleted can be neither swapped nor said last
_PROMPTS = tuple(product(TYPES, SIZES, COLOURS))


def edited_pairs(classes: Sequence[str], edits: Sequence[Edit], per_class: int = 32, seed: int = 0) -> list[TextPair]:
    """Return pairs of a prompt and the same prompt edited, either of the two as the caption.

    No pair comes twice, not even turned round. The pairs of a class depend on its name, the edits and the seed, not on
    the other classes.

    Args:
        classes: names of the classes; underscores are read as spaces.
        edits: which edits are made, one or more; a pair has any of the sets of them that can be made together.
        per_class: number of pairs of each class, >= 1, default 32.
        seed: seed of all draws, default 0.

    Returns:
        The pairs of the first class, then those of the second, and so on.

    Raises:
        ValueError: no edit, a class that comes twice, or fewer pairs exist than are asked for.

    Example:
        >>> from benchmark.method.interventions.prompt_edits import edited_pairs
        >>> (pair,) = edited_pairs(["dog"], ["order"], per_class=1)
        >>> pair.rewrite, pair.caption
        ('a sculpture of a large multicolored dog', 'a large multicolored dog in a sculpture style')
    """
    if not edits:
        raise ValueError("Prompts need one edit or more.")
    sets = [frozenset(of) for size in range(1, len(edits) + 1) for of in combinations(sorted(set(edits)), size)]
    together = [of for of in sets if not any(apart <= of for apart in _APART)]  # that can be made together
    pairs: list[TextPair] = []
    for class_name, name in zip(classes, readable(classes), strict=True):
        rng = view_rng(seed, name, f"prompt_edits {' '.join(sorted(edits))}")
        drawn: dict[frozenset[str], TextPair] = {}
        for number in rng.permutation(len(_PROMPTS) * len(together)):
            prompt, made = _PROMPTS[number % len(_PROMPTS)], together[number // len(_PROMPTS)]
            plain, edited = _sentence(name, prompt, frozenset(), rng), _sentence(name, prompt, made, rng)
            noise = int(rng.integers(2**31)) if "noise" in made else None
            key = frozenset((plain, edited, "with noise" if "noise" in made else ""))
            first, second = (edited, plain) if rng.integers(2) else (plain, edited)
            drawn.setdefault(key, TextPair(first, second, class_name, noise=noise))
            if len(drawn) == per_class:
                break
        else:
            known = f"{len(drawn)}, the pairs that these edits can form"
            raise ValueError(f"per_class={per_class} is not between 1 and {known}.")
        pairs += drawn.values()
    return pairs


def _sentence(name: str, prompt: tuple[str, str, str], made: frozenset[Edit], rng: np.random.Generator) -> str:
    kind, size, colour = prompt
    if "type_swap" in made:
        kind = str(rng.choice([other for other in TYPES if other != kind]))
    kept = [word for edit, word in (("size", size), ("colour", colour)) if edit not in made]
    thing = with_article(" ".join([*kept, name]))
    if "type" in made:
        return thing
    return f"{thing} in {with_article(kind)} style" if "order" in made else f"{with_article(kind)} of {thing}"
