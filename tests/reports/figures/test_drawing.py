"""Layout and files of all figures. All rows are synthetic."""

import io
import re
import warnings
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Sheet
from matplotlib.text import Annotation, Text
from PIL import Image

from reports import figures
from reports.analysis.findings import comparisons
from reports.analysis.settings import BANNER, Options
from reports.figures import every, style
from reports.figures.style import COLUMN, PAGE
from tests.reports.analysis.test_robustness import BACKBONES
from tests.reports.analysis.test_robustness import rows_of as rows_of_backbone
from tests.reports.figures.rows import plain_and_pca, rows_of
from tests.reports.synthetic import results_of, row

HOSTILE = ("$x_{", "<script>alert(1)</script>", "a_b%", "=cmd|' /C'!A0", "line\nbreak\x00", "é & ü", "x" * 200)


def drawn(rows: list[dict[str, Any]]) -> dict[str, Sheet]:
    """Return name -> sheet of all figures of rows."""
    sheets = {}
    with style.in_style():
        for drawing in drawings_of(rows):
            sheets[drawing.name] = drawing.draw(drawing.numbers)
            if drawing.random_weights:
                every.banner(sheets[drawing.name])
    return sheets


def drawings_of(rows: list[dict[str, Any]]) -> list[figures.Drawing]:
    parts = results_of(rows)
    compared = [(s, c) for s, x in parts for c in comparisons(s, x, Options()).compared]
    return figures.all_drawings(parts, compared, Options())


def all_of(rows: list[dict[str, Any]]) -> list[figures.Figure]:
    return list(figures.drawn(drawings_of(rows)))


def letters(sheet: Sheet) -> Iterator[Text]:
    """Yield the drawn texts, without tick labels outside an axis, which Matplotlib keeps but does not draw."""
    sheet.draw_without_rendering()
    hidden = set()
    for axes in sheet.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not low - 1e-9 <= tick.get_loc() <= high + 1e-9:
                    hidden |= {tick.label1, tick.label2}
    for text in sheet.findobj(Text):
        assert isinstance(text, Text)
        if text.get_visible() and text.get_text().strip() and text not in hidden:
            yield text


def hostile_rows() -> list[dict[str, Any]]:
    """Return rows whose data set, backbone, environments and sets have names with markup."""
    names = dict(zip(("art", "photo", "sketch"), HOSTILE, strict=False))
    rows = rows_of(HOSTILE[1], backbone=HOSTILE[2])
    for one in rows:
        one["held_out"] = names[one["held_out"]]
        if one["intervention_set"] == "blur+crop":
            one["intervention_set"] = HOSTILE[0]
        if one["intervention_set"] == "crop+grey":
            one["intervention_set"] = HOSTILE[6]
    return rows


@pytest.fixture(scope="module")
def sheets() -> dict[str, Sheet]:
    found = drawn(rows_of())
    of_backbones = drawn([r for name in BACKBONES for r in rows_of_backbone(name)])
    return found | {name: sheet for name, sheet in of_backbones.items() if name.startswith("robustness")}


@pytest.fixture(scope="module")
def made() -> list[figures.Figure]:
    return all_of(rows_of())


def test_there_is_every_figure(sheets: dict[str, Sheet]) -> None:
    assert list(sheets) == [
        "forest", "environments", "rank", "lambda_rank", "selection", "interventions", "spectrum",
        "robustness",
    ]  # fmt: skip


def check(sheet: Sheet, name: str) -> None:
    wide, tall = sheet.get_size_inches()
    assert wide in (COLUMN, PAGE), name
    assert tall <= style.MAX_HEIGHT, name
    assert sheet.get_suptitle() == ""
    assert all(axes.get_title() == "" for axes in sheet.axes), name
    canvas = sheet.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    with style.in_style():
        for text in letters(sheet):
            assert float(text.get_fontsize()) >= 6.5, (name, text)
            box = text.get_window_extent(canvas.get_renderer())
            inside = box.x0 >= -0.5 and box.y0 >= -0.5 and box.x1 <= 100 * wide + 0.5 and box.y1 <= 100 * tall + 0.5
            assert inside or BANNER in text.get_text(), (name, text, box)
        for text in letters(sheet):
            if isinstance(text, Annotation) and text.axes is not None and float(text.xyann[0]) < -5:
                edges = text.get_window_extent(canvas.get_renderer()).x1, text.axes.get_window_extent().x0
                assert edges[0] < edges[1], (name, text)
        for axes in sheet.axes:
            box = axes.get_position()
            assert 0 <= box.x0 < box.x1 <= 1, name
            assert 0 <= box.y0 < box.y1 <= 1, name
            assert box.width * wide > 0.8, name


def test_sizes_letters_and_edges(sheets: dict[str, Sheet]) -> None:
    for name, sheet in sheets.items():
        check(sheet, name)


def check_apart(sheet: Sheet, name: str) -> None:
    """Check that texts do not overlap, except rotated ones."""
    with style.in_style():
        canvas = sheet.canvas
        assert isinstance(canvas, FigureCanvasAgg)
        level = [text for text in letters(sheet) if not text.get_rotation()]
        boxes = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in level]
    for (a, first), (b, second) in combinations(boxes, 2):
        width = min(first.x1, second.x1) - max(first.x0, second.x0)
        height = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert min(width, height) < 1.5, (name, a, b)


def test_texts_do_not_overlap(sheets: dict[str, Sheet]) -> None:
    for name, sheet in sheets.items():
        check_apart(sheet, name)


@pytest.fixture(scope="module")
def hostile() -> list[figures.Figure]:
    return all_of(hostile_rows())


