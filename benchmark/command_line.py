"""The argument parser: all commands, in the order of `COMMANDS` in cli.py, and their options. Imports no command."""

import argparse
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from benchmark.common.code import NO_PLUGINS

RECIPE = "recipe.yaml"  # `init` writes it; commands read it by default
_STORE = "folder, s3:// or gs://; default: the one in the cache folder"
# A function that adds a command. Its arguments: name, help, description (default: the help), and the help of the
# argument RECIPE, which the command has only if this help is given.
_Command = Callable[..., argparse.ArgumentParser]
_Add = Callable[..., Any]  # the `add_argument` of a command


def _number(of: Callable[[str], float], least: float, below: float, what: str) -> Callable[[str], float]:
    """Return a parser of numbers from `least` up to, but not including, `below`; error messages end in `what`."""

    def parsed(text: str) -> float:
        try:
            value = of(text)
        except ValueError:
            value = least - 1
        if not least <= value < below:
            raise argparse.ArgumentTypeError(f"'{text}' is not {what}")
        return value

    return parsed


_COUNT = _number(int, 1, 1_000_000, "a whole number above 0")
_PRICE = _number(float, 0, 1e9, "a price of 0 or more")
_POINTS = _number(float, 1e-9, 100, "a number of percentage points above 0 and below 100")


class _Parser(argparse.ArgumentParser):
    """Argument parser that, with `--json`, also prints usage errors as JSON."""

    _as_json = False

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        type(self)._as_json = "--json" in (sys.argv[1:] if args is None else args)
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        if self._as_json:
            print(json.dumps({"error": message}))
        super().error(message)


def command_parser() -> argparse.ArgumentParser:
    """Return the parser; it stores the name of the command in the attribute `command`."""
    parser = _Parser(
        prog="icm-bench",
        description="Does a vision-language model hold up in an environment it was not trained on, and does "
        "predicting in an invariant subspace (CLIP-ICM) help?",
        epilog="Start with `icm-bench demo`: real images, no GPU, no account.",
    )
    parser.add_argument("--version", action="version", version=f"icm-bench {version('icm-bench')}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")

    def command(name: str, about: str, description: str = "", recipe_help: str = "") -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = commands.add_parser(
            name, help=about, description=description or f"{about[0].upper()}{about[1:]}."
        )
        if recipe_help:
            added.add_argument("recipe", metavar="RECIPE", help=recipe_help)
        return added

    for add_commands in (
        _stages, _on_clusters, _from_rows, _demo, _projections, _interchange, _store, _results, _reproduce, _setting_up,
    ):  # fmt: skip
        add_commands(command)
    for sub in commands.choices.values():
        speech = sub.add_mutually_exclusive_group()
        for name, about in (
            ("quiet", "print only results and errors"),
            ("verbose", "print the start of each step, and tracebacks of errors"),
        ):
            how: Any = {"dest": "speech", "action": "store_const", "const": name, "default": "normal"}
            speech.add_argument(f"-{name[0]}", f"--{name}", **how, help=about)
    return parser


def _stages(command: _Command) -> None:
    stages = (
        ("run", "embed, sweep and report"),
        ("plan", "estimate passes, trials, rows, hours and memory without running anything"),
        ("embed", "embed every image and its interventions once"),
        ("sweep", "fit and evaluate all settings on the stored embeddings"),
        ("details", "write the predictions at selected points for every image, for other tools"),
        ("unlabelled", "estimate accuracy on environments without labels, and the error of the estimates"),
    )
    where = "YAML file or name of a packaged recipe; default: %(default)s"
    for name, about in stages:
        add = command(name, about).add_argument
        add("recipe", nargs="?", default=RECIPE, metavar="RECIPE", help=where)
        _add_options(add)
        if name in ("run", "sweep"):
            _add_report_options(add)
        if name == "plan":
            about = "first run a part of each stage here, about a minute for each backbone, and plan with its speeds"
            _flag(add, "--measure", about)
            # The next four are fields of `Offer` in commands/planning/machines.py; `_plan` in cli.py lists them too.
            add("--gpu", metavar="KIND", help="estimate hours for embedding on this GPU, such as l4 or 'RTX 4090'")
            add("--gpus", type=_COUNT, metavar="N", help="number of these GPUs; default: 1")
            about = "price per hour of a machine with one GPU: estimate the total cost"
            add("--price", type=_PRICE, metavar="AMOUNT", help=about)
            add("--currency", metavar="NAME", help="currency of --price, such as EUR; it is only printed")
            add("--address", metavar="URL", help="dashboard of a cluster: check that the run fits its nodes")


