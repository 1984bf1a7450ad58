"""The command: every foreseeable failure is one sentence and exit code 2, and --json is JSON and nothing else."""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmark.cli import COMMANDS, main
from benchmark.command_line import command_parser
from tests.commands.conftest import Command
from tests.conftest import S3, make_toy
from tests.faulty_s3 import Faults, Proxy
from tests.planted import KEY, SECRET

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


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--set", "sweep.ranks=[4, 17]"], "rank 17 is above the embedding width D = 16"),
        (["--set", "run.cpus_per_trial=4096"], "run.cpus_per_trial: 4096, but the largest node has"),
        (["--set", "sweep.lamda=1"], "unknown key 'sweep.lamda': did you mean 'lambdas'?"),
        (["--set", "sweep.seeds"], "write KEY=VALUE"),
        (["--set", "sweep.seeds=["], "is not valid YAML"),
        (["--store", "recipe.yaml/store"], "cannot be written (Not a directory)"),
        (["--store", "/proc/icm-bench"], "give another --store"),
        (["--store", "nonsense://x"], "The store 'nonsense://x' cannot be opened"),
    ],
)
def test_what_cannot_work_is_one_sentence_before_anything_is_embedded(
    options: list[str], sentence: str, tmp_path: Path, toy_root: Path, tiny_random: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["run", write_recipe(tmp_path, toy_root, tiny_random), *options]) == 2
    *_, said = capsys.readouterr().err.splitlines()
    assert said.startswith("icm-bench: ")
    assert sentence in said
    assert not (tmp_path / "store" / "embeddings").exists()


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


@pytest.mark.long("a stage that meets a full disk loses what was written")
def test_a_full_disk_is_one_sentence_in_every_stage_and_loses_nothing(
    small_disk: Path, tmp_path: Path, toy_root: Path, tiny_random: dict[str, Any], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, local_ray: None,  # noqa: ARG001
) -> None:  # fmt: skip
    """A disk that grows until all fits: each run goes on where the one before it ended."""
    monkeypatch.setattr("benchmark.sweep.summing.MAX_SHARE", 1e9)
    sweep = {"seeds": [0], "lambdas": [1], "projections": ["icm"], "predictors": ["zero_shot"]}
    run = {"store": str(small_disk / "store"), "out": str(small_disk / "out")}
    recipe = write_recipe(tmp_path, toy_root, tiny_random, sweep=sweep, run=run)
    full_in, size, parts = set[str](), 12, 0
    while (code := main(["run", recipe])) == 2:
        [said] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("icm-bench:")]
        assert "cannot be written (No space left on device); free some space" in said
        full_in |= {*Path(said.split()[1]).relative_to(small_disk).parts[:2]}
        written = len(list(small_disk.rglob("part-*.parquet")))
        assert written >= parts
        parts, size = written, size + (16 if size < 200 else 1500)
        assert not list(small_disk.rglob("*.tmp"))
        assert size < 10_000
        _grown(small_disk, size)
    assert code == 0
    assert full_in >= {"embeddings", "sums", "rows", "out"}, full_in
    assert "72 reused" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "protocol", "sentence"),
    [
        ("ImageNet", "held_out", "ImageNet is a single environment, which cannot be held out"),
        ("PACS", "imagenet_shift", "the protocol 'imagenet_shift' fits on ImageNet"),
    ],
)
def test_a_plan_without_images_refuses_what_cannot_run(
    tmp_path: Path, name: str, protocol: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, tmp_path, VIT, datasets=[name], sweep={"protocols": [protocol]})
    assert sentence in Command(capsys).refused("plan", recipe)


