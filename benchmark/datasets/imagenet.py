"""ImageNet and its variants: which of the 1,000 classes each has, and what they are called in words.

All but ImageNet-C are one environment, which `imagenet_shift` fits on or tests. ImageNet-C is 75 environments with the
same images in each: a set like PACS to every protocol that holds environments out.
"""

import functools
import pkgutil
from collections.abc import Sequence

from benchmark.common.errors import IcmBenchError

# Lists that come with timm, which open_clip needs: one WordNet id a line.
_LISTS = {
    "ImageNet": "imagenet_synsets.txt",
    "ImageNetV2": "imagenet_synsets.txt",
    "ImageNet-Sketch": "imagenet_synsets.txt",
    "ImageNet-R": "imagenet_r_synsets.txt",
    "ImageNet-A": "imagenet_a_synsets.txt",
    "ImageNet-C": "imagenet_synsets.txt",
}


@functools.cache
def class_subset(name: str) -> tuple[str, ...] | None:
    """Return the WordNet ids of a variant's classes, sorted, or None where `name` is none of ImageNet's variants."""
    if name not in _LISTS:
        return None
    content = pkgutil.get_data("timm.data", f"_info/{_LISTS[name]}")
    assert content is not None
    return tuple(sorted(content.decode("ascii").split()))


def human_names(wordnet_ids: Sequence[str]) -> list[str]:
    """Return open_clip's English name of each WordNet id, the ones that zero-shot results on ImageNet use."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    every = class_subset("ImageNet")
    assert every is not None
    names = dict(zip(every, IMAGENET_CLASSNAMES, strict=True))
    return [names[wordnet_id] for wordnet_id in wordnet_ids]


def wordnet_ids(name: str, class_names: Sequence[str], place: str) -> list[str]:
    """Return the WordNet ids of the classes of a copy of the variant `name`, as the copy writes them.

    Args:
        name: name of the variant in the catalog.
        class_names: WordNet ids, or numbers: positions among the variant's sorted ids, as ImageNetV2's folders are
            called, or among those of all of ImageNet where a number is above what the variant has.
        place: folder or URI of the copy, for the message of an error.

    Raises:
        IcmBenchError: one is not among the variant's classes.
    """
    subset, every = class_subset(name), class_subset("ImageNet")
    assert subset is not None and every is not None  # noqa: PT018
    numbers = [int(class_name) for class_name in class_names if class_name.isdecimal()]
    numbered = dict(enumerate(subset if max(numbers, default=0) < len(subset) else every))
    ids = [numbered.get(int(c), c) if c.isdecimal() else c for c in class_names]
    for class_name, wordnet_id in zip(class_names, ids, strict=True):
        if wordnet_id not in subset:
            raise IcmBenchError(
                f"'{class_name}' in {place} is none of the {len(subset)} classes of {name}, which are WordNet ids like "
                f"{subset[0]}; remove it, or give the data set a name of your own."
            )
    return ids
