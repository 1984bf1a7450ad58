"""`icm-bench results board`: writes the board of a folder of published results as one page and as board.csv."""

from pathlib import Path
from typing import Any

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.results.board import board
from benchmark.results.packed import read_packed

PAGE, CSV = "board.html", "board.csv"


def write_board(folder: Path) -> tuple[dict[str, Any], str]:
    """Compute the board from the packed answers in a folder of results, and write it there.

    Returns:
        Files and counts as plain data, and as text.

    Raises:
        IcmBenchError: there are no packed answers, they are older than the records or damaged, or a file cannot be
            written.
    """
    from reports.board.build import page
    from reports.render.formats import records_csv

    groups = read_packed(folder)
    if not groups:
        raise IcmBenchError(f"No record in {folder} has answers of single images; `icm-bench publish` writes both.")
    records, storage = [row.record() for row in board(groups)], Storage(str(folder))
    storage.write_bytes(PAGE, page(records))
    lines = [{k: str(v).lower() if isinstance(v, bool) else v for k, v in one.items()} for one in records]
    storage.write_bytes(CSV, records_csv(lines).encode())
    entries = {one.identity for _, of_group in groups.values() for one in of_group}
    made: dict[str, Any] = {"page": storage.path(PAGE), "csv": storage.path(CSV), "lines": len(records)}
    made |= {"datasets": len({key.dataset for key in groups}), "entries": len(entries)}
    return made, f"{made['page']}: entries: {len(entries)}, data sets: {made['datasets']}\n{made['csv']}: as CSV"
