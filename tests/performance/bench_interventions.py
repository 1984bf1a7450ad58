"""What a view costs: batched, against torchvision's functional on one image at a time with the same draws.

    python -m tests.performance.bench_interventions [--repeats 9]

Both sides run in turn in one process on the same threads (two, or ICM_BENCH_THREADS). Images are smooth random pixels
(speed only); draws of parameters are counted on both sides.
"""

import os
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from benchmark.method.interventions import INTERVENTIONS, Intervention, view_rng
from tests.performance.figures import arguments, keep

SIZE, BATCHES = 224, (16, 64)


def jitter_one(image: Tensor, drawn: Sequence[float]) -> Tensor:
    """Return one image after torchvision's four steps in the drawn order."""
    steps = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
    for step in map(int, drawn[4:]):
        image = steps[step](image, float(drawn[step]))
    return image


def blur_one(image: Tensor, drawn: Sequence[float]) -> Tensor:
    """Return one image blurred by torchvision."""
    return F.gaussian_blur(image, [2 * max(1, round(3 * drawn[0])) + 1] * 2, [drawn[0]] * 2)


ONE_BY_ONE: dict[str, Callable[[Tensor, Sequence[float]], Tensor]] = {
    "color_jitter": jitter_one,
    "grayscale": lambda image, _: F.rgb_to_grayscale(image, num_output_channels=3),
    "gaussian_blur": blur_one,
    "invert": lambda image, _: F.invert(image),
    "posterize": lambda image, _: F.posterize(image, 2),
    "solarize": lambda image, _: F.solarize(image, 128),
    "equalize": lambda image, _: F.equalize(image),
}


def one_by_one(kind: Intervention, images: Tensor, ids: Sequence[str]) -> Tensor:
    """Return the views of a batch, made one after the other."""
    change = ONE_BY_ONE[kind.name]
    return torch.stack(
        [change(image, kind.draw(view_rng(0, image_id, ""))) for image, image_id in zip(images, ids, strict=True)]
    )


def milliseconds(work: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def main() -> None:
    """Print ms per image for each kind and batch size, and the ratio."""
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    figures: dict[str, float] = {}
    torch.set_num_threads(int(os.environ.get("ICM_BENCH_THREADS", "2")))
    print(f"{SIZE} px, {torch.get_num_threads()} threads, ms per image, medians of {args.repeats} interleaved repeats")
    for batch in BATCHES:
        small = torch.randint(0, 256, (batch, 3, 28, 28), generator=torch.Generator().manual_seed(0)).float()
        images = torch.nn.functional.interpolate(small, size=(SIZE, SIZE), mode="bilinear").to(torch.uint8)
        ids = [str(i) for i in range(batch)]
        print(f"\nbatch of {batch:<14} batched   one by one   one by one / batched")
        total = total_single = 0.0
        for kind in map(INTERVENTIONS.create, INTERVENTIONS.names()):
            batched, single = [], []
            for _ in range(args.repeats + 1):  # the first round warms up
                batched.append(milliseconds(lambda: kind.views(images, ids, 0)) / batch)  # noqa: B023
                single.append(milliseconds(lambda: one_by_one(kind, images, ids)) / batch)  # noqa: B023
            ours, theirs = statistics.median(batched[1:]), statistics.median(single[1:])
            total, total_single = total + ours, total_single + theirs
            print(f"  {kind.name:<20} {ours:8.3f}   {theirs:10.3f}   {theirs / ours:8.2f}")
        print(f"  {'mean of the kinds':<20} {total / len(ONE_BY_ONE):8.3f}")
        figures |= {
            f"batched_{batch}_ms": total / len(ONE_BY_ONE),
            f"one_by_one_over_batched_{batch}": total_single / total,
        }
    keep(args.json, figures)


if __name__ == "__main__":
    main()
