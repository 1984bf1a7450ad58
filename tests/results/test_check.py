"""Whole records pass the check. A record that is broken in one place is refused with one sentence of its own."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.cli import main
from benchmark.commands.recipes import packaged_recipe
from benchmark.commands.results.labels import label_of
from benchmark.common.storage.files import Storage
from benchmark.recipe.loading import load_recipe
from benchmark.recipe.published import without_paths
from benchmark.results.checking import _of_method, _of_recipe, problems_of, unsound_name
from benchmark.results.differences import differences
from benchmark.results.records import Details, read_results
from tests.commands.conftest import Command
from tests.results.made_up import DETAILS

Check = Callable[[Path], list[str]]
Json = dict[str, Any]
OTHER = "00000000-0000-4000-8000-000000000000"
REMEDIES = ("restore", "remove it", "remove one", "update icm-bench", "publish", "add ", "move it", "set it")


class Folder:
    """A results folder whose files a test breaks. `file` is the record that most tests break."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.file = self.find("Shrinkage + zero-shot")

    def find(self, method: str, recipe: str = "folds", protocol: str = "held_out") -> Path:
        """Return the file of a method's record."""
        for file in sorted((self.place / "data").rglob("*.json")):
            details = json.loads(file.read_text())["eval_library"]["additional_details"]
            if (details["method"], details["recipe_name"], details["protocol"]) == (method, recipe, protocol):
                return file
        raise AssertionError(method)

    @staticmethod
    def samples(file: Path) -> Path:
        """Return the answers of a record."""
        return file.with_name(f"{file.stem}_samples.jsonl")

    def record(self, change: Callable[[Json], object], file: Path | None = None) -> None:
        """Change a record."""
        file = file or self.file
        record = json.loads(file.read_text())
        change(record)
        file.write_text(json.dumps(record))

    def details(self, **values: str) -> None:
        """Change the details of the record."""
        self.record(lambda record: record["eval_library"]["additional_details"].update(values))

    def lines(self, change: Callable[[list[Json]], list[Json] | None], count: bool = True) -> None:
        """Change the answers of the record, and the checksum and number of lines in it."""
        file = self.samples(self.file)
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        lines = change(lines) or lines
        content = "".join(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n" for line in lines).encode()
        file.write_bytes(content)
        seal = {"checksum": hashlib.sha256(content).hexdigest()} | ({"total_rows": len(lines)} if count else {})
        self.record(lambda record: record["detailed_evaluation_results"].update(seal))

    def score(self, path: str, change: Callable[[float], float], result: int = 0) -> None:
        """Change one number of a result."""

        def changed(record: Json) -> None:
            *parents, last = path.split(".")
            inside = record["evaluation_results"][result]["score_details"]
            for name in parents:
                inside = inside[name]
            inside[last] = change(inside[last])

        self.record(changed)


def other_class(line: Json) -> str:
    """Return a class that is not the predicted one."""
    predicted: str = line["output"]["raw"][0]
    return next(name for name in ("cat", "dog") if name != predicted)


def answer(folder: Folder, consistent: bool) -> None:
    """Change the answer to an image: in one field alone, or in all."""

    def change(lines: list[Json]) -> None:
        for line in lines[:8]:
            predicted = other_class(line)
            line["output"]["raw"] = [predicted]
            if consistent:
                correct = predicted == line["input"]["reference"][0]
                line["answer_attribution"][0]["extracted_value"] = predicted
                line["evaluation"] = {"score": float(correct), "is_correct": correct}

    folder.lines(change)


def copied(folder: Folder) -> None:
    """Copy a record and its answers under another name."""
    for file in (folder.file, folder.samples(folder.file)):
        shutil.copy(file, file.with_name(file.name.replace(folder.file.stem, OTHER)))


def of_another_recipe(folder: Folder) -> None:
    """Put the answers of another recipe in the place of the record's."""
    other = folder.find("CLIP-ICM + zero-shot", "halves", "open_class")
    shutil.copy(folder.samples(other), folder.samples(folder.file))


def not_json(folder: Folder) -> None:
    """Cut the first line of the answers."""
    file = folder.samples(folder.file)
    file.write_text(file.read_text()[1:])


def unmarked(folder: Folder) -> None:
    """Take the mark from a record whose protocol looks at the target."""
    folder.file = folder.find("Zero-shot", protocol="in_domain")
    folder.details(looks_at_target="false")


def other_weights(folder: Folder) -> None:
    """Claim other weights of plain prediction."""
    folder.file = folder.find("Linear probe")
    folder.details(weights_fingerprint="0" * 64)


def other_plain(folder: Folder) -> None:
    """Compare a method with plain prediction of another predictor."""
    folder.details(plain=folder.find("Linear probe").stem)


def repeat(lines: list[Json]) -> list[Json]:
    """Replace an answer by its neighbour."""
    return [lines[1], *lines[1:]]


# What is broken -> how, and what the sentence says. The file that it names is the record's or that of its answers.
BROKEN: dict[str, tuple[Callable[[Folder], object], str]] = {
    "score": (lambda f: f.score("score", lambda x: x + 0.01), r"results\[0\]\.score_details\.score is [\d.]+, and details and answers give [\d.]+; restore"),
    "score of an environment": (lambda f: f.score("score", lambda x: x + 1e-6, 1), r"results\[1\]\.score_details\.score is"),
    "standard error": (lambda f: f.score("uncertainty.standard_error.value", lambda x: x * 1.01), r"standard_error\.value is"),
    "interval": (lambda f: f.score("uncertainty.confidence_interval.lower", lambda x: x + 0.01), r"interval\.lower is"),
    "number of images": (lambda f: f.score("uncertainty.num_samples", lambda n: n + 1), r"uncertainty\.num_samples is"),
    "NaN": (lambda f: f.score("score", lambda _: float("nan")), r"is not valid JSON \(Out of range float values"),
    "field of an answer": (lambda f: answer(f, False), r"line 1: answer_attribution\[0\]\.extracted_value is"),
    "answers": (lambda f: answer(f, True), r"answers give [\d.]+ \(\d+ more values differ\)"),
    "rows of another recipe": (of_another_recipe, r"line 1: evaluation_id is '.*' instead of"),
    "missing environment": (
        lambda f: f.lines(lambda lines: [x for x in lines if x["metadata"]["held_out"] != "env1"]),
        r"has no answers for the environment env1",
    ),
    "removed split": (
        lambda f: f.lines(
            lambda lines: [x for x in lines if (x["metadata"]["held_out"], x["metadata"]["fold"]) != ("env1", "2")]
        ),
        r"has no answers for held-out environment env1, seed 0, fold 2: a split was removed",
    ),
    "duplicated sample": (lambda f: f.lines(repeat), r"line 2: the sample .* repeats an earlier line"),
    "class outside the list": (
        lambda f: f.record(lambda r: r["eval_library"]["additional_details"].update(classes='["cat","cow","dog"]')),
        r"line \d+: 'hen' or '\w+' is not one of its 3 classes|line \d+: '\w+' or 'hen' is not one of its 3 classes",
    ),
    "score that is no 0 or 1": (
        lambda f: f.lines(lambda lines: lines[4]["evaluation"].update(score=0.5)), r"line 5: evaluation\.score is 0\.5",
    ),
    "wrong is_correct": (
        lambda f: f.lines(lambda lines: lines[4]["evaluation"].update(is_correct=not lines[4]["evaluation"]["is_correct"])),
        r"line 5: evaluation\.is_correct is",
    ),
    "line of another schema": (
        lambda f: f.lines(lambda lines: lines[2].update(schema_version="0.9.0")), r"line 3: schema_version is '0\.9\.0'",
    ),
    "line that is no JSON": (not_json, r"line 1 is not valid JSON"),
    "checksum": (
        lambda f: f.record(lambda r: r["detailed_evaluation_results"].update(checksum="0" * 64)), r"checksum is '0+', and details and answers give '\w+'",
    ),
    "number of lines": (
        lambda f: f.record(lambda r: r["detailed_evaluation_results"].update(total_rows=1)), r"total_rows is 1",
    ),
    "path outside data": (
        lambda f: f.record(lambda r: r["detailed_evaluation_results"].update(file_path="/etc/passwd")),
        r"detailed_evaluation_results\.file_path is '/etc/passwd'",
    ),
    "answers that are gone": (lambda f: f.samples(f.file).unlink(), r"_samples\.jsonl is missing"),
    "record that is gone": (lambda f: f.file.unlink(), r"_samples\.jsonl has no record beside it"),
    "file outside data": (
        lambda f: shutil.copy(f.file, f.place / f.file.name), r"lies outside data/, where nothing reads it",
    ),
    "place in data": (
        lambda f: shutil.copy(f.file, f.place / "data" / f.file.name), r"is not at data/COLLECTION/DEVELOPER/MODEL/UUID\.json",
    ),
    "doubled record": (copied, r"it holds the same result as"),
    "unmarked rule": (unmarked, r"looks_at_target is false"),
    "unknown rule": (lambda f: f.details(rule="guess"), r"line 1: metadata\.rule is '\w+' instead of 'guess'"),
    "random weights": (lambda f: f.details(random_weights="true"), r"random weights, so it is no result"),
    "later schema": (lambda f: f.record(lambda r: r.update(schema_version="0.4.0")), r"schema_version is '0\.4\.0'"),
    "later details": (lambda f: f.details(record_version="2"), r"Details\.record_version: input should be 1; .*, or update icm-bench"),
    "prompts": (lambda f: f.details(prompts='["a sketch of a {}."]'), r"prompts are a sketch of a \{\}\., and its recipe has"),
    "precision": (lambda f: f.details(precision="bfloat16"), r"precision is bfloat16, and its recipe has float32"),
    "fingerprint of the weights": (other_weights, r"its content belongs at data/"),
    "name of another method": (
        lambda f: f.details(method="Another + zero-shot"),
        r"method is 'Another \+ zero-shot', and projection shrinkage, .*give 'Shrinkage \+ zero-shot'; restore",
    ),
    "verdict": (lambda f: f.details(verdict="helps"), r"verdict is 'helps', and the gains give"),
    "p-value": (lambda f: f.details(p_holm="0.01"), r"p_holm is 0\.01, and the gains give"),
    "family": (lambda f: f.details(family="99"), r"family is 99, and the gains give 6"),
    "unknown key of details": (lambda f: f.details(note="x"), r"Details\.note: unexpected keyword argument"),
    "unknown key": (lambda f: f.record(lambda r: r.update(note="x")), r"note is 'x', and details and answers give nothing"),
    "missing time": (lambda f: f.record(lambda r: r.pop("retrieved_timestamp")), r"is not a record of icm-bench \(KeyError\('retrieved_timestamp'\)\)"),
    "missing key of details": (
        lambda f: f.record(lambda r: r["eval_library"]["additional_details"].pop("protocol")), r"protocol: field required",
    ),
    "missing result": (
        lambda f: f.record(lambda r: r["evaluation_results"].pop(1)), r"results\[1\]\.evaluation_result_id is 'accuracy/env1', and details and answers give 'accuracy/env0'",
    ),
    "weights unlike those of plain prediction": (
        lambda f: f.details(weights_fingerprint="0" * 64), r"weights_fingerprint is '0+', and '\w+' in its plain prediction",
    ),
    "other plain prediction": (other_plain, r"predictor is 'zero_shot', and 'linear_probe' in its plain prediction"),
}  # fmt: skip


def test_whole_records_pass_and_leave_packed_answers(results: Path, check: Check) -> None:
    before = (results / "results.csv").read_bytes()
    assert check(results) == []
    assert (results / "results.csv").read_bytes() == before
    assert len(list((results / "packed").glob("*.parquet"))) == 4  # two of folds, one of each other recipe


@pytest.mark.parametrize("what", BROKEN)
def test_a_record_broken_in_one_place_is_refused_with_its_own_sentence(what: str, results: Path, check: Check) -> None:
    folder, (break_, said) = Folder(results), BROKEN[what]
    break_(folder)
    (problem,) = check(results)
    assert re.search(said, problem), problem
    assert [other for other, (_, words) in BROKEN.items() if re.search(words, problem)] == [what]
    assert problem.startswith((folder.file.parent.relative_to(results).as_posix(), "data/", folder.file.name))
    assert folder.file.stem in problem
    assert any(remedy in problem for remedy in REMEDIES), problem
    assert not (results / "packed").exists()  # nothing is left for the board


def test_gains_need_plain_prediction_and_verdicts_need_all_gains(results: Path, check: Check) -> None:
    folder = Folder(results)
    plain = folder.find("Zero-shot")
    for file in (folder.file, folder.samples(folder.file)):
        file.unlink()
    (problem,) = check(results)
    assert "its publication has 6 gains, which are judged together, and 5 are here; add the other records" in problem
    for file in (plain, folder.samples(plain)):
        file.unlink()
    problems = check(results)
    assert all(
        re.search(rf"plain prediction, .*{plain.stem}\.json, are missing or cannot be read; add them", one)
        for one in problems
    )
    assert problems


def test_records_without_answers_pass_if_they_agree_with_themselves(results: Path, check: Check) -> None:
    folder = Folder(results)
    for file in (results / "data").rglob("*.json"):
        folder.record(lambda record: record.pop("detailed_evaluation_results"), file)
        folder.samples(file).unlink()
    assert check(results) == []
    folder.score("uncertainty.confidence_interval.upper", lambda x: x + 0.01)
    (problem,) = check(results)
    assert re.search(r"confidence_interval\.upper is", problem)


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("score", 1.1), ("score", -0.1), ("score", 1e308),
        ("uncertainty.standard_error.value", 1e308), ("uncertainty.standard_error.value", -0.1),
    ],
)  # fmt: skip
def test_no_number_lies_outside_its_range(path: str, number: float, results: Path, check: Check) -> None:
    folder = Folder(results)
    folder.record(lambda record: record.pop("detailed_evaluation_results"))
    folder.samples(folder.file).unlink()
    folder.score(path, lambda _: number)
    problems = check(results)
    assert [one for one in problems if f"of accuracy is {number:g}, and it lies in 0 to 1" in one], problems
    gain = next(n for n, one in enumerate(json.loads(folder.file.read_text())["evaluation_results"])
                if one["evaluation_result_id"] == "gain_in_accuracy")  # fmt: skip
    folder.score(path, lambda _: 0.5)
    folder.score("score", lambda _: -1.1, gain)
    assert [one for one in check(results) if "gain_in_accuracy is -1.1, and it lies in -1 to 1" in one]
    folder.details(p_holm="1.5")
    assert [one for one in check(results) if "p_holm is 1.5, and a p-value lies in 0 to 1" in one]


