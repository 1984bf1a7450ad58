"""Hostile recipes, options and files: one sentence that names the place, exit code 2, before anything is loaded."""

import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmark.commands import embed
from benchmark.common.errors import nearest
from benchmark.recipe.loading import load_recipe
from tests.commands.conftest import Command

ANCHORS = "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True))
OPTIONS = {  # case -> what --set says, and how the answer goes on
    "bad-5": ('datasets.0.environments="cluster:1000000000"', r"1000000000 clusters of the 24 images of 'toy'; give fewer"),
    "bad-5-few": ('datasets.0.environments="cluster:25"', r"25 clusters of the 24 images"),
    "bad-5-digits": (f'datasets.0.environments="cluster:{"9" * 5000}"', r"is not understood; give cluster:K"),
    "bad-6-inside": ('run={store: "s3://KEY:Su per@b/x"}', r"'run.store' is an address with a user"),
    "batch": ("run.batch_size=1000000000", r"run.batch_size: input should be less than or equal to 65536"),
    "actors": ("run.actors=1000000000", r"run.actors: input should be less than"),
    "wait": ("run.storage_timeout=1.0e+300", r"run.storage_timeout: input should be less than"),
    "seeds": (f"sweep.seeds={[*range(1001)]}", r"seeds: 1001 entries; the maximum is 1000"),
    "ranks": ("sweep.ranks=[4, 99999999999]", r"ranks: a number of 11 digits"),
    "lambda": ("sweep.lambdas=[1e300]", r"lambdas: a number of 301 digits"),
    "epochs": ("sweep.predictors=[{name: coop, epochs: 99999999999}]", r"epochs: a number of 11 digits"),
    "kernel": ("interventions.kinds=[{name: gaussian_blur, sigma: [1, 1000000]}]", r"sigma.1: input should be less than"),
    "text pairs": ("interventions.text={per_class: 1000000000}", r"interventions.text.per_class: input should be less"),
    "poor-recipes-1": ("backbones.0={name: ViT-B-32, pretrained: random, mean: [.nan, 0, 0]}", r"mean.0: .* finite"),
    "poor-recipes-1-std": ("backbones.0={name: ViT-B-32, pretrained: random, std: [.inf, 1, 1]}", r"std.0: .* finite"),
    "poor-recipes-1-blur": ("interventions.kinds=[{name: gaussian_blur, sigma: [.nan, 1]}]", r"sigma.0: .* finite"),
    "poor-recipes-1-c": ("sweep.predictors=[{name: linear_probe, C: [.inf]}]", r"C.0: .* finite"),
    "poor-recipes-2": (r'datasets.0.name="a\nb"', r"datasets.0.name: 'a\\nb' is not a printable name"),
    "poor-recipes-2-set": (r'sweep.intervention_sets=[{name: "a\tb"}]', r"name: 'a\\tb' is not a printable name"),
    "poor-recipes-2-nul": (r'datasets.0.root="/a\0b"', r"'datasets.0.root' holds the control character U\+0000"),
    "poor-recipes-2-key": (r'names={"a\eb": x}', r"'a key of names' holds the control character U\+001B"),
    "poor-recipes-3": ("sweep.projections=[{name: identity, foo: 1}]", r"unknown key 'foo': no keys are allowed there"),
    "poor-recipes-3-views": ("sweep.intervention_sets=[{name: a, views: [x]}]", r"'sweep.intervention_sets.0.views': Valid: dr"),
    "poor-recipes-10": ("backbones.0={name: 'timm:'}", r"timm has no ''; Valid: (\w+, ){9}\w+, \.\.\. \(\d+ in all\)"),
    "poor-recipes-11": ("sweep.seeds=[010]", r"sweep.seeds.0: input should be a valid integer, not '010'"),
    "poor-recipes-11-on": ("sweep.seeds=[on]", r"sweep.seeds.0: .* not 'on'"),
    "poor-recipes-11-60": ("run.wait_for_gpus=1:30", r"run.wait_for_gpus: .* not '1:30'"),
    "poor-recipes-11-date": ("sweep.seeds=[2001-01-01]", r"sweep.seeds.0: .* not '2001-01-01'"),
    "anchors": (f"sweep={{a: &a [x], {ANCHORS.replace(chr(10), ', ')} z: *g}}", r"expands to over 100000 values"),
}  # fmt: skip