@pytest.mark.usefixtures("local_ray")
def test_stages_one_by_one(
    tmp_path: Path, toy_root: Path, tiny_random: dict[str, Any], capsys: pytest.CaptureFixture[str],
    draws_where_it_is_looked_at: list[bool],
) -> None:  # fmt: skip
    recipe, command = write_recipe(tmp_path, toy_root, tiny_random), Command(capsys)
    planned = command.json("plan", recipe)
    counts = {
        "environments": 3,
        "images": 36,
        "classes": 2,
        "clusters": 0,
        "unlabelled": 0,
        "metric": "accuracy",
        "views": 2,
    }
    counts |= {"by_environment": {"env0": 12, "env1": 12, "env2": 12}, "counted": True, "kinds": None, "notes": []}
    assert planned["sets"] == [{"name": "toy", **counts}]
    assert planned["passes"] == 72
    # zero-shot and probe x ten projections x 1 seed, each for three held-out environments; of the probe a row for each
    # of five C. Identity, pca, random, icm twice, fixed; equal N has three N, shrinkage too, with eight lambdas, which
    # isotropic_environments and within_classes also have.
    assert (planned["trials"], planned["rows"]) == (20, (1 + 5) * 3 * (6 + 3 + 8 * 3 + 8 + 8))

    assert "run `icm-bench embed` with this recipe first" in command.refused("sweep", recipe)
    (embedded,) = command.json("embed", recipe)
    assert (embedded["embedded"], embedded["reused"]) == (72, 0)
    fewer = [recipe, "--set", "sweep.projections=[identity, icm]"]
    planned, swept = (command.json(word, *fewer) for word in ("plan", "sweep"))
    assert (swept["trials"], swept["rows"]) == (planned["trials"], planned["rows"]) == (4, (1 + 5) * 3 * 2)

    out, draws_where_it_is_looked_at[0] = tmp_path / "out", True
    printed = command("report", *fewer, "--as", "paper", "--out", out).out
    assert f"\nPaper: {out / 'paper'}" in printed
    assert f"Page: {out / 'index.html'}" in printed
    figures = {f"{name}.{suffix}" for name in ("forest", "rank", "spectrum") for suffix in ("png", "pdf", "svg")}
    assert {file.name for file in (out / "figures").iterdir()} >= figures


