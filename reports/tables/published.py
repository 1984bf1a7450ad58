"""The checks of `reports.analysis.published_checks` as a table, records, one sentence, and notes of other tables."""
# The notes of other tables leave out a verdict that has no words in `_VERDICTS`.

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from reports.analysis import published_checks as against
from reports.analysis.settings import BANNER, named
from reports.render.table import Block, Cell, Column, Line, Table

_COLUMNS = (
    Column("ours"),
    Column("published"),
    Column("range of its sources", "range"),
    Column("difference", "diff.", unit="points"),
    Column("tolerance", "tol.", unit="points"),
    Column("verdict", unit=""),
    Column("source", unit=""),
)
# Names of tables with plain accuracies. The first have averages only, the others also have single environments.
_OF_AVERAGES, _OF_ENVIRONMENTS = ("main", "backbones"), ("environments", "imagenet")
_NOTHING = (
    "Published: no number of this table. Plain prediction is compared with published accuracies by data set and by "
    "environment."
)
_VERDICTS = {
    against.PASS: "reproduced within the tolerance",
    against.FAIL: "not reproduced",
    against.NOT_COMPARABLE: "not comparable",
    against.CONTEXT: "never decisive",
}


def table_of(checks: Sequence[against.Check]) -> Table | None:
    """Return the table of checks, a block for each backbone and a line for each check; None without checks."""
    if not checks:
        return None
    sources = dict.fromkeys(n.source.removesuffix(against.DERIVED_AVERAGE) for check in checks for n in check.sources)
    numbers = {source: i for i, source in enumerate(sources, start=1)}
    blocks: dict[str, list[Line]] = {}
    for check in checks:
        ours, values = check.ours, against.accuracies(check.sources)
        spread = f"{min(values):.2f} to {max(values):.2f}" if len(set(values)) > 1 else None
        used = sorted({numbers[n.source.removesuffix(against.DERIVED_AVERAGE)] for n in check.sources})
        gap = None if values else check.detail
        own = (
            ours.cell,
            Cell(value=check.published, decimals=2, note=gap),
            Cell(text=spread, note=None if spread else "one number" if values else check.detail),
            Cell(value=check.difference, decimals=2, signed=True, note=gap),
            Cell(value=check.tolerance, decimals=2, note=None if check.gated else "no gate"),
            Cell(text=check.words, note=check.detail or None),
            Cell(text=", ".join(map(str, used)) or None, note=gap),
        )
        line = Line(_name(ours, whole=True), own, _name(ours))
        blocks.setdefault(ours.setting.backbone_label, []).append(line)
    random = any(check.ours.setting.random_weights for check in checks)
    caption = (
        f"{f'{BANNER}: ' if random else ''}Ours beside published accuracies in percent. Difference: ours minus the "
        "mean of the sources, in points. Pass: within the tolerance."
    )
    of_backbones = tuple(Block(name, tuple(lines), name) for name, lines in blocks.items())
    notes = (*_notes(checks), *(f"Source {i}: {source}." for source, i in numbers.items()))
    return Table("published", caption, _COLUMNS, of_backbones, notes, corner="Data, method and split")


def _name(ours: against.Ours, *more: str, whole: bool = False) -> str:
    """Return the name of an accuracy. The environment "test" of an ImageNet variant is left out unless `whole`."""
    environment = "" if ours.environment == "test" and not whole else f" {ours.environment}"
    return f"{', '.join((ours.dataset_name + environment, ours.method.label, *more))} ({ours.setting.test_split})"


def _notes(checks: Sequence[against.Check]) -> list[str]:
    """Return the notes that apply to these checks."""
    verdicts = {check.verdict for check in checks}
    gated, context = bool(verdicts & {against.PASS, against.FAIL}), against.CONTEXT in verdicts
    fitted = {one.ours.rule for one in checks if not one.ours.method.learns_nothing or one.verdict == against.EMPTY}
    averages = any(number.source.endswith(against.DERIVED_AVERAGE) for check in checks for number in check.sources)
    about = {
        "Tolerance: the spread of a cell's sources, never below 0.3 points; 0.3 for ImageNet and its variants, 1 for "
        "PACS with a single source.": gated,
        "Templates that differ only in a final full stop count as equal; if such a number fails, the template is the "
        "first suspect.": gated,
        "First suspect of a fail, in this order: template, class-name case, split, QuickGELU, fp16, Terra "
        "variant.": against.FAIL in verdicts,
        "Not comparable: split, template or backbone differ.": against.NOT_COMPARABLE in verdicts,
        "Context never decides: its source states no split, is second-hand or suspect, or trains otherwise.": context,
        "Averages that a source does not report are the means of its environments.": averages,
        f"What learns from images is chosen by {' or '.join(sorted(fitted))}.": bool(fitted),
        f"{against.OWN_ROWS}.": against.EMPTY in verdicts,
    }
    expected = dict.fromkeys(check.detail for check in checks if check.verdict == against.CONTEXT and check.detail)
    return [*(sentence for sentence, wanted in about.items() if wanted), *expected]


