"""docs/speed.md, from the figures of `make bench` in docs/speed.json."""

import json
from typing import Any

import yaml

from tests.conftest import REPOSITORY
from tests.performance.__main__ import FLOORS

# Benchmark -> what it measures, and what each of its figures is.
MEANINGS: dict[str, tuple[str, dict[str, str]]] = {
    "interventions": (
        "Views of a batch of images at 224 pixels, against torchvision on one image at a time.",
        {
            "batched_16_ms": "ms for an image, mean of the seven kinds, in batches of 16",
            "one_by_one_over_batched_16": "time of torchvision one by one / ours, batches of 16",
            "batched_64_ms": "ms for an image, mean of the seven kinds, in batches of 64",
            "one_by_one_over_batched_64": "time of torchvision one by one / ours, batches of 64",
        },
    ),
    "probe": (
        "The linear probe along 16 ranks, 8,000 x 512, against scikit-learn at the same objective (to 1e-6).",
        {"scikit_learn_over_ours": "time of scikit-learn / ours"},
    ),
    "subspace": (
        "25 lambdas at all 512 ranks for four held-out environments, 10,000 x 512, against ViT-B-32 embedding the images.",
        {
            "moments_over_embedding": "summing the moments of seven kinds / embedding the images once",
            "large_grid_over_embedding": "the grid / embedding the images once",
        },
    ),
    "rank_curve": (
        "A rank curve of DomainNet's size: 586,575 x 768, 345 classes.",
        {"curves_s": "seconds for one held-out environment", "peak_gib": "peak memory of the process, GiB"},
    ),
    "sweep": (
        "Trials of seconds through Ray Tune, against a plain loop over them.",
        {
            "one_at_a_time_over_loop": "one trial at a time / the loop",
            "a_trial_for_each_core_over_loop": "a trial for each core, as by default / the loop",
        },
    ),
    "small_trials": (
        "Trials of milliseconds, in batches. RANDOM WEIGHTS, images of noise.",
        {
            "trials_per_s": "trials/s, start of the sweep included",
            "sweep_over_loop": "rate of the sweep / of a plain loop in one process",
        },
    ),
    "manifest": (
        "A list of images that are MADE UP, from listing to chunks, in the command's own process.",
        {"images_per_s": "images/s listed, ordered and hashed", "gib": "peak memory, GiB"},
    ),
    "embedding": (
        "ViT-B-32 on real images, reading to writing, against the fastest bare forward loop of the same encoder.",
        {
            "of_bare_one_view": "share of the bare loop, one view",
            "one_view_per_s": "views/s, one view",
            "of_bare_eight_views": "share of the bare loop, eight views",
            "eight_views_per_s": "views/s, eight views",
            "first_embedding_s": "seconds from the start of the stage to the first embedding",
            "of_bare_one_view_bfloat16": "share of the bare loop in bfloat16, one view",
            "one_view_bfloat16_per_s": "views/s in bfloat16, one view",
            "of_bare_eight_views_bfloat16": "share of the bare loop in bfloat16, eight views",
            "eight_views_bfloat16_per_s": "views/s in bfloat16, eight views",
            "first_embedding_bfloat16_s": "seconds to the first embedding in bfloat16",
        },
    ),
    "writing": (
        "A simulated encoder that takes 150 ms a chunk, and a store that waits before each write.",
        {
            "share_at_0_ms": "share of the encoder's rate, no wait",
            "share_at_100_ms": "share of the encoder's rate, writes of 100 ms",
        },
    ),
    "decoding": (
        "An encoder that returns at once, on real images, against cores that do nothing but read and decode.",
        {
            "of_cores_one_view": "share of cores x the bare rate, one view",
            "of_cores_eight_views": "share of cores x the bare rate, eight views",
            "bare_per_core": "images/s of one core that reads and decodes and does nothing else",
        },
    ),
    "parts": (
        "The demo's encoder, eight views at 160 pixels, against its parts measured alone on the same cores.",
        {
            "share_of_parts": "share of one over the sum of the three parts",
            "encoder_ms": "core-ms for a view: encoder, the faster engine",
            "decoding_ms": "core-ms for a view: decoding",
            "interventions_ms": "core-ms for a view: interventions",
            "views_per_s": "views/s, end to end",
        },
    ),
    "views": (
        "Eight views of an image in one run, against eight runs of one view; start-up included.",
        {"one_run_over_eight": "one run / eight runs", "again_over_first": "the same run again / the first"},
    ),
    "memory": (
        "Peak memory of all processes of `icm-bench embed`, with a small encoder.",
        {
            "growth": "with four times as many images / with the fewer",
            "peak_mib": "with the more images, MiB",
            "driver_mib": "of the command itself, MiB",
        },
    ),
    "scale": (
        "Images/s as encoder actors are added. SIMULATED: encoders that sleep, all on the same cores; images are MADE UP.",
        {
            "share_of_1": "one actor / ideal",
            "share_of_16": "sixteen actors / ideal, while all of them work",
            "driver_gib": "peak memory of the command, GiB",
        },
    ),
    "elastic": (
        "GPU nodes that an autoscaler brings from none. SIMULATED: encoders that sleep, on GPUs that are declared.",
        {"share_of_all": "chunks/s of four nodes, once all encode / four times that of one"},
    ),
    "inference": (
        "No speed: whether intervals and adjusted comparisons keep what they promise, 2,000 simulated worlds a design.",
        {
            "missed": "bounds that are missed",
            "lowest_image_coverage": "lowest coverage of the image interval, seeds agree",
            "highest_image_coverage": "highest coverage of the image interval, seeds agree",
            "power_at_two_points": "lowest power at +2 points of 4 x 2,000 images, from 3 seeds of out_20 on",
            "false_winners": "highest share of worlds with a false winner among equal methods",
        },
    ),
    "credit": (
        "No speed: in how many simulated worlds interventions are credited that carry no shift.",
        {
            "credited_another_sets": "share of worlds, interventions of another data set",
            "credited_encoders": "share of worlds, interventions that also move what differs within classes everywhere",
        },
    ),
    "report": (
        "What a report of rows with invented answers takes, tables, figures and page included.",
        {
            "sets_s": "seconds, 13,000 rows of 16 intervention sets x 25 lambdas",
            "sets_peak_gib": "peak memory of the process, GiB",
            "seeds_s": "seconds, 1,000 row files of ten methods x 100 seeds",
            "seeds_peak_gib": "peak memory of the process, GiB",
        },
    ),
}
AT_LENGTH = """## Measured at length

By hand, with the arguments that each benchmark has by default, on two cores (`python -m tests.performance.bench_NAME`):

- Embedding: ViT-B-32 with random weights on real images ran at 1.01 to 1.02 of a bare forward loop with one view and 0.97 to
  0.99 with eight. The loop has the C library's default memory settings, the pipeline better ones. It was as fast as
  clip-benchmark and clip-retrieval extract (in turn, 1.01 and 1.00; single runs 0.97 to 1.10): all are bound by the encoder.
- By the faster engine, in one run on another processor, one view: 19.8 images/s by OpenVINO, where its bare loop had 20.0 and
  that of PyTorch 17.8; clip-benchmark had 17.7 and clip-retrieval 15.6.
- Since OpenVINO takes batches in pieces, its bare loop has 19 to 22 images/s there and PyTorch's 15 to 18. With 1,050 images one
  view had 0.916 and 0.935 (two repeats each), 0.871 and 0.84 of it (one each), eight views 0.91 to 0.97; 0.9 is the floor. Of
  512 images, which take half a minute, one view has 0.87 to 0.88: filling the pipeline and emptying it weigh more. Beside
  the run of 0.871, 18.8 images/s, clip-benchmark had 18.1 and clip-retrieval 16.9.
- In bfloat16 that loop has 40 to 44 images/s, at a cosine distance of 5.7e-5 from float32, and PyTorch's 31 to 36. With 1,400
  images and two repeats one view had 0.913 of it and eight views 0.933; with 1,050 images one view 0.889 and 0.908, eight
  0.927 and 0.929. Beside the run of 0.908, 38.4 images/s, clip-benchmark had 14.8 and clip-retrieval 16.3, both in float32.
- With an encoder that returns at once and 14,000 images the pipeline had 0.58 to 0.72 of two cores that do nothing but decode
  with one view, and 0.54 to 0.63 with eight, where 0.9 is the floor (0.45 to 0.54 with one chunk a decoding task). Ray's own
  work on the same two cores takes the rest: its tasks alone, with nothing to take what they decode, had 0.73 to 0.80.
- Eight views in one run took 0.26 of the time of eight runs.
- Peak memory did not grow from 2,000 to 20,000 images, and grew by 19 to 23 % where chunks are four times as large, as above
  65,536 images.
- Simulated actors of 3 s a chunk ran at 0.99 of linear with 16 and with 32, see [scale](scale.md).
- The first embedding was computed 15 to 18 s after the command where the backbone had never been loaded, and the first file was
  there 2 s later; on a busy machine that was 21 s.
- Grids on embeddings of PACS's size (10,000 x 512, 7 classes, four held-out environments), against the 355 s that ViT-B-32
  takes to embed the images: 25 lambdas at all 512 ranks 8.4 s; 5 lambdas, 32 ranks and all 127 intervention sets 129 s.
- Trials of 9 to 14 s cost 1.05 to 1.07 of a plain loop through Tune, one at a time, and 0.62 to 0.64 with a trial for each
  core. The grid of `demo_grid`, 1,584 rows, took 143 to 185 s.

*Not run: GPUs.* How the peers are measured: `tests/performance/peers.py`."""


