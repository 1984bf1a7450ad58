"""End to end against the fastest bare forward loop of the same model on the same threads.

    python -m tests.performance.bench_embedding [--images 2100] [--repeats 3] [--precisions float32 bfloat16]

Real images, random weights (speed only). The bare loop runs the same model in this process on batches that are decoded
beforehand, with each engine, in the pipeline's batch size and in larger ones, and the best rate of all counts: the
pipeline chooses its engine by itself (`engine: auto`). Loop and pipeline take turns. The pipeline's clock runs from the
moment the encoder is ready (start-up, weights and warm-up done) until the last part is on disk; reading, decoding,
interventions and writing are in it.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmark.backbones.loading import Backbone
from benchmark.backbones.spec import BackboneSpec
from benchmark.commands.preparing.prepare import prepare
from benchmark.common.ray.cluster import connected
from benchmark.common.storage.files import Storage
from benchmark.embedding.pipeline import EmbedJob, embed
from benchmark.embedding.speed import Speed
from benchmark.recipe.loading import parse_recipe
from benchmark.recipe.recipe import Recipe
from tests.performance.figures import arguments, keep
from tests.performance.images import distinct_copies

BATCHES = (16, 32, 64)


def recipe_of(root: Path, backbone: dict[str, Any], kinds: list[str] | None) -> Recipe:
    """Return a recipe that embeds the originals alone, or with all seven interventions where `kinds` is None."""
    content = {
        "name": "speed",
        "datasets": [{"name": "copies", "root": str(root)}],
        "backbones": [backbone],
        "sweep": {"projections": ["identity"]},
    }
    return parse_recipe(content if kinds is None else {**content, "interventions": {"kinds": kinds}})


def pipeline(recipe: Recipe) -> Speed:
    """Embed everything into a fresh store and return the figures."""
    place = tempfile.mkdtemp()
    try:
        storage = Storage(place)
        (subject,) = prepare(recipe, storage, lambda _: None, held_out=False).subjects
        job = EmbedJob(storage, subject.manifest, subject.backbone, subject.facts, subject.views, subject.decoding)
        report = embed(job, recipe.run)
        assert report.speed
        assert report.embedded == subject.manifest.table.num_rows * len(subject.views)
        return report.speed
    finally:
        shutil.rmtree(place)


def bare_rates(backbones: dict[str, Backbone], images: int) -> dict[str, float]:
    """Return engine -> images/s of nothing but the image tower, in the best of BATCHES."""
    found: dict[str, float] = {}
    for batch in BATCHES:
        for engine, backbone in backbones.items():
            pixels = torch.randint(0, 256, (batch, 3, *backbone.preprocess["size"]), dtype=torch.uint8)
            backbone.embed(pixels)
            start = time.perf_counter()
            for _ in range(images // batch):
                backbone.embed(pixels)
            found[engine] = max(found.get(engine, 0.0), images // batch * batch / (time.perf_counter() - start))
    return found


def measured(args: argparse.Namespace, precision: str, images: dict[str, Path]) -> dict[str, float]:
    """Run one precision, each pipeline between two bare loops, print its table and return its figures."""
    named = {"name": args.model, "pretrained": "random", "precision": precision}
    backbones = {engine: Backbone(BackboneSpec(**named, engine=engine)) for engine in ("torch", "openvino")}
    bare = [bare_rates(backbones, args.bare_images)]
    speeds: dict[str, list[Speed]] = {"one_view": [], "eight_views": []}
    shares: dict[str, list[float]] = {"one_view": [], "eight_views": []}
    for _ in range(args.repeats):
        for views, kinds in (("one_view", []), ("eight_views", None)):
            speeds[views].append(pipeline(recipe_of(images[views], named, kinds)))
            bare.append(bare_rates(backbones, args.bare_images))
            beside = statistics.mean(max(rates.values()) for rates in bare[-2:])
            shares[views].append(speeds[views][-1].end_to_end / beside)
            print(f"  {views}: bare {beside:.1f}/s; {speeds[views][-1].text()}", flush=True)
    print(f"{args.model} {precision} RANDOM WEIGHTS (speed only), {torch.get_num_threads()} threads, medians")
    for engine in backbones:
        rate = statistics.median(rates[engine] for rates in bare)
        print(f"  bare loop with {engine:10} {rate:8.1f} images/s, best of batches {BATCHES}")
    end = "" if precision == "float32" else f"_{precision}"
    first = statistics.median(s.first_embedding for s in speeds["one_view"])
    figures = {f"first_embedding{end}_s": first}
    for views, of_views in speeds.items():
        share, rate = statistics.median(shares[views]), statistics.median(s.end_to_end for s in of_views)
        figures |= {f"of_bare_{views}{end}": share, f"{views}{end}_per_s": rate}
        print(f"  end to end, {views:11} {rate:8.1f} views/s, {share:.3f} of the fastest bare loops beside it")
    print(f"  first embedding {first:.1f} s after the stage begins")
    return figures


def main() -> None:
    """Print the table of ratios for each precision."""
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=2100)
    parser.add_argument("--bare-images", type=int, default=256, help="that the bare loop takes for each batch size")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, connected():
        images = {
            "one_view": distinct_copies(args.images, Path(folder) / "one"),
            "eight_views": distinct_copies(args.images // 4, Path(folder) / "eight"),
        }
        for precision in args.precisions:
            figures |= measured(args, precision, images)
    keep(args.json, figures)


if __name__ == "__main__":
    main()
