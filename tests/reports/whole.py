"""Whole reports: all places of a number, and all places of a method's name.

A report states a number in tables, record files, figures, the page and the text. `disagreements` compares all places of
each number; `unknown_names` and `other_rules` find names and rules of which the page's list of methods knows nothing.
"""

import csv
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd

from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.selection import RULES
from benchmark.method.evaluation.tested import Tested
from reports.analysis.methods import REPLACED, Method
from reports.build import write_report
from reports.figures import Drawing, all_drawings
from reports.made import ReportFiles
from reports.text.sentences import Origin
from tests.reports.page.test_build import blobs

Line = dict[str, str]
Key = tuple[Any, ...]  # setting, rule, label of the method, quantity, held-out environment
AVERAGE, ACCURACY, GAIN, KEPT, SCORE = "average", "accuracy", "gain", "plain picks", "source score"
SOURCE, FALLS_BACK = "source accuracy", "picks that fall back to plain prediction"
PICKED = "by the rule"
ABOUT_RULES = {"selection"}  # tables that compare rules
# Names that methods had in some places only.
ALIASES = ("(largest)", "CLIP-ICM, released", "by interventions alone", "by environments alone", "uniform shrinkage")


@dataclass(frozen=True)
class WholeReport:
    """A written report, with the numbers of its figures.

    Attributes:
        folder: folder of the report.
        files: what `write_report` returned.
        drawings: the numbers of all figures.
    """

    folder: Path
    files: ReportFiles
    drawings: Sequence[Drawing]

    def lines(self, name: str) -> list[Line]:
        """Return the lines of a CSV file in `tables`; none if there is no such file."""
        file = self.folder / "tables" / f"{name}.csv"
        if not file.exists():
            return []
        with file.open(encoding="utf-8", newline="") as content:
            return list(csv.DictReader(content))

    def of_figure(self, name: str) -> list[Drawing]:
        """Return the drawings of one kind: "rank" and "rank-in_domain"."""
        return [drawing for drawing in self.drawings if drawing.name.partition("-")[0] == name]

    @property
    def tables(self) -> dict[str, list[Line]]:
        """The lines of printed tables by name, of all data sets together, if their CSV files have a line per number."""
        tables = defaultdict[str, list[Line]](list)
        for file in sorted((self.folder / "tables").glob("*.json")):
            tables[file.stem.partition("-")[0]] += [line for line in self.lines(file.stem) if "line" in line]
        return tables

    @property
    def page(self) -> dict[Key, dict[str, Any]]:
        """The page's data by setting."""
        content = (self.folder / "index.html").read_bytes()
        data = blobs(content)
        [head] = re.findall(r'id="head">([^<]*)<', content.decode())
        settings = [_setting(one) for one in json.loads(head)["settings"]]
        return {setting: data[f"core-{i}"] for i, setting in enumerate(settings)}


def write(rows: pd.DataFrame, tested: Mapping[str, Tested], folder: Path, name: str) -> WholeReport:
    """Write the report of result rows into a folder."""
    kept: list[Drawing] = []

    def drawings(*args: Any) -> list[Drawing]:
        kept.extend(all_drawings(*args))
        return kept

    with patch("reports.build.all_drawings", drawings):
        files = write_report(rows, tested, Storage(str(folder)), "", Origin(name))
    return WholeReport(folder, files, kept)


def disagreements(report: WholeReport) -> tuple[list[str], dict[str, int]]:
    """Return a sentence for each number that differs between its places, and how many numbers each place shares."""
    places: dict[Key, dict[str, float]] = defaultdict(dict)
    for key, place, value in _facts(report):
        places[key].setdefault(place, value)
    wrong, shared = [], dict[str, int]()
    for key, of in places.items():
        if len(of) > 1:
            for place in of:
                shared[place] = shared.get(place, 0) + 1
            if max(of.values()) - min(of.values()) > _tolerance(of):
                wrong.append(f"{key}: {of}")
    return wrong, shared


def faults(report: WholeReport) -> list[str]:
    """Return all disagreements, other rules and unknown names of a report."""
    return [*disagreements(report)[0], *other_rules(report), *unknown_names(report)]


