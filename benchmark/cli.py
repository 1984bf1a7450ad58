"""The command `icm-bench`: parses, calls, prints. Heavy packages are imported by the command that needs them."""

import argparse
import dataclasses
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from benchmark.common.code import NO_PLUGINS, importable_from
from benchmark.common.errors import EXIT_USER_ERROR, IcmBenchError, OutcomeError
from benchmark.common.failing import meant_for_user
from benchmark.common.patience import taken
from benchmark.common.places import check_working_directory
from benchmark.common.shadowing import check_shadows
from benchmark.common.speech import is_verbose, speaking, tell
from benchmark.common.stopping import exit_code, terminable
from benchmark.common.visible import one_line, safe_output

if TYPE_CHECKING:
    from benchmark.commands.choice import Choosing
    from benchmark.commands.prepare import Run
    from benchmark.commands.report import Asked, Outcome
    from benchmark.recipe.recipe import Recipe

RECIPE = "recipe.yaml"  # that `init` writes, and the stages read where none is named
STARTED = time.time()  # of the command: the time to the first embedding counts from here


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code: 0, 2 with one sentence on standard error, or that of a job."""
    with safe_output():
        return _main(argv)


def _main(argv: list[str] | None) -> int:
    args = _parser().parse_args(argv)
    with terminable(), speaking(args.speech):
        return _called(args)


def _called(args: argparse.Namespace) -> int:
    """Run the command that was asked for, and return the exit code."""
    command: Callable[[argparse.Namespace], int | None] = args.command
    if getattr(args, "no_plugins", False):
        os.environ[NO_PLUGINS] = "1"
    try:
        check_working_directory()
        check_shadows()
        with importable_from(Path.cwd(), *_recipe_folders(args)):  # the first is where a job finds modules
            return command(args) or 0
    except KeyboardInterrupt:
        _print_error("interrupted; what is finished is kept, run the same command to go on.", args)
        return exit_code()
    except BrokenPipeError:  # the reader of our output left early: `icm-bench datasets | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        meant = meant_for_user(error)
        if meant is None:
            _print_json_error(f"{type(error).__name__}: {error}", args)
            raise
        if is_verbose():
            traceback.print_exception(error)
        _print_error(one_line(str(meant)), args, told=isinstance(error, OutcomeError))
        return EXIT_USER_ERROR
    finally:
        if (again := taken()).count:
            tell(f"storage: {again.text()}")


class _Parser(argparse.ArgumentParser):
    """A parser that refuses words as JSON too, where they ask for it."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = sys.argv[1:] if args is None else args
        type(self)._as_json = "--json" in words
        return super().parse_args(args, namespace)

    _as_json = False

    def error(self, message: str) -> NoReturn:
        if self._as_json:
            print(json.dumps({"error": message}))
        super().error(message)


def _print_error(sentence: str, args: argparse.Namespace, told: bool = False) -> None:
    """Print why a command ends; with --json also as JSON, unless the outcome that was printed tells."""
    if not told:
        _print_json_error(sentence, args)
    print(f"icm-bench: {sentence}", file=sys.stderr)