def _on_clusters(command: _Command) -> None:
    sub = command(
        "submit", "run a recipe on a Ray cluster, and follow the job until it ends",
        "Uploads a recipe and only the files that it names, then follows the job and returns its exit code. "
        "Submitting again follows the running job, or prints the place of its results.",
    )  # fmt: skip
    add, one_of = sub.add_argument, sub.add_mutually_exclusive_group().add_argument
    add("recipe", metavar="RECIPE", type=Path, help="YAML file; its relative paths start at the working directory")
    where = "dashboard of the cluster; default: $RAY_API_SERVER_ADDRESS, $RAY_ADDRESS or http://127.0.0.1:8265"
    add("--address", metavar="URL", help=where)
    _flag(one_of, "--dry-run", "list the files to upload, without uploading them")
    _flag(one_of, "--stop", "stop the job that runs this recipe")
    _flag(one_of, "--again", "run the recipe again although it has succeeded")
    _add_options(add)

    add = command(
        "doctor", "check that every node of a cluster can run a recipe",
        "Checks a cluster within seconds: address, token, versions; and on each node packages, GPUs, disks and, for a "
        "recipe, store, data and weights. The exit code is 2 if a check fails.",
    ).add_argument  # fmt: skip
    add("recipe", metavar="RECIPE", nargs="?", help="YAML file; without it, only nodes and packages are checked")
    where = "HOST:PORT as printed by `ray start`, or http:// URL of the dashboard; default: $RAY_ADDRESS"
    add("--address", metavar="URL", help=where)
    about = "print versions and hardware of this machine for a bug report, without names or paths; check nothing"
    _flag(add, "--report", about)
    _add_options(add)


def _from_rows(command: _Command) -> None:
    add = command(
        "report", "write tables, figures and a page from existing result rows",
        "Writes tables, figures and a page for one or several recipes, or for all rows in stores.",
    ).add_argument  # fmt: skip
    add("recipes", nargs="*", metavar="RECIPE", help="YAML files; default: all rows of the stores")
    where = "folder, s3:// or gs:// with rows; may be repeated, the rows are merged"
    add("--store", action="append", default=[], metavar="URI", dest="stores", help=where)
    _add_where(add)
    _add_set(add, "override a key of the recipes")
    add("--data", metavar="URI", help="parent folder of the data sets' folders, as in the run (run.data)")
    add("--out", metavar="URI", help="folder or URI of the report")
    _flag(add, "--json", "print headline, verdicts and file names as JSON")
    _add_plugins(add)
    about = "show thumbnails of the RECIPE's images on the page; off by default: many data set licences forbid "
    _flag(add, "--images", f"{about}redistribution of images")
    about = "also write one PDF of all tables and figures in the paper's order, next to published numbers"
    add("--as", choices=("paper",), dest="form", help=about)
    _add_report_options(add)

    add = command(
        "choose", "recommend one of the recipe's backbones, from existing result rows",
        "Recommends one of a recipe's backbones: accuracy, worst environment, calibration, speed and memory of "
        "each, and ties with the best.", recipe_help="YAML file with two or more backbones, after `run`",
    ).add_argument  # fmt: skip
    _add_where(add)
    _add_options(add)


