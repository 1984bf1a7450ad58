"""The words of the command line: which commands there are, and what each takes. Names commands, and knows none."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NoReturn

from benchmark.common.code import NO_PLUGINS

RECIPE = "recipe.yaml"  # that `init` writes, and the stages read where none is named
_OR_NAME = "YAML file, or the name of a recipe of the package"


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


def command_parser() -> argparse.ArgumentParser:
    """Return the parser; what it gives has the name of the command that was asked for as `command`."""
    parser = _Parser(
        prog="icm-bench",
        description="Does a vision-language model hold up in an environment it was not trained on, and does "
        "predicting in an invariant subspace (CLIP-ICM) help?",
        epilog="Start with `icm-bench demo`: real images, no GPU, no account.",
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for add in (
        _add_stages, _add_submit, _add_doctor, _add_report, _add_choose, _add_demo, _add_projections,
        _add_splits, _add_import, _add_embeddings, _add_store, _add_selfcheck, _add_recipes, _add_datasets,
    ):  # fmt: skip
        add(commands)
    for sub in commands.choices.values():
        _add_speech(sub)
    return parser


def _add_stages(commands: Any) -> None:
    stages = (
        ("run", "embed, sweep and report"),
        ("plan", "count images, passes, trials, rows, hours and memory, and embed nothing"),
        ("embed", "embed every image and its interventions once"),
        ("sweep", "fit and evaluate all settings on the stored embeddings"),
        ("details", "write what the picks of the rules predict, image by image, for other tools"),
        ("unlabelled", "estimate accuracies of environments without labels, and the errors of estimates"),
    )
    for name, about in stages:
        sub = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        sub.add_argument(
            "recipe", nargs="?", default=RECIPE, metavar="RECIPE", help=f"{_OR_NAME}; default: %(default)s"
        )
        _add_options(sub)
        if name in ("run", "sweep"):
            _add_report_options(sub)
        if name == "plan":
            sub.add_argument(
                "--calibrate", action="store_true",
                help="first measure in about 20 s, beside loading backbones, what was never measured on this machine",
            )  # fmt: skip
            _add_offer(sub)


def _add_doctor(commands: Any) -> None:
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


def _add_choose(commands: Any) -> None:
    choose = commands.add_parser(
        "choose", help="say which of the recipe's backbones to take, from the rows that exist",
        description="Says which of a recipe's backbones to take: accuracy, worst environment, calibration, speed and "
        "memory of each, and which are tied with the best.",
    )  # fmt: skip
    choose.add_argument("recipe", metavar="RECIPE", help="YAML file of two backbones or more that was run")
    _add_where(choose)
    _add_options(choose)


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser(
        "demo", help="the main job on real images that come from packages: no GPU, no account",
        description="Draws the data set emoji_styles, builds the encoder MiniLiT, and runs the demo recipe.",
    )  # fmt: skip
    _add_options(demo)
    _add_report_options(demo)
    demo.set_defaults(recipe=None)


def _add_projections(commands: Any) -> None:
    for name, about in (
        ("export", "fit one projection and write it as safetensors and JSON, to be used elsewhere"),
        ("diagnose", "what a projection keeps, what interventions move, how far subspaces lie apart"),
    ):
        sub = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        sub.add_argument("recipe", metavar="RECIPE", help="YAML file whose views are embedded")
        _add_choice(sub)
        _add_options(sub)
        _add_overwrite(sub)
        if name == "export":
            _add_export_options(sub)


def _add_splits(commands: Any) -> None:
    splits = commands.add_parser(
        "splits", help="write which images are trained on and tested, for methods that are trained elsewhere",
        description="Writes what every image is for under each protocol, held-out environment, split, seed and fold.",
    )  # fmt: skip
    splits.add_argument("recipe", metavar="RECIPE", help="YAML file; its images must be at hand")
    splits.add_argument("--to", type=Path, required=True, metavar="FILE", help="ends in .parquet or .csv")
    _add_options(splits)
    _add_overwrite(splits)


def _add_import(commands: Any) -> None:
    imported = commands.add_parser(
        "import", help="take in predictions of methods that were trained elsewhere",
        description="Writes predictions of methods that were trained elsewhere as result rows: report shows them.",
    )  # fmt: skip
    imported.add_argument("recipe", metavar="RECIPE", help="YAML file that was run with the same store")
    imported.add_argument(
        "file", type=Path, metavar="FILE", help="predictions in .parquet or .csv, a line for each image"
    )
    _add_options(imported)


def _add_store(commands: Any) -> None:
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


def _add_datasets(commands: Any) -> None:
    datasets = commands.add_parser("datasets", help="the catalog of known data sets", description="List the catalog.")
    datasets.add_argument("--json", action="store_true", help="print JSON")


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
    sub = commands.add_parser(
        "recipes", help="list the recipes that come with the package, show one or copy it",
        description="Lists the recipes of the package; with a NAME prints that one, or copies it to a file.",
    )  # fmt: skip
    sub.add_argument("name", nargs="?", metavar="NAME", help="of a recipe")
    sub.add_argument("--out", type=Path, metavar="FILE", help="where the copy goes; it must not be there")
    sub.add_argument("--json", action="store_true", help="print JSON")


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
    sub.add_argument(
        "--columns", nargs="+", action="extend", default=[], metavar="KEY=COLUMN",
        help="columns that are called otherwise: --columns image_id=id,environment=domain,class=label,embedding=vector",
    )  # fmt: skip
    sub.add_argument(
        "--recipe", type=Path, dest="recipe_file", metavar="FILE",
        help="where the recipe goes, or the one that gets the backbone too; default: NAME.yaml",
    )  # fmt: skip
    sub.add_argument("--store", metavar="URI", help="folder, s3:// or gs://; default: the one in the cache folder")
    _add_overwrite(sub)
    _add_plugins(sub)
    sub.add_argument("--json", action="store_true", help="print JSON")
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


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
        help="override a key of the recipe; VALUE is YAML: --set sweep.seeds=[0,1]",
    )  # fmt: skip
    parser.add_argument("--store", metavar="URI", help="folder, s3:// or gs:// for embeddings and rows (run.store)")
    parser.add_argument("--data", metavar="URI", help="folder that holds the data sets' folders (run.data)")
    parser.add_argument("--out", metavar="URI", help="folder or URI of the report (run.out)")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    _add_plugins(parser)


def _add_plugins(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plugins", action=argparse.BooleanOptionalAction,
        help="import classes named as module:Class, which are code, or refuse them; by default, commands that compute "
        f"import them, and others do not; {NO_PLUGINS}=1 refuses them all",
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
    sub.add_argument("--json", action="store_true", help="print headline, verdicts and names of files as JSON")
    _add_plugins(sub)
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
    _add_plugins(sub)


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
        help="put two methods first in the answer: what each gains over plain prediction, and the one minus the other; "
        "by their names in the tables, such as 'Shrinkage + zero-shot'",
    )  # fmt: skip
    parser.add_argument("--against", choices=("published",), help="hold the numbers against published ones")
    parser.add_argument(
        "--table", action="append", default=[], metavar="MODULE:NAME", dest="tables",
        help="add a table of your own, a TableSpec; may be given again",
    )  # fmt: skip
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
