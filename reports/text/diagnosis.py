"""What a projection keeps and how stable it is, as JSON, Markdown and one figure."""

import io
import json
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from benchmark.common.storage import Storage
from benchmark.method.evaluation.spans import Spans
from reports.analysis.diagnostics import Angles, Diagnosis, Displacement, Mapped, Shift
from reports.analysis.settings import BANNER
from reports.render.markdown import markdown_escape, markdown_grid

_COMPARED = {
    "held_out": "one environment left out",
    "seeds": "another seed of the split",
    "kinds": "one kind of intervention alone",
}
_SHOWN = 8  # directions in the table of the first ones


@dataclass(frozen=True)
class DiagnosisFiles:
    """What `write_diagnostics` wrote.

    Attributes:
        report: path or URI of diagnostics.md.
        files: paths or URIs of all files, diagnostics.md first.
        text: what it says, as plain text.
    """

    report: str
    files: list[str]
    text: str


def write_diagnostics(diagnosis: Diagnosis, storage: Storage, folder: str) -> DiagnosisFiles:
    """Write `diagnostics.json`, `.md`, `.png` and `.pdf` and return where they are, with the Markdown as text.

    Args:
        diagnosis: what `icm-bench diagnose` found.
        storage: where to.
        folder: folder inside the storage, "" for the storage itself.
    """
    text = markdown(diagnosis)
    contents = {
        "diagnostics.md": text.encode(),
        "diagnostics.json": (json.dumps(diagnosis.content(), indent=2, ensure_ascii=False) + "\n").encode(),
    }
    if diagnosis.displacement and diagnosis.rank:
        contents |= _figure(diagnosis, diagnosis.displacement, diagnosis.rank)
    files = list(storage.write_files(folder, contents).values())
    return DiagnosisFiles(files[0], files, text)


def markdown(diagnosis: Diagnosis) -> str:
    """Return a diagnosis as Markdown."""
    parts = [f"# {_banner(diagnosis)}{markdown_escape(diagnosis.choice)}", markdown_escape(_setting_words(diagnosis))]
    if diagnosis.displacement and diagnosis.rank:
        parts += _directions(diagnosis, diagnosis.displacement, diagnosis.rank)
    parts += _mapped(diagnosis.mapped, diagnosis.nuisance) if diagnosis.mapped else []
    parts += _shift(diagnosis.shift) + _decodability(diagnosis) + _angles(diagnosis)
    return "\n\n".join(parts) + "\n"


def _banner(diagnosis: Diagnosis) -> str:
    return f"{BANNER}: " if diagnosis.random_weights else ""


def _setting_words(d: Diagnosis) -> str:
    rank = f"rank {d.rank} of {d.dim}" if d.rank else f"all {d.dim} directions are kept in part, so there are no ranks"
    return (
        f"{_banner(d)}{d.dataset}, {d.backbone}: fitted on {', '.join(d.environments)}, {d.images} images, of each the "
        f"{d.split}. Normalize {d.normalize}; {rank}."
    )


def _mapped(mapped: Mapped, nuisance: str | None) -> list[str]:
    if mapped.images_stay:
        return ["## What is left", "Images stay as they are: the map is of texts alone."]
    shares: dict[str, float | None] = {"energy of the embeddings": mapped.energy_left}
    shares |= {f"displacement by {markdown_escape(kind)}": share for kind, share in mapped.displacement_left.items()}
    body = [[what, _percent(share)] for what, share in shares.items()]
    sentences = []
    if mapped.invariance_ratio:
        before, after = map(_number, mapped.invariance_ratio)
        sentences.append(f"Displacement relative to energy: {before} before the map, {after} after it.")
    if mapped.reconstruction is not None and mapped.nuisance_left is not None:
        lost, left = _number(mapped.reconstruction), _number(mapped.nuisance_left)
        sentences.append(f"Terms of the objective: reconstruction {lost}, nuisance ({nuisance}) {left}.")
    return ["## What is left", "Share that the map leaves of images:", markdown_grid(["Of", "left"], body), *sentences]


def _directions(diagnosis: Diagnosis, displacement: Displacement, rank: int) -> list[str]:
    moved_by = {markdown_escape(kind): (sum(m[:rank]), sum(m)) for kind, m in displacement.moved_by.items()}
    inside = [[kind, _percent(part / whole if whole > 0 else None)] for kind, (part, whole) in moved_by.items()]
    spectrum = map(_number, diagnosis.spectrum or repeat(None))
    first = zip(spectrum, map(_number, displacement.invariance_ratio), strict=False)
    numbered = [[str(i), *numbers] for i, numbers in enumerate(first, 1)][:_SHOWN]
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