def _print_json_error(sentence: str, args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps({"error": sentence}), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="icm-bench",
        description="Does a vision-language model hold up in an environment it was not trained on, and does "
        "predicting in an invariant subspace (CLIP-ICM) help?",
        epilog="Start with `icm-bench demo`: real images, no GPU, no account.",
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    stages = (
        ("run", _run, "embed, sweep and report"),
        ("plan", _plan, "count images, passes, trials, rows, hours and memory, and embed nothing"),
        ("embed", _embed, "embed every image and its interventions once"),
        ("sweep", _sweep, "fit and evaluate all settings on the stored embeddings"),
        ("details", _details, "write what the picks of the rules predict, image by image, for the report's page"),
        ("unlabelled", _unlabelled, "estimate accuracies of environments without labels, and the errors of estimates"),
    )
    for name, command, about in stages:
        sub = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        sub.add_argument("recipe", nargs="?", default=RECIPE, metavar="RECIPE", help="YAML file; default: %(default)s")
        _add_options(sub)
        if name in ("run", "sweep"):
            _add_report_options(sub)
        if name == "plan":
            sub.add_argument(
                "--calibrate", action="store_true",
                help="first measure in about 20 s, beside loading backbones, what was never measured on this machine",
            )  # fmt: skip
            _add_offer(sub)
        sub.set_defaults(command=command)
    _add_submit(commands)
    doctor = commands.add_parser(
        "doctor", help="check that every node of a cluster can do what a recipe asks",
        description="Checks a cluster within seconds: address, token, versions; and on each node packages, GPUs, disks "
        "and, for a recipe, store, data and weights. Exit code 2 where anything is wrong.",
    )  # fmt: skip
    doctor.add_argument("recipe", metavar="RECIPE", nargs="?", help="YAML file; without, nodes and packages alone")
    doctor.add_argument(
        "--address",
        metavar="URL",
        help="HOST:PORT as `ray start` names it, or http:// of the dashboard; default: $RAY_ADDRESS",
    )
    _add_options(doctor)
    doctor.set_defaults(command=_doctor)
    _add_report(commands)
    choose = commands.add_parser(
        "choose", help="say which of the recipe's backbones to take, from the rows that exist",
        description="Says which of a recipe's backbones to take: accuracy, worst environment, calibration, speed and "
        "memory of each, and which are tied with the best.",
    )  # fmt: skip
    choose.add_argument("recipe", metavar="RECIPE", help="YAML file of two backbones or more that was run")
    _add_where(choose)
    _add_options(choose)
    choose.set_defaults(command=_choose)
    demo = commands.add_parser(
        "demo", help="the main job on real images that come from packages: no GPU, no account",
        description="Draws the data set emoji_styles, builds the encoder MiniLiT, and runs the demo recipe.",
    )  # fmt: skip
    _add_options(demo)
    _add_report_options(demo)
    demo.set_defaults(command=_run, recipe=None)
    captions = commands.add_parser(
        "captions", help="caption images and have the captions rewritten: pairs of texts for interventions",
        description="Writes captions of images and rewrites of them, as the recipe's block `captions` says: pairs of "
        "texts, which the recipe reads by interventions.text.pairs. Nothing is asked twice.",
    )  # fmt: skip
    captions.add_argument("recipe", metavar="RECIPE", help="YAML file with a block `captions`")
    _add_options(captions)
    captions.set_defaults(command=_captions)
    for name, command, about in (
        ("export", _export, "fit one projection and write it as safetensors and JSON, to be used elsewhere"),
        ("diagnose", _diagnose, "what a projection keeps, what interventions move, how far subspaces lie apart"),
    ):
        sub = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        sub.add_argument("recipe", metavar="RECIPE", help="YAML file whose views are embedded")
        _add_choice(sub)
        _add_options(sub)
        _add_overwrite(sub)
        if name == "export":
            _add_export_options(sub)
        sub.set_defaults(command=command)
    splits = commands.add_parser(
        "splits", help="write which images are trained on and tested, for methods that are trained elsewhere",
        description="Writes what every image is for under each protocol, held-out environment, split, seed and fold.",
    )  # fmt: skip
    splits.add_argument("recipe", metavar="RECIPE", help="YAML file; its images must be at hand")
    splits.add_argument("--to", type=Path, required=True, metavar="FILE", help="ends in .parquet or .csv")
    _add_options(splits)
    _add_overwrite(splits)
    splits.set_defaults(command=_splits)
    imported = commands.add_parser(
        "import", help="take in predictions of methods that were trained elsewhere",
        description="Writes predictions of methods that were trained elsewhere as result rows: report shows them.",
    )  # fmt: skip
    imported.add_argument("recipe", metavar="RECIPE", help="YAML file that was run with the same store")
    imported.add_argument(
        "file", type=Path, metavar="FILE", help="predictions in .parquet or .csv, a line for each image"
    )
    _add_options(imported)
    imported.set_defaults(command=_import)
    _add_embeddings(commands)
    about = "list what the store of embeddings holds, verify it, or remove what is damaged or stale"
    upkeep = commands.add_parser("store", help=about, description=f"{about[0].upper()}{about[1:]}.")
    upkeep.add_argument(
        "action", nargs="?", choices=("list", "verify", "repair", "clean"), default="list",
        help="list: one line for each view; verify: read every file back; repair: remove damaged files; clean: remove "
        "them, directories of an older version and leftovers of killed writers (all of it is recomputed when needed)",
    )  # fmt: skip
    upkeep.add_argument("--store", metavar="URI", help="folder, s3:// or gs://; default: the one in the cache folder")
    upkeep.add_argument("--dry-run", action="store_true", help="with repair and clean: say what would go, and keep it")
    upkeep.add_argument(
        "--why", action="store_true", help="with list: which runs made it, on what, what they did twice"
    )
    upkeep.add_argument("--json", action="store_true", help="print JSON")
    upkeep.set_defaults(command=_store)
    _add_selfcheck(commands)
    _add_recipes(commands)
    datasets = commands.add_parser("datasets", help="the catalog of known data sets", description="List the catalog.")
    datasets.add_argument("--json", action="store_true", help="print JSON")
    datasets.set_defaults(command=_datasets)
    for sub in commands.choices.values():
        _add_speech(sub)
    return parser


def _add_speech(parser: argparse.ArgumentParser) -> None:
    speech = parser.add_mutually_exclusive_group()
    speech.add_argument(
        "-q", "--quiet", dest="speech", action="store_const", const="quiet", default="normal",
        help="print the result and errors alone",
    )  # fmt: skip
    speech.add_argument(
        "-v", "--verbose", dest="speech", action="store_const", const="verbose",
        help="say when what is done began, and how one came to an error (its traceback)",
    )  # fmt: skip


def _add_recipes(commands: Any) -> None:
    sub = commands.add_parser(
        "init", help="write a recipe to start with, of the images in a folder",
        description="Writes a commented recipe with the environments and classes of the folder's images.",
    )  # fmt: skip
    sub.add_argument("folder", metavar="FOLDER", help="of a data set, or one that holds sets of the catalog")
    sub.add_argument(
        "--out", type=Path, default=Path(RECIPE), metavar="FILE", help="the recipe's file; default: %(default)s"
    )
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.set_defaults(command=_init)
    sub = commands.add_parser(
        "recipes", help="list the recipes that come with the package, show one or copy it",
        description="Lists the recipes of the package; with a NAME prints that one, or copies it to a file.",
    )  # fmt: skip
    sub.add_argument("name", nargs="?", metavar="NAME", help="of a recipe")
    sub.add_argument("--out", type=Path, metavar="FILE", help="where the copy goes; it must not be there")
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.set_defaults(command=_recipes)


def _add_offer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gpu", metavar="KIND", help="of GPU that embeds, as l4 or 'RTX 4090': says how long it takes")
    parser.add_argument("--gpus", type=_positive, metavar="N", help="how many of them; default: 1")
    parser.add_argument(
        "--price", type=_price, metavar="AMOUNT", help="of an hour of a machine with one GPU: says what all costs"
    )
    parser.add_argument("--spot-price", type=_price, metavar="AMOUNT", help="the same of one that may be taken away")
    parser.add_argument("--address", metavar="URL", help="of a cluster's dashboard: says whether all fits its nodes")


def _add_submit(commands: Any) -> None:
    sub = commands.add_parser(
        "submit", help="run a recipe on a Ray cluster, and follow it to its end",
        description="Uploads a recipe and the files that it names, and nothing beside them, and follows the job. The "
        "exit code is the job's. Submitting again follows the job that runs, or says where its results are.",
    )  # fmt: skip
    sub.add_argument("recipe", metavar="RECIPE", type=Path, help="YAML file; its paths go from the working directory")
    sub.add_argument(
        "--address", metavar="URL",
        help="of the cluster's dashboard; default: $RAY_API_SERVER_ADDRESS, $RAY_ADDRESS or http://127.0.0.1:8265",
    )  # fmt: skip
    todo = sub.add_mutually_exclusive_group()
    todo.add_argument("--dry-run", action="store_true", help="list what would be uploaded, and send nothing")
    todo.add_argument("--stop", action="store_true", help="stop the job that runs this recipe")
    todo.add_argument("--again", action="store_true", help="run it although it has succeeded")
    _add_options(sub)
    sub.set_defaults(command=_submit)


def _add_embeddings(commands: Any) -> None:
    sub = commands.add_parser(
        "import-embeddings", help="take in embeddings that exist: from there on no image and no model is needed",
        description="Takes embeddings into a store, and writes a recipe of them to start with.",
    )  # fmt: skip
    sub.add_argument("place", type=Path, metavar="FILE_OR_FOLDER", help="Parquet or npz, or a folder of an export")
    sub.add_argument("--name", required=True, metavar="NAME", help="of the data set, as recipes will call it")
    sub.add_argument("--backbone", metavar="LABEL", help="default: that of the file, else 'imported'")
    sub.add_argument("--texts", type=Path, metavar="FILE", help="texts of the classes: columns class, embedding")
    sub.add_argument("--logit-scale", type=float, metavar="S", help="default: that of the file, else 100")
    sub.add_argument(
        "--foreign", action="store_true", help="leave alone what the file says of how it was made, as if edited"
    )
    sub.add_argument("--recipe", type=Path, metavar="FILE", help="where the recipe goes; default: NAME.yaml")
    sub.add_argument("--store", metavar="URI", help="folder, s3:// or gs://; default: the one in the cache folder")
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.set_defaults(command=_import_embeddings)
    sub = commands.add_parser(
        "export-embeddings", help="write embeddings as files that others can read, and import-embeddings too",
        description="Writes all views of a data set under a backbone, and the texts of its classes.",
    )  # fmt: skip
    sub.add_argument("recipe", metavar="RECIPE", help="YAML file whose views are embedded")
    sub.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="for embeddings.parquet, texts.parquet")
    for name in ("dataset", "backbone"):
        sub.add_argument(f"--{name}", metavar="NAME", help="needed where the recipe has several")
    _add_options(sub)
    _add_overwrite(sub)
    sub.set_defaults(command=_export_embeddings)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
        help="override a key of the recipe; VALUE is YAML: --set sweep.seeds=[0,1]",
    )  # fmt: skip
    parser.add_argument("--store", metavar="URI", help="folder, s3:// or gs:// for embeddings and rows (run.store)")
    parser.add_argument("--data", metavar="URI", help="folder that holds the data sets' folders (run.data)")
    parser.add_argument("--out", metavar="URI", help="folder or URI of the report (run.out)")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    _add_no_plugins(parser)


