"""Published accuracies, and ours against them: pass, fail or not comparable, and what to suspect first.

The numbers lie in `published.csv` of the package: facts with the source of each, as they were found. An empty cell
says that nothing is known, and stays empty. Some are never gates.
"""

import csv
import hashlib
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import resources
from itertools import product
from statistics import fmean

from benchmark.common.errors import IcmBenchError
from benchmark.datasets.catalog import CATALOG
from benchmark.method.evaluation.inference import seeds_standard_error
from benchmark.method.evaluation.splits import HOLDOUT_FRACTION
from reports.analysis.chosen import Selections, SettingResults
from reports.analysis.methods import Method
from reports.analysis.settings import Options, Setting, grouped, split_place
from reports.render.table import Cell

AVERAGE = "average"  # environment of a number that is the mean over all environments of a set
EIGHTY = "80 ImageNet templates"
FAIR = ("zero_shot", "linear_probe")  # what a published method must be for ours of that name to be the same thing
OF_ENVIRONMENTS = ", mean of its environments"  # behind the source of an average that the source itself does not have
# What a source calls its test split -> what rows call it. Zero-shot fits nothing, so that "source-free" says nothing.
_SPLITS = {"full (source-free protocol)": "full", "domainbed in_80": "in_80", "held_out out_20": "out_20"}
_EIGHTY_SPELT = ("80 ImageNet templates", "ensemble of 80")  # what sources call the 80 of CLIP's authors begins so


# What the catalog says of a set, by its name in `published.csv`.
_FACTS = {facts.folder.lower(): facts for facts in CATALOG.values()}
PASS, FAIL, NOT_COMPARABLE, CONTEXT, EMPTY = "pass", "fail", "not comparable", "context", "empty"
LEAST, PACS_ALONE = 0.3, 1.0  # tolerances in points
NO_SUSPECT = "none of the usual"
OWN_ROWS = "CLIP-ICM's own numbers could not be obtained, so there is nothing to compare with"
EXPECTED = (
    "Office-Home's published zero-shot average of 71.5 equals another paper's average with noised prompts; 80.4 to "
    "82.5 is expected."
)
_PROTOCOLS = ("held_out", "imagenet_shift")  # that fit on other environments
_PAPER_SETS = ("pacs", "vlcs", "office_home", "terra_incognita", "domain_net")
_PAPER_WEIGHTS = "ViT-B-16 openai"
_SAME_FILES = 0.05  # by which share the number of images may differ from the catalog's, as variants of a set do
_EIGHTY_SHA256 = "e30aa9d7fb289e072e361fb1b2d16a295f7cb396978685fa57a0882c96c06b0d"  # of the 80 as a JSON list
_HALF = ("float16", "bfloat16")


@dataclass(frozen=True)
class PublishedNumber:
    """One published accuracy, as `published.csv` has it.

    Attributes:
        dataset: the catalog's folder in lower case: "office_home", "imagenet-r".
        environment: the tested one, `average` over all of a set, or `test` and `val` of ImageNet and its variants.
        method: what was evaluated: "zero_shot", "linear_probe", or any other.
        backbone: model of open_clip, or whatever the source calls it.
        pretrained: open_clip's tag; empty where there is none.
        accuracy: in percent; None where the cell is empty.
        test_split: in the words of `published.csv`.
        template: with {} for the class name, or what an ensemble is called; empty where it is not stated.
        source: where it stands.
        note: what else is known of it; SECONDARY and SUSPECT are marks.
    """

    dataset: str
    environment: str
    method: str
    backbone: str
    pretrained: str
    accuracy: float | None
    test_split: str
    template: str
    source: str
    note: str

    @property
    def weights(self) -> str:
        """Backbone and weights, as labels of ours begin: "ViT-B-16 openai"."""
        return f"{self.backbone} {self.pretrained}".rstrip()

    @property
    def split(self) -> str:
        """The test split as rows call it; the source's words where rows have none like it."""
        return _SPLITS.get(self.test_split, self.test_split)

    @property
    def prompt(self) -> str:
        """What templates are compared by: see `prompt_key`; empty where it is not stated."""
        return EIGHTY if self.template.startswith(_EIGHTY_SPELT) else prompt_key(self.template)

    @property
    def context(self) -> str | None:
        """Why it is context and never a gate; None where it may be one."""
        marks = {
            "suspect": "suspect" in self.note.lower(),
            "second-hand": "secondary" in self.note.lower(),
            "split not stated": "not stated" in self.test_split,
            "trained otherwise": self.method not in FAIR,
        }
        return next((reason for reason, marked in marks.items() if marked), None)


