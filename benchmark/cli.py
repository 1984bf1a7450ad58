"""The command line `icm-bench`: parses arguments, runs one command, prints its result.

Each command imports the heavy packages that it needs. A new command is added to `COMMANDS` at the end.
"""

import argparse
import dataclasses
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.command_line import command_parser
from benchmark.common.code import NO_PLUGINS, UNASKED, importable_from
from benchmark.common.errors import EXIT_FAULT, EXIT_USER_ERROR, FaultError, IcmBenchError, OutcomeError, some
from benchmark.common.failing import outcome_of, thread_faults, write_traceback
from benchmark.common.storage.places import check_arguments, check_working_directory
from benchmark.common.storage.retries import take_retries
from benchmark.common.terminal.escaping import check_output, one_line, safe_output, shortened
from benchmark.common.terminal.progress import tell, verbosity
from benchmark.common.terminal.signals import exit_code, interrupted_by_sigterm

if TYPE_CHECKING:
    from benchmark.commands.choice import Choosing
    from benchmark.commands.preparing.prepare import Run
    from benchmark.commands.report import Options, Outcome
    from benchmark.recipe.recipe import Recipe

# Commands that compute nothing, and `reproduce`, whose recipes come from others. They import plugins (users' classes,
# named in a recipe or in rows) only with --plugins.
# tests/common/test_plugins.py requires each command without the option --plugins to be here.
READING = {
    "choose", "datasets", "doctor", "init", "plan", "publish", "recipes", "report", "reproduce", "results", "store",
}  # fmt: skip
STARTED = time.time()  # from here the time to the first embedding is counted


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code: 0, 2 after a user error, 70 after a bug, or the exit code of a job."""
    with safe_output(), interrupted_by_sigterm(), thread_faults() as faults:
        words = sys.argv[1:] if argv is None else argv
        args = argparse.Namespace(json="--json" in words, speech="normal")  # used until the arguments are parsed
        code = _run_command(words, args)
        return _report_error(faults[0], args, printed=True) if faults and not code else code


def _run_command(words: list[str], args: argparse.Namespace) -> int:
    """Parse arguments into `args`, run the command, and return the exit code."""
    try:
        check_arguments(words)
        command_parser().parse_args(words, args)
        with verbosity(args.speech):
            return _command(args)
    except KeyboardInterrupt:
        _print_error("interrupted; finished work is kept, run the same command to go on.", args)
        return exit_code()
    except BrokenPipeError:  # the reader of our output left early: `icm-bench datasets | head`
        return 141
    except Exception as error:
        outcome = outcome_of(error)
        if args.speech == "verbose" and not isinstance(outcome, FaultError):
            traceback.print_exception(error)
        return _report_error(outcome, args, printed=isinstance(error, OutcomeError))


def _command(args: argparse.Namespace) -> int:
    try:
        check_output()
        check_working_directory()
        _find_recipes(args)
        with importable_from(Path.cwd(), *_recipe_folders(args)):  # a job's modules are in the first
            _set_plugins(args)
            return COMMANDS[args.command](args) or 0
    finally:
        if (again := take_retries()).count:
            tell(f"storage: {again.text()}")


def _set_plugins(args: argparse.Namespace) -> None:
    """Set the environment variable that allows or refuses the import of plugins, which are users' own classes."""
    wanted = getattr(args, "plugins", None)
    if wanted is False:
        os.environ[NO_PLUGINS] = "1"
    elif wanted is None and args.command in READING:
        os.environ[NO_PLUGINS] = os.environ.get(NO_PLUGINS) or UNASKED


def _report_error(fault: FaultError | IcmBenchError, args: argparse.Namespace, printed: bool = False) -> int:
    """Print the message about an error of the user or a bug of this package, and return the exit code."""
    if isinstance(fault, IcmBenchError):
        _print_error(one_line(str(fault)), args, printed)
        return EXIT_USER_ERROR
    file = write_traceback(fault)
    recipe = getattr(args, "recipe", None) or next(iter(getattr(args, "recipes", ())), "")
    words = f"icm-bench {getattr(args, 'command', '')} {recipe}".strip()
    if args.speech == "verbose" or file is None:
        print(fault.trace, file=sys.stderr)
    sentence = one_line(
        f"`{words}` ended by a bug of icm-bench: {str(fault).rstrip('.')}; the traceback "
        f"{f'is in {file}' if file else 'is above'}, please report it with the output of `icm-bench doctor --report`; "
        "finished rows and embeddings are kept."
    )
    _print_error(sentence, args, printed or fault.told, kind="fault", path=file and str(file))
    return EXIT_FAULT


