"""Files of `icm-bench diagnose` (properties of a projection) and `icm-bench unlabelled` (estimated accuracies)."""
# The numbers are classes of reports/analysis/diagnostics.py; a new field of `Diagnosis` needs a line of Markdown here.

import io
import json
import math
from collections.abc import Iterable, Sequence
from itertools import repeat
from statistics import fmean

import numpy as np

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.spans import Spans
from reports.analysis.diagnostics import Diagnosis, Displacement, Estimated, Mapped, Shift
from reports.analysis.settings import BANNER, grouped
from reports.render import FORMATS
from reports.render.formats import markdown, markdown_escape, markdown_grid, text
from reports.render.table import Block, Cell, Column, Line, Table

_OVERLAP = "largest principal angle, and the share of the one subspace that lies in the other"
_COMPARED = {
    "held_out": f"one environment left out ({_OVERLAP})",
    "seeds": f"another seed of the split ({_OVERLAP})",
    "kinds": f"one kind of intervention alone ({_OVERLAP})",
    "backbones": "another backbone (median canonical angle between projected embeddings of the same images)",
}
_SHARES = {
    "energy_removed": "Removed energy of the embeddings",
    "shift_removed_sources": "Removed shift between sources",
    "shift_removed_target": "Removed shift to the environments left out †",
    "shift_moved_sources": "C_d along the shift between sources",
    "shift_moved_target": "C_d along the shift to the environments left out †",
}
_SHOWN = 8  # directions in the table


NAME = "estimates"
# Field of `Estimated` -> long and short name of the estimate.
_WAYS = {"source": ("sources' accuracy", "sources"), "atc": ("ATC", ""), "agreement": ("agreement", "agree")}
_ESTIMATE_NOTES = (
    "Sources' accuracy: accuracy on unseen images of the sources. As an estimate it assumes no shift; an estimate with "
    "a larger error has no value.",
    "ATC: share of images above a confidence threshold, set so that on the sources this share equals accuracy (Garg et "
    "al., 2022). Agreement: from the agreement of all pairs of methods, by a fitted line (Baek et al., 2022).",
    "Fitted on 80 % of each source; lambda and rank are selected on the other images. Mean over seeds.",
)
_Place = tuple[str, str, str]  # data set, backbone, environment or method


def write_diagnostics(diagnosis: Diagnosis, storage: Storage, folder: str) -> tuple[list[str], str]:
    """Write `diagnostics.md`, `.json`, `.png` and `.pdf`.

    Args:
        diagnosis: result of `icm-bench diagnose`.
        storage: storage to write to.
        folder: folder inside the storage, or "" for its top level.

    Returns:
        Paths or URIs of the files, diagnostics.md first, and the text of diagnostics.md.
    """
    page = diagnosis_markdown(diagnosis)
    data = json.dumps(diagnosis.content(), indent=2, ensure_ascii=False) + "\n"
    contents = {"diagnostics.md": page.encode(), "diagnostics.json": data.encode()}
    if diagnosis.displacement and diagnosis.rank:
        contents |= _figure(diagnosis, diagnosis.displacement, diagnosis.rank)
    return list(storage.write_files(folder, contents).values()), page


def diagnosis_markdown(diagnosis: Diagnosis) -> str:
    """Return a diagnosis as Markdown."""
    d, banner = diagnosis, f"{BANNER}: " if diagnosis.random_weights else ""
    rank = f"rank {d.rank} of {d.dim}" if d.rank else f"all {d.dim} directions are kept in part, so there are no ranks"
    read = [[r.space, r.rank, f"{100 * r.balanced_accuracy:.1f}", f"{100 * r.chance:.1f}", r.n] for r in d.decodability]
    parts = [
        f"# {banner}{markdown_escape(d.choice)}",
        markdown_escape(
            f"{banner}{d.dataset}, {d.backbone}: fitted on {', '.join(d.environments)}, {d.images} images, of each the "
            f"{d.split}. Normalize {d.normalize}; {rank}."
        ),
        *(_directions(d, d.displacement, d.rank) if d.displacement and d.rank else []),
        *(_mapped(d.mapped, d.nuisance) if d.mapped else []),
        *_shift(d.shift),
        "## Decodability of the environment",
        "Balanced accuracy (%) of a linear classifier for the environment, cross-validated in five folds by image.",
        markdown_grid(["Space", "rank", "accuracy", "chance", "images"], [[*map(str, line)] for line in read]),
        *_angles(d),
    ]
    return "\n\n".join(parts) + "\n"


