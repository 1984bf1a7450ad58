"""Choice between backbones from result rows: a sentence, a table and a figure, written by `icm-bench choose`.

The sentence only claims differences that intervals show. It only compares speeds that were measured in the same run.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any, TypeAlias

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from matplotlib.transforms import Bbox

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.answers import Answered, Key
from benchmark.method.evaluation.inference import ImageInterval, Interval, pooled_interval
from benchmark.method.evaluation.seed_variance import MIN_UNITS
from benchmark.method.evaluation.selection import Picks
from benchmark.method.evaluation.tested import Tested
from reports.analysis.backbones import ZERO_SHOT
from reports.analysis.comparisons import Ties, ties
from reports.analysis.methods import Method
from reports.analysis.selections import Selections, SettingResults, complete_estimate, mean_over_tests
from reports.analysis.settings import Options, Setting, by_setting
from reports.figures import Drawing, captions, drawn, style
from reports.render import FORMATS
from reports.render.cells import interval_text, value_text
from reports.render.formats import WIDTH, markdown, markdown_escape, text
from reports.render.table import Block, Cell, Column, Line, Table
from reports.tables import cells, words
from reports.tables.by_method import methods_of
from reports.tables.spec import by_backbone, by_data_set, check_compatible, common_rule
from reports.text.sentences import Origin

_ON, _BEHIND = style.Look(style.BLUE, "o", "-"), style.Look(style.GREY, "o", "-", hollow=True)
_LETTERS = 30  # longest name next to its dot


Cost: TypeAlias = Mapping[str, Any]  # fields of `benchmark.store.costs.Cost`
NAME = "choose"
MIN_FASTER = 1.1  # smallest ratio of speeds that counts as faster
_COMPARED_BY = ("run", "machine", "device", "actors", "cores")  # speeds are comparable if these fields are equal
# `table_of` makes the cells in this order.
_COLUMNS = (
    Column(ZERO_SHOT.label, "Plain"),
    Column("what the rule picks", "Picked"),
    Column("what the rule picks minus the best backbone's, in points", "Gap", unit=""),
    Column("worst environment", "Worst"),
    Column("calibration error (ECE)", "ECE"),
    Column("images per second", "Images/s", unit=""),
    Column("memory of an encoder in GiB", "GiB", unit=""),
)
_PICKED = (
    "Picked: for each held-out environment and seed the method and setting with the rule's highest source score. Gap "
    "(points, to the best), worst environment and ECE are measured at these picks."
)
_BOLD = "Bold: tied with the best, that is not separated from it (all paired differences of backbones, Holm)."
_ALL_TIED = "Nothing is bold, since all backbones are tied with the best."
_SPEED = "Images/s: views through decoding, interventions and encoder, start-up excluded, all in one run: {}."
_MEMORY = "GiB: peak memory; on a GPU as allocated by PyTorch, else of the encoder's process, including shared pages."


@dataclass(frozen=True)
class Dot:
    """One backbone in the figure: `speed` in images per second, and `worst`, the accuracy in its worst environment."""

    name: str
    speed: float
    worst: Cell
    on_front: bool

    @property
    def place(self) -> tuple[float, float]:
        """Position: (speed, accuracy)."""
        return self.speed, self.worst.value or 0.0


def draw(dots: Sequence[Dot]) -> style.Sheet:
    """Draw backbones at column width, with names next to their dots."""
    sheet = style.sheet_of(style.COLUMN, 2.6)
    axes = sheet.add_subplot()
    axes.set_xscale("log")
    for dot in dots:
        look, (speed, accuracy) = _ON if dot.on_front else _BEHIND, dot.place
        if dot.worst.low is not None and dot.worst.high is not None:
            ends = [dot.worst.low, dot.worst.high]
            axes.plot([speed] * 2, ends, color=look.colour, linewidth=0.6, alpha=0.7)
        axes.plot([speed], [accuracy], **look.marks(zorder=3))
    axes.margins(x=0.22, y=0.12)
    # The Pareto front bounds the region that some backbone reaches in both speed and accuracy.
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    x, y = zip(*sorted(dot.place for dot in dots if dot.on_front), strict=True)
    edge = [left, *x, x[-1]], [y[0], *y, bottom]
    axes.step(*edge, where="pre", color=style.GREY, linewidth=0.8, linestyle=(0, (3, 2)))
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel="Images a second", ylabel="Worst environment (%)")
    axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 3, 5)), major_formatter=StrMethodFormatter("{x:,g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    style.round_ticks(axes.yaxis, 6)
    style.arrange(sheet)
    _names_beside(axes, dots)
    return sheet


def _names_beside(axes: Axes, dots: Sequence[Dot]) -> None:
    """Write names next to dots with as little overlap of names, dots and edges as possible."""
    figure: Any = axes.get_figure(root=True)
    renderer = figure.canvas.get_renderer()
    inside = axes.get_window_extent(renderer)
    corners = [axes.transData.transform(dot.place) for dot in dots]
    taken = [Bbox.from_extents(x - 3, y - 3, x + 3, y + 3) for x, y in corners]
    for dot in sorted(dots, key=lambda one: (-one.on_front, -one.place[1])):
        how: dict[str, Any] = {"textcoords": "offset points", "fontsize": style.SMALL, "va": "center"}
        text = axes.annotate(style.words(dot.name, _LETTERS), dot.place, (0, 0), **how)
        tried: list[tuple[float, dict[str, Any], Bbox]] = []
        for (side, x), y in product((("left", 4), ("right", -4)), (5, -5, 0, 13, -13, 21, -21)):
            place: dict[str, Any] = {"ha": side, "position": (x, y)}
            text.set(**place)
            box = text.get_window_extent(renderer)
            shared = [both.width * both.height for one in taken if (both := Bbox.intersection(box, one))]
            out = max(0.0, inside.x0 - box.x0) + max(0.0, box.x1 - inside.x1)
            tried.append((sum(shared) + 1e3 * out, place, box))
        _, place, box = min(tried, key=lambda one: one[0])
        text.set(**place)
        taken.append(box)


@dataclass(frozen=True)
class Candidate:
    """One compared backbone. For each held-out environment and seed, a selection rule picks its method and settings.

    Attributes:
        name: label of the backbone.
        answers: data set -> which test images are classified correctly with the picked methods.
        methods: label of a method -> number of (held-out environment, seed) pairs for which it is picked.
        plain: zero-shot accuracy without a projection, in percent, averaged over data sets.
        average: accuracy at the picks in percent, averaged over data sets.
        worst: lowest accuracy at the picks over the environments of all data sets, in percent.
        worst_name: name of that environment, after the name of its data set if there are several.
        ece: calibration error at the picks, in percent.
        speed: images (views) per second through decoding, interventions and encoder; None if not measured in the run
            whose speeds are compared.
        memory: peak memory of an encoder in bytes; None if unknown.
    """

    name: str
    answers: Mapping[str, Answered]
    methods: Mapping[str, int]
    plain: Cell
    average: Cell
    worst: Cell
    worst_name: str
    ece: Cell
    speed: float | None
    memory: int | None


@dataclass(frozen=True)
class Choice:
    """Comparison of backbones.

    Attributes:
        rule: selection rule.
        candidates: compared backbones, the highest average first.
        ties: labels of the backbones whose difference to the best backbone is not significant.
        differences: backbone -> its accuracy minus the accuracy of the best backbone, at the picks, on the same images.
        measured_on: encoders and machine with which speeds were measured; empty if no speeds are comparable.
        left_out: sentences on excluded backbones and missing methods.
        results: compared settings, each with its rows.
    """

    rule: str
    candidates: tuple[Candidate, ...]
    ties: Ties[str]
    differences: Mapping[str, ImageInterval]
    measured_on: str
    left_out: tuple[str, ...]
    results: Sequence[SettingResults]

    @property
    def best(self) -> Candidate:
        """The backbone with the highest average."""
        return self.candidates[0]

    @property
    def tied(self) -> list[Candidate]:
        """The other backbones that are tied with the best: the fastest first, unknown speeds last."""
        others = [one for one in self.candidates[1:] if one.name in self.ties.tied]
        return sorted(others, key=lambda one: -(one.speed or 0.0))

    @property
    def chosen(self) -> Candidate | None:
        """The best backbone, or the fastest of `tied` if it is at least `MIN_FASTER` times as fast as the best.

        None if intervals or speeds are missing.
        """
        if not self.tied:
            return self.best if self.ties.tied else None
        times = self.times_as_fast(self.tied[0])
        return None if times is None else self.tied[0] if times >= MIN_FASTER else self.best

    @property
    def front(self) -> list[str]:
        """Backbones on the Pareto front of speed and accuracy in the worst environment."""
        placed = {one.name: (one.speed, one.worst.value or 0.0) for one in self.candidates if one.speed}
        every = placed.values()
        behind = {at for at in every for x, y in every if (x, y) != at and x >= at[0] and y >= at[1]}
        return [name for name, at in placed.items() if at not in behind]

    def p(self, name: str) -> float | None:
        """Return the p-value of the difference to the best, Holm-adjusted over all pairs; None for the best itself."""
        return next((p for pair, p in self.ties.adjusted.items() if {*pair} == {name, self.best.name}), None)

    def times_as_fast(self, one: Candidate) -> float | None:
        """Return the speed of a backbone relative to the best; None if unknown."""
        return one.speed / self.best.speed if one.speed and self.best.speed else None


def table_of(choice: Choice, options: Options, names: Mapping[str, str]) -> Table:
    """Return the table of backbones, the highest average first. The note of an empty cell says why it is empty."""
    results, tied = choice.results, choice.ties.tied
    bold = len(tied) < len(choice.candidates)
    gap = "not measured in the run whose speeds are compared" if choice.measured_on else "no run recorded it"
    lines, picked, worst = [], [], dict[str, list[str]]()
    for one in choice.candidates:
        difference, short = choice.differences.get(one.name), names.get(one.name, one.name)
        unknown = "not recorded where the speed was" if one.speed else gap
        made = (
            one.plain,
            replace(one.average, best=bold and one.name in tied),
            Cell(note="the best itself") if difference is None else cells.points(difference),
            one.worst,
            one.ece,
            cells.known(one.speed, gap),
            cells.known(one.memory and one.memory / 2**30, unknown, decimals=2),
        )
        lines.append(Line(one.name, made, short))
        worst.setdefault(one.worst_name, []).append(short)
        counts = ", ".join(f"{label} in {n}" for label, n in one.methods.items())
        picked.append(f"Picked for {one.name}: {counts} of {sum(one.methods.values())} tests.")
    where = [f"{name} for {' and '.join(own) if len(worst) > 1 else 'all'}" for name, own in worst.items()]
    own = [_PICKED, f"Worst environment: {'; '.join(where)}.", words.INTERVAL]
    own += [_BOLD if bold else _ALL_TIED] if tied else []
    own += [_SPEED.format(choice.measured_on)] if choice.measured_on else []
    own += [_MEMORY] if any(one.memory for one in choice.candidates) else []
    caption = f"Which backbone: accuracy (%), calibration, speed and memory on {', '.join(by_data_set(results))}."
    caption, blocks = words.caption(results, caption), (Block("", tuple(lines)),)
    notes = (*words.notes(results, choice.rule, options, own), *choice.left_out)
    context = words.context(results, choice.rule, options)
    return Table(NAME, caption, _COLUMNS, blocks, notes, tuple(picked), "Backbone", context)


def choose(results: Sequence[SettingResults], costs: Mapping[str, Sequence[Cost]], options: Options) -> Choice:
    """Return the comparison of backbones.

    Raises:
        IcmBenchError: fewer than two backbones can be compared, or the protocols of the rows differ.
    """
    fair, left_out = _comparable(results)
    check_compatible(fair, NAME)
    rule, parts = common_rule(fair), by_backbone(fair)
    measured, where = of_one_run({name: costs.get(name, ()) for name in parts})
    every = {name: _candidate(name, own, rule, options, measured.get(name)) for name, own in parts.items()}
    left_out += [f"{name} is not compared: {one}." for name, one in every.items() if isinstance(one, str)]
    whole = {name: one for name, one in every.items() if isinstance(one, Candidate)}
    _check_two([*whole], left_out)
    of_each = {name: {m.label for m in methods_of(parts[name]) if not m.imported} for name in whole}
    for name, own in of_each.items():
        if missing := sorted(set().union(*of_each.values()) - own):  # cannot be picked for this backbone
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            left_out.append(f"{name} has no rows of {', '.join(missing[:3])}{more}.")
    differences = {(a, b): _difference(parts[a], whole[a], whole[b]) for a, b in combinations(whole, 2)}
    found = ties([*whole], differences)
    to_best = {b: replace(one, estimate=-one.estimate) for (a, b), one in differences.items() if a == found.best}
    to_best |= {a: one for (a, b), one in differences.items() if b == found.best}
    ordered = sorted(whole.values(), key=lambda one: (one.name != found.best, -(one.average.value or 0.0)))
    shown = [part for part in fair if part[0].backbone_label in whole]
    return Choice(rule, tuple(ordered), found, to_best, where, tuple(left_out), shown)


def _comparable(results: Sequence[SettingResults]) -> tuple[Sequence[SettingResults], list[str]]:
    """Return the comparable settings of two or more backbones, and sentences on excluded backbones."""
    fair = [one for one in results if not one[0].protocol_class.looks_at_target]
    if any(s.class_half == "harmonic" for s, _ in fair):
        fair = [one for one in fair if one[0].class_half not in ("base", "new")]
    random = {s.backbone for s, _ in fair if s.random_weights}
    left_out = [f"{name} is not compared: its weights are random." for name in sorted(random)]
    fair = [one for one in fair if not one[0].random_weights]
    sets = by_data_set(fair)
    for name, parts in by_backbone(fair).items():
        if missing := [dataset for dataset in sets if dataset not in by_data_set(parts)]:
            left_out.append(f"{name} is not compared: it has no rows of {', '.join(missing)}.")
            fair = [one for one in fair if one[0].backbone_label != name]
    _check_two([*by_backbone(fair)], left_out)
    return fair, left_out


def _check_two(there: Sequence[str], left_out: Sequence[str]) -> None:
    """Raise an error with the reasons of exclusions if there are fewer than two backbones."""
    if len(there) < 2:
        only = f"rows of '{there[0]}' alone" if there else "rows of no backbone"
        reasons = f" ({'; '.join(one.rstrip('.') for one in left_out)})" if left_out else ""
        raise IcmBenchError(
            f"Choosing needs two backbones with results on all held-out environments, but there are {only}{reasons}: "
            "finish the others with `icm-bench run RECIPE`."
        )


def of_one_run(costs: Mapping[str, Sequence[Cost]]) -> tuple[dict[str, Cost], str]:
    """Return the embedding cost of each backbone in one run with equal encoders, and a description of the encoders.

    The run with the most backbones is taken; of several such runs, the one with the most images. Within the run, each
    backbone's measurement with the most images counts, since start and end affect it least. Costs of earlier versions
    do not name their run. They are left out, since the load of the machine is unknown.
    """
    runs: dict[tuple[Any, ...], dict[str, Cost]] = {}
    for backbone, every in costs.items():
        for cost in sorted(every, key=lambda cost: float(cost["work"])):
            if cost.get("run"):
                runs.setdefault(tuple(cost[name] for name in _COMPARED_BY), {})[backbone] = cost
    if not runs:
        return {}, ""
    found = max(runs.values(), key=lambda of_run: (len(of_run), sum(cost["work"] for cost in of_run.values())))
    one = next(iter(found.values()))
    encoders = f"{one['actors']} encoder{'s' if one['actors'] != 1 else ''} on {one['device']}"
    threads = f" with {one['cores']} thread{'s' if one['cores'] > 1 else ''} each" if one["cores"] else ""
    return found, f"{encoders}{threads}, {one['machine']}"


def _difference(parts: Sequence[SettingResults], one: Candidate, other: Candidate) -> ImageInterval:
    """Return the accuracy of `one` minus the accuracy of `other`, on the same images, averaged over data sets."""
    intervals = []
    for setting, selections in parts:
        estimate = complete_estimate(selections, one.answers[setting.dataset], other.answers[setting.dataset])
        if estimate is None:
            raise IcmBenchError(
                f"'{one.name}' and '{other.name}' share no seed with the same test images on all held-out environments "
                f"of {setting.dataset}: finish both with `icm-bench run RECIPE`, or select common seeds with --where."
            )
        intervals.append(estimate.interval)
    return pooled_interval(intervals)


def _candidate(
    name: str, parts: Sequence[SettingResults], rule: str, options: Options, cost: Cost | None
) -> Candidate | str:
    """Return a backbone as a candidate, or the reason why it is excluded. `parts` has one setting per data set."""
    answers: dict[str, Answered] = {}
    labels: list[str] = []
    numbers, worst, errors = [], [], []  # `numbers` has every data set, the other two only complete data sets
    for setting, selections in parts:
        picked = _picked(setting, selections, rule)
        methods = {key: method for key, (_, method, _) in picked.items()}
        labels += [method.label for method in methods.values()]
        pooled = {key: selections.pooled(m, rule)[key] for key, m in sorted(methods.items())}
        own = Answered(pooled, selections.n_classes, selections.n_base)
        answers[setting.dataset] = own
        estimate = complete_estimate(selections, own) if methods else None
        if estimate is None:
            missing = sorted(set(selections.held_outs) - {held_out for held_out, _ in methods})
            gap = f"no answers for {', '.join(missing)}" if missing else "no seed has every held-out environment"
            numbers.append((setting.dataset, cells.Number(Cell(note=gap))))
            continue
        trials = {t for (name, _), m in methods.items() for t in cells.trials_of(selections, m, rule, name)}
        cell = cells.cell_of([estimate], options, folds=selections.folds, trials=tuple(sorted(trials)))
        numbers.append((setting.dataset, cells.Number(cell, estimate)))
        behind = pd.concat(picks for (_, seed), (_, _, picks) in picked.items() if seed in estimate.seeds)
        of_errors = Picks({name: behind[name].tolist() for name in ("held_out", "seed", "ece", "n_test")})
        errors.append(100 * mean_over_tests(of_errors, "ece", "n_test"))
        lowest = int(estimate.means[0].argmin())
        worst.append((float(estimate.means[0][lowest]), setting.dataset, estimate.held_outs[lowest]))
    average = cells.over_sets(numbers, options)
    if average.value is None:
        return str(average.note)
    accuracy, dataset, held_out = min(worst, key=lambda one: one[0])
    alone = answers[dataset].estimate(held_out=held_out)
    assert alone is not None  # part of a complete estimate
    worst_cell = cells.cell_of([alone], options, value=100 * accuracy)
    worst_name = f"{dataset}: {held_out}" if len(parts) > 1 else held_out
    ece = cells.known(sum(errors) / len(errors), "no calibration error at what is picked")
    counts = {label: labels.count(label) for label in dict.fromkeys(labels)}
    of_plain = [(s.dataset, cells.accuracy(selections, ZERO_SHOT, rule, options)) for s, selections in parts]
    plain = cells.over_sets(of_plain, options)
    speed, memory = (cost["work"] / cost["seconds"], cost["memory"] or None) if cost else (None, None)
    return Candidate(name, answers, counts, plain, average, worst_cell, worst_name, ece, speed, memory)


def _picked(setting: Setting, selections: Selections, rule: str) -> dict[Key, tuple[float, Method, pd.DataFrame]]:
    """Return (score, method, picks) of the method with the highest source score, for each (held_out, seed).

    Methods that look at test images are excluded. If only a part of the classes is tested, methods that cannot predict
    classes without training images are excluded too.
    """
    found: dict[Key, tuple[float, Method, pd.DataFrame]] = {}
    for method in methods_of([(setting, selections)]):  # the first of equals wins; plain prediction comes first
        excluded = method.imported or method.looks_at_target_images or not selections.is_complete(method, rule)
        if excluded or (setting.class_half != "all" and method.learns_classes):
            continue
        by_test = selections.picks(method, rule).frame().groupby(["held_out", "seed"])
        scores = by_test["score"].mean().dropna()
        for key, score in zip(scores.index.tolist(), scores.tolist(), strict=True):
            if key in selections.pooled(method, rule) and (key not in found or score > found[key][0]):
                found[key] = score, method, by_test.get_group(key)
    return found


@dataclass(frozen=True)
class ChoiceFiles:
    """Result of `write_choice`.

    Attributes:
        files: paths or URIs of all files, choose.md first.
        text: sentence and table for a terminal, 80 characters wide.
        record: the comparison as plain data: accuracies in percent, differences in points, memory in bytes.
    """

    files: list[str]
    text: str
    record: dict[str, Any]


def write_choice(
    rows: pd.DataFrame,
    tested: Mapping[str, Tested],
    costs: Mapping[str, Sequence[Cost]],
    storage: Storage,
    folder: str,
    origin: Origin,
) -> ChoiceFiles:
    """Write the comparison of backbones as sentence, table and figure. Equal rows and costs give equal bytes.

    Args:
        rows: result rows from `benchmark.store.rows.read_rows`, of two or more backbones under one protocol.
        tested: hash in the column `tested` of the rows -> test images.
        costs: name of a backbone, as in the rows -> costs of computing its embeddings.
        storage: storage to write to.
        folder: folder inside the storage, or "" for its top level. Files with the same names are replaced.
        origin: provenance of the rows, and missing results.

    Raises:
        IcmBenchError: there are no rows, fewer than two backbones can be compared, the protocols of the rows differ,
            or a file cannot be written.
    """
    if rows.empty:
        raise IcmBenchError(f"There are no result rows of '{origin.name}'; run `icm-bench sweep RECIPE` first.")
    options = Options()
    results = [(setting, Selections(part, tested)) for setting, part in by_setting(rows)]
    choice = choose(results, costs, options)
    words, table = sentence(choice), table_of(choice, options, origin.names)
    shown = [f"# {markdown_escape(origin.name)}: which backbone?", f"**{markdown_escape(words)}**"]
    shown += [*map(markdown_escape, origin.missing), markdown(table).rstrip()]
    contents = {f"tables/{NAME}.{suffix}": form(table).encode() for suffix, form in FORMATS.items()}
    for one in drawn(drawings(choice, origin.names)):
        shown += [f"![{NAME}](figures/{NAME}.png)", markdown_escape(one.caption)]
        in_markdown, in_latex = captions([one])
        forms = {**one.contents, "md": in_markdown.encode(), "tex": in_latex.encode()}
        contents |= {f"figures/{NAME}.{suffix}": data for suffix, data in forms.items()}
    contents = {f"{NAME}.md": ("\n\n".join(shown) + "\n").encode(), **contents}
    files = list(storage.write_files(folder, contents).values())
    wrapped = [line for one in (words, *origin.missing) for line in textwrap.wrap(one, WIDTH)]
    lines = [*wrapped, "", *text(table), "", f"Table and figure: {files[0]}"]
    record = {
        "sentence": words,
        "chosen": choice.chosen.name if choice.chosen else None,
        "best": choice.best.name,
        "tied": list(choice.ties.tied),
        "rule": choice.rule,
        "measured_on": choice.measured_on or None,
        "backbones": [_record(choice, one) for one in choice.candidates],
        "left_out": list(choice.left_out),
    }
    return ChoiceFiles(files, "\n".join(lines), record)


def _record(choice: Choice, one: Candidate) -> dict[str, Any]:
    difference = choice.differences.get(one.name)
    numbers = {
        "zero_shot": one.plain.value,
        "picked": one.average.value,
        "picked_low": one.average.low,
        "picked_high": one.average.high,
        "minus_best": None if difference is None else 100 * difference.estimate,
        "minus_best_low": None if difference is None else 100 * difference.low,
        "minus_best_high": None if difference is None else 100 * difference.high,
        "p_holm": choice.p(one.name),
        "worst_environment_accuracy": one.worst.value,
        "ece": one.ece.value,
        "images_per_second": one.speed,
    }
    return {
        "backbone": one.name,
        **{name: None if value is None or value != value else round(value, 6) for name, value in numbers.items()},
        "worst_environment": one.worst_name,
        "memory": one.memory,
        "on_front": one.name in choice.front,
        "methods": dict(one.methods),
    }


def drawings(choice: Choice, names: Mapping[str, str]) -> list[Drawing]:
    """Return the figure of accuracy in the worst environment against speed; empty with fewer than two speeds."""
    every, front = choice.candidates, choice.front
    dots = [Dot(names.get(one.name, one.name), one.speed, one.worst, one.name in front) for one in every if one.speed]
    missing = [one.name for one in every if not one.speed]
    absent = f" Not drawn, for no speed may be compared: {', '.join(missing)}." if missing else ""
    sets = ", ".join(dict.fromkeys(setting.dataset for setting, _ in choice.results))
    caption = (
        "Accuracy at the rule's picks in the worst held-out environment against images per second (log axis), "
        f"{len(dots)} backbones. Filled, at the dashes: Pareto front of both numbers, without their uncertainty; bars: "
        "95 % intervals of that environment. If bars overlap, the order is not established. "
        f"Speeds of one run: {choice.measured_on}.{absent} {sets}; rule {choice.rule}."
    )
    return [Drawing(NAME, caption, draw, dots)] if len(dots) > 1 else []


def sentence(choice: Choice) -> str:
    """Return a sentence that names the best backbone, the backbones tied with it, a faster one, and the choice."""
    best, others, tied = choice.best, choice.candidates[1:], choice.tied
    accuracy = f"{best.average.value:.1f} %"
    highest = f"{best.name} has the highest average, {accuracy}"
    if not choice.ties.tied:
        min_units = min(interval.min_clusters for interval in choice.differences.values())
        few = f"an environment has {min_units} images, and intervals need {MIN_UNITS}"
        why = few if min_units < MIN_UNITS else "no difference has an interval"
        return f"{highest}, but backbones cannot be separated, for {why}: nothing is chosen."
    fastest = tied[0] if tied else max(others, key=lambda one: one.speed or 0.0)
    times, difference = choice.times_as_fast(fastest), choice.differences[fastest.name]
    encodes = f"encodes {times:.1f} times as many images a second" if times else ""
    if not tied:
        ahead = f"the {len(others)} others" if len(others) > 1 else others[0].name
        more, where = f", ahead of {ahead} in these environments", ""
        if (times or 0.0) >= MIN_FASTER:
            behind = _points(replace(difference, estimate=-difference.estimate), signed=False)
            more, where = f"; {fastest.name} {encodes} and is behind by {behind}", " where accuracy counts most"
        return f"{best.name} is best with {accuracy}{more}: choose {best.name}{where}."
    apart = difference.standard_error > 0 and not difference.low <= 0 <= difference.high
    why = f"; p = {choice.p(fastest.name):.2f} among {len(choice.ties.adjusted)} pairs, Holm" if apart else ""
    behind = f" ({_points(difference)}{why})"
    if choice.ties.equal:
        head, who, than = f"All averages are equal, {accuracy}", f", and {fastest.name}", f" as {best.name}"
    elif len(tied) == 1:
        head, who, than = f"{highest}; {fastest.name} is tied with it{behind}", " and", ""
    else:
        names = f"{', '.join(one.name for one in tied[:-1])} and {tied[-1].name}"
        head, who, than = f"{highest}; {names} are tied with it", f", and {fastest.name}{behind}", ""
    if choice.chosen is None:
        return f"{head}, and no run measured the speed of these: nothing is chosen."
    if choice.chosen is best:
        return f"{head}, and none was measured to encode faster: choose {best.name}."
    return f"{head}{who} {encodes}{than}: choose {fastest.name}."


def _points(interval: Interval, signed: bool = True) -> str:
    """Return a difference in words: "-0.3 [-1.0, +0.4] points"."""
    cell = cells.points(interval, signed=signed)
    return " ".join(filter(None, [value_text(cell), interval_text(cell), "points"]))
