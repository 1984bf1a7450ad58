"""The words without which an accuracy means nothing: protocol, split, seeds, n, selection rule."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pandas as pd

from benchmark.method.evaluation.seed_variance import MIN_UNITS
from benchmark.method.evaluation.selection import IMPORTED, RULES
from benchmark.method.evaluation.tested import Tested
from reports.analysis.answers import Size, size_of
from reports.analysis.chosen import Selections, has_choice
from reports.analysis.methods import SEES_TARGET
from reports.analysis.options import Options
from reports.analysis.settings import Setting

_SPLIT_MEANING = {
    "out_20": "the 20 % out-split of the held-out environment",
    "in_80": "the 80 % in-split of the held-out environment",
    "full": "all images of the held-out environment",
    "out_fold": "each fold of the held-out environment in turn",
}

Sentence = Callable[[Setting, Selections, Options], str]
MAX_LISTED = 12  # values beyond which their number says more
NO_IMAGE_DRAWN = ("text", "cross_environment")  # kinds of intervention without a view of any image


def split_words(setting: Setting) -> str:
    """Return the test split with its meaning: "out_20: the 20 % out-split of the held-out environment"."""
    meaning = _SPLIT_MEANING[setting.test_split]
    if setting.test_split == "out_20" and setting.grouped:
        meaning = "one half of the 20 % out-groups, in the held-out environment (the other half is for choosing)"
    words = f"{setting.test_split}: {meaning}".replace("held-out environment", setting.protocol_class.tested)
    return f"{words}{setting.half_words}"


def seeds_of(rows: pd.DataFrame) -> list[int]:
    """Return the seeds in the rows, ascending."""
    return sorted(int(s) for s in rows["seed"].unique())


def tested_sizes(selections: Selections) -> dict[str, Size]:
    """Return held-out environment (sorted) -> how much of it is tested, folds together."""
    parts = _tested_by_seed(selections)
    held_outs = sorted({held_out for held_out, _ in parts})
    return {name: size_of([tested for (h, _), tested in parts.items() if h == name]) for name in held_outs}


def whole_size(selections: Selections) -> Size:
    """Return how much is tested over all that is held out; pairs of environments share their images."""
    by_seed: dict[int, list[Tested]] = {}
    for (_, seed), tested in _tested_by_seed(selections).items():
        by_seed.setdefault(seed, []).extend(tested)
    return size_of(by_seed.values())


def _tested_by_seed(selections: Selections) -> dict[tuple[str, int], list[Tested]]:
    columns = ["held_out", "seed", "fold"]
    named = selections.rows.drop_duplicates([*columns, "tested"])
    parts: dict[tuple[str, int], list[Tested]] = {}
    for row in named.sort_values(columns).to_dict("records"):
        if row["n_test"]:
            parts.setdefault((str(row["held_out"]), int(row["seed"])), []).append(selections.tested[row["tested"]])
    return parts


def number(value: float) -> str:
    """Write a count (or a mean of counts) with thousands separators."""
    return f"{value:,.1f}".removesuffix(".0")


def seed_words(setting: Setting, rows: pd.DataFrame, options: Options) -> str:
    """Return which seeds there are and what ± means with them."""
    seeds = seeds_of(rows)
    named = f"Seed: {seeds[0]} only." if len(seeds) == 1 else f"Seeds: {', '.join(map(str, seeds))}."
    if options.plus_minus == "seeds":
        if len(seeds) == 1:
            return f"{named} There is no standard error over seeds and no ±."
        return (
            f"{named} ± is DomainBed's: one standard error over seeds (ddof 1; DomainBed itself divides by their "
            "number, ddof 0). It is not the uncertainty of the result, for seeds share their images."
        )
    units = "groups of test images, each with all its answers" if setting.grouped else "test images"
    between = (
        "Variation between seeds is not in it" if len(seeds) == 1 else "It has what seeds differ by beyond their images"
    )
    return (
        f"{named} ± is one standard error over {units} (cluster-robust). {between}. There is none where an environment "
        f"has fewer than {MIN_UNITS} {unit_words(setting)}, nor where nothing varies."
    )


def unit_words(setting: Setting) -> str:
    """Return what n counts."""
    return "groups of test images" if setting.grouped else "test images"


def size_words(setting: Setting, selections: Selections) -> str:
    """Return the numbers of test images."""
    sizes = tested_sizes(selections)
    if setting.grouped:
        each = (f"{name} {number(s.units_per_seed)} ({number(s.images_per_seed)})" for name, s in sizes.items())
        return f"Groups of test images (and images) per seed: {', '.join(each)}. n counts groups."
    each = (f"{name} {number(s.images_per_seed)}" for name, s in sizes.items())
    return f"Test images per seed: {', '.join(each)}."


def train_words(rows: pd.DataFrame) -> str:
    """Return the number of training images; nothing of imported methods."""
    known = rows["n_train"].dropna()
    if known.empty:
        return ""
    low, high = int(known.min()), int(known.max())
    train = number(low) if low == high else f"{number(low)} to {number(high)}"
    return f"Training images: {train}."


def sample_words(rows: pd.DataFrame) -> str:
    """Return which fits of trained predictors were made on some of the images; nothing where none was."""
    counts = rows["n_selection"].dropna()
    if counts.empty:
        return ""
    low, high = number(int(counts.min())), number(int(counts.max()))
    return (
        f"Trained predictors: choices rest on fits to {low if low == high else f'{low} to {high}'} of the training "
        "images, drawn by the seed with classes in proportion; what a rule picks, and the last rank at its best "
        "setting, is fitted on all of them."
    )


def grouping_words(setting: Setting) -> str:
    """Return how images were split, with a warning where that lets test groups into the training."""
    if not setting.grouped:
        return "Split by image."
    words = "Split by group: a group of images is on the same side in every environment."
    if setting.test_split in ("in_80", "full"):
        judged = " and in choosing" if setting.test_split == "full" else ""
        words += (
            f" WARNING: with test split {setting.test_split}, groups of the test images were seen in "
            f"training{judged} (in other environments)."
        )
    return words


def cluster_words(rows: pd.DataFrame) -> str:
    """Return what stands for the environments of the sources; nothing where it is these themselves."""
    counts = rows["clusters"].dropna()
    if counts.empty:
        return ""
    return (
        f"Environments of the sources are {number(int(counts.iloc[0]))} clusters of their images (k-means on the "
        "embeddings by the seed, without labels or names): what is fitted, chosen and left out by environment goes by "
        "them. What is held out is an environment of the data set, and none of its images is clustered."
    )


def fold_words(setting: Setting) -> str:
    """Return how folds are used; nothing for an 80/20 split."""
    if not setting.folds:
        return ""
    unit = "group" if setting.grouped else "image"
    return (
        f"{setting.folds} folds, cut by the seed: each {unit} is tested once. Rules choose by cross-fitting: every "
        "fold of the sources but the tested one is judged by fits without it and the tested one; the tested fit has "
        "all but the tested fold."
    )


def choosing_words(setting: Setting, selections: Selections) -> str:
    """Return on what lodo is measured, or why there is none."""
    if all(rule.looks_at_target for rule in selections.rules):
        return "The sources leave nothing to choose by: only rules that look at the target (†) choose."
    if not any(rule.score == "lodo" for rule in selections.rules):
        return (
            "Leaving a source out would leave fewer than two: every method, plain prediction too, is chosen by "
            "training_domain."
        )
    side = "in-split (80 %), as in DomainBed"
    if setting.grouped:
        side = "half of the out-groups that is kept for choosing"
    if setting.folds:
        side = "folds other than the tested one, each by fits without it"
    return f"Lodo: each source environment in turn is left out of the fit and tested on its {side}."


def view_words(rows: pd.DataFrame) -> str:
    """Return what must be known of the interventions that the rows' projections saw; nothing where they saw none."""
    contents = [json.loads(text) for text in rows["interventions"].dropna().unique()]
    kinds = {str(kind["name"]) for content in contents for kind in content.get("kinds", ())}
    draws, words = rows["view_draw"].nunique(), []
    if kinds - set(NO_IMAGE_DRAWN):
        words.append(
            f"Views of random interventions are drawn {draws} times."
            if draws > 1
            else "Views of random interventions are drawn once: their variance is not in the ±."
        )
    if any((content.get("text") or {}).get("pairs") for content in contents):
        words.append(
            "Pairs of texts come from a file: those without an image_id belong to no image and are seen by every fit, "
            "captions of held-out images among them."
        )
    return " ".join(words)