def speed_page() -> str:
    """Return the page."""
    bench = json.loads((REPOSITORY / "docs" / "speed.json").read_text(encoding="utf-8"))
    floors = yaml.safe_load(FLOORS.read_text(encoding="utf-8"))
    machine, versions = bench["machine"], bench["versions"]
    head = (
        "# Speed\n\nThis page is made by `make docs` from `docs/speed.json`, a copy of what `make bench` wrote. "
        "Floors are those of `tests/performance/floors.yaml`; `make bench` ends with an error where one is missed.\n\n"
        f"Commit {bench['commit']}, {machine['cores']} cores ({machine['processor']}), {machine['memory_gib']:g} GiB, "
        f"{machine['system']}; {', '.join(f'{name} {number}' for name, number in versions.items())}. No GPU."
    )
    sections = [_section(name, result, floors.get(name, {})) for name, result in bench["benchmarks"].items()]
    return "\n\n".join([head, *sections, AT_LENGTH]) + "\n"


def _section(name: str, result: dict[str, Any], floors: dict[str, dict[str, float]]) -> str:
    about, meanings = MEANINGS[name]
    lines = ["| figure | measured | floor |", "|---|---|---|"]
    for figure, value in result["figures"].items():
        bounds = ", ".join(f"{key.replace('_', ' ')} {bound:g}" for key, bound in floors.get(figure, {}).items())
        lines.append(f"| {meanings[figure]} | {value:.4g} | {bounds} |")
    command = f"`python -m tests.performance.bench_{name} {result['arguments']}`, {result['seconds']:.0f} s"
    if "commit" in result:  # measured again, later than the others
        command += f", at commit {result['commit']}"
    return f"## {name.replace('_', ' ')}\n\n{about} Run: {command}.\n\n" + "\n".join(lines)
