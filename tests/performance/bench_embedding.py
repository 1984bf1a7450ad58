"""End to end against the fastest bare forward loop of the same model on the same threads, and against two peers.

    python -m tests.performance.bench_embedding [--images 2100] [--repeats 3] [--precisions float32 bfloat16]

Real images, random weights (speed only). The bare loop runs the same model in this process on batches that are decoded
beforehand, with each engine, in the pipeline's batch size and in larger ones, and the best rate of all counts: the
pipeline chooses its engine by itself (`engine: auto`). Loop and pipeline take turns. The pipeline's clock runs from the moment the encoder is ready (start-up, weights and warm-up
done) until the last part is on disk; reading, decoding, interventions and writing are in it. Peers are run where
tests/performance/peers.py finds them.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmark.backbones.loading import Backbone
from benchmark.backbones.spec import BackboneSpec
from benchmark.commands.prepare import prepare
from benchmark.common.cluster import connected
from benchmark.common.storage import Storage
from benchmark.embedding.pipeline import EmbedJob, embed
from benchmark.embedding.speed import Speed
from benchmark.recipe.loading import parse_recipe
from benchmark.recipe.recipe import Recipe
from tests.performance.figures import arguments, keep
from tests.performance.images import distinct_copies
from tests.performance.peers import PEERS

BATCHES = (16, 32, 64)
PEER_IMAGES = 400


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


def cosine_distance(backbone: Backbone, full: Backbone) -> float:
    """Return the largest cosine distance of embeddings of random pixels to those in float32."""
    pixels = torch.randint(0, 256, (32, 3, *full.preprocess["size"]), dtype=torch.uint8)
    pair = [torch.nn.functional.normalize(one.embed(pixels).double(), dim=1) for one in (backbone, full)]
    return float((1 - (pair[0] * pair[1]).sum(dim=1)).max())


@dataclass
class Runs:
    """Rates of one precision in the order in which they were measured: two bare loops a round, and one after the last.

    Attributes:
        bare: engine -> images/s of each bare loop.
        ours: number of views -> what the pipeline reached.
        peers: name -> images/s.
    """

    bare: list[dict[str, float]]
    ours: dict[str, list[Speed]]
    peers: dict[str, list[float]]

    def shares(self, views: str) -> list[float]:
        """Return shares of the fastest bare loops, each run beside those before and after it."""
        best, first = [max(rates.values()) for rates in self.bare], list(self.ours).index(views)
        return [
            s.end_to_end / statistics.mean(best[2 * i + first : 2 * i + first + 2])
            for i, s in enumerate(self.ours[views])
        ]


def runs(
    args: argparse.Namespace, named: dict[str, Any], images: dict[str, Path], backbones: dict[str, Backbone]
) -> Runs:
    """Return what bare loops, pipelines and peers reached in turn."""
    done = Runs([], {"1 view": [], "8 views": []}, {peer.name: [] for peer in PEERS})
    for _ in range(args.repeats):
        for name, kinds in (("1 view", []), ("8 views", None)):
            done.bare.append(bare_rates(backbones, args.bare_images))
            done.ours[name].append(pipeline(recipe_of(images[name], named, kinds)))
            print(f"  {name}: bare {max(done.bare[-1].values()):.1f}/s; {done.ours[name][-1].text()}", flush=True)
        for peer in PEERS if args.model == "ViT-B-32" else ():
            if peer.python:
                its = peer.measure(images["1 view"], torch.get_num_threads(), limit=PEER_IMAGES, rounds=1)
                done.peers[peer.name].append(its.images_per_s)
                print(f"  {peer.name}: {its.images_per_s:.1f}/s, {its.of_bare:.3f} of its own bare loop", flush=True)
    done.bare.append(bare_rates(backbones, args.bare_images))
    return done


def tell_engines(done: Runs, backbones: dict[str, Backbone], bare: float, precision: str, model: str) -> None:
    """Print the rate of each engine, and how far its numbers are from those in float32."""
    print(f"  fastest bare loop, best of batches {BATCHES}        {bare:8.1f} images/s  1.000")
    for engine, backbone in backbones.items():
        rate = statistics.median(rates[engine] for rates in done.bare)
        print(f"    with {engine:10} {rate:8.1f} images/s  {rate / bare:.3f}")
        if precision != "float32":
            full = Backbone(BackboneSpec(name=model, pretrained="random", engine="torch"))
            print(f"      cosine distance to float32 at most {cosine_distance(backbone, full):.1e}")


def tell_peers(done: Runs, bare: float) -> None:
    """Print the rate of each peer, and how many times as fast ours is."""
    ours = statistics.median(s.end_to_end for s in done.ours["1 view"])
    for peer in PEERS:
        if not done.peers[peer.name]:
            print(f"  {peer.name}: not measured; tests/performance/peers.py says how to make its environment")
            continue
        rate = statistics.median(done.peers[peer.name])
        print(f"  {peer.name:15} on {PEER_IMAGES} of these images, 1 view {rate:8.1f} images/s  {rate / bare:.3f}")
        print(f"    ours is {ours / rate:.3f} times as fast, and 0.9 of that loop {0.9 * bare / rate:.3f} times")


def measured(args: argparse.Namespace, precision: str, images: dict[str, Path]) -> dict[str, float]:
    """Run one precision, print its table and return its figures."""
    named = {"name": args.model, "pretrained": "random", "precision": precision}
    backbones = {engine: Backbone(BackboneSpec(**named, engine=engine)) for engine in ("torch", "openvino")}
    done = runs(args, named, images, backbones)
    bare = statistics.median(max(rates.values()) for rates in done.bare)
    words = f"{args.model} {precision} RANDOM WEIGHTS (speed only), {torch.get_num_threads()} threads"
    print(f"{words}, medians of {args.repeats}")
    tell_engines(done, backbones, bare, precision, args.model)
    figures: dict[str, float] = {}
    end = "" if precision == "float32" else f"_{precision}"
    for views, number in (("1 view", "one_view"), ("8 views", "eight_views")):
        share = statistics.median(done.shares(views))
        rate = statistics.median(s.end_to_end for s in done.ours[views])
        figures |= {f"of_bare_{number}{end}": share, f"{number}{end}_per_s": rate}
        print(f"  end to end, {views:7}                             {rate:8.1f} views/s   {share:.3f}")
    first = statistics.median(s.first_embedding for s in done.ours["1 view"])
    print(f"  first embedding {first:.1f} s after the stage begins")
    tell_peers(done, bare)
    return figures | {f"first_embedding{end}_s": first}


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
            "1 view": distinct_copies(args.images, Path(folder) / "one"),
            "8 views": distinct_copies(args.images // 4, Path(folder) / "eight"),
        }
        for precision in args.precisions:
            figures |= measured(args, precision, images)
    keep(args.json, figures)


if __name__ == "__main__":
    main()
