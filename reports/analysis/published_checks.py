"""Checks of our accuracies against published ones: pass, fail (with the first suspect) or not comparable.

reports/published.csv has the published numbers as their sources print them; an empty cell means unknown. `COLUMNS` has
its columns, and `PublishedNumber` a field for each. Some numbers are context only and never decide a check.
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
from reports.analysis.methods import Method
from reports.analysis.selections import Selections, SettingResults
from reports.analysis.settings import Options, Setting, grouped, split_place
from reports.render.table import Cell

AVERAGE = "average"  # environment name of a mean over all environments of a data set
EIGHTY = "80 ImageNet templates"
FAIR = ("zero_shot", "linear_probe")  # published methods that are identical to our predictor of the same name
DERIVED_AVERAGE = ", mean of its environments"  # suffix of a source whose average was computed here
# Test split as named by a source -> as named in rows. Zero-shot fits nothing: its "source-free" split is "full".
_SPLITS = {"full (source-free protocol)": "full", "domainbed in_80": "in_80", "held_out out_20": "out_20"}
_EIGHTY_SPELT = ("80 ImageNet templates", "ensemble of 80")  # prefixes of the sources' names of CLIP's 80 templates


# Data set name in `published.csv` -> catalog entry.
_FACTS = {facts.folder.lower(): facts for facts in CATALOG.values()}
PASS, FAIL, NOT_COMPARABLE, CONTEXT, EMPTY = "pass", "fail", "not comparable", "context", "empty"
MIN_TOLERANCE, PACS_TOLERANCE = 0.3, 1.0  # points; also stated in reports/tables/published.py and docs/reproducing.md
NO_SUSPECT = "none of the usual"
OWN_ROWS = "CLIP-ICM's own numbers could not be obtained, so there is nothing to compare with"
EXPECTED = (
    "Office-Home's published zero-shot average of 71.5 equals another paper's average with noised prompts; 80.4 to "
    "82.5 is expected."
)
_PROTOCOLS = ("held_out", "imagenet_shift")  # protocols that fit on other environments
_PAPER_SETS = ("pacs", "vlcs", "office_home", "terra_incognita", "domain_net")
_PAPER_WEIGHTS = "ViT-B-16 openai"
_SAME_FILES = 0.05  # largest relative difference in the number of images between variants of a data set
_EIGHTY_SHA256 = "e30aa9d7fb289e072e361fb1b2d16a295f7cb396978685fa57a0882c96c06b0d"  # hash of CLIP's 80 templates, JSON
_HALF = ("float16", "bfloat16")


@dataclass(frozen=True)
class PublishedNumber:
    """One published accuracy: a row of `published.csv`.

    Attributes:
        dataset: the catalog's folder name in lower case: "office_home", "imagenet-r".
        environment: tested environment, `average` over all of a data set, or `test` and `val` of ImageNet variants.
        method: evaluated method: "zero_shot", "linear_probe", or any other.
        backbone: open_clip model name, or the source's own name.
        pretrained: open_clip tag; empty if there is none.
        accuracy: in percent; None if the cell is empty.
        test_split: the source's name of the test split.
        template: with {} for the class name, or the name of an ensemble; empty if not stated.
        source: paper or page, with table or section.
        note: further facts; SECONDARY and SUSPECT are marks.
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
        """Backbone and weights, the prefix of our backbone labels: "ViT-B-16 openai"."""
        return f"{self.backbone} {self.pretrained}".rstrip()

    @property
    def split(self) -> str:
        """The test split as named in rows; the source's own name if rows have no such split."""
        return _SPLITS.get(self.test_split, self.test_split)

    @property
    def prompt(self) -> str:
        """The template as `prompt_key` returns it for comparisons; empty if the template is not stated."""
        return EIGHTY if self.template.startswith(_EIGHTY_SPELT) else prompt_key(self.template)

    @property
    def context(self) -> str | None:
        """Reason why the number is context only; None if it can decide a check."""
        marks = {
            "suspect": "suspect" in self.note.lower(),
            "second-hand": "secondary" in self.note.lower(),
            "split not stated": "not stated" in self.test_split,
            "trained otherwise": self.method not in FAIR,
        }
        return next((reason for reason, marked in marks.items() if marked), None)


COLUMNS = tuple({"accuracy": "accuracy_percent"}.get(field.name, field.name) for field in fields(PublishedNumber))


def prompt_key(template: str) -> str:
    """Return a template without its final full stop, which sources and recipes use inconsistently."""
    return template.strip().removesuffix(".")


@cache
def read_published() -> tuple[PublishedNumber, ...]:
    """Return all rows of the package's `published.csv`, in file order."""
    return parse(resources.files("reports").joinpath("published.csv").read_text(encoding="utf-8"), "published.csv")


