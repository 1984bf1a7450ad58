"""The board of made-up answers, from packed answers to the page. ALL ANSWERS ARE MADE UP, and marked so on the page.

    python -m tests.performance.bench_board [--encoders 200] [--sets 5] [--methods 5] [--images 500] [--seeds 1]

The yardstick is NumPy's own product of one matrix of answers with itself, for each data set and the mean over sets: what
the pairs cost at least. The command is timed as a process of its own, imports included. Ends with an error where the page
has more than 2 MB.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmark.results.packed import Entry, GroupKey, Groups, Images, write_packed
from tests.conftest import REPOSITORY
from tests.performance.figures import arguments, keep

MAX_BYTES = 2_000_000
SETS = ("PACS", "VLCS", "OfficeHome", "TerraIncognita", "DomainNet")
SHARES = np.array([0.4, 0.3, 0.2, 0.1])  # of the images in each environment
METHODS = (  # label, predictor, gain over plain, share of encoders for which the rule keeps plain
    ("Plain", "zero-shot", 0.0, 0.0),
    ("Shrinkage", "zero-shot", 0.02, 0.3),
    ("CLIP-ICM", "zero-shot", 0.01, 0.5),
    ("Plain", "linear probe", 0.06, 0.0),
    ("Shrinkage", "linear probe", 0.05, 0.2),
)
FAMILIES = ("ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-H-14", "RN50", "convnext_base_w", "ViT-SO400M-14-SigLIP-384")
WEIGHTS = ("openai", "laion400m_e32", "laion2b_s34b_b79k", "datacomp_xl_s13b_b90k", "metaclip_400m", "webli")


def images_of(number: int, seeds: int, rng: np.random.Generator, groups: int = 0) -> Images:
    """Return images of four environments of unequal size, all tested under each seed; `groups`: number of groups."""
    ends = (number * SHARES.cumsum()).round().astype(int)
    held_out = np.array(["art", "cartoon", "photo", "sketch"])[np.searchsorted(ends, np.arange(number), side="right")]
    sample = np.array([f"{name}/{k:05}.jpg" for k, name in enumerate(held_out)])
    unit = np.array([f"group {k}" for k in rng.integers(0, groups, number)]) if groups else sample
    label = np.array([f"class {k}" for k in rng.integers(0, 7, number)])
    sample, held_out, unit, label = (np.tile(of_all, seeds) for of_all in (sample, held_out, unit, label))
    return Images(sample, held_out, unit, label, np.repeat(np.arange(seeds), number), np.full(number * seeds, "all"))


def made_up(
    encoders: int, sets: int, methods: int, images: int, seeds: int = 1, groups: int = 0, bounds: int = 0
) -> Groups:
    """Return made-up answers. Encoders differ in ability and images in difficulty; some methods keep plain prediction.

    Args:
        encoders: number of encoders.
        sets: number of data sets.
        methods: number of methods of each encoder.
        images: number of images of each data set.
        seeds: number of seeds. Default: 1.
        groups: number of groups of images; 0 (default): images come alone.
        bounds: number of encoders with one more entry that looks at the target. Default: 0.
    """
    rng = np.random.default_rng(0)
    ability = rng.normal(0.5, 0.12, encoders)
    found = {}
    for name in [SETS[k] if k < len(SETS) else f"set {k}" for k in range(sets)]:
        of_set = images_of(images, seeds, rng, groups)
        units = np.unique(of_set.unit, return_inverse=True)[1]
        n, entries = len(units), []
        difficulty = 0.7 * rng.random(units.max() + 1)[units] + 0.3 * rng.random(images)[np.arange(n) % images]
        for k in range(encoders):
            label = f"{FAMILIES[k % 7]} {WEIGHTS[k // 7 % 6]}" + (f" {k // 42 + 1}" if k >= 42 else "")
            own, answers = difficulty + rng.normal(0, 0.15, n), dict[str, np.ndarray]()
            for j in range(methods):
                method, predictor, gain, kept = METHODS[j % 5]
                method = predictor.capitalize() if method == "Plain" else f"{method} + {predictor}"
                method += f" {j // 5 + 1}" if j >= 5 else ""
                plain = answers.get(predictor)
                right = own + rng.normal(0, 0.08, n) < ability[k] + gain + rng.normal(0, 0.01)
                right = plain if plain is not None and rng.random() < kept else right
                answers.setdefault(predictor, right)
                about = (f"data/{name}/{k}-{j}.json", f"made-up/encoder-{k}", label, method, predictor, "lodo_1se")
                entries.append(Entry(*about, False, j in (0, 3), np.ones(n, bool), right, made_up=True))
            if k < bounds:
                right = own < ability[k] + 0.1
                about = (
                    f"data/{name}/{k}-o.json",
                    f"made-up/encoder-{k}",
                    label,
                    "Shrinkage + zero-shot",
                    "zero-shot",
                    "oracle",
                )
                entries.append(Entry(*about, True, False, np.ones(n, bool), right, made_up=True))
        held_outs = tuple(sorted(set(of_set.held_out.tolist())))
        key = GroupKey(name, "made-up", "leave_one_out", "out_fold", "all", 5, tuple(range(seeds)), held_outs)
        found[key] = of_set, entries
    return found


def main() -> None:
    """Print the times; end with an error where the page is too large."""
    parser = arguments(__doc__)
    for name, default in (("encoders", 200), ("sets", 5), ("methods", 5), ("images", 500), ("seeds", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where page and CSV are kept")
    args = parser.parse_args()
    groups = made_up(args.encoders, args.sets, args.methods, args.images, args.seeds, bounds=3)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        for of_group in groups.values():
            for entry in of_group[1]:  # the command reads all records to see whether the packed answers are older
                record = folder / entry.record
                record.parent.mkdir(parents=True, exist_ok=True)
                record.write_text("made up " * 500)
        write_packed(folder, groups)
        start = time.perf_counter()
        command = [sys.executable, "-m", "benchmark.cli", "results", "board", str(folder)]
        subprocess.run(command, cwd=REPOSITORY, check=True)
        seconds = time.perf_counter() - start
        size = (folder / "board.html").stat().st_size
    answers = np.array([entry.correct for entry in next(iter(groups.values()))[1]], dtype=np.float64)
    start = time.perf_counter()
    for _ in range(args.sets + (args.sets > 1)):
        answers @ answers.T
    product = time.perf_counter() - start
    entries = args.encoders * args.methods
    pairs = entries * (entries - 1) // 2 * (args.sets + (args.sets > 1))
    print(f"{entries} entries on {args.sets} sets, {pairs} pairs: {seconds:.1f} s, page {size / 1e6:.2f} MB")
    print(f"NumPy's Gram products: {product:.2f} s")
    keep(args.json, {"seconds": seconds, "products_s": product, "page_mb": size / 1e6})
    if size > MAX_BYTES:
        sys.exit(f"The page has {size} bytes, more than {MAX_BYTES}.")


if __name__ == "__main__":
    main()