def _demo(command: _Command) -> None:
    sub = command(
        "demo", "run the benchmark on real images from packages: no GPU, no account",
        "Draws the data set emoji_styles, builds the encoder MiniLiT, and runs the demo recipe.",
    )  # fmt: skip
    _add_options(sub.add_argument)
    _add_report_options(sub.add_argument)
    sub.set_defaults(recipe=None)


def _projections(command: _Command) -> None:  # options of the selection: fields of `Choosing` in commands/choice.py
    only = "required if the recipe has several"
    for name, about in (
        ("export", "fit one projection and write it as safetensors and JSON for other programs"),
        ("diagnose", "report spectrum, displacements by interventions and subspace angles of a projection"),
    ):
        add = command(name, about, recipe_help="YAML file with embedded views").add_argument
        add("--rank", type=int, metavar="K", help="number of directions kept; shrinkage takes none")
        add("--projection", metavar="LABEL", help="default: icm, else one that uses interventions")
        add("--nuisance", metavar="NAME", help="nuisance that is penalized or shrunk; required if there are several")
        add("--lambda", type=float, dest="lambda_", metavar="L", help=only)
        for choice in ("dataset", "backbone", "intervention-set", "normalize"):
            add(f"--{choice}", metavar="NAME", help=only)
        add("--seed", type=int, metavar="N", help="seed of the split; default: the recipe's first")
        add("--without", action="append", metavar="ENVIRONMENT", help="leave out an environment, as if held out")
        _add_options(add)
        _add_overwrite(add)
        if name == "export":
            add("--to", metavar="FOLDER", help="default: projection; with --fold, folded")
            about = "multiply a map of images and texts (shrinkage, sides: symmetric) into the backbone, and write an "
            _flag(add, "--fold", f"{about}open_clip checkpoint")


def _interchange(command: _Command) -> None:
    add = command(
        "splits", "write training and test images, for methods that are trained elsewhere",
        "Writes the role of every image under each protocol, held-out environment, split, seed and fold.",
        recipe_help="YAML file; its images must be available",
    ).add_argument  # fmt: skip
    add("--to", type=Path, required=True, metavar="FILE", help="ends in .parquet or .csv")
    _add_options(add)
    _add_overwrite(add)

    add = command(
        "import", "import predictions of methods that were trained elsewhere",
        "Writes predictions of methods that were trained elsewhere as result rows, which `report` shows.",
        recipe_help="YAML file, run with the same store",
    ).add_argument  # fmt: skip
    add("file", type=Path, metavar="FILE", help="predictions in .parquet or .csv, one line for each image")
    _add_options(add)

    add = command(
        "import-embeddings", "import existing embeddings; neither images nor models are needed then",
        "Imports embeddings into a store, and writes a first recipe for them.",
    ).add_argument  # fmt: skip
    add("place", type=Path, metavar="FILE_OR_FOLDER", help="Parquet or npz file, or a folder of export-embeddings")
    add("--name", required=True, metavar="NAME", help="name of the data set in recipes")
    add("--backbone", metavar="LABEL", help="default: the label in the file, else 'imported'")
    add("--texts", type=Path, metavar="FILE", help="texts of the classes: columns class, embedding")
    add("--logit-scale", type=float, metavar="S", help="default: the scale in the file, else 100")
    _flag(add, "--foreign", "ignore the provenance recorded in the file, for example after editing it")
    about = "columns with other names: --columns image_id=id,environment=domain,class=label,embedding=vector"
    add("--columns", nargs="+", action="extend", default=[], metavar="KEY=COLUMN", help=about)
    about = "recipe to write, or existing recipe to which the backbone is added; default: NAME.yaml"
    add("--recipe", type=Path, dest="recipe_file", metavar="FILE", help=about)
    add("--store", metavar="URI", help=_STORE)
    _add_overwrite(add)
    _add_plugins(add)
    _flag(add, "--json", "print JSON")

    add = command(
        "export-embeddings", "write embeddings to files for other tools and for import-embeddings",
        "Writes all views of a data set under a backbone, and the texts of its classes.",
        recipe_help="YAML file with embedded views",
    ).add_argument  # fmt: skip
    add("--to", type=Path, required=True, metavar="FOLDER", help="folder of embeddings.parquet and texts.parquet")
    for name in ("dataset", "backbone"):
        add(f"--{name}", metavar="NAME", help="required if the recipe has several")
    _add_options(add)
    _add_overwrite(add)


