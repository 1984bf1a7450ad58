"""What else is said of a setting: what the target's labels would be worth, where methods are worst, what fits note."""

import numpy as np

from reports.captions import number, oracle_words, unit_words
from reports.chosen import Selections, has_choice, held_out_names, rule_for
from reports.comparisons import compare, in_family
from reports.findings import difference, interval_words, largest, seeds_in_words, size_words
from reports.methods import Method
from reports.metrics import MIN_CLASS_IMAGES, by_class
from reports.options import Options
from reports.render import error_text
from reports.settings import Setting
from reports.tables import Cell, line_cells

MAX_PLACES = 6  # held-out environments with seeds that a note is listed with


def observations(setting: Setting, selections: Selections) -> list[str]:
    """Return what labels of the target would add, and where each method is worst; arguments as above."""
    rule, icms = rule_for(selections.rows), largest(selections)
    sentences = []
    if not setting.protocol_class.looks_at_target:
        for icm in icms:
            sentences += _oracle_gap(setting, selections, icm, rule)
    for method in selections.parts:
        if method in icms or method.is_plain:
            sentences += _worst(setting, selections, method, rule)
    return sentences


def _oracle_gap(setting: Setting, selections: Selections, method: Method, rule: str) -> list[str]:
    if not has_choice(selections.parts[method]):
        return []
    one = compare(selections, method, "oracle", method, rule)
    if one is None:
        return []
    [one] = in_family([one], Options().margin)
    shown = "no interval" if np.isnan(one.interval.standard_error) else interval_words(one, unit_words(setting))
    oracle, fair = (100 * accuracy for accuracy in one.accuracies)
    ceiling = line_cells(selections, method, "ceiling")[-1].mean
    bound = (
        ""
        if ceiling is None
        else f" The ceiling, the highest of the very accuracies that are reported, is {ceiling:.1f}†: biased upwards."
    )
    context = size_words(setting, f"{rule} against oracle", one.size, len(one.held_outs), one.seeds)
    return [
        f"Labels of the held-out environment to choose by, in the place of {rule}, are worth "
        f"{difference(one.interval.estimate)} to {method.label}, {shown}: {fair:.1f} by {rule}, {oracle:.1f}† by the "
        f"oracle, {oracle_words(setting)} ({context}).{bound}"
    ]


def _worst(setting: Setting, selections: Selections, method: Method, rule: str) -> list[str]:
    names = held_out_names(selections.rows)
    cells = dict(zip(names, line_cells(selections, method, rule)[:-1], strict=True))
    known = [(cell.mean, name) for name, cell in cells.items() if cell.mean is not None]
    if not known:
        return []
    name = min(known)[1]
    cell = cells[name]
    n = f"n = {number(cell.n_units or 0)} {unit_words(setting)} per seed"
    context = f"{n}, {seeds_in_words(cell.seeds)}, split {setting.test_split}"
    return [
        f"{method.label} is worst on {name}: {_number(cell)} %, {_worst_class(selections, method, rule, name)} "
        f"({context}, rule {rule})."
    ]


def _worst_class(selections: Selections, method: Method, rule: str, held_out: str) -> str:
    """Return the class with the lowest accuracy over all seeds, among those with enough different images."""
    pooled = [own for (h, _), own in selections.pooled(method, rule).items() if h == held_out]
    classes = selections.rows["classes"].iloc[0]
    accuracy, n = by_class(pooled, len(classes))
    enough = np.flatnonzero(n >= MIN_CLASS_IMAGES)
    if not len(enough):
        return f"no class there has {MIN_CLASS_IMAGES} images"
    worst = enough[accuracy[enough].argmin()]
    return f"its worst class there {classes[worst]} with {100 * accuracy[worst]:.1f} % of {number(n[worst])} images"


def _number(cell: Cell) -> str:
    text = f"{cell.mean:.1f}"
    return text if cell.stderr is None else f"{text} ± {error_text(cell.stderr)}"


def notes(selections: Selections) -> list[str]:
    """Return what fits had to say, such as that one did not converge: a line for each method and note."""
    lines = []
    for method, rows in selections.parts.items():
        where: dict[str, list[str]] = {}
        for row in rows[["held_out", "seed", "fold", "notes"]].to_dict("records"):
            fold = "" if row["fold"] < 0 else f" fold {row['fold']}"
            for note in row["notes"] if isinstance(row["notes"], list) else ():
                where.setdefault(note, []).append(f"{row['held_out']} seed {row['seed']}{fold}")
        for note, places in where.items():
            named = list(dict.fromkeys(places))
            rest = f" and {len(named) - MAX_PLACES} more" if len(named) > MAX_PLACES else ""
            lines.append(
                f"{method.label}: {note} ({len(places)} of {len(rows)} rows: {', '.join(named[:MAX_PLACES])}{rest})"
            )
    return lines