@pytest.fixture
def recipe(toy_root: Path, tiny_random: dict[str, Any], tmp_path: Path) -> Path:
    """The file of a recipe that is right."""
    content = {
        "name": "toy",
        "datasets": [{"name": "toy", "root": str(toy_root)}],
        "backbones": [tiny_random],
        "interventions": {"kinds": ["invert"]},
        "sweep": {"seeds": [0], "lambdas": [1], "ranks": [4, 16]},
        "run": {"store": str(tmp_path / "store")},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(content))
    return tmp_path / "recipe.yaml"


@pytest.mark.parametrize("case", OPTIONS)
def test_a_hostile_recipe_is_one_sentence_of_a_plan(case: str, recipe: Path, command: Command) -> None:
    option, pattern = OPTIONS[case]
    began = time.process_time()
    said = command.refused("plan", recipe, "--set", option)
    assert re.search(pattern, said), said
    assert len(said) < 1000
    assert time.process_time() - began < 20


def folder(place: Path) -> Path:
    place.mkdir()
    return place


def pipe(place: Path) -> Path:
    os.mkfifo(place)
    return place


def content(text: bytes) -> Callable[[Path], Path]:
    def written(place: Path) -> Path:
        place.write_bytes(text)
        return place

    return written


def device(place: Path) -> Path:
    place.symlink_to("/dev/zero")
    return place


NO_FILES = {  # what is no recipe, no file of pairs and no predictions
    "folder": (folder, "it is a folder"),
    "pipe": (pipe, "it is a pipe, a socket or a device"),
    "device": (device, "it is a pipe, a socket or a device"),
}
NO_PAIRS = {
    **NO_FILES,
    "type": (content(b"[1]\n"), "line 1: a JSON array where an object is needed"),
    "binary": (content(bytes(range(256)) * 8), "line 1: not JSON"),
    "one line": (content(b"x" * 2**21), "line 1 has 1048576 bytes or more"),
    "deep": (content(b'{"caption": ' + b"[" * 50_000), "line 1: not JSON"),
}


@pytest.mark.parametrize("kind", NO_PAIRS, ids=lambda kind: f"poor-recipes-4-{kind}")
def test_what_is_no_file_of_pairs_is_refused_by_a_plan(
    kind: str, recipe: Path, tmp_path: Path, command: Command
) -> None:
    make, phrase = NO_PAIRS[kind]
    place = make(tmp_path / "pairs.jsonl")
    assert phrase in command.refused("plan", recipe, "--set", f"interventions.text.pairs={place}")


