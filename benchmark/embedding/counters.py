"""Counters of the embedding stage in Ray's own metrics: a dashboard shows their rates, views/s among them."""

from functools import lru_cache
from typing import Any

VIEWS = "icm_bench_views_embedded", "(image, view) pairs that were encoded."
IMAGES = "icm_bench_images_decoded", "Images that were read and decoded."
LOST = "icm_bench_views_computed_again", "Pairs encoded a second time, since an encoder was lost."


def count(what: tuple[str, str], number: int, device: str = "cpu") -> None:
    """Add to a counter of this worker; Ray sums them up.

    Args:
        what: name and description of the counter, one of those above.
        number: that is added.
        device: of the worker: kind of its GPU, `gpu` or `cpu`.
    """
    if number > 0:
        _counter(*what).inc(number, tags={"device": device})


@lru_cache
def _counter(name: str, description: str) -> Any:
    from ray.util.metrics import Counter

    return Counter(name, description=description, tag_keys=("device",))
