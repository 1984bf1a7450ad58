"""What every benchmark shares: its command line, and the figures that it leaves for the runner."""

import argparse
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """Return the parser of a benchmark's command line; `doc` is its docstring."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures into this file too")
    return parser


def keep(file: Path | None, figures: Mapping[str, float]) -> None:
    """Write figures, name -> number, where a file was asked for."""
    if file:
        file.write_text(json.dumps({name: round(float(value), 4) for name, value in figures.items()}))


def rate_of_all(times: Collection[Sequence[float]], begin: float, end: float) -> float:
    """Return how many chunks a second some encoders end together between two moments; of each from its first to last.

    Args:
        times: of each encoder, when it ended its chunks, in seconds and ascending; three or more of them in between.
        begin: the earlier moment.
        end: the later one.
    """
    between = [[moment for moment in of_one if begin <= moment <= end] for of_one in times]
    return sum((len(of_one) - 1) / (of_one[-1] - of_one[0]) for of_one in between)
