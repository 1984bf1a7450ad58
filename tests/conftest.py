"""Fixtures shared by all tests."""

import os

# Of this process and those that it starts: tests are small, and threads on shared cores cost more than they bring. To be
# set before numpy is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import functools
import gc
import itertools
import json
import logging
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.described import Described
from tests.faulty_s3 import Proxy
from tests.forks import Forked, forked_workers
from tests.planted import TOKEN, VARIABLE, leaks

REPOSITORY = Path(__file__).parent.parent
EXAMPLES = REPOSITORY / "docs" / "examples"
PARTS = EXAMPLES / "parts"

os.environ[VARIABLE] = TOKEN
STARTED = time.time()
_LEAKS = pytest.StashKey[list[str]]()

# A shell lets what it starts in the background ignore interrupts, and so would every command that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Modules that use a fixture which costs more than they do. Where processes divide the tests, one takes them all.
TOGETHER = {
    "demo_set": (
        "demo/test_emoji_styles", "demo/test_minilit", "demo/test_planted", "backbones/test_loading",
        "jobs/test_recipes", "commands/test_fold", "commands/test_run", "commands/test_losses",
    ),
    "embedded_toy": (
        "sweep/test_clusters", "sweep/test_every_projection", "sweep/test_failures", "sweep/test_kill",
        "sweep/test_loggers", "sweep/test_search", "sweep/test_terminated", "sweep/test_text_tower", "sweep/test_views",
    ),
    "published": ("results/test_check", "results/test_numbers", "results/test_publish", "results/test_schema"),
    "swept_toy": (
        "commands/results/test_random_weights", "commands/test_again", "commands/test_imports", "commands/test_secrets",
        "commands/test_splits", "commands/test_up_to_date", "docs/test_examples", "store/test_lies", "store/test_altered",
    ),
}  # fmt: skip
COSTLY = {"local_ray", "demo_set"}  # fixtures of tests that compute
GROUP = {f"tests/{module}.py": fixture for fixture, modules in TOGETHER.items() for module in modules}
TURN = {module: turn for turn, module in enumerate(GROUP)}  # cheap uses of a fixture come first: they have its time


def group_of(nodeid: str) -> str:
    """Return what goes to one process with a test: its module, or the fixture that the module shares with others."""
    module = nodeid.partition("::")[0]
    return GROUP.get(module, module)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Divide the tests by groups. Not by marks, which pytest-xdist 3.8 loses with pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return ByGroup(config, log)


@pytest.hookimpl(tryfirst=True)  # before `-m` leaves some out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give long tests their time, and see that each says why it is there. Groups that take longest come first."""
    for item in items:
        if (mark := item.get_closest_marker("long")) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(600))
        if mark and not (len(mark.args) == 1 and mark.args[0] and "\n" not in mark.args[0]):
            raise pytest.UsageError(f"{item.nodeid}: say in one line which bug only this long test would catch.")
    if hasattr(config, "workerinput"):  # processes divide the tests
        costly = Counter(group_of(item.nodeid) for item in items if COSTLY & {*getattr(item, "fixturenames", ())})
        costly.update(group_of(item.nodeid) for item in items if item.get_closest_marker("long") for _ in range(10))
        items.sort(key=lambda item: (-costly[group_of(item.nodeid)], TURN.get(item.nodeid.partition("::")[0], 0)))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect tests without the garbage collector, which imports call a hundred times; what they leave it passes over."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where anything that the tests wrote, of whatever process, holds a secret that they planted."""
    if hasattr(session.config, "workerinput"):  # the process that divides the tests looks at the files of all
        return
    from benchmark.common.storage.places import cache_dir

    sessions = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir()), "ray").glob("session_2*")
    logs = [folder / "logs" for folder in sessions if folder.stat().st_ctime >= STARTED]
    factory: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined]
    found = [file for folder in (factory.getbasetemp(), cache_dir(), *logs) for file in leaks(folder, STARTED)]
    session.config.stash[_LEAKS] = found
    if found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, tryfirst=True)  # below what others print, where the end of a log shows it
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> Generator[None]:
    """Name the files with secrets."""
    yield
    for file in config.stash.get(_LEAKS, []):
        terminalreporter.write_line(f"SECRET in {file}", red=True)


