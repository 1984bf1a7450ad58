"""Ours against published accuracies: pass, fail or not comparable, and what to suspect first where one fails."""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmark.datasets.catalog import CATALOG
from benchmark.method.evaluation.inference import PlusMinus, seeds_standard_error
from benchmark.method.evaluation.splits import HOLDOUT_FRACTION
from reports.analysis.answers import Estimate
from reports.analysis.chosen import Selections
from reports.analysis.methods import Method
from reports.analysis.options import Options
from reports.analysis.published import (
    AVERAGE,
    EIGHTY,
    FAIR,
    PublishedNumber,
    facts_of,
    prompt_key,
    read_published,
    with_averages,
)
from reports.analysis.settings import Setting

PASS, FAIL, NOT_COMPARABLE, CONTEXT, EMPTY = "pass", "fail", "not comparable", "context", "empty"
LEAST, PACS_ALONE = 0.3, 1.0  # tolerances in points
SUSPECTS = ("template", "class-name case", "split", "QuickGELU", "fp16", "Terra variant")
NO_SUSPECT = "none of the usual"
OWN_ROWS = "CLIP-ICM's own numbers could not be obtained, so there is nothing to compare with"
EXPECTED = (
    "Office-Home's published zero-shot average of 71.5 equals another paper's average with noised prompts; 80.4 to "
    "82.5 is expected."
)

_PROTOCOLS = ("held_out", "imagenet_shift")
_PAPER_SETS = ("pacs", "vlcs", "office_home", "terra_incognita", "domain_net")
_PAPER_WEIGHTS = "ViT-B-16 openai"
SPLIT_ORDER = ("out_20", "in_80", "full", "out_fold")  # the released code's first
_SAME_FILES = 0.05  # by which share the number of images may differ from the catalog's, as variants of a set do
_EIGHTY_SHA256 = "e30aa9d7fb289e072e361fb1b2d16a295f7cb396978685fa57a0882c96c06b0d"  # of the 80 as a JSON list
_HALF = ("float16", "bfloat16")


@dataclass(frozen=True)
class Ours:
    """One accuracy of ours, and all that says whether it may be held against a published one.

    Attributes:
        setting: what its rows share.
        dataset: as published files call it; of a shift of ImageNet the variant.
        environment: as rows call it; `average`, or `test` of a variant.
        method: plain prediction, or CLIP-ICM.
        rule: the selection rule.
        accuracy: in percent, mean over seeds.
        error: what stands behind ±, in points; None where there is none.
        n_images: different test images per seed, averaged over the seeds.
        n_clusters: groups of them, or images where there are no groups.
        seeds: the seeds behind it.
        trials: ids of the trials behind it.
        classes: names of the classes as folders write them.
    """

    setting: Setting
    dataset: str
    environment: str
    method: Method
    rule: str
    accuracy: float
    error: float | None
    n_images: float
    n_clusters: float
    seeds: tuple[int, ...]
    trials: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def split(self) -> str:
        """The test split: all folds together are the whole environment for what learns from no image."""
        return (
            "full" if self.setting.test_split == "out_fold" and self.method.learns_nothing else self.setting.test_split
        )

    @property
    def prompt(self) -> str:
        """What templates are compared by."""
        texts = self.setting.prompts
        if hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest() == _EIGHTY_SHA256:
            return EIGHTY
        return prompt_key(texts[0]) if len(texts) == 1 else f"an ensemble of {len(texts)}"

    @property
    def expected_images(self) -> int | None:
        """How many images the catalog lets expect; None where it does not know."""
        facts = facts_of(self.dataset)
        if facts is None:
            return None
        here = [n for name, n in facts.counted.items() if facts.single or self.environment in (name, AVERAGE)]
        outs = [int(n * HOLDOUT_FRACTION) for n in here]
        known = {"full": sum(here), "out_20": sum(outs), "in_80": sum(here) - sum(outs)}
        return known.get(self.split) or None

    @property
    def name(self) -> str:
        """Everything that tells it apart in a sentence."""
        where = self.dataset_name if self.environment == "test" else f"{self.dataset_name} {self.environment}"
        return f"{where}, {self.method.label}, {self.setting.backbone_label} ({self.setting.test_split})"

    @property
    def dataset_name(self) -> str:
        """The data set as recipes call it."""
        facts = facts_of(self.dataset)
        return facts.name if facts else self.dataset