def _add_no_plugins(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-plugins", action="store_true",
        help=f"refuse classes named as module:Class, which are code and would be imported; also by {NO_PLUGINS}=1",
    )  # fmt: skip


def _add_report(commands: Any) -> None:
    sub = commands.add_parser(
        "report", help="write tables, figures and a page from the rows that exist",
        description="Writes tables, figures and a page: of one recipe or several, or of all rows that stores hold.",
    )  # fmt: skip
    sub.add_argument("recipes", nargs="*", metavar="RECIPE", help="YAML files; without any, all rows of the stores")
    sub.add_argument(
        "--store", action="append", default=[], metavar="URI", dest="stores",
        help="folder, s3:// or gs:// with rows; may be given again: the rows are merged",
    )  # fmt: skip
    _add_where(sub)
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="of the recipes")
    sub.add_argument("--out", metavar="URI", help="folder or URI of the report")
    sub.add_argument("--json", action="store_true", help="print verdicts and names of files as JSON")
    _add_no_plugins(sub)
    sub.add_argument(
        "--images", action="store_true",
        help="show thumbnails of the RECIPE's images on the page; off by default: many licences of data sets do not "
        "let their images be passed on",
    )  # fmt: skip
    sub.add_argument(
        "--as", choices=("paper",), dest="form",
        help="also write all tables and figures as one PDF in the paper's order, with what is published beside each",
    )  # fmt: skip
    _add_report_options(sub)
    sub.set_defaults(command=_report)


