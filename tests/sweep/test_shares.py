"""Fits on shares of the source images: trials, rows and estimates on unlabelled environments. The encoder is random."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmark.cli import main
from benchmark.common.storage.files import Storage
from benchmark.store.rows import all_trials, read_rows
from tests.conftest import toy_in

SWEEP = {
    "folds": 5,
    "protocols": ["held_out", "in_domain"],
    "projections": ["identity", "random", "icm", "shrinkage", "fixed"],
    "predictors": ["zero_shot"],
    "seeds": [0],
    "ranks": [4],
    "lambdas": [1],
    "normalize": ["before"],
}


@pytest.mark.usefixtures("local_ray")
def test_a_share_is_a_column_of_its_rows_and_other_rows_stay_as_they_are(
    embedded_toy: Path, tiny_random: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = {"name": "shares", "datasets": [toy_in(tmp_path, embedded_toy)], "backbones": [tiny_random],
               "interventions": {"kinds": ["grayscale", "gaussian_blur", "posterize"]}}  # fmt: skip
    for name, more in (("whole", {}), ("shares", {"train_shares": [0.25, 0.5, 1]})):
        (tmp_path / f"{name}.yaml").write_text(json.dumps({**content, "sweep": {**SWEEP, **more}}))
    store = ["--store", str(tmp_path / "store")]
    assert main(["run", str(tmp_path / "whole.yaml"), *store, "--out", str(tmp_path / "a")]) == 0
    before = read_rows(Storage(store[1]), all_trials(Storage(store[1])))
    capsys.readouterr()
    assert main(["plan", str(tmp_path / "shares.yaml"), *store, "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert main(["run", str(tmp_path / "shares.yaml"), *store, "--out", str(tmp_path / "b")]) == 0
    rows = read_rows(Storage(store[1]), all_trials(Storage(store[1])))
    assert len(rows) == planned["rows"]
    assert set(rows["trial_id"]) > set(before["trial_id"])  # nothing is computed again
    whole, shares = rows[rows["train_share"].isna()], rows[rows["train_share"].notna()]
    assert len(whole) == len(before)
    assert set(shares["projection"]) == {"icm", "shrinkage", "fixed"}
    assert set(shares["protocol"]) == {"held_out", "in_domain"}
    key = ["protocol", "held_out", "fold"]
    most = whole[whole["projection"] == "fixed"].set_index(key)["n_train"]
    for share, part in shares[shares["projection"] == "fixed"].groupby("train_share"):
        n = part.set_index(key)["n_train"]
        assert sorted(n.index) == sorted(most.index)
        assert (n / most.loc[n.index]).between(0.6 * float(str(share)), 1.4 * float(str(share))).all()
    table = (tmp_path / "b" / "tables" / "learning_curve.md").read_text()
    assert "| 25 % |" in table
    # The same methods have the same numbers in the other tables.
    for name in ("comparisons", "environments"):
        a, b = ((tmp_path / folder / "tables").glob(f"{name}*.md") for folder in "ab")
        assert [file.read_text() for file in sorted(a)] == [file.read_text() for file in sorted(b)]


@pytest.mark.usefixtures("local_ray")
def test_unlabelled_environments_are_estimated_by_fits_on_all_images(
    embedded_toy: Path, tiny_random: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = embedded_toy / "toy"
    shutil.copytree(toy, tmp_path / "toy")
    first = sorted(path for path in (tmp_path / "toy").iterdir() if path.is_dir())[0]
    flat = [path for path in first.rglob("*") if path.is_file()]
    for number, path in enumerate(flat):
        path.rename(first / f"{number}{path.suffix}")
    for folder in [path for path in first.iterdir() if path.is_dir()]:
        folder.rmdir()
    dataset = {"name": "toy", "root": str(tmp_path / "toy"), "labels": {first.name: "none"}}
    sweep = {**SWEEP, "protocols": ["held_out"], "projections": ["identity", "fixed"], "train_shares": [0.5, 1]}
    recipe = {"name": "unlabelled", "datasets": [dataset], "backbones": [tiny_random],
              "interventions": {"kinds": ["grayscale"]}, "sweep": sweep}  # fmt: skip
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    assert main(["embed", str(tmp_path / "r.yaml"), "--store", str(tmp_path / "s")]) == 0
    capsys.readouterr()
    assert main(["unlabelled", str(tmp_path / "r.yaml"), "--store", str(tmp_path / "s"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["estimates"]) > 0