def _print_error(sentence: str, args: argparse.Namespace, printed: bool = False, **more: Any) -> None:
    """Print an error message on standard error; with --json also print it as JSON, unless it was `printed` already."""
    sentence = shortened(sentence)
    if args.json and not printed:
        with suppress(OSError, IcmBenchError):  # standard error gets the message anyway
            print(json.dumps({"error": sentence, **more}))
    print(f"icm-bench: {sentence}", file=sys.stderr)


def _recipe(args: argparse.Namespace) -> "Recipe":
    from benchmark.commands.recipes import DEMO, packaged_recipe

    return _loaded(args.recipe or packaged_recipe(DEMO), args.overrides, store=args.store, data=args.data, out=args.out)


def _loaded(file: Path, items: list[str], **places: str | None) -> "Recipe":
    """Return the recipe in a file, changed by the overrides of the command line."""
    from benchmark.recipe.loading import load_recipe

    return load_recipe(file, _overrides(items, **places))


def _overrides(items: list[str], **places: str | None) -> dict[str, Any]:
    """Return the values that the command line sets in the recipe, as a mapping from dotted key to value."""
    from benchmark.common.plain import from_yaml

    overrides: dict[str, Any] = {}
    for key, value in _pairs(items, "--set KEY=VALUE", "sweep.seeds=[0,1]"):
        overrides[key] = from_yaml(value, f"--set {key}=...")
    if empty := next((key for key, value in places.items() if value is not None and not value.strip()), None):
        raise IcmBenchError(f"--{empty} is empty; give a folder or URI, or leave it out.")
    return overrides | {f"run.{key}": value for key, value in places.items() if value is not None}


@contextmanager
def _prepared(recipe: "Recipe", held_out: bool = True) -> "Iterator[Run]":
    """Yield a prepared run in a block in which Ray can be used; the first backbone is loaded in the background."""
    from benchmark.commands.stores import first_backbone_loading

    with first_backbone_loading(recipe):
        from benchmark.commands.preparing.prepare import prepared

        with prepared(recipe, held_out=held_out) as run:
            yield run


def _run(args: argparse.Namespace) -> None:
    from benchmark.commands.stores import first_backbone_loading

    recipe = _recipe(args)
    with first_backbone_loading(recipe):
        from benchmark.commands.run import run

        outcome = run(recipe, began=STARTED, asked=_report_options(args))
    _print_outcome(outcome, args.json)


def _submit(args: argparse.Namespace) -> int:
    from benchmark.commands.cluster.submit import stop, submission, submit

    job = submission(_recipe(args), args.recipe, _options(args), args.address)
    if args.dry_run:
        _show(args, job.record(), job.text())
        return 0
    log = sys.stderr if args.json else sys.stdout
    ended = stop(job, args.address) if args.stop else submit(job, args.address, log, args.again)
    if args.json:
        print(json.dumps(dataclasses.asdict(ended), indent=2))
    else:
        print(f"icm-bench: {ended.text}", file=sys.stderr)
    return ended.exit_code


def _doctor(args: argparse.Namespace) -> int:
    if args.report:
        from benchmark.commands.cluster.machine_report import as_text, machine_report

        if args.recipe or args.address:
            raise IcmBenchError("doctor --report describes this machine alone: leave out RECIPE and --address.")
        report = machine_report()
        _show(args, report, as_text(report))
        return 0
    if (args.address or "").startswith(("http://", "https://")):  # the cluster checks itself, as a job
        from benchmark.commands.cluster.submit import submission, submit

        recipe, file = (_recipe(args), Path(args.recipe)) if args.recipe else (None, None)
        options = [*_options(args), *(["--json"] if args.json else [])]
        job = submission(recipe, file, options, args.address, "doctor")
        return submit(job, args.address, sys.stdout, again=True).exit_code
    if args.address:
        os.environ["RAY_ADDRESS"] = args.address
    recipe = _recipe(args) if args.recipe else None
    from benchmark.commands.cluster.doctor import doctor
    from benchmark.commands.preparing.prepare import notify_on_stderr

    checked = doctor(recipe, notify_on_stderr)
    _show(args, checked, checked.text())
    for note in checked.notes:
        notify_on_stderr(f"note: {note}")
    wrong = (*checked.problems, *checked.doubts)
    for sentence in wrong:
        print(f"icm-bench: {sentence}", file=sys.stderr)
    return EXIT_USER_ERROR if wrong else 0