def other_rules(report: WholeReport) -> list[str]:
    """Return lines of tables, except those about rules, whose rule is not that of the report."""
    rules = {setting: core["rule"] for setting, core in report.page.items()}
    return [
        f"{name}: {line['line']}, {line['column']}: {line['rule']}"
        for name, lines in report.tables.items()
        for line in lines
        if name not in ABOUT_RULES and line["rule"] != rules.get(_setting(line), line["rule"])
    ]


def unknown_names(report: WholeReport) -> list[str]:
    """Return names of methods, in any part of the report, that are not in the page's list of methods, and aliases."""
    methods = [method for core in report.page.values() for method in core["methods"]]
    labels, names = ({method[key] for method in methods} for key in ("label", "name"))
    found = {f"{name}: {line['line']}" for name, lines in report.tables.items() if not name.startswith("ablation")
             for line in lines if line["line"] not in labels}  # fmt: skip
    labels |= {f"{method['name']} ({REPLACED}) + {method['predictor']}" for method in methods}  # made for one question
    with_predictor = {f"{method['name']}, {method['predictor']}" for method in methods}
    found |= {f"{name}: {line['block']}" for name, lines in report.tables.items() if name in ("ablation_lambda", "ablation_rank")
              for line in lines if line["block"] not in with_predictor}  # fmt: skip
    for name in ("accuracies", "differences", "metrics", "per_class", "picks", "verdicts"):
        known = [line[column] for line in report.lines(name) for column in ("method", "baseline") if column in line]
        found |= {f"{name}: {label}" for label in {*known} - labels}
    found |= {f"figures: {method.label}" for method in _drawn_methods(report) if method.label not in labels}
    found |= {f"figures: {one}" for one in _forest_names(report.folder) if one not in names}
    found |= {f"terminal: {name}" for _, name, *_ in _terminal(report) if name not in names}
    for file in sorted(report.folder.rglob("*")):
        if file.suffix in (".md", ".csv", ".tex", ".json", ".svg", ".html"):
            content = file.read_text(encoding="utf-8")
            content += str(blobs(content.encode())) if file.suffix == ".html" else ""
            found |= {f"{file.name}: {alias}" for alias in ALIASES if alias in content}
    return sorted(found)


def _facts(report: WholeReport) -> Iterator[tuple[Key, str, float]]:
    """Return (key, place, value) of every number that has more than one place."""
    for one in report.lines("accuracies"):
        if one["mean"]:
            yield (
                (_setting(one), one["rule"], one["method"], ACCURACY, one["held_out"]),
                "accuracies",
                float(one["mean"]),
            )
    for one in report.lines("metrics"):
        for quantity, column in ((ACCURACY, "accuracy"), (SOURCE, "source_accuracy")):
            if one[column]:
                yield (_setting(one), one["rule"], one["method"], quantity, AVERAGE), "metrics", float(one[column])
    yield from _verdicts(report)
    for one in report.lines("differences"):
        if one["rule"] == one["baseline_rule"] and one["baseline"] == _plain_of(report, one):
            key = _setting(one), one["rule"], one["method"], GAIN, one["held_out"]
            yield key, "differences", float(one["difference"])
    fallen_back = [one for one in report.lines("picks") if one["kept_plain"] == "True"]
    for of_method, kept in Counter((_setting(one), one["rule"], one["method"]) for one in fallen_back).items():
        yield (*of_method, FALLS_BACK, AVERAGE), "picks", float(kept)
    for setting, core in report.page.items():
        yield from _of_page(setting, core)
    for name, lines in report.tables.items():
        yield from _of_table(report, name, lines)
    for setting, drawing, panel in _figures(report):
        yield from _of_figure(setting, report.page[setting]["rule"], drawing.name.partition("-")[0], panel)
    rules = {setting: core["rule"] for setting, core in report.page.items()}
    for setting, name, predictor, accuracy, gain in _terminal(report):
        for method in report.page[setting]["methods"]:
            if method["name"] == name and method["predictor"] in (predictor, "imported"):
                yield (setting, rules[setting], method["label"], ACCURACY, AVERAGE), "terminal", accuracy
                if gain is not None:
                    yield (setting, rules[setting], method["label"], GAIN, AVERAGE), "terminal", gain


