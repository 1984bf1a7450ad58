"""How fast clip-benchmark and clip-retrieval extract image features, each by its own code in an environment of its own.

    python -m tests.performance.peers FOLDER

prints one JSON line for each peer whose interpreter an environment variable names (ICM_BENCH_PEER_CLIP_BENCHMARK,
ICM_BENCH_PEER_CLIP_RETRIEVAL). To make such an environment where there is none, with the torch of this suite so that
the kernels are the same, run:

    python3.11 -m venv peers/clip-benchmark
    peers/clip-benchmark/bin/pip install clip-benchmark requests 'numpy<2.4' "torch==$TORCH" "torchvision==$TORCHVISION"
    export ICM_BENCH_PEER_CLIP_BENCHMARK=$PWD/peers/clip-benchmark/bin/python

    python3.11 -m venv peers/clip-retrieval
    peers/clip-retrieval/bin/pip install clip-retrieval "torch==$TORCH" "torchvision==$TORCHVISION"
    peers/clip-retrieval/bin/pip install 'setuptools<70'
    export ICM_BENCH_PEER_CLIP_RETRIEVAL=$PWD/peers/clip-retrieval/bin/python

clip-benchmark 1.6.2 imports requests without asking for it, and its scores make a number of an array of one, which
numpy 2.4 forbids. clip-retrieval 2.45.0 imports OpenAI's `clip`, which needs
`pkg_resources.packaging`, gone since setuptools 70; it is put back in a command of its own because torch asks for a
newer setuptools (only to compile), so that one command with both would settle on an old torch.

All use open_clip's ViT-B-32 with random weights at 224 pixels in float32 on the CPU. Beside its rate stands that of a
bare loop in the same process: the same model on the same tensors, decoded beforehand, in the same batches. The two
run in turn; where the rounds' seconds differ much, other processes shared the cores and no rate is worth quoting.

This file is also what runs inside the peer's interpreter, so it imports nothing but the standard library at its head.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

MODEL = "ViT-B-32"
DIM = 512
SIZE = 224
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}  # what both peers look for
SHARED_PACKAGES = ("torch", "torchvision", "open_clip_torch", "pillow", "numpy")
EXCLUDED = (
    "interpreter start, imports, model load, listing of the folder and a warm-up (clip-benchmark: one whole pass; "
    "clip-retrieval: its own two batches); the clock runs from the first batch requested, start of the loader's "
    "workers included, to the last feature out; scores (clip-benchmark), the final write to disk and the statistics "
    "logger (clip-retrieval) are not in it"
)


@dataclass(frozen=True)
class Peer:
    """A project with which we compare.

    Attributes:
        name: of its distribution.
        variable: the environment variable that holds the path of its Python interpreter.
        batch_size, workers: settings for two cores, where a loader's worker takes time from the encoder's threads;
            set both by the command's options to try others.
    """

    name: str
    variable: str
    batch_size: int
    workers: int

    @property
    def python(self) -> str | None:
        """The path of its interpreter; None where none is named."""
        return os.environ.get(self.variable) or None

    def measure(
        self,
        folder: Path,
        threads: int,
        limit: int | None = None,
        batch_size: int | None = None,
        workers: int | None = None,
        rounds: int = 3,
    ) -> "Measurement":
        """Run its extraction in its interpreter.

        Args:
            folder: searched for images at any depth.
            threads: of torch, in the process that encodes.
            limit: the most images to take, the first by path.
            batch_size, workers: instead of the peer's best.
            rounds: how often.

        Raises:
            RuntimeError: no interpreter is named, or the peer failed; says what it wrote last.
        """
        if self.python is None:
            raise RuntimeError(
                f"{self.variable} names no Python interpreter with {self.name}; see {Path(__file__).name}."
            )
        batch_size, workers = batch_size or self.batch_size, self.workers if workers is None else workers
        with tempfile.TemporaryDirectory() as scratch:
            lay_out(folder, Path(scratch) / "images", limit)
            command = [self.python, str(Path(__file__).absolute()), "images", "--inside", self.name]
            command += ["--threads", str(threads), "--batch-size", str(batch_size), "--workers", str(workers)]
            command += ["--rounds", str(rounds)]
            done = subprocess.run(
                command,
                cwd=scratch,
                env=os.environ | surroundings(threads),
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            raise RuntimeError(f"{self.name} failed:\n{done.stderr[-2000:]}")
        return Measurement(**json.loads(done.stdout.splitlines()[-1]))


@dataclass(frozen=True)
class Measurement:
    """What one run of a peer gave.

    Attributes:
        images: extracted.
        seconds: of the extraction in each round, see `excluded`.
        bare_seconds: of the bare loop in each round.
        images_per_s: the peer's rate in its fastest round: what else the machine does can only slow a round down.
        bare_images_per_s: that of the bare loop, likewise.
        of_bare: the first as a share of the second.
        threads, batch_size, workers: settings; workers are the loader's processes.
        versions: of the peer and of what decides its speed.
        excluded: what the seconds leave out.
    """

    peer: str
    images: int
    seconds: list[float]
    bare_seconds: list[float]
    images_per_s: float
    bare_images_per_s: float
    of_bare: float
    threads: int
    batch_size: int
    workers: int
    versions: dict[str, str]
    model: str = f"open_clip {MODEL}, random weights, {SIZE} px, float32, CPU"
    excluded: str = EXCLUDED


PEERS = (
    Peer("clip-benchmark", "ICM_BENCH_PEER_CLIP_BENCHMARK", batch_size=16, workers=0),
    Peer("clip-retrieval", "ICM_BENCH_PEER_CLIP_RETRIEVAL", batch_size=16, workers=0),
)


def surroundings(threads: int) -> dict[str, str]:
    """Return the environment variables of a run: so many threads, no GPU, no questions to a network."""
    count = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    quiet = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", "NO_ALBUMENTATIONS_UPDATE": "1"}
    return count | quiet | {"CUDA_VISIBLE_DEVICES": ""}


def lay_out(folder: Path, target: Path, limit: int | None) -> None:
    """Fill `target` with one class folder of links to the images, numbered so that all readers take them in one order."""
    found = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)[:limit]
    if not found:
        raise RuntimeError(f"{folder} holds no images.")
    (target / "all").mkdir(parents=True)
    for i, file in enumerate(found):
        (target / "all" / f"{i:06d}{file.suffix.lower()}").symlink_to(file.absolute())


# ---------------------------------------------------------------------------------- inside the peer's interpreter


@dataclass(frozen=True)
class Extraction:
    """A peer made ready.

    Attributes:
        extract: runs its loop over all images; returns the seconds and the normalised features, a tensor of shape
            (images, D), in order of path.
        encode: the model's image tower.
        transform: the peer's own, image in, tensor out.
    """

    extract: Callable[[], tuple[float, Any]]
    encode: Callable[[Any], Any]
    transform: Callable[[Any], Any]


def clip_benchmark(images: Path, checkpoint: Path, batch_size: int, workers: int) -> Extraction:
    """Run the zero-shot evaluation of clip-benchmark's command, and keep its loop over the images with what it is given.

    Its linear probe has a like loop but demands CUDA. The classifier given to it is the identity, so that no text is
    encoded and the logits are the features themselves, times 100. The data set is one of those that it reads as a
    folder of class folders. The command's own pass over the images is the warm-up.
    """
    import torch
    from clip_benchmark import cli
    from clip_benchmark.metrics import zeroshot_classification

    run = zeroshot_classification.run_classification
    ready: list[Extraction] = []

    def caught(model: Any, classifier: Any, dataloader: Any, device: str, amp: bool = True) -> Any:
        def extract() -> tuple[float, Any]:
            start = time.perf_counter()
            logits, _ = run(model, classifier, dataloader, device, amp=amp)
            return time.perf_counter() - start, logits / 100

        ready.append(Extraction(extract, model.encode_image, dataloader.dataset.transform))
        return run(model, classifier, dataloader, device, amp=amp)

    zeroshot_classification.run_classification = caught
    torch.save(torch.eye(DIM), "identity.pt")
    sys.argv = ["clip_benchmark", "eval", "--task", "zeroshot_classification", "--no_amp", "--quiet"]
    sys.argv += ["--dataset", "imagenet_sketch", "--dataset_root", str(images), "--load_clfs", "identity.pt"]
    sys.argv += ["--model", MODEL, "--pretrained", str(checkpoint), "--output", "scores.json"]
    sys.argv += ["--batch_size", str(batch_size), "--num_workers", str(workers)]
    cli.main()
    return ready[0]


def clip_retrieval(images: Path, checkpoint: Path, batch_size: int, workers: int) -> Extraction:
    """Join the reader, mapper and writer of clip-retrieval's inference by its runner.

    Its logger is left out: the process that it starts imports the package again while the first images are encoded,
    which would count against it in a short run. It warms the model up itself.
    """
    import torch
    from all_clip import load_clip
    from clip_retrieval.clip_inference.mapper import ClipMapper
    from clip_retrieval.clip_inference.reader import FilesReader
    from clip_retrieval.clip_inference.runner import Runner
    from clip_retrieval.clip_inference.writer import NumpyWriter

    name = f"open_clip:{MODEL}/{checkpoint}"
    model, transform, tokenizer = load_clip(clip_model=name, use_jit=False, warmup_batch_size=batch_size)
    enabled = {"enable_image": True, "enable_text": False, "enable_metadata": False}
    clock: dict[str, float] = {}
    found: list[Any] = []

    class Reader(FilesReader):
        def __iter__(self) -> Iterator[Any]:
            clock["start"] = time.perf_counter()
            yield from super().__iter__()

    class Mapper(ClipMapper):
        def __call__(self, item: Any) -> Any:
            mapped = super().__call__(item)
            clock["end"] = time.perf_counter()
            found.append(mapped["image_embs"])
            return mapped

    class NoLogger:
        def start(self) -> None: ...
        def end(self) -> None: ...
        def __call__(self, stats: dict[str, float]) -> None: ...

    runner = Runner(
        reader_builder=lambda sampler: Reader(
            sampler, transform, tokenizer, str(images), batch_size, workers, **enabled
        ),
        mapper_builder=lambda: Mapper(
            use_mclip=False, clip_model=name, use_jit=False, mclip_model="", warmup_batch_size=batch_size, **enabled
        ),
        writer_builder=lambda i: NumpyWriter(
            partition_id=i, output_folder=str(Path("out").absolute()), output_partition_count=1, **enabled
        ),
        logger_builder=lambda _: NoLogger(),
        output_partition_count=1,
    )

    def extract() -> tuple[float, Any]:
        found.clear()
        runner(0)
        features = torch.cat([torch.from_numpy(block).float() for block in found])
        return clock["end"] - clock["start"], features

    return Extraction(extract, model.encode_image, transform)


RUNS: dict[str, Callable[[Path, Path, int, int], Extraction]] = {
    "clip-benchmark": clip_benchmark,
    "clip-retrieval": clip_retrieval,
}


def random_checkpoint(file: Path) -> None:
    """Save random weights as a checkpoint, which both peers load as they would load any."""
    import open_clip
    import torch

    torch.manual_seed(0)
    torch.save(open_clip.create_model(MODEL, pretrained=None).state_dict(), file)


def inside(peer: str, images: Path, threads: int, batch_size: int, workers: int, rounds: int) -> Measurement:
    """Measure in this interpreter, which must have the peer; writes to the working directory.

    Raises:
        RuntimeError: the peer's features are not those of the bare loop, so that the two do not compare.
    """
    import torch
    from PIL import Image

    torch.set_num_threads(threads)
    checkpoint = Path("random.pt").absolute()
    random_checkpoint(checkpoint)
    ready = RUNS[peer](images, checkpoint, batch_size, workers)
    files = sorted(images.glob("all/*"))
    batches = torch.stack([ready.transform(Image.open(file)) for file in files]).split(batch_size)

    def bare() -> tuple[float, Any]:
        with torch.no_grad():
            start = time.perf_counter()
            blocks = [ready.encode(batch) for batch in batches]
            seconds = time.perf_counter() - start
        return seconds, torch.nn.functional.normalize(torch.cat(blocks), dim=-1)

    seconds, bare_seconds = [], []
    for _ in range(rounds):  # in turn, so that what else the machine does falls on both
        (took, features), (bare_took, expected) = ready.extract(), bare()
        if features.shape != expected.shape or not torch.allclose(features, expected, atol=1e-3):
            raise RuntimeError("the peer's features are not those of the same model on the same images.")
        seconds.append(took)
        bare_seconds.append(bare_took)
    return Measurement(
        peer=peer,
        images=len(files),
        seconds=[round(s, 3) for s in seconds],
        bare_seconds=[round(s, 3) for s in bare_seconds],
        images_per_s=round(len(files) / min(seconds), 2),
        bare_images_per_s=round(len(files) / min(bare_seconds), 2),
        of_bare=round(min(bare_seconds) / min(seconds), 3),
        threads=threads,
        batch_size=batch_size,
        workers=workers,
        versions={name: version(name) for name in (peer, *SHARED_PACKAGES)},
    )


# -------------------------------------------------------------------------------------------------------- command


def main() -> None:
    """Print one JSON line for each peer that is there."""
    parser = argparse.ArgumentParser(description="Rates of the peers' feature extraction, one JSON line each.")
    parser.add_argument("folder", type=Path, help="searched for images at any depth")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int, help="take so many images at most")
    parser.add_argument("--batch-size", type=int, help="instead of each peer's best")
    parser.add_argument("--workers", type=int, help="instead of each peer's best")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=[peer.name for peer in PEERS], help="this peer alone")
    parser.add_argument("--inside", choices=list(RUNS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        with redirect_stdout(sys.stderr):  # the peers print, and the answer must stand alone
            measured = inside(
                args.inside, args.folder.absolute(), args.threads, args.batch_size, args.workers, args.rounds
            )
        print(json.dumps(asdict(measured)))
        return
    for peer in PEERS:
        if args.only not in (None, peer.name):
            continue
        if peer.python is None:
            print(
                f"{peer.name}: {peer.variable} is not set; {Path(__file__).name} says how to make it", file=sys.stderr
            )
            continue
        measured = peer.measure(args.folder, args.threads, args.limit, args.batch_size, args.workers, args.rounds)
        print(json.dumps(asdict(measured)), flush=True)


if __name__ == "__main__":
    main()