def _directions(diagnosis: Diagnosis, displacement: Displacement, rank: int) -> list[str]:
    shares = {kind: sum(m[:rank]) / sum(m) if sum(m) > 0 else None for kind, m in displacement.moved_by.items()}
    inside = [[markdown_escape(kind), _percent(share)] for kind, share in shares.items()]
    first = zip(diagnosis.spectrum or repeat(None), displacement.invariance_ratio, strict=False)
    numbered = [[str(i), _number(value), _number(ratio)] for i, (value, ratio) in enumerate(first, 1)][:_SHOWN]
    terms = []
    if displacement.reconstruction and displacement.consistency:
        lost, moved = (_number(term[rank - 1]) for term in (displacement.reconstruction, displacement.consistency))
        paper = diagnosis.nuisance in (None, "interventions")
        second = "consistency" if paper else f"nuisance ({diagnosis.nuisance})"
        terms = [f"Terms of the objective at rank {rank}: reconstruction {lost}, {second} {moved}."]
    return [
        "## What interventions move",
        f"Share of each kind's displacement that lies inside the subspace of rank {rank}:",
        markdown_grid(["Kind", "inside"], inside),
        *terms,
        "The first directions: eigenvalue, and displacement relative to energy (0: nothing moves it).",
        markdown_grid(["Direction", "eigenvalue", "displacement / energy"], numbered),
        "![Displacement relative to energy](diagnostics.png)",
    ]


def _mapped(mapped: Mapped, nuisance: str | None) -> list[str]:
    if mapped.images_stay:
        return ["## What is left", "Images stay as they are: the map is of texts alone."]
    of_kinds = [[f"displacement by {markdown_escape(k)}", _percent(v)] for k, v in mapped.displacement_left.items()]
    grid = markdown_grid(["Of", "left"], [["energy of the embeddings", _percent(mapped.energy_left)], *of_kinds])
    parts = ["## What is left", "Share that the map leaves of images:", grid]
    if mapped.invariance_ratio:
        before, after = map(_number, mapped.invariance_ratio)
        parts.append(f"Displacement relative to energy: {before} before the map, {after} after it.")
    if mapped.reconstruction is not None and mapped.nuisance_left is not None:
        lost, left = _number(mapped.reconstruction), _number(mapped.nuisance_left)
        parts.append(f"Terms of the objective: reconstruction {lost}, nuisance ({nuisance}) {left}.")
    return parts


def _shift(shift: Shift) -> list[str]:
    """Return the section on the removed shift; empty if the projection is not linear or nothing shifts."""
    known, fits = [name for name in _SHARES if getattr(shift.real, name) is not None], shift.placebos.values()
    body = [[markdown_escape(_SHARES[name]), *(_share(of, name) for of in ([shift.real], *fits))] for name in known]
    if len(body) < 2:
        return []
    target = f" † uses the labels of {', '.join(shift.target)}." if shift.target else ""
    n = len(next(iter(fits), []))
    placebos = f" Placebos of C_d: mean, lowest and highest of {n} draws." if n else ""
    return [
        "## Do the interventions span the shift?",
        "Shift: differences of class means between environments, less their sampling noise. Removed: dropped or "
        "shrunk. C_d along the shift: displacement by interventions, 1 for an average direction."
        f"{markdown_escape(placebos + target)}",
        markdown_grid(["Share", "this", *shift.placebos], body),
    ]


def _share(fits: Sequence[Spans], name: str) -> str:
    """Return a share of one fit, or the mean and range over several fits."""
    found = [getattr(one, name) for one in fits]
    values = [value[0] if isinstance(value, list) else value for value in found]  # lists by rank have one entry
    of = (float(np.mean(values)), min(values), max(values))
    mean, low, high = (f"{v:.2f}" if name.startswith("shift_moved") else f"{100 * v:.1f} %" for v in of)
    return mean if len(values) == 1 else f"{mean} ({low} to {high})"


def _angles(diagnosis: Diagnosis) -> list[str]:
    compared = diagnosis.angles | ({"backbones": diagnosis.backbones} if diagnosis.backbones else {})
    parts = ["## How far subspaces lie apart", "At the same rank."] if compared else []
    for name, angles in compared.items():
        body = [[f"{d:.1f}°" for d in row] for row in angles.degrees]
        if angles.overlap is not None:
            both = zip(body, angles.overlap, strict=True)
            body = [[f"{d} ({100 * o:.0f} %)" for d, o in zip(*pair, strict=True)] for pair in both]
        labels = [*map(markdown_escape, angles.labels)]
        grid = markdown_grid(["", *labels], [[label, *cells] for label, cells in zip(labels, body, strict=True)])
        parts += [f"Fitted with {_COMPARED[name]}:", grid]
    return parts


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.4g}"


