"""`icm-bench results board`: writes the board of a folder of published results as one page and as board.csv."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.results.board import board
from benchmark.results.packed import read_packed

PAGE, CSV = "board.html", "board.csv"


@dataclass(frozen=True)
class Written:
    """What `write_board` wrote."""

    page: str  # path of the page
    csv: str  # path of the same numbers as CSV
    datasets: int
    entries: int  # encoders with their methods
    lines: int  # lines of the CSV file

    def text(self) -> str:
        """Return the result in words."""
        return f"{self.page}: {self.entries} entries on {self.datasets} data sets\n{self.csv}: the same numbers"


def write_board(folder: Path) -> Written:
    """Compute the board from the packed answers in a folder of results, and write it there.

    Raises:
        IcmBenchError: there are no packed answers, they are older than the records or damaged, or a file cannot be
            written.
    """
    from reports.board.build import page
    from reports.render.formats import records_csv

    groups = read_packed(folder)
    if not groups:
        raise IcmBenchError(f"No record in {folder} has answers of single images; `icm-bench publish` writes both.")
    records = []
    for row in board(groups):
        fields = asdict(row)
        numbers = {name: _rounded(fields[name]) for name in ("accuracy", "low", "high")}
        records.append({**fields, **numbers})
    storage = Storage(str(folder))
    storage.write_bytes(PAGE, page(records))
    lines = [{k: _csv_value(v) for k, v in record.items()} for record in records]
    storage.write_bytes(CSV, records_csv(lines).encode())
    entries = {one.identity for _, of_group in groups.values() for one in of_group}
    datasets = {key.dataset for key in groups}
    return Written(storage.path(PAGE), storage.path(CSV), len(datasets), len(entries), len(records))


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def _csv_value(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else value