def _find_recipes(args: argparse.Namespace) -> None:
    """Replace the name of a packaged recipe, such as `demo`, by its file, unless a file of that name exists."""

    def found(place: Any) -> Any:
        if not place or Path(place).suffix or Path(place).is_file():
            return place
        from benchmark.commands.recipes import packaged_recipes

        return packaged_recipes().get(str(place), place)

    if hasattr(args, "recipe"):
        args.recipe = found(args.recipe)
    if hasattr(args, "recipes"):
        args.recipes = [found(place) for place in args.recipes]


def _recipe_folders(args: argparse.Namespace) -> list[Path]:
    named = [getattr(args, "recipe", None), getattr(args, "recipe_file", None)]  # `recipe_file` is an output
    return [Path(file).absolute().parent for file in [*getattr(args, "recipes", ()), *filter(None, named)]]


def _options(args: argparse.Namespace) -> list[str]:
    """Return the options that change the recipe, as words for a cluster job; see `command_line._add_options`."""
    places = {f"--{name}": getattr(args, name) for name in ("store", "data", "out")}
    given = [("--set", item) for item in args.overrides] + [(n, value) for n, value in places.items() if value]
    refused = os.environ.get(NO_PLUGINS, "") not in ("", UNASKED)
    plugins = ["--no-plugins"] if refused else ["--plugins"] if args.plugins else []
    return [*(word for pair in given for word in pair), *plugins]


def _selfcheck(args: argparse.Namespace) -> None:
    from benchmark.commands.selfcheck import checked_recipe, published_in, selfcheck, write_selfcheck

    overrides = _overrides(args.overrides, data=args.data, store=args.store)
    published = published_in(args.published)
    found = selfcheck(checked_recipe(args.dataset, args.backbone, published, overrides), published)
    write_selfcheck(found, args.to)
    _show(args, found, found.text())
    if found.verdict != "pass":
        raise OutcomeError(f"selfcheck: {found.verdict}; {found.detail} The numbers are in {args.to}.")


def _plan(args: argparse.Namespace) -> None:
    recipe = _recipe(args)
    from benchmark.commands.planning.machines import Offer
    from benchmark.commands.planning.plan import plan
    from benchmark.commands.stores import open_store

    named = {name: getattr(args, name) for name in ("gpu", "gpus", "price", "currency")}
    given = {name: value for name, value in named.items() if value is not None}
    offer = Offer(**given) if given else None
    if args.measure:
        from benchmark.commands.planning.measuring import measure

        measure(recipe, began=STARTED)
    planned = plan(recipe, open_store(recipe), offer=offer, address=args.address)
    _show(args, planned, planned.text())


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
    _print_outcome(report_stage(run.recipe, run.storage, run.subjects, options=_report_options(args)), args.json)


def _details(args: argparse.Namespace) -> None:
    from benchmark.commands.details import write_details
    from benchmark.commands.stores import read_store

    recipe = _recipe(args)
    written = write_details(recipe, read_store(recipe))
    _show(args, written, written.text())


def _unlabelled(args: argparse.Namespace) -> None:
    with _prepared(_recipe(args)) as run:
        from benchmark.commands.unlabelled import unlabelled

        record, text = unlabelled(run)
    _show(args, record, text)


def _report(args: argparse.Namespace) -> None:
    from benchmark.commands.report import report_any, report_stage
    from benchmark.commands.stores import read_store, store_at

    where = _where(args.where)
    alone = args.stores[0] if len(args.stores) == 1 else None
    places = {"store": alone, "data": args.data, "out": args.out}
    recipes = [_loaded(file, args.overrides, **places) for file in args.recipes]
    if not recipes and not args.stores:
        raise IcmBenchError("report needs a RECIPE or --store URI to read rows from.")
    options = _report_options(args)
    if len(recipes) == 1 and len(args.stores) < 2 and not where:
        outcome = report_stage(recipes[0], read_store(recipes[0]), options=options, images=args.images)
    else:
        stores = args.stores or list(dict.fromkeys(recipe.run.store for recipe in recipes))
        outcome = report_any(recipes, [store_at(uri) for uri in stores], where, options, args.images, args.out)
    _print_outcome(outcome, args.json)


def _where(items: list[str]) -> dict[str, list[str]]:
    where: dict[str, list[str]] = {}
    for column, value in _pairs(items, "--where COLUMN=VALUE", "seed=0"):
        where.setdefault(column, []).append(value)
    return where


def _pairs(items: list[str], usage: str, example: str) -> Iterator[tuple[str, str]]:
    """Yield (key, value) of each item "key=value"; `usage` and `example` are for error messages."""
    option, form = usage.split()
    for item in items:
        key, equals, value = item.partition("=")
        if not (key and equals):
            raise IcmBenchError(f"{option} {item}: write {form}, for example {option} {example}.")
        yield key, value


