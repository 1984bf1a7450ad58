"""Tables of estimated accuracies without labels, and how far such estimates are from the truth where it is known.

Nothing here is a measured accuracy of an environment without labels, and every table says so.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage import Storage
from reports.analysis.estimates import Estimated
from reports.render import FORMS
from reports.render.markdown import markdown, markdown_escape
from reports.render.table import Block, Cell, Column, Line, Table
from reports.render.text import text

NAME = "estimates"
_WAYS = ("source", "atc", "agreement")
# Long and short name of each estimate.
_HEADINGS = {"source": ("sources' accuracy", "sources"), "atc": ("ATC", ""), "agreement": ("agreement", "agree")}
_NOTES = (
    "Sources' accuracy: on images of the sources that no fit has seen; as an estimate it says that nothing shifts, and "
    "an estimate that errs more than it is worth nothing.",
    "ATC: share of images above the confidence that as many source images reach as are right (Garg et al., 2022). "
    "Agreement: of all methods with each other, on a line fitted over their pairs (Baek et al., 2022).",
    "Fitted on 80 % of each source; the sources' other images choose lambda and rank. Mean over seeds.",
)
_FEW = "agreement takes three methods"


@dataclass(frozen=True)
class EstimateFiles:
    """What `write_estimates` wrote: paths or URIs, estimates.md first, and the tables for a terminal."""

    files: list[str]
    text: str


def write_estimates(estimates: Sequence[Estimated], storage: Storage, folder: str, name: str) -> EstimateFiles:
    """Write estimates as tables in their forms. Equal estimates give equal bytes.

    Args:
        estimates: of all methods and environments.
        storage: where to write.
        folder: folder inside the storage, "" for the storage itself; files of the same names are replaced.
        name: of the recipe.

    Raises:
        IcmBenchError: there is none, or a file cannot be written.
    """
    if not estimates:
        raise IcmBenchError(f"There is no method of '{name}' that could be estimated.")
    made = [of_unlabelled(estimates)] if any(not one.is_labelled for one in estimates) else []
    made.append(of_labelled(estimates))
    contents = {f"tables/{table.name}.{suffix}": form(table) for table in made for suffix, form in FORMS.items()}
    parts = [f"# {markdown_escape(name)}: estimates without labels", *(markdown(table).rstrip() for table in made)]
    contents = {f"{NAME}.md": "\n\n".join(parts) + "\n", **contents}
    files = list(storage.write_files(folder, {file: content.encode() for file, content in contents.items()}).values())
    shown = [line for table in made for line in [*text(table), ""]]
    return EstimateFiles(files, "\n".join([*shown, f"Tables: {files[0]}"]))


def of_unlabelled(estimates: Sequence[Estimated]) -> Table:
    """Return the table of environments without labels: estimates, and their errors where the truth is known."""
    columns = [Column(*_HEADINGS[way], group="estimate") for way in _WAYS]
    columns += [Column(*_HEADINGS[way], group="error with labels", unit="points") for way in _WAYS]
    blocks = []
    unlabelled = [one for one in estimates if not one.is_labelled]
    for (dataset, backbone, environment), of_block in _grouped(unlabelled, "environment"):
        lines = tuple(
            Line(
                one.method,
                (
                    *(_percent(getattr(one, way)) for way in _WAYS),
                    *(_mean_error(_alike(one, estimates), way) for way in _WAYS),
                ),
            )
            for one in of_block
        )
        blocks.append(Block(f"{dataset}, {backbone}: {environment} (no labels)", lines, backbone))
    note = (
        "Error: mean distance to the truth over the labelled environments, each held out in turn as if it had no "
        "labels. Their fits have one source less."
    )
    caption = "Estimates, not measurements: accuracy (%) on environments without labels."
    return Table(NAME, caption, tuple(columns), tuple(blocks), (note, *_NOTES))


def of_labelled(estimates: Sequence[Estimated]) -> Table:
    """Return the table of labelled environments: the truth beside what would be estimated without it."""
    columns = [Column("accuracy"), *(Column(*_HEADINGS[way], group="estimate") for way in _WAYS)]
    blocks = []
    labelled = [one for one in estimates if one.is_labelled]
    for (dataset, backbone, method), each in _grouped(labelled, "method"):
        lines = [
            Line(one.environment, (_percent(one.accuracy), *(_percent(getattr(one, way)) for way in _WAYS)))
            for one in each
        ]
        lines.append(Line("mean error (points)", (Cell(text=""), *(_mean_error(each, way) for way in _WAYS))))
        blocks.append(Block(f"{dataset}, {backbone}: {method}", tuple(lines), backbone))
    caption = "Estimates beside the truth: accuracy (%) on labelled environments, each held out as if it had no labels."
    return Table(f"{NAME}_checked", caption, tuple(columns), tuple(blocks), _NOTES, corner="Environment")


def _grouped(estimates: Sequence[Estimated], name: str) -> list[tuple[tuple[str, str, str], list[Estimated]]]:
    """Return (data set, backbone, what is named) -> its estimates, backbone by backbone, else in their order."""
    groups: dict[tuple[str, str, str], list[Estimated]] = {}
    for one in sorted(estimates, key=lambda one: (one.dataset, one.backbone)):
        groups.setdefault((one.dataset, one.backbone, str(getattr(one, name))), []).append(one)
    return sorted(groups.items(), key=lambda group: group[0][:2])


def _alike(one: Estimated, estimates: Sequence[Estimated]) -> list[Estimated]:
    """Return what the same method has on labelled environments."""
    key = one.dataset, one.backbone, one.method
    return [other for other in estimates if other.is_labelled and (other.dataset, other.backbone, other.method) == key]


def _percent(share: float) -> Cell:
    return Cell(note=_FEW) if math.isnan(share) else Cell(100 * share)


def _mean_error(estimates: Sequence[Estimated], way: str) -> Cell:
    errors = [one.error(way) for one in estimates]
    return _percent(fmean(errors) if errors else float("nan"))
