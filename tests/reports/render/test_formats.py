"""Properties of all renderers: golden bytes, and names with markup."""

import csv
import html.parser
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.common.terminal.escaping import one_line
from reports.render.cells import error_text, number_text
from reports.render.formats import csv_lines, csv_text, json_text, markdown, text
from reports.render.formats import html as html_form
from reports.render.latex import latex
from reports.render.table import Block, Cell, Column, Line, Table
from tests.reports.render.made import HOSTILE, NOTES, hostile, main, small

GOLDEN = Path(__file__).parent / "golden"


def lines_of(table: Table) -> str:
    return "\n".join(text(table)) + "\n"


FORMATS: dict[str, Callable[[Table], str]] = {
    "md": markdown, "tex": latex, "csv": csv_text, "json": json_text, "html": html_form, "txt": lines_of,
}  # fmt: skip


@pytest.mark.parametrize("form", FORMATS)
def test_a_small_table_is_written_byte_for_byte_as_it_was_checked_by_hand(form: str) -> None:
    assert FORMATS[form](small()).encode() == (GOLDEN / f"small.{form}").read_bytes()


@pytest.mark.parametrize("form", FORMATS)
def test_the_order_of_context_fields_does_not_matter(form: str) -> None:
    table = small()
    turned = replace(table, context=dict(reversed(list(table.context.items()))))
    assert list(turned.context) != list(table.context)
    assert FORMATS[form](turned) == FORMATS[form](table)


@pytest.mark.parametrize("form", FORMATS)
def test_nan_is_a_gap_in_every_format(form: str) -> None:
    cells = (
        Cell(float("nan"), error=1.0, best=True),
        Cell(float("inf")),
        Cell(5.0, float("nan"), float("inf"), float("nan")),
    )
    table = Table("t", "c", (Column("x"), Column("y"), Column("z")), (Block("", (Line("a", cells), Line("b", cells))),))
    written = FORMATS[form](table)
    assert not re.search(r"\b(nan|inf|infinity)\b", written, re.IGNORECASE)
    if form in ("md", "html", "txt"):
        assert written.count("—") == 4
        assert "±" not in written
    if form == "tex":
        assert written.count("---") == 4


@pytest.mark.parametrize("form", FORMATS)
def test_a_table_without_lines_or_columns_is_written(form: str) -> None:
    for columns, blocks in (((Column("a"),), ()), ((), (Block("", (Line("x", ()),)),))):
        assert "a caption" in FORMATS[form](Table("t", "a caption", columns, blocks)) or form == "csv"


def test_hostile_names_add_no_cell_and_no_line_to_markdown() -> None:
    written = markdown(hostile())
    grid = [line for line in written.splitlines() if line.startswith("|")]
    assert len(grid) == 2 + 5 * 6
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in grid} == {7}
    assert not re.search(r"(?<!\\)<", written)
    assert "a_b%" in written  # an underscore inside a word is no markup
    assert "two lines" in written


@pytest.mark.parametrize(
    ("note", "written"),
    [("# no heading", r"\# no heading"), ("- no list", r"\- no list"), ("1. no list", r"1\. no list"), ("> no quote", r"\> no quote"),
     ("*x* _y_ `z` ~~s~~ $a$ &lt; [l](u)", r"\*x\* \_y\_ \`z\` \~\~s\~\~ \$a\$ \&lt; \[l](u)"), ("a & b_c", "a & b_c")],
)  # fmt: skip
def test_markdown_takes_no_sentence_for_markup(note: str, written: str) -> None:
    assert any(line.startswith(f"{written} † is") for line in markdown(replace(small(), notes=(note,))).splitlines())


