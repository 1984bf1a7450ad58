"""What one more setting costs on stored embeddings, against embedding its views again, as the released code does.

    python -m tests.performance.bench_setting

Both sides run in turn in one process on the same threads. Images are random pixels (speed only); the encoder is the
demo's MiniLiT with its real weights; embeddings are random arrays of PACS's size.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmark.backbones import Backbone
from benchmark.evaluation.embedded import Embedded
from benchmark.evaluation.held_out import HeldOut
from benchmark.predictors.zero_shot import ZeroShot
from benchmark.recipe import BackboneSpec
from benchmark.subspace.invariant import ICM

IMAGES, DIM, CLASSES, ENVIRONMENTS, KINDS = 9991, 512, 7, 4, 7
SAMPLE = 64  # images really encoded; the rest is extrapolated from their rate
REPEATS = 3


def random_embeddings() -> Embedded:
    """Random embeddings of PACS's size with one view for each kind."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((IMAGES, DIM), dtype=np.float32)
    return Embedded(
        z=z,
        views={f"kind{k}": z + rng.standard_normal((IMAGES, DIM), dtype=np.float32) for k in range(KINDS)},
        image_ids=[str(i) for i in range(IMAGES)],
        environment=np.arange(IMAGES) % ENVIRONMENTS,
        label=rng.integers(CLASSES, size=IMAGES),
        out={0: rng.random(IMAGES) < 0.2},
        text=rng.standard_normal((CLASSES, DIM), dtype=np.float32),
        environments=[f"environment{e}" for e in range(ENVIRONMENTS)],
        classes=[f"class{c}" for c in range(CLASSES)],
        grouped=False,
    )


def seconds(work: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Print the table of ratios."""
    data, backbone = random_embeddings(), Backbone(BackboneSpec(name="MiniLiT", image_size=160))
    pixels = torch.randint(0, 256, (16, 3, 160, 160), dtype=torch.uint8)
    moments, setting, encode = [], [], []
    for _ in range(REPEATS + 1):  # the first round warms up
        start = time.perf_counter()
        protocol = HeldOut(data, 0, list(data.views.values()), "none")
        moments.append(time.perf_counter() - start)
        setting.append(
            seconds(lambda: list(protocol.curves(lambda m: ICM().fit(m, 1.0, 0), ZeroShot(), (64, 256, 512), ["full"])))  # noqa: B023
        )
        encode.append(seconds(lambda: [backbone.encode_images(pixels) for _ in range(SAMPLE // 16)]))
    moments_s, setting_s = statistics.median(moments[1:]), statistics.median(setting[1:])
    embed_s = statistics.median(encode[1:]) * IMAGES * 2 / SAMPLE  # originals and one view drawn for each image
    print(
        f"{IMAGES} images, D = {DIM}, {ENVIRONMENTS} held-out environments and their lodo folds, medians of {REPEATS}"
    )
    print(f"  embed originals and one view again   {embed_s:8.1f} s   1.0000")
    print(f"  moments of all {KINDS} kinds, once        {moments_s:8.2f} s   {moments_s / embed_s:.4f}")
    print(f"  one lambda, all held-out, 3 ranks    {setting_s:8.2f} s   {setting_s / embed_s:.4f}")
    print(f"  one more setting is {embed_s / setting_s:.0f} times cheaper than embedding again")


if __name__ == "__main__":
    main()