@pytest.fixture(scope="session", autouse=True)
def _quiet_ray() -> None:
    """Keep Ray's own reports from leaving the machine."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


@pytest.fixture(scope="session", autouse=True)
def process_of_describe() -> Iterator[Callable[..., Any]]:
    """Let facts of backbones come without a process of their own; return what starts one, for those who test that."""
    from benchmark.backbones import describe

    start = describe._start
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(describe, "_start", Described)
        yield start


@pytest.fixture(scope="session", autouse=True)
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """Let workers of a Ray that a test's own process starts be forks with heavy imports done, see `tests.forks`.

    Gives a function that returns the address of the process that forks, which starts when it is first asked for.
    Commands that tests start otherwise than by `fork` have Ray's own workers.
    """
    if sys.platform != "linux":  # elsewhere libraries do not bear a fork
        yield lambda: pytest.skip("processes are forks, of Linux alone")
        return
    with forked_workers(tmp_path_factory.mktemp("forks")) as address:
        yield address


Fork = Callable[..., Forked]


@pytest.fixture
def fork(fork_server: Callable[[], str], tmp_path: Path) -> Fork:
    """A function that starts a program in a fork: module, arguments; `environment` and `folder` as of `Forked`."""
    number = itertools.count()

    def started(
        module: str, *arguments: object, environment: Mapping[str, str] = os.environ, folder: Path = REPOSITORY
    ) -> Forked:
        output = tmp_path / f"output{next(number)}"
        return Forked(fork_server(), module, [str(word) for word in arguments], environment, output, folder)

    return started


@pytest.fixture(scope="session")
def pacs_sample() -> Path:
    """The folder that holds 700 real images of PACS, or a skip where they are not at hand."""
    root = Path(os.environ.get("ICM_BENCH_SHARED", REPOSITORY.parent / "shared")) / "pacs_sample"
    if not root.is_dir():
        pytest.skip("pacs_sample is absent (set ICM_BENCH_SHARED to the folder that holds it)")
    return root


@pytest.fixture
def toy_root(tmp_path: Path) -> Path:
    """A data set of 3 environments x 2 classes x 6 small images, in colours that depend on both (synthetic)."""
    return make_toy(tmp_path / "toy")


def free_ports(n: int) -> list[int]:
    """Return free ports on the loopback that the system does not hand out before a program has taken them.

    They lie below the range from which it does, and above that of Ray's workers.
    """
    found: list[int] = []
    while len(found) < n:
        port = 20_000 + next(_NEXT_PORT) % 12_000
        with socket.socket() as one, suppress(OSError):  # it is in use
            one.bind(("127.0.0.1", port))
            found.append(port)
    return found


_NEXT_PORT = itertools.count(500 * os.getpid())  # so that two processes of the tests take different ones


def make_toy(root: Path, environments: int = 3, classes: int = 2, images: int = 6, seed: int = 0) -> Path:
    """Write a synthetic data set of small PNG images in DomainBed's layout."""
    rng = np.random.default_rng(seed)
    for e in range(environments):
        for c in range(classes):
            folder = root / f"env{e}" / ("cat", "dog", "cow", "hen")[c]
            folder.mkdir(parents=True)
            for i in range(images):
                pixels = rng.integers(0, 80, (40, 48, 3)) + 40 * c + 20 * e
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="session", autouse=True)
def draws_where_it_is_looked_at() -> Iterator[list[bool]]:
    """Reports draw no figures, which take longest, unless the list that this gives holds True: see `figures_of_a_report`."""
    import reports.build
    import reports.figures
    from benchmark.common.workers import Workers

    drawing = [False]
    every = reports.figures.all_drawings
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reports.build, "all_drawings", lambda *args: every(*args) if drawing[0] else [])
        patched.setattr("reports.build.Workers", lambda count, module: Workers(count * drawing[0], module))
        yield drawing


@pytest.fixture(autouse=True)
def figures_of_a_report(request: pytest.FixtureRequest, draws_where_it_is_looked_at: list[bool]) -> Iterator[None]:
    """Tests of reports have figures; the others do without."""
    draws_where_it_is_looked_at[0] = Path(str(request.node.path)).is_relative_to(REPOSITORY / "tests" / "reports")
    yield
    draws_where_it_is_looked_at[0] = False


@pytest.fixture(scope="session", autouse=True)
def measured_apart() -> Iterator[None]:
    """What toys take is no guide for whoever plans real work on this machine: it is remembered elsewhere."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("benchmark.store.costs.machine", lambda: ["tests"])
        yield


@pytest.fixture(scope="session")
def demo_set() -> Path:
    """The folder of the demo's data set, whose packages are fetched and drawn once. For all that needs the demo."""
    from benchmark.demo import emoji_styles

    return emoji_styles.build() / emoji_styles.NAME


def some_of(images: Path, count: int, to: Path) -> Path:
    """Copy so many images of each class and environment of a data set, and return the folder of the copies."""
    for source in sorted(images.glob("*/*")):
        place = to / source.relative_to(images)
        place.mkdir(parents=True)
        for image in sorted(source.iterdir())[:count]:
            shutil.copy(image, place)
    return to


