"""The list of splits is what the rows of a sweep were made of."""

from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.common.storage.files import Storage
from benchmark.store.rows import read_rows
from benchmark.store.tested import read_tested
from tests.commands.conftest import Command
from tests.conftest import Swept

TEST = ["protocol", "held_out", "test_split", "seed", "fold"]


def test_roles_are_those_of_the_rows(swept_toy: Swept, tmp_path: Path, command: Command) -> None:
    file = tmp_path / "new" / "splits.parquet"
    said = command("splits", swept_toy.file, "--to", file).out
    listed = pd.read_parquet(file)
    assert f"{len(listed)} lines" in said
    paths = np.array(sorted(str(p.relative_to(swept_toy.images)) for p in swept_toy.images.rglob("*.png")))
    storage = Storage(str(swept_toy.store))
    rows = read_rows(storage, [Path(name).stem for name in storage.files("rows", ".parquet")])
    rows = rows[(rows["projection"] == "identity") & (rows["class_half"] != "harmonic")]
    tested = read_tested(storage, rows["tested"])
    tests = dict(list(listed.groupby(TEST)))
    assert len(tests) == rows.groupby(TEST).ngroups == 2 * (3 * 3 + 3 * 3 + 3 * 3)
    for key, of_test in rows.groupby(TEST):
        of_images = tests[key][tests[key]["path"] != "env2/hen/bad.png"]  # which the list knows nothing of
        named = np.concatenate([tested[name].position for name in of_test["tested"]])
        assert set(of_images["path"][of_images["role"] == "test"]) == set(paths[named])
        assert {(of_images["role"] == "train").sum()} == set(of_test["n_train"])
        validation, train = (set(of_images["path"][of_images["role_in_choice"] == role]) for role in ("judge", "train"))
        assert train == set(of_images["path"][of_images["role"] == "train"])  # an 80/20 split has one fit
        assert not validation & train
    assert (listed["path"].str.rpartition("/")[0] == listed["environment"] + "/" + listed["class"]).all()


def test_csv_says_the_same(swept_toy: Swept, tmp_path: Path, command: Command) -> None:
    files = [tmp_path / f"splits.{kind}" for kind in ("csv", "parquet")]
    for file in files:
        command("splits", swept_toy.file, "--set", "sweep.protocols=[held_out]", "--to", file)
    first, second = pd.read_csv(files[0]), pd.read_parquet(files[1])
    assert first.drop(columns="group").equals(second.drop(columns="group"))
    assert first["group"].isna().all()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["splits.csv", "splits.parquet"]


def test_another_suffix_and_a_place_that_cannot_be_written_to_are_refused(
    swept_toy: Swept, tmp_path: Path, command: Command
) -> None:
    (tmp_path / "file").write_text("")
    for to, words in (("splits.json", "the suffix is not .parquet or .csv"), ("file/splits.csv", "cannot be written")):
        assert words in command.refused("splits", swept_toy.file, "--to", tmp_path / to)
