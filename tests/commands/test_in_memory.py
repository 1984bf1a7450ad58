"""Arrays are judged as an import of them and a run are: equal numbers, one sentence for what makes no sense."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import icm_bench as icm
from benchmark.commands import in_memory
from tests.commands.conftest import Command
from tests.conftest import REPOSITORY

CLASSES, D = 4, 8
Arrays = dict[str, Any]


def made_up(images: int = 180, seed: int = 0) -> Arrays:
    """Return the arguments of `evaluate`: a class has a direction, and a style moves an image along three others."""
    rng = np.random.default_rng(seed)
    labels, environments = rng.integers(CLASSES, size=images), rng.choice(["photo", "sketch", "toy"], size=images)
    texts, styles = rng.normal(size=(CLASSES, D)), rng.normal(size=(3, D))
    z, view = (texts[labels] + 2 * rng.normal(size=(images, 3)) @ styles + rng.normal(size=(images, D)) for _ in "ab")
    given: Arrays = {"embeddings": z.astype(np.float32), "texts": texts.astype(np.float32)}
    given |= {"labels": labels, "environments": environments, "groups": rng.integers(60, size=images)}
    return {**given, "views": {"fog": view.astype(np.float32)}}


def files_of(arrays: Arrays, folder: Path) -> list[str]:
    """Write arrays as a user writes them for `import-embeddings`; return the words that name them."""
    views = {"original": arrays["embeddings"], **arrays["views"]}
    n = len(arrays["labels"])
    columns = {"image_id": arrays.get("names", np.arange(n)), "environment": arrays["environments"]}
    columns |= {"class": arrays["labels"], "group": arrays["groups"]}
    rows: Arrays = {key: np.tile(column, len(views)) for key, column in columns.items()}
    np.savez(folder / "x.npz", **rows, view=np.repeat([*views], n), embedding=np.concatenate([*views.values()]))
    texts: Arrays = {"class": np.arange(CLASSES), "embedding": arrays["texts"]}
    np.savez(folder / "t.npz", **texts)
    return [str(folder / "x.npz"), "--texts", str(folder / "t.npz")]


def numbers(verdicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return verdicts without names of data set and encoder; NaN as a word, so that it equals itself."""
    found = []
    for one in verdicts:
        where = f"{one['dataset']}, {one['backbone']}, "
        assert one["sentence"].startswith(where)
        one = {**one, "sentence": one["sentence"].removeprefix(where)}
        kept = ((key, value) for key, value in one.items() if key not in ("dataset", "backbone"))
        found.append({k: "NaN" if isinstance(v, float) and math.isnan(v) else v for k, v in kept})
    return found


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(
    "changes", [{}, {"folds": 3, "seeds": [0, 1], "normalize": ["none"]}], ids=["default", "other"]
)
def test_an_import_and_a_run_give_the_same_verdicts(changes: Arrays, tmp_path: Path, command: Command) -> None:
    arrays = made_up()
    if changes:  # the folds of images with other names differ
        arrays["names"] = np.array([f"{n % 7}/{n}.png" for n in range(len(arrays["labels"]))])
    found = icm.evaluate(**arrays, **changes)
    store, start = tmp_path / "store", tmp_path / "start.yaml"
    command("import-embeddings", *files_of(arrays, tmp_path), "--name", "mine", "--store", store, "--recipe", start)
    recipe = yaml.safe_load(start.read_text())
    assert found.recipe["interventions"] == recipe["interventions"]
    (tmp_path / "recipe.yaml").write_text(json.dumps({**recipe, "sweep": found.recipe["sweep"]}))
    ran = command.json("run", tmp_path / "recipe.yaml", "--store", store)
    assert len(found.verdicts) == 3
    assert numbers(found.verdicts) == numbers(ran["verdicts"])
    assert found.headline == ran["headline"]


def accuracy(arrays: Arrays) -> float:
    """Return the zero-shot accuracy of plain prediction in percent, averaged over environments, by NumPy alone."""
    right = (arrays["embeddings"] @ unit(arrays["texts"]).T).argmax(axis=1) == arrays["labels"]
    names = arrays["environments"]
    return float(np.mean([100 * right[names == name].mean() for name in np.unique(names)]))


def unit(array: Any) -> Any:
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_calls_do_not_see_each_others_images_one_after_another_or_at_once() -> None:
    every = [made_up(120, seed) for seed in range(3)]
    found = [icm.evaluate(**arrays) for arrays in every]
    assert [one.plain for one in found] == pytest.approx([accuracy(arrays) for arrays in every])
    with ThreadPoolExecutor(3) as pool:
        at_once = list(pool.map(lambda arrays: icm.evaluate(**arrays), every))
    assert [numbers(one.verdicts) for one in at_once] == [numbers(one.verdicts) for one in found]
    assert len({one.plain for one in found}) == 3