@dataclass(frozen=True)
class Check:
    """One accuracy of ours beside what is published of the same.

    Attributes:
        ours: the accuracy.
        sources: the published numbers beside it, none of them empty.
        verdict: `pass`, `fail`, `not comparable`, `context` (it never gates), or `empty` (its source has no number).
        reason: in a word or two: what differs, the first suspect, or why it is context.
        detail: the same in a sentence; empty where there is nothing to add.
    """

    ours: Ours
    sources: tuple[PublishedNumber, ...]
    verdict: str
    reason: str = ""
    detail: str = ""

    @property
    def accuracies(self) -> tuple[float, ...]:
        """The published accuracies in percent."""
        return accuracies(self.sources)

    @property
    def published(self) -> float | None:
        """Their mean; None where there is none."""
        return fmean(self.accuracies) if self.sources else None

    @property
    def difference(self) -> float | None:
        """Ours minus the published mean, in points."""
        return None if self.published is None else self.ours.accuracy - self.published

    @property
    def tolerance(self) -> float | None:
        """In points; None where nothing is gated."""
        return tolerance(self.sources) if self.gated else None

    @property
    def gated(self) -> bool:
        """Whether it passed or failed."""
        return self.verdict in (PASS, FAIL)

    @property
    def words(self) -> str:
        """Verdict and reason: "fail: template"."""
        return f"{self.verdict}: {self.reason}" if self.reason else self.verdict


def accuracies(numbers: Iterable[PublishedNumber]) -> tuple[float, ...]:
    """Return the accuracies of the numbers that have one, in percent."""
    return tuple(one.accuracy for one in numbers if one.accuracy is not None)


def tolerance(sources: Sequence[PublishedNumber]) -> float:
    """Return within how many points ours must be of the mean of its sources.

    That is their spread, never below 0.3; 0.3 for ImageNet and its variants, and 1 for PACS where one source stands
    alone.
    """
    facts = facts_of(sources[0].dataset)
    if facts is not None and facts.single:
        return LEAST
    if sources[0].dataset == "pacs" and len({one.source for one in sources}) == 1:
        return PACS_ALONE
    values = accuracies(sources)
    return max(max(values) - min(values), LEAST)


def against_published(
    described: Sequence[tuple[Setting, Selections]],
    options: Options | None = None,
    numbers: Iterable[PublishedNumber] | None = None,
) -> list[Check]:
    """Hold every plain accuracy of ours against what is published of it.

    Only protocols that fit on other environments take part, over all classes. For data, environment, method and
    backbone there are the comparable numbers of each of our settings, else the nearest that is not comparable, and then
    what is context. Of one backbone that nothing is published of there is one line for each set and method.

    Args:
        described: every setting with its rows, see `reports.analysis.settings.by_setting`.
        options: what stands behind ±.
        numbers: published ones; by default those that come with the package.

    Returns:
        In the order of the settings; nothing where nothing is published of these data sets.
    """
    known = _Known(with_averages(read_published() if numbers is None else numbers))
    plus_minus = (options or Options()).plus_minus
    ours = [one for setting, selections in described for one in measured(setting, selections, known, plus_minus)]
    groups: dict[tuple[str, str, str, Method], list[Ours]] = {}
    for one in ours:
        groups.setdefault((one.setting.backbone_label, one.dataset, one.environment, one.method), []).append(one)
    return [check for group in groups.values() for check in _checks(group, known)]


class _Known:
    """Published numbers by what they are of."""

    def __init__(self, numbers: Iterable[PublishedNumber]) -> None:
        self._of: dict[tuple[str, str, str], list[PublishedNumber]] = {}
        self._of_set: dict[tuple[str, str], list[PublishedNumber]] = {}
        for one in numbers:
            if one.accuracy is not None:
                self._of.setdefault((one.dataset, _environment(one.environment), one.method), []).append(one)
                self._of_set.setdefault((one.dataset, one.method), []).append(one)

    def has(self, dataset: str, predictor: str) -> bool:
        return (dataset, predictor) in self._of_set

    def of(self, ours: Ours) -> list[PublishedNumber]:
        """Return what is published of data, environment and method, whatever the backbone."""
        return self._of.get((ours.dataset, _environment(ours.environment), ours.method.predictor_name), [])

    def weights(self, ours: Ours) -> list[str]:
        """Return the backbones of which something is published on the data set."""
        return list(dict.fromkeys(one.weights for one in self._of_set[ours.dataset, ours.method.predictor_name]))


def _environment(name: str) -> str:
    return name.replace("_", " ").lower()


