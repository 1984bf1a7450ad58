"""Checks against published accuracies: planted rows pass, fail with the cause named, or are not comparable."""

import csv
import json
import re
from dataclasses import astuple
from pathlib import Path
from typing import Any

import open_clip
import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.datasets.catalog import CATALOG
from benchmark.recipe.loading import load_recipe
from benchmark.recipe.recipe import Recipe
from reports.analysis import published_checks
from reports.analysis.published_checks import (
    CONTEXT,
    DERIVED_AVERAGE,
    FAIL,
    NO_SUSPECT,
    PASS,
    Check,
    PublishedNumber,
    against_published,
    parse,
    read_published,
    with_averages,
)
from reports.tables.published import gate_sentence, record_of, table_of
from tests.conftest import REPOSITORY
from tests.reports.synthetic import results_of, row

RECIPES = REPOSITORY / "jobs" / "recipes"
FILE = REPOSITORY / "reports" / "published.csv"
EIGHTY = [template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
# zero-shot on whole environments, "a photo of a {}": read off the file by eye
PACS_B32 = {"art_painting": 95.85, "cartoon": 97.65, "photo": 99.7, "sketch": 85.47}
PACS_B16 = {"art_painting": 97.46, "cartoon": 99.1, "photo": 99.94, "sketch": 88.8}
PACS_B16_CLAP = {"art_painting": 97.41, "cartoon": 99.06, "photo": 99.94, "sketch": 88.09}
DPLCLIP = {"PACS": 96.1, "VLCS": 82.3, "OfficeHome": 82.3, "TerraIncognita": 34.1}  # averages of ViT-B/16, in_80


def planted(dataset: str, accuracies: dict[str, float], **other: Any) -> list[dict[str, Any]]:
    """Return rows with these accuracies in percent; the number of images is `n` or the catalog's."""
    facts, rows = CATALOG[dataset], []
    columns = {"backbone": "ViT-B-32 openai", "precision": "float32", "test_split": "full", **other}
    columns |= {"prompts": json.dumps(columns.get("prompts", ["a photo of a {}"]))}
    asked = columns.pop("n", None)
    for name, accuracy in accuracies.items():
        n = CATALOG[name].images if facts.single else facts.counted[name]
        of_split = {"full": n, "out_20": int(0.2 * n), "in_80": n - int(0.2 * n)}[columns["test_split"]]
        rows.append(row(dataset=dataset, held_out=name, target=[accuracy / 100], n_test=asked or of_split, **columns))
    return rows


def checks_of(rows: list[dict[str, Any]]) -> list[Check]:
    return against_published(results_of(rows))


def not_context(checks: list[Check]) -> list[Check]:
    return [check for check in checks if check.verdict != CONTEXT]


def only(checks: list[Check], environment: str, verdict: str) -> Check:
    (check,) = (c for c in checks if c.ours.environment == environment and c.verdict == verdict)
    return check


def off(accuracies: dict[str, float], points: float) -> dict[str, float]:
    return {name: value + points for name, value in accuracies.items()}


def test_the_file_is_read_completely_and_unchanged() -> None:
    with FILE.open(encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))[1:]
    numbers = read_published()
    assert len(lines) == len(numbers) == 885
    for line, n in zip(lines, numbers, strict=True):
        assert list(astuple(n)) == [*line[:5], float(line[5]), *line[6:]]
        assert n.source


def test_marked_rows_and_rows_without_a_split_are_context() -> None:
    for number in read_published():
        marked = re.search("(?i)secondary|suspect|split not stated", f"{number.note} {number.test_split}")
        assert bool(marked) <= (number.context is not None)
        if number.context is None:
            assert number.method in ("zero_shot", "linear_probe")
    (suspect,) = (n for n in read_published() if n.accuracy == 71.5 and n.dataset == "office_home")
    assert suspect.context == "suspect"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("accuracy_percent", "accuracy", 1), "no column 'accuracy_percent'"),
        (lambda text: text.replace(",1.5,", ",many,"), r"line 2: accuracy_percent is 'many'"),
        (lambda text: text.replace(",1.5,", ",150,"), r"line 2: accuracy_percent is '150'"),
        (lambda text: text.replace(",full,t,s,n", ""), r"line 2, lacks the column 'test_split'"),
    ],
)
def test_a_damaged_file_is_named_with_line_and_field(change: Any, words: str) -> None:
    header = FILE.read_text(encoding="utf-8").splitlines()[0]
    text = f"{header}\npacs,sketch,zero_shot,RN50,openai,1.5,full,t,s,n\n"
    assert parse(text, "p.csv")[0].accuracy == 1.5
    assert parse(text.replace(",1.5,", ",,"), "p.csv")[0].accuracy is None
    with pytest.raises(IcmBenchError, match=words):
        parse(change(text), "p.csv")