def test_the_result_is_printed_and_a_table() -> None:
    found = icm.evaluate(**made_up())
    table = found.to_frame().set_index("method")
    assert [*table.index] == [f"{name} + zero-shot" for name in ("CLIP-ICM", "Shrinkage", "Fixed shrinkage")]
    assert (table["low"] <= table["difference"]).all()
    assert (table["difference"] <= table["high"]).all()
    np.testing.assert_allclose(table["value"] - table["plain"], table["difference"], atol=1e-5)
    assert table["plain"].tolist() == pytest.approx([found.plain] * 3)
    assert all("zero-shot: " in words for words in table["sentence"])
    words = str(found)
    assert " ".join(found.headline.split()) in " ".join(words.split())
    assert f"{found.plain:.1f}" in words
    assert repr(found) == words
    assert "Page:" not in words
    assert found.left_out == ""


def test_without_views_the_papers_method_is_left_out_with_a_reason() -> None:
    arrays = made_up() | {"views": None}
    found = icm.evaluate(**arrays)
    assert found.plain == pytest.approx(accuracy(arrays))
    assert {one["method"].partition(" (")[0] for one in found.verdicts} == {"Shrinkage"}
    assert found.left_out == in_memory.NO_VIEWS
    assert " ".join(found.left_out.split()) in " ".join(str(found).split())


def test_tensors_lists_and_columns_are_arrays() -> None:
    arrays = made_up(90)
    expected = numbers(icm.evaluate(**arrays, folds=3).verdicts)
    others = {
        "embeddings": torch.from_numpy(arrays["embeddings"]), "labels": arrays["labels"].astype(np.uint8).tolist(),
        "environments": pd.Series(arrays["environments"], dtype="category"), "texts": arrays["texts"].astype(np.float64),
        "views": {"fog": arrays["views"]["fog"].tolist()}, "groups": [str(group) for group in arrays["groups"]],
        "names": np.arange(90),
    }  # fmt: skip
    assert numbers(icm.evaluate(**others, folds=3).verdicts) == expected