def _report_options(args: argparse.Namespace) -> "Options":
    from benchmark.commands.report import Options

    return Options(
        plus_minus=args.pm,
        margin=args.margin / 100,
        compare=tuple((method, baseline) for method, baseline in args.compare),
        published=bool(args.against),
        price=args.price,
        color=sys.stdout.isatty() and "NO_COLOR" not in os.environ,
        paper=getattr(args, "form", None) == "paper",
        tables=tuple(args.tables),
    )


def _show(args: argparse.Namespace, record: Any, text: str) -> None:
    """Print the result of a command: `record` (a dataclass or a dict) as JSON with --json, else `text`."""
    if args.json:
        print(json.dumps(record if isinstance(record, dict) else dataclasses.asdict(record), indent=2))
    else:
        print(text)


def _print_outcome(outcome: "Outcome", as_json: bool) -> None:
    from benchmark.commands.report import failure

    failed = failure(outcome, outcome.trials + len(outcome.failed)) if outcome.failed else None
    if as_json:
        known = {k: v for k, v in dataclasses.asdict(outcome).items() if k not in ("text", "faults")}
        if isinstance(failed, FaultError):
            known |= {"kind": "fault", "path": str(write_traceback(failed) or "") or None}
            failed.told = True
        print(json.dumps(known, indent=2))
    else:
        print(outcome.text)
    if failed:
        raise failed


def _export(args: argparse.Namespace) -> None:
    recipe, folder = _recipe(args), Path(args.to or ("folded" if args.fold else "projection"))
    if not args.fold:  # --fold requires an empty folder
        _check_absent(args, folder, "--to", "projection.safetensors", "projection.json")
    choosing = _choosing(args, recipe)
    with _prepared(recipe, held_out=False) as run:
        from benchmark.commands.export import export_projection

        facts = export_projection(run, choosing, args.rank, folder, args.fold)
    fitted = f"{facts['images']} images of {some(facts['environments'])}"
    directions = "" if args.fold else f"{facts['rank']} of {facts['dim']} directions for {facts['backbone']}"
    what = directions or f"{facts['backbone']} with the projection in it"
    _show(args, facts, "\n".join([f"{facts['folder']}: {what}, fitted on {fitted}", *facts.get("notes", ())]))


def _check_absent(args: argparse.Namespace, place: str | Path, option: str, *names: str) -> None:
    """Refuse to continue if an output file exists and --overwrite is not given; called before any work."""
    from benchmark.commands.interchange.files import check_absent

    if not args.overwrite:
        check_absent(place, option, *names)


def _diagnose(args: argparse.Namespace) -> None:
    recipe = _recipe(args)
    if recipe.run.out:  # the other folder's name has a hash of the options
        _check_absent(args, recipe.run.out, "--out", "diagnostics.md", "diagnostics.json")
    choosing = _choosing(args, recipe)
    with _prepared(recipe, held_out=False) as run:
        from benchmark.commands.diagnose import diagnose

        diagnosis, files, text = diagnose(run, choosing, args.rank)
    _show(args, diagnosis.content(), f"{text}\nReport: {files[0]}")


def _choose(args: argparse.Namespace) -> None:
    recipe = _recipe(args)
    from benchmark.commands.choose import choose
    from benchmark.commands.stores import read_store

    chosen = choose(recipe, read_store(recipe), _where(args.where))
    _show(args, chosen.record, chosen.text)


def _splits(args: argparse.Namespace) -> None:
    recipe = _recipe(args)
    _check_absent(args, args.to, "--to")
    from benchmark.commands.interchange.splits import write_splits

    written = write_splits(recipe, args.to)
    _show(args, written, f"{written.file}: {written.lines} lines, {written.tests} tests")


def _import(args: argparse.Namespace) -> None:
    from benchmark.commands.interchange.prediction_files import read_predictions

    recipe, predictions = _recipe(args), read_predictions(args.file)
    with _prepared(recipe) as run:
        from benchmark.commands.interchange.import_predictions import import_predictions

        imported = import_predictions(run, predictions)
    what = f"{imported.predictions} predictions of {', '.join(imported.methods)}"
    _show(args, imported, f"{what}: {imported.rows} rows, {imported.written} of them new")


