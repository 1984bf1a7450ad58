"""The examples run as their heads say, and say what they should."""

import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from benchmark.cli import main
from tests.conftest import EXAMPLES, Swept, make_toy

Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs an example as `python docs/examples/NAME ARGUMENTS` does, and gives what it prints."""

    def example(name: str, *arguments: Path) -> str:
        monkeypatch.setattr(sys, "argv", [str(EXAMPLES / name), *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    monkeypatch.syspath_prepend(EXAMPLES)
    return example


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.name)
def test_an_example_is_short_and_says_how_it_is_run(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= {"fine_tuning.py": 60, "captions.py": 150}.get(file.name, 40)
    assert f"`python docs/examples/{file.name}" in text


def test_icm_keeps_classes_apart_where_pca_keeps_styles(run: Run) -> None:
    plain, pca, icm = map(float, re.findall(r"ratio ([\d.]+)", run("own_embeddings.py")))
    assert pca < 2 * plain
    assert icm > 10 * plain


@pytest.mark.usefixtures("local_ray")
def test_a_projection_of_ones_own_is_swept_and_its_rows_read(run: Run, tmp_path: Path) -> None:
    images, store = make_toy(tmp_path / "images", images=10), tmp_path / "store"
    printed = run("own_projection.py", images, store)
    assert printed.startswith("RANDOM WEIGHTS\n")
    assert "Least moved" in printed
    table = run("rows_in_pandas.py", store)
    assert {"identity", "own_projection:LeastMoved"} <= set(table.split())
    report = f"from benchmark.cli import main; main(['report', '--store', {str(store)!r}, '--out', 'report'])"
    found = "import importlib.util; assert importlib.util.find_spec('own_projection') is None"
    subprocess.run([sys.executable, "-c", f"{found}; {report}"], cwd=tmp_path, check=True)
    assert "Least moved + zero-shot" in (tmp_path / "report" / "tables" / "main.csv").read_text(encoding="utf-8")


@pytest.mark.usefixtures("local_ray")
def test_an_encoder_of_ones_own_is_embedded_and_swept(run: Run, tmp_path: Path) -> None:
    text = (EXAMPLES / "own_encoder.py").read_text(encoding="utf-8")
    encoder = text[text.index("class Blocks") : text.index("if __name__")]
    assert len([line for line in encoder.splitlines() if line]) <= 15
    printed = run("own_encoder.py", make_toy(tmp_path / "images", images=10), tmp_path / "store")
    assert printed.startswith("RANDOM WEIGHTS, NOT A RESULT")
    rows = pd.concat(map(pd.read_parquet, (tmp_path / "store" / "rows").rglob("*.parquet")))
    assert set(rows["backbone"]) == {"own_encoder:Blocks RANDOM WEIGHTS (seed 0)"}
    assert set(rows["predictor"]) == {"zero_shot", "linear_probe"}


def test_a_model_trained_elsewhere_goes_from_splits_to_a_table(
    run: Run, swept_toy: Swept, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, splits, predictions = str(swept_toy.file), tmp_path / "splits.parquet", tmp_path / "predictions.csv"
    assert main(["splits", recipe, "--to", str(splits)]) == 0
    listed = pd.read_parquet(splits)
    listed[listed["path"] != "env2/hen/bad.png"].to_parquet(splits)  # no image, on purpose
    assert "predictions in" in run("fine_tuning.py", splits, swept_toy.images, predictions)
    assert main(["import", recipe, str(predictions)]) == 0
    capsys.readouterr()
    assert main(["report", recipe, "--out", str(tmp_path / "report")]) == 0
    capsys.readouterr()
    tables = tmp_path / "report" / "tables"
    assert "ERM on pixels (imported)" in set(pd.read_csv(tables / "verdicts.csv")["method"])
    report = (tmp_path / "report" / "report.md").read_text()
    assert "ERM on pixels, chosen among 2 settings by the source score that came with them" in report
    lines = pd.read_csv(predictions).query("test_split == 'full'")
    lines["right"] = 100.0 * (lines["predicted"] == lines["image"].str.split("/").str[1])
    of_setting = lines.groupby(["held_out", "seed", "setting"])[["source_score", "right"]].mean().reset_index()
    best = of_setting.loc[of_setting.groupby(["held_out", "seed"])["source_score"].idxmax()]
    asked = (
        "method == 'ERM on pixels (imported)' and rule == 'training_domain' and test_split == 'full' and "
        "protocol == 'held_out'"
    )
    cells = pd.read_csv(tables / "accuracies.csv").query(asked).set_index("held_out")["mean"]
    for name, mean in best.groupby("held_out")["right"].mean().items():
        assert cells[str(name)] == pytest.approx(mean, abs=1e-4)
