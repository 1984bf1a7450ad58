"""Text-based interventions (CLIP-ICM, arXiv 2405.15289): pairs of a caption and a rewrite with the same object.

A pair gives the interventional difference d = f_T(caption) - f_T(rewrite), with f_T the text encoder. Pairs come from a
file (such as captions rewritten by a language model), from templates, or from prompt edits. Templates and prompt edits
need neither a language model nor an image. `benchmark/commands/preparing/text_pairs.py` calls this module. The recipe
field `edits` in `benchmark/recipe/specs.py` explains each `Edit`.

Prompt edits follow CLAP (Cai et al., ECCV 2024, arXiv 2311.16445). A pair is a prompt and its edited version.

    "a sketch of a large red dog"  ->  "a large dog in a cartoon style"

A prompt names the type of an image, the object's size, its colour and the class. Words and edits come from the authors'
code. `size`, `colour` and `type` delete that word, `type_swap` replaces the type, `order` puts the object first, and
`noise` inserts Gaussian noise among the tokens. Their code gives each edit its own probability (for VLCS 1/2 for size,
colour and order, 0 for the type) and always adds noise. Here all compatible sets of the requested edits are equally
likely, and a deleted type leaves no stray words.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations, product
from math import prod
from typing import Literal

import numpy as np

from benchmark.method.interventions.base import view_rng

Edit = Literal["size", "colour", "type", "type_swap", "order", "noise"]
STYLES = (
    "photo", "pencil sketch", "oil painting", "watercolor", "cartoon", "ink drawing", "charcoal drawing",
    "comic book panel", "woodcut print", "mosaic", "3D rendering", "embroidery",
)  # fmt: skip
BACKGROUNDS = (
    "on grass", "on a beach", "in a city street", "in a forest", "in the snow", "in a desert", "in a kitchen",
    "in an empty room", "on a wooden table", "on a rocky hill", "on a gravel road", "by a lake", "under a bridge",
    "against a white wall",
)  # fmt: skip
LIGHTS = (
    "at night", "at dawn", "at dusk", "in bright sunlight", "in moonlight", "in candlelight", "in thick fog",
    "in the shade", "under an overcast sky", "under neon lights", "under a single spotlight",
)  # fmt: skip
TYPES = ("painting", "sketch", "cartoon", "clipart", "photograph", "infograph", "mosaic art", "sculpture")
SIZES = ("large", "normal sized", "small")
COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "black", "white", "brown", "multicolored")
_APART = ({"type", "type_swap"}, {"type", "order"})  # incompatible edits: no type is left to swap or move
_PROMPTS = tuple(product(TYPES, SIZES, COLOURS))
# Exceptions to the first letter: "a unicorn", "a ukulele", "a one-way sign"; "an hour", "an heirloom".
_CONSONANT_SOUND = (
    "eu", "ewe", "once", "one", "ufo", "uk", "uni", "uri", "usa", "usb", "use", "usu", "uten", "utility",
)  # fmt: skip
_VOWEL_SOUND = ("8", "heir", "hono", "hour", "oner", "unim", "unin")  # the last three are exceptions to the list above
_SPELLED_WITH_VOWEL = "aefhilmnorsx"  # letters whose names begin with a vowel: "an x-ray", "an LCD"


@dataclass(frozen=True)
class TextPair:
    """A caption and a rewrite of it.

    Attributes:
        caption: a description of a real or possible image.
        rewrite: a description of the same object in another style, background or light.
        class_name: class of the object in the data set; None (default) if unknown.
        image_id: id of the image that the caption describes; None (default) if there is none.
        noise: seed of the noise among the tokens of the rewrite; None (default): no noise.
    """

    caption: str
    rewrite: str
    class_name: str | None = None
    image_id: str | None = None
    noise: int | None = None


KEYS = [field.name for field in fields(TextPair) if field.name != "noise"]  # keys of a pair in a file
REQUIRED_KEYS = ("caption", "rewrite")


def template_pairs(
    classes: Sequence[str],
    styles: Sequence[str] = STYLES,
    backgrounds: Sequence[str] = BACKGROUNDS,
    lights: Sequence[str] = LIGHTS,
    per_class: int = 32,
    seed: int = 0,
) -> list[TextPair]:
    """Return pairs such as "a photo of a dog on grass at dawn" -> "a pencil sketch of a dog by a lake at night".

    The object stays; style, background and light all change. A list with one entry fixes that factor, to isolate the
    effect of the others. No pair occurs twice. No pair occurs reversed either, since its difference -d would add the
    same d d^T again. The pairs of a class depend only on its name, the lists and the seed.

    Args:
        classes: names of the classes; underscores are read as spaces.
        styles: nouns without an article, which fill "a ... of a CLASS". Default: `STYLES`.
        backgrounds: places with their preposition, such as "on grass"; "" is no background. Default: `BACKGROUNDS`.
        lights: lights with their preposition, such as "at dawn"; "" is no light. Default: `LIGHTS`.
        per_class: number of pairs of each class, >= 1, default 32.
        seed: seed of all draws, default 0.

    Returns:
        The pairs, class by class in the order of `classes`.

    Raises:
        ValueError: a list is empty, a class occurs twice, or fewer pairs exist than requested.
    """
    factors = [list(dict.fromkeys(factor)) for factor in (styles, backgrounds, lights)]
    if not all(factors):
        raise ValueError("Templates need at least one style, one background and one light.")
    if not all(style.strip() for style in styles):
        raise ValueError("A style is a noun and cannot be empty.")
    names = readable(classes)
    changes = [len(factor) * (len(factor) - 1) or 1 for factor in factors]
    exist = prod(changes) // 2  # a pair and its reverse count once
    if not 1 <= per_class <= exist:
        raise ValueError(f"per_class={per_class} is not between 1 and {exist}, the pairs that these lists can form.")
    pairs = []
    for class_name, name in zip(classes, names, strict=True):
        rng = view_rng(seed, name, "text_pairs")
        numbers = rng.choice(exist, size=per_class, replace=False)
        # A draw decides which of the two is the caption: with a fixed order of styles, the mean of d would not be near
        # zero.
        for number, turn in zip(numbers, rng.integers(2, size=per_class), strict=True):
            first, second = (_sentence(name, choice) for choice in _choices(int(number), factors))
            pairs.append(TextPair(*((second, first) if turn else (first, second)), class_name))
    return pairs


def _choices(number: int, factors: list[list[str]]) -> tuple[list[str], list[str]]:
    """Return two lists for pair number `number`: the values of all factors in its first and in its second text.

    For the first factor with several values, pairs of values are numbered as unordered pairs i < j; for the other
    factors, as ordered pairs i != j. So the numbers from 0 up give every pair once and none reversed.
    """
    first, second, ordered = [], [], False
    for factor in factors:
        n = len(factor)
        if n == 1:
            i = j = 0
        elif not ordered:
            number, index = divmod(number, n * (n - 1) // 2)
            i, j = (int(axis[index]) for axis in np.triu_indices(n, k=1))
            ordered = True
        else:
            number, index = divmod(number, n * (n - 1))
            i, j = divmod(index, n - 1)
            j += j >= i
        first.append(factor[i])
        second.append(factor[j])
    return first, second


def _sentence(name: str, choice: list[str]) -> str:
    style, background, light = choice
    return " ".join(part for part in (with_article(style), "of", with_article(name), background, light) if part)


def edited_pairs(classes: Sequence[str], edits: Sequence[Edit], per_class: int = 32, seed: int = 0) -> list[TextPair]:
    """Return pairs of a prompt and its edited version. Either of the two may be the caption.

    No pair occurs twice or reversed. The pairs of a class depend only on its name, the edits and the seed.

    Args:
        classes: names of the classes; underscores are read as spaces.
        edits: one or more edits. Each pair applies one compatible set of them.
        per_class: number of pairs of each class, >= 1, default 32.
        seed: seed of all draws, default 0.

    Returns:
        The pairs, class by class in the order of `classes`.

    Raises:
        ValueError: there is no edit, a class occurs twice, or fewer pairs exist than requested.

    Example:
        >>> from benchmark.method.interventions.text import edited_pairs
        >>> (pair,) = edited_pairs(["dog"], ["order"], per_class=1)
        >>> pair.rewrite, pair.caption
        ('a sculpture of a large multicolored dog', 'a large multicolored dog in a sculpture style')
    """
    if not edits:
        raise ValueError("Prompts need one edit or more.")
    sets = [frozenset(of) for size in range(1, len(edits) + 1) for of in combinations(sorted(set(edits)), size)]
    together = [of for of in sets if not any(apart <= of for apart in _APART)]  # compatible sets
    pairs: list[TextPair] = []
    for class_name, name in zip(classes, readable(classes), strict=True):
        rng = view_rng(seed, name, f"prompt_edits {' '.join(sorted(edits))}")
        drawn: dict[frozenset[str], TextPair] = {}
        for number in rng.permutation(len(_PROMPTS) * len(together)):
            prompt, made = _PROMPTS[number % len(_PROMPTS)], together[number // len(_PROMPTS)]
            plain, edited = _prompt(name, prompt, frozenset(), rng), _prompt(name, prompt, made, rng)
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


def _prompt(name: str, prompt: tuple[str, str, str], made: frozenset[Edit], rng: np.random.Generator) -> str:
    kind, size, colour = prompt
    if "type_swap" in made:
        kind = str(rng.choice([other for other in TYPES if other != kind]))
    kept = [word for edit, word in (("size", size), ("colour", colour)) if edit not in made]
    thing = with_article(" ".join([*kept, name]))
    if "type" in made:
        return thing
    return f"{thing} in {with_article(kind)} style" if "order" in made else f"{with_article(kind)} of {thing}"


def readable(classes: Sequence[str]) -> list[str]:
    """Return class names with spaces instead of underscores. ValueError: a name is empty or occurs twice."""
    names = [" ".join(name.replace("_", " ").split()) for name in classes]
    if twice := [name for name, times in Counter(names).items() if times > 1 or not name]:
        raise ValueError(f"Class names must be unique and not empty; '{twice[0]}' is empty or a duplicate.")
    return names


def with_article(noun: str) -> str:
    """Return a noun with `a` or `an`, chosen by its spelling; a noun with an article is unchanged."""
    if noun.lower().startswith(("the ", "a ", "an ")):
        return noun
    word = (noun.replace("-", " ").split() or [noun])[0]
    lower = word.lower()
    if (len(word) == 1 and word.isalpha()) or (word.isupper() and not set(lower) & set("aeiouy")):
        vowel = lower[0] in _SPELLED_WITH_VOWEL  # spelled letter by letter
    else:
        vowel = (lower[0] in "aeiou" and not lower.startswith(_CONSONANT_SOUND)) or lower.startswith(_VOWEL_SOUND)
    return f"{'an' if vowel else 'a'} {noun}"


def pairs_digest(pairs: Sequence[TextPair]) -> str:
    """Return the SHA-256 of the pairs, with all fields and in the given order, as hexadecimal digits."""
    plain = [{k: v for k, v in asdict(pair).items() if k in KEYS or v is not None} for pair in pairs]
    content = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()