def _store(command: _Command) -> None:
    about = "list or verify the store of embeddings, or remove damaged and stale files"
    add = command("store", about).add_argument
    add(
        "action", nargs="?", choices=("list", "verify", "repair", "clean"), default="list",
        help="list: one line for each view; verify: read every file back; repair: remove damaged files; clean: remove "
        "them, directories of an older version and leftovers of killed writers (all of it is recomputed when needed)",
    )  # fmt: skip
    add("--store", metavar="URI", help=_STORE)
    _flag(add, "--dry-run", "with repair and clean: list files without removing them")
    _flag(add, "--why", "with list: also list the runs that wrote it, their devices, and repeated work")
    _flag(add, "--json", "print JSON")


def _results(command: _Command) -> None:
    add = command(
        "publish", "write the results of a recipe as records that others can check",
        "Writes one record for each data set, encoder and method in the schema of Every Eval Ever, and the answers to "
        "all tested images. Nothing is computed anew.",
        recipe_help="YAML file or name of a packaged recipe, after `run`",
    ).add_argument  # fmt: skip
    add("--to", type=Path, default=Path("results"), metavar="FOLDER", help="folder of results; default: %(default)s")
    about = "id of the encoder, or LABEL=ID for each encoder of the recipe"
    add("--model-id", action="append", default=[], metavar="DEVELOPER/MODEL", dest="model_ids", help=about)
    who = ("first_party", "third_party", "collaborative", "other")  # as in results/records.py
    add("--relationship", choices=who, help="of those who ran the evaluation to the encoder")
    add("--organization", metavar="NAME", help="who ran the evaluation")
    _add_options(add)

    add = command("results", "check published results, or compare them on one page").add_argument
    about = "check: recompute every number from the answers; board: write board.html and board.csv from the answers "
    about += "that `check` has packed"
    add("action", choices=("check", "board"), help=about)
    add("folder", type=Path, metavar="FOLDER", help="folder of `icm-bench publish --to`")
    _flag(add, "--json", "print JSON")


def _reproduce(command: _Command) -> None:
    add = command(
        "reproduce", "run the recipe of published records again, and compare",
        "Runs the recipes of published records, each once, and compares: equal but for times and names with the same "
        "weights, versions and processor, else within a tolerance. The exit code is 2 if a record differs.",
    ).add_argument  # fmt: skip
    add("records", nargs="+", type=Path, metavar="RECORD", help="JSON files of records, or results folders")
    add("--data", metavar="URI", help="parent folder of the data sets that are images in folders")
    about = "folder, s3:// or gs:// for embeddings and rows; default: a folder in the cache, removed if all is equal"
    add("--store", metavar="URI", help=about)
    _add_set(add, "give a key of the recipe, such as the place of weights: --set backbones.0.pretrained=FILE")
    _flag(add, "--json", "print JSON")
    _add_plugins(add)


