"""What `icm-bench submit` uploads: what the recipe names, where the job finds it, and nothing that lies beside it."""

import json
from pathlib import Path

import pytest

from benchmark.commands.cluster.packing import MAX_BYTES, packed
from benchmark.common.code import importable_from
from benchmark.common.errors import IcmBenchError
from benchmark.recipe.loading import load_recipe
from tests.commands.conftest import Command

PAIR = '{"caption": "a dog", "rewrite": "a dog at night"}\n'
PROJECTION = """
from typing import ClassVar
from {helper} import largest_first
from benchmark import Projection
from benchmark.method.subspace.basis import eigenbasis

class Mine(Projection):
    uses_interventions: ClassVar[bool] = True
    note: str = ""

    def fit(self, sources):
        return eigenbasis(sources.c_d(), largest_first=largest_first())
"""


def a_folder(folder: Path, module: str) -> Path:
    """Write a recipe with all that it may name, and much that it does not; return the file of the recipe."""
    secrets = (
        ".env", ".ssh/id_ed25519", ".aws/credentials", "recipes/.env", "recipes/unused.py", "weights/.token",
        "data/env/class/0.png",
    )  # fmt: skip
    contents = {
        "texts/pairs.jsonl": PAIR,
        f"recipes/{module}.py": PROJECTION.format(helper=f"{module}_helper"),
        f"recipes/{module}_helper.py": "def largest_first():\n    return False\n",
        "note.txt": "read by the projection",
        "weights/open_clip_config.json": "{}",
        **dict.fromkeys(secrets, "secret = 1"),
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    for large in (folder / "large.bin", folder / "recipes" / "large.bin"):
        with large.open("wb") as file:
            file.truncate(2**30)  # sparse
    recipe = {
        "name": "packed",
        "datasets": [{"name": "mine", "root": str(folder / "data")}],
        "backbones": [{"name": "own", "folder": "weights"}],
        "interventions": {"kinds": ["grayscale"], "text": {"pairs": "texts/pairs.jsonl"}},
        "sweep": {"projections": ["pca", {"name": f"{module}:Mine", "note": "note.txt"}]},
    }
    (folder / "recipes" / "my.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    return folder / "recipes" / "my.yaml"


DRY = ("submit", "recipes/my.yaml", "--dry-run")


def test_what_is_named_goes_and_keeps_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    file = a_folder(tmp_path, "packing_a")
    monkeypatch.chdir(tmp_path)
    planned = command.json(*DRY, "--set", "sweep.seeds=[0, 1]", "--store", "s3://bucket/store")
    names = ["my.yaml", "note.txt", "packing_a.py", "packing_a_helper.py", "texts/pairs.jsonl"]
    assert [f["path"] for f in planned["files"]] == [*names, "weights/open_clip_config.json"]
    sources = [file, Path("note.txt"), file.with_name("packing_a.py"), file.with_name("packing_a_helper.py")]
    assert [f["bytes"] for f in planned["files"][:4]] == [source.stat().st_size for source in sources]
    assert planned["bytes"] == sum(f["bytes"] for f in planned["files"]) < 10_000
    assert planned["elsewhere"] == [str(tmp_path / "data"), "s3://bucket/store"]
    ran = "python -m jobs.run my.yaml --set 'sweep.seeds=[0, 1]' --store s3://bucket/store"
    assert planned["entrypoint"] == ran
    text = command(*DRY).out  # the same for a person
    assert all(name in text for name in names)
    assert "secret" not in text
    assert "large" not in text

    with importable_from(file.parent):
        package = packed(load_recipe(file), file)
    package.copy_to(tmp_path / "copy")
    copied = {p.relative_to(tmp_path / "copy").as_posix(): p for p in (tmp_path / "copy").rglob("*") if p.is_file()}
    assert set(copied) == {f["path"] for f in planned["files"]}
    assert copied["texts/pairs.jsonl"].read_bytes() == Path("texts/pairs.jsonl").read_bytes()


def test_the_id_follows_from_what_would_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    file = a_folder(tmp_path, "packing_b")
    monkeypatch.chdir(tmp_path)
    first = command.json(*DRY)["id"]
    assert first.startswith("packed-")
    (tmp_path / "large.bin").write_bytes(b"another")  # which is not uploaded
    assert command.json(*DRY)["id"] == first
    others = [command.json(*DRY, "--set", "sweep.seeds=[0]")["id"], command.json(*DRY, "--out", "/mnt/out")["id"]]
    file.with_name("packing_b_helper.py").write_text("def largest_first():\n    return True\n")
    others.append(command.json(*DRY)["id"])
    (tmp_path / "texts" / "pairs.jsonl").write_text(PAIR.replace("dog", "cat"))
    others.append(command.json(*DRY)["id"])
    monkeypatch.setattr("benchmark.commands.cluster.submit.version", lambda _: "9.9.9")
    others.append(command.json(*DRY)["id"])
    assert len({first, *others}) == 6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--store", "store"], "run.store: 'store' would lie in the job's own folder"),
        (["--data", "data"], "run.data: 'data' would lie in the job's own folder"),
        (["--set", "datasets.0.root=data"], "datasets.0.root: 'data' would lie"),
        (["--set", "interventions.text.pairs=../pairs.jsonl"], "'../pairs.jsonl' lies outside"),
        (["--set", "interventions.text.pairs=absent.jsonl"], "there is no file 'absent.jsonl'"),
        (["--set", "interventions.text.pairs=.env"], "'.env' is hidden"),
        (["--set", "interventions.text.pairs=large.bin"], "1,024 MiB of files, but Ray accepts 100; put large.bin"),
        (["--set", "backbones.0.folder=."], "'.' is the working directory"),
        (["--set", "interventions.text.pairs=jobs/pairs.jsonl"], "a folder 'jobs' would hide the package"),
        (["--store", "s3://key:hush@bucket/store"], "--store is an address with a user, a password or a key"),
        (["--address", "ray://127.0.0.1:10001"], "'ray://127.0.0.1:10001' is no address of a Ray dashboard"),
    ],
)
def test_what_could_not_run_there_is_refused_in_a_sentence(
    options: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    a_folder(tmp_path, "packing_c")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "recipes")
    sentence = command.refused("submit", "recipes/my.yaml", *options)
    assert said in sentence
    assert "hush" not in sentence


def test_two_files_cannot_share_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = a_folder(tmp_path, "packing_d")
    (tmp_path / "my.yaml").write_text(PAIR)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "recipes")
    recipe = load_recipe(file, {"interventions.text.pairs": "my.yaml"})
    with pytest.raises(IcmBenchError, match=r"would both lie at 'my\.yaml'"):
        packed(recipe, file)
    assert MAX_BYTES < 2**30
