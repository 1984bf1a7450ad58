"""The command: every foreseeable failure is one sentence and exit code 2, and --json is JSON and nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmark.cli import COMMANDS, main
from benchmark.command_line import command_parser
from tests.conftest import REPOSITORY, S3, make_toy
from tests.faulty_s3 import Faults, Proxy

VIT = {"name": "ViT-B-32", "pretrained": "random", "image_size": 32}


def write_recipe(tmp_path: Path, root: Path, backbone: dict[str, Any], **changes: Any) -> str:
    content = {
        "name": "toy",
        "datasets": [{"name": "toy", "root": str(root)}],
        "backbones": [backbone],
        "interventions": {"kinds": ["invert"]},
        "sweep": {"seeds": [0], "lambdas": [1], "ranks": [4, 16]},
        "run": {"store": str(tmp_path / "store")},
        **changes,
    }
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(content))
    return str(file)


@pytest.fixture
def refused(  # type: ignore[no-untyped-def]
    tmp_path: Path,
    toy_root: Path,
    tiny_random: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    local_ray: None,  # noqa: ARG001
):
    """Run a recipe that cannot work and return the one sentence it ends with."""

    def run(*args: str, backbone: dict[str, Any] | None = None) -> str:
        code = main(["run", write_recipe(tmp_path, toy_root, backbone or tiny_random), *args])
        error = capsys.readouterr().err
        assert code == 2
        assert "Traceback" not in error
        said = error.splitlines()
        assert [line.startswith("icm-bench: ") for line in said] == [False] * (len(said) - 1) + [True], error
        return said[-1]

    return run


def test_missing_root(refused, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    missing = str(tmp_path / "nowhere")
    assert f"the root {missing} of 'toy' does not exist" in refused("--set", f"datasets.0.root={missing}")


def test_one_environment_only(refused, toy_root: Path) -> None:  # type: ignore[no-untyped-def]
    for name in ("env1", "env2"):
        shutil.rmtree(toy_root / name)
    assert "has one environment only (env0)" in refused()


def test_environment_that_lacks_a_class(refused, toy_root: Path) -> None:  # type: ignore[no-untyped-def]
    shutil.rmtree(toy_root / "env1" / "dog")
    assert "env1 lacks images of the class 'dog'" in refused()


def test_too_many_unreadable_images(refused, toy_root: Path) -> None:  # type: ignore[no-untyped-def]
    (toy_root / "env1" / "dog" / "3.png").write_bytes(b"no image")
    assert "env1/dog/3.png (it is no image that can be identified as JPEG, PNG" in refused()


def test_unknown_backbone_tag_intervention_and_key(refused) -> None:  # type: ignore[no-untyped-def]
    assert "Unknown backbone 'ViT-B-33': did you mean 'ViT-B-32'?" in refused(backbone={**VIT, "name": "ViT-B-33"})
    assert "did you mean 'openai'?" in refused(backbone={**VIT, "pretrained": "openia"})
    assert "did you mean 'invert'?" in refused("--set", "interventions.kinds=[invrt]")
    assert "unknown key 'sweep.lamda': did you mean 'lambdas'?" in refused("--set", "sweep.lamda=1")


def test_rank_above_the_width(refused, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    sentence = refused("--set", "sweep.ranks=[4, 17]")
    assert "rank 17 is above the embedding width D = 16 of this backbone" in sentence
    assert not (tmp_path / "store" / "embeddings").exists()  # found before anything was embedded


def test_checkpoint_that_does_not_fit(refused, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    checkpoint = tmp_path / "small.pt"
    torch.save(torch.nn.Linear(2, 2).state_dict(), checkpoint)
    sentence = refused(backbone={"name": "ViT-B-32", "pretrained": str(checkpoint)})
    assert f"The checkpoint {checkpoint} does not fit the model 'ViT-B-32'" in sentence


def test_no_network(refused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # else the hub's client tries for half a minute
    sentence = refused("--set", "backbones.0={name: 'hf-hub:nobody/nothing'}")
    assert "cannot be downloaded (no network" in sentence


def test_store_that_cannot_be_written(refused, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "file").write_text("")
    assert "cannot be written (Not a directory)" in refused("--store", str(tmp_path / "file" / "store"))
    assert "give another --store" in refused("--store", "/proc/icm-bench")
    assert "The store 'nonsense://x' cannot be opened" in refused("--store", "nonsense://x")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 KiB; needs the right to mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _grown(disk: Path, kibibytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kibibytes}k", str(disk)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_in_every_stage_and_loses_nothing(
    small_disk: Path, tmp_path: Path, toy_root: Path, tiny_random: dict[str, Any], capsys: pytest.CaptureFixture[str],
    local_ray: None,  # noqa: ARG001
) -> None:  # fmt: skip
    """A disk that grows until all fits: each run goes on where the one before it ended."""
    sweep = {"seeds": [0], "lambdas": [1], "projections": ["icm"], "predictors": ["zero_shot"]}
    run = {"store": str(small_disk / "store"), "out": str(small_disk / "out")}
    recipe = write_recipe(tmp_path, toy_root, tiny_random, sweep=sweep, run=run)
    full_in, size, parts = set(), 12, 0
    while (code := main(["run", recipe])) == 2:
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("icm-bench:")]
        assert len(said) == 1
        assert len(said[0]) <= 400
        assert "cannot be written (No space left on device); free some space" in said[0]
        full_in.add(Path(said[0].split()[1]).relative_to(small_disk).parts[:2])
        written = len(list(small_disk.rglob("part-*.parquet")))
        assert written >= parts
        parts, size = written, size + (16 if size < 200 else 1500)
        assert not list(small_disk.rglob("*.tmp"))
        assert size < 10_000
        _grown(small_disk, size)
    assert code == 0
    stages = {"embeddings", "moments", "rows", "out"}
    assert stages <= {part for place in full_in for part in place}, full_in
    assert "72 reused" in capsys.readouterr().err


def test_read_only_store(refused, small_disk: Path) -> None:  # type: ignore[no-untyped-def]
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert "cannot be written (Read-only file system)" in refused("--store", str(small_disk))


def test_too_few_images_for_a_split(refused, toy_root: Path) -> None:  # type: ignore[no-untyped-def]
    for file in [*(toy_root / "env1").rglob("[1-5].png")]:
        file.unlink()
    assert "The environment 'env1' of toy has 2 images, and the split of seed 0 leaves one side empty" in refused()


def test_a_trial_that_no_node_can_hold(refused) -> None:  # type: ignore[no-untyped-def]
    assert "run.cpus_per_trial: 4096 cores for a trial, but the largest node has" in refused(
        "--set", "run.cpus_per_trial=4096"
    )


def test_malformed_overrides(refused) -> None:  # type: ignore[no-untyped-def]
    assert "write KEY=VALUE" in refused("--set", "sweep.seeds")
    assert "is not valid YAML" in refused("--set", "sweep.seeds=[")


def test_report_before_any_run(tmp_path: Path, toy_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", write_recipe(tmp_path, toy_root, VIT)]) == 2
    assert "holds no results of the recipe 'toy'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "protocol", "sentence"),
    [
        ("ImageNet", "held_out", "ImageNet is a single environment, of which none can be held out"),
        ("PACS", "imagenet_shift", "the protocol 'imagenet_shift' fits on ImageNet"),
        ("ColoredMNIST", "held_out", "'ColoredMNIST' needs a 'root'"),
    ],
)
def test_a_plan_without_images_refuses_what_cannot_run(
    tmp_path: Path, name: str, protocol: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    recipe = {"name": "planned", "datasets": [name], "backbones": [VIT], "sweep": {"protocols": [protocol]}}
    file.write_text(yaml.safe_dump(recipe))
    assert main(["plan", str(file)]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.usefixtures("local_ray")
def test_stages_one_by_one(
    tmp_path: Path, toy_root: Path, tiny_random: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, toy_root, tiny_random)

    assert main(["plan", recipe, "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    of_toy = {
        "name": "toy",
        "environments": 3,
        "images": 36,
        "classes": 2,
        "clusters": 0,
        "counted": True,
        "kinds": None,
        "unlabelled": 0,
    }
    assert planned["sets"] == [of_toy]
    assert planned["passes"] == 72
    # zero-shot and probe x ten projections x 1 seed, each for three held-out environments; of the probe a row for each
    # of five C. Identity, pca, random, icm twice, fixed; equal N has three N, shrinkage too, with eight lambdas, which
    # isotropic_environments and within_classes also have.
    assert (planned["trials"], planned["rows"]) == (20, (1 + 5) * 3 * (6 + 3 + 8 * 3 + 8 + 8))

    assert main(["sweep", recipe]) == 2
    assert "run `icm-bench embed` with this recipe first" in capsys.readouterr().err

    assert main(["embed", recipe, "--json"]) == 0
    (embedded,) = json.loads(capsys.readouterr().out)
    assert (embedded["embedded"], embedded["reused"]) == (72, 0)

    assert main(["sweep", recipe, "--json"]) == 0
    swept = json.loads(capsys.readouterr().out)
    assert (swept["trials"], swept["rows"]) == (planned["trials"], planned["rows"])

    assert main(["report", recipe, "--as", "paper", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert f"\nPaper: {tmp_path / 'out' / 'paper'}" in printed
    assert "RANDOM WEIGHTS, NOT A RESULT: " in (tmp_path / "out" / "paper" / "paper.tex").read_text()
    assert "RANDOM WEIGHTS, NOT A RESULT" in printed
    assert f"Page: {tmp_path / 'out' / 'index.html'}" in printed
    for name in ("report.md", "index.html", "tables/main.md", "tables/main.json", "tables/main.tex"):
        assert "RANDOM WEIGHTS" in (tmp_path / "out" / name).read_text()
    assert "random weights" in (tmp_path / "out/tables/main.csv").read_text()
    assert {p.name for p in (tmp_path / "out/figures").iterdir()} >= {
        f"{figure}.{suffix}" for figure in ("forest", "rank", "spectrum") for suffix in ("png", "pdf", "svg")
    }


@pytest.mark.usefixtures("local_ray")
def test_a_set_of_one_environment_can_be_embedded_but_not_swept(
    tmp_path: Path, tiny_random: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_toy(tmp_path / "root", environments=1)
    (root / "env0").rename(root / "imagenet-r")
    for name, wordnet_id in (("cat", "n01443537"), ("dog", "n01484850")):
        (root / "imagenet-r" / name).rename(root / "imagenet-r" / wordnet_id)
    recipe = write_recipe(tmp_path, root, tiny_random, datasets=[{"name": "ImageNet-R", "root": str(root)}])
    assert main(["embed", recipe, "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)[0]["embedded"] == 24
    assert "lacks images of 198 of its 200 classes" in said.err
    for command in ("plan", "sweep", "run"):
        assert main([command, recipe]) == 2
        assert "ImageNet-R is a single environment, of which none can be held out" in capsys.readouterr().err


@pytest.mark.usefixtures("local_ray")
def test_images_and_store_may_both_lie_on_an_s3_that_fails_at_times(
    tmp_path: Path, toy_root: Path, tiny_random: dict[str, Any], s3_server: S3, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = s3_server.upload(toy_root, f"{tmp_path.name}/toy").replace("s3://", "s3://testing:hush@")
    proxy = Proxy(s3_server.address)
    proxy.faults = Faults(failing=0.05, outage_at="part-", outage_s=3.0)
    query = f"?endpoint_override={proxy.address}&scheme=http&region=us-east-1"
    store = f"s3://testing:hush@bucket/{tmp_path.name}/store{query}"
    (toy_root / "env1" / "dog" / "2.png").write_bytes(b"changed, but only on disk")
    dataset = {"name": "toy", "root": uri + query}
    recipe = write_recipe(tmp_path, toy_root, tiny_random, datasets=[dataset])
    fewer = ["--set", "sweep.predictors=[zero_shot]", "--set", "sweep.projections=[identity, icm]"]
    assert main(["run", recipe, "--store", store, "--json", *fewer]) == 0
    said = capsys.readouterr()
    outcome = json.loads(said.out)
    assert (outcome["embedded"], outcome["rejected"], outcome["trials"]) == (72, {}, 2)
    assert re.search(r"storage: \d+ calls to storage were made again", said.err)
    objects = s3_server.client.list_objects_v2(Bucket="bucket", Prefix=f"{tmp_path.name}/store")["Contents"]
    contents = {
        item["Key"].partition("/store/")[2]: s3_server.client.get_object(Bucket="bucket", Key=item["Key"])[
            "Body"
        ].read()
        for item in objects
    }
    assert any(name.endswith("tables/main.md") for name in contents)
    assert not any(b"hush" in text for text in [said.out.encode(), said.err.encode(), *contents.values()])
    assert "Uploads" not in s3_server.client.list_multipart_uploads(Bucket="bucket", Prefix=tmp_path.name)
    proxy.faults = Faults()
    assert main(["embed", recipe]) == 0  # undisturbed, on a disk
    compared = [name for name in contents if name.startswith("embeddings/")]
    differing = [name for name in compared if (tmp_path / "store" / name).read_bytes() != contents[name]]
    assert {name.rpartition("/")[2] for name in differing} == {"speed.json"}
    assert {sum(name.startswith(kind) for name in contents) for kind in ("rows/", "moments/")} == {2}
    proxy.shutdown()
    proxy.server_close()


@pytest.mark.usefixtures("local_ray")
def test_a_first_run_asks_an_object_store_once_for_an_image_and_hardly_more_for_a_part(
    tmp_path: Path, toy_root: Path, tiny_random: dict[str, Any], faulty_s3: tuple[S3, Proxy]
) -> None:
    server, proxy = faulty_s3
    root = server.upload(toy_root, f"{tmp_path.name}/toy")
    store = f"s3://bucket/{tmp_path.name}/store"
    recipe = write_recipe(tmp_path, toy_root, tiny_random, datasets=[{"name": "toy", "root": root}])
    seeds = ["--set", "sweep.seeds=[0, 1]", "--set", "sweep.predictors=[zero_shot, linear_probe]"]
    assert main(["run", recipe, "--store", store, *seeds]) == 0
    asked = [name for (_, name), n in proxy.faults.counts.items() if "/reports/" not in name for _ in range(n)]
    images, parts = (Counter(name for name in asked if kind in name) for kind in (".png", "/part-"))
    of_trials = len([name for name in asked if re.search("/(rows|index|tested|moments)/", name)])
    there = server.client.list_objects_v2(Bucket="bucket", Prefix=f"{tmp_path.name}/")["Contents"]
    keys = [item["Key"] for item in there if "/reports/" not in item["Key"]]
    there_are = {kind: sum(kind in key for key in keys) for kind in (".png", "/part-", "/rows/")}
    assert there_are == {".png": 36, "/part-": 2, "/rows/": 40}
    assert (images.total(), len(parts)) == (36, 2)
    assert parts.total() <= 2 + 1, parts  # one call that failed for now may have been made again
    assert of_trials <= 6 * 40


def test_catalog_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets"]) == 0
    assert "PACS  (folder PACS, 7 classes)" in capsys.readouterr().out
    assert main(["datasets", "--json"]) == 0
    assert {d["name"] for d in json.loads(capsys.readouterr().out)} >= {"PACS", "DomainNet", "emoji_styles"}


def test_a_failure_inside_a_worker_ends_a_real_command_without_a_traceback(tmp_path: Path, toy_root: Path) -> None:
    recipe = write_recipe(tmp_path, toy_root, {"name": "ViT-B-32", "pretrained": "opena"})
    done = subprocess.run(
        [sys.executable, "-m", "benchmark.cli", "run", recipe],
        capture_output=True, text=True, cwd=REPOSITORY, env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    *_, line = done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    assert line.startswith("icm-bench: Unknown pretrained tag 'opena'")


@pytest.mark.parametrize("margin", ["0", "-1", "100", "much"])
def test_a_margin_is_a_number_of_points(margin: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["report", "recipe.yaml", "--margin", margin])
    assert f"'{margin}' is no number of percentage points above 0 and below 100" in capsys.readouterr().err


def test_every_word_of_the_command_line_has_a_command() -> None:
    (choices,) = (action.choices for action in command_parser()._actions if action.choices)
    assert list(choices) == list(COMMANDS)