def _verdicts(report: WholeReport) -> Iterator[tuple[Key, str, float]]:
    for one in report.lines("verdicts"):
        setting, label = _setting(one), one["method"]
        for rule, value, gain in ((one["rule"], "value", "difference"),
                                  (RULES[one["rule"]].base, "value_ungated", "difference_ungated")):  # fmt: skip
            if one[value] and one["metric"] == "accuracy":
                yield (setting, rule, label, ACCURACY, AVERAGE), "verdicts", float(one[value])
                yield (setting, rule, label, GAIN, AVERAGE), "verdicts", float(one[gain])
        yield (setting, one["rule"], label, KEPT, AVERAGE), "verdicts", float(one["plain_picks"])


def _of_page(setting: Key, core: Mapping[str, Any]) -> Iterator[tuple[Key, str, float]]:
    places = [*core["environments"], AVERAGE]
    for rule, results in core["results"].items():
        for method, result in zip(core["methods"], results, strict=True):
            for place, cell, (kept, _) in zip(places, result["cells"], result["plain"], strict=True) if result else ():
                if cell.get("v") is not None:
                    yield (setting, rule, method["label"], ACCURACY, place), "page", cell["v"]
                if cell.get("d") is not None:
                    yield (setting, rule, method["label"], GAIN, place), "page", cell["d"]
                yield (setting, rule, method["label"], KEPT, place), "page", float(kept)
    for rule, curves in core["curves"].items():
        for method, curve in zip(core["methods"], curves, strict=True):
            for rank, value in zip(curve["ranks"], curve["accuracy"][-1], strict=True) if curve else ():
                yield (setting, rule, method["label"], f"{ACCURACY} at rank {rank}", AVERAGE), "page", value


def _of_table(report: WholeReport, name: str, lines: Sequence[Line]) -> Iterator[tuple[Key, str, float]]:
    for one in lines:
        of_one = one["column"] in one["dataset"].split(", ")  # a column for each of several data sets
        setting = _setting(one | {"dataset": one["column"]} if of_one else one)
        if setting not in report.page or not one["value"]:
            continue
        value, label, column, rule = float(one["value"]), one["line"], one["column"], one["rule"]
        if name.startswith("ablation"):
            labels = {f"{m['name']}, {m['predictor']}": m["label"] for m in report.page[setting]["methods"]}
            if one["block"] not in labels:
                continue
            label, at = labels[one["block"]], ""
            if name == "ablation_rank" and one["line"].isdigit():
                at = f" at rank {one['line']}"
            elif one["line"] == "plain prediction" and column == "times picked":
                yield (setting, rule, label, FALLS_BACK, AVERAGE), name, value
            if not at and one["line"] != PICKED:
                continue
            quantity = {"accuracy on what is held out": ACCURACY, "minus plain": GAIN, SCORE: SCORE}.get(column)
            if quantity:
                yield (setting, rule, label, f"{quantity}{at}", AVERAGE), name, value
        elif name in ABOUT_RULES:
            if column in RULES:
                yield (setting, column, label, ACCURACY, AVERAGE), name, value
        elif column == "minus plain":
            yield (setting, rule, label, GAIN, AVERAGE), name, value
        elif column == "plain in k of n picks":
            yield (setting, rule, label, KEPT, AVERAGE), name, value
        elif column == "source accuracy":
            yield (setting, rule, label, SOURCE, AVERAGE), name, value
        elif of_one or column in ("accuracy", AVERAGE):
            yield (setting, rule, label, ACCURACY, AVERAGE), name, value
        elif name.startswith("environments") and column in report.page[setting]["environments"]:
            yield (setting, rule, label, ACCURACY, column), name, value


