"""The examples of docs/adding.md run in one recipe, and it names every attribute that a part may set."""

import ast
import importlib
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from benchmark.backbones.models import EncoderModel
from benchmark.cli import main
from benchmark.datasets.readers import ImageReader
from benchmark.method.evaluation.metrics import Metric
from benchmark.method.evaluation.protocols import Protocol
from benchmark.method.predictors import Predictor
from benchmark.method.subspace import Projection
from tests.conftest import PARTS, REPOSITORY, make_toy
from tests.reports.page.test_build import blobs

PAGE = (REPOSITORY / "docs" / "adding.md").read_text(encoding="utf-8")
# What no class needs to set: set by the keywords of the class, or of the package's own work.
INNER = {"presentation", "model_config", "swept", "module"}


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the recipe of the page, of images that lie as its layout says; `my_parts` can be imported."""
    toy = make_toy(tmp_path / "toy", images=10)
    (tmp_path / "images").mkdir()
    for image in toy.rglob("*.png"):
        shutil.copy(image, tmp_path / "images" / "--".join(image.relative_to(toy).parts))
    recipe = (PARTS / "recipe.yaml").read_text()
    (tmp_path / "recipe.yaml").write_text(recipe.replace("/data/mine", str(tmp_path / "images")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(PARTS)
    return tmp_path


def test_the_page_shows_the_files_that_run() -> None:
    """Each class as it stands in `my_parts.py`, with the imports that it needs; the recipe but for its first line."""
    file = (PARTS / "my_parts.py").read_text()
    assert (PARTS / "recipe.yaml").read_text().partition("\n")[2] == "".join(examples("yaml"))
    *parts, table = sorted(examples("python"), key=lambda block: "TableSpec" in block)
    assert (PARTS / "my_tables.py").read_text().endswith(f'"""\n\n{table}')
    shown = [ast.parse(block).body for block in parts]
    classes = [ast.unparse(node) for body in shown for node in body if isinstance(node, ast.ClassDef)]
    assert classes == [ast.unparse(node) for node in ast.parse(file).body if isinstance(node, ast.ClassDef)]
    assert imported("\n".join(parts)) == imported(file)


def imported(code: str) -> set[str]:
    imports = [node for node in ast.parse(code).body if isinstance(node, ast.Import | ast.ImportFrom)]
    return {f"{getattr(node, 'module', '')}.{alias.name}" for node in imports for alias in node.names}


@pytest.mark.usefixtures("local_ray")
def test_every_example_takes_part_in_the_recipe_of_the_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--store", "store", "--out", "report", "--table", "my_tables:MEDIANS"]) == 0
    said = capsys.readouterr().err
    rows = pd.concat(map(pd.read_parquet, (folder / "store" / "rows").rglob("*.parquet")))
    parts = yaml.safe_load(examples("yaml")[0])["sweep"]
    for kind in ("protocol", "projection", "predictor"):
        assert set(rows[kind]) == set(parts[f"{kind}s"]), kind
    assert set(rows["backbone"]) == {"my_parts:Blocks RANDOM WEIGHTS (seed 0)"}
    assert set(rows[rows["protocol"] == "my_parts:SingleSource"]["held_out"]) == {"env1", "env2"}
    views = [path.read_text() for path in (folder / "store" / "embeddings").rglob("*.json")]
    assert sum("my_parts:Darker(largest=3)" in view for view in views) == 1
    metrics = pd.read_csv(folder / "report" / "tables" / "metrics.csv")
    known = metrics.dropna(subset=["error_rate"])
    assert len(known)
    assert (known["error_rate"] + known["accuracy"]).tolist() == pytest.approx([100.0] * len(known))
    assert "Least moved + Nearest mean" in set(known["method"])
    assert "left out are" not in said
    own_table_and_metric_stand_in_every_form(folder / "report")


def own_table_and_metric_stand_in_every_form(report: Path) -> None:
    """The table has the median of the accuracies in accuracies.csv; the metric has its column in the table behind."""
    accuracies = pd.read_csv(report / "tables" / "accuracies.csv")
    rows = accuracies[(accuracies["held_out"] != "average") & (accuracies["protocol"] == "held_out")]
    [file] = (report / "tables").glob("medians*held_out.csv")
    made = pd.read_csv(file)
    assert len(made) >= 2
    for method, value in zip(made["line"], made["value"], strict=True):
        alike = rows[(rows["method"] == method) & (rows["rule"] == made["rule"].iloc[0])]
        assert value == pytest.approx(alike["mean"].median(), abs=1e-4)
    page = blobs((report / "index.html").read_bytes())["copies-md"]
    behind = next((report / "tables").glob("behind*.csv"))
    for name, words in ((file.stem, "median accuracy"), (behind.stem, "error rate")):
        for form in ("md", "tex", "csv", "json"):
            text = (report / "tables" / f"{name}.{form}").read_text().lower()
            assert all(word in text for word in words.split()), (name, form)  # LaTeX may break a heading
        assert words in page[name].lower()


@pytest.mark.usefixtures("local_ray", "folder")
def test_a_predictor_that_does_not_say_that_it_learns_classes_is_left_out_with_a_hint(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = importlib.import_module("my_parts").NearestMean
    monkeypatch.setattr(own, "learns_classes", False)
    assert main(["run", "--store", "store"]) == 2
    said = capsys.readouterr().err
    assert "the predictor my_parts:NearestMean (if it needs no texts, let its class say learns_classes = True)" in said


@pytest.mark.parametrize(
    ("part", "title"),
    [
        (Projection, "A projection"), (Predictor, "A predictor"), (Metric, "A metric"), (Protocol, "A protocol"),
        (ImageReader, "A layout"), (EncoderModel, "An encoder"),
    ],
)  # fmt: skip
def test_every_attribute_that_a_part_may_set_is_in_its_section(part: type, title: str) -> None:
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    declared = {name for name, kind in vars(part)["__annotations__"].items() if "ClassVar" in str(kind)}
    attributes = declared or set(vars(part)["__annotations__"])  # of an encoder all of them
    lacking = [name for name in attributes - INNER if not name.startswith("_") and f"`{name}`" not in section]
    assert lacking == []
    listed = re.findall(r"^- `(\w+)` \(`([^`]+)`\): ", section, flags=re.MULTILINE)
    assert listed or part is ImageReader
    for name, default in listed:
        value = vars(part).get(name, getattr(part, name))
        assert isinstance(value, property) or repr(value).replace("'", '"') == default, name


@pytest.mark.parametrize(
    ("part", "title"),
    [(Projection, "A projection"), (Predictor, "A predictor"), (Metric, "A metric"), (Protocol, "A protocol")],
)
def test_every_attribute_that_a_section_only_names_is_one_of_its_part(part: type, title: str) -> None:
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    [others] = re.findall(r"^Others: (.*?)\.\n", section, flags=re.MULTILINE | re.DOTALL)
    assert [name for name in re.findall(r"`(\w+)`", others) if not hasattr(part, name)] == []