def changed(name: str, change: Callable[[Any], Any]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {**arrays, name: change(arrays[name])}


def at(position: Any, value: Any) -> Callable[[Any], Any]:
    """Return what puts a value into a copy of an array."""

    def put(array: Any) -> Any:
        array = array.copy()
        array[position] = value
        return array

    return put


def first_class_to(environment: str) -> Callable[[Arrays], Arrays]:
    def move(arrays: Arrays) -> Arrays:
        return {**arrays, "environments": np.where(arrays["labels"] == 0, environment, arrays["environments"])}

    return move


BAD: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "one dimension": (changed("embeddings", np.ravel), r"embeddings: shape \(1440,\) and type float32; give one row"),
    "integers": (changed("embeddings", lambda z: z.astype(int)), r"embeddings: shape \(180, 8\) and type int64"),
    "ragged": (changed("embeddings", lambda _: [[1.0], [1.0, 2.0]]), "embeddings: not an array"),
    "gradients": (changed("embeddings", lambda z: torch.tensor(z, requires_grad=True)), "embeddings: not an array"),
    "nothing": (changed("embeddings", lambda z: z[:0]), r"embeddings: shape \(0, 8\)"),
    "NaN": (changed("embeddings", at((7, 3), np.nan)), "embeddings: row 7 \\(from 0\\) has NaN or infinite values"),
    "too large": (changed("embeddings", lambda z: z.astype(float) * 1e40), "embeddings: row 0 \\(from 0\\) has NaN or infinite"),
    "zeros": (changed("embeddings", at(7, 0)), "embeddings: row 7 \\(from 0\\) is all zeros"),
    "too small": (changed("embeddings", lambda z: z * np.float32(1e-42)), "embeddings: row 0 \\(from 0\\) is too small for single"),
    "a text too small": (changed("texts", at(2, 1e-30)), r"texts: row 2 \(from 0\) is too small .*; remove the row, or multiply all"),
    "equal": (changed("embeddings", np.ones_like), "embeddings: all 180 rows are equal"),
    "no texts": (changed("texts", lambda _: None), r"texts: shape \(\) and type object; give one row"),
    "text of NaN": (changed("texts", at((1, 1), np.inf)), "texts: row 1 \\(from 0\\) has NaN or infinite values"),
    "width of texts": (changed("texts", lambda t: t[:, :-1]), "texts: width 7, embeddings 8; embed both with one"),
    "labels of another length": (changed("labels", lambda y: y[:-1]), r"labels: shape \(179,\), expected \(180,\)"),
    "strings": (changed("labels", lambda y: y.astype(str)), "labels: type <U21, not integers; give rows of texts"),
    "above": (changed("labels", at(5, CLASSES)), "labels: 4 at position 5; texts has 4 rows, so labels are 0 to 3"),
    "below": (changed("labels", at(5, -1)), "labels: -1 at position 5"),
    "one class": (changed("labels", np.zeros_like), "labels: all are 0; give images of two or more classes"),
    "one environment": (changed("environments", lambda e: [e[0]] * 180), r"environments: all are '\w+'; give two"),
    "no environment": (changed("environments", lambda e: [None, *e[1:]]), "environments: 'None' at position 0 is no name"),
    "empty environment": (changed("environments", at(4, "")), "environments: '' at position 4"),
    "environments of another shape": (changed("environments", lambda e: e[:, None]), r"environments: shape \(180, 1\)"),
    "class of one environment": (first_class_to("toy"), "environments: 'photo' has no images of class 0; add some"),
    "few images": (lambda arrays: {k: v[:12] for k, v in arrays.items() if k in ("embeddings", "labels")} | {
        "texts": arrays["texts"], "environments": ["a"] * 8 + ["b"] * 4, "labels": np.arange(12) % 4,
    }, "The environment 'b' of arrays has 4 images, and the split of seed 0 leaves one side empty: it takes 5"),
    "names that repeat": (lambda a: {**a, "names": [0, 1, 0, *range(3, 180)]}, "names: 2 images are named '0'"),
    "no groups": (changed("groups", lambda g: g.astype(float)), r"groups: '\d+\.0' at position 0 is no name"),
    "a list of views": (changed("views", lambda v: [*v.values()]), "views: give a dictionary"),
    "a view of others": (changed("views", lambda v: {"fog": v["fog"][:-1]}), r"views\['fog'\]: shape \(179, 8\), expected \(180, 8\)"),
    "a view of NaN": (changed("views", lambda v: {"fog": at((2, 0), np.nan)(v["fog"])}), r"views\['fog'\]: row 2 \(from 0\) has NaN"),
    "the original view": (changed("views", lambda v: {"original": v["fog"]}), "views: give a dictionary"),
    "a view that is not printable": (changed("views", lambda v: {"a\tb": v["fog"]}), "views, row 1: 'view' is"),
    "a reserved view": (changed("views", lambda v: {"text": v["fog"]}), "views: the name 'text' is reserved"),
    "a view without a name": (changed("views", lambda v: {1: v["fog"]}), "views: give a dictionary"),
    "a search": (lambda arrays: {**arrays, "search": {"samples": 4}}, "search: `evaluate` does not search"),
    "an unknown key": (lambda arrays: {**arrays, "fold": 3}, "evaluate: unknown key 'sweep.fold': did you mean 'folds'"),
    "folds": (lambda arrays: {**arrays, "folds": 1}, "evaluate: sweep.folds"),
    "a text tower": (lambda arrays: {**arrays, "predictors": ["coop"]}, "evaluate: nothing can be tested"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_makes_no_sense_is_one_sentence(name: str) -> None:
    change, pattern = BAD[name]
    with pytest.raises(icm.IcmBenchError, match=f"^{pattern}") as caught:
        icm.evaluate(**change(made_up()))
    assert "\n" not in str(caught.value)
    assert "/tmp" not in str(caught.value)


def test_it_needs_neither_ray_nor_torch_and_the_readme_shows_it(tmp_path: Path) -> None:
    (block,) = (part.partition("```")[0] for part in (REPOSITORY / "README.md").read_text().split("```python\n")[1:])
    assert len([line for line in block.splitlines() if line and "import" not in line]) <= 5
    code = f"{block}\nimport sys; print(sorted({{'ray', 'torch', 'matplotlib', 'open_clip'}} & sys.modules.keys()))"
    env = {"PYTHONPATH": str(REPOSITORY), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=env, check=True
    )
    assert done.stdout.startswith("Plain prediction gets ")
    assert "CLIP-ICM" in done.stdout
    assert done.stdout.endswith("\n[]\n")
    assert done.stderr == ""
    assert [*tmp_path.iterdir()] == []