def _setting_up(command: _Command) -> None:
    add = command(
        "selfcheck", "compare zero-shot accuracies of a published backbone with the published ones",
        "Checks decoding, preprocessing, prompts and precision against published accuracies. If they differ, each of "
        "these is varied in turn, and the first suspect is named.",
    ).add_argument  # fmt: skip
    add("--data", metavar="URI", help="parent folder of the data set's folder")
    add("--dataset", default="PACS", metavar="NAME", help="data set of the catalog; default: %(default)s")
    add("--backbone", default="ViT-B-32 openai", metavar="'NAME TAG'", help="as published; default: '%(default)s'")
    about = "CSV of other published accuracies, in the format of the packaged file"
    add("--published", type=Path, metavar="FILE", help=about)
    _add_set(add, "override a key of the recipe, as for run")
    add("--store", metavar="URI", help="folder, s3:// or gs:// for embeddings")
    about = "JSON with numbers and versions for a bug report; default: %(default)s"
    add("--to", type=Path, default=Path("selfcheck.json"), metavar="FILE", help=about)
    _flag(add, "--json", "print that JSON")
    _add_plugins(add)

    add = command(
        "init", "write a first recipe for the images in a folder",
        "Writes a commented recipe with the environments and classes of the folder's images.",
    ).add_argument  # fmt: skip
    add("folder", metavar="FOLDER", help="folder of a data set, or of several data sets of the catalog")
    add("--out", type=Path, default=Path(RECIPE), metavar="FILE", help="the recipe's file; default: %(default)s")
    _flag(add, "--json", "print JSON")

    add = command(
        "recipes", "list the packaged recipes, print one or copy it",
        "Lists the packaged recipes; with a NAME, prints that recipe or copies it to a file.",
    ).add_argument  # fmt: skip
    add("name", nargs="?", metavar="NAME", help="name of a recipe")
    add("--out", type=Path, metavar="FILE", help="file of the copy; must not exist")
    _flag(add, "--json", "print JSON")

    add = command("datasets", "the catalog of known data sets", "List the catalog.").add_argument
    _flag(add, "--json", "print JSON")


def _flag(add: _Add, name: str, about: str) -> None:
    add(name, action="store_true", help=about)


def _add_set(add: _Add, about: str) -> None:
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help=about)


def _add_where(add: _Add) -> None:
    about = "only rows with this value: --where seed=0; repeat it for a column to allow several values"
    add("--where", action="append", default=[], metavar="COLUMN=VALUE", help=about)


def _add_overwrite(add: _Add) -> None:
    _flag(add, "--overwrite", "replace files that exist")


def _add_plugins(add: _Add) -> None:
    about = "import classes named as module:Class (which runs their code), or refuse them; by default, only commands "
    about += f"that compute import them; {NO_PLUGINS}=1 refuses all"
    add("--plugins", action=argparse.BooleanOptionalAction, help=about)


# `_options` in cli.py passes these to a cluster job: add a new option that changes the recipe there too.
def _add_options(add: _Add) -> None:
    _add_set(add, "override a key of the recipe; VALUE is YAML: --set sweep.seeds=[0,1]")
    add("--store", metavar="URI", help="folder, s3:// or gs:// for embeddings and rows (run.store)")
    add("--data", metavar="URI", help="parent folder of the data sets' folders (run.data)")
    add("--out", metavar="URI", help="folder or URI of the report (run.out)")
    _flag(add, "--json", "print the result as JSON")
    _add_plugins(add)


# A new option also goes into `_report_options` in cli.py and `Options` in reports/analysis/settings.py.
def _add_report_options(add: _Add) -> None:
    add(
        "--pm", choices=("images", "seeds"), default="images",
        help="meaning of ± in tables: standard error over test images with all their predictions, or "
        "DomainBed's over seeds; default: %(default)s",
    )  # fmt: skip
    about = "equivalence margin between two methods; default: 1"
    add("--margin", type=_POINTS, default=1.0, metavar="POINTS", help=about)
    add(
        "--compare", action="append", nargs=2, default=[], metavar=("METHOD", "BASELINE"),
        help="start the summary with two methods: the gain of each over plain prediction, and their difference; "
        "named as in the tables, such as 'Shrinkage + zero-shot'",
    )  # fmt: skip
    add("--against", choices=("published",), help="compare the numbers with published ones")
    about = "add a custom table, a TableSpec; may be repeated"
    add("--table", action="append", default=[], metavar="MODULE:NAME", dest="tables", help=about)
    about = "price of a GPU hour: adds the table of costs; 0 for hours only"
    add("--price", type=_PRICE, metavar="AMOUNT", help=about)
