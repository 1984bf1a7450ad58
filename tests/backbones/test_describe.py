"""Facts of a backbone from a separate process: correct, cached, and invalidated when weights may have changed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from benchmark.backbones import describe as facts
from benchmark.backbones.loading import Backbone
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.errors import IcmBenchError


@pytest.fixture
def spec(
    process_of_describe: Callable[..., Any], tiny_random: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> BackboneSpec:  # fmt: skip
    """A tiny backbone in a folder of its own, which a process describes, and an empty cache."""
    monkeypatch.setattr(facts, "_start", process_of_describe)
    monkeypatch.setenv("ICM_BENCH_CACHE", str(tmp_path / "cache"))
    folder = shutil.copytree(tiny_random["folder"], tmp_path / "tiny")
    return BackboneSpec(**{**tiny_random, "folder": str(folder)})


def test_facts_are_those_of_the_loaded_backbone_and_remembered(
    spec: BackboneSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    with facts.preloading(spec):
        described = facts.describe(spec)
    assert described == Backbone(spec).facts
    monkeypatch.setattr(facts, "_start", Mock(side_effect=AssertionError("loaded again")))
    with facts.preloading(spec):
        assert facts.describe(spec) == described
    with pytest.raises(AssertionError, match="loaded again"):
        facts.describe(spec.model_copy(update={"seed": 1}))
    Path(str(spec.folder), "open_clip_config.json").touch()  # it may have changed
    with pytest.raises(AssertionError, match="loaded again"):
        facts.describe(spec)


def test_a_process_begun_in_vain_is_ended(spec: BackboneSpec) -> None:
    with facts.preloading(spec):
        process = facts._processes[spec]
    assert process.poll() is not None
    assert not facts._processes


def test_what_cannot_be_loaded_is_one_sentence() -> None:
    """Without a process: what one answers is the same here, see `tests.described`."""
    with pytest.raises(IcmBenchError, match="Unknown backbone 'ViT-B-3'"):
        facts.describe(BackboneSpec(name="ViT-B-3", pretrained="openai"))


def test_a_process_that_dies_is_one_sentence(spec: BackboneSpec) -> None:
    with facts.preloading(spec):
        facts._processes[spec].kill()
        with pytest.raises(IcmBenchError, match="the process ended with code -9, perhaps because memory"):
            facts.describe(spec)