def test_an_average_is_computed_for_sources_with_all_environments_but_no_average() -> None:
    numbers = [n for n in read_published() if n.dataset == "pacs" and n.backbone == "RN50" and n.method == "zero_shot"]
    added = [n for n in with_averages(numbers) if n not in numbers]
    assert [n.source for n in added] == ["transferlearning code/clip README" + DERIVED_AVERAGE]
    assert added[0].accuracy == pytest.approx((92.29 + 95.18 + 99.46 + 80.45) / 4)
    assert with_averages(numbers[:1] + numbers[2:])[-1].source == numbers[-1].source  # an environment is missing


def test_rows_equal_to_a_published_row_pass() -> None:
    checks = checks_of(planted("PACS", PACS_B32))
    for name, value in PACS_B32.items():
        check = only(checks, name, PASS)
        assert check.published == value
        assert check.tolerance == 1.0
        assert check.difference == pytest.approx(0, abs=0.05)
    assert only(checks, "average", PASS).published == pytest.approx(sum(PACS_B32.values()) / 4)
    assert gate_sentence(checks) == "5 of 5 accuracies are within the tolerance of what is published."


@pytest.mark.parametrize("of", [PACS_B16, PACS_B16_CLAP], ids=["first source", "second source"])
def test_the_range_of_two_sources_is_the_tolerance(of: dict[str, float]) -> None:
    checks = checks_of(planted("PACS", of, backbone="ViT-B-16 openai"))
    sketch = only(checks, "sketch", PASS)
    assert sketch.published == pytest.approx((88.8 + 88.09) / 2)
    assert sketch.tolerance == pytest.approx(88.8 - 88.09)
    assert only(checks, "photo", PASS).tolerance == 0.3


def test_the_edge_of_the_tolerance() -> None:
    inside, outside = (not_context(checks_of(planted("PACS", off(PACS_B32, d)))) for d in (-0.95, -1.05))
    assert {c.verdict for c in inside} == {PASS}
    assert {c.verdict for c in outside} == {FAIL}


@pytest.mark.parametrize(
    ("suspect", "other"),
    [
        (NO_SUSPECT, {}),
        ("template", {"prompts": ["a photo of a {}."]}),
        ("class-name case", {"classes": ["cat", "Dog"]}),
        ("split", {"n": 2000}),
        ("QuickGELU", {"backbone": "ViT-B-32 openai quick_gelu=False"}),
        ("fp16", {"precision": "float16", "backbone": "ViT-B-32 openai float16"}),
        ("template", {"prompts": ["a photo of a {}."], "classes": ["cat", "Dog"], "precision": "float16"}),
        ("class-name case", {"classes": ["cat", "Dog"], "backbone": "ViT-B-32 openai quick_gelu=False float16"}),
    ],
)
def test_five_points_off_fails_with_the_first_suspect(suspect: str, other: dict[str, Any]) -> None:
    checks = checks_of(planted("PACS", {"art_painting": PACS_B32["art_painting"] - 5, "sketch": 85.47}, **other))
    check = only(checks, "art_painting", FAIL)
    assert check.reason == suspect
    assert check.words == f"fail: {suspect}"
    assert f"(full) by -5.0 points, first suspect {suspect}" in gate_sentence(checks)


def test_the_last_suspect_is_the_variant_of_terra_incognita() -> None:
    rows = planted("TerraIncognita", off(_published("terra_incognita", "ViT-B-32"), 5))
    assert {c.words for c in checks_of(rows)} == {"fail: Terra variant"}