def _add_where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE",
        help="only rows with this value: --where seed=0; given again for a column, any of its values",
    )  # fmt: skip


def _add_selfcheck(commands: Any) -> None:
    sub = commands.add_parser(
        "selfcheck", help="hold zero-shot of a published backbone against its published accuracies",
        description="Checks decoding, preprocessing, prompts and precision here against published accuracies. Where "
        "they differ, one thing after the other is tried otherwise, and the first suspect is named.",
    )  # fmt: skip
    sub.add_argument("--data", metavar="URI", help="folder that holds the data set's folder")
    sub.add_argument("--dataset", default="PACS", metavar="NAME", help="of the catalog; default: %(default)s")
    sub.add_argument(
        "--backbone", default="ViT-B-32 openai", metavar="'NAME TAG'", help="as published; default: '%(default)s'"
    )
    sub.add_argument(
        "--published", type=Path, metavar="FILE", help="CSV of other published accuracies, in the form of the package's"
    )
    sub.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="of the recipe, as for run"
    )
    sub.add_argument("--store", metavar="URI", help="folder, s3:// or gs:// for embeddings")
    sub.add_argument(
        "--to", type=Path, default=Path("selfcheck.json"), metavar="FILE",
        help="JSON of numbers and versions for a bug report; default: %(default)s",
    )  # fmt: skip
    sub.add_argument("--json", action="store_true", help="print that JSON")
    _add_no_plugins(sub)
    sub.set_defaults(command=_selfcheck)


