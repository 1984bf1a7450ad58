"""Every recipe that ships: its header's numbers are those of `plan`, and it runs to the end on shrunken data."""

import csv
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.datasets.catalog import CATALOG, class_subset, is_variant
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.selection import RULES
from benchmark.recipe.loading import load_recipe
from tests.conftest import REPOSITORY
from tests.docs.generate import head_of

HEADLESS = """\
# A recipe.
#   images    stale
#   hours     9 GPU hours on an RTX 4090 by public figures (not measured here); trials 9 core-hours
name: planned
datasets: [PACS]
backbones: [{name: ViT-B-32, pretrained: openai}]
"""
RECIPES = sorted((REPOSITORY / "jobs" / "recipes").glob("*.yaml"))
CLASSES, IMAGES = 4, 10  # of each environment; of each class


REAL = pytest.mark.long("the head of a recipe with the demo's encoder has other facts than the encoder")


@pytest.mark.parametrize(
    "file",
    [pytest.param(f, id=f.stem, marks=[REAL] if "MiniLiT" in f.read_text() else []) for f in RECIPES],
)
def test_the_header_says_what_plan_says(file: Path) -> None:
    text = file.read_text()
    assert "#   compare   " in text.split("\nname:")[0]
    assert text == head_of(file), "stale: run python -m tests.docs.generate"


def test_a_head_has_counts_and_hours(tmp_path: Path) -> None:
    (tmp_path / "planned.yaml").write_text(HEADLESS)
    head = head_of(tmp_path / "planned.yaml").split("\nname:")[0]
    # PACS has 9,991 images: eight views of each at 9,834 to 12,151 views/s in mixed precision, as `auto` is on this GPU.
    assert "#   images    9,991 images x 8 views = 79,928 forward passes; " in head
    hours = "#   hours     0.0018 to 0.0023 GPU hours on an RTX 4090 by public figures (not measured here); trials 0"
    assert hours in head
    assert float(re.findall(r"trials ([\d.e-]+) core-hours", head)[0]) > 0


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data sets of the catalog that lie in folders, with a few small (synthetic) images."""
    folder, rng = tmp_path_factory.mktemp("shrunken"), np.random.default_rng(0)
    for name, facts in CATALOG.items():
        if facts.reads:  # no recipe of the package has one
            continue
        subset = class_subset(name)
        # Classes that ImageNet-A and -R both have, where the set is one of ImageNet's.
        classes = sorted(set(class_subset("ImageNet-A") or ()) & set(class_subset("ImageNet-R") or ()))[:CLASSES]
        for environment in facts.environments:
            place = folder / facts.folder if facts.single else folder / facts.folder / environment
            for c, class_name in enumerate(classes if subset else [f"class_{i}" for i in range(CLASSES)]):
                (place / class_name).mkdir(parents=True)
                for i in range(IMAGES):
                    pixels = rng.integers(0, 60, (32, 32, 3)) + 40 * c
                    Image.fromarray(pixels.astype(np.uint8)).save(place / class_name / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shrunken-store")


def first_of_each_name(specs: Iterable[Any]) -> list[Any]:
    firsts: dict[str, Any] = {}
    for spec in specs:
        firsts.setdefault(spec.name, spec)
    return list(firsts.values())


def overrides(changes: dict[str, Any]) -> list[str]:
    return [word for key, value in changes.items() for word in ("--set", f"{key}={json.dumps(value)}")]


def run_as_planned(
    file: Path, changes: dict[str, Any], store: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> int:
    """Run a recipe with some keys overridden, see that it has the trials and rows of its plan, return the trials."""
    settings = overrides(changes)
    command = [str(file), "--store", str(store), "--json", *settings]
    assert main(["plan", *command]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert main(["run", *command, "--out", str(out)]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["failed"] == {}
    assert (done["trials"], done["rows"]) == (planned["trials"], planned["rows"])
    return int(done["trials"])


def check_paper(
    file: Path, changes: dict[str, Any], store: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """See that the rows of the paper's recipe make every table that the paper has."""
    command = [str(file), "--store", str(store), "--as", "paper", "--price", "2.5", "--out", str(out)]
    assert main(["report", *command, *overrides(changes)]) == 0
    assert "\nPaper: " in capsys.readouterr().out
    text = (out / "paper" / "paper.tex").read_text().replace("\\allowbreak{}", "").replace("\\_", "_")
    # One backbone, one data set and one of each projection are left of it.
    [absent] = re.findall(r"\\item (Beside the paper: .*)", text)
    assert re.findall(r"no table (\w+)", text) == ["backbones", "trend", "over_data_sets", "ablation_order"]
    assert len(re.findall("no table", absent)) == 4
    assert (out / "paper" / "paper.pdf").exists() == (shutil.which("pdflatex") is not None)