def test_a_source_in_fp16_is_a_suspect_of_numbers_in_float32() -> None:
    rows = planted("PACS", {"sketch": 88.4 - 5}, backbone="ViT-B-16 openai")
    assert only(checks_of(rows), "sketch", FAIL).reason == "fp16"


@pytest.mark.parametrize(
    ("differs", "other"),
    [
        ("split", {"test_split": "out_20"}),
        ("split", {"n": 100}),
        ("template", {"prompts": ["a picture of a {}"]}),
        ("template", {"prompts": ["a photo of a {}", "a picture of a {}"]}),
        ("split, template", {"prompts": ["a {}"], "test_split": "in_80"}),
    ],
)
def test_a_difference_in_setup_is_named_and_makes_it_not_comparable(differs: str, other: dict[str, Any]) -> None:
    checks = not_context(checks_of(planted("PACS", off(PACS_B32, -5), **other)))
    assert {c.words for c in checks} == {f"not comparable: {differs}"}
    assert all(c.published is not None and c.tolerance is None for c in checks)
    assert all(word in c.detail for c in checks for word in differs.split(", "))
    assert gate_sentence(checks) == "No accuracy here is comparable with a published one; 5 are not comparable."


@pytest.mark.parametrize(
    ("backbone", "random"),
    [("MiniLiT 160px", False), ("ViT-B-32 laion2b_s34b_b79k", False), ("ViT-B-32 openai 160px", False),
     ("ViT-B-32 openai mean=(0.5, 0.5, 0.5)", False), ("ViT-B-32 RANDOM WEIGHTS (seed 0)", True), ("RN50", False)],
)  # fmt: skip
def test_another_backbone_is_one_line_without_a_number(backbone: str, random: bool) -> None:
    checks = checks_of(planted("PACS", PACS_B32, backbone=backbone, random_weights=random))
    found = [(c.ours.environment, c.words, c.published) for c in checks]
    assert found == [("average", "not comparable: backbone", None)]
    assert "published are RN50 openai, RN101 openai, RN50x4 openai and" in checks[0].detail
    table = table_of(checks)
    assert table is not None
    assert table.caption.startswith("RANDOM WEIGHTS, NOT A RESULT: ") is random


@pytest.mark.parametrize("backbone", ["ViT-B-32-quickgelu openai", "ViT-B-32 openai 224px", "ViT-B-32 openai bfloat16"])
def test_quickgelu_in_the_name_the_own_size_and_precision_are_the_same_backbone(backbone: str) -> None:
    assert {c.verdict for c in not_context(checks_of(planted("PACS", PACS_B32, backbone=backbone)))} == {PASS}