def test_hostile_names_are_text_in_html() -> None:
    tags: list[str] = []
    shown: list[str] = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)
            assert not [name for name, _ in attrs if name in ("style", "id") or name.startswith("on")]

        def handle_data(self, data: str) -> None:
            shown.append(data)

    Reader().feed(html_form(hostile()))
    assert set(tags) == {"table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "p", "sup", "span"}
    assert tags.count("td") == 5 * 5 * 5 + 1
    assert {"<script>alert(1)</script>", "a_b%", "=cmd|' /C calc'!A0", "x | y", "two lines"} <= set(shown)


def test_every_heading_of_html_says_what_it_is_of() -> None:
    written = html_form(main(grouped=2))
    headings = re.findall(r"<th\b[^>]*>", written)
    assert all(re.search(r'scope="(col|row|colgroup|rowgroup)"', heading) for heading in headings)
    assert written.count("<tbody>") == 4
    first_row, second_row = re.findall(r"<tr>.*?</tr>", written.split("</thead>")[0], re.DOTALL)
    assert len(re.findall("<th", first_row)) == 1 + 5 + 2  # corner, groups, average and difference
    assert len(re.findall("<th", second_row)) == 5 * 2


def test_csv_text_is_no_formula_and_numbers_stay_numbers() -> None:
    dangerous = ("=1+1", "+1", "-1", "@x", "\t=1", "\r=1", " =1")
    cells = tuple(Cell(-1.5, note=name, trials=(name,)) for name in dangerous)
    table = Table(
        "=t", "c", tuple(Column(name, "", name, name) for name in dangerous), (Block("=b", (Line("-l", cells),), "@p"),),
        context={"=k": "=v", "note": "shared"},
    )  # fmt: skip
    rows = list(csv.reader(io.StringIO(csv_text(table))))
    assert len(rows) == 1 + len(dangerous)
    assert {field for row in rows for field in row if field[:1] in tuple("=+-@\t\r")} == {"-1.5", "+1", "-1"}
    assert rows[0][:3] == ["table", "'=k", "context_note"]
    assert len(rows[0]) == len(set(rows[0]))
    assert [row[rows[0].index("column")] for row in rows[1:]] == ["'=1+1", "+1", "-1", "'@x", "'=1", "'=1", "'=1"]


def test_the_csv_has_one_line_per_cell_with_context() -> None:
    table = main()
    rows = list(csv.DictReader(io.StringIO(csv_text(table))))
    assert len(rows) == sum(len(line.cells) for _, line in table.lines())
    first = table.blocks[0].lines[0].cells[0]
    assert first.value is not None
    assert float(rows[0]["value"]) == pytest.approx(first.value, abs=5e-7)
    assert len(rows[0]["value"].split(".")[1]) <= 6


def test_json_is_the_whole_table_and_cannot_end_a_script() -> None:
    table = hostile()
    written = json_text(table)
    assert "<" not in written
    read = json.loads(written)
    assert read["caption"] == table.caption
    assert read["context"] == dict(table.context)
    assert read["blocks"][1]["lines"][4]["cells"][2]["text"] == HOSTILE[2]
    assert read["columns"][4]["name"] == "two\nlines"
    assert json.loads(json_text(main()))["blocks"][0]["lines"][0]["cells"][0]["value"] == round(
        main().blocks[0].lines[0].cells[0].value or 0.0, 6
    )


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("make", [small, hostile, main, lambda: main(grouped=4)])
def test_text_fits_its_terminal_and_loses_no_number(make: Callable[[], Table], width: int) -> None:
    table = make()
    lines = text(table, width)
    assert max(map(len, lines)) <= width
    if make is not hostile:
        numbers = " ".join(lines)
        shown = [number_text(c.value, c) for _, line in table.lines() for c in line.cells if c.value is not None]
        assert not [number for number in shown if number not in numbers]


def test_text_drops_errors_before_it_shortens_names() -> None:
    table = main(("PACS", "VLCS"), ("Plain", "CLIP-ICM (released order)"), ("ViT",), marks=False)
    wide, narrow, narrower = ("\n".join(text(table, width)) for width in (100, 72, 44))
    assert "±" in wide.replace(NOTES[1], "").replace("± is", "")
    assert not re.search(r"\d±", narrow)
    assert "CLIP-ICM (released order)" in narrow
    assert "[" in narrow  # intervals are kept longer than errors
    assert "CLIP-ICM (released order)" not in narrower
    assert "CLIP-ICM" in narrower


def test_numbers_are_written_as_their_cells_say() -> None:
    assert number_text(84.66, Cell()) == "84.7"
    assert number_text(1.24, Cell(signed=True)) == "+1.2"
    assert number_text(-0.04, Cell(signed=True)) == "0.0"
    assert number_text(-12345.6, Cell(decimals=0), "−") == "−12,346"
    assert [error_text(Cell(1.0, error=e)) for e in (0.04, 0.05, 2.34)] == ["<0.1", "0.1", "2.3"]
    assert error_text(Cell(1.0, error=0.0004, decimals=3)) == "<0.001"
    assert error_text(Cell(1.0, 0.0, 2.0, error=0.5, signed=True)) == ""  # its interval is printed instead
    assert error_text(Cell(None, error=0.5)) == ""


def test_nothing_in_a_name_steers_a_terminal() -> None:
    assert one_line(" a\n\tb\u2028c ") == "a b c"
    assert one_line("\x1b[31mred\u202e") == "U+001B[31mredU+202E"


def test_marks_are_explained_once() -> None:
    explained = replace(small(), notes=('"=" is plain; † is a bound.',))
    assert markdown(small()).count("labels of what is tested") == 1
    assert markdown(small()).count("the full space") == 1
    assert "labels of what is tested" not in markdown(explained)
    assert "the full space" not in markdown(explained)
    assert "full space" not in markdown(main(marks=False))


def test_a_common_unit_is_in_the_notes() -> None:
    cells = (Cell(1.0), Cell(2.0))
    table = Table(
        "cost",
        "Cost.",
        (Column("a", unit="GPU hours"), Column("b", unit="GPU hours")),
        (Block("", (Line("x", cells),)),),
    )
    assert "Numbers are in GPU hours." in markdown(table)
    assert "(GPU hours)" not in markdown(table)
    mixed = replace(table, columns=(Column("a", unit="GPU hours"), Column("b")))
    assert "| a (GPU hours) | b |" in markdown(mixed)


def test_text_of_any_kind_is_kept_from_spreadsheets() -> None:
    class Word(str):
        pass

    texts = ["=1+1", np.str_("=1+1"), Word("=1+1"), "-1.5", "plain", None, True, 2, 0.5]
    assert csv_lines(["=head"], [texts]) == "'=head\n'=1+1,'=1+1,'=1+1,-1.5,plain,,True,2,0.5\n"