def shared_words(rows: pd.DataFrame) -> str:
    """Return how many images stand in two environments; nothing where none does."""
    n = int(rows["n_shared"].fillna(0).max())
    return f"{number(n)} images stand byte by byte in two environments." if n else ""


def choice_words(rows: pd.DataFrame) -> str:
    """Return the ranks, lambdas, intervention sets and normalisations among which a rule chooses; none if imported."""
    rows = rows[rows["projection"] != IMPORTED]
    if rows.empty:
        return ""
    placebos = rows["placebo"].notna()
    instead = sorted(str(s) for s in rows[placebos]["intervention_set"].unique())
    rows = rows[~placebos]
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
        f"{f' Placebos of these sets, methods of their own: {_listed(instead)}.' if instead else ''}"
    )


def imported_words(selections: Selections) -> str:
    """Return which methods were trained elsewhere, and what chose among their settings; nothing where none was."""
    words = []
    for method, rows in selections.parts.items():
        if method.imported:
            settings = rows["predictor_params"].nunique()
            among = f"chosen among {number(settings)} settings by the source score that came with them"
            words.append(f"{method.predictor}, {among if has_choice(rows) else 'chosen by its author'}")
    if not words:
        return ""
    return (
        f"Imported answers of methods that were trained elsewhere: {'; '.join(words)}. What they were trained on is "
        "their authors' word."
    )


