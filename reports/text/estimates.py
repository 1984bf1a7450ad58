"""Tables of estimated accuracies without labels, and how far such estimates are from the truth where it is known.

Nothing here is a measured accuracy of an environment without labels, and every table says so.
"""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from reports.analysis.diagnostics import Estimated
from reports.render import FORMS
from reports.render.markdown import markdown, markdown_escape
from reports.render.table import Block, Cell, Column, Line, Table
from reports.render.text import text

NAME = "estimates"
# Long and short name of each estimate.
_WAYS = {"source": ("sources' accuracy", "sources"), "atc": ("ATC", ""), "agreement": ("agreement", "agree")}
_NOTES = (
    "Sources' accuracy: on images of the sources that no fit has seen; as an estimate it says that nothing shifts, and "
    "an estimate that errs more than it is worth nothing.",
    "ATC: share of images above the confidence that as many source images reach as are right (Garg et al., 2022). "
    "Agreement: of all methods with each other, on a line fitted over their pairs (Baek et al., 2022).",
    "Fitted on 80 % of each source; the sources' other images choose lambda and rank. Mean over seeds.",
)


def write_estimates(estimates: Sequence[Estimated], storage: Storage, folder: str, name: str) -> tuple[list[str], str]:
    """Write estimates as tables in their forms. Equal estimates give equal bytes.

    Args:
        estimates: of all methods and environments.
        storage: where to write.
        folder: folder inside the storage, "" for the storage itself; files of the same names are replaced.
        name: of the recipe.

    Returns:
        Paths or URIs of the files, estimates.md first, and the tables for a terminal.

    Raises:
        IcmBenchError: there is none, or a file cannot be written.
    """
    if not estimates:
        raise IcmBenchError(f"There is no method of '{name}' that could be estimated.")
    made = [of_unlabelled(estimates)] if any(not one.is_labelled for one in estimates) else []
    made.append(of_labelled(estimates))
    parts = [f"# {markdown_escape(name)}: estimates without labels", *(markdown(table).rstrip() for table in made)]
    contents = {f"{NAME}.md": "\n\n".join(parts) + "\n"}
    contents |= {f"tables/{table.name}.{suffix}": form(table) for table in made for suffix, form in FORMS.items()}
    files = list(storage.write_files(folder, {file: content.encode() for file, content in contents.items()}).values())
    shown = [line for table in made for line in [*text(table), ""]]
    return files, "\n".join([*shown, f"Tables: {files[0]}"])


def of_unlabelled(estimates: Sequence[Estimated]) -> Table:
    """Return the table of environments without labels: estimates, and their errors where the truth is known."""
    columns = [Column(*heading, group="estimate") for heading in _WAYS.values()]
    columns += [Column(*heading, group="error with labels", unit="points") for heading in _WAYS.values()]
    known = _grouped((one for one in estimates if one.is_labelled), "method")
    blocks = []
    for place, of_block in _grouped((one for one in estimates if not one.is_labelled), "environment").items():
        errors = [_errors(known.get((*place[:2], one.method), ())) for one in of_block]
        lines = [Line(one.method, (*_shares(one), *cells)) for one, cells in zip(of_block, errors, strict=True)]
        blocks.append(_block(place, lines, " (no labels)"))
    note = (
        "Error: mean distance to the truth over the labelled environments, each held out in turn as if it had no "
        "labels. Their fits have one source less."
    )
    caption = "Estimates, not measurements: accuracy (%) on environments without labels."
    return Table(NAME, caption, tuple(columns), tuple(blocks), (note, *_NOTES))


def of_labelled(estimates: Sequence[Estimated]) -> Table:
    """Return the table of labelled environments: the truth beside what would be estimated without it."""
    columns = [Column("accuracy"), *(Column(*heading, group="estimate") for heading in _WAYS.values())]
    blocks = []
    for place, each in _grouped((one for one in estimates if one.is_labelled), "method").items():
        lines = [Line(one.environment, (_percent(one.accuracy), *_shares(one))) for one in each]
        blocks.append(_block(place, [*lines, Line("mean error (points)", (Cell(text=""), *_errors(each)))]))
    caption = "Estimates beside the truth: accuracy (%) on labelled environments, each held out as if it had no labels."
    return Table(f"{NAME}_checked", caption, tuple(columns), tuple(blocks), _NOTES, corner="Environment")


_Place = tuple[str, str, str]  # data set, backbone, environment or method


def _grouped(estimates: Iterable[Estimated], name: str) -> dict[_Place, list[Estimated]]:
    """Return estimates by data set, backbone and what is named: backbone by backbone, else in their order."""
    groups: dict[_Place, list[Estimated]] = {}
    for one in sorted(estimates, key=lambda one: (one.dataset, one.backbone)):
        groups.setdefault((one.dataset, one.backbone, str(getattr(one, name))), []).append(one)
    return groups


def _block(place: _Place, lines: Sequence[Line], words: str = "") -> Block:
    dataset, backbone, name = place
    return Block(f"{dataset}, {backbone}: {name}{words}", tuple(lines), backbone)


def _shares(one: Estimated) -> list[Cell]:
    return [_percent(getattr(one, way)) for way in _WAYS]


def _errors(estimates: Sequence[Estimated]) -> list[Cell]:
    """Return of each way the mean distance to the truth; a gap where it is not known."""
    return [_percent(fmean(one.error(way) for one in estimates) if estimates else math.nan) for way in _WAYS]


def _percent(share: float) -> Cell:
    return Cell(note="agreement takes three methods") if math.isnan(share) else Cell(100 * share)
