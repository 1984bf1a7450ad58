"""The words without which an accuracy means nothing: protocol, split, seeds, n, selection rule."""

from collections.abc import Iterable

import pandas as pd

from benchmark.method.evaluation.selection import RULES
from reports.methods import by_method
from reports.settings import Setting

_SPLIT_MEANING = {
    "out_20": "the 20 % out-split of the held-out environment",
    "in_80": "the 80 % in-split of the held-out environment",
    "full": "all images of the held-out environment",
}

MAX_LISTED = 12  # values beyond which their number says more


def split_words(setting: Setting) -> str:
    """Return the test split with its meaning: "out_20: the 20 % out-split of the held-out environment"."""
    words = f"{setting.test_split}: {_SPLIT_MEANING[setting.test_split]}"
    words = words.replace("held-out environment", setting.protocol_class.tested)
    return f"{words}{setting.half_words}"


def seeds_of(rows: pd.DataFrame) -> list[int]:
    """Return the seeds in the rows, ascending."""
    return sorted(int(s) for s in rows["seed"].unique())


def mean_test_images(rows: pd.DataFrame) -> dict[str, float]:
    """Return, for each held-out environment (sorted), the test images per seed, averaged over the seeds."""
    per_seed = rows.groupby(["held_out", "seed"])["n_test"].max().groupby("held_out").mean()
    return {str(name): float(n) for name, n in per_seed.sort_index().items()}


def test_images(rows: pd.DataFrame) -> float:
    """Return how many different images are tested per seed, averaged over the seeds; pairs share theirs."""
    per_seed: dict[int, dict[str, int]] = {}
    for seed, tested in zip(rows["seed"], rows["tested"], strict=True):
        per_seed.setdefault(int(seed), {}).update({part["environment"]: part["images"] for part in tested})
    return sum(sum(sizes.values()) for sizes in per_seed.values()) / len(per_seed)


def environment_words(setting: Setting, held_out: int) -> str:
    """Return the number of what is held out in turn in words."""
    return f"{held_out} {setting.protocol_class.holdouts_in_words}"


def number(value: float) -> str:
    """Write a count (or a mean of counts) with thousands separators."""
    return f"{value:,.1f}".removesuffix(".0")


def seed_words(rows: pd.DataFrame) -> str:
    """Return which seeds there are and what ± means with them."""
    seeds = seeds_of(rows)
    if len(seeds) == 1:
        return f"Seed: {seeds[0]} only, so there is no standard error and no ±."
    return (
        f"Seeds: {', '.join(map(str, seeds))}. ± is one standard error over seeds "
        "(of the average: over the seeds' averages)."
    )


def size_words(rows: pd.DataFrame) -> str:
    """Return the numbers of test and training images."""
    tests = ", ".join(f"{name} {number(n)}" for name, n in mean_test_images(rows).items())
    low, high = int(rows["n_train"].min()), int(rows["n_train"].max())
    train = number(low) if low == high else f"{number(low)} to {number(high)}"
    return f"Test images per seed: {tests}. Training images: {train}."


def grouping_words(setting: Setting) -> str:
    """Return how images were split, with a warning where that lets test groups into the training."""
    if not setting.grouped:
        return "Split by image."
    words = "Split by group: a group of images is on the same side in every environment."
    if setting.test_split in ("in_80", "full"):
        words += (
            f" WARNING: with test split {setting.test_split}, groups of the test images were seen in "
            "training (in other environments)."
        )
    return words


def choice_words(rows: pd.DataFrame) -> str:
    """Return the ranks, lambdas, intervention sets and normalisations among which a rule chooses."""
    ranks = sorted({r for curve in rows["ranks"] for r in curve})
    lambdas = sorted(float(x) for x in rows["lambda_"].dropna().unique())
    sets = sorted(str(s) for s in rows["intervention_set"].dropna().unique())
    values = [f"{x:g}" for x in lambdas]
    if len(lambdas) > MAX_LISTED:
        values = [f"{len(lambdas)} from {lambdas[0]:g} to {lambdas[-1]:g}"]
    if len(sets) > MAX_LISTED:
        sets = [f"{len(sets)} of them"]
    span = str(ranks[0]) if len(ranks) == 1 else f"{len(ranks)} from {ranks[0]} to {ranks[-1]}"
    return (
        f"Considered: ranks {span}; lambda {_listed(values)}; "
        f"intervention sets {_listed(sets)}; normalize {_listed(sorted(set(map(str, rows['normalize']))))}."
    )


def open_class_words(setting: Setting) -> str:
    """Return what must be known of tables with classes that no fit has seen."""
    if setting.class_half not in ("new", "harmonic"):
        return ""
    return "A predictor that learns classes from images never predicts one it has not seen: 0 % on new classes."


def prompt_words(setting: Setting) -> str:
    """Return the prompts, shortened to the first two."""
    shown = ", ".join(f'"{p}"' for p in setting.prompts[:2])
    rest = len(setting.prompts) - 2
    return f"Prompts: {shown}{f' and {rest} more' if rest > 0 else ''}."


def rule_words(rule: str) -> str:
    """Return the selection rule and its one-line meaning."""
    return f"Selection rule {rule}: {rule_meaning(rule)}."


def rule_meaning(rule: str) -> str:
    """Return the meaning of a selection rule, marked where it looks at the target."""
    return f"{'† ' if RULES[rule].looks_at_target else ''}{RULES[rule].meaning}"


def protocol_words(setting: Setting, rows: pd.DataFrame) -> str:
    """Return everything that a table of `rows` needs beside it, except the banner and the selection rule."""
    protocol, meaning = setting.protocol_class, setting.protocol_class.meaning
    return " ".join(
        [
            f"Accuracy in % on {protocol.accuracy_on}{setting.dataset}, {setting.backbone_label}, {setting.precision}.",
            f"Protocol {setting.protocol}{f': {meaning}' if meaning else ''}.",
            f"Test split {split_words(setting)}.",
            seed_words(rows),
            size_words(rows),
            prompt_words(setting),
            f"Lodo accuracies are measured on: {setting.lodo_split}.",
            grouping_words(setting),
            open_class_words(setting),
            choice_words(rows),
        ]
    ).replace("  ", " ")


def table_caption(setting: Setting, rows: pd.DataFrame, rule: str) -> str:
    """Return the caption of the main table under one selection rule."""
    several = "" if RULES[rule].looks_at_target or not _has_rivals(rows) else " Bold: best average of each predictor."
    return f"{setting.banner}{rule_words(rule)} {protocol_words(setting, rows)}{several}"


def _has_rivals(rows: pd.DataFrame) -> bool:
    predictors = [method.predictor for method in by_method(rows)]
    return len(predictors) > len(set(predictors))


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words) or "none"