def _add_report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pm", choices=("images", "seeds"), default="images",
        help="what stands behind ± in tables: the standard error over test images with all their answers, or "
        "DomainBed's over seeds; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--margin", type=_points, default=1.0, metavar="POINTS",
        help="within which two methods count as level; default: 1",
    )  # fmt: skip
    parser.add_argument(
        "--compare", action="append", nargs=2, default=[], metavar=("METHOD", "BASELINE"),
        help="compare two more methods, each by its name in the tables, such as 'Shrinkage + zero-shot'",
    )  # fmt: skip
    parser.add_argument("--against", choices=("published",), help="hold the numbers against published ones")
    parser.add_argument(
        "--price", type=_price, metavar="AMOUNT", help="of an hour of a GPU: adds the table of costs; 0 for hours alone"
    )


def _points(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 100:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of percentage points above 0 and below 100")
    return value


def _positive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1_000_000:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number above 0")
    return int(text)


def _price(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"'{text}' is no price of 0 or more")
    return value


def _add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="let go what lies in the place of what is written")


def _add_export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", metavar="FOLDER", help="default: projection, with --fold: folded")
    parser.add_argument(
        "--fold", action="store_true",
        help="multiply one map of images and texts (shrinkage, sides: symmetric) into the backbone, and write a "
        "checkpoint of open_clip",
    )  # fmt: skip


def _add_choice(parser: argparse.ArgumentParser) -> None:
    only = "needed where the recipe has several"
    parser.add_argument("--rank", type=int, metavar="K", help="number of directions kept; shrinkage has none")
    parser.add_argument("--projection", metavar="LABEL", help="default: icm, else the one that looks at interventions")
    parser.add_argument("--nuisance", metavar="NAME", help="what is weighed or shrunk; needed where there are several")
    parser.add_argument("--lambda", type=float, dest="lambda_", metavar="L", help=only)
    for name in ("dataset", "backbone", "intervention-set", "normalize"):
        parser.add_argument(f"--{name}", metavar="NAME", help=only)
    parser.add_argument("--seed", type=int, metavar="N", help="of the split; default: the recipe's first")
    parser.add_argument(
        "--without", action="append", metavar="ENVIRONMENT", help="leave an environment out, as if held out"
    )


def _version() -> str:
    from importlib.metadata import version

    return f"icm-bench {version('icm-bench')}"


def _recipe(args: argparse.Namespace) -> "Recipe":
    from benchmark.commands.recipes import DEMO, packaged_recipe

    return _loaded(args.recipe or packaged_recipe(DEMO), args.overrides, store=args.store, data=args.data, out=args.out)


def _loaded(file: Path, items: list[str], **places: str | None) -> "Recipe":
    """Return the recipe of a file with what the command line says in the place of its own keys."""
    from benchmark.recipe.loading import load_recipe

    return load_recipe(file, _overrides(items, **places))


def _overrides(items: list[str], **places: str | None) -> dict[str, Any]:
    """Return dotted key of a recipe -> what the command line says of it."""
    from benchmark.common.plain import from_yaml

    overrides: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not (key and equals):
            raise IcmBenchError(f"--set {item}: write KEY=VALUE, for example --set sweep.seeds=[0,1].")
        overrides[key] = from_yaml(value, f"--set {key}=...")
    return overrides | {f"run.{key}": value for key, value in places.items() if value is not None}


@contextmanager
def _prepared(recipe: "Recipe", held_out: bool = True) -> "Iterator[Run]":
    """Give a prepared run, and Ray where the block needs it; the first backbone loads meanwhile."""
    from benchmark.commands.begin import first_backbone_loading

    with first_backbone_loading(recipe):
        from benchmark.commands.prepare import prepared

        with prepared(recipe, held_out=held_out) as run:
            yield run


def _run(args: argparse.Namespace) -> None:
    from benchmark.commands.begin import first_backbone_loading

    recipe = _recipe(args)
    with first_backbone_loading(recipe):
        from benchmark.commands.run import run

        outcome = run(recipe, began=STARTED, asked=_asked(args))
    _print_outcome(outcome, args.json)


def _submit(args: argparse.Namespace) -> int:
    from benchmark.commands.submit import stop, submission, submit

    job = submission(_recipe(args), args.recipe, _options(args), args.address)
    if args.dry_run:
        print(json.dumps(job.record(), indent=2) if args.json else job.text())
        return 0
    log = sys.stderr if args.json else sys.stdout
    ended = stop(job, args.address) if args.stop else submit(job, args.address, log, args.again)
    if args.json:
        print(json.dumps(dataclasses.asdict(ended), indent=2))
    else:
        print(f"icm-bench: {ended.text}", file=sys.stderr)
    return ended.exit_code


