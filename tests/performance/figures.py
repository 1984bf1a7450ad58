"""What every benchmark shares: its command line, and the figures that it leaves for the runner."""

import argparse
import json
from collections.abc import Mapping
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