COLUMNS = tuple({"accuracy": "accuracy_percent"}.get(field.name, field.name) for field in fields(PublishedNumber))


def prompt_key(template: str) -> str:
    """Return a template without the full stop at its end, in which sources and recipes differ as they please."""
    return template.strip().removesuffix(".")


@cache
def read_published() -> tuple[PublishedNumber, ...]:
    """Return all lines of the package's `published.csv`, in its order."""
    return parse(resources.files("reports").joinpath("published.csv").read_text(encoding="utf-8"), "published.csv")


def parse(text: str, name: str) -> tuple[PublishedNumber, ...]:
    """Return the published numbers of a CSV file.

    Raises:
        IcmBenchError: a column is missing or a number is none; names file, line and field.
    """
    lines = csv.DictReader(io.StringIO(text))
    if missing := [column for column in COLUMNS if column not in (lines.fieldnames or ())]:
        raise IcmBenchError(f"{name} has no column '{missing[0]}'; its columns are {', '.join(COLUMNS)}.")
    numbers = []
    for line in lines:
        place, words = f"{name}, line {lines.line_num}", {column: line[column] for column in COLUMNS}
        if short := [column for column, word in words.items() if word is None]:
            raise IcmBenchError(f"{place}, has no '{short[0]}'; give every column, empty where nothing is known.")
        accuracy = words.pop("accuracy_percent")
        try:
            value = float(accuracy) if accuracy else None
        except ValueError:
            value = math.nan
        if value is not None and not 0 <= value <= 100:
            raise IcmBenchError(f"{place}: accuracy_percent is '{accuracy}'; give a number from 0 to 100, or nothing.")
        numbers.append(PublishedNumber(accuracy=value, **words))
    return tuple(numbers)


@cache
def published_of(dataset: str, method: str) -> tuple[PublishedNumber, ...]:
    """Return the package's numbers and averages of a method on a data set, without empty ones."""
    every = with_averages(read_published())
    return tuple(one for one in every if (one.dataset, one.method) == (dataset, method) and one.accuracy is not None)


