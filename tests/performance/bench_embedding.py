"""End to end against a bare forward loop of the same model on the same threads, and against two peers.

    python -m tests.performance.bench_embedding [--images 2100] [--repeats 3] [--model ViT-B-32]

Real images, random weights (speed only). The bare loop runs the same loaded model in this process on batches that
are decoded and normalised beforehand, in the pipeline's batch size and in larger ones, and its best rate counts. Loop
and pipeline take turns. The pipeline's clock runs from the moment the encoder is ready (start-up, weights and warm-up
done) until the last part is on disk; reading, decoding, interventions and writing are in it. Peers are run where
tests/performance/peers.py finds them.
"""

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmark.backbones.loading import Backbone
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


def recipe_of(root: Path, model: str, kinds: list[str] | None) -> Recipe:
    """Return a recipe that embeds the originals alone, or with all seven interventions where `kinds` is None."""
    content = {
        "name": "speed",
        "datasets": [{"name": "copies", "root": str(root)}],
        "backbones": [{"name": model, "pretrained": "random"}],
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


def bare_rate(backbone: Backbone, batch: int, images: int) -> float:
    """Return images/s of nothing but the image tower."""
    pixels = torch.randn(batch, 3, *backbone.preprocess["size"]).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        backbone._model.encode_image(pixels)
        start = time.perf_counter()
        for _ in range(images // batch):
            backbone._model.encode_image(pixels)
    return images / (time.perf_counter() - start)


def main() -> None:
    """Print the table of ratios."""
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=2100)
    parser.add_argument("--bare-images", type=int, default=256, help="that the bare loop takes for each batch size")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="ViT-B-32")
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder, connected():
        one = recipe_of(distinct_copies(args.images, Path(folder) / "one"), args.model, [])
        eight = recipe_of(distinct_copies(args.images // 4, Path(folder) / "eight"), args.model, None)
        backbone = Backbone(one.backbones[0])
        bare: list[float] = []
        rates: dict[str, list[float]] = {peer.name: [] for peer in PEERS}
        found: dict[str, list[Speed]] = {"1 view": [], "8 views": []}
        for _ in range(args.repeats):
            for name, recipe in (("1 view", one), ("8 views", eight)):
                bare.append(max(bare_rate(backbone, batch, args.bare_images) for batch in BATCHES))
                found[name].append(pipeline(recipe))
                print(f"  {name}: bare {bare[-1]:.1f}/s; {found[name][-1].text()}", flush=True)
            for peer in PEERS if args.model == "ViT-B-32" else ():
                if peer.python:
                    done = peer.measure(Path(folder) / "one", torch.get_num_threads(), limit=PEER_IMAGES, rounds=1)
                    rates[peer.name].append(done.images_per_s)
                    print(
                        f"  {peer.name}: {done.images_per_s:.1f}/s, {done.of_bare:.3f} of its own bare loop", flush=True
                    )
        bare.append(max(bare_rate(backbone, batch, args.bare_images) for batch in BATCHES))
        print(f"{args.model} RANDOM WEIGHTS (speed only), {torch.get_num_threads()} threads, medians of {args.repeats}")
        print(f"  bare forward loop, best of batches {BATCHES}        {statistics.median(bare):8.1f} images/s  1.000")
        figures: dict[str, float] = {}
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