def _doctor(args: argparse.Namespace) -> int:
    if (args.address or "").startswith(("http://", "https://")):
        return _doctor_as_job(args)
    if args.address:
        os.environ["RAY_ADDRESS"] = args.address
    recipe = _recipe(args) if args.recipe else None
    from benchmark.commands.doctor import doctor
    from benchmark.commands.prepare import notify_on_stderr

    checked = doctor(recipe, notify_on_stderr)
    print(json.dumps(checked.record(), indent=2) if args.json else checked.text())
    for note in checked.notes:
        notify_on_stderr(f"note: {note}")
    wrong = (*checked.problems, *checked.doubts)
    for sentence in wrong:
        print(f"icm-bench: {sentence}", file=sys.stderr)
    return EXIT_USER_ERROR if wrong else 0


def _doctor_as_job(args: argparse.Namespace) -> int:
    """Check a cluster from inside, where its dashboard alone can be reached from here."""
    from benchmark.commands.submit import checking, submit

    file = Path(args.recipe) if args.recipe else None
    options = [*_options(args), *(["--json"] if args.json else [])]
    job = checking(_recipe(args) if file else None, file, options, args.address)
    return submit(job, args.address, sys.stdout, again=True).exit_code


def _recipe_folders(args: argparse.Namespace) -> list[Path]:
    files = [*getattr(args, "recipes", ()), *filter(None, [getattr(args, "recipe", None)])]
    return [Path(file).absolute().parent for file in files]


def _options(args: argparse.Namespace) -> list[str]:
    """Return the options of `_add_options` that change a recipe, as they were given."""
    places = {f"--{name}": getattr(args, name) for name in ("store", "data", "out")}
    given = [("--set", item) for item in args.overrides] + [(n, value) for n, value in places.items() if value]
    return [*(word for pair in given for word in pair), *(["--no-plugins"] if os.environ.get(NO_PLUGINS) else [])]


def _selfcheck(args: argparse.Namespace) -> None:
    from benchmark.commands.selfcheck import checked_recipe, published_in, selfcheck
    from benchmark.commands.selfchecked import write_selfcheck

    overrides = _overrides(args.overrides, data=args.data, store=args.store)
    published = published_in(args.published)
    found = selfcheck(checked_recipe(args.dataset, args.backbone, published, overrides), published)
    write_selfcheck(found, args.to)
    print(json.dumps(dataclasses.asdict(found), indent=2) if args.json else found.text())
    if found.verdict != "pass":
        raise OutcomeError(f"selfcheck: {found.verdict}; {found.detail} The numbers are in {args.to}.")


def _plan(args: argparse.Namespace) -> None:
    recipe = _recipe(args)
    from benchmark.commands.bill import Offer
    from benchmark.commands.plan import plan
    from benchmark.commands.stores import open_store

    named = {name: getattr(args, name) for name in ("gpu", "gpus", "price", "spot_price")}
    given = {name: value for name, value in named.items() if value is not None}
    offer = Offer(**given) if given else None
    planned = plan(recipe, open_store(recipe), args.calibrate, offer=offer, address=args.address)
    print(json.dumps(dataclasses.asdict(planned), indent=2) if args.json else planned.text())


def _embed(args: argparse.Namespace) -> None:
    with _prepared(_recipe(args), held_out=False) as run:
        from benchmark.commands.embed import embed_stage

        reports = embed_stage(run, STARTED)
    if args.json:
        print(json.dumps([dataclasses.asdict(report) for report in reports], indent=2))


def _sweep(args: argparse.Namespace) -> None:
    with _prepared(_recipe(args)) as run:
        from benchmark.commands.report import report_stage
        from benchmark.commands.sweep import sweep_stage

        sweep_stage(run)
    _print_outcome(report_stage(run.recipe, run.storage, run.subjects, asked=_asked(args)), args.json)


def _details(args: argparse.Namespace) -> None:
    with _prepared(_recipe(args)) as run:
        from benchmark.commands.details import details_stage

        written = details_stage(run)
    if args.json:
        print(json.dumps(dataclasses.asdict(written), indent=2))
    else:
        print(written.text())


