"""The table of the backbones among which is chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from reports.analysis.options import Options
from reports.analysis.robustness import ZERO_SHOT
from reports.choose.candidates import Candidate
from reports.choose.choice import NAME, Choice
from reports.choose.speeds import Speeds
from reports.render.table import Block, Cell, Column, Line, Table
from reports.tables import cells, words
from reports.tables.alike import by_data_set

_COLUMNS = (
    Column(ZERO_SHOT.label, "Plain"),
    Column("what the rule picks", "Picked"),
    Column("what the rule picks minus the best backbone's, in points", "Gap", unit=""),
    Column("worst environment", "Worst"),
    Column("calibration error (ECE)", "ECE"),
    Column("images per second", "Images/s", unit=""),
    Column("memory of an encoder in GiB", "GiB", unit=""),
)
_PICKED = (
    "Picked: for each held-out environment and seed the method and setting that the rule scores highest on the "
    "sources. Gap (points, to the best), worst environment and ECE are of these."
)
_BOLD = "Bold: not separated from the best (all paired differences of backbones, adjusted by Holm)."
_LEVEL = "Nothing is bold, for all backbones are level with the best."
_SPEED = "Images/s: views through decoding, interventions and encoder, start-up excluded, one run each: {}."
_MEMORY = "GiB: at most, {}."
_GPU, _CPU = "allocated by PyTorch on one GPU", "of one encoder's process, shared pages included"


def table(choice: Choice, options: Options, names: Mapping[str, str]) -> Table:
    """Return a line for each backbone, the highest average first; what was not recorded is a gap that says why.

    Args:
        choice: what the rows say.
        options: what stands behind ±.
        names: long name -> short name of backbones.
    """
    described, speeds = choice.described, choice.speeds
    bold = 0 < len(choice.ties.tied) < len(choice.candidates)
    lines = tuple(_line(choice, one, bold, names) for one in choice.candidates)
    sets = ", ".join(by_data_set(described))
    own = [
        _PICKED,
        _worst(choice.candidates, names),
        words.INTERVAL,
        *([_BOLD] if bold else [_LEVEL] if choice.ties.tied else []),
        *_measured(speeds),
    ]
    return Table(
        NAME,
        words.caption(described, f"Which backbone: accuracy (%), calibration, speed and memory on {sets}."),
        _COLUMNS,
        (Block("", lines),),
        (*words.notes(described, choice.rule, options, own), *choice.left_out),
        tuple(map(_methods, choice.candidates)),
        "Backbone",
        words.context(described, choice.rule, options),
    )


def _line(choice: Choice, one: Candidate, bold: bool, names: Mapping[str, str]) -> Line:
    difference = choice.differences.get(one.name)
    worst, measured = one.worst, one.measured
    gib = None if measured.memory is None else measured.memory / 2**30
    made = (
        one.plain,
        replace(one.average, best=bold and one.name in choice.ties.tied),
        Cell(note="the best itself") if difference is None else cells.points(difference),
        Cell(note="something has no answers") if worst is None else worst.cell,
        one.ece,
        cells.known(measured.images_per_second, measured.why),
        cells.known(gib, measured.why_no_memory, decimals=2),
    )
    return Line(one.name, made, words.short(one.name, names))


def _methods(one: Candidate) -> str:
    """Return a sentence on what the rule picked for a backbone."""
    counts = ", ".join(f"{label} in {n}" for label, n in one.methods.items())
    return f"Picked for {one.name}: {counts} of {sum(one.methods.values())} tests."


def _worst(candidates: Sequence[Candidate], names: Mapping[str, str]) -> str:
    """Return which environments are worst, and for which backbones, in a sentence."""
    of: dict[str, list[str]] = {}
    for one in candidates:
        if one.worst:
            of.setdefault(one.worst.name, []).append(words.short(one.name, names))
    if len(of) == 1:
        return f"Worst: the environment {next(iter(of))} for all."
    each = (f"{environment} for {' and '.join(own)}" for environment, own in of.items())
    return f"Worst: {'; '.join(each)}."


def _measured(speeds: Speeds) -> list[str]:
    """Return on what speeds and memory were measured; nothing where none was."""
    if not speeds.where:
        return []
    memory = any(one.memory for one in speeds.of.values())
    return [_SPEED.format(speeds.where), *([_MEMORY.format(_GPU if speeds.on_gpu else _CPU)] if memory else [])]