def test_hostile_names_are_drawn_as_text(hostile: list[figures.Figure]) -> None:
    for name, sheet in drawn(hostile_rows()).items():
        check(sheet, name)
        assert not any(text.get_parse_math() for text in letters(sheet)), name
    found = {one.name: one for one in hostile}
    forest = found["forest"].contents["svg"].decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; · a_b%" in forest
    assert "<script" not in forest
    assert "$x_{" in found["environments"].contents["svg"].decode()
    assert "a_b%" in found["environments"].contents["svg"].decode()


def test_characters_missing_in_the_font_give_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all_of([{**one, "held_out": f"{one['held_out']} 中"} for one in hostile_rows()])


def test_words_are_as_wide_in_every_resolution() -> None:
    widths = []
    with style.in_style():
        for dpi in (100, 200):
            sheet = style.sheet_of(6, 1)
            sheet.set_dpi(dpi)
            text, canvas = sheet.text(0, 0, "x" * 60, fontsize=6.5), sheet.canvas
            assert isinstance(canvas, FigureCanvasAgg)
            widths.append(text.get_window_extent(canvas.get_renderer()).width / dpi)
    assert widths[0] == pytest.approx(widths[1], rel=0.01)


def test_names_are_one_line_and_not_too_long() -> None:
    assert style.words("a\nb\x00c\u2028d") == "a b c d"
    assert style.words("x" * 200, 10) == "x" * 9 + "…"
    assert style.words("\ud800") == " "


def test_equal_rows_give_equal_bytes_without_a_date(made: list[figures.Figure]) -> None:
    assert all_of(rows_of()) == made
    for one in made:
        assert set(one.contents) == {"pdf", "svg", "png"}
        assert one.contents["pdf"].startswith(b"%PDF")
        assert one.contents["svg"].startswith(b"<?xml")
        for form in ("pdf", "svg"):
            assert not re.search(rb"CreationDate|dc:date|ModDate", one.contents[form]), one.name
        assert b"/Type3" not in one.contents["pdf"]
        with Image.open(io.BytesIO(one.contents["png"])) as image:
            assert image.width == pytest.approx(200 * one.width, abs=1)
            assert "Software" not in image.info


def test_a_users_own_settings_do_not_change_the_bytes() -> None:
    import matplotlib

    rows = plain_and_pca()
    plain = all_of(rows)
    assert plain
    with matplotlib.rc_context({"font.size": 20, "axes.grid": True, "lines.linewidth": 9}):
        assert all_of(rows) == plain


def test_the_banner_is_drawn_across_every_figure_of_random_weights(made: list[figures.Figure]) -> None:
    found = drawn(rows_of(random_weights=True))
    assert len(found) == 7
    for name, sheet in found.items():
        assert sum(text.get_text() == BANNER for text in letters(sheet)) == 1, name
    for one in all_of(plain_and_pca(random_weights=True)):
        assert one.caption.startswith(f"{BANNER}: "), one.name
        assert BANNER in one.contents["svg"].decode()
    assert not any(BANNER in one.contents["svg"].decode() for one in made)


def test_methods_differ_without_colour() -> None:
    looks = [*style._LOOKS.values(), *style._OTHERS]
    assert len({look.marker for look in looks}) == len(looks)
    assert len({(look.colour, str(look.line)) for look in looks}) == len(looks)


def test_files_have_the_names_of_settings_where_several_do_not_share_a_figure() -> None:
    few = [
        one for name in "ab" for b in "xy" for one in plain_and_pca(dataset=name, backbone=b, backbone_fingerprint=b)
    ]
    names = [one.name for one in all_of(few)]
    assert {n for n in names if n.startswith("rank")} == {"rank-2-sets-x-out_20", "rank-2-sets-y-out_20"}
    assert len(names) == len(set(names))


def test_omitted_figures_are_named() -> None:
    names = [f"b{i}" for i in range(every.MAX_SETTINGS + 1)]
    rows = [one for name in names for one in plain_and_pca(backbone=name, backbone_fingerprint=name)]
    parts = results_of([*rows, row(protocol="in_domain")])
    made = figures.all_drawings(parts, [], Options())
    assert len([one for one in made if one.name.startswith("rank")]) == every.MAX_SETTINGS
    assert not any("in_domain" in one.name for one in made)
    said = figures.left_out(parts)
    assert any("5 of 6 backbones, protocols and splits" in sentence for sentence in said)
    assert any("in_domain" in sentence for sentence in said)
    assert figures.left_out(results_of([row()])) == []


def test_captions_are_beside_the_figures_in_both_forms(hostile: list[figures.Figure]) -> None:
    markdown, latex = figures.captions(hostile, ["Nothing of <b>."])
    for one in hostile:
        assert f"]({one.name}.png)" in markdown
        assert f"({one.name}.pdf)" in markdown
        assert f"\\includegraphics{{{one.name}.pdf}}" in latex
        assert f"\\label{{fig:{one.name}}}" in latex
    assert "<script>" not in markdown.replace("\\<script>", "")
    assert r"a\_b\%" in latex
    assert "λ" not in latex
    assert latex.count("\\begin{figure*}") == sum(one.width == PAGE for one in hostile)
    assert "Nothing of \\<b>." in markdown


def test_captions_say_protocol_split_seed_n_and_rule(made: list[figures.Figure]) -> None:
    for one in made:
        for words in ("out_fold", "n = 720", "lodo", "held_out"):
            assert words in one.caption, (one.name, words)


def test_few_images_have_no_band_and_the_caption_says_so() -> None:
    found = {one.name: one for one in all_of(plain_and_pca(n_test=20))}
    assert "No band: one takes 30 units" in found["rank"].caption