def _import_embeddings(args: argparse.Namespace) -> None:
    from benchmark.commands.interchange.embedding_files import columns_given
    from benchmark.commands.interchange.import_embeddings import import_embeddings, into_recipe
    from benchmark.commands.interchange.read_embeddings import ImportOptions
    from benchmark.commands.stores import store_at

    columns = columns_given(args.columns)
    asked = ImportOptions(args.name, args.backbone, args.texts, args.logit_scale, args.foreign, columns, args.overwrite)
    imported, made_with = import_embeddings(store_at(args.store), args.place, asked)
    file = args.recipe_file or Path(f"{args.name}.yaml")
    became, words = into_recipe(imported, made_with, file)
    record = {**dataclasses.asdict(imported), "recipe": str(file), "recipe_written": became in ("new", "added")}
    after = "" if became == "kept" else f"\nNext: icm-bench run {file}{f' --store {args.store}' if args.store else ''}"
    _show(args, record, f"{imported.text()}\n{file}: {words}{after}")


def _export_embeddings(args: argparse.Namespace) -> None:
    recipe = _recipe(args)
    _check_absent(args, args.to, "--to", "embeddings.parquet", "texts.parquet")
    with _prepared(recipe, held_out=False) as run:
        from benchmark.commands.interchange.export_embeddings import export_embeddings

        exported = export_embeddings(run, args.to, args.dataset, args.backbone)
    counts = f"{exported.rows} embeddings of {exported.images} images in {len(exported.views)} views"
    texts = f"{'with' if exported.texts else 'without'} texts of the classes"
    _show(args, exported, f"{exported.folder}: {counts}\n{exported.dataset} under {exported.backbone}, {texts}")


def _choosing(args: argparse.Namespace, recipe: "Recipe") -> "Choosing":
    """Return the options that select a projection; refuse values that are not in the recipe."""
    from benchmark.commands.choice import Choosing, check_asked

    named = {field.name: getattr(args, field.name) for field in dataclasses.fields(Choosing)}
    choosing = Choosing(**{**named, "without": tuple(args.without or ())})
    check_asked(recipe, choosing, args.rank)
    return choosing


def _store(args: argparse.Namespace) -> None:
    from benchmark.commands.store import tend_store

    tend_store(args.action, args.store, args.dry_run, args.json, args.why)


def _publish(args: argparse.Namespace) -> None:
    from benchmark.commands.results.publish import publish, publisher
    from benchmark.commands.stores import read_store

    recipe, about = _recipe(args), publisher(args.model_ids, args.relationship, args.organization)
    done = publish(recipe, read_store(recipe), about, args.to)
    _show(args, done, f"{len(done['records'])} records, {len(done['written'])} files written or changed")


def _results(args: argparse.Namespace) -> int:
    if args.action == "check":
        from benchmark.commands.results.check import check_results

        checked, text = check_results(args.folder)
        _show(args, checked, text)
        for problem in checked["problems"]:
            print(f"icm-bench: {shortened(one_line(problem))}", file=sys.stderr)
        return EXIT_USER_ERROR if checked["problems"] else 0
    from benchmark.commands.results.board import write_board

    _show(args, *write_board(args.folder))
    return 0


def _init(args: argparse.Namespace) -> None:
    from benchmark.commands.init import init_recipe
    from benchmark.commands.preparing.prepare import notify_on_stderr

    started = init_recipe(args.folder, args.out)
    for note in started.notes:
        notify_on_stderr(f"note: {note}")
    _show(args, started, started.text())


def _reproduce(args: argparse.Namespace) -> None:
    overrides = _overrides(args.overrides, data=args.data, store=args.store)
    from benchmark.commands.results.reproduce import reproduce

    outcome = reproduce(args.records, overrides)
    _show(args, outcome.record(), outcome.text())
    if outcome.failure:
        raise OutcomeError(outcome.failure)


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
        _show(args, about, "\n".join(lines))


def _datasets(args: argparse.Namespace) -> None:
    from benchmark.commands.datasets import list_catalog

    list_catalog(args.json)


# A new command also needs a parser in command_line.py, in this order. If it computes nothing, add it to `READING` too.
COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "run": _run,
    "plan": _plan,
    "embed": _embed,
    "sweep": _sweep,
    "details": _details,
    "unlabelled": _unlabelled,
    "submit": _submit,
    "doctor": _doctor,
    "report": _report,
    "choose": _choose,
    "demo": _run,
    "export": _export,
    "diagnose": _diagnose,
    "splits": _splits,
    "import": _import,
    "import-embeddings": _import_embeddings,
    "export-embeddings": _export_embeddings,
    "store": _store,
    "publish": _publish,
    "results": _results,
    "reproduce": _reproduce,
    "selfcheck": _selfcheck,
    "init": _init,
    "recipes": _recipes,
    "datasets": _datasets,
}


if __name__ == "__main__":
    sys.exit(main())