@pytest.mark.usefixtures("local_ray")
def test_a_set_of_one_environment_can_be_embedded_but_not_swept(
    tmp_path: Path, tiny_random: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_toy(tmp_path / "root", environments=1)
    (root / "env0").rename(root / "imagenet-r")
    for name, wordnet_id in (("cat", "n01443537"), ("dog", "n01484850")):
        (root / "imagenet-r" / name).rename(root / "imagenet-r" / wordnet_id)
    recipe = write_recipe(tmp_path, root, tiny_random, datasets=[{"name": "ImageNet-R", "root": str(root)}])
    command = Command(capsys)
    said = command("embed", recipe, "--json")
    assert json.loads(said.out)[0]["embedded"] == 24
    assert "lacks images of 198 of its 200 classes" in said.err
    for word in ("plan", "sweep", "run"):
        assert "ImageNet-R is a single environment, which cannot be held out" in command.refused(word, recipe)


@pytest.mark.long("a stage gives up where a request to S3 fails once")
@pytest.mark.usefixtures("local_ray")
def test_images_and_store_may_both_lie_on_an_s3_that_fails_at_times(
    tmp_path: Path, toy_root: Path, tiny_random: dict[str, Any], s3_server: S3, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setattr("benchmark.sweep.summing.MAX_SHARE", 1e9)
    uri = s3_server.upload(toy_root, f"{tmp_path.name}/toy")
    proxy = Proxy(s3_server.address)
    proxy.faults = Faults(failing=0.05, outage_at="part-", outage_s=3.0)
    query = f"?endpoint_override={proxy.address}&scheme=http&region=us-east-1"
    store = f"s3://bucket/{tmp_path.name}/store{query}"
    (toy_root / "env1" / "dog" / "2.png").write_bytes(b"changed, but only on disk")
    dataset = {"name": "toy", "root": uri + query}
    recipe = write_recipe(tmp_path, toy_root, tiny_random, datasets=[dataset])
    fewer = ["--set", "sweep.predictors=[zero_shot]", "--set", "sweep.projections=[identity, icm]"]
    assert main(["run", recipe, "--store", store, "--json", *fewer]) == 0
    said = capsys.readouterr()
    outcome = json.loads(said.out)
    assert (outcome["embedded"], outcome["rejected"], outcome["trials"]) == (72, {}, 2)
    assert re.search(r"storage: \d+ calls to storage were retried", said.err)
    objects = s3_server.client.list_objects_v2(Bucket="bucket", Prefix=f"{tmp_path.name}/store")["Contents"]
    read = {item["Key"]: s3_server.client.get_object(Bucket="bucket", Key=item["Key"]) for item in objects}
    contents = {key.partition("/store/")[2]: answer["Body"].read() for key, answer in read.items()}
    assert any(name.endswith("tables/main.md") for name in contents)
    texts = [said.out.encode(), said.err.encode(), *contents.values()]
    assert not any(secret.encode() in text for text in texts for secret in (KEY, SECRET))
    assert "Uploads" not in s3_server.client.list_multipart_uploads(Bucket="bucket", Prefix=tmp_path.name)
    proxy.faults = Faults()
    assert main(["embed", recipe]) == 0  # undisturbed, on a disk
    compared = [name for name in contents if name.startswith("embeddings/")]
    differing = [name for name in compared if (tmp_path / "store" / name).read_bytes() != contents[name]]
    assert {name.rpartition("/")[2] for name in differing} == {"speed.json"}
    assert {sum(name.startswith(kind) for name in contents) for kind in ("rows/", "sums/")} == {2}
    proxy.shutdown()
    proxy.server_close()


@pytest.mark.long("a run asks an object store for the same bytes twice")
@pytest.mark.usefixtures("local_ray")
def test_a_first_run_asks_an_object_store_once_for_an_image_and_hardly_more_for_a_part(
    tmp_path: Path, toy_root: Path, tiny_random: dict[str, Any], faulty_s3: tuple[S3, Proxy]
) -> None:
    server, proxy = faulty_s3
    root = server.upload(toy_root, f"{tmp_path.name}/toy")
    store = f"s3://bucket/{tmp_path.name}/store"
    recipe = write_recipe(tmp_path, toy_root, tiny_random, datasets=[{"name": "toy", "root": root}])
    swept = ["--set", "sweep.seeds=[0, 1]", "--set", "sweep.projections=[identity, icm]"]
    assert main(["run", recipe, "--store", store, *swept]) == 0
    asked = [name for (_, name), n in proxy.faults.counts.items() if "/reports/" not in name for _ in range(n)]
    images, parts = (Counter(name for name in asked if kind in name) for kind in (".png", "/part-"))
    of_trials = len([name for name in asked if re.search("/(rows|index|tested|sums)/", name)])
    there = server.client.list_objects_v2(Bucket="bucket", Prefix=f"{tmp_path.name}/")["Contents"]
    keys = [item["Key"] for item in there if "/reports/" not in item["Key"]]
    there_are = {kind: sum(kind in key for key in keys) for kind in (".png", "/part-", "/rows/")}
    assert there_are == {".png": 36, "/part-": 2, "/rows/": 8}
    assert (images.total(), len(parts)) == (36, 2)
    assert parts.total() <= 2 + 1, parts  # one call that failed for now may have been made again
    assert of_trials <= 6 * 8


def test_catalog_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    command = Command(capsys)
    assert "PACS  (folder PACS, 7 classes)" in command("datasets").out
    assert {d["name"] for d in command.json("datasets")} >= {"PACS", "DomainNet", "emoji_styles"}


@pytest.mark.parametrize("margin", ["0", "-1", "100", "much"])
def test_a_margin_is_a_number_of_points(margin: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["report", "recipe.yaml", "--margin", margin])
    assert f"'{margin}' is not a number of percentage points above 0 and below 100" in capsys.readouterr().err


def test_every_word_of_the_command_line_is_a_command_that_takes_quiet_verbose_and_json() -> None:
    (commands,) = (dict(action.choices) for action in command_parser()._actions if action.choices)
    assert list(commands) == list(COMMANDS)
    for name, of_command in commands.items():
        flags = {flag for action in of_command._actions for flag in action.option_strings}
        assert flags >= {"--quiet", "--verbose", "--json"}, name
