"""The argument parser: which commands there are, and what each takes. Does not import the commands."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from benchmark.common.code import NO_PLUGINS

RECIPE = "recipe.yaml"  # that `init` writes, and the stages read where none is named
_STORE = "folder, s3:// or gs://; default: the one in the cache folder"
# Adds a command: name, help, description if the help is not all, and the help of its recipe if it needs one.
_Command = Callable[..., argparse.ArgumentParser]
_Add = Callable[..., Any]  # the `add_argument` of a command


class _Parser(argparse.ArgumentParser):
    """A parser that prints usage errors as JSON too, with `--json`."""

    _as_json = False

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        type(self)._as_json = "--json" in (sys.argv[1:] if args is None else args)
        return super().parse_args(args, namespace)

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

    def command(name: str, about: str, description: str = "", recipe_help: str = "") -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = commands.add_parser(
            name, help=about, description=description or f"{about[0].upper()}{about[1:]}."
        )
        if recipe_help:
            added.add_argument("recipe", metavar="RECIPE", help=recipe_help)
        return added

    for add_commands in (_stages, _on_clusters, _from_rows, _demo, _projections, _interchange, _store, _setting_up):
        add_commands(command)
    for sub in commands.choices.values():
        speech = sub.add_mutually_exclusive_group()
        speech.add_argument(
            "-q", "--quiet", dest="speech", action="store_const", const="quiet", default="normal",
            help="print the result and errors alone",
        )  # fmt: skip
        speech.add_argument(
            "-v", "--verbose", dest="speech", action="store_const", const="verbose",
            help="say when what is done began, and how one came to an error (its traceback)",
        )  # fmt: skip
    return parser


def _stages(command: _Command) -> None:
    stages = (
        ("run", "embed, sweep and report"),
        ("plan", "count images, passes, trials, rows, hours and memory, and embed nothing"),
        ("embed", "embed every image and its interventions once"),
        ("sweep", "fit and evaluate all settings on the stored embeddings"),
        ("details", "write what the picks of the rules predict, image by image, for other tools"),
        ("unlabelled", "estimate accuracies of environments without labels, and the errors of estimates"),
    )
    where = "YAML file, or the name of a recipe of the package; default: %(default)s"
    for name, about in stages:
        add = command(name, about).add_argument
        add("recipe", nargs="?", default=RECIPE, metavar="RECIPE", help=where)
        _add_options(add)
        if name in ("run", "sweep"):
            _add_report_options(add)
        if name == "plan":
            said = "first measure in about 20 s, beside loading backbones, what was never measured on this machine"
            _flag(add, "--calibrate", said)
            add("--gpu", metavar="KIND", help="of GPU that embeds, as l4 or 'RTX 4090': says how long it takes")
            add("--gpus", type=_positive, metavar="N", help="how many of them; default: 1")
            said = "of an hour of a machine with one GPU: says what all costs"
            add("--price", type=_price, metavar="AMOUNT", help=said)
            add("--spot-price", type=_price, metavar="AMOUNT", help="the same of one that may be taken away")
            add("--address", metavar="URL", help="of a cluster's dashboard: says whether all fits its nodes")


def _on_clusters(command: _Command) -> None:
    sub = command(
        "submit", "run a recipe on a Ray cluster, and follow it to its end",
        "Uploads a recipe and the files that it names, and nothing beside them, and follows the job. The exit code is "
        "the job's. Submitting again follows the job that runs, or says where its results are.",
    )  # fmt: skip
    add, one_of = sub.add_argument, sub.add_mutually_exclusive_group().add_argument
    add("recipe", metavar="RECIPE", type=Path, help="YAML file; its paths go from the working directory")
    where = "of the cluster's dashboard; default: $RAY_API_SERVER_ADDRESS, $RAY_ADDRESS or http://127.0.0.1:8265"
    add("--address", metavar="URL", help=where)
    _flag(one_of, "--dry-run", "list what would be uploaded, and send nothing")
    _flag(one_of, "--stop", "stop the job that runs this recipe")
    _flag(one_of, "--again", "run it although it has succeeded")
    _add_options(add)

    add = command(
        "doctor", "check that every node of a cluster can do what a recipe asks",
        "Checks a cluster within seconds: address, token, versions; and on each node packages, GPUs, disks and, for a "
        "recipe, store, data and weights. Exit code 2 where anything is wrong.",
    ).add_argument  # fmt: skip
    add("recipe", metavar="RECIPE", nargs="?", help="YAML file; without, nodes and packages alone")
    where = "HOST:PORT as `ray start` names it, or http:// of the dashboard; default: $RAY_ADDRESS"
    add("--address", metavar="URL", help=where)
    _add_options(add)


def _from_rows(command: _Command) -> None:
    add = command(
        "report", "write tables, figures and a page from the rows that exist",
        "Writes tables, figures and a page: of one recipe or several, or of all rows that stores hold.",
    ).add_argument  # fmt: skip
    add("recipes", nargs="*", metavar="RECIPE", help="YAML files; without any, all rows of the stores")
    where = "folder, s3:// or gs:// with rows; may be given again: the rows are merged"
    add("--store", action="append", default=[], metavar="URI", dest="stores", help=where)
    _add_where(add)
    _add_set(add, "of the recipes")
    add("--out", metavar="URI", help="folder or URI of the report")
    _flag(add, "--json", "print headline, verdicts and names of files as JSON")
    _add_plugins(add)
    about = "show thumbnails of the RECIPE's images on the page; off by default: many licences of data sets do not let "
    _flag(add, "--images", f"{about}their images be passed on")
    about = "also write all tables and figures as one PDF in the paper's order, with what is published beside each"
    add("--as", choices=("paper",), dest="form", help=about)
    _add_report_options(add)

    add = command(
        "choose", "say which of the recipe's backbones to take, from the rows that exist",
        "Says which of a recipe's backbones to take: accuracy, worst environment, calibration, speed and memory of "
        "each, and which are tied with the best.", recipe_help="YAML file of two backbones or more that was run",
    ).add_argument  # fmt: skip
    _add_where(add)
    _add_options(add)


def _demo(command: _Command) -> None:
    sub = command(
        "demo", "the main job on real images that come from packages: no GPU, no account",
        "Draws the data set emoji_styles, builds the encoder MiniLiT, and runs the demo recipe.",
    )  # fmt: skip
    _add_options(sub.add_argument)
    _add_report_options(sub.add_argument)
    sub.set_defaults(recipe=None)


def _projections(command: _Command) -> None:
    only = "needed where the recipe has several"
    for name, about in (
        ("export", "fit one projection and write it as safetensors and JSON, to be used elsewhere"),
        ("diagnose", "what a projection keeps, what interventions move, how far subspaces lie apart"),
    ):
        add = command(name, about, recipe_help="YAML file whose views are embedded").add_argument
        add("--rank", type=int, metavar="K", help="number of directions kept; shrinkage has none")
        add("--projection", metavar="LABEL", help="default: icm, else the one that looks at interventions")
        add("--nuisance", metavar="NAME", help="what is weighed or shrunk; needed where there are several")
        add("--lambda", type=float, dest="lambda_", metavar="L", help=only)
        for choice in ("dataset", "backbone", "intervention-set", "normalize"):
            add(f"--{choice}", metavar="NAME", help=only)
        add("--seed", type=int, metavar="N", help="of the split; default: the recipe's first")
        add("--without", action="append", metavar="ENVIRONMENT", help="leave an environment out, as if held out")
        _add_options(add)
        _add_overwrite(add)
        if name == "export":
            add("--to", metavar="FOLDER", help="default: projection, with --fold: folded")
            about = "multiply one map of images and texts (shrinkage, sides: symmetric) into the backbone, and write a "
            _flag(add, "--fold", f"{about}checkpoint of open_clip")


def _interchange(command: _Command) -> None:
    add = command(
        "splits", "write which images are trained on and tested, for methods that are trained elsewhere",
        "Writes what every image is for under each protocol, held-out environment, split, seed and fold.",
        recipe_help="YAML file; its images must be at hand",
    ).add_argument  # fmt: skip
    add("--to", type=Path, required=True, metavar="FILE", help="ends in .parquet or .csv")
    _add_options(add)
    _add_overwrite(add)

    add = command(
        "import", "take in predictions of methods that were trained elsewhere",
        "Writes predictions of methods that were trained elsewhere as result rows: report shows them.",
        recipe_help="YAML file that was run with the same store",
    ).add_argument  # fmt: skip
    add("file", type=Path, metavar="FILE", help="predictions in .parquet or .csv, a line for each image")
    _add_options(add)

    add = command(
        "import-embeddings", "take in embeddings that exist: from there on no image and no model is needed",
        "Takes embeddings into a store, and writes a recipe of them to start with.",
    ).add_argument  # fmt: skip
    add("place", type=Path, metavar="FILE_OR_FOLDER", help="Parquet or npz, or a folder of an export")
    add("--name", required=True, metavar="NAME", help="of the data set, as recipes will call it")
    add("--backbone", metavar="LABEL", help="default: that of the file, else 'imported'")
    add("--texts", type=Path, metavar="FILE", help="texts of the classes: columns class, embedding")
    add("--logit-scale", type=float, metavar="S", help="default: that of the file, else 100")
    _flag(add, "--foreign", "ignore the record in the file of how it was made, as for a file that was edited")
    about = "columns that are called otherwise: --columns image_id=id,environment=domain,class=label,embedding=vector"
    add("--columns", nargs="+", action="extend", default=[], metavar="KEY=COLUMN", help=about)
    about = "where the recipe goes, or the one that gets the backbone too; default: NAME.yaml"
    add("--recipe", type=Path, dest="recipe_file", metavar="FILE", help=about)
    add("--store", metavar="URI", help=_STORE)
    _add_overwrite(add)
    _add_plugins(add)
    _flag(add, "--json", "print JSON")

    add = command(
        "export-embeddings", "write embeddings as files that others can read, and import-embeddings too",
        "Writes all views of a data set under a backbone, and the texts of its classes.",
        recipe_help="YAML file whose views are embedded",
    ).add_argument  # fmt: skip
    add("--to", type=Path, required=True, metavar="FOLDER", help="for embeddings.parquet, texts.parquet")
    for name in ("dataset", "backbone"):
        add(f"--{name}", metavar="NAME", help="needed where the recipe has several")
    _add_options(add)
    _add_overwrite(add)


def _store(command: _Command) -> None:
    about = "list what the store of embeddings holds, verify it, or remove what is damaged or stale"
    add = command("store", about).add_argument
    add(
        "action", nargs="?", choices=("list", "verify", "repair", "clean"), default="list",
        help="list: one line for each view; verify: read every file back; repair: remove damaged files; clean: remove "
        "them, directories of an older version and leftovers of killed writers (all of it is recomputed when needed)",
    )  # fmt: skip
    add("--store", metavar="URI", help=_STORE)
    _flag(add, "--dry-run", "with repair and clean: say what would go, and keep it")
    _flag(add, "--why", "with list: which runs made it, on what, what they did twice")
    _flag(add, "--json", "print JSON")


def _setting_up(command: _Command) -> None:
    add = command(
        "selfcheck", "hold zero-shot of a published backbone against its published accuracies",
        "Checks decoding, preprocessing, prompts and precision here against published accuracies. Where they differ, "
        "one thing after the other is tried otherwise, and the first suspect is named.",
    ).add_argument  # fmt: skip
    add("--data", metavar="URI", help="folder that holds the data set's folder")
    add("--dataset", default="PACS", metavar="NAME", help="of the catalog; default: %(default)s")
    add("--backbone", default="ViT-B-32 openai", metavar="'NAME TAG'", help="as published; default: '%(default)s'")
    about = "CSV of other published accuracies, in the form of the package's"
    add("--published", type=Path, metavar="FILE", help=about)
    _add_set(add, "of the recipe, as for run")
    add("--store", metavar="URI", help="folder, s3:// or gs:// for embeddings")
    about = "JSON of numbers and versions for a bug report; default: %(default)s"
    add("--to", type=Path, default=Path("selfcheck.json"), metavar="FILE", help=about)
    _flag(add, "--json", "print that JSON")
    _add_plugins(add)

    add = command(
        "init", "write a recipe to start with, of the images in a folder",
        "Writes a commented recipe with the environments and classes of the folder's images.",
    ).add_argument  # fmt: skip
    add("folder", metavar="FOLDER", help="of a data set, or one that holds sets of the catalog")
    add("--out", type=Path, default=Path(RECIPE), metavar="FILE", help="the recipe's file; default: %(default)s")
    _flag(add, "--json", "print JSON")

    add = command(
        "recipes", "list the recipes that come with the package, show one or copy it",
        "Lists the recipes of the package; with a NAME prints that one, or copies it to a file.",
    ).add_argument  # fmt: skip
    add("name", nargs="?", metavar="NAME", help="of a recipe")
    add("--out", type=Path, metavar="FILE", help="where the copy goes; it must not be there")
    _flag(add, "--json", "print JSON")

    add = command("datasets", "the catalog of known data sets", "List the catalog.").add_argument
    _flag(add, "--json", "print JSON")


def _flag(add: _Add, name: str, about: str) -> None:
    add(name, action="store_true", help=about)


def _add_set(add: _Add, about: str) -> None:
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help=about)


def _add_where(add: _Add) -> None:
    about = "only rows with this value: --where seed=0; given again for a column, any of its values"
    add("--where", action="append", default=[], metavar="COLUMN=VALUE", help=about)


def _add_overwrite(add: _Add) -> None:
    _flag(add, "--overwrite", "replace files that exist")


def _add_plugins(add: _Add) -> None:
    about = "import classes named as module:Class, which are code, or refuse them; by default, commands that compute "
    about += f"import them, and others do not; {NO_PLUGINS}=1 refuses them all"
    add("--plugins", action=argparse.BooleanOptionalAction, help=about)


def _add_options(add: _Add) -> None:
    _add_set(add, "override a key of the recipe; VALUE is YAML: --set sweep.seeds=[0,1]")
    add("--store", metavar="URI", help="folder, s3:// or gs:// for embeddings and rows (run.store)")
    add("--data", metavar="URI", help="folder that holds the data sets' folders (run.data)")
    add("--out", metavar="URI", help="folder or URI of the report (run.out)")
    _flag(add, "--json", "print the outcome as JSON")
    _add_plugins(add)


def _add_report_options(add: _Add) -> None:
    add(
        "--pm", choices=("images", "seeds"), default="images",
        help="what stands behind ± in tables: the standard error over test images with all their answers, or "
        "DomainBed's over seeds; default: %(default)s",
    )  # fmt: skip
    about = "within which two methods count as level; default: 1"
    add("--margin", type=_points, default=1.0, metavar="POINTS", help=about)
    add(
        "--compare", action="append", nargs=2, default=[], metavar=("METHOD", "BASELINE"),
        help="put two methods first in the answer: what each gains over plain prediction, and the one minus the other; "
        "by their names in the tables, such as 'Shrinkage + zero-shot'",
    )  # fmt: skip
    add("--against", choices=("published",), help="hold the numbers against published ones")
    about = "add a table of your own, a TableSpec; may be given again"
    add("--table", action="append", default=[], metavar="MODULE:NAME", dest="tables", help=about)
    about = "of an hour of a GPU: adds the table of costs; 0 for hours alone"
    add("--price", type=_price, metavar="AMOUNT", help=about)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0


def _points(text: str) -> float:
    if not 0 < _number(text) < 100:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of percentage points above 0 and below 100")
    return float(text)


def _price(text: str) -> float:
    if not 0 <= _number(text) < 1e9:
        raise argparse.ArgumentTypeError(f"'{text}' is no price of 0 or more")
    return float(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1_000_000:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number above 0")
    return int(text)


def _version() -> str:
    from importlib.metadata import version

    return f"icm-bench {version('icm-bench')}"
