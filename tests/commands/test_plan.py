"""A plan's times follow from what its store, this machine or a reference machine measured, and it says which."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmark.commands.planning.estimate import MACHINE, REFERENCE, STORE, Estimate, in_words, known_costs, seconds_of
from benchmark.commands.planning.machines import is_named, public_figures, room_at, span
from benchmark.common.storage.files import Storage
from benchmark.store.costs import REPORT, Cost, as_json, on_this_machine, read, remember
from benchmark.sweep import summing
from tests.commands.conftest import Command
from tests.commands.test_in_memory import files_of, made_up
from tests.conftest import REPOSITORY
from tests.test_cli import write_recipe

KIND = ("trial", "zero_shot", "icm")
SMALL = {"seeds": [0], "lambdas": [1], "ranks": [4, 16], "projections": ["identity", "icm"]}


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICM_BENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "store"))


def test_the_store_comes_before_the_machine_and_this_before_the_reference(
    store: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = [Cost(KIND, 1e9, 9.0, "a processor"), Cost((*KIND, "large"), 1e13, 7.0, "a processor")]
    monkeypatch.setattr("benchmark.commands.planning.estimate.of_reference", lambda: elsewhere)
    assert seconds_of(known_costs(store), KIND, 2e9, 2) == (18.0, REFERENCE)
    remember([on_this_machine()], [Cost(KIND, 1e9, 5.0)])
    assert seconds_of(known_costs(store), KIND, 2e9, 2) == (10.0, MACHINE)
    remember([store], [Cost(KIND, 1e9, 3.0)])
    assert seconds_of(known_costs(store), KIND, 2e9, 2) == (6.0, STORE)
    # Ten thousand times as much: what was measured there is the better guide.
    assert seconds_of(known_costs(store), KIND, 1e13, 2) == (7.0, REFERENCE)
    assert seconds_of(known_costs(store), ("trial", "linear_probe"), 1.0, 2) is None


@pytest.mark.usefixtures("local_ray")
def test_a_plan_is_about_as_long_as_the_run_that_went_before(
    tmp_path: Path, toy_root: Path, tiny_random: dict[str, Any], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summing, "MAX_SHARE", 1e9)
    recipe = write_recipe(tmp_path, toy_root, tiny_random, sweep=SMALL)
    before = command.json("plan", recipe)["estimate"]
    assert "embedding" not in before["stages"]
    assert any(kind.startswith("embedding tiny") for kind in before["unknown"])
    command("run", recipe)
    after = command.json("plan", recipe)["estimate"]
    assert list(after["stages"]) == ["start", "embedding", "moments", "trials", "report"]
    assert (after["unknown"], list(after["by"])) == ([], [STORE])
    measured = {c.kind: c for c in read(Storage(str(tmp_path / "store")))}
    assert after["stages"]["report"] == pytest.approx(measured[REPORT].seconds)
    trials = sum(c.seconds for kind, c in measured.items() if kind[0] == "trial")
    assert after["core_hours"] * 3600 == pytest.approx(trials)
    assert "measured: 100% in this store" in command("plan", recipe).out
    moments = sum(file.stat().st_size for file in (tmp_path / "store" / "sums").rglob("*.safetensors"))
    assert moments == pytest.approx(command.json("plan", recipe)["moment_bytes"], rel=0.2)  # poor-plan-3
    monkeypatch.setattr(summing, "MAX_SHARE", 0.1)  # of such small sets nothing is stored
    assert command.json("plan", recipe)["moment_bytes"] == 0


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("searched", [False, True])
def test_measuring_runs_a_part_of_each_stage_and_keeps_only_its_costs(
    tmp_path: Path,
    toy_root: Path,
    tiny_random: dict[str, Any],
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    searched: bool,
) -> None:
    monkeypatch.setattr("benchmark.commands.planning.estimate.of_reference", list)
    search = {"search": {"samples": 4, "lambdas": [1, 10], "rule": "training_domain"}} if searched else {}
    recipe = write_recipe(tmp_path, toy_root, tiny_random, sweep={**SMALL, "lambdas": [1, 3], **search})
    said = command.json("plan", recipe, "--measure")
    estimate = said["estimate"]
    assert (estimate["unknown"], list(estimate["by"])) == ([], [MACHINE])
    assert list(estimate["stages"]) == ["start", "embedding", "moments", "trials", "report"]
    kinds = Counter(cost.kind[0] for cost in read(on_this_machine()))
    assert kinds["trial"] == 4 if searched else 3
    assert kinds["embedding"] == 2  # of a few images, and of a part
    assert {path.name for path in (tmp_path / "store").iterdir()} <= {"measured"}  # which is empty
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


@pytest.mark.usefixtures("local_ray")
def test_imported_embeddings_are_measured_as_they_are(tmp_path: Path, command: Command) -> None:
    store, mine = str(tmp_path / "store"), str(tmp_path / "mine.yaml")
    command("import-embeddings", *files_of(made_up(), tmp_path), "--name", "mine", "--store", store, "--recipe", mine)
    before = {path for path in Path(store).rglob("*") if path.is_file()}
    estimate = command.json("plan", mine, "--store", store, "--set", "sweep.seeds=[0]", "--measure")["estimate"]
    assert "embedding" not in estimate["stages"]
    assert MACHINE in estimate["by"]
    assert {path for path in Path(store).rglob("*") if path.is_file()} == before


def test_hours_are_a_lower_bound_without_a_measurement() -> None:
    estimate = Estimate({"trials": 7200.0}, 4.0, 2, {STORE: 7200.0}, ["report"])
    total, trials = estimate.text()
    assert estimate.not_measured()[0].startswith("not measured: report; ")  # poor-plan-1
    assert total.startswith("at least 2.0 h on 2 cores: trials 2.0 h; ")
    assert trials == "trials: 4 core-hours"
    estimate.unknown = []
    assert estimate.text()[0].startswith("about 2.0 h")
    assert estimate.not_measured() == []
    assert [in_words(s) for s in (4.4, 100, 7000)] == ["4 s", "2 min", "1.9 h"]


def test_the_reference_that_comes_along_is_of_all_stages() -> None:
    from benchmark.commands.planning.estimate import of_reference

    kinds = {cost.kind[0] for cost in of_reference()}
    assert kinds >= {"start", "moments", "first trial", "between trials", "trial", "report"}
    assert as_json(of_reference())


# Nothing of it is at hand, and nothing is downloaded.
RECIPE = str(REPOSITORY / "jobs" / "recipes" / "domain_shift.yaml")
B16 = "{name: ViT-B-16, pretrained: openai, precision: float16}"
PACS = ["plan", RECIPE, "--set", "datasets=[PACS]", "--set", f"backbones=[{B16}]"]
AUTO = ["--set", "backbones=[{name: ViT-B-16, pretrained: openai}]"]
SINGLE = [*AUTO, "--set", "backbones.0.precision=float32"]
TWO = ["--set", f"backbones=[{B16}, {{name: ViT-S-16, pretrained: random}}]"]
VIEWS = 9_991 * 8


def test_embedding_on_public_figures_is_a_range_and_said_to_be_not_measured(command: Command) -> None:
    # timm's results for the tower with QuickGELU and without.
    low, high = VIEWS / 3355.89 / 3600, VIEWS / 2691.95 / 3600
    bill = command.json(*PACS, "--gpu", "rtx4090", "--gpus", "4", "--price", "0.8")["bill"]
    assert bill["hours"]["embedding"] == [pytest.approx(low / 4), pytest.approx(high / 4)]
    assert bill["money"]["embedding"] == pytest.approx([0.8 * low, 0.8 * high])  # four GPUs, a fourth of the time
    assert [speed["public"] for speed in bill["speeds"].values()] == [True]
    # In single precision public figures bound the hours from below.
    single = command.json(*PACS, *SINGLE, "--gpu", "RTX 4090")
    assert single["bill"]["hours"]["embedding"][1] is None
    auto = command.json(*PACS, *AUTO, "--gpu", "RTX 4090")
    assert auto["bill"]["hours"]["embedding"] == [pytest.approx(low), pytest.approx(high)]
    assert [plan["backbones"][0]["precision"] for plan in (single, auto)] == ["float32", "bfloat16"]


def test_a_plan_tells_what_a_killed_encoder_repeats(command: Command) -> None:
    few = ["--set", "interventions.kinds=[]", "--set", "sweep.projections=[identity]"]
    assert command.json(*PACS)["repeated"] == 2 * 64 * 8  # two chunks in all views
    assert command.json(*PACS, *few)["repeated"] == 2 * 64
    assert command.json(*PACS, *few, "--gpu", "RTX 4090")["repeated"] == 3 * 512  # three batches of the device
    on_cpu = command.json(*PACS, *few, "--gpu", "RTX 4090", "--set", "run.device=cpu")
    assert on_cpu["repeated"] == 2 * 64


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--gpu", "RTX 4090"], ["public figures of timm on RTX 4090"]),
        (
            ["--gpu", "l4", "--price", "0.80"],
            [
                "\nrented, 1 x l4: sweep ",
                ", together at least ",
                "not measured: embedding with ViT-B-16 openai float16 on l4 (run `--measure` on such a GPU)",
                "\nat least ",
            ],
        ),
        (
            [*TWO, "--gpu", "4090"],
            [
                "1 x 4090: embedding at least ",
                "not measured: embedding with ViT-S-16 bfloat16 RANDOM WEIGHTS (seed 0) on 4090 ",
            ],
        ),
        (["--price", "2.5"], ["\nrented, 1 x GPU: sweep ", "not measured: start of embedding ViT-B-16"]),
        (
            [*SINGLE, "--gpu", "4090", "--price", "1"],
            [
                "ViT-B-16 openai: D = 512, 8 ranks, float32\n",
                "1 x 4090: embedding at least ",
                " for at least ",
                ", together at least ",
            ],
        ),
    ],
)
def test_what_embedding_costs_is_said_with_its_source_or_as_unknown(
    options: list[str], words: list[str], command: Command
) -> None:
    said = command(*PACS, *options).out
    assert [word for word in words if word not in said] == []


def test_a_run_on_such_a_gpu_comes_before_public_figures(store: Storage, command: Command) -> None:
    kind = ("embedding", "ViT-B-16", "its own size", "float16", "ViT-B-16 openai float16")
    gpus: dict[str, Any] = {"device": "cuda", "actors": 2}
    costs = [
        Cost(kind, 1000.0, 1.0, gpu="L4", **gpus),  # two encoders made 500 views/s each
        Cost(kind, 80_000.0, 8.0, gpu="L40S", **gpus),  # nearer in work, but another GPU
        Cost((*kind[:4], "another label"), 80_000.0, 800.0, device="cpu", actors=1),
    ]
    remember([store], costs)
    args = [*PACS, "--store", store.path("")]
    named = command.json(*args, "--gpu", "l4", "--gpus", "3")["bill"]
    assert [speed["public"] for speed in named["speeds"].values()] == [False]
    assert named["hours"]["embedding"][0] == pytest.approx(VIEWS / 500 / 3 / 3600)
    bill = command.json(*args, "--price", "1")["bill"]  # without a name embedding is taken to run as it ran before
    assert bill["hours"]["embedding"][0] == pytest.approx(8.0 * VIEWS / 80_000 / 3600)


def test_money_is_of_all_gpus_for_as_long_as_they_stay(command: Command) -> None:
    args = [*PACS, "--gpu", "4090", "--gpus", "8", "--price", "0.5"]
    content = command.json(*args)
    stages = content["estimate"]["stages"]
    assert "embedding" not in stages
    sweep = sum(seconds for name, seconds in stages.items() if name != "report") / 3600
    money = content["bill"]["money"]
    assert money["sweep"] == pytest.approx([8 * 0.5 * sweep] * 2)
    stages = [money[name] for name in ("embedding", "sweep", "report")]
    assert money["together"] == pytest.approx([sum(ends) for ends in zip(*stages, strict=True)])
    assert f" for {span(*money['together'])} EUR\n" in command(*args, "--currency", "EUR").out


def test_public_figures_name_their_source_and_towers_that_there_are() -> None:
    import open_clip

    table = public_figures()
    assert all(len(card["commit"]) == 40 and card["file"].startswith("results/") for card in table["cards"].values())
    for tower, size, _, speeds in table["figures"]:
        config = open_clip.get_model_config(tower)
        assert config["vision_cfg"]["image_size"] == size
        assert set(speeds) == set(table["cards"])


@pytest.mark.parametrize(
    ("asked", "card", "same"),
    [("l4", "NVIDIA L4", True), ("l4", "L40S", False), ("rtx4090", "NVIDIA GeForce RTX 4090", True), ("", "L4", False)],
)
def test_a_gpu_is_known_by_the_words_of_its_name(asked: str, card: str, same: bool) -> None:
    assert is_named(asked, card) == same


def test_a_name_of_several_gpus_is_refused(command: Command) -> None:
    assert "--gpu rtx may be RTX 3090 or RTX 4090 or RTX 5090" in command.refused(*PACS, "--gpu", "rtx")


def test_what_does_not_fit_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = {"CPU": 16.0, "memory": 24 * 2**30}, {"CPU": 8.0, "GPU": 2.0, "memory": 64 * 2**30}

    def lacking(nodes: list[dict[str, float]], cpus: float, gib: float, gpus: int = 0) -> list[str]:
        monkeypatch.setattr("benchmark.commands.planning.machines.nodes_of", lambda _: nodes)
        return room_at("http://head:8265", cpus, gib, gpus).lacking

    assert lacking([large], 1, 4.0, 2) == []
    gpus, memory = lacking([small, large], 1, 4.0, 8)
    assert "embedding gets 2 of the 8 GPUs" in gpus
    # Six trials of 4 GiB fit 24 GiB; 16 cores with 3 each run five.
    assert memory.endswith("set run.cpus_per_trial to 3")
    assert lacking([small], 3, 4.0) == []
    assert "give it more memory" in lacking([small], 1, 30.0)[0]
    assert lacking([small], 32, 1.0)[0].startswith("no node has the 32 cores")


def test_a_plan_fits_the_nodes_of_a_cluster(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"CPU": 4.0, "memory": 8 * 2**30}, {"CPU": 48.0, "GPU": 2.0, "memory": 180 * 2**30}]
    monkeypatch.setattr("benchmark.commands.planning.machines.nodes_of", lambda _: nodes)
    said = command(*PACS, "--gpu", "4090", "--gpus", "8", "--address", "http://head:8265").out
    assert "2 nodes of http://head:8265: 52 cores, 2 GPUs, 188.0 GiB of memory; 52 trials side by side" in said
    assert "embedding gets 2 of the 8 GPUs" in said
    assert "on 52 cores: start" in said