def measured(setting: Setting, selections: Selections, known: _Known, plus_minus: PlusMinus) -> list[Ours]:
    """Return our accuracies of plain prediction and CLIP-ICM on sets of which anything is published."""
    if setting.protocol not in _PROTOCOLS or setting.class_half != "all":
        return []
    variants = setting.protocol == "imagenet_shift"
    found = []
    for method in selections.parts:
        names = selections.held_outs
        tested = [(*_named(name), "test", [name]) for name in names] if variants else []
        if not variants:
            (dataset,) = _named(setting.dataset)
            tested = [*((dataset, name, [name]) for name in names), (dataset, AVERAGE, names)]
        for dataset, environment, held_outs in tested:
            if _takes_part(setting, method, dataset, environment, known):
                one = _ours(setting, selections, method, dataset, environment, held_outs, plus_minus)
                found += [one] if one is not None else []
    return found


def _named(dataset: str) -> tuple[str]:
    return ((CATALOG[dataset].folder if dataset in CATALOG else dataset).lower(),)


def _takes_part(setting: Setting, method: Method, dataset: str, environment: str, known: _Known) -> bool:
    if method.is_plain:
        return known.has(dataset, method.predictor_name)
    own = method.is_paper and method.predictor in FAIR
    return own and environment == AVERAGE and dataset in _PAPER_SETS and of_weights(setting, _PAPER_WEIGHTS)


def _ours(
    setting: Setting,
    selections: Selections,
    method: Method,
    dataset: str,
    environment: str,
    held_outs: list[str],
    plus_minus: PlusMinus,
) -> Ours | None:
    """Return the accuracy on what is held out, all of it together; None where no seed has it all."""
    rule = selections.rule
    pooled = selections.pooled(method, rule)
    estimate = pooled.of(held_outs).estimate()
    if estimate is None or list(estimate.held_outs) != held_outs:
        return None
    chosen = selections.chosen_rows(method, rule, ("held_out", "seed", "trial_id"))
    rows = chosen[chosen["held_out"].isin(held_outs) & chosen["seed"].isin(estimate.seeds)]
    return Ours(
        setting=setting,
        dataset=dataset,
        environment=environment,
        method=method,
        rule=rule,
        accuracy=100 * float(estimate.means.mean()),
        error=_error(estimate, plus_minus),
        n_images=estimate.size.images_per_seed,
        n_clusters=estimate.size.units_per_seed,
        seeds=estimate.seeds,
        trials=tuple(sorted(set(map(str, rows["trial_id"])))),
        classes=tuple(selections.rows["classes"].iloc[0]),
    )


def _error(estimate: Estimate, plus_minus: PlusMinus) -> float | None:
    if plus_minus == "images":
        value = estimate.interval.standard_error
    else:
        value = seeds_standard_error(estimate.accuracies[0].mean(axis=1).tolist())
    return None if math.isnan(value) else 100 * value


def of_weights(setting: Setting, weights: str) -> bool:
    """Say whether a setting's backbone is the published one: its weights, at its own size, with its own preprocessing.

    QuickGELU and precision may differ: they are suspects where numbers do.
    """
    name, *rest = setting.backbone.split()
    published, *tag = weights.split()
    if setting.random_weights or name.removesuffix("-quickgelu") != published.removesuffix("-quickgelu"):
        return False
    size = re.search(r"-(\d{3})\b", published)
    allowed = (*_HALF, "openvino", f"{size[1] if size else 224}px")
    return bool(tag) and rest[:1] == tag and all(w in allowed or w.startswith("quick_gelu=") for w in rest[1:])


def differing(ours: Ours, number: PublishedNumber) -> list[str]:
    """Return what keeps a published number of the same weights from being comparable: split, template, both or nothing.

    Another number of images than 95 % to 105 % of the catalog's is another split. The linear probe has no template.
    """
    n = ours.expected_images
    other_files = n is not None and abs(ours.n_images - n) > _SAME_FILES * n
    other_prompt = ours.method.predictor_name != "linear_probe" and ours.prompt != number.prompt
    return ["split"] * (ours.split != number.split or other_files) + ["template"] * other_prompt


def _checks(group: list[Ours], known: _Known) -> list[Check]:
    """Return the checks of one accuracy in all of its splits and prompts."""
    first = min(group, key=_place)
    if not first.method.is_plain:
        return [Check(first, (), EMPTY, "not available", OWN_ROWS)]
    same = [number for number in known.of(first) if of_weights(first.setting, number.weights)]
    gates = [number for number in same if number.context is None]
    checks = [check for one in group if (check := _gate(one, gates)) is not None]
    if not checks and gates:
        checks = [_nearest(group, gates)]
    for reason in dict.fromkeys(number.context for number in same if number.context is not None):
        sources = tuple(number for number in same if number.context == reason)
        checks.append(Check(first, sources, CONTEXT, reason, _expected(sources)))
    if not checks and first.environment in (AVERAGE, "test") and first.method.predictor in FAIR:
        checks = _of_other_weights(first, known)
    return checks