def open_class_words(setting: Setting, selections: Selections) -> str:
    """Return what must be known of tables with classes that no fit has seen."""
    if setting.class_half == "all":
        return ""
    first = selections.rows.iloc[0]
    rounded = {"floor": "down", "ceil": "up"}.get(setting.rounding or "")
    half = "" if rounded is None or first["n_classes"] % 2 == 0 else f", half of them rounded {rounded}"
    words = f"Base classes: the first {number(first['n_base'])} of {number(first['n_classes'])}{half}."
    learnt = list(dict.fromkeys(m.of_predictor.label for m in selections.parts if m.learns_classes))
    if learnt and setting.class_half != "base":
        heads = f"Heads that learn classes from images alone ({', '.join(learnt)})"
        words += f" {heads} never predict one they have not seen: 0 %."
    return words


def prompt_words(setting: Setting) -> str:
    """Return the prompts, shortened to the first two."""
    if not setting.prompts:  # embeddings that were imported without texts
        return "No texts."
    shown = ", ".join(f'"{p}"' for p in setting.prompts[:2])
    rest = len(setting.prompts) - 2
    return f"Prompts: {shown}{f' and {rest} more' if rest > 0 else ''}."


def rule_words(rule: str, setting: Setting) -> str:
    """Return the selection rule and its one-line meaning."""
    return f"Selection rule {rule}: {rule_meaning(rule, setting)}."


def rule_meaning(rule: str, setting: Setting) -> str:
    """Return the meaning of a selection rule where it is used, marked where it looks at the target."""
    meaning = RULES[rule].meaning
    if RULES[rule].crossed:
        meaning = (
            f"{oracle_words(setting)}: what labels of the {setting.protocol_class.tested} would be worth, no result"
        )
    return f"{'† ' if RULES[rule].looks_at_target else ''}{meaning}"