# A CLIP so small that it loads in a moment; 16 dimensions.
TINY_CLIP: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="session")
def tiny_random(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A backbone of a recipe: a tiny CLIP with random weights, for tests in which only arithmetic is compared."""
    folder = tmp_path_factory.mktemp("tiny-random")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY_CLIP, "preprocess_cfg": {}}))
    return {"name": "tiny", "folder": str(folder), "pretrained": "random", "engine": "torch"}


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A local Ray for tests that call stages directly, of one core: each core's worker costs seconds of imports.

    Its workers can import the examples, as those of an example's own Ray.
    """
    import ray

    from benchmark.common.code import find_own_code, importable_from
    from benchmark.common.ray.cluster import connect, connected

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ray, "init", functools.partial(ray.init, num_cpus=1))
        with connected():
            with importable_from(EXAMPLES, PARTS):
                find_own_code()
                connect()
            yield


@pytest.fixture(scope="session")
def embedded_toy(tmp_path_factory: pytest.TempPathFactory, tiny_random: dict[str, Any], local_ray: None) -> Path:  # noqa: ARG001
    """A folder with a synthetic data set, `toy`, and a store of its embeddings and texts without rows; see `toy_in`."""
    from benchmark.cli import main

    folder = tmp_path_factory.mktemp("embedded")
    content = {
        "name": "embedded",
        "datasets": [{"name": "toy", "root": str(make_toy(folder / "toy", environments=4, classes=2, images=10))}],
        "backbones": [tiny_random],
        "interventions": {"kinds": ["grayscale", "gaussian_blur", "posterize"]},
        "sweep": {"projections": ["identity"], "predictors": ["zero_shot"], "seeds": [0]},
    }
    (folder / "recipe.yaml").write_text(json.dumps(content))  # JSON is YAML
    assert main(["run", str(folder / "recipe.yaml"), "--store", str(folder / "store")]) == 0
    for kept in (folder / "store").iterdir():
        if kept.name not in ("embeddings", "texts"):
            shutil.rmtree(kept)
    return folder


def toy_in(folder: Path, embedded_toy: Path) -> dict[str, Any]:
    """Copy the store into `folder`, so that a test need not embed, and return the data set's entry of a recipe."""
    shutil.copytree(embedded_toy / "store", folder / "store")
    return {"name": "toy", "root": str(embedded_toy / "toy")}


@dataclass(frozen=True)
class Swept:
    """A recipe that was run: `file`, its `store`, and the folder of its synthetic data set, `images`."""

    file: Path
    store: Path
    images: Path


@pytest.fixture(scope="session")
def swept_toy(tmp_path_factory: pytest.TempPathFactory, tiny_random: dict[str, Any], local_ray: None) -> Swept:  # noqa: ARG001
    """Rows of plain zero-shot under every protocol of one data set, in which two images are equal and one is no image."""
    from benchmark.cli import main

    folder = tmp_path_factory.mktemp("swept")
    images = make_toy(folder / "toy", environments=3, classes=4, images=10)
    shutil.copy(images / "env1" / "dog" / "3.png", images / "env1" / "dog" / "equal.png")
    (images / "env2" / "hen" / "bad.png").write_bytes(b"no image")
    content = {
        "name": "swept",
        "datasets": [{"name": "toy", "root": str(images)}],
        "backbones": [tiny_random],
        "interventions": {"kinds": ["grayscale"]},
        "sweep": {
            "projections": ["identity"], "predictors": ["zero_shot"], "seeds": [0, 1],
            "test_splits": ["out_20", "in_80", "full"],
            "protocols": ["held_out", "held_out_pairs", "open_class", "held_out_open_class", "in_domain"],
        },
        "run": {"max_bad_images": 0.1, "store": str(folder / "store")},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(content))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("benchmark.sweep.summing.MAX_SHARE", 1e9)  # so that the store has every kind of file
        assert main(["run", str(folder / "recipe.yaml")]) == 0
    return Swept(folder / "recipe.yaml", folder / "store", images)


@dataclass(frozen=True)
class S3:
    """A bucket behind a real S3 endpoint on loopback, and a client that is not the code under test."""

    bucket: str
    client: Any
    address: str

    def upload(self, folder: Path, prefix: str) -> str:
        """Copy the files below `folder` to `prefix` and return its URI."""
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            key = f"{prefix}/{file.relative_to(folder).as_posix()}"
            self.client.put_object(Bucket=self.bucket, Key=key, Body=file.read_bytes())
        return f"s3://{self.bucket}/{prefix}"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    """An S3 server with an empty bucket."""
    boto3 = pytest.importorskip("boto3")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    client.create_bucket(Bucket="bucket")
    yield S3("bucket", client, f"{host}:{port}")
    server.stop()


@pytest.fixture
def faulty_s3(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[S3, Proxy]]:
    """The S3 server behind a proxy that fails as its `faults` say."""
    proxy = Proxy(s3.address)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{proxy.address}")
    yield s3, proxy
    proxy.shutdown()
    proxy.server_close()


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The S3 server, named by the environment as a person names one that is not Amazon's."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3_server.address}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return s3_server
