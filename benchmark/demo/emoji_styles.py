"""The data set `emoji_styles`: 284 concepts of ten classes, each in six styles (environments) of four vendors.

The data set `emoji_styles_8` has two more styles, and the 193 concepts that all eight have. Of the two, `fluent_flat`
has the motifs of `fluent`, and `emojione_monotone` those of EmojiOne, on which the demo encoder is trained in colour.

Every concept is in every environment. Images must therefore be split by concept (`groups.csv`), or a probe is trained
on the tested concepts in another style. The control data sets of planted.py use the six styles.
"""

import functools
import hashlib
import json
from pathlib import Path

from benchmark.common.errors import IcmBenchError
from benchmark.demo.emoji import IMAGE_SIZE, OPENMOJI, Pack, build_set, concepts, iconify_svgs, openmoji_svgs
from benchmark.demo.packages import fetch_together

NAME, NAME_OF_EIGHT = "emoji_styles", "emoji_styles_8"
# Increase it if a change of the code below changes the drawings, and write the new values into test_golden.py.
VERSION = 1

# None of the six styles may come from `PRETRAINING_PACKS` of `emoji.py`: the demo encoder is trained on these. After a
# change of styles or concepts, change environments, counts and fingerprint in `benchmark/datasets/catalog.py` too.
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
# Packages of the two further styles. They are fetched only for `emoji_styles_8`.
FURTHER_ENVIRONMENTS = {
    "fluent_flat": Pack(
        "@iconify-json/fluent-emoji-flat", "1.2.6", "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175"
    ),
    "emojione_monotone": Pack(
        "@iconify-json/emojione-monotone", "1.2.1", "40b90004bafb406b59266155ef9b7e1dd67bf2947fc8db8d07388776f4d0d04e"
    ),
}

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
COUNTS_OF_EIGHT = {
    "bird": 12, "clothing": 24, "dish": 21, "flower": 10, "fruit": 15, "insect": 8, "instrument": 6, "mammal": 39,
    "marine": 11, "vehicle": 47,
}  # fmt: skip
NOT_THE_THING = frozenset({
    "feather", "wing", "prayer-beads", "lipstick", "ring", "gem-stone", "butter", "salt", "spider-web", "microbe",
    "paw-prints", "spiral-shell", "coral", "station", "bus-stop", "motorway", "railway-track", "oil-drum",
    "fuel-pump", "wheel", "police-car-light", "horizontal-traffic-light", "vertical-traffic-light", "stop-sign",
    "construction", "anchor", "ring-buoy", "parachute", "seat", "satellite",
})  # fmt: skip
# In line_art the oncoming police car and the oncoming taxi are the same drawing, byte for byte.
SAME_DRAWING = frozenset({"oncoming-taxi"})


def build(name: str = NAME) -> Path:
    """Render a data set into the cache, unless it is there, and return its parent folder; see `emoji.build_set`."""
    return build_set(name, content_hash(name), functools.partial(drawings, name))


def content_hash(name: str = NAME) -> str:
    """Return a hash, 12 hex digits, of everything that determines the content of a data set."""
    iconify, environments, _ = _parts(name)
    packs = [(pack.name, pack.version, pack.sha256) for pack in (OPENMOJI, *iconify.values())]
    choice = [environments, CLASS_OF_SUBGROUP, sorted(NOT_THE_THING | SAME_DRAWING)]
    return hashlib.sha256(json.dumps([VERSION, IMAGE_SIZE, packs, choice]).encode()).hexdigest()[:12]


def _parts(name: str) -> tuple[dict[str, Pack], tuple[str, ...], dict[str, int]]:
    """Return the Iconify packs, all environments, and the number of concepts of each class."""
    if name == NAME:
        return ICONIFY_ENVIRONMENTS, ENVIRONMENTS, CLASS_COUNTS
    return ICONIFY_ENVIRONMENTS | FURTHER_ENVIRONMENTS, (*ENVIRONMENTS, *FURTHER_ENVIRONMENTS), COUNTS_OF_EIGHT


@functools.cache
def drawings(name: str = NAME) -> dict[str, dict[str, dict[str, str]]]:
    """Return the SVG documents by environment, class and concept; all environments have the same concepts.

    The result (9 MB) is cached in the process: a recipe may build several data sets from it.
    """
    iconify, environments, counts = _parts(name)
    fetch_together([pack.fetch for pack in (OPENMOJI, *iconify.values())], "fetching emoji packages")
    candidates = [
        concept
        for concept in concepts().values()
        if concept.subgroup in CLASS_OF_SUBGROUP and concept.slug not in NOT_THE_THING | SAME_DRAWING
    ]
    svgs = {environment: iconify_svgs(pack) for environment, pack in iconify.items()}
    shared = [concept for concept in candidates if all(concept.slug in found for found in svgs.values())]
    slugs: dict[str, list[str]] = {class_name: [] for class_name in counts}
    for concept in shared:
        slugs[CLASS_OF_SUBGROUP[concept.subgroup]].append(concept.slug)
    if wrong := [f"{c} {len(slugs[c])} (expected {n})" for c, n in counts.items() if len(slugs[c]) != n]:
        raise IcmBenchError(
            f"{name}: unexpected numbers of concepts in the emoji packages: {', '.join(wrong)}; "
            "use the pinned package versions."
        )
    svgs |= {environment: openmoji_svgs(style, shared) for environment, style in OPENMOJI_ENVIRONMENTS.items()}
    return {e: {c: {slug: svgs[e][slug] for slug in of_class} for c, of_class in slugs.items()} for e in environments}
