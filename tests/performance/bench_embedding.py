"""End to end against the fastest bare forward loop of the same model on the same threads, and against two peers.

    python -m tests.performance.bench_embedding [--images 2100] [--repeats 3] [--model ViT-B-32] [--precision bfloat16]

Real images, random weights (speed only). The bare loop runs the same model in this process on batches that are decoded
beforehand, with each engine, in the pipeline's batch size and in larger ones, and the best rate of all counts: the
pipeline chooses its engine by itself (`engine: auto`). Loop and pipeline take turns. The pipeline's clock runs from the moment the encoder is ready (start-up, weights and warm-up
done) until the last part is on disk; reading, decoding, interventions and writing are in it. Peers are run where
tests/performance/peers.py finds them.
"""

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


def main() -> None:
    """Print the table of ratios."""
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=2100)
    parser.add_argument("--bare-images", type=int, default=256, help="that the bare loop takes for each batch size")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--precision", default="float32")
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder, connected():
        named = {"name": args.model, "pretrained": "random", "precision": args.precision}
        one = recipe_of(distinct_copies(args.images, Path(folder) / "one"), named, [])
        eight = recipe_of(distinct_copies(args.images // 4, Path(folder) / "eight"), named, None)
        backbones = {engine: Backbone(BackboneSpec(**named, engine=engine)) for engine in ("torch", "openvino")}
        of_engines: list[dict[str, float]] = []
        bare: list[float] = []

        def run_bare() -> None:
            of_engines.append(bare_rates(backbones, args.bare_images))
            bare.append(max(of_engines[-1].values()))

        rates: dict[str, list[float]] = {peer.name: [] for peer in PEERS}
        found: dict[str, list[Speed]] = {"1 view": [], "8 views": []}
        for _ in range(args.repeats):
            for name, recipe in (("1 view", one), ("8 views", eight)):
                run_bare()
                found[name].append(pipeline(recipe))
                print(f"  {name}: bare {bare[-1]:.1f}/s; {found[name][-1].text()}", flush=True)
            for peer in PEERS if args.model == "ViT-B-32" else ():
                if peer.python:
                    done = peer.measure(Path(folder) / "one", torch.get_num_threads(), limit=PEER_IMAGES, rounds=1)
                    rates[peer.name].append(done.images_per_s)
                    print(
                        f"  {peer.name}: {done.images_per_s:.1f}/s, {done.of_bare:.3f} of its own bare loop", flush=True
                    )
        run_bare()
        words = f"{args.model} {args.precision} RANDOM WEIGHTS (speed only), {torch.get_num_threads()} threads"
        print(f"{words}, medians of {args.repeats}")
        print(f"  fastest bare loop, best of batches {BATCHES}        {statistics.median(bare):8.1f} images/s  1.000")
        figures: dict[str, float] = {}
        for engine, backbone in backbones.items():
            rate = statistics.median(rates_of[engine] for rates_of in of_engines)
            print(f"    with {engine:10} {rate:8.1f} images/s  {rate / statistics.median(bare):.3f}")
            if args.precision != "float32":
                full = Backbone(BackboneSpec(name=args.model, pretrained="random", engine="torch"))
                print(f"      cosine distance to float32 at most {cosine_distance(backbone, full):.1e}")
        for position, (name, speeds) in enumerate(found.items()):
            # each run beside the loops before and after it
            shares = [
                s.end_to_end / statistics.mean(bare[2 * i + position : 2 * i + position + 2])
                for i, s in enumerate(speeds)
            ]
            rate = statistics.median(s.end_to_end for s in speeds)
            number = "one_view" if name == "1 view" else "eight_views"
            figures |= {f"of_bare_{number}": statistics.median(shares), f"{number}_per_s": rate}
            print(
                f"  end to end, {name:7}                             {rate:8.1f} views/s   {statistics.median(shares):.3f}"
            )
        first = statistics.median(s.first_embedding for s in found["1 view"])
        print(f"  first embedding {first:.1f} s after the stage begins")
        keep(args.json, figures | {"first_embedding_s": first})
        ours = statistics.median(s.end_to_end for s in found["1 view"])
        for peer in PEERS:
            if values := rates[peer.name]:
                rate = statistics.median(values)
                print(
                    f"  {peer.name:15} on {PEER_IMAGES} of these images, 1 view {rate:8.1f} images/s  {rate / statistics.median(bare):.3f}"
                )
                print(f"    ours is {ours / rate:.3f} times as fast")
            else:
                print(f"  {peer.name}: not measured; tests/performance/peers.py says how to make its environment")


if __name__ == "__main__":
    main()