def test_a_number_that_is_infinite_equals_no_other() -> None:
    assert [*differences(float("inf"), 1.0, 1e-9)] == [("", float("inf"), 1.0)]
    assert [*differences(1.0, 1.0 + 1e-12, 1e-9)] == []


def test_swapped_names_of_two_methods_are_both_named(results: Path, check: Check) -> None:
    folder = Folder(results)
    files = {folder.find(name): name for name in ("Shrinkage + zero-shot", "Zero-shot")}
    for file, method in zip(files, reversed(files.values()), strict=True):

        def rename(record: dict[str, Any], name: str = method) -> None:
            record["eval_library"]["additional_details"].update(method=name)

        folder.record(rename, file)
    sentences = [problem.partition(".json: ") for problem in check(results)]
    named = {file.rpartition("/")[2]: problem for file, _, problem in sentences}
    assert named.keys() >= {file.stem for file in files}
    for file, method in files.items():
        assert f"give '{method}'; restore the file" in named[file.stem]


@pytest.mark.parametrize(
    "name", ["", " ", "<img src=x onerror=alert(1)>", "a\u202eb", "a\nb", "x" * 201], ids=lambda name: f"{name!a:.9}"
)
def test_a_method_of_the_users_own_has_a_plain_name(name: str) -> None:
    own = replace(DETAILS, projection="my_parts:Mine", predictor="zero_shot")
    assert label_of(own) == ""
    assert unsound_name(name)
    assert not unsound_name("Mine (größer) + zero-shot")
    assert label_of(replace(own, projection="imported", predictor="mine")) == "mine (imported)"
    (problem,) = [*_of_method(replace(own, method=name), "")]
    assert problem.startswith("its method ")


