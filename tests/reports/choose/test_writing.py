"""Files of a choice: table in all formats, figure, terminal text of 80 columns. All rows are synthetic."""

import io
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Annotation
from PIL import Image

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from reports.choose import Dot, draw, drawings, write_choice
from reports.figures import style
from reports.render.table import Cell
from reports.text.sentences import Origin
from tests.reports.choose.rows import COSTS, TIED, answers, chosen, cost
from tests.reports.synthetic import TESTED, frame

ROWS = [one for own in TIED.values() for one in own]


def written(folder: Path, costs: Any = COSTS, rows: Any = ROWS) -> Any:
    origin = Origin("mine", ("store",), planned=12, finished=9, names={"A": "Alpha"})
    return write_choice(frame(rows), TESTED, costs, Storage(str(folder)), "", origin)


def test_table_and_figure_in_all_forms_and_a_terminal_of_80_columns(tmp_path: Path) -> None:
    first = written(tmp_path / "a")
    names = sorted(str(Path(file).relative_to(tmp_path / "a")) for file in first.files)
    assert names == sorted([
        "choose.md", *(f"tables/choose.{form}" for form in ("md", "tex", "csv", "json")),
        *(f"figures/choose.{form}" for form in ("pdf", "svg", "png", "md", "tex")),
    ])  # fmt: skip
    lines = first.text.splitlines()
    average = f"{100 * np.mean(list(answers(0.85).values())):.1f}"
    assert max(map(len, lines[:-1])) <= 80  # the last one names a file
    assert " ".join(lines[:3]).startswith(f"A has the highest average, {average} %; B is tied with it (0.0 [")
    assert any(line.startswith("PARTIAL: 9 of 12 trials") for line in lines)
    [alpha] = [line for line in lines if line.startswith("Alpha ")]
    assert alpha.split()[1:3] == [average, f"*{average}"]
    assert alpha.split()[-2:] == ["100.0", "1.00"]
    json_table = json.loads((tmp_path / "a/tables/choose.json").read_text())
    assert [line["name"] for block in json_table["blocks"] for line in block["lines"]] == ["A", "B", "C", "D"]
    with Image.open(io.BytesIO((tmp_path / "a/figures/choose.png").read_bytes())) as image:
        assert image.width == round(200 * style.COLUMN)
    assert "Not drawn, for no speed may be compared: D." in (tmp_path / "a/figures/choose.md").read_text()
    written(tmp_path / "b")
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_the_record_has_every_number_and_is_json(tmp_path: Path) -> None:
    found = json.loads(json.dumps(written(tmp_path).record, allow_nan=False))
    assert (found["chosen"], found["best"], found["tied"], found["rule"]) == ("B", "A", ["A", "B"], "lodo")
    a, b, c, d = found["backbones"]
    assert (a["minus_best"], a["on_front"], b["on_front"], c["on_front"], d["on_front"]) == (
        None,
        False,
        True,
        False,
        False,
    )
    assert b["minus_best_low"] < 0 < b["minus_best_high"]
    assert c["p_holm"] < 0.001
    assert (d["images_per_second"], d["memory"], b["memory"]) == (None, None, 2**30)
    assert b["images_per_second"] == pytest.approx(320)
    assert c["methods"] == {"Zero-shot": 3}


def test_without_two_speeds_there_is_no_figure_and_without_rows_a_sentence(tmp_path: Path) -> None:
    names = {Path(file).parent.name for file in written(tmp_path, {"A": [cost(1.0)]}).files}
    assert "figures" not in names
    with pytest.raises(
        IcmBenchError, match=r"^There are no result rows of 'mine'; run `icm-bench sweep RECIPE` first\.$"
    ):
        written(tmp_path, rows=[])


def test_the_front_is_drawn_through_undominated_backbones() -> None:
    choice = chosen(costs=COSTS | {"B": [cost(60.0)], "C": [cost(500.0)]})
    [made] = drawings(choice, {})
    assert {dot.name: dot.on_front for dot in made.numbers} == {"A": True, "B": False, "C": True}
    with style.in_style():
        [axes] = draw(made.numbers).axes
    [front] = [line for line in axes.lines if line.get_drawstyle() == "steps-pre"]
    x, y = np.asarray(front.get_xdata()), np.asarray(front.get_ydata())
    assert x[1:] == pytest.approx([100.0, 500.0, 500.0])
    worst = {one.name: one.worst.value for one in choice.candidates}
    assert y[:3] == pytest.approx([worst["A"], worst["A"], worst["C"]])


@pytest.mark.parametrize("count", [2, 9])
def test_names_stand_beside_their_dots_inside_the_axes_and_apart(count: int) -> None:
    dots = [
        Dot(f"ViT-B-{i} laion2b_s34b_b88k", 40.0 * 1.7**i, Cell(60.0 + (7 * i) % 20, 58.0, 82.0), i == 1)
        for i in range(count)
    ]
    with style.in_style():
        sheet = draw(dots)
        [axes] = sheet.axes
        renderer = sheet.canvas.get_renderer()  # type: ignore[attr-defined]
        texts = [text for text in axes.texts if isinstance(text, Annotation)]
        boxes = [text.get_window_extent(renderer) for text in texts]
        inside = axes.get_window_extent(renderer)
    assert len(texts) == count
    assert all(box.x0 >= inside.x0 - 1 and box.x1 <= inside.x1 + 1 for box in boxes)
    assert all(not one.overlaps(other) for one, other in combinations(boxes, 2))