def oracle_words(setting: Setting) -> str:
    """Return on what a crossed rule chooses: where the in-split is tested, the out-split is there to choose by."""
    if setting.test_split == "in_80":
        return f"chosen on the out-split of the {setting.protocol_class.tested}, which is not tested"
    return "chosen on one half of the tested images and reported on the other, both ways"


# What a table needs beside it, but for the selection rule; the first five stand below every printed table.
SENTENCES: tuple[Sentence, ...] = (
    lambda s, _, __: f"Accuracy in %, {s.precision}.",
    lambda s, _, __: f"Protocol {s.protocol}{f': {meaning}' if (meaning := s.protocol_class.meaning) else ''}.",
    lambda s, _, __: (
        "Labels of what is tested enter the fit: a bound (†), no result." if s.protocol_class.looks_at_target else ""
    ),
    lambda s, _, __: f"Test split {split_words(replace(s, class_half='all'))}.",
    lambda _, selections, __: sees_target_words(selections),
    lambda s, _, __: fold_words(s),
    lambda s, selections, _: size_words(s, selections),
    lambda _, selections, __: train_words(selections.rows),
    lambda _, selections, __: sample_words(selections.rows),
    lambda s, _, __: prompt_words(s),
    lambda s, selections, _: choosing_words(s, selections),
    lambda s, _, __: grouping_words(s),
    lambda _, selections, __: cluster_words(selections.rows),
    lambda s, selections, _: open_class_words(s, selections),
    lambda _, selections, __: shared_words(selections.rows),
    lambda _, selections, __: view_words(selections.rows),
    lambda _, selections, __: choice_words(selections.rows),
    lambda _, selections, __: imported_words(selections),
    lambda s, selections, options: seed_words(s, selections.rows, options),
)
_TELLING = ("dataset", "backbone_label", "protocol", "test_split", "class_half", "title")


def protocol_words(setting: Setting, selections: Selections, options: Options) -> str:
    """Return everything that a table needs beside it, except the banner and the selection rule."""
    on = f"{setting.protocol_class.accuracy_on}{setting.dataset}, {setting.backbone_label}"
    said = [f"Accuracy in % on {on}, {setting.precision}{setting.half_words}."]
    return " ".join(filter(None, [*said, *(words(setting, selections, options) for words in SENTENCES[1:])]))


def protocols(described: Sequence[tuple[Setting, Selections]], options: Options) -> list[str]:
    """Return the same of several settings: a paragraph for each kind of sentence."""
    every = [once(described, words, options) for words in SENTENCES]
    more = [f" And {len(lines) - MAX_LISTED} more." if len(lines) > MAX_LISTED else "" for lines in every]
    return [f"{' '.join(lines[:MAX_LISTED])}{rest}" for lines, rest in zip(every, more, strict=True) if lines]


def once(described: Sequence[tuple[Setting, Selections]], words: Sentence, options: Options) -> list[str]:
    """Return each sentence on settings once: behind what tells those that it is of from others, where they differ."""
    said: dict[str, list[Setting]] = {}
    for setting, selections in described:
        said.setdefault(words(setting, selections, options), []).append(setting)
    values = {name: [{getattr(s, name) for s in of_one} for of_one in said.values()] for name in _TELLING}
    told = next((v for v in values.values() if sum(map(len, v)) == len(set().union(*v))), values["title"])
    named = [(", ".join(sorted(of_one)[:MAX_LISTED]), line) for of_one, line in zip(told, said, strict=True) if line]
    return [line if len(said) == 1 or name in line else f"{name}: {line}" for name, line in named]


def sees_target_words(selections: Selections) -> str:
    """Return what the mark of methods that look at the tested images means; nothing where there is none."""
    if not any(method.looks_at_target_images for method in selections.parts):
        return ""
    return (
        f"{SEES_TARGET} fitted at test time, on tested images or views of them, without labels, which the others never "
        "see: not ranked with them, and never bold."
    )


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words) or "none"