def parse(text: str, name: str) -> tuple[PublishedNumber, ...]:
    """Return the published numbers of a CSV file.

    Raises:
        IcmBenchError: a column is missing, or an accuracy is not a number from 0 to 100. It names file, line and field.
    """
    lines = csv.DictReader(io.StringIO(text))
    if missing := [column for column in COLUMNS if column not in (lines.fieldnames or ())]:
        raise IcmBenchError(f"{name} has no column '{missing[0]}'; its columns are {', '.join(COLUMNS)}.")
    numbers = []
    for line in lines:
        place, words = f"{name}, line {lines.line_num}", {column: line[column] for column in COLUMNS}
        if short := [column for column, word in words.items() if word is None]:
            raise IcmBenchError(f"{place}, lacks the column '{short[0]}'; leave a field empty if its value is unknown.")
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
    """Return the non-empty published accuracies of a method on a data set, averages included."""
    every = with_averages(read_published())
    return tuple(one for one in every if (one.dataset, one.method) == (dataset, method) and one.accuracy is not None)


def with_averages(numbers: Iterable[PublishedNumber]) -> list[PublishedNumber]:
    """Return the numbers, and an average for each source that has all environments of a data set but no average.

    The source of a computed average ends with `DERIVED_AVERAGE`; the average is not rounded.
    """
    every = list(numbers)
    groups: dict[PublishedNumber, dict[str, float]] = {}
    for one in every:
        if one.accuracy is not None:
            groups.setdefault(replace(one, environment=AVERAGE, accuracy=None), {})[one.environment] = one.accuracy
    for whole, of_environments in groups.items():
        facts = _FACTS.get(whole.dataset)
        if facts is not None and not facts.single and set(of_environments) == set(facts.environments):
            source = whole.source + DERIVED_AVERAGE
            every.append(replace(whole, accuracy=fmean(of_environments.values()), source=source))
    return every