def _figure(diagnosis: Diagnosis, displacement: Displacement, rank: int) -> dict[str, bytes]:
    """Return the figure: displacement relative to energy by direction, for the set and for each kind."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    directions = np.arange(1, diagnosis.dim + 1)
    ratio = np.array([np.nan if r is None else r for r in displacement.invariance_ratio])
    axes.plot(directions, ratio, color="#000000", linewidth=1.6, label="intervention set")
    energy = np.array(displacement.energy)
    for kind, values in displacement.moved_by.items() if len(displacement.moved_by) > 1 else ():
        axes.plot(directions, np.array(values) / np.where(energy > 0, energy, np.nan), linewidth=0.7, label=kind)
    axes.axvline(rank, color="#999999", linewidth=0.8, linestyle=":")
    axes.set(xlabel="direction, in the order in which they are kept", ylabel="displacement / energy", yscale="log")
    banner = f"{BANNER}: " if diagnosis.random_weights else ""
    axes.set_title(f"{banner}{diagnosis.choice}: {diagnosis.dataset}, {diagnosis.backbone}", fontsize=9)
    axes.legend(fontsize=7, ncols=2)
    png, pdf = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=200)
    figure.savefig(pdf, format="pdf", dpi=200, metadata={"CreationDate": None})
    return {"diagnostics.png": png.getvalue(), "diagnostics.pdf": pdf.getvalue()}


def write_estimates(estimates: Sequence[Estimated], storage: Storage, folder: str, name: str) -> tuple[list[str], str]:
    """Write tables of estimates in all formats. Equal estimates give equal bytes.

    Args:
        estimates: estimates of all methods and environments.
        storage: storage to write to.
        folder: folder inside the storage, or "" for its top level. Files with the same names are replaced.
        name: name of the recipe.

    Returns:
        Paths or URIs of the files, estimates.md first, and the tables as terminal text.

    Raises:
        IcmBenchError: there are no estimates, or a file cannot be written.
    """
    if not estimates:
        raise IcmBenchError(f"'{name}' has no method whose accuracy can be estimated.")
    made = [of_unlabelled(estimates)] if any(not one.is_labelled for one in estimates) else []
    made.append(of_labelled(estimates))
    parts = [f"# {markdown_escape(name)}: estimates without labels", *(markdown(table).rstrip() for table in made)]
    contents = {f"{NAME}.md": "\n\n".join(parts) + "\n"}
    contents |= {f"tables/{table.name}.{suffix}": form(table) for table in made for suffix, form in FORMATS.items()}
    files = list(storage.write_files(folder, {file: content.encode() for file, content in contents.items()}).values())
    shown = [line for table in made for line in [*text(table), ""]]
    return files, "\n".join([*shown, f"Tables: {files[0]}"])


def of_unlabelled(estimates: Sequence[Estimated]) -> Table:
    """Return the table of environments without labels: estimates, and their errors on labelled environments."""
    columns = [Column(*heading, group="estimate") for heading in _WAYS.values()]
    columns += [Column(*heading, group="error with labels", unit="points") for heading in _WAYS.values()]
    known = _grouped((one for one in estimates if one.is_labelled), "method")
    blocks = []
    for place, of_block in _grouped((one for one in estimates if not one.is_labelled), "environment").items():
        errors = [_errors(known.get((*place[:2], one.method), ())) for one in of_block]
        lines = [Line(one.method, (*_shares(one), *cells)) for one, cells in zip(of_block, errors, strict=True)]
        blocks.append(Block("{}, {}: {} (no labels)".format(*place), tuple(lines), place[1]))
    note = (
        "Error: mean distance to the truth over the labelled environments, each held out in turn as if it had no "
        "labels. Their fits have one source less."
    )
    caption = "Estimates, not measurements: accuracy (%) on environments without labels."
    return Table(NAME, caption, tuple(columns), tuple(blocks), (note, *_ESTIMATE_NOTES))


def of_labelled(estimates: Sequence[Estimated]) -> Table:
    """Return the table of labelled environments: true accuracy and estimates."""
    columns = [Column("accuracy"), *(Column(*heading, group="estimate") for heading in _WAYS.values())]
    blocks = []
    for place, each in _grouped((one for one in estimates if one.is_labelled), "method").items():
        lines = [Line(one.environment, (_share_cell(one.accuracy), *_shares(one))) for one in each]
        lines.append(Line("mean error (points)", (Cell(text=""), *_errors(each))))
        blocks.append(Block("{}, {}: {}".format(*place), tuple(lines), place[1]))
    caption = "Estimates and true accuracy (%) on labelled environments, each held out as if it had no labels."
    return Table(f"{NAME}_checked", caption, tuple(columns), tuple(blocks), _ESTIMATE_NOTES, corner="Environment")


def _grouped(estimates: Iterable[Estimated], name: str) -> dict[_Place, list[Estimated]]:
    """Return estimates grouped by data set, backbone and a field, sorted by data set and backbone."""
    ordered = sorted(estimates, key=lambda one: (one.dataset, one.backbone))
    return grouped(ordered, lambda one: (one.dataset, one.backbone, str(getattr(one, name))))


def _shares(one: Estimated) -> list[Cell]:
    return [_share_cell(getattr(one, way)) for way in _WAYS]


def _errors(estimates: Sequence[Estimated]) -> list[Cell]:
    """Return one cell for each kind of estimate, with its mean absolute error; empty if the error is unknown."""
    return [_share_cell(fmean(one.error(way) for one in estimates) if estimates else math.nan) for way in _WAYS]


def _share_cell(share: float) -> Cell:
    return Cell(note="agreement takes three methods") if math.isnan(share) else Cell(100 * share)
