"""Sentences that accompany accuracies (protocol, split, seeds, n, selection rule), and names of intervention sets."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from benchmark.method.evaluation.answers import Size, size_of
from benchmark.method.evaluation.seed_variance import MIN_UNITS
from benchmark.method.evaluation.selection import IMPORTED, RULES
from benchmark.method.evaluation.tested import Tested
from reports.analysis.methods import SEES_TARGET
from reports.analysis.selections import Selections, SettingResults, has_choice, memoized
from reports.analysis.settings import Options, Setting, grouped

# A new test split also needs its position in `SPLIT_ORDER` of reports/analysis/settings.py.
_SPLIT_MEANING = {
    "out_20": "the 20 % out-split of the held-out environment",
    "in_80": "the 80 % in-split of the held-out environment",
    "full": "all images of the held-out environment",
    "out_fold": "each fold of the held-out environment in turn",
}

Sentences = Callable[[Setting, Selections, Options], list[str]]  # one sentence per topic, empty if it does not apply
MAX_LISTED = 12  # longer lists of values are summarised by their number
NO_IMAGE_DRAWN = ("text", "cross_environment")  # kinds of intervention without random image views


_DISTINGUISHING = ("dataset", "backbone_label", "protocol", "test_split", "class_half", "title")
OTHERS = 3  # sort position of sets that are neither all kinds, one kind, nor all but one


def number(value: float) -> str:
    """Return a count (or a mean of counts) with thousands separators."""
    return f"{value:,.1f}".removesuffix(".0")


@memoized
def total_size(selections: Selections, held_out: str | None = None) -> Size:
    """Return the number of test units and images, with folds pooled and shared images counted once."""
    of, by_seed = selections.rows, dict[int, dict[Tested, None]]()
    for n, name, seed, tested in zip(*(of[c].tolist() for c in ("n_test", "held_out", "seed", "tested")), strict=True):
        if n > 0 and held_out in (None, name):
            by_seed.setdefault(seed, {})[selections.tested[tested]] = None
    return size_of([*map(list, by_seed.values())])


def unit_words(setting: Setting) -> str:
    """Return the unit of n: test images or groups of them."""
    return "groups of test images" if setting.grouped else "test images"


def split_words(setting: Setting) -> str:
    """Return the test split with its meaning: "out_20: the 20 % out-split of the held-out environment"."""
    meaning = _SPLIT_MEANING[setting.test_split]
    if setting.test_split == "out_20" and setting.grouped:
        meaning = "one half of the 20 % out-groups, in the held-out environment (the other half is for choosing)"
    words = f"{setting.test_split}: {meaning}".replace("held-out environment", setting.protocol_class.tested)
    return f"{words}{setting.half_words}"


def rule_words(rule: str, setting: Setting) -> str:
    """Return the selection rule and its one-line meaning."""
    return f"Selection rule {rule}: {rule_meaning(rule, setting)}."


def rule_meaning(rule: str, setting: Setting) -> str:
    """Return the meaning of a selection rule in a setting, marked with † if it uses target labels."""
    meaning, tested = RULES[rule].meaning, setting.protocol_class.tested
    if RULES[rule].crossed:
        meaning = f"{oracle_words(setting)}: what labels of the {tested} would be worth, no result"
    return f"{'† ' if RULES[rule].looks_at_target else ''}{meaning}"


def oracle_words(setting: Setting) -> str:
    """Return words for the images on which a cross-fitted rule selects: the out-split, or halves of the test images."""
    if setting.test_split == "in_80":
        return f"chosen on the out-split of the {setting.protocol_class.tested}, which is not tested"
    return "chosen on one half of the tested images and reported on the other, both ways"


def brief(setting: Setting, selections: Selections, *_: object) -> list[str]:
    """Return the notes that every printed table has: precision, protocol, bound, test split, signs of methods."""
    protocol, sees_target = setting.protocol_class, any(method.looks_at_target_images for method in selections.parts)
    marked = (
        f"{SEES_TARGET} fitted at test time, on tested images or views of them, without labels. Other methods never "
        "see those images, so such methods are not ranked with the others, and never bold."
    )
    return [
        f"Accuracy in %, {setting.precision}.",
        f"Protocol {setting.protocol}{f': {protocol.meaning}' if protocol.meaning else ''}.",
        "Labels of what is tested enter the fit: a bound (†), no result." if protocol.looks_at_target else "",
        f"Test split {split_words(replace(setting, class_half='all'))}.",
        marked if sees_target else "",
    ]


def details(setting: Setting, selections: Selections, options: Options) -> list[str]:
    """Return the detailed notes of a table, except the note on the selection rule."""
    n = int(selections.rows["n_shared"].fillna(0).max())
    return [
        *_images(setting, selections),
        *_choosing(setting, selections),
        _open_class(setting, selections),
        f"{number(n)} images stand byte by byte in two environments." if n else "",
        _views(selections),
        _considered(selections),
        imported_words(selections),
        _seeds(setting, selections.seeds, options),
    ]


def _images(setting: Setting, selections: Selections) -> list[str]:
    """Return sentences on folds, test images, training images and prompts."""
    rows, each = selections.rows, []
    for name in sorted(set(rows["held_out"][rows["n_test"] > 0])):
        size = total_size(selections, name)
        images = f" ({number(size.images_per_seed)})" if setting.grouped else ""
        each.append(f"{name} {number(size.units_per_seed)}{images}")
    tested = "Groups of test images (and images)" if setting.grouped else "Test images"
    folds = (
        f"{setting.folds} folds, cut by the seed: each {'group' if setting.grouped else 'image'} is tested once. Rules "
        "choose by cross-fitting: every fold of the sources but the tested one validates fits without it and the "
        "tested one; the tested fit has all but the tested fold."
    )
    trained = _span(rows["n_train"])  # empty for imported methods
    shown, rest = ", ".join(f'"{p}"' for p in setting.prompts[:2]), len(setting.prompts) - 2
    return [
        folds if setting.folds else "",
        f"{tested} per seed: {', '.join(each)}.{' n counts groups.' if setting.grouped else ''}",
        f"Training images: {trained}." if trained else "",
        sample_words(selections),
        # Embeddings imported without texts have no prompts.
        f"Prompts: {shown}{f' and {rest} more' if rest > 0 else ''}." if shown else "No texts.",
    ]


def _span(counts: "pd.Series[Any]") -> str:
    """Return the range of some counts, "900 to 1,000"; empty if none is known."""
    known = counts.dropna()
    return " to ".join(dict.fromkeys(number(int(end)) for end in (known.min(), known.max()))) if len(known) else ""


def sample_words(selections: Selections) -> str:
    """Return a sentence on the subsample on which trained predictors are fitted for selection; empty without one."""
    images = _span(selections.rows["n_selection"])
    words = (
        f"Trained predictors: choices rest on fits to {images} of the training images, drawn by the seed with classes "
        "in proportion; what a rule picks, and the last rank at its best setting, is fitted on all of them."
    )
    return words if images else ""


def _choosing(setting: Setting, selections: Selections) -> list[str]:
    """Return sentences on lodo or its absence, on the split, and on pseudo-environments."""
    side = "in-split (80 %), as in DomainBed"
    if setting.grouped:
        side = "half of the out-groups that is kept for choosing"
    if setting.folds:
        side = "folds other than the tested one, each by fits without it"
    lodo = f"Lodo: each source environment in turn is left out of the fit and tested on its {side}."
    if all(rule.looks_at_target for rule in selections.rules):
        lodo = "The sources leave nothing to choose by: only rules that look at the target (†) choose."
    elif not any(rule.score == "lodo" for rule in selections.rules):
        lodo = (
            "Leaving a source out would leave fewer than two: every method, plain prediction too, is chosen by "
            f"{selections.rule}."
        )
    split, seen = "Split by image.", {"in_80": "training", "full": "training and in choosing"}
    if setting.grouped:
        split = "Split by group: a group of images is on the same side in every environment."
        if setting.test_split in seen:
            split += (
                f" WARNING: with test split {setting.test_split}, groups of the test images were seen in "
                f"{seen[setting.test_split]} (in other environments)."
            )
    counts, clusters = selections.rows["clusters"].dropna(), ""
    if len(counts):
        clusters = (
            f"Environments of the sources are {number(int(counts.iloc[0]))} clusters of their images (k-means on the "
            "embeddings by the seed, without labels or names): what is fitted, chosen and left out by environment goes "
            "by them. What is held out is an environment of the data set, and none of its images is clustered."
        )
    return [lodo, split, clusters]


def _open_class(setting: Setting, selections: Selections) -> str:
    """Return a sentence on base and new classes; empty if fits use all classes."""
    if setting.class_half == "all":
        return ""
    first = selections.rows.iloc[0]
    rounded = {"floor": "down", "ceil": "up"}.get(setting.rounding or "")
    half = "" if rounded is None or first["n_classes"] % 2 == 0 else f", half of them rounded {rounded}"
    words = f"Base classes: the first {number(first['n_base'])} of {number(first['n_classes'])}{half}."
    learnt = ", ".join(dict.fromkeys(m.of_predictor.label for m in selections.parts if m.learns_classes))
    if learnt and setting.class_half != "base":
        words += f" Heads that learn classes from images alone ({learnt}) never predict one they have not seen: 0 %."
    return words


def _views(selections: Selections) -> str:
    """Return sentences on random views and text pairs of interventions; empty without interventions."""
    contents = [json.loads(text) for text in selections.rows["interventions"].dropna().unique()]
    kinds = {str(kind["name"]) for content in contents for kind in content.get("kinds", ())}
    draws, words = selections.rows["view_draw"].nunique(), []
    if kinds - set(NO_IMAGE_DRAWN):
        times = f"{draws} times" if draws > 1 else "once: their variance is not in the ±"
        words.append(f"Views of random interventions are drawn {times}.")
    if any((content.get("text") or {}).get("pairs") for content in contents):
        words.append(
            "Pairs of texts come from a file: those without an image_id belong to no image and are seen by every fit, "
            "captions of held-out images among them."
        )
    return " ".join(words)


def _considered(selections: Selections) -> str:
    """Return a sentence on the candidate ranks, lambdas, intervention sets and normalisations; empty if imported."""
    rows = selections.rows[selections.rows["projection"] != IMPORTED]
    if rows.empty:
        return ""
    placebos = rows["placebo"].notna()
    instead, rows = ", ".join(_named(rows[placebos]["intervention_set"])), rows[~placebos]
    ranks = sorted({r for curve in rows["ranks"] for r in curve})
    lambdas = [f"{x:g}" for x in sorted(map(float, rows["lambda_"].dropna().unique()))]
    sets = _named(rows["intervention_set"].dropna())
    lambdas = lambdas if len(lambdas) <= MAX_LISTED else [f"{len(lambdas)} from {lambdas[0]} to {lambdas[-1]}"]
    sets = sets if len(sets) <= MAX_LISTED else [f"{len(sets)} of them"]
    span = f"rank {ranks[0]}" if len(ranks) == 1 else f"{len(ranks)} ranks from {ranks[0]} to {ranks[-1]}"
    return (
        f"Candidates: {span}; lambda {', '.join(lambdas) or 'none'}; intervention sets "
        f"{', '.join(sets) or 'none'}; normalize {', '.join(_named(rows['normalize'])) or 'none'}."
        f"{f' Placebos of these sets, methods of their own: {instead}.' if instead else ''}"
    )


def _named(names: "pd.Series[Any]") -> list[str]:
    return sorted(map(str, names.unique()))


def imported_words(selections: Selections) -> str:
    """Return a sentence on imported methods and the selection among their settings; empty if none is imported."""
    words = []
    for method, rows in ((m, rows) for m, rows in selections.parts.items() if m.imported):
        settings = number(rows["predictor_params"].nunique())
        among = f"among {settings} settings by the source score that came with them"
        words.append(f"{method.predictor}, chosen {among if has_choice(rows) else 'by its author'}")
    if not words:
        return ""
    return (
        f"Imported answers of methods that were trained elsewhere: {'; '.join(words)}. What they were trained on is "
        "their authors' word."
    )


def _seeds(setting: Setting, seeds: Sequence[int], options: Options) -> str:
    """Return a sentence on the seeds and the meaning of ±."""
    alone = len(seeds) == 1
    named = f"Seed: {seeds[0]} only." if alone else f"Seeds: {', '.join(map(str, seeds))}."
    if options.plus_minus == "seeds":
        over = (
            "± is DomainBed's: one standard error over seeds (ddof 1; DomainBed itself divides by their number, ddof "
            "0). It is not the uncertainty of the result, for seeds share their images."
        )
        return f"{named} {'There is no standard error over seeds and no ±.' if alone else over}"
    units = "groups of test images, each with all its answers" if setting.grouped else "test images"
    between = "Variation between seeds is not in it" if alone else "It has what seeds differ by beyond their images"
    return (
        f"{named} ± is one standard error over {units} (cluster-robust). {between}. There is none where an environment "
        f"has fewer than {MIN_UNITS} {unit_words(setting)}, nor where nothing varies."
    )


def protocol_words(setting: Setting, selections: Selections, options: Options) -> str:
    """Return all notes of a setting as one paragraph, except the banner and the note on the selection rule."""
    on = f"{setting.protocol_class.accuracy_on}{setting.dataset}, {setting.backbone_label}"
    first = f"Accuracy in % on {on}, {setting.precision}{setting.half_words}."
    return " ".join(filter(None, [first, *brief(setting, selections)[1:], *details(setting, selections, options)]))


def protocols(results: Sequence[SettingResults], options: Options) -> list[str]:
    """Return the notes of several settings: a paragraph for each topic."""
    every = [*each_once(results, brief, options), *each_once(results, details, options)]
    left = [f" And {len(lines) - MAX_LISTED} more." if len(lines) > MAX_LISTED else "" for lines in every]
    return [f"{' '.join(lines[:MAX_LISTED])}{more}" for lines, more in zip(every, left, strict=True) if lines]


def each_once(results: Sequence[SettingResults], words: Sentences, options: Options) -> list[list[str]]:
    """Return the distinct sentences of each topic. If settings differ, a sentence begins with the setting's name."""
    topics = []
    for sentences in zip(*(words(setting, selections, options) for setting, selections in results), strict=True):
        owners = grouped(zip(sentences, results, strict=True), lambda one: one[0])
        values = {n: [{getattr(s, n) for _, (s, _) in own} for own in owners.values()] for n in _DISTINGUISHING}
        names = next((v for v in values.values() if sum(map(len, v)) == len(set().union(*v))), values["title"])
        named = [(", ".join(sorted(own)[:MAX_LISTED]), line) for own, line in zip(names, owners, strict=True)]
        topics.append([x if len(owners) == 1 or name in x else f"{name}: {x}" for name, x in named if x])
    return topics