def record_of(check: against.Check) -> dict[str, object]:
    """Return a check as a record for CSV: accuracies in percent, differences in points, with four decimals."""
    ours, setting, values = check.ours, check.ours.setting, against.accuracies(check.sources)
    return {
        "dataset": ours.dataset_name,
        "environment": ours.environment,
        "method": ours.method.label,
        "backbone": setting.backbone_label,
        "random_weights": setting.random_weights,
        "precision": setting.precision,
        "protocol": setting.protocol,
        "test_split": setting.test_split,
        "prompts": json.dumps(list(setting.prompts)),
        "rule": ours.rule,
        "ours": _four(ours.accuracy),
        "stderr": _four(ours.cell.error),
        "n_images": _four(ours.n_images),
        "seeds": " ".join(map(str, ours.cell.seeds)),
        "published": _four(check.published),
        "published_low": _four(min(values, default=None)),
        "published_high": _four(max(values, default=None)),
        "difference": _four(check.difference),
        "tolerance": _four(check.tolerance),
        "verdict": check.verdict,
        "reason": check.reason,
        "detail": check.detail,
        "published_split": _distinct(number.test_split for number in check.sources),
        "published_template": _distinct(number.template for number in check.sources),
        "source": _distinct(number.source for number in check.sources),
        "source_note": _distinct(number.note for number in check.sources),
    }


def _distinct(words: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(word for word in words if word))


def _four(value: float | None) -> float | str:
    return "" if value is None else round(value, 4)


def gate_sentence(checks: Sequence[against.Check]) -> str:
    """Return a sentence that counts the comparable accuracies within the tolerance, and names those outside."""
    counts = Counter(check.verdict for check in checks)
    gated, others = counts[against.PASS] + counts[against.FAIL], counts[against.NOT_COMPARABLE]
    more = f"; {others} {'is' if others == 1 else 'are'} not comparable" if others else ""
    if not gated:
        return f"No accuracy here is comparable with a published one{more}."
    within = f"{counts[against.PASS]} of {gated} accuracies are within the tolerance of what is published{more}."
    outside = []
    for one in [check for check in checks if check.verdict == against.FAIL][:3]:
        name = _name(one.ours, one.ours.setting.backbone_label)
        outside.append(f"{name} by {one.difference:+.1f} points, first suspect {one.reason}")
    outside += [f"{counts[against.FAIL] - 3} more"] if counts[against.FAIL] > 3 else []
    return f"{within} Not within it: {'; '.join(outside)}." if outside else within


def published_notes(table: Table, checks: Sequence[against.Check]) -> tuple[str, str]:
    """Return two notes of a table: counts of its published, reproduced and not comparable numbers, and `OWN_ROWS`."""
    kind, shared = table.name.partition("-")[0], ("protocol", "test_split", "dataset", "backbone")
    here = {name: table.context.get(name, "").split(", ") for name in shared}
    own = [one for one in checks if all(named(one.ours.setting)[name] in values for name, values in here.items())]
    whole, averages = kind in _OF_ENVIRONMENTS, kind in _OF_AVERAGES
    own = [one for one in own if whole or (averages and one.ours.environment == against.AVERAGE)]
    counts = Counter(one.verdict for one in own)
    if published := len({id(one.ours) for one in own if one.sources}):
        counted = ", ".join(f"{counts[verdict]} {words}" for verdict, words in _VERDICTS.items() if counts[verdict])
        note = f"Published: {published} of its numbers; {counted}. Each stands in the table of published accuracies."
    elif kind in (*_OF_AVERAGES, *_OF_ENVIRONMENTS):
        reasons = [f" ({one.detail})" for one in own if one.verdict == against.NOT_COMPARABLE]
        note = f"Published: none of its numbers{''.join(reasons[:1])}."
    else:
        note = _NOTHING
    return note, f"{against.OWN_ROWS}."
