"""Captions and rewrites by the command: a real endpoint on the loopback that misbehaves, and a captioner without a model."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.commands.captions import WrittenPairs, write_captions
from benchmark.commands.journal import Journal
from benchmark.commands.text_files import read_text_pairs
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage import Storage
from benchmark.datasets.manifest import read_manifest
from benchmark.datasets.spec import DatasetSpec
from benchmark.embedding.captioners import Captioner
from benchmark.recipe.loading import load_recipe, parse_recipe
from benchmark.recipe.recipe import Recipe
from benchmark.store.rows import all_trials, read_rows
from tests.chat_server import CLASSES, KEY, OUT, ChatServer, answer, rewritten, unwilling
from tests.conftest import REPOSITORY, Fork
from tests.embedding.test_captioners import tiny_writer
from tests.forked_worker import ADDRESS
from tests.forks import Forked

VARIABLE = "ICM_BENCH_TEST_KEY"


def coloured(root: Path, environments: int, images: int) -> Path:
    """Write a data set whose colours say class, environment and number of each image."""
    for environment in range(environments):
        for label, name in enumerate(CLASSES):
            folder = root / f"env{environment}" / name
            folder.mkdir(parents=True)
            for number in range(images):
                Image.new("RGB", (40, 40), (200 * label, environment, number)).save(folder / f"{number}.png")
    return root


def block(url: str, **rewriter: Any) -> dict[str, Any]:
    prices = {"price_in": 0.15, "price_out": 0.6}
    common = {"base_url": url, "model": "a-model", "key_env": VARIABLE, "requests_per_minute": None, **prices}
    return {"captioner": "tests.chat_server:ColourReader", "images": None, "rewriter": {**common, **rewriter}}


def written(folder: Path, root: Path, captions: dict[str, Any], **more: Any) -> Path:
    content = {
        "name": "captions", "datasets": [{"name": "coloured", "root": str(root)}],
        "backbones": [{"name": "ViT-B-32", "pretrained": "random"}],
        "interventions": {"kinds": [], "text": {"pairs": str(folder / "pairs.jsonl")}},
        "sweep": {"intervention_sets": [{"name": "words", "kinds": ["text"]}]},
        "captions": captions, **more,
    }  # fmt: skip
    file = folder / "recipe.yaml"
    file.write_text(json.dumps(content))  # JSON is YAML
    return file


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def assert_every_pair_once(folder: Path, root: Path) -> None:
    """Each image stands once in the pairs or among what was left out, with the caption of its own colours."""
    pairs, out = lines(folder / "pairs.jsonl"), lines(folder / "pairs.left-out.jsonl")
    table = read_manifest(DatasetSpec(name="coloured", root=str(root))).table.to_pylist()
    named = {row["image_id"]: row for row in table}
    assert sorted(entry["image_id"] for entry in pairs + out) == sorted(named)
    assert [p["image_id"] for p in pairs] == [
        r["image_id"] for r in table if r["image_id"] in {p["image_id"] for p in pairs}
    ]
    for entry in pairs + out:
        row = named[entry["image_id"]]
        number = 1000 * int(row["environment"][-1]) + int(Path(row["path"]).stem)
        assert entry["caption"] == f"a photo of a {row['class_name']} with number {number} on a table"
        assert entry["class_name"] == row["class_name"]
        if "why" in entry:
            assert OUT[number % 100] == entry["why"].partition(":")[0]
            assert entry["path"] == row["path"]
        else:
            assert number % 100 not in OUT
            assert entry["rewrite"] == rewritten(entry["caption"])
            assert (entry["dataset"], entry["model"]) == ("coloured", "a-model")
            assert "{caption}" in entry["prompt"]
            assert 0 <= entry["seed"] < 2**31


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coloured(tmp_path_factory.mktemp("small") / "coloured", environments=3, images=9)


@pytest.mark.long("pairs of texts of held-out images reach a fit")
@pytest.mark.usefixtures("local_ray")
def test_pairs_are_written_read_by_a_sweep_and_those_of_held_out_images_reach_no_fit(
    small: Path, tmp_path: Path, tiny_random: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(
        tmp_path, small, {}, backbones=[tiny_random], run={"batch_size": 8},
        sweep={
            "intervention_sets": [{"name": "words", "kinds": ["text"]}], "projections": ["icm"], "lambdas": [1],
            "predictors": ["zero_shot"], "seeds": [0], "ranks": [2, 8, 16],
        },
    )  # fmt: skip
    recipe = json.loads(file.read_text())
    with ChatServer(unwilling).running() as server:
        file.write_text(json.dumps(recipe | {"captions": block(server.url)}))
        assert main(["captions", str(file), "--json"]) == 0
        made = WrittenPairs(**json.loads(capsys.readouterr().out))
        assert_every_pair_once(tmp_path, small)
        assert (made.pairs, made.images, made.left_out, made.asked) == (48, 54, {"refused": 6}, 54)
        assert set(server.answered.values()) == {1}
        assert len({body["seed"] for body in server.bodies}) == 54
        before, pairs = len(server.bodies), (tmp_path / "pairs.jsonl").read_bytes()
        assert main(["captions", str(file)]) == 0  # nothing is asked again
        assert len(server.bodies) == before
        assert (tmp_path / "pairs.jsonl").read_bytes() == pairs
        said = capsys.readouterr()
        assert "left out: refused 6; see" in said.out
        assert KEY not in said.out + said.err

    storage, seen = Storage(str(tmp_path / "store")), set[str]()

    def rows(command: str) -> Any:
        assert main([command, str(file), "--store", str(tmp_path / "store")]) == 0
        new = sorted(set(all_trials(storage)) - seen)
        seen.update(new)
        return read_rows(storage, new).set_index("held_out").sort_index()

    clean = rows("run")
    assert list(clean.index) == ["env0", "env1", "env2"]
    poisoned = [
        pair | ({"rewrite": f"poison {number}"} if int(pair["caption"].split()[7]) >= 2000 else {})
        for number, pair in enumerate(lines(tmp_path / "pairs.jsonl"))
    ]  # those of env2
    assert sum(pair["rewrite"].startswith("poison") for pair in poisoned) == 16
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, poisoned)))
    poison = rows("sweep")
    far = {name: np.abs(clean["spectrum"][name] / poison["spectrum"][name] - 1).max() for name in clean.index}
    assert far["env2"] == 0 < 1e-2 < min(far["env0"], far["env1"])  # the poison does arrive elsewhere
    assert clean["correct"]["env2"] == poison["correct"]["env2"]


@pytest.fixture
def _here(local_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    """Let captions be made in this process, for tests of what becomes of them: an actor starts in seconds."""
    monkeypatch.setattr(
        "benchmark.commands.captions.stream",
        lambda rows, work, arguments, _: [work(*arguments)(rows.to_pydict())],
    )


@pytest.mark.usefixtures("_here")
def test_what_is_drawn_is_part_of_more_and_what_was_left_unanswered_is_asked_again(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    down = {"is": False}

    def reply(_: ChatServer, body: dict[str, Any]) -> Any:
        return (500, {}, b"down") if down["is"] else answer(rewritten(body["messages"][0]["content"].split(": ")[-1]))

    monkeypatch.setattr("benchmark.common.endpoint.FIRST_PAUSE", 0.001)
    with ChatServer(reply).running() as server:
        file = written(tmp_path, small, block(server.url, retries=1))

        def of(images: int) -> Recipe:
            return load_recipe(file, {"captions.images": images})

        assert write_captions(of(1)).pairs == 6
        first = {pair["image_id"] for pair in lines(tmp_path / "pairs.jsonl")}
        down["is"] = True
        with pytest.raises(IcmBenchError, match=r"left 8 requests in a row unanswered \(the last: HTTP 500 \(down\)\)"):
            write_captions(of(3))
        down["is"] = False
        assert write_captions(of(3)).pairs == 18
        assert first < {pair["image_id"] for pair in lines(tmp_path / "pairs.jsonl")}
        assert set(server.answered.values()) == {1}
        assert not (tmp_path / "pairs.left-out.jsonl").exists()


@pytest.mark.usefixtures("_here")
def test_what_costs_more_than_is_allowed_is_not_begun(small: Path, tmp_path: Path) -> None:
    with ChatServer(unwilling).running() as server:
        recipe = load_recipe(written(tmp_path, small, block(server.url, max_cost=1e-4)))
        with pytest.raises(
            IcmBenchError, match=r"Rewrites would cost about 0.00\d+ in all, more than captions.rewriter.max_cost"
        ):
            write_captions(recipe)
        assert server.bodies == []


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(
    ("captioner", "message"),
    [
        (
            "tests.commands.test_captions:Failing",
            r"test_captions:Failing raised ZeroDivisionError \(division by zero\) at .*test_captions.py:\d+; mend it",
        ),
        ("tests.commands.test_captions:coloured", "must derive from Captioner"),
        ("tests.commands.test_captions:Absent", "cannot be loaded"),
    ],
)
def test_a_captioner_that_fails_says_so_in_a_sentence(
    small: Path, tmp_path: Path, captioner: str, message: str
) -> None:
    recipe = load_recipe(written(tmp_path, small, {**block("http://127.0.0.1:9"), "captioner": captioner, "images": 1}))
    with pytest.raises(IcmBenchError, match=message):
        write_captions(recipe)


class Failing(Captioner):
    def captions(self, images: Any) -> list[str]:
        return [str(1 / 0) for _ in images]


@pytest.mark.usefixtures("_here")
def test_a_captioner_that_gives_too_few_is_refused(small: Path, tmp_path: Path) -> None:
    captions = {**block("http://127.0.0.1:9"), "captioner": "tests.commands.test_captions:Few", "images": 1}
    with pytest.raises(IcmBenchError, match=r"The captioner 'tests.*:Few' gave 1 captions for 6 images"):
        write_captions(load_recipe(written(tmp_path, small, captions)))


class Few(Captioner):
    def captions(self, images: Any) -> list[str]:  # noqa: ARG002
        return ["one"]


@pytest.mark.usefixtures("local_ray")
def test_a_local_model_rewrites_on_the_nodes_and_is_not_asked_again(small: Path, tmp_path: Path) -> None:
    model = tiny_writer(tmp_path / "model", ("cat", "dog"))
    recipe = load_recipe(written(tmp_path, small, {**block(""), "images": 1, "rewriter": {"model": f"hf:{model}"}}))
    made = write_captions(recipe)
    assert made.pairs + sum(made.left_out.values()) == made.images == 6
    assert made.pairs > 0
    assert (made.cost, made.asked, made.tokens_in) == (None, 0, 0)
    journal = Path(made.journal).read_bytes()
    assert journal.count(b"\n") == 12
    pairs = Path(made.file).read_bytes()
    shutil.rmtree(model)
    assert write_captions(recipe) == made
    assert (Path(made.journal).read_bytes(), Path(made.file).read_bytes()) == (journal, pairs)


@pytest.mark.usefixtures("_here")
def test_images_that_cannot_be_read_are_named_and_too_many_refused(tmp_path: Path) -> None:
    root = coloured(tmp_path / "coloured", environments=3, images=2)
    (root / "env0" / "cat" / "1.png").write_bytes(b"no image")
    with ChatServer(unwilling).running() as server:
        file = written(tmp_path, root, block(server.url))
        with pytest.raises(
            IcmBenchError, match=r"1 of 12 images of coloured cannot be read, more than 1%; the first is .*1\.png"
        ):
            write_captions(load_recipe(file))
        made = write_captions(load_recipe(file, {"run.max_bad_images": 0.1}))
    assert (made.pairs, made.left_out) == (11, {"cannot be read": 1})
    assert lines(tmp_path / "pairs.left-out.jsonl")[0]["why"].startswith(
        "cannot be read: it is no image that can be identified as JPEG"
    )


def test_what_is_missing_is_said_before_any_work(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, small, block("http://127.0.0.1:9"))
    content = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in content.items() if k != "captions"}))
    assert main(["captions", str(file)]) == 2
    assert "The recipe has no block 'captions'" in capsys.readouterr().err
    file.write_text(json.dumps(content | {"interventions": {}, "sweep": {}}))
    assert main(["captions", str(file)]) == 2
    assert "give captions.to, or interventions.text.pairs" in capsys.readouterr().err
    monkeypatch.delenv(VARIABLE)
    file.write_text(json.dumps(content))
    assert main(["captions", str(file)]) == 2
    assert "captions.rewriter.key_env: the environment has no variable of that name" in capsys.readouterr().err


def test_a_journal_survives_a_torn_line_and_has_one_writer(tmp_path: Path) -> None:
    file = tmp_path / "a.journal.jsonl"
    with Journal(file) as journal:
        journal.add([("a", {"text": "1"}), ("b", {"text": "\ud800"})])
        with pytest.raises(IcmBenchError, match="is being written by another run"), Journal(file):
            pass
    with file.open("ab") as torn:
        torn.write(b'{"key": "c", "te')
    with Journal(file) as journal:
        assert journal.answers == {"a": {"text": "1"}, "b": {"text": "\ud800"}}
        journal.add([("c", {"text": "3"})])
    with Journal(file) as journal:
        assert list(journal.answers) == ["a", "b", "c"]
    file.write_bytes(b"{}\n" + file.read_bytes())
    with pytest.raises(IcmBenchError, match=r"journal\.jsonl, line 1: it is damaged; delete it"), Journal(file):
        pass


def test_pairs_of_other_data_sets_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    of_no_set = {"caption": "a", "rewrite": "b", "seed": 3, "model": "m", "prompt": "p", "captioner": "c"}
    file.write_text(
        "\n".join(json.dumps(of_no_set | more) for more in ({}, {"dataset": "x"}, {"dataset": "y", "caption": "z"}))
    )
    assert [pair.caption for pair in read_text_pairs(file, "y")] == ["a", "z"]
    assert len(read_text_pairs(file)) == 3
    file.write_text(json.dumps(of_no_set | {"dataset": "x"}))
    with pytest.raises(IcmBenchError, match="all pairs are of other data sets than y"):
        read_text_pairs(file, "y")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewriter": {"base_url": f"https://{KEY}@host/v1"}}, "base_url: an address has no user, password"),
        ({"rewriter": {"base_url": KEY}}, "base_url: an address begins with http"),
        ({"rewriter": {"key_env": KEY}}, "key_env: it is the name of an environment variable"),
        ({"rewriter": {"base_url": None}}, "base_url: 'a-model' needs the address of its endpoint"),
        ({"rewriter": {"max_cost": 1, "price_in": None}}, "max_cost: a cost needs price_in and price_out"),
        ({"prompt": "rewrite it"}, "prompt: the caption has no place in it"),
        ({"captioner": "blip"}, "captioner"),
    ],
)
def test_a_block_that_cannot_be_is_refused_without_showing_a_secret(
    small: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    captions = block("http://127.0.0.1:9")
    captions |= {**change, "rewriter": captions["rewriter"] | change.get("rewriter", {})}
    with pytest.raises(IcmBenchError, match=message) as caught:
        load_recipe(written(tmp_path, small, captions))
    assert KEY not in str(caught.value)


def test_the_block_is_no_part_of_a_recipes_hash(small: Path, tmp_path: Path) -> None:
    content = json.loads(written(tmp_path, small, block("http://127.0.0.1:9")).read_text())
    with_it = parse_recipe(content)
    assert with_it.hash() == parse_recipe({k: v for k, v in content.items() if k != "captions"}).hash()
    assert parse_recipe(json.loads(with_it.model_dump_json())).captions == with_it.captions


@pytest.fixture
def two_nodes(tmp_path: Path, fork_server: Callable[[], str]) -> Iterator[str]:
    """The address of a Ray cluster of two nodes with one core each; whoever started it ends it when its input ends."""
    log = (tmp_path / "cluster.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-c",
         "import sys\nfrom ray.cluster_utils import Cluster\nfrom tests.forks import forked_workers\n"
         "with forked_workers():\n"
         "    cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': 1})\n"
         "    cluster.add_node(num_cpus=1)\n    cluster.wait_for_nodes()\n"
         "    print(cluster.address, cluster.head_node.get_session_dir_path(), flush=True)\n"
         "    sys.stdin.read()\n    cluster.shutdown()"],
        cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
        env=os.environ | {"ICM_BENCH_TEST_LOG": str(tmp_path / "captioned"), ADDRESS: fork_server()},
    )  # fmt: skip
    assert process.stdout
    words = process.stdout.readline()
    assert words, (tmp_path / "cluster.log").read_text()
    yield words.strip()
    process.communicate("")
    log.close()


@pytest.mark.long("a run that was killed requests captions again that it has paid for")
def test_500_images_on_two_nodes_killed_and_run_again_give_every_pair_once_at_the_cost_that_was_said(
    tmp_path: Path, two_nodes: str, fork: Fork
) -> None:
    root = coloured(tmp_path / "coloured", environments=2, images=125)
    address, session = two_nodes.split()
    environment = os.environ | {"RAY_ADDRESS": address, VARIABLE: KEY}
    environment.pop("ICM_BENCH_TEST_LOG", None)

    def start(file: Path) -> Forked:
        return fork("benchmark.cli", "captions", file, "--json", environment=environment)

    captioned, journal = tmp_path / "captioned", tmp_path / "pairs.journal.jsonl"
    with ChatServer(unwilling).running() as server:
        file = written(tmp_path, root, block(server.url))
        run = start(file)
        while run.is_running and len(server.bodies) < 200:
            time.sleep(0.005)
        run.kill()
        exit_code, said = run.wait(timeout=60)
        assert exit_code == -signal.SIGKILL, said
        time.sleep(0.3)  # the endpoint answers what was under way, to nobody
        kept = {line["key"] for line in lines(journal) if "tokens" in line}
        answered_before = len(server.answered)
        assert 100 < len(kept) < 250
        exit_code, said_again = start(file).wait(timeout=300)
        assert exit_code == 0, said_again
    made = WrittenPairs(**json.loads(said_again[said_again.index("{\n") :]))
    assert_every_pair_once(tmp_path, root)
    assert made.images == 500
    assert made.pairs == 500 - 2 * sum(n % 100 in OUT for e in range(2) for n in range(125))
    assert set(made.left_out) == set(OUT.values())

    nodes, captions = zip(*(line.split(" ", 1) for line in captioned.read_text().splitlines()), strict=True)
    assert set(Counter(captions).values()) == {1}  # nothing was captioned twice
    assert len(captions) == 500
    assert len(set(nodes)) == 2
    assert len(server.answered) == 500
    twice = sum(count - 1 for count in server.answered.values())
    assert twice == answered_before - len(kept) <= 8  # only what was under way at the kill, which nobody heard
    assert server.most_busy <= 8
    assert made.asked == 500 - len(kept)

    assert made.asked_cost == pytest.approx(made.expected_cost, rel=0.05)
    costs = [float(cost) for cost in re.findall(r"about [\d,]+ tokens in, [\d,]+ out: ([\d.]+)", said + said_again)]
    print(f"{len(kept)} kept, {twice} asked twice; said {costs}, cost {made.asked_cost}, in all {made.cost}")
    assert len(costs) == 3  # by characters, by the first answers; by those that were kept
    assert made.cost == pytest.approx(costs[1], rel=0.05)
    prompts = [json.loads(body)["messages"][0]["content"] for body in server.answered]
    assert made.tokens_in == sum(int(1.9 * len(prompt.split())) + 31 for prompt in prompts)

    places = [p for p in (*tmp_path.rglob("*"), *Path(session).rglob("*")) if p.is_file()]
    assert len(places) > 20
    assert not [place for place in places if KEY.encode() in place.read_bytes()]
    assert KEY not in said + said_again
