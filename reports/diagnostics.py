"""What a projection keeps and how stable it is, as JSON, Markdown and one figure; from plain data."""

import io
import json
from typing import Any

import numpy as np

from benchmark.common.storage import Storage
from reports.build import ReportFiles
from reports.render import markdown_escape, markdown_grid
from reports.settings import BANNER

_GROUPS = {
    "held_out": "one environment left out",
    "seeds": "another seed of the split",
    "kinds": "one kind of intervention alone",
}
_SHOWN = 8  # directions in the table of the first ones


def write_diagnostics(found: dict[str, Any], storage: Storage, folder: str) -> ReportFiles:
    """Write `diagnostics.json`, `.md`, `.png` and `.pdf` and return where they are, with the Markdown as text.

    Args:
        found: what `icm-bench diagnose` found.
        storage, folder: where to.
    """
    text = markdown(found)
    contents = {
        "diagnostics.md": text.encode(),
        "diagnostics.json": (json.dumps(found, indent=2, ensure_ascii=False) + "\n").encode(),
    }
    if found.get("invariance_ratio"):
        contents |= _figure(found)
    prefix = f"{folder}/" if folder else ""
    for name, content in contents.items():
        storage.write_bytes(f"{prefix}{name}", content)
    files = [storage.path(f"{prefix}{name}") for name in contents]
    return ReportFiles(files[0], files, text)


def markdown(found: dict[str, Any]) -> str:
    """Return the findings as Markdown."""
    parts = [f"# {_banner(found)}{markdown_escape(found['choice'])}", markdown_escape(_setting_words(found))]
    parts += _directions(found) + _decodability(found) + _angles(found)
    return "\n\n".join(parts) + "\n"


def _banner(found: dict[str, Any]) -> str:
    return f"{BANNER}: " if found["random_weights"] else ""


def _setting_words(found: dict[str, Any]) -> str:
    return (
        f"{_banner(found)}{found['dataset']}, {found['backbone']}: fitted on the in-splits (80 %, seed "
        f"{found['seed']}) of {', '.join(found['environments'])}, {found['images']} images, "
        f"normalize {found['normalize']}; "
        f"rank {found['rank']} of {found['dim']}."
    )


def _directions(found: dict[str, Any]) -> list[str]:
    ratios = found.get("invariance_ratio")
    if not ratios:
        return []
    kinds = list(found["moved_by"])
    rank = found["rank"]
    inside = [(sum(moved[:rank]), sum(moved)) for moved in found["moved_by"].values()]
    shares = [f"{100 * part / whole:.1f} %" if whole > 0 else "none" for part, whole in inside]
    first = [
        [str(i + 1), _number(found["spectrum"][i] if found["spectrum"] else None), _number(ratios[i])]
        for i in range(min(_SHOWN, len(ratios)))
    ]
    terms = []
    if "consistency" in found:
        kept, moved = (_number(found[name][rank - 1]) for name in ("reconstruction", "consistency"))
        terms = [f"Terms of the objective at rank {rank}: reconstruction {kept}, consistency {moved}."]
    return [
        "## What interventions move",
        f"Share of each kind's displacement that lies inside the subspace of rank {rank}:",
        markdown_grid(["Kind", "inside"], [[markdown_escape(k), s] for k, s in zip(kinds, shares, strict=True)]),
        *terms,
        "The first directions: eigenvalue, and displacement relative to energy (0: nothing moves it).",
        markdown_grid(["Direction", "eigenvalue", "displacement / energy"], first),
        "![Displacement relative to energy](diagnostics.png)",
    ]


def _decodability(found: dict[str, Any]) -> list[str]:
    body = [
        [d["space"], str(d["rank"]), f"{100 * d['balanced_accuracy']:.1f}", f"{100 * d['chance']:.1f}", str(d["n"])]
        for d in found["decodability"]
    ]
    return [
        "## How well the environment can be read",
        "Balanced accuracy (%) of a linear classifier for the environment, cross-validated in five folds by image.",
        markdown_grid(["Space", "rank", "accuracy", "chance", "images"], body),
    ]


def _angles(found: dict[str, Any]) -> list[str]:
    words = "largest principal angle, and the share of the one subspace that lies in the other"
    tables = [(f"{_GROUPS[name]} ({words})", table) for name, table in found["angles"].items()]
    if "backbones" in found:
        words = "another backbone (median canonical angle between projected embeddings of the same images)"
        tables.append((words, found["backbones"]))
    parts = ["## How far subspaces lie apart", "At the same rank."] if tables else []
    for words, table in tables:
        labels = [markdown_escape(label) for label in table["labels"]]
        body = [[label, *_cells(table, i)] for i, label in enumerate(labels)]
        parts += [f"Fitted with {words}:", markdown_grid(["", *labels], body)]
    return parts


def _cells(table: dict[str, Any], row: int) -> list[str]:
    degrees = [f"{d:.1f}°" for d in table["degrees"][row]]
    if "overlap" not in table:
        return degrees
    return [f"{d} ({100 * o:.0f} %)" for d, o in zip(degrees, table["overlap"][row], strict=True)]


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.4g}"


def _figure(found: dict[str, Any]) -> dict[str, bytes]:
    """Return the figure: displacement relative to energy of every direction, over all kinds and for each."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    directions = np.arange(1, found["dim"] + 1)
    ratio = np.array([np.nan if r is None else r for r in found["invariance_ratio"]])
    axes.plot(directions, ratio, color="#000000", linewidth=1.6, label="intervention set")
    energy = np.array(found["energy"])
    for kind, values in found["moved_by"].items() if len(found["moved_by"]) > 1 else ():
        axes.plot(directions, np.array(values) / np.where(energy > 0, energy, np.nan), linewidth=0.7, label=kind)
    axes.axvline(found["rank"], color="#999999", linewidth=0.8, linestyle=":")
    axes.set(xlabel="direction, in the order in which they are kept", ylabel="displacement / energy", yscale="log")
    axes.set_title(f"{_banner(found)}{found['choice']}: {found['dataset']}, {found['backbone']}", fontsize=9)
    axes.legend(fontsize=7, ncols=2)
    files = {}
    for suffix in ("png", "pdf"):
        sink = io.BytesIO()
        figure.savefig(sink, format=suffix, dpi=200, metadata={"CreationDate": None} if suffix == "pdf" else None)
        files[f"diagnostics.{suffix}"] = sink.getvalue()
    return files
