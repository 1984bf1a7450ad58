"""What the page is handed, in the shape of the verdicts' and tables' modules; built from rows by the plainest means."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from reports.tables import line_cells

from reports.chosen import Selections, held_out_names, rule_for
from reports.comparisons import Comparison
from reports.findings import comparisons
from reports.methods import ICM, SHRINKAGE, Method
from reports.options import Options
from reports.settings import Setting
from reports.table import Block, Cell, Column, Line, Table


@dataclass(frozen=True)
class Decoded:
    rank: int = 2
    before: float = 0.9
    after: float = 0.6
    chance: float = 0.5


@dataclass(frozen=True)
class Details:
    predictions: pa.Table
    classes: tuple[str, ...]
    map: pa.Table | None = None
    decoded: tuple[Decoded, ...] = (Decoded(),)


@dataclass(frozen=True)
class Verdict:
    setting: Setting
    method: Method
    rule: str
    kind: str
    gain: Comparison | None
    against: tuple[Comparison, ...]
    unbeaten: str | None
    plain_picks: tuple[int, int]
    sentence: str


@dataclass(frozen=True)
class Answer:
    headline: str
    verdicts: tuple[Verdict, ...]
    left_out: tuple[str, ...] = ()


def answer(described: Sequence[tuple[Setting, Selections]], headline: str = "No difference found in 2 of 2") -> Answer:
    verdicts = []
    for setting, selections in described:
        rule, compared = rule_for(selections.rows), comparisons(setting, selections, Options()).compared
        for method in selections.parts:
            if method.projection in (ICM, SHRINKAGE) and not method.variant and method.order != "released":
                own = [one for one in compared if one.method == method]
                gain = next((one for one in own if one.baseline.is_plain), None)
                against = tuple(one for one in own if one is not gain)
                kind = "no difference found" if gain else "nothing to compare"
                picks = selections.plain_picks(method, rule)
                words = f"{method.label} on {setting.dataset}: {kind}."
                verdicts.append(Verdict(setting, method, rule, kind, gain, against, None, picks, words))
    return Answer(headline, tuple(verdicts))


def table(setting: Setting, selections: Selections, name: str = "main") -> Table:
    rule = rule_for(selections.rows)
    blocks: dict[str, list[Line]] = {}
    for method in selections.parts:
        cells = tuple(
            Cell(value=c.mean, error=c.stderr, note=c.note, best=c.best, seeds=c.seeds, n_images=c.n_images)
            for c in line_cells(selections, method, rule)
        )
        own, n = selections.plain_picks(method, rule)
        line = Line(method.projection_label, cells, equals_plain=own == n)
        blocks.setdefault(method.predictor_label, []).append(line)
    columns = tuple(Column(name) for name in (*held_out_names(selections.rows), "average"))
    return Table(
        name,
        f"{setting.banner}Accuracy in % on {setting.dataset}, {setting.backbone_label}, rule {rule}.",
        columns,
        tuple(Block(title, tuple(lines)) for title, lines in blocks.items()),
        ("± is one standard error over test images.",),
        context={"protocol": setting.protocol},
    )


FORMS = {"main": {"tex": "\\begin{table}\n50 \\% & a_b\n\\end{table}\n", "csv": "a,b\n", "md": "| a |\n"}}
