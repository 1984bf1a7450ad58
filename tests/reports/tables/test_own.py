"""Invalid tables of the user: the error names the table and the remedy."""

from pathlib import Path

import pytest

from benchmark.common.code import NO_PLUGINS, UNASKED
from benchmark.common.errors import IcmBenchError
from reports.analysis.settings import Options
from reports.tables import paper_tables
from tests.reports.synthetic import results_of
from tests.reports.tables.rows import PCA, PLAIN, method_rows

CODE = """
from reports.tables import Cell, Column, TableSpec, Values, by_method, each


def spec(name="mine", scope="data set", cell=lambda entry: Cell(value=1.0)):
    columns = lambda _: [Values(Column("one"), cell)]
    return TableSpec(name, lambda request: request.what, by_method(each), columns, scope=scope)


RIGHT, AGAIN, NUMBER = spec(), spec(), 3
MAIN, METRICS, OUTSIDE, SCOPE = spec("main"), spec("metrics"), spec("../mine"), spec(scope="all")
RAISING = spec(cell=lambda entry: entry.nothing)
"""
ROWS = [*method_rows(PLAIN, (0.5, 0.5)), *method_rows(PCA, (0.6, 0.6))]


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tables_of_a_user.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)


def made(*names: str) -> list[str]:
    tables = tuple(f"tables_of_a_user:{name}" for name in names)
    return [one.name for one in paper_tables(results_of(ROWS), Options(tables=tables))]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("NUMBER",), "'tables_of_a_user:NUMBER' must be a reports.tables.TableSpec, not int"),
        (("NONE",), "'tables_of_a_user:NONE' cannot be loaded: .* has no attribute 'NONE'"),
        (("MAIN",), "is called 'main', the name of another file; rename it"),
        (("METRICS",), "is called 'metrics', the name of another file; rename it"),
        (("RIGHT", "AGAIN"), "is called 'mine', the name of another file; rename it"),
        (("OUTSIDE",), r"is called '../mine'; use a letter"),
        (("SCOPE",), "has the scope 'all'; use one of .*'data set'"),
        (("RAISING",), r"'mine' cannot be made: AttributeError \(.*nothing.*\) at .*tables_of_a_user.py:12"),
    ],
)
def test_an_invalid_table_is_refused_by_name(names: tuple[str, ...], said: str) -> None:
    with pytest.raises(IcmBenchError, match=said):
        made(*names)


def test_a_right_one_comes_last_and_code_of_others_can_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert made("RIGHT")[-1] == "mine"
    monkeypatch.setenv(NO_PLUGINS, UNASKED)  # the command line has asked for it
    assert made("RIGHT")[-1] == "mine"
    monkeypatch.setenv(NO_PLUGINS, "1")
    with pytest.raises(IcmBenchError, match="'tables_of_a_user:RIGHT' is a plugin"):
        made("RIGHT")