def kinds_of(rows: pd.DataFrame) -> frozenset[str]:
    """Return the kinds (with parameters, as JSON) of the intervention set of some rows; empty if unknown."""
    content = rows["interventions"].iloc[0]
    kinds = json.loads(content)["kinds"] if isinstance(content, str) else []
    return frozenset(json.dumps(kind, sort_keys=True) for kind in kinds)


def pairs_of(rows: pd.DataFrame) -> float:
    """Return the share of the images whose views enter C_d, 0 to 1."""
    share = float(rows["pairs_share"].iloc[0])
    return 1.0 if math.isnan(share) else share


def set_words(name: str, kinds: frozenset[str], every: frozenset[str], share: float = 1.0) -> str:
    """Return a description of an intervention set: "all", "blur alone", "without blur (mild)".

    The set's name is added if it differs from the description. Kinds are as returned by `kinds_of`.
    """
    missing, pairs = every - kinds, f", {100 * share:g} % of the pairs" if share < 1 else ""
    words = name
    if kinds == every:
        words = "all"
    elif len(kinds) == 1:
        words = f"{_names(kinds)} alone"
    elif len(missing) == 1:
        words = f"without {_names(missing)}"
    known = name in words or name.replace("_", " ") in (words, "all", _names(kinds), f"no {_names(missing)}")
    return f"{words if known else f'{words} ({name})'}{pairs}"


def _names(kinds: frozenset[str]) -> str:
    return ", ".join(sorted(str(json.loads(kind)["name"]) for kind in kinds))


def place_of(kinds: frozenset[str], every: frozenset[str], share: float) -> tuple[int, float, int, list[str]]:
    """Return a sort key: all kinds, one kind, all but one, other sets; then sets that use only a share of the pairs."""
    place = 0 if kinds == every else 1 if len(kinds) == 1 else 2 if len(every - kinds) == 1 else OTHERS
    return place if share == 1 else 4, share, len(kinds), sorted(every - kinds if place == 2 else kinds)
