"""Write which backbone rows speak for: a sentence, a table in its forms, a figure in its forms.

The sentence claims what intervals show, and speeds of one run.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.inference import Interval
from benchmark.method.evaluation.seed_variance import MIN_UNITS
from benchmark.method.evaluation.tested import Tested
from reports.analysis.chosen import Selections
from reports.analysis.options import Options
from reports.analysis.settings import by_setting
from reports.figures import Drawing, captions, drawn
from reports.figures.speed import Dot, draw
from reports.render import FORMS
from reports.render.cells import interval_text, value_text
from reports.render.markdown import markdown, markdown_escape
from reports.render.text import WIDTH, text
from reports.tables import cells
from reports.tables.choose import MIN_FASTER, NAME, Candidate, Choice, Cost, build, choose
from reports.text.origin import Origin


@dataclass(frozen=True)
class ChoiceFiles:
    """What `write_choice` wrote.

    Attributes:
        files: paths or URIs of all files, choose.md first.
        text: sentence and table for a terminal, 80 characters wide.
        record: the same as plain data: accuracies in percent, differences in points, memory in bytes.
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
    options: Options | None = None,
) -> ChoiceFiles:
    """Write which of several backbones result rows speak for. Equal rows and costs give equal bytes.

    Args:
        rows: as `benchmark.store.rows.read_rows` returns them, of two backbones or more under one protocol.
        tested: hash -> the tested images that rows name by it.
        costs: backbone, as rows name it -> what its embeddings cost.
        storage: where to write.
        folder: folder inside the storage, "" for the storage itself; files of the same names are replaced.
        origin: where the rows come from, and what is missing.
        options: what the reader asks for.

    Raises:
        IcmBenchError: there are no rows, fewer than two backbones can be compared, rows are of unlike protocols, or a
            file cannot be written.
    """
    if rows.empty:
        raise IcmBenchError(f"There are no result rows of '{origin.name}'; run `icm-bench sweep RECIPE` first.")
    options = options or Options()
    described = [(setting, Selections(part, tested)) for setting, part in by_setting(rows)]
    choice = choose(described, costs, options)
    said, table = sentence(choice), build(choice, options, origin.names)
    shown = [f"# {markdown_escape(origin.name)}: which backbone?", f"**{markdown_escape(said)}**"]
    shown += [*map(markdown_escape, origin.missing), markdown(table).rstrip()]
    contents = {f"tables/{NAME}.{suffix}": form(table).encode() for suffix, form in FORMS.items()}
    for one in drawn(drawings(choice, origin.names)):
        shown += [f"![{NAME}](figures/{NAME}.png)", markdown_escape(one.caption)]
        in_markdown, in_latex = captions([one])
        forms = {**one.contents, "md": in_markdown.encode(), "tex": in_latex.encode()}
        contents |= {f"figures/{NAME}.{suffix}": data for suffix, data in forms.items()}
    contents = {f"{NAME}.md": ("\n\n".join(shown) + "\n").encode(), **contents}
    files = list(storage.write_files(folder, contents).values())
    wrapped = [line for words in (said, *origin.missing) for line in textwrap.wrap(words, WIDTH)]
    lines = [*wrapped, "", *text(table), "", f"Table and figure: {files[0]}"]
    record = {
        "sentence": said,
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
    """Return the figure of accuracy in the worst environment against speed; none with fewer than two speeds.

    Args:
        choice: what the rows say.
        names: long name -> short name of backbones.
    """
    every, front = choice.candidates, choice.front
    dots = [Dot(names.get(one.name, one.name), one.speed, one.worst, one.name in front) for one in every if one.speed]
    missing = [one.name for one in every if not one.speed]
    absent = f" Not drawn, for no speed may be compared: {', '.join(missing)}." if missing else ""
    sets = ", ".join(dict.fromkeys(setting.dataset for setting, _ in choice.described))
    caption = (
        "Accuracy of what the rule picks, in the held-out environment where it is lowest, against images a second (log "
        f"axis), {len(dots)} backbones. Filled, at the dashes: the front of those that no other is above in both, by "
        "these numbers alone; bars: 95 % intervals of that environment. Where bars overlap, the order is not shown. "
        f"Speeds of one run: {choice.measured_on}.{absent} {sets}; rule {choice.rule}."
    )
    return [Drawing(NAME, caption, draw, dots)] if len(dots) > 1 else []


def sentence(choice: Choice) -> str:
    """Return which backbone is best, who is tied with it, who is faster, and which one that speaks for."""
    best, others, tied = choice.best, choice.candidates[1:], choice.tied
    accuracy = f"{best.average.value:.1f} %"
    highest = f"{best.name} has the highest average, {accuracy}"
    if not choice.ties.tied:
        fewest = min(interval.fewest for interval in choice.differences.values())
        few = f"an environment has {fewest} images, and intervals need {MIN_UNITS}"
        why = few if fewest < MIN_UNITS else "no difference has an interval"
        return f"{highest}, but backbones cannot be separated, for {why}: nothing is chosen."
    fastest = tied[0] if tied else max(others, key=lambda one: one.speed or 0.0)
    times, difference = choice.times_as_fast(fastest), choice.differences[fastest.name]
    encodes = f"encodes {times:.1f} times as many images a second" if times else ""
    if not tied:
        ahead = f"the {len(others)} others" if len(others) > 1 else others[0].name
        said, where = f", ahead of {ahead} in these environments", ""
        if (times or 0.0) >= MIN_FASTER:
            behind = _points(replace(difference, estimate=-difference.estimate), signed=False)
            said, where = f"; {fastest.name} {encodes} and is behind by {behind}", " where accuracy counts most"
        return f"{best.name} is best with {accuracy}{said}: choose {best.name}{where}."
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