def _of_figure(setting: Key, rule: str, figure: str, panel: Any) -> Iterator[tuple[Key, str, float]]:
    place = f"figure {figure}"
    if figure == "environments":
        for method, intervals in panel.gains.items():
            for where, interval, plain in zip(panel.rows, intervals, panel.plain, strict=True):
                yield (setting, rule, method.label, GAIN, where), place, 100 * interval.estimate
                yield (setting, rule, method.plain.label, ACCURACY, where), place, plain
    elif figure == "rank":
        for curve in panel:
            for rank, point in zip(curve.ranks, curve.points, strict=True) if len(curve.ranks) > 1 else ():
                yield (
                    (setting, rule, curve.method.label, f"{GAIN} at rank {rank}", AVERAGE),
                    place,
                    100 * point.estimate,
                )
    elif figure == "lambda_rank":
        kept = panel.choices - panel.picks.sum()
        yield (setting, rule, panel.method.label, FALLS_BACK, AVERAGE), place, float(kept)
    elif figure == "selection":
        for cloud in panel:
            score, accuracy = cloud.picked
            yield (setting, rule, cloud.method.label, SCORE, AVERAGE), place, score
            yield (setting, rule, cloud.method.label, ACCURACY, AVERAGE), place, accuracy
    elif figure == "forest":
        for one in panel:
            if one.baseline.is_plain:
                yield (setting, one.rule, one.method.label, GAIN, AVERAGE), place, 100 * one.interval.estimate


def _figures(report: WholeReport) -> Iterator[tuple[Key, Drawing, Any]]:
    """Return the panels of figures with their setting, which title and suffix tell: data set and protocol."""
    for drawing in report.drawings:
        panels = drawing.numbers
        if drawing.name.startswith("forest"):
            panels = [(" · ".join(key), lines) for key, lines in panels.groups.items()]
        protocol = drawing.name.partition("-")[2]
        for title, panel in panels if isinstance(panels, list) else ():
            settings = _judged(report) if drawing.name.startswith("forest") else [*report.page]
            of = [setting for setting in settings if setting[0] in title] or settings
            yield next((setting for setting in of if setting[2] == protocol), of[0]), drawing, panel


def _drawn_methods(report: WholeReport) -> Iterator[Method]:
    """Return all methods in figures."""
    for _, _, panel in _figures(report):
        if gains := getattr(panel, "gains", None):
            yield from gains
        else:
            yield from (one.method for one in (panel if isinstance(panel, list) else [panel]) if hasattr(one, "method"))


def _forest_names(folder: Path) -> set[str]:
    """Return the names before the minus sign of the lines of forest plots."""
    texts = [text for file in sorted((folder / "figures").glob("forest*.svg"))
             for text in re.findall(r"<text[^>]*>([^<]* − [^<]*)</text>", file.read_text(encoding="utf-8"))]  # fmt: skip
    return {text.partition(" − ")[0] for text in texts}


def _terminal(report: WholeReport) -> Iterator[tuple[Key, str, str, float, float | None]]:
    """Return (setting, name, predictor, accuracy, gain) of the lines of the terminal's table."""
    settings, title = _judged(report), ""
    for line in report.files.text.splitlines():
        if found := re.fullmatch(r"  (\S.*?) {2,}([\d.]+)(?: +([-+][\d.]+).*)?", line):
            name, accuracy, gain = found.groups()
            setting = next((one for one in settings if one[0] in title), settings[0])
            predictors = {method["predictor"] for method in report.page[setting]["methods"]}
            predictor = next((one for one in predictors if title.endswith(one)), "zero-shot")
            yield setting, name, predictor, float(accuracy), float(gain) if gain else None
        else:
            title = line


def _judged(report: WholeReport) -> list[Key]:
    """Return the settings, those with verdicts first: of base classes, new classes and both, it is that of both."""
    judged = {_setting(one) for one in report.lines("verdicts")}
    return sorted(report.page, key=lambda setting: setting not in judged)


def _plain_of(report: WholeReport, one: Line) -> str:
    methods = report.page[_setting(one)]["methods"]
    found = next((methods[m["plain"]]["label"] for m in methods if m["label"] == one["method"] and m["plain"] >= 0), "")
    return str(found)


def _setting(one: Mapping[str, str]) -> Key:
    half = one.get("class_half") or one.get("class_group")
    return one["dataset"], one["backbone"], one["protocol"], one["test_split"], half


def _tolerance(places: Mapping[str, float]) -> float:
    """Return the largest difference that rounding explains: the terminal has one decimal, files at least four."""
    return 0.0501 if "terminal" in places else 1e-3