def test_folds_of_zero_shot_are_the_whole_environment() -> None:
    of_fold: dict[str, Any] = {"dataset": "PACS", "backbone": "ViT-B-32 openai", "precision": "float32", "folds": 5,
                               "test_split": "out_fold", "prompts": '["a photo of a {}"]'}  # fmt: skip
    rows = [row(held_out=name, target=[PACS_B32[name] / 100], n_test=n // 5, fold=fold, **of_fold)
            for fold in range(5) for name, n in CATALOG["PACS"].counted.items()]  # fmt: skip
    assert {c.verdict for c in not_context(checks_of(rows))} == {PASS}


def test_other_protocols_and_class_halves_are_not_checked() -> None:
    assert checks_of(planted("PACS", PACS_B32, protocol="in_domain")) == []
    assert checks_of(planted("PACS", PACS_B32, class_half="base")) == []


def test_data_without_published_numbers_has_no_table() -> None:
    rows = planted("emoji_styles", dict.fromkeys(CATALOG["emoji_styles"].environments, 50.0))
    assert table_of(against_published(results_of(rows))) is None
    assert gate_sentence([]) == "No accuracy here is comparable with a published one."


def test_office_home_states_the_expected_value_instead_of_71_5() -> None:
    rows = planted("OfficeHome", _published("office_home", "ViT-B-16"), backbone="ViT-B-16 openai")
    checks = checks_of(rows)
    (suspect,) = (c for c in checks if c.reason == "suspect")
    assert (suspect.published, suspect.verdict, suspect.detail) == (71.5, CONTEXT, published_checks.EXPECTED)
    table = table_of(checks)
    assert table is not None
    assert published_checks.EXPECTED in table.notes
    assert published_checks.EXPECTED not in _table(planted("PACS", PACS_B16, backbone="ViT-B-16 openai")).notes


def test_clip_icm_is_empty_with_the_reason() -> None:
    icm = {"projection": "icm", "order": "largest", "backbone": "ViT-B-16 openai"}
    rows = planted("PACS", PACS_B16, backbone="ViT-B-16 openai") + planted("PACS", PACS_B16, **icm)
    (check,) = (c for c in checks_of(rows) if c.verdict == published_checks.EMPTY)
    assert (check.ours.environment, check.published, check.detail) == ("average", None, published_checks.OWN_ROWS)
    assert f"{published_checks.OWN_ROWS}." in _table(rows).notes
    assert checks_of(planted("PACS", PACS_B32, **{**icm, "backbone": "ViT-B-32 openai"})) == []


def test_imagenet_variants_with_the_eighty_templates() -> None:
    of = {"ImageNetV2": 61.88, "ImageNet-R": 77.7, "ImageNet-A": 49.95, "ImageNet-Sketch": 48.24}  # of the first source
    given = {"backbone": "ViT-B-16 openai", "protocol": "imagenet_shift"}
    checks = checks_of(planted("ImageNet", of, prompts=EIGHTY, **given))
    passed = [c for c in checks if c.verdict == PASS]
    assert [c.ours.dataset_name for c in passed] == sorted(of)
    assert {c.tolerance for c in passed} == {0.3}
    assert all(len(c.sources) == 2 for c in passed)
    one_prompt = not_context(checks_of(planted("ImageNet", of, **given)))
    assert {c.words for c in one_prompt} == {"not comparable: template"}
    worse = checks_of(planted("ImageNet", off(of, -5), prompts=EIGHTY, **given))
    assert {c.words for c in worse if c.verdict == FAIL} == {f"fail: {NO_SUSPECT}"}


def test_tolerances() -> None:
    def of(dataset: str, *values: float) -> tuple[PublishedNumber, ...]:
        return tuple(PublishedNumber(dataset, "x", "zero_shot", "b", "p", value, "full", "t", f"source {i}", "")
                     for i, value in enumerate(values))  # fmt: skip

    assert published_checks.tolerance(of("vlcs", 50.0)) == 0.3
    assert published_checks.tolerance(of("pacs", 50.0)) == 1.0
    assert published_checks.tolerance(of("pacs", 50.0, 50.1)) == 0.3
    assert published_checks.tolerance(of("vlcs", 50.0, 53.2, 51.0)) == pytest.approx(3.2)
    assert published_checks.tolerance(of("imagenet-a", 50.0, 53.2)) == 0.3


def test_table_and_records_agree() -> None:
    rows = planted("PACS", off(PACS_B32, -5)) + planted("PACS", PACS_B16, backbone="ViT-B-16 openai")
    checks, table = checks_of(rows), _table(rows)
    records = [*map(record_of, checks)]
    lines, notes = [line for _, line in table.lines()], dict(note.partition(": ")[::2] for note in table.notes)
    assert [block.title for block in table.blocks] == ["ViT-B-16 openai", "ViT-B-32 openai"]
    assert len(lines) == len(records) == len(checks)
    for line, record in zip(lines, records, strict=True):
        own, published, _, difference, _, verdict, source = line.cells
        assert own.value == pytest.approx(record["ours"], abs=1e-4)
        assert own.n_images and own.trials and own.seeds == (0,)  # noqa: PT018
        assert difference.value == pytest.approx(own.value - published.value, abs=1e-9)
        assert verdict.text == f"{record['verdict']}: {record['reason']}" if record["reason"] else record["verdict"]
        named = {notes.get(f"Source {letter}", "").rstrip(".") for letter in (source.text or "").split(", ")}
        assert named == {one.removesuffix(DERIVED_AVERAGE) for one in str(record["source"]).split(" | ")}
    assert all(cell.note for line in lines for cell in line.cells if cell.value is None and cell.text is None)
    assert repr(table) == repr(_table(rows[::-1]))  # equal rows, equal table


def _table(rows: list[dict[str, Any]]) -> Any:
    table = table_of(against_published(results_of(rows)))
    assert table is not None
    return table


def _published(dataset: str, backbone: str) -> dict[str, float]:
    """Return environment -> accuracy of the first source, read from the file."""
    with FILE.open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.DictReader(file) if (line["dataset"], line["backbone"]) == (dataset, backbone)]
    return {n["environment"]: float(n["accuracy_percent"]) for n in lines if n["source"].startswith("transferlearning")}