def test_a_table_that_was_edited_is_named_and_written_anew(results: Path, command: Command) -> None:
    table = results / "results.csv"
    whole = table.read_bytes()
    assert "results.csv" not in command("results", "check", results).out
    lines = whole.splitlines(keepends=True)
    table.write_bytes(b"".join([*lines[:2], lines[2].replace(b"0.", b"0.9", 1), *lines[3:]]))
    assert "results.csv differed from the records, first in line 3" in command("results", "check", results).out
    assert table.read_bytes() == whole
    table.unlink()
    assert "results.csv" not in command("results", "check", results).out
    assert table.read_bytes() == whole


def test_the_command_says_what_is_wrong_and_ends_with_2(results: Path, command: Command) -> None:
    assert "records with" in command("results", "check", results).out
    Folder(results).details(verdict="helps")
    said = command("results", "check", results, code=2)
    assert "1 problem" in said.out
    assert "verdict is 'helps'" in said.err
    assert "has no records" in command.refused("results", "check", results / "packed")
    assert main(["results", "check", str(results / "nowhere")]) == 2


def test_a_recipe_is_compared_with_its_hash() -> None:
    recipe = load_recipe(packaged_recipe("demo")).at_precision("float32")
    content, shortened = without_paths(recipe.model_dump(mode="json"))
    same: Json = dict.fromkeys(
        ("publication", "data_fingerprint", "weights_fingerprint", "engine", "availability"), "x"
    )
    same |= {name: [] for name in ("seeds", "held_outs", "classes", "code_version", "machine")}
    same |= dict.fromkeys(("test_split", "rule", "method", "projection", "predictor", "metric", "encoder"), "x")
    details = Details(
        recipe_name="demo", recipe_hash=recipe.hash(), recipe=content, shortened=shortened, dataset="emoji_styles",
        grouped=True, random_weights=False, precision="float32", prompts=["a photo of a {}."], protocol="held_out",
        class_half="all", folds=5, looks_at_target=False, versions={}, **same,
    )  # fmt: skip
    assert list(_of_recipe(details)) == []
    content["sweep"]["folds"] = 3
    (problem,) = _of_recipe(details)
    assert problem.startswith("recipe_hash is not the hash of its recipe, so one of the two was changed; restore")
    del content["sweep"]
    (problem,) = _of_recipe(details)
    assert problem.startswith("its recipe is not one of icm-bench (KeyError('sweep'))")