def _place(ours: Ours) -> int:
    known = dict(zip(SPLIT_ORDER, range(len(SPLIT_ORDER)), strict=True))
    return known.get(ours.setting.test_split, len(known))


def _gate(ours: Ours, numbers: Sequence[PublishedNumber]) -> Check | None:
    """Return the check against all numbers that are comparable; None where none is."""
    sources = tuple(number for number in numbers if not differing(ours, number))
    if not sources:
        return None
    if abs(ours.accuracy - fmean(accuracies(sources))) <= tolerance(sources):
        return Check(ours, sources, PASS)
    reason, detail = first_suspect(ours, sources)
    return Check(ours, sources, FAIL, reason, detail)


def _nearest(group: Sequence[Ours], numbers: Sequence[PublishedNumber]) -> Check:
    """Return the check against what differs in the least, of numbers of which none is comparable."""
    pairs = [(len(differing(one, number)), not number.prompt, i, one, number)
             for one in group for i, number in enumerate(numbers)]  # fmt: skip
    *_, one, number = min(pairs, key=lambda pair: pair[:3])
    of = (number.split, number.prompt)
    sources = tuple(other for other in numbers if (other.split, other.prompt) == of)
    what = differing(one, number)
    words = {
        "split": f"ours is {_split_words(one)}, published {number.test_split}",
        "template": f"ours is {one.prompt!r}, published {number.template!r}"
        if number.template
        else "the source does not state its template",
    }
    return Check(one, sources, NOT_COMPARABLE, ", ".join(what), "; ".join(f"{w}: {words[w]}" for w in what))


def _split_words(ours: Ours) -> str:
    n = ours.expected_images
    return (
        ours.setting.test_split
        if n is None
        else f"{ours.setting.test_split} of {ours.n_images:,.0f} images ({n:,} expected)"
    )


def _of_other_weights(ours: Ours, known: _Known) -> list[Check]:
    weights = known.weights(ours)
    more = f" and {len(weights) - 3} more" if len(weights) > 3 else ""
    detail = f"ours is {ours.setting.backbone_label}, published are {', '.join(weights[:3])}{more}"
    return [Check(ours, (), NOT_COMPARABLE, "backbone", detail)]


def _expected(numbers: Iterable[PublishedNumber]) -> str:
    suspect = any(n.dataset == "office_home" and n.accuracy == 71.5 and n.context == "suspect" for n in numbers)
    return EXPECTED if suspect else ""


def first_suspect(ours: Ours, sources: Sequence[PublishedNumber]) -> tuple[str, str]:
    """Return what to suspect first of a number that fails, one of `SUSPECTS`, and why, from what is known of the rows.

    What the sources do not say is suspected where it can matter.
    """
    setting, n = ours.setting, ours.expected_images
    has_texts = ours.method.predictor_name != "linear_probe"
    facts, terra = facts_of(ours.dataset), ours.dataset == "terra_incognita"
    variant = facts is not None and facts.single  # whose class names are open_clip's everywhere
    cased = next((name for name in ours.classes if name != name.lower()), None)
    files = n is not None and n != ours.n_images
    half = setting.precision in _HALF
    why = {
        "template": f"ours is {setting.prompts[0]!r}, published {sources[0].template!r}"
        if has_texts and ours.prompt != EIGHTY and all(s.template not in setting.prompts for s in sources)
        else None,
        "class-name case": f"ours has names such as {cased!r}, and {_cases(sources)}"
        if has_texts and not variant and cased
        else None,
        "split": f"ours has {ours.n_images:,.0f} images, and {n:,} are expected" if files and not terra else None,
        "QuickGELU": f"it is forced in {setting.backbone!r}" if "quick_gelu=" in setting.backbone else None,
        "fp16": f"ours is {setting.precision}, and a source {'does not say fp16' if half else 'says fp16'}"
        if any(s.half_precision != half for s in sources)
        else None,
        "Terra variant": f"ours has {ours.n_images:,.0f} images; sets of 24,330 and of 24,788 circulate"
        if terra
        else None,
    }
    return next(((name, words) for name in SUSPECTS if (words := why[name])), (NO_SUSPECT, ""))


def _cases(sources: Sequence[PublishedNumber]) -> str:
    if all(source.lower_cased for source in sources):
        return "sources write them in lower case"
    return "a source does not say how it writes them"