# The demo's own recipe is left to `make demo`, which runs it as it is.
@pytest.mark.long("a shipped recipe names something that its data sets do not have, or its plan counts wrongly")
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("file", [f for f in RECIPES if f.stem != "demo"], ids=lambda file: file.stem)
def test_it_runs_on_shrunken_data(
    file: Path,
    data: Path,
    store: Path,
    tmp_path: Path,
    tiny_random: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe, recipe_file = load_recipe(file), file
    shift = any(protocol.across_sets for protocol in recipe.sweep.protocols)
    names, whole = [d.name for d in recipe.datasets], recipe.name == "paper"
    kept = [name for name in names if shift and is_variant(name)][:2]
    kept = [name for name in names if not is_variant(name)][:1] + kept
    kept = [name if name in CATALOG else "PACS" for name in kept]  # planted sets are drawn, and have no root
    changes: dict[str, Any] = {
        "datasets": [{"name": name, "root": str(data)} for name in kept],
        "backbones": [tiny_random],
        "sweep.seeds": [0],
        "sweep.ranks": [4, 16],
        # One of each projection and predictor, one strength, one penalty of each probe: what a grid of them costs is no
        # matter here.
        "sweep.lambdas": recipe.sweep.lambdas[: 2 if whole else 1],
        "sweep.projections": [
            {"name": p.name, **p.params, **({"lambdas": [10]} if p.own_lambdas else {})}
            for p in first_of_each_name(recipe.sweep.projections)
        ],
        "sweep.predictors": [
            {"name": p.name, **p.params, **({"C": p.params["C"][:1]} if "C" in p.params else {})}
            for p in first_of_each_name(recipe.sweep.predictors)
        ],
    }
    if not any(s.kinds for s in recipe.intervention_sets()) or recipe.sweep.intervention_sets == "all_subsets":
        changes["interventions.kinds"] = ["grayscale", "invert"]
    if any(s.placebo == "borrowed" for s in recipe.intervention_sets()):  # from another data set
        real = [s.model_dump(mode="json") for s in recipe.intervention_sets() if s.placebo != "borrowed"]
        changes["sweep.intervention_sets"] = real
    elif recipe.sweep.intervention_sets != "all_subsets":
        sets = [s.model_dump(mode="json") for s in recipe.sweep.intervention_sets]
        changes["sweep.intervention_sets"] = sets[:4]
    if recipe.sweep.folds:
        changes["sweep.folds"] = 3
    if len(recipe.sweep.train_shares) > 1:
        changes["sweep.train_shares"] = [0.5, 1]  # of the two folds that a fit then learns from
    if recipe.interventions.text:
        changes["interventions.text.per_class"] = 1  # of a thousand classes of ImageNet
    if whole:
        changes["sweep.test_splits"] = ["full"]
    if recipe.sweep.search:
        changes["sweep.search.samples"] = 2
    if recipe.sweep.grids:  # ranks and lambdas of the real width
        changes["sweep.grids"] = {name: {"projections": ["identity", "icm"]} for name in recipe.sweep.grids}
    run_as_planned(file, changes, store, tmp_path / "out", capsys)
    report = (tmp_path / "out" / "report.md").read_text()
    for protocol in recipe.sweep.protocols:
        assert f"Protocol {protocol.name}" in report
    # Whatever is chosen or fitted on the target is marked wherever it stands.
    marked = 0
    for file in (tmp_path / "out" / "tables").glob("*.json"):
        table = json.loads(file.read_text())
        protocols = filter(None, table["context"].get("protocol", "").split(", "))
        of_protocol = any(PROTOCOLS.component_class(name).looks_at_target for name in protocols)
        for line in (line for block in table["blocks"] for line in block["lines"]):
            for column, cell in zip(table["columns"], line["cells"], strict=True):
                if cell["value"] is not None and column["unit"] and ("†" in column["name"] or of_protocol):
                    assert cell["bound"], (file.name, line["name"], column["name"])
                    assert not cell["best"], (file.name, line["name"], column["name"])
                    marked += 1
    for line in csv.DictReader((tmp_path / "out" / "tables" / "accuracies.csv").read_text().splitlines()):
        bound = RULES[line["rule"]].looks_at_target or PROTOCOLS.component_class(line["protocol"]).looks_at_target
        assert line["looks_at_target"] == str(bound), line
        marked += bound
    assert marked
    if whole:
        check_paper(recipe_file, changes, store, tmp_path / "as-paper", capsys)


@pytest.mark.long("a shipped recipe with a search or with texts has other trials than its plan")
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(
    ("name", "kept", "changes"),
    [
        # The variants share the study, as they share the fit: two points, each with rows for both variants.
        ("imagenet_variants", 3, {"sweep.search": {"samples": 2, "rule": "training_domain"}}),
        # Pairs of texts know their class, so base classes have theirs: a trial for each of the two protocols.
        (
            "domain_shift_open_class",
            1,
            {"interventions.text": {"per_class": 4}, "sweep.intervention_sets": [{"name": "words", "kinds": ["text"]}]},
        ),
    ],
)
def test_it_runs_with_a_search_and_with_texts(
    name: str,
    kept: int,
    changes: dict[str, Any],
    data: Path,
    store: Path,
    tmp_path: Path,
    tiny_random: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = RECIPES[0].with_name(f"{name}.yaml")
    changes = {
        "datasets": [{"name": d.name, "root": str(data)} for d in load_recipe(file).datasets[:kept]],
        "backbones": [tiny_random],
        "interventions.kinds": ["grayscale"],
        "sweep.seeds": [0],
        "sweep.ranks": [4, 16],
        "sweep.projections": ["icm"],
        "sweep.predictors": ["zero_shot"],
        **changes,
    }
    assert run_as_planned(file, changes, store, tmp_path / "out", capsys) == 2