def _unlabelled(args: argparse.Namespace) -> None:
    with _prepared(_recipe(args)) as run:
        from benchmark.commands.unlabelled import unlabelled

        written = unlabelled(run)
    print(json.dumps(written.record, indent=2) if args.json else written.text)


def _report(args: argparse.Namespace) -> None:
    from benchmark.commands.report import report_any, report_stage
    from benchmark.commands.stores import read_store, store_at

    where = _where(args.where)
    alone = args.stores[0] if len(args.stores) == 1 else None
    recipes = [_loaded(file, args.overrides, store=alone, out=args.out) for file in args.recipes]
    if not recipes and not args.stores:
        raise IcmBenchError("report needs a RECIPE or a --store URI: whose rows shall it be of?")
    if len(recipes) == 1 and len(args.stores) < 2 and not where:
        outcome = report_stage(recipes[0], read_store(recipes[0]), asked=_asked(args))
    else:
        stores = args.stores or list(dict.fromkeys(recipe.run.store for recipe in recipes))
        outcome = report_any(recipes, [store_at(uri) for uri in stores], where, _asked(args), args.out)
    _print_outcome(outcome, args.json)


def _where(items: list[str]) -> dict[str, list[str]]:
    where: dict[str, list[str]] = {}
    for item in items:
        column, equals, value = item.partition("=")
        if not (column and equals):
            raise IcmBenchError(f"--where {item}: write COLUMN=VALUE, for example --where seed=0.")
        where.setdefault(column, []).append(value)
    return where


def _asked(args: argparse.Namespace) -> "Asked":
    from benchmark.commands.report import Asked

    pairs = tuple((method, baseline) for method, baseline in args.compare)
    color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    images, paper = getattr(args, "images", False), getattr(args, "form", None) == "paper"
    return Asked(args.pm, args.margin, bool(args.against), pairs, args.price, color, images, paper)


def _print_outcome(outcome: "Outcome", as_json: bool) -> None:
    if as_json:
        print(json.dumps({k: v for k, v in dataclasses.asdict(outcome).items() if k != "text"}, indent=2))
    else:
        print(outcome.text)
    if outcome.failed:
        from benchmark.commands.report import failure_words

        raise OutcomeError(failure_words(outcome.failed, outcome.trials + len(outcome.failed)))


def _export(args: argparse.Namespace) -> None:
    recipe, folder = _recipe(args), Path(args.to or ("folded" if args.fold else "projection"))
    if not args.fold:  # which takes an empty folder alone
        _check_absent(args, folder, "--to", "projection.safetensors", "projection.json")
    with _prepared(recipe, held_out=False) as run:
        from benchmark.commands.export import export_projection

        facts = export_projection(run, _choosing(args), args.rank, folder, args.fold)
    if args.json:
        print(json.dumps(facts, indent=2))
    else:
        fitted = f"{facts['images']} images of {', '.join(facts['environments'])}"
        kept = f"{facts['rank']} of {facts['dim']} directions for {facts['backbone']}"
        what = f"{facts['backbone']} with the projection in it" if args.fold else kept
        print("\n".join([f"{facts['folder']}: {what}, fitted on {fitted}", *facts.get("notes", ())]))


def _check_absent(args: argparse.Namespace, place: str | Path, option: str, *names: str) -> None:
    """Refuse, before any work, to overwrite what the command line does not let us overwrite."""
    from benchmark.commands.new_files import check_absent

    if not args.overwrite:
        check_absent(place, option, *names)


def _diagnose(args: argparse.Namespace) -> None:
    recipe = _recipe(args)
    if recipe.run.out:  # else the folder is named by what is asked
        _check_absent(args, recipe.run.out, "--out", "diagnostics.md", "diagnostics.json")
    with _prepared(recipe, held_out=False) as run:
        from benchmark.commands.diagnose import diagnose

        diagnosis, written = diagnose(run, _choosing(args), args.rank)
    print(json.dumps(diagnosis.content(), indent=2) if args.json else f"{written.text}\nReport: {written.report}")


def _choose(args: argparse.Namespace) -> None:
    recipe = _recipe(args)
    from benchmark.commands.choose import choose
    from benchmark.commands.stores import read_store

    chosen = choose(recipe, read_store(recipe), _where(args.where))
    print(json.dumps(chosen.record, indent=2) if args.json else chosen.text)


def _captions(args: argparse.Namespace) -> None:
    recipe = _recipe(args)
    from benchmark.commands.captions import write_captions

    written = write_captions(recipe)
    print(json.dumps(dataclasses.asdict(written), indent=2) if args.json else written.text())