@pytest.mark.parametrize("kind", NO_FILES, ids=lambda kind: f"poor-recipes-12-{kind}")
def test_what_is_no_recipe_or_list_is_refused_and_not_waited_for(
    kind: str, recipe: Path, toy_root: Path, tmp_path: Path, command: Command
) -> None:
    make, phrase = NO_FILES[kind]
    assert phrase in command.refused("plan", make(tmp_path / "r.yaml"))
    assert phrase in command.refused("import", recipe, make(tmp_path / "p.csv"))
    assert phrase in command.refused("selfcheck", "--published", make(tmp_path / "n.csv"))
    table = make(toy_root / "t.csv")
    assert phrase in command.refused(
        "plan", recipe, "--set", "datasets.0.layout=table", "--set", f"datasets.0.table={table}"
    )


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        pytest.param(["export", "--rank", "0"], "--rank: 0 is not between 1 and the embedding width D = 16", id="poor-command-6-rank"),
        pytest.param(["export", "--rank", "17"], "--rank: 17 is not between 1", id="poor-command-6-width"),
        pytest.param(["diagnose", "--rank", "-1"], "--rank: -1 is not between 1", id="poor-command-6-diagnose"),
        pytest.param(["export", "--lambda", "77"], "--lambda: '77.0' is not in the recipe", id="poor-command-6-lambda"),
        pytest.param(["diagnose", "--lambda", "nan"], "--lambda: 'nan' is not in the recipe", id="poor-command-6-nan"),
        pytest.param(["export", "--seed", "9"], "--seed: '9' is not in the recipe", id="poor-command-6-seed"),
        pytest.param(["export", "--dataset", "x"], "--dataset: 'x' is not in the recipe", id="poor-command-6-set"),
        pytest.param(["export", "--normalize", "x"], "--normalize: 'x' is not", id="poor-command-6-normalize"),
        pytest.param(["import", "absent.csv"], "absent.csv cannot be read: No such file", id="poor-command-7"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_refused_before_a_backbone_is_loaded(
    words: list[str], phrase: str, recipe: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.commands.stores.first_backbone_loading", lambda _: pytest.fail("it is loading"))
    name, *options = words
    assert phrase in command.refused(name, recipe, *options)


def test_names_of_files_that_are_not_read_as_utf_8_are_refused_with_what_to_set(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """poor-environment-1: LC_ALL=C with PYTHONUTF8=0."""
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    said = command.refused("datasets")
    assert "File names are read as ascii here, not as UTF-8" in said
    assert "PYTHONUTF8=1" in said


CLASSES: dict[str, Any] = {
    "image_id": [f"i{i}" for i in range(8)],
    "environment": ["a", "b"] * 4,
    "class": ["x"] * 4 + ["y"] * 4,
}


def embeddings(change: Callable[[Any], Any]) -> Callable[[Path], Path]:
    def written(place: Path) -> Path:
        vectors = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
        np.savez(place, **{**CLASSES, "embedding": change(vectors)})
        return place

    return written


def with_row(value: float) -> Callable[[Any], Any]:
    return lambda vectors: np.concatenate([vectors[:3], np.full((1, 4), value, np.float32), vectors[4:]])


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        pytest.param(embeddings(lambda v: v * 0), "row 1: the embedding is all zeros", id="poor-import-2"),
        pytest.param(embeddings(with_row(0.0)), "row 4: the embedding is all zeros", id="poor-import-2-row"),
        pytest.param(embeddings(lambda v: v * 0 + 1), "all 8 embeddings are equal", id="poor-import-2-equal"),
        pytest.param(embeddings(with_row(np.inf)), "row 4: the embedding has NaN or infinite", id="poor-import-2-inf"),
        pytest.param(content(b"no archive"), "is not a .npz file; save it with numpy.savez", id="poor-import-3"),
        pytest.param(content(b"\x93NUMPY\x01\x00"), "is not a .npz file; save it with numpy.savez", id="poor-import-3-array"),
    ],
)  # fmt: skip
def test_embeddings_that_say_nothing_are_refused(
    make: Callable[[Path], Path], phrase: str, tmp_path: Path, command: Command
) -> None:
    said = command.refused("import-embeddings", make(tmp_path / "x.npz"), "--name=x", f"--store={tmp_path / 'store'}")
    assert phrase in said
    assert "pickle" not in said


def test_lists_end_at_ten_and_say_where_all_are(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    rejected = dict.fromkeys((f"{i}.png" for i in range(791)), "no image")
    report = SimpleNamespace(rejected=rejected, images=2000, speed=None)
    subject = SimpleNamespace(
        manifest=SimpleNamespace(name="toy", place=str), views=(), backbone=SimpleNamespace(engine="torch")
    )
    for name in ("begin_texts_of", "wait_for"):
        monkeypatch.setattr(embed, name, lambda *_: [])
    monkeypatch.setattr(embed, "embed_views", lambda *_: report)
    embed.embed_stage(SimpleNamespace(subjects=[subject], embedded=[subject], notify=lines.append))  # type: ignore[arg-type]
    assert len(lines) == 11
    assert lines[-1] == "skipped 791 of 2000 images of toy: `icm-bench embed RECIPE --json` lists all of them"
    assert nearest("x", [f"n{i:04}" for i in range(1000)]).endswith("n0009, ... (1000 in all).")


def test_what_people_write_for_truth_and_decimals_is_read_as_meant(recipe: Path) -> None:
    read = load_recipe(recipe, {"run.compile": "yes", "run.batch_size": "010"})
    assert read.run.compile
    assert read.run.batch_size == 10