@dataclass(frozen=True)
class Ours:
    """One of our accuracies, with the facts that decide whether it is comparable with a published one.

    Attributes:
        setting: setting of its rows.
        dataset: name in `published.csv`; for shifts of ImageNet the name of the variant.
        environment: name in rows, `average`, or `test` for a variant of ImageNet.
        method: plain prediction or CLIP-ICM.
        rule: selection rule.
        accuracy: in percent, mean over seeds.
        n_images: distinct test images per seed, mean over seeds.
        cell: table cell of the accuracy, with interval and sizes.
        classes: class names as spelled in folders.
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
        """The test split. It is "full" if all folds are tested and the predictor has no training images."""
        split = self.setting.test_split
        return "full" if split == "out_fold" and self.method.learns_nothing else split

    @property
    def prompt(self) -> str:
        """The templates in a form that can be compared with `PublishedNumber.prompt`."""
        texts = self.setting.prompts
        if hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest() == _EIGHTY_SHA256:
            return EIGHTY
        return prompt_key(texts[0]) if len(texts) == 1 else f"an ensemble of {len(texts)}"

    @property
    def expected_images(self) -> int | None:
        """Number of test images according to the catalog; None if unknown."""
        facts = _FACTS.get(self.dataset)
        if facts is None:
            return None
        here = [n for name, n in facts.counted.items() if facts.single or self.environment in (name, AVERAGE)]
        outs = [int(n * HOLDOUT_FRACTION) for n in here]
        known = {"full": sum(here), "out_20": sum(outs), "in_80": sum(here) - sum(outs)}
        return known.get(self.split) or None

    @property
    def dataset_name(self) -> str:
        """Name of the data set in recipes."""
        facts = _FACTS.get(self.dataset)
        return facts.name if facts else self.dataset


@dataclass(frozen=True)
class Check:
    """One of our accuracies with the published numbers that it is checked against.

    Attributes:
        ours: our accuracy.
        sources: published numbers, all with an accuracy.
        verdict: `pass`, `fail`, `not comparable`, `context` (never decides), or `empty` (no published number).
        reason: one or two words: the difference, the first suspect, or the reason for `context`.
        detail: the reason as a sentence; empty if there is nothing to add.
    """

    ours: Ours
    sources: tuple[PublishedNumber, ...]
    verdict: str
    reason: str = ""
    detail: str = ""

    @property
    def published(self) -> float | None:
        """Mean of the published accuracies in percent; None without sources."""
        return fmean(accuracies(self.sources)) if self.sources else None

    @property
    def difference(self) -> float | None:
        """Ours minus the published mean, in points."""
        return None if self.published is None else self.ours.accuracy - self.published

    @property
    def tolerance(self) -> float | None:
        """Tolerance in points; None if the check neither passed nor failed."""
        return tolerance(self.sources) if self.gated else None

    @property
    def gated(self) -> bool:
        """Whether the check passed or failed."""
        return self.verdict in (PASS, FAIL)

    @property
    def words(self) -> str:
        """Verdict and reason: "fail: template"."""
        return f"{self.verdict}: {self.reason}" if self.reason else self.verdict


def accuracies(numbers: Iterable[PublishedNumber]) -> tuple[float, ...]:
    """Return the known accuracies, in percent."""
    return tuple(one.accuracy for one in numbers if one.accuracy is not None)


def tolerance(sources: Sequence[PublishedNumber]) -> float:
    """Return the largest accepted distance, in points, between our accuracy and the mean of its sources.

    It is the range of the sources, but at least 0.3. For ImageNet and its variants it is always 0.3. For PACS with a
    single source it is 1.
    """
    dataset, values = sources[0].dataset, accuracies(sources)
    if dataset == "pacs" and len({one.source for one in sources}) == 1:
        return PACS_TOLERANCE
    facts = _FACTS.get(dataset)
    return MIN_TOLERANCE if facts and facts.single else max(max(values) - min(values), MIN_TOLERANCE)


def against_published(results: Sequence[SettingResults], options: Options | None = None) -> list[Check]:
    """Check our accuracies of plain prediction and CLIP-ICM against published ones.

    Only results over all classes, under protocols that fit on other environments, are checked. For each data set,
    environment, method and backbone, there is one check for each setting that has comparable published numbers. If no
    setting has any, there is one check against the nearest numbers. Checks against numbers that are shown only as
    context are placed last. A backbone without published numbers has one check for each data set and method.
    """
    fair = [one for one in results if one[0].protocol in _PROTOCOLS and one[0].class_half == "all"]
    every = (one for part in fair for one in _ours(*part, options or Options()))
    groups = grouped(every, lambda one: (one.setting.backbone_label, one.dataset, one.environment, one.method))
    return [check for group in groups.values() for check in _checks(group)]


def _ours(setting: Setting, selections: Selections, options: Options) -> Iterator[Ours]:
    """Yield our accuracies of plain prediction and CLIP-ICM on data sets with published numbers."""
    names, rule = selections.held_outs, selections.rule
    if setting.protocol == "held_out":
        tested = [*((setting.dataset, name, [name]) for name in names), (setting.dataset, AVERAGE, names)]
    else:
        tested = [(name, "test", [name]) for name in names]  # variants of a data set
    for method, (name, environment, held_outs) in product(selections.parts, tested):
        dataset = (CATALOG[name].folder if name in CATALOG else name).lower()
        takes_part = bool(published_of(dataset, method.predictor_name))
        if not method.is_plain:
            own = method.is_paper and method.predictor in FAIR and of_weights(setting, _PAPER_WEIGHTS)
            takes_part = own and environment == AVERAGE and dataset in _PAPER_SETS
        estimate = selections.pooled(method, rule).of(held_outs).estimate() if takes_part else None
        if estimate is None or list(estimate.held_outs) != held_outs:  # no seed tests all of them
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
    """Return whether a setting's backbone has the published weights, image size and preprocessing.

    QuickGELU and precision may differ: they are suspects if a check fails.
    """
    name, *rest = setting.backbone.split()
    published, *tag = weights.split()
    if setting.random_weights or name.removesuffix("-quickgelu") != published.removesuffix("-quickgelu"):
        return False
    size = re.search(r"-(\d{3})\b", published)
    allowed = (*_HALF, "tf32", "openvino", f"{size[1] if size else 224}px")
    return bool(tag) and rest[:1] == tag and all(w in allowed or w.startswith("quick_gelu=") for w in rest[1:])


def differing(ours: Ours, number: PublishedNumber) -> list[str]:
    """Return why a published number of the same weights is not comparable: "split", "template", both or neither.

    The split also counts as different if our number of images is more than 5 % away from the catalog's. For linear
    probes, the template does not matter.
    """
    n = ours.expected_images
    other_files = n is not None and abs(ours.n_images - n) > _SAME_FILES * n
    other_prompt = ours.method.predictor_name != "linear_probe" and ours.prompt != number.prompt
    return ["split"] * (ours.split != number.split or other_files) + ["template"] * other_prompt


def _checks(group: Sequence[Ours]) -> list[Check]:
    """Return the checks of one data set, environment, method and backbone; `group` has one accuracy per setting."""
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
    """Return a check with the verdict "not comparable" against the numbers that differ least from ours."""
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
    """Return two texts on a failed check: its most likely cause (or `NO_SUSPECT`), and the evidence in the rows.

    A property that the sources do not state is a suspect if it can change the accuracy.
    """
    setting, n, terra = ours.setting, ours.expected_images, ours.dataset == "terra_incognita"
    has_texts, half = ours.method.predictor_name != "linear_probe", setting.precision in _HALF
    other_template = ours.prompt != EIGHTY and all(source.template not in setting.prompts for source in sources)
    templates = f"ours is {setting.prompts[0]!r}, published {sources[0].template!r}"
    facts = _FACTS.get(ours.dataset)
    own_names = facts is None or not facts.single  # ImageNet variants always use open_clip's class names
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
