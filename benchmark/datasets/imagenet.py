"""ImageNet and its variants: which of the 1,000 classes each has, and what they are called in words."""

import functools
import pkgutil
from collections.abc import Sequence

from benchmark.errors import IcmBenchError

# Lists that come with timm, which open_clip needs: one WordNet id a line.
_LISTS = {
    "ImageNet": "imagenet_synsets.txt",
    "ImageNetV2": "imagenet_synsets.txt",
    "ImageNet-Sketch": "imagenet_synsets.txt",
    "ImageNet-R": "imagenet_r_synsets.txt",
    "ImageNet-A": "imagenet_a_synsets.txt",
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


def wordnet_id(name: str, class_name: str, place: str) -> str:
    """Return the WordNet id of a class of the variant `name` as its copy writes it.

    Args:
        name: of the variant, in the catalog.
        class_name: a WordNet id, or the position among the variant's sorted ids, as ImageNetV2's folders are called.
        place: where the copy lies, for the message.

    Raises:
        IcmBenchError: it is not among the variant's classes.
    """
    subset = class_subset(name)
    assert subset is not None
    if class_name in subset:
        return class_name
    if class_name.isdecimal() and int(class_name) < len(subset):
        return subset[int(class_name)]
    raise IcmBenchError(
        f"'{class_name}' in {place} is none of the {len(subset)} classes of {name}, which are WordNet ids like "
        f"{subset[0]}; remove it, or give the data set a name of your own."
    )