def _splits(args: argparse.Namespace) -> None:
    recipe = _recipe(args)
    _check_absent(args, args.to, "--to")
    from benchmark.commands.splits import write_splits

    written = write_splits(recipe, args.to)
    if args.json:
        print(json.dumps(dataclasses.asdict(written), indent=2))
    else:
        print(f"{written.file}: {written.lines} lines, {written.tests} tests")


def _import(args: argparse.Namespace) -> None:
    with _prepared(_recipe(args)) as run:
        from benchmark.commands.imports import import_predictions

        imported = import_predictions(run, args.file)
    if args.json:
        print(json.dumps(dataclasses.asdict(imported), indent=2))
    else:
        methods = ", ".join(imported.methods)
        print(f"{imported.predictions} predictions of {methods}: {imported.rows} rows, {imported.written} of them new")


def _import_embeddings(args: argparse.Namespace) -> None:
    from benchmark.commands.import_embeddings import import_embeddings
    from benchmark.commands.import_recipe import start_recipe, write_recipe
    from benchmark.commands.read_embeddings import Asked
    from benchmark.commands.stores import store_at

    asked = Asked(args.name, args.backbone, args.texts, args.logit_scale, args.foreign)
    imported, made_with = import_embeddings(store_at(args.store), args.place, asked)
    file = args.recipe or Path(f"{args.name}.yaml")
    written = write_recipe(start_recipe(imported, made_with), file)
    if args.json:
        print(json.dumps({**dataclasses.asdict(imported), "recipe": str(file), "recipe_written": written}, indent=2))
        return
    print(imported.text())
    print(f"{file}: {'a recipe to start with' if written else 'was there before, and stays as it is'}")
    print(f"Next: icm-bench run {file}{f' --store {args.store}' if args.store else ''}")


def _export_embeddings(args: argparse.Namespace) -> None:
    recipe = _recipe(args)
    _check_absent(args, args.to, "--to", "embeddings.parquet", "texts.parquet")
    with _prepared(recipe, held_out=False) as run:
        from benchmark.commands.export_embeddings import export_embeddings

        exported = export_embeddings(run, args.to, args.dataset, args.backbone)
    if args.json:
        print(json.dumps(dataclasses.asdict(exported), indent=2))
    else:
        texts = "with" if exported.texts else "without"
        print(
            f"{exported.folder}: {exported.rows} embeddings of {exported.images} images in {len(exported.views)} views"
        )
        print(f"{exported.dataset} under {exported.backbone}, {texts} texts of the classes")


def _choosing(args: argparse.Namespace) -> "Choosing":
    from benchmark.commands.choice import Choosing

    named = {field.name: getattr(args, field.name) for field in dataclasses.fields(Choosing)}
    return Choosing(**{**named, "without": tuple(args.without or ())})


def _store(args: argparse.Namespace) -> None:
    from benchmark.commands.store import tend_store

    tend_store(args.action, args.store, args.dry_run, args.json, args.why)


def _init(args: argparse.Namespace) -> None:
    from benchmark.commands.init import init_recipe
    from benchmark.commands.prepare import notify_on_stderr

    started = init_recipe(args.folder, args.out)
    for note in started.notes:
        notify_on_stderr(f"note: {note}")
    print(json.dumps(dataclasses.asdict(started), indent=2) if args.json else started.text())


def _recipes(args: argparse.Namespace) -> None:
    from benchmark.commands.recipes import about_recipes, copy_recipe, packaged_recipe

    if args.out and not args.name:
        raise IcmBenchError("recipes --out needs the NAME of the recipe to copy; `icm-bench recipes` lists them.")
    if args.out:
        copy_recipe(args.name, args.out)
        print(json.dumps({"recipe": str(args.out)}) if args.json else f"{args.out}: the recipe {args.name}")
    elif args.name:
        text = packaged_recipe(args.name).read_text(encoding="utf-8")
        print(json.dumps({"name": args.name, "text": text}) if args.json else text, end="\n" if args.json else "")
    else:
        about = about_recipes()
        width = max(map(len, about))
        lines = [f"{name:{width}}  {sentence}" for name, sentence in about.items()]
        print(json.dumps(about, indent=2) if args.json else "\n".join(lines))


def _datasets(args: argparse.Namespace) -> None:
    from benchmark.commands.datasets import list_catalog

    list_catalog(args.json)


if __name__ == "__main__":
    sys.exit(main())
