"""The report's sections on what lies behind mean accuracies, as Markdown: metrics under the fair rule, rules' gaps."""

from collections.abc import Mapping

from benchmark.method.evaluation.selection import SOURCE_RULES
from reports.captions import oracle_words, unit_words
from reports.chosen import Selections, rule_for
from reports.metrics import MIN_CLASS_IMAGES, Metrics, SelectionCost, WorstClass, averaged, metrics_of, selection_costs
from reports.render import GAP, markdown_escape, markdown_grid
from reports.robustness import MIN_BACKBONES, Above, Lines
from reports.settings import Setting


def behind_the_means(setting: Setting, selections: Selections, lines: Lines, suffix: str) -> list[str]:
    """Return the sections, with their headings; none where there is nothing to say.

    Args:
        setting: what the rows share.
        selections: the rows of that setting.
        lines: the lines through other backbones.
        suffix: what stands behind the names of the setting's files.
    """
    rule = rule_for(selections.rows)
    context = f"{setting.banner}{setting.title.removeprefix(setting.banner)}."
    sections = []
    if metrics := metrics_of(selections, rule, lines):
        files = f"All rules: metrics{suffix}.csv; every class: per_class{suffix}.csv."
        words = f"{context} {_metrics_words(rule)} {' '.join(_line_words(lines))} {files}"
        grid = markdown_grid(_header(lines), [_cells(line, lines) for line in metrics])
        sections.append(f"### Behind the means\n\n{markdown_escape(words)}\n\n{grid}")
    if costs := selection_costs(selections):
        header = ["Method", *SOURCE_RULES, "oracle †", *(f"oracle − {r}" for r in SOURCE_RULES), "ceiling †"]
        words = f"{context} {_cost_words(setting)}"
        grid = markdown_grid([markdown_escape(word) for word in header], [_cost_cells(cost) for cost in costs])
        sections.append(f"### What selection costs\n\n{markdown_escape(words)}\n\n{grid}")
    return sections


def _metrics_words(rule: str) -> str:
    return (
        f"Percent, means over held-out environments, then seeds, all folds of a seed together, selection rule {rule}. "
        "Source accuracy: on images of the source environments that the fit has not seen. Worst class: the lowest "
        "accuracy of a class in one environment, over all answers together, among those with "
        f"{MIN_CLASS_IMAGES} different test images (n) or more. ECE: expected calibration error in 15 bins, as it "
        "is and with the temperature fitted on judging images of the sources."
    )


def _line_words(lines: Lines) -> list[str]:
    """Return what the distances from the lines are, or why there are none."""
    words = []
    if lines.zero_shot.known:
        words.append(
            f"Above the zero-shot line: points above the line through the plain zero-shot of "
            f"{len(lines.zero_shot.source)} other backbones, accuracy on held-out against source environments on a "
            "logit scale; in brackets from the ends of its 95 % prediction interval: above the line only where both "
            "are positive."
        )
    else:
        words.append(
            f"No distance from the zero-shot line: {lines.zero_shot.backbones} backbones (with weights that are not "
            f"random) have plain zero-shot rows here, and {MIN_BACKBONES} are needed."
        )
    if lines.linear_probe.known:
        words.append(
            "Effective robustness: the same above the line through the plain linear probe of "
            f"{len(lines.linear_probe.source)} other backbones, models without intervention."
        )
    elif lines.linear_probe.backbones:
        words.append(
            f"No effective robustness: {lines.linear_probe.backbones} such backbones have rows of a plain linear "
            f"probe, and {MIN_BACKBONES} are needed."
        )
    return words


def _header(lines: Lines) -> list[str]:
    first, *others = averaged()
    header = ["Method", first.title, "source accuracy", *(m.title for m in others)]
    header += ["worst environment", "worst class", "ECE", "ECE scaled"]
    header += ["above zero-shot line"] if lines.zero_shot.known else []
    return header + (["eff. robustness"] if lines.linear_probe.known else [])


def _cells(line: Metrics, lines: Lines) -> list[str]:
    first, *others = (_one(line.means[m.name]) for m in averaged())
    worst = f"{_one(line.worst_environment_accuracy)} ({markdown_escape(line.worst_environment)})"
    cells = [markdown_escape(line.method.label), first, _one(line.source_accuracy), *others]
    cells += [worst, _worst_class(line.worst_class), _one(line.ece), _one(line.ece_scaled)]
    cells += [_above(line.above_zero_shot_line)] if lines.zero_shot.known else []
    return cells + ([_above(line.effective_robustness)] if lines.linear_probe.known else [])


def _worst_class(worst: WorstClass | None) -> str:
    if worst is None:
        return GAP
    return f"{worst.accuracy:.1f} ({markdown_escape(f'{worst.name}, {worst.held_out}')}, n = {worst.n:,})"


def _above(above: Above | None) -> str:
    return GAP if above is None else f"{above.points:+.1f} [{above.low:+.1f}, {above.high:+.1f}]"


def _cost_words(setting: Setting) -> str:
    return (
        "Average accuracy in percent by what each rule chooses. † looks at labels of the held-out environment, no "
        f"result. oracle: {oracle_words(setting)}. Its distance to a rule, which may be negative, is what these labels "
        f"would be worth, with its standard error over {unit_words(setting)}. ceiling: highest of the accuracies that "
        "are reported, a bound, biased upwards."
    )


def _cost_cells(cost: SelectionCost) -> list[str]:
    marked: Mapping[str, str] = {rule: f"{cost.accuracies[rule]:.1f}†" for rule in cost.accuracies}
    return [
        markdown_escape(cost.method.label),
        *(_one(cost.accuracies.get(rule)) for rule in SOURCE_RULES),
        marked.get("oracle", GAP),
        *(_gap(cost, rule) for rule in SOURCE_RULES),
        marked.get("ceiling", GAP),
    ]


def _gap(cost: SelectionCost, rule: str) -> str:
    if rule not in cost.gaps:
        return GAP
    points, error = cost.gaps[rule]
    return f"{points:+.1f}†" if error is None else f"{points:+.1f} ± {error:.1f}†"


def _one(value: float | None) -> str:
    return GAP if value is None else f"{value:.1f}"
