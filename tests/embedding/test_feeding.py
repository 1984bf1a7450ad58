"""What decoding takes is remembered by machine, and `plan` says from it how many cores feed one GPU, or why not."""

import re
from pathlib import Path

import pytest
import yaml

from benchmark.cli import main
from benchmark.embedding.speed import DecodingCost, remember, remembered


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICM_BENCH_CACHE", str(tmp_path / "cache"))


def plan_of(models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines that a plan has for these backbones on PACS, with eight views of each image."""
    backbones = [{"name": name, "pretrained": "random", "precision": "bfloat16"} for name in models]
    (tmp_path / "recipe.yaml").write_text(
        yaml.safe_dump({"name": "fed", "datasets": [{"name": "PACS"}], "backbones": backbones})
    )
    assert main(["plan", str(tmp_path / "recipe.yaml"), "--store", str(tmp_path / "store"), "--gpu", "RTX 3090"]) == 0
    return [line for line in capsys.readouterr().out.splitlines() if ": D = " in line]


def test_without_a_measurement_a_plan_says_so_and_gives_no_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known, unknown = plan_of(["ViT-B-32", "ViT-S-32"], tmp_path, capsys)
    assert known.endswith("how many cores feed it is not known, for none decoded on this machine")
    assert unknown.endswith("ranks")
    assert "CPU cores" not in known


def test_cores_follow_from_the_gpus_rate_the_views_and_the_milliseconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remember(DecodingCost(3.0, "another set", (96, 96)))
    remember(DecodingCost(32.0, "VLCS", (224, 224)))
    assert remembered() == DecodingCost(32.0, "VLCS", (224, 224))
    lines = plan_of(["ViT-B-32", "ViT-B-16", "ViT-L-14"], tmp_path, capsys)
    # Up to 5,090, 1,565 and 360 views/s are 636, 196 and 45 images/s of eight views, at 32 ms each.
    cores = [re.findall(r"fed by up to ([\d.]+) CPU cores \(32.00 core-ms", line) for line in lines]
    assert cores == [["20.4"], ["6.3"], ["1.4"]]
    assert all(line.endswith("measured here on VLCS at 224 x 224)") for line in lines)


def test_a_damaged_memory_is_none(tmp_path: Path) -> None:
    remember(DecodingCost(3.0, "set", (96, 96)))
    [file] = (tmp_path / "cache" / "engines").iterdir()
    file.write_text('{"other": 1}')
    assert remembered() is None
