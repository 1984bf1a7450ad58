"""Images that a table lists are the data set that their folders are, and a table that lies is named."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.datasets.manifest import Manifest
from benchmark.recipe.loading import parse_recipe
from tests.conftest import S3
from tests.datasets import reading

Columns = dict[str, list[Any]]
COLUMNS = {"columns": {"class_name": "species", "environment": "where"}}


def columns_of(root: Path, suffix: str = "png") -> Columns:
    """Path, class and environment of the images below a folder, in random order."""
    listed = sorted(p.relative_to(root).as_posix() for p in root.rglob(f"*.{suffix}"))
    paths = [str(path) for path in np.random.default_rng(1).permutation(listed)]
    where, species, _ = zip(*(path.split("/") for path in paths), strict=True)
    return {"species": [*species], "path": paths, "where": [*where]}


def write(columns: Columns, file: Path) -> Path:
    table = pa.table(columns)
    pq.write_table(table, file) if file.suffix == ".parquet" else pyarrow.csv.write_csv(table, file)
    return file


def read(root: Path | str, **keys: Any) -> Manifest:
    return reading.read(root, **COLUMNS | keys)


def refusal(root: Path | str, **keys: Any) -> str:
    return reading.refusal(root, **COLUMNS | keys)


def recipe(**keys: Any) -> Any:
    return parse_recipe({"name": "x", "datasets": [{"name": "a", "root": "/r", **keys}], "backbones": ["ViT-B-32"]})


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_pacs_sample_as_a_table_is_the_pacs_sample(pacs_sample: Path, tmp_path: Path, suffix: str) -> None:
    folders = reading.read(pacs_sample, "PACS")
    table = write(columns_of(pacs_sample / "PACS", "[jp][pn]g"), tmp_path / f"images.{suffix}")
    found = read(pacs_sample / "PACS", name="PACS", table=str(table))
    assert len(found.table) == 700
    assert found.fingerprint == folders.fingerprint
    assert found.table.equals(folders.table)
    batch = found.table.slice(0, 5).to_pydict()
    assert list(found.reader.read(batch)) == [(pacs_sample / "PACS" / path).read_bytes() for path in batch["path"]]


def test_what_is_in_no_line_is_not_there_and_columns_may_say_more(toy_root: Path) -> None:
    columns = columns_of(toy_root)
    columns |= {"group": [f"burst {i // 2}" for i in range(36)], "weather, or so": ["a, b"] * 36}
    write({name: values[:30] for name, values in columns.items()}, toy_root / "metadata.csv")
    found = read(toy_root, layout="table")
    assert sorted(found.table["path"].to_pylist()) == sorted(columns["path"][:30])
    groups = dict(zip(columns["path"], columns["group"], strict=True))
    assert found.groups == [groups[path] for path in found.table["path"].to_pylist()]
    assert read(toy_root).table.num_rows == 36  # `auto` goes by the folders, whatever lies beside them


def test_numbers_are_names_and_usual_columns_need_no_word(toy_root: Path) -> None:
    paths = columns_of(toy_root)["path"]
    columns: Columns = {"filename": [f"./{path}" for path in paths], "label": [0, 1] * 18, "domain": [0, 1, 2] * 12}
    write(columns, toy_root / "images.parquet")
    found = read(toy_root, layout="table", columns={})
    assert found.environments == ["0", "1", "2"]
    assert found.classes == ["0", "1"]
    assert set(found.table["path"].to_pylist()) == set(paths)


def test_a_line_that_lies_is_named(toy_root: Path, tmp_path: Path) -> None:
    file = tmp_path / "table.csv"

    def said(change: Any, suffix: str = "csv") -> str:
        columns = columns_of(toy_root)
        change(columns)
        return refusal(toy_root, table=str(write(columns, file.with_suffix(f".{suffix}"))))

    def change(name: str, value: Any, row: int = 4) -> Any:
        return lambda columns: columns[name].__setitem__(row, value)

    gone = f"{file} names env0/cat/99.png, which does not lie below {toy_root} (1 of 36 lines)"
    assert gone in said(change("path", "env0/cat/99.png"))
    for path in ("../secret.png", "/etc/passwd", "env0/../../x.png", "s3://bucket/x.png"):
        assert f"The path in line 6 of {file} is {path!r}, which leads out of the root" in said(change("path", path))
    assert f"The environment in line 6 of {file} is ''" in said(change("where", ""))
    assert "The class in row 4 of" in said(change("species", None), "parquet")
    assert "has no column 'species', which columns.class_name names" in said(lambda c: c.pop("species"))
    assert "say in columns.path which it is: species, where, p." in said(lambda c: c.update(p=c.pop("path")))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"path,species,where\na.png,cat\n", "Line 2 of {} has 2 cells and the head 3; quote what holds a comma."),
        (b"path,species,where\n\xff,cat,x\n", "{} is not UTF-8 ('utf-8' codec"),
        ("path,species,where\na.png,cat,x\n".encode("utf-16-le"), "{} is not UTF-8 (it has zero bytes"),
        (
            b'path,species,where\n\na.png,cat,x\n"b.png,cat,x\nc.png,dog,x\n',
            "Line 4 of {} has a quote that is not closed",
        ),
        (b'path,species,where\n"a.png,cat,x\n"b.png",cat,x\n', "Line 2 of {} has a quote that is not closed"),
        (b"path,species,where\na.png,cat,x\n" + b"b" * 200_000 + b",cat,x\n", "Line 3 of {} has a quote that is not"),
        (
            b'path,species,where,note\na.png,cat,x,"two\nlines"\nc.png;dog;x;\n',
            "Line 4 of {} has its cells apart by ';'; use",
        ),
        (b"path,species,where\na.png\tcat\tx\n", "Line 2 of {} has its cells apart by '\\t'; use commas."),
        (b"\n\npath,species,where\na.png,cat,x\n", "Line 1 of {} is empty; it must name the columns."),
        (b" \npath,species,where\na.png,cat,x\n", "Line 1 of {} is empty; it must name the columns."),
        (b"", "Line 1 of {} is empty; it must name the columns."),
        (b"path,species,where\n", "{} lists no images below its head"),
    ],
)
def test_what_is_no_table_is_refused(toy_root: Path, tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes(content)
    assert words.format(file) in refusal(toy_root, table=str(file))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "{path} again; remove this line."),
        ({"path": "./{path}"}, "{path} again; remove this line."),
        ({"path": "{doubled}"}, "{path} again; remove this line."),
        ({"path": "env0/../{path}"}, "{path} again; remove this line."),
        ({"where": "other"}, "{path} again, with the environment 'other' after '{where}'; keep one of the lines."),
        ({"species": "bird"}, "{path} again, with the class 'bird' after '{species}'; keep one of the lines."),
        (
            {"species": "bird", "where": "other"},
            "{path} again, with the environment 'other' after '{where}' and the class 'bird' after '{species}'; "
            "keep one of the lines.",
        ),
    ],
)
def test_a_path_in_a_second_line_is_refused_with_the_line(
    suffix: str, changes: dict[str, str], words: str, toy_root: Path, tmp_path: Path
) -> None:
    columns = columns_of(toy_root)
    given = {name: values[7] for name, values in columns.items()}
    for name, values in columns.items():
        values.append(changes.get(name, given[name]).format(**given, doubled=given["path"].replace("/", "//")))
    file = write(columns, tmp_path / f"table.{suffix}")
    line = f"Line 38 of {file}" if suffix == "csv" else f"Row 36 of {file}"
    assert refusal(toy_root, table=str(file)) == f"{line} lists {words.format(**given)}"


def test_a_damaged_parquet_file_and_none_and_several(toy_root: Path, tmp_path: Path) -> None:
    assert "holds 0 tables (.csv or .parquet); name one in table." in refusal(toy_root, layout="table")
    (toy_root / "a.parquet").write_bytes(b"PAR1 no more")
    assert f"{toy_root / 'a.parquet'} cannot be read (" in refusal(toy_root, layout="table")
    (toy_root / "b.csv").write_text("path\n")
    assert "holds 2 tables (.csv or .parquet): a.parquet, b.csv; name one" in refusal(toy_root, layout="table")
    assert f"{tmp_path / 'none.csv'} cannot be read (" in refusal(toy_root, table=str(tmp_path / "none.csv"))


def test_a_recipe_without_a_table_is_what_it_was_and_one_with_it_says_so() -> None:
    plain = recipe().datasets[0].model_dump(mode="json", by_alias=True)
    assert "table" not in plain
    assert "path" not in plain["columns"]
    with_table = recipe(table="t.csv", columns={"path": "file"})
    assert with_table.datasets[0].model_dump(mode="json")["table"] == "t.csv"
    assert with_table.hash() != recipe().hash()
    with pytest.raises(IcmBenchError, match="'table' is for the layout 'table', and 'a' has 'folder'"):
        recipe(table="t.csv", layout="folder")


def test_a_quoted_line_break_does_not_shift_the_lines(toy_root: Path, tmp_path: Path) -> None:
    columns, file = columns_of(toy_root), tmp_path / "table.csv"
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["note", *columns])
        for i, cells in enumerate(zip(*columns.values(), strict=True)):
            writer.writerow(["two\nlines" if i == 0 else "", *cells])
    assert len(read(toy_root, table=str(file)).table) == 36


def test_images_and_table_may_lie_in_a_bucket_together_or_apart(toy_root: Path, tmp_path: Path, s3: S3) -> None:
    expected = reading.read(toy_root).fingerprint
    (toy_root / "lists").mkdir()
    write(columns_of(toy_root), toy_root / "lists" / "all.csv")
    uri = s3.upload(toy_root, f"{tmp_path.name}/listed")
    there = uri + "?region=us-east-1"
    together = read(there, table="lists/all.csv")
    apart = read(str(toy_root), table=there.replace("listed?", "listed/lists/all.csv?"))
    assert together.fingerprint == apart.fingerprint == expected
    s3.client.put_object(Bucket=s3.bucket, Key=f"{tmp_path.name}/listed/lists/all.csv", Body=b"path,species,where\nx\n")
    said = refusal(there, table="lists/all.csv")
    assert said.startswith(f"Line 2 of {uri}/lists/all.csv has 1 cells")


def test_a_path_made_of_columns_is_the_path_and_never_leaves_the_root(toy_root: Path, tmp_path: Path) -> None:
    columns = columns_of(toy_root)
    parts = [path.split("/") for path in columns["path"]]
    columns |= {"file.name": [p[2] for p in parts], "other path": [f"any/{path}" for path in columns.pop("path")]}
    file = write(columns, tmp_path / "table.csv")

    def said(path: str) -> str:
        return refusal(toy_root, table=str(file), columns=COLUMNS["columns"] | {"path": path})

    wanted = {"class_name": "species", "environment": "{where:.3}", "path": "{where}/{species}/./{file.name}"}
    found = read(toy_root, table=str(file), columns=wanted)
    assert set(found.table["path"].to_pylist()) == {"/".join(p) for p in parts}
    assert found.environments == ["env"]
    grouped = read(toy_root, table=str(file), columns=wanted | {"group": "{other path:parent}-{row}"})
    assert sorted(grouped.groups or ()) == sorted(f"any/{p[0]}/{p[1]}-{row}" for row, p in enumerate(parts))
    out = f"The path in line 2 of {file} is '../{'/'.join(parts[0])}', which leads out of the root"
    assert out in said("../{where}/{species}/{file.name}")
    assert "has no column 'gone', which columns.path names; it has " in said("{where}/{gone}.png")
    for wrong in ("{where!r}", "{where:>9}", "{where:.}"):
        assert said(wrong).startswith(f"columns.path is '{wrong}'; braces may contain only a column")
    assert said("{where").startswith("columns.path is '{where', whose braces do not match (")
    assert "has no column 'where.__class__', which columns.path names" in said("{where.__class__}")
    columns["file.name"][3] = ""
    write(columns, file)
    assert f"The path, of which 'file.name' in line 5 of {file} is ''" in said(wanted["path"])


def test_splits_and_names_of_values(toy_root: Path) -> None:
    columns = columns_of(toy_root) | {"part": [0, 1, 2] * 12}
    write(columns, toy_root / "images.parquet")
    keys: dict[str, Any] = {"layout": "table", "columns": COLUMNS["columns"] | {"split": "part"}}
    found = read(toy_root, **keys, splits=[0, 2], lookup={"class_name": {"values": {"cat": "kitten"}, "other": "pet"}})
    parts = dict(zip(columns["path"], columns["part"], strict=True))
    assert sorted(found.table["path"].to_pylist()) == sorted(path for path, part in parts.items() if part != 1)
    assert found.classes == ["kitten", "pet"]
    assert len(read(toy_root, **keys).table) == 36  # a column of splits by itself leaves no line out
    assert "no line of" in refusal(toy_root, **keys, splits=[3])
    keys["columns"].pop("split")
    assert "say in columns.split which it is: species, path" in refusal(toy_root, **keys, splits=[0])


def test_a_recipe_says_of_splits_and_names_what_is_given_and_refuses_what_does_not_fit() -> None:
    plain = recipe(table="t.csv").datasets[0].model_dump(mode="json", by_alias=True)
    assert not {"splits", "lookup"} & set(plain)
    assert not {"path", "split"} & set(plain["columns"])
    given = recipe(table="t.csv", splits=["train"], lookup={"class_name": {"values": {0: "cat"}}})
    assert given.hash() != recipe(table="t.csv").hash()
    assert parse_recipe(given.model_dump(mode="json", by_alias=True)).hash() == given.hash()
    with pytest.raises(IcmBenchError, match="'splits' is for the layout 'table', and 'a' has 'auto'"):
        recipe(splits=["train"])
    for wrong in ({"table": "t.csv"}, {}, {"values": {"0": "cat"}, "table": "t.csv", "key": "k", "name": "n"}):
        with pytest.raises(IcmBenchError, match="give table, key and name of a second table, or values, and not both"):
            recipe(table="t.csv", lookup={"class_name": wrong})