def with_averages(numbers: Iterable[PublishedNumber]) -> list[PublishedNumber]:
    """Return the numbers, and the average of every source that has all environments of a set and no average.

    Such an average says so behind its source. It is not rounded.
    """
    every = list(numbers)
    groups: dict[PublishedNumber, dict[str, float]] = {}
    for one in every:
        if one.accuracy is not None:
            groups.setdefault(replace(one, environment=AVERAGE, accuracy=None), {})[one.environment] = one.accuracy
    for whole, of_environments in groups.items():
        facts = _FACTS.get(whole.dataset)
        if facts is not None and not facts.single and set(of_environments) == set(facts.environments):
            source = whole.source + OF_ENVIRONMENTS
            every.append(replace(whole, accuracy=fmean(of_environments.values()), source=source))
    return every


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
        n_images: different test images per seed, averaged over the seeds.
        cell: the accuracy as a table has it, with what stands behind it.
        classes: names of the classes as folders write them.
    """

    setting: Setting
    dataset: str
    environment: str
    method: Method
    rule: str
    accuracy: float
    n_images: float
    cell: Cell
    classes: tuple[str, ...]

    @property
    def split(self) -> str:
        """The test split: all folds together are the whole environment for what learns from no image."""
        split = self.setting.test_split
        return "full" if split == "out_fold" and self.method.learns_nothing else split

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
        facts = _FACTS.get(self.dataset)
        if facts is None:
            return None
        here = [n for name, n in facts.counted.items() if facts.single or self.environment in (name, AVERAGE)]
        outs = [int(n * HOLDOUT_FRACTION) for n in here]
        known = {"full": sum(here), "out_20": sum(outs), "in_80": sum(here) - sum(outs)}
        return known.get(self.split) or None

    @property
    def dataset_name(self) -> str:
        """The data set as recipes call it."""
        facts = _FACTS.get(self.dataset)
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
    def published(self) -> float | None:
        """Mean of the published accuracies in percent; None where there is none."""
        return fmean(accuracies(self.sources)) if self.sources else None

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
    dataset, values = sources[0].dataset, accuracies(sources)
    if dataset == "pacs" and len({one.source for one in sources}) == 1:
        return PACS_ALONE
    facts = _FACTS.get(dataset)
    return LEAST if facts and facts.single else max(max(values) - min(values), LEAST)


def against_published(described: Sequence[SettingResults], options: Options | None = None) -> list[Check]:
    """Hold every plain accuracy of ours against what is published of it.

    Only protocols that fit on other environments take part, over all classes. For data, environment, method and
    backbone there are the comparable numbers of each of our settings, else the nearest that is not comparable, and then
    what is context. Of one backbone that nothing is published of there is one line for each set and method.
    """
    fair = [one for one in described if one[0].protocol in _PROTOCOLS and one[0].class_half == "all"]
    every = (one for part in fair for one in _ours(*part, options or Options()))
    groups = grouped(every, lambda one: (one.setting.backbone_label, one.dataset, one.environment, one.method))
    return [check for group in groups.values() for check in _checks(group)]


def _ours(setting: Setting, selections: Selections, options: Options) -> Iterator[Ours]:
    """Yield our accuracies of plain prediction and CLIP-ICM on sets of which anything is published."""
    names, rule = selections.held_outs, selections.rule
    if setting.protocol == "held_out":
        tested = [*((setting.dataset, name, [name]) for name in names), (setting.dataset, AVERAGE, names)]
    else:
        tested = [(name, "test", [name]) for name in names]  # of variants of a data set
    for method, (name, environment, held_outs) in product(selections.parts, tested):
        dataset = (CATALOG[name].folder if name in CATALOG else name).lower()
        takes_part = bool(published_of(dataset, method.predictor_name))
        if not method.is_plain:
            own = method.is_paper and method.predictor in FAIR and of_weights(setting, _PAPER_WEIGHTS)
            takes_part = own and environment == AVERAGE and dataset in _PAPER_SETS
        estimate = selections.pooled(method, rule).of(held_outs).estimate() if takes_part else None
        if estimate is None or list(estimate.held_outs) != held_outs:  # no seed has all of it
            continue
        rows = selections.chosen_rows(method, rule, ("held_out", "seed", "trial_id"))
        of_lines = zip(*(rows[name].tolist() for name in ("held_out", "seed", "trial_id")), strict=True)
        trials = {str(trial) for name, seed, trial in of_lines if name in held_outs and seed in estimate.seeds}
        error = estimate.interval.standard_error
        if options.plus_minus == "seeds":
            error = seeds_standard_error(estimate.accuracies[0].mean(axis=1).tolist())
        accuracy, n_images = 100 * float(estimate.means.mean()), estimate.size.images_per_seed
        cell = Cell(
            value=accuracy,
            error=None if math.isnan(error) else 100 * error,
            n_images=n_images,
            n_clusters=estimate.size.units_per_seed,
            seeds=estimate.seeds,
            folds=setting.folds,
            decimals=2,
            trials=tuple(sorted(trials)),
        )
        classes = tuple(selections.rows["classes"].iloc[0])
        yield Ours(setting, dataset, environment, method, rule, accuracy, n_images, cell, classes)


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


def _checks(group: Sequence[Ours]) -> list[Check]:
    """Return the checks of one accuracy in all of its splits and prompts."""
    first = min(group, key=lambda one: split_place(one.setting.test_split))
    if not first.method.is_plain:
        return [Check(first, (), EMPTY, "not available", OWN_ROWS)]
    of_set, environment = published_of(first.dataset, first.method.predictor_name), _spelt(first.environment)
    same = [n for n in of_set if _spelt(n.environment) == environment and of_weights(first.setting, n.weights)]
    gates = [number for number in same if number.context is None]
    checks = []
    for one in group:
        if sources := tuple(number for number in gates if not differing(one, number)):
            passes = abs(one.accuracy - fmean(accuracies(sources))) <= tolerance(sources)
            verdict = (PASS,) if passes else (FAIL, *first_suspect(one, sources))
            checks.append(Check(one, sources, *verdict))
    if gates and not checks:
        checks = [_nearest(group, gates)]
    for reason in dict.fromkeys(number.context for number in same if number.context is not None):
        sources = tuple(number for number in same if number.context == reason)
        noised = reason == "suspect" and any((n.dataset, n.accuracy) == ("office_home", 71.5) for n in sources)
        checks.append(Check(first, sources, CONTEXT, reason, EXPECTED if noised else ""))
    if not checks and first.environment in (AVERAGE, "test") and first.method.predictor in FAIR:
        weights = list(dict.fromkeys(number.weights for number in of_set))
        more = f" and {len(weights) - 3} more" if len(weights) > 3 else ""
        detail = f"ours is {first.setting.backbone_label}, published are {', '.join(weights[:3])}{more}"
        checks = [Check(first, (), NOT_COMPARABLE, "backbone", detail)]
    return checks


def _spelt(environment: str) -> str:
    return environment.replace("_", " ").lower()


def _nearest(group: Sequence[Ours], numbers: Sequence[PublishedNumber]) -> Check:
    """Return the check against what differs in the least, of numbers of which none is comparable."""
    pairs = [(one, number) for number in numbers for one in group]
    one, number = min(pairs, key=lambda pair: (len(differing(*pair)), not pair[1].prompt))
    sources = tuple(n for n in numbers if (n.split, n.prompt) == (number.split, number.prompt))
    split, n = one.setting.test_split, one.expected_images
    images = "" if n is None else f" of {one.n_images:,.0f} images ({n:,} expected)"
    template = f"ours is {one.prompt!r}, published {number.template!r}"
    words = {
        "split": f"ours is {split}{images}, published {number.test_split}",
        "template": template if number.template else "the source does not state its template",
    }
    what = differing(one, number)
    return Check(one, sources, NOT_COMPARABLE, ", ".join(what), "; ".join(f"{w}: {words[w]}" for w in what))


def first_suspect(ours: Ours, sources: Sequence[PublishedNumber]) -> tuple[str, str]:
    """Return what to suspect first of a number that fails, and why, from what is known of the rows.

    What the sources do not say is suspected where it can matter.
    """
    setting, n, terra = ours.setting, ours.expected_images, ours.dataset == "terra_incognita"
    has_texts, half = ours.method.predictor_name != "linear_probe", setting.precision in _HALF
    other_template = ours.prompt != EIGHTY and all(source.template not in setting.prompts for source in sources)
    templates = f"ours is {setting.prompts[0]!r}, published {sources[0].template!r}"
    facts = _FACTS.get(ours.dataset)
    own_names = facts is None or not facts.single  # a variant of ImageNet has open_clip's everywhere
    cased = next((name for name in ours.classes if name != name.lower()), None)
    lower = all("lower-cased" in source.note for source in sources)
    written = "sources write them in lower case" if lower else "a source does not say how it writes them"
    images = f"ours has {ours.n_images:,.0f} images"
    other_files = n is not None and n != ours.n_images and not terra
    other_precision = any(("fp16" in source.note) != half for source in sources)
    precision = f"ours is {setting.precision}, and a source {'does not say fp16' if half else 'says fp16'}"
    suspects = (
        ("template", has_texts and other_template, templates),
        ("class-name case", has_texts and own_names and cased, f"ours has names such as {cased!r}, and {written}"),
        ("split", other_files, f"{images}, and {n or 0:,} are expected"),
        ("QuickGELU", "quick_gelu=" in setting.backbone, f"it is forced in {setting.backbone!r}"),
        ("fp16", other_precision, precision),
        ("Terra variant", terra, f"{images}; sets of 24,330 and of 24,788 circulate"),
    )
    return next(((name, why) for name, suspected, why in suspects if suspected), (NO_SUSPECT, ""))
