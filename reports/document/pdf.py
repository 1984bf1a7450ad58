"""A LaTeX document as PDF, where pdflatex is at hand: in a temporary folder, with a time limit, without a shell."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmark.common.progress import Progress

LIMIT_S = 120.0  # of one run
RUNS = 2  # the second one knows the numbers of tables
# Dates of the PDF from the clock would make equal rows unequal bytes; files outside its folder stay closed.
_ENVIRONMENT = {"SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1", "openin_any": "p", "openout_any": "p"}


def has_pdflatex() -> bool:
    """Say whether pdflatex is on the PATH."""
    return shutil.which("pdflatex") is not None


def compiled(source: str, figures: Mapping[str, bytes]) -> tuple[bytes | None, str]:
    """Return a document as PDF, or None and a sentence on what went wrong.

    Args:
        source: the document.
        figures: name of a file in its folder `figures` -> bytes.
    """
    with tempfile.TemporaryDirectory(prefix="icm-bench-paper-") as place:
        folder = Path(place)
        (folder / "figures").mkdir()
        for name, content in figures.items():
            (folder / "figures" / name).write_bytes(content)
        (folder / "paper.tex").write_text(source, encoding="utf-8")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
        progress = Progress("pdflatex", RUNS, "runs")
        for _ in range(RUNS):
            try:
                done = subprocess.run(
                    command, cwd=folder, env=os.environ | _ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True,
                    timeout=LIMIT_S, check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                return None, f"pdflatex was ended after {LIMIT_S:.0f} s; paper.tex is there to be compiled by hand."
            except OSError as error:
                return None, f"pdflatex could not be started ({error.strerror}); paper.tex is there to be compiled."
            if done.returncode:
                reason = _first_error(done.stdout.decode(errors="replace"))
                return None, f"pdflatex failed with '{reason}'; paper.tex is there to be mended."
            progress.update()
        return (folder / "paper.pdf").read_bytes(), ""


def _first_error(log: str) -> str:
    found = re.search(r"^! *(.+)$", log, re.MULTILINE)
    return found[1].strip().rstrip(".") if found else "no message"