def compared(file: Path) -> str:
    """Return the statement on comparisons in a recipe's head, on one line."""
    found = re.search(
        r"^#   compare   (.*?)^(?:#   \w|[^#])", file.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    assert found
    return re.sub(r"\s*\n#\s*", " ", found[1])


PROMISING = {
    file.stem: re.findall(r"\d+\.\d+", compared(file))
    for file in sorted(RECIPES.glob("*.yaml"))
    if "nothing published" not in compared(file) and file.stem != "controls"  # compares with what was planted
}
ZERO_SHOT, PROBE = "Zero-shot", "Linear probe"
FIVE = ["PACS", "VLCS", "OfficeHome", "TerraIncognita", "DomainNet"]
# recipe -> (data set, environment, method, backbone) named in its head, and expected verdicts of rows planted with the
# published values
PROMISED: dict[str, dict[tuple[str, str, str, str], set[str]]] = {
    "backbones": {
        ("PACS", environment, ZERO_SHOT, backbone): {PASS}
        for environment in CATALOG["PACS"].environments
        for backbone in ("ViT-B-32 openai", "ViT-B-16 openai")
    },
    "domain_shift": {
        (dataset, "average", method, "ViT-B-16 openai"): {CONTEXT, *[PASS] * (method == ZERO_SHOT)}
        for dataset in FIVE
        for method in (ZERO_SHOT, PROBE)
    },
}
PROMISED["paper"] = PROMISED["domain_shift"]


def test_every_recipe_that_compares_is_known_here() -> None:
    assert set(PROMISING) == set(PROMISED)
    assert all(PROMISING.values())


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_the_published_table_has_what_a_recipe_s_head_promises(name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    checks = against_published(results_of(_planted_recipe(recipe)))
    there: dict[tuple[str, str, str, str], set[str]] = {}
    for check in checks:
        ours = check.ours
        key = (ours.dataset_name, ours.environment, ours.method.label, ours.setting.backbone_label)
        there.setdefault(key, set()).add(check.verdict)
    assert {key: there.get(key) for key in PROMISED[name]} == PROMISED[name]
    sources = {number.accuracy for check in checks for number in check.sources}
    assert set(map(float, PROMISING[name])) <= sources
    table = table_of(checks)
    assert table is not None
    assert len([*table.lines()]) > 1
    assert any(check.gated for check in checks)


def _planted_recipe(recipe: Recipe) -> list[dict[str, Any]]:
    """Return plain rows of a recipe's data sets, backbones, splits and prompts, with published accuracies."""
    rows: list[dict[str, Any]] = []
    for dataset in recipe.datasets:
        facts = CATALOG[dataset.name]
        for backbone in recipe.backbones if not facts.single else ():
            full = _published(facts.folder.lower(), backbone.name) or dict.fromkeys(facts.environments, 50.0)
            for split in recipe.sweep.test_splits:
                in_80 = DPLCLIP.get(dataset.name, 50.0)
                of = dict.fromkeys(facts.environments, in_80) if split == "in_80" else full
                prompts = list(recipe.prompts.templates_for(dataset.name))
                given = {"backbone": backbone.label, "test_split": split, "prompts": prompts}
                for predictor in ("zero_shot", *["linear_probe"] * (split == "out_20")):
                    rows += planted(dataset.name, of, predictor=predictor, **given)
    return rows