def leaves(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values of plain data that hold no others."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [one for key, value in items for one in leaves(value, (*path, key))] or [path]


# What a record may say without contradicting itself: who, when, where and with which versions.
FREE = re.compile(
    r"retrieved_timestamp|source_organization_name|evaluator_relationship|version|versions|machine|engine|why|metric"
    r"|code_version|order|variant|verdict|p_\w*holm|family|plain|recipe_name|degrees_of_freedom|classes|grouped"
)


@pytest.mark.parametrize("odd", [None, "", "[", "\ud800", "1e999", -1, 1e300, [], {}, True], ids=repr)
def test_odd_values_are_refused_and_never_a_fault(odd: Any, results: Path) -> None:
    folder = Folder(results)
    folder.record(lambda record: record.pop("detailed_evaluation_results"))
    (folder.place / "alone" / folder.file.parent.relative_to(results)).mkdir(parents=True)
    file = folder.place / "alone" / folder.file.relative_to(results)
    whole, seen = folder.file.read_text(), 0
    for path in leaves(json.loads(whole)):
        record = json.loads(whole)
        inside = record
        for key in path[:-1]:
            inside = inside[key]
        if inside[path[-1]] == odd:
            continue
        inside[path[-1]] = odd
        file.write_text(json.dumps(record))
        read, problems = read_results(Storage(str(folder.place / "alone")))
        problems += problems_of(read, label_of, unread=True)
        assert problems or FREE.fullmatch(str(path[-1])), path
        seen += 1
    assert seen > 150
