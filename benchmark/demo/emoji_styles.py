"""The data set `emoji_styles`: 284 concepts of ten classes, each in six styles (environments) of four vendors.

Every concept is in every environment. Images must therefore be split by concept (`groups.csv`), or a probe is trained
on the tested concepts in another style. The control data sets of planted.py use the same drawings.
"""

import csv
import functools
import hashlib
import json
import tempfile
from pathlib import Path

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.places import cache_dir
from benchmark.demo.emoji import IMAGE_SIZE, OPENMOJI, Pack, concepts, draw_files, iconify_svgs, openmoji_svgs
from benchmark.demo.packages import fetch_together, publish

NAME = "emoji_styles"
# Increase it if a change of the code below changes the drawings, and write the new values into test_golden.py.
VERSION = 1

# No style may come from `PRETRAINING_PACKS` of `emoji.py`: the demo encoder is trained on these. After a change of
# styles or concepts, change environments, counts and fingerprint in `benchmark/datasets/catalog.py` too.
ICONIFY_ENVIRONMENTS = {
    "noto": Pack("@iconify-json/noto", "1.2.9", "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad"),
    "twemoji": Pack(
        "@iconify-json/twemoji", "1.2.5", "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7"
    ),
    "fluent": Pack(
        "@iconify-json/fluent-emoji", "1.2.7", "8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b"
    ),
    "high_contrast": Pack(
        "@iconify-json/fluent-emoji-high-contrast",
        "1.2.6",
        "0b92d48c90d2200bd499e3cdd09a127ca6a8c8ddefd34c35eb5a1e4994012ae0",
    ),
}
OPENMOJI_ENVIRONMENTS = {"openmoji": "color", "line_art": "black"}
ENVIRONMENTS = (*ICONIFY_ENVIRONMENTS, *OPENMOJI_ENVIRONMENTS)

# OpenMoji's subgroup -> class; class -> expected number of concepts; concepts that do not show their class.
CLASS_OF_SUBGROUP = {
    "animal-bird": "bird", "clothing": "clothing", "food-prepared": "dish", "plant-flower": "flower",
    "food-fruit": "fruit", "animal-bug": "insect", "musical-instrument": "instrument", "animal-mammal": "mammal",
    "animal-marine": "marine", "transport-ground": "vehicle", "transport-air": "vehicle",
    "transport-water": "vehicle",
}  # fmt: skip
CLASS_COUNTS = {
    "bird": 18, "clothing": 43, "dish": 32, "flower": 12, "fruit": 20, "insect": 14, "instrument": 11, "mammal": 65,
    "marine": 15, "vehicle": 54,
}  # fmt: skip
NOT_THE_THING = frozenset({
    "feather", "wing", "prayer-beads", "lipstick", "ring", "gem-stone", "butter", "salt", "spider-web", "microbe",
    "paw-prints", "spiral-shell", "coral", "station", "bus-stop", "motorway", "railway-track", "oil-drum",
    "fuel-pump", "wheel", "police-car-light", "horizontal-traffic-light", "vertical-traffic-light", "stop-sign",
    "construction", "anchor", "ring-buoy", "parachute", "seat", "satellite",
})  # fmt: skip
# In line_art the oncoming police car and the oncoming taxi are the same drawing, byte for byte.
SAME_DRAWING = frozenset({"oncoming-taxi"})


def build() -> Path:
    """Render the data set into the cache, unless it is there, and return its parent folder.

    It has 1,704 images `emoji_styles/ENVIRONMENT/CLASS/CONCEPT.png` and `emoji_styles/groups.csv`.
    """
    root = cache_dir() / "datasets" / f"{NAME}-{content_hash()}"
    if root.is_dir():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    images = {
        f"{environment}/{class_name}/{concept}.png": (concept, svg)
        for environment, classes in drawings().items()
        for class_name, svgs in classes.items()
        for concept, svg in sorted(svgs.items())
    }
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{NAME}-") as scratch:
        folder = Path(scratch) / "root" / NAME
        draw_files({folder / path: svg for path, (_, svg) in images.items()}, f"drawing {NAME}")
        write_groups(folder, [(path, concept) for path, (concept, _) in images.items()])
        publish(folder.parent, root)
    return root


def content_hash() -> str:
    """Return a hash, 12 hex digits, of everything that determines the content of the data set."""
    packs = [(pack.name, pack.version, pack.sha256) for pack in (OPENMOJI, *ICONIFY_ENVIRONMENTS.values())]
    choice = [ENVIRONMENTS, CLASS_OF_SUBGROUP, sorted(NOT_THE_THING | SAME_DRAWING)]
    return hashlib.sha256(json.dumps([VERSION, IMAGE_SIZE, packs, choice]).encode()).hexdigest()[:12]


@functools.cache
def drawings() -> dict[str, dict[str, dict[str, str]]]:
    """Return the SVG documents by environment, class and concept; all environments have the same concepts.

    The result (9 MB) is cached in the process: a recipe may build several data sets from it.
    """
    packs = (OPENMOJI, *ICONIFY_ENVIRONMENTS.values())
    fetch_together([pack.fetch for pack in packs], "fetching emoji packages")
    candidates = [
        concept
        for concept in concepts().values()
        if concept.subgroup in CLASS_OF_SUBGROUP and concept.slug not in NOT_THE_THING | SAME_DRAWING
    ]
    svgs = {environment: iconify_svgs(pack) for environment, pack in ICONIFY_ENVIRONMENTS.items()}
    shared = [concept for concept in candidates if all(concept.slug in found for found in svgs.values())]
    slugs: dict[str, list[str]] = {name: [] for name in CLASS_COUNTS}
    for concept in shared:
        slugs[CLASS_OF_SUBGROUP[concept.subgroup]].append(concept.slug)
    if wrong := [f"{c} {len(slugs[c])} (expected {n})" for c, n in CLASS_COUNTS.items() if len(slugs[c]) != n]:
        raise IcmBenchError(
            f"{NAME}: unexpected numbers of concepts in the emoji packages: {', '.join(wrong)}; "
            "use the pinned package versions."
        )
    svgs |= {environment: openmoji_svgs(style, shared) for environment, style in OPENMOJI_ENVIRONMENTS.items()}
    return {e: {c: {slug: svgs[e][slug] for slug in of_class} for c, of_class in slugs.items()} for e in ENVIRONMENTS}


def write_groups(folder: Path, groups: list[tuple[str, str]]) -> None:
    """Write `groups.csv` into the folder of a data set; `groups` has (relative path, group) for each image."""
    with (folder / "groups.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([("path", "group"), *groups])