_SHARES = {
    "energy_removed": "Energy of the embeddings that is removed",
    "shift_removed_sources": "Shift between sources that is removed",
    "shift_removed_target": "Shift to what is left out that is removed †",
    "shift_moved_sources": "C_d along the shift between sources",
    "shift_moved_target": "C_d along the shift to what is left out †",
}


def _shift(shift: Shift) -> list[str]:
    """Return what is removed of the shift; nothing where the projection is no linear map or nothing shifts."""
    body = []
    for name, words in _SHARES.items():
        if getattr(shift.real, name) is not None:
            draws = [[_share(draw, name) for draw in of_one] for of_one in shift.placebos.values()]
            cells = [_shown(name, [_share(shift.real, name)]), *(_shown(name, values) for values in draws)]
            body.append([markdown_escape(words), *cells])
    if len(body) < 2:
        return []
    target = f" † uses the labels of {', '.join(shift.target)}." if shift.target else ""
    n = len(next(iter(shift.placebos.values()), []))
    placebos = f" Placebos of C_d: mean, lowest and highest of {n} draws." if n else ""
    return [
        "## Do the interventions span the shift?",
        "Shift: of the class means between environments, less what few images make. Removed: what is dropped or "
        "shrunk. C_d along the shift: how much interventions move it, 1 as the average direction."
        f"{markdown_escape(placebos + target)}",
        markdown_grid(["Share", "this", *shift.placebos], body),
    ]


def _share(spans: Spans, name: str) -> float:
    value = getattr(spans, name)
    return float(value[0] if isinstance(value, list) else value)


def _shown(name: str, values: list[float]) -> str:
    form = (lambda v: f"{v:.2f}") if name.startswith("shift_moved") else (lambda v: f"{100 * v:.1f} %")
    mean = form(float(np.mean(values)))
    return mean if len(values) == 1 else f"{mean} ({form(min(values))} to {form(max(values))})"


def _decodability(diagnosis: Diagnosis) -> list[str]:
    body = [
        [r.space, str(r.rank), f"{100 * r.balanced_accuracy:.1f}", f"{100 * r.chance:.1f}", str(r.n)]
        for r in diagnosis.decodability
    ]
    return [
        "## How well the environment can be read",
        "Balanced accuracy (%) of a linear classifier for the environment, cross-validated in five folds by image.",
        markdown_grid(["Space", "rank", "accuracy", "chance", "images"], body),
    ]


def _angles(diagnosis: Diagnosis) -> list[str]:
    words = "largest principal angle, and the share of the one subspace that lies in the other"
    tables = [(f"{_COMPARED[name]} ({words})", angles) for name, angles in diagnosis.angles.items()]
    if diagnosis.backbones:
        words = "another backbone (median canonical angle between projected embeddings of the same images)"
        tables.append((words, diagnosis.backbones))
    parts = ["## How far subspaces lie apart", "At the same rank."] if tables else []
    for words, angles in tables:
        labels = [markdown_escape(label) for label in angles.labels]
        body = [[label, *_cells(angles, i)] for i, label in enumerate(labels)]
        parts += [f"Fitted with {words}:", markdown_grid(["", *labels], body)]
    return parts


def _cells(angles: Angles, row: int) -> list[str]:
    degrees = [f"{d:.1f}°" for d in angles.degrees[row]]
    if angles.overlap is None:
        return degrees
    return [f"{d} ({100 * o:.0f} %)" for d, o in zip(degrees, angles.overlap[row], strict=True)]


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.4g}"


def _figure(diagnosis: Diagnosis, displacement: Displacement, rank: int) -> dict[str, bytes]:
    """Return the figure: displacement relative to energy of every direction, over all kinds and for each."""
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
    axes.set_title(f"{_banner(diagnosis)}{diagnosis.choice}: {diagnosis.dataset}, {diagnosis.backbone}", fontsize=9)
    axes.legend(fontsize=7, ncols=2)
    files = {}
    for suffix in ("png", "pdf"):
        sink = io.BytesIO()
        figure.savefig(sink, format=suffix, dpi=200, metadata={"CreationDate": None} if suffix == "pdf" else None)
        files[f"diagnostics.{suffix}"] = sink.getvalue()
    return files
