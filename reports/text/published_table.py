"""The table of ours beside published accuracies, and the same as records. Every number is a `Check`'s."""

import json
from collections.abc import Iterable, Sequence

from reports.analysis.against import (
    CONTEXT,
    EMPTY,
    EXPECTED,
    FAIL,
    NOT_COMPARABLE,
    OWN_ROWS,
    PASS,
    Check,
    Ours,
)
from reports.analysis.published import OF_ENVIRONMENTS, PublishedNumber
from reports.analysis.settings import BANNER
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


def table_of(checks: Sequence[Check]) -> Table | None:
    """Return ours beside what is published of the same: a line for each check, a block for each backbone.

    None without any.
    """
    if not checks:
        return None
    sources = list(dict.fromkeys(_source(number) for check in checks for number in check.sources))
    numbers = {source: i for i, source in enumerate(sources, start=1)}
    blocks: dict[str, list[Line]] = {}
    for check in checks:
        blocks.setdefault(check.ours.setting.backbone_label, []).append(_line(check, numbers))
    random = any(check.ours.setting.random_weights for check in checks)
    return Table(
        name="published",
        caption=(f"{BANNER}: " if random else "")
        + "Ours beside published accuracies in percent. Difference: ours minus the mean of the sources, in points. "
        "Pass: within the tolerance.",
        columns=_COLUMNS,
        blocks=tuple(Block(name, tuple(lines), name) for name, lines in blocks.items()),
        notes=(*_notes(checks), *(f"Source {i}: {source}." for source, i in numbers.items())),
        corner="Data, method and split",
    )


def _line(check: Check, numbers: dict[str, int]) -> Line:
    ours, values = check.ours, check.accuracies
    spread = f"{min(values):.2f} to {max(values):.2f}" if len(set(values)) > 1 else None
    used = sorted({numbers[_source(number)] for number in check.sources})
    return Line(
        name=_name(ours, ours.environment),
        short=_name(ours, "" if ours.environment == "test" else ours.environment),
        cells=(
            _own_cell(ours),
            Cell(value=check.published, decimals=2, note=None if values else check.detail),
            Cell(text=spread, note=None if spread else "one number" if values else check.detail),
            Cell(value=check.difference, decimals=2, signed=True, note=None if values else check.detail),
            Cell(value=check.tolerance, decimals=2, note=None if check.gated else "no gate"),
            Cell(text=check.words, note=check.detail or None),
            Cell(text=", ".join(map(str, used)) or None, note=None if used else check.detail),
        ),
    )


def _source(number: PublishedNumber) -> str:
    return number.source.removesuffix(OF_ENVIRONMENTS)


def _name(ours: Ours, environment: str) -> str:
    where = " ".join(word for word in (ours.dataset_name, environment) if word)
    return f"{where}, {ours.method.label} ({ours.setting.test_split})"


def _own_cell(ours: Ours) -> Cell:
    return Cell(
        value=ours.accuracy,
        error=ours.error,
        n_images=ours.n_images,
        n_clusters=ours.n_clusters,
        seeds=ours.seeds,
        folds=ours.setting.folds,
        decimals=2,
        trials=ours.trials,
    )


def _notes(checks: Sequence[Check]) -> list[str]:
    """Return what a reader must know of these checks, and nothing of what is not among them."""
    verdicts = {check.verdict for check in checks}
    rules = sorted(
        {check.ours.rule for check in checks if not check.ours.method.learns_nothing or check.verdict == EMPTY}
    )
    averages = any(number.source.endswith(OF_ENVIRONMENTS) for check in checks for number in check.sources)
    about = {
        "Tolerance: the spread of a cell's sources, never below 0.3 points; 0.3 for ImageNet and its variants, 1 for "
        "PACS where one source stands alone.": bool(verdicts & {PASS, FAIL}),
        "Templates that differ in a final full stop alone are compared; where such a number fails, the template is the "
        "first suspect.": bool(verdicts & {PASS, FAIL}),
        "First suspect of a fail, in this order: template, class-name case, split, QuickGELU, fp16, Terra "
        "variant.": FAIL in verdicts,
        "Not comparable: split, template or backbone differ.": NOT_COMPARABLE in verdicts,
        "Context never gates: its source states no split, is second-hand or suspect, or trains otherwise.": CONTEXT
        in verdicts,
        "A source's average that it does not have itself is the mean of its environments.": averages,
        f"What learns from images is chosen by {' or '.join(rules)}.": bool(rules),
        f"{OWN_ROWS}.": EMPTY in verdicts,
        EXPECTED: any(check.detail == EXPECTED for check in checks),
    }
    return [sentence for sentence, wanted in about.items() if wanted]


def records_of(checks: Sequence[Check]) -> list[dict[str, object]]:
    """Return a record for each check, with empty words where a number is unknown: for CSV and JSON.

    Accuracies are in percent, differences and tolerances in points, with four decimals.
    """
    return [_record(check) for check in checks]


def _record(check: Check) -> dict[str, object]:
    ours, setting, values = check.ours, check.ours.setting, check.accuracies
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
        "stderr": _four(ours.error),
        "n_images": _four(ours.n_images),
        "seeds": " ".join(map(str, ours.seeds)),
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


def gate_sentence(checks: Sequence[Check]) -> str:
    """Return whether all that is comparable is within its tolerance, and what is not."""
    gated = [check for check in checks if check.gated]
    failed = [check for check in gated if check.verdict == FAIL]
    others = sum(check.verdict == NOT_COMPARABLE for check in checks)
    more = f"; {others} {'is' if others == 1 else 'are'} not comparable" if others else ""
    if not gated:
        return f"No accuracy here is comparable with a published one{more}."
    passed = len(gated) - len(failed)
    within = f"{passed} of {len(gated)} accuracies are within the tolerance of what is published{more}."
    named = [
        f"{one.ours.name} by {one.difference:+.1f} points, first suspect {one.reason}"
        for one in failed[:3]
        if one.difference is not None
    ]
    named += [f"{len(failed) - 3} more"] if len(failed) > 3 else []
    return f"{within} Not within it: {'; '.join(named)}." if failed else within
