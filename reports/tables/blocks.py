"""Lines and blocks: which methods stand together, which of them are bold, and what is said of both."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from benchmark.method.evaluation.inference import pooled_interval
from benchmark.method.evaluation.selection import IMPORTED
from reports.analysis.chosen import Selections
from reports.analysis.comparisons import Ranked, ranked
from reports.analysis.methods import PLAIN, SHRINKAGE, Method
from reports.analysis.options import Options
from reports.analysis.ties import ties
from reports.render.table import Block, Cell, Column, Line, Table
from reports.tables import cells, words
from reports.tables.alike import Described, by_backbone

PICKS = Column("plain in k of n picks", "Plain picks", unit="")
# Of tables that fix one setting, and what is said of them.
OF_FIXED = (
    Column("source score", "Source score"),
    Column("accuracy on what is held out", "Held out"),
    Column("minus plain", "− plain", unit="points"),
)
OF_FIXED_IN_WORDS = (
    "Source score: what the rule looks at, mean over environments, seeds and folds. − plain: mean difference to plain "
    "prediction with the same predictor and images."
)

_NAMED = 6  # columns in which nothing is bold, of which the names are said


def is_contender(method: Method) -> bool:
    """Say whether a method stands in tables of a paper: neither a placebo, nor a part of another method, nor a share.

    These stand in tables of one data set and backbone, and in the comparisons.
    """
    part = method.projection in (PLAIN, SHRINKAGE) and bool(method.variant)
    return not (part or method.placebo or method.with_all_pairs != method)


def methods_of(described: Described, predictor: str | None = None, every: bool = False) -> list[Method]:
    """Return the methods that any setting has, in the order of tables.

    Args:
        described: settings with their rows.
        predictor: of one predictor alone; by default of all.
        every: whether placebos and parts of methods are among them.
    """
    found = {method for _, selections in described for method in selections.parts}
    chosen = [m for m in found if (every or is_contender(m)) and predictor in (None, block_of(m))]
    return sorted(chosen, key=lambda method: method.place)


def predictors_of(described: Described, every: bool = False) -> list[str]:
    """Return the predictors of these methods, in the order of tables; imported methods are one block."""
    return list(dict.fromkeys(block_of(method) for method in methods_of(described, every=every)))


def block_of(method: Method) -> str:
    """Return the predictor by which methods stand together; imported methods, named in its place, are one block."""
    return IMPORTED if method.imported else method.predictor


@dataclass(frozen=True)
class OverSets:
    """What differences over several data sets say: the methods that all of them rank, and those tied with the best."""

    methods: tuple[Method, ...]
    tied: list[Method]


@dataclass
class Marked:
    """Which cells of a table are bold, and in which blocks none is since all of them are tied with the best.

    Attributes:
        bold: whether any cell is.
        level: what none is bold of, in words: the column and the block.
    """

    bold: bool = False
    level: list[str] = field(default_factory=list)

    def mark(
        self, lines: Sequence[Line], methods: Sequence[Method], column: int, found: Ranked | OverSets | None, place: str
    ) -> list[Line]:
        """Return lines with the cells of a column in bold that are not separated from the best.

        Args:
            lines: of one block.
            methods: of each line.
            column: number of the column.
            found: the methods and what their differences say of their order; None where they are not ranked.
            place: the column and the block, in words.
        """
        tied = found.tied if found else []
        if not found or not tied:
            return list(lines)
        if len(tied) == len(found.methods):
            self.level.append(place)
            return list(lines)
        marked = []
        for line, method in zip(lines, methods, strict=True):
            cell = line.cells[column]
            best = method in tied and cell.value is not None and not cell.equals_plain and not cell.bound
            self.bold = self.bold or best
            own = (*line.cells[:column], replace(cell, best=best), *line.cells[column + 1 :])
            marked.append(replace(line, cells=own))
        return marked

    @property
    def notes(self) -> list[str]:
        """What bold means, and where nothing is bold since all are level."""
        named = "; ".join(self.level) if len(self.level) <= _NAMED else f"{len(self.level)} columns of blocks"
        level = f"Nothing is bold where all of the block is level with the best: {named}." if self.level else ""
        return [note for note in (words.BOLD if self.bold else "", level) if note]


def ranking_of(selections: Selections, rule: str, methods: Sequence[Method]) -> Ranked | None:
    """Return what the differences of some methods of one predictor say; None where fewer than two are whole."""
    found = ranked(selections, rule, methods)
    return found[0] if found else None


def over_sets(of_sets: Sequence[Ranked | None]) -> OverSets | None:
    """Return which methods are not separated from the best mean over data sets, each counting alike.

    Every pair of the methods that all data sets rank is compared by its pooled interval, adjusted by Holm over all.

    Args:
        of_sets: what each data set says.
    """
    rankings = [one.ranking for one in of_sets if one is not None and one.ranking is not None]
    if not rankings or len(rankings) < len(of_sets):
        return None
    every = [one.methods for one in of_sets if one is not None]
    methods = tuple(m for m in every[0] if all(m in one for one in every))
    if len(methods) < 2:
        return None
    differences = {
        (a, b): pooled_interval(
            [ranking.differences[one.index(a), one.index(b)] for one, ranking in zip(every, rankings, strict=True)]
        )
        for a, b in combinations(methods, 2)
    }
    found = ties(methods, differences)
    return OverSets(methods, [] if found.equal else list(found.tied))


def blocks_of(
    described: Described,
    names: Mapping[str, str],
    lines: Callable[[Described, str, str], Sequence[Line]],
    every: bool = False,
) -> list[Block]:
    """Return a block for each backbone and predictor that has lines; titles say what blocks differ in.

    Args:
        described: settings with their rows.
        names: long name -> short name.
        lines: settings of one backbone, the predictor and both in words -> lines.
        every: whether predictors with placebos alone count.
    """
    backbones = by_backbone(described)
    predictors = predictors_of(described, every)
    made = []
    for backbone, parts in backbones.items():
        for predictor in predictors:
            label = predictor_words(parts, predictor)
            own = lines(parts, predictor, f"{backbone}, {label}")
            if own:
                titles = [words.short(backbone, names)] if len(backbones) > 1 else []
                titles += [words.short(label, names)] if len(predictors) > 1 else []
                of_backbone = (replace(line, key={"backbone": backbone, **line.key}) for line in own)
                made.append(Block(", ".join(titles), tuple(of_backbone), words.short(backbone, names)))
    return made


def predictor_words(described: Described, predictor: str) -> str:
    """Return a predictor in words; "imported" for the block of imported methods."""
    methods = (m for _, selections in described for m in selections.parts if m.predictor == predictor)
    return next((method.predictor_label for method in methods), predictor)


def line_of(method: Method, own: Sequence[Cell], names: Mapping[str, str], equals_plain: bool = False) -> Line:
    """Return the line of a method."""
    marked = tuple(replace(cell, equals_plain=True) if equals_plain and cell.text is None else cell for cell in own)
    return Line(method.label, marked, words.short_name(method, names), equals_plain, {"method": method.label})


def with_picks(lines: Sequence[Line], methods: Sequence[Method], described: Described, rule: str) -> list[Line]:
    """Return lines with one more cell: of how many picks a method is plain."""
    counts = [cells.plain_picks([selections for _, selections in described], m, rule) for m in methods]
    return [replace(line, cells=(*line.cells, cells.count(*one))) for line, one in zip(lines, counts, strict=True)]


def has_plain_picks(described: Described, methods: Sequence[Method], rule: str) -> bool:
    """Say whether any method other than plain prediction is plain in any of its picks."""
    parts = [selections for _, selections in described]
    return any(cells.plain_picks(parts, method, rule)[0] for method in methods if not method.is_plain)


def table_of(
    name: str,
    caption: str,
    columns: Sequence[Column],
    blocks: Sequence[Block],
    described: Described,
    rule: str | None,
    options: Options,
    own: Sequence[str],
    corner: str = "Method",
    whole: bool = False,
) -> Table | None:
    """Return a table without columns in which nothing stands; None with fewer than two lines, or nothing in them.

    Args:
        name: of the table.
        caption: what it shows; random weights are said before it.
        columns: as `Table` has them.
        blocks: in order.
        described: its settings.
        rule: what chose; None where it has several.
        options: what the reader asks for.
        own: the table's own notes.
        corner: what stands above the names of the lines.
        whole: whether details say everything of how it was tested.
    """
    kept = [
        i
        for i in range(len(columns))
        if any(line.cells[i].value is not None or line.cells[i].text for block in blocks for line in block.lines)
    ]
    made = tuple(
        replace(block, lines=tuple(replace(line, cells=tuple(line.cells[i] for i in kept)) for line in block.lines))
        for block in blocks
    )
    table = Table(
        name,
        words.caption(described, caption),
        tuple(columns[i] for i in kept),
        made,
        tuple(words.notes(described, rule, options, own)),
        tuple(words.details(described, options) if whole else ()),
        corner,
        words.context(described, rule, options),
    )
    return table if kept and table.is_worth_printing else None
