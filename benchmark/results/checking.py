"""Checks of published records: pure functions of records, which return one sentence for each problem.

A record is built again from its details and its answers, and compared with what it states. So a check finds every
record that contradicts itself or the records beside it. It cannot find one that is forged consistently: only running
its recipe again can, with `icm-bench reproduce`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from benchmark.common.errors import IcmBenchError, some
from benchmark.method.evaluation.inference import ImageInterval
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.selection import RULES
from benchmark.recipe.recipe import hash_of
from benchmark.results.answers import RESTORE, Answers, answered, judge
from benchmark.results.differences import ABSENT, differences
from benchmark.results.records import Details, Number, Published, build, numbers_of

TOLERANCE = 1e-9  # of numbers that are computed again, relative to the larger of 1 and the number
_SEES_TARGET = "‡"  # mark, in labels, of methods that look at test images
_ALIKE = (  # what a method and its plain prediction have in common
    "recipe_hash", "publication", "dataset", "data_fingerprint", "encoder", "weights_fingerprint", "precision",
    "prompts", "protocol", "test_split", "class_half", "rounding", "folds", "seeds", "held_outs", "classes", "rule",
    "predictor",
)  # fmt: skip
_JUDGED = ("verdict", "p_holm", "p_balanced_holm", "p_both_holm", "family", "why")


def judged_together(publication: Sequence[tuple[Details, Sequence[Number], bool]]) -> list[Details]:
    """Return details with verdicts, given all records of one publication.

    Args:
        publication: details, numbers, and whether the rule kept plain prediction in every test. Details with an empty
            verdict, and records without a gain, are not judged.
    """
    gains = [_gains(numbers) if details.verdict else None for details, numbers, _ in publication]
    kept = [plain for gain, (_, _, plain) in zip(gains, publication, strict=True) if gain]
    judged = iter(judge([(*gain, bool(plain)) for gain, plain in zip(filter(None, gains), kept, strict=True)]))
    found = []
    for gain, (details, _, _) in zip(gains, publication, strict=True):
        if gain:
            one = next(judged)
            values = one.verdict, one.p, one.p_balanced, one.p_both, one.family, one.why
            details = replace(details, **dict(zip(_JUDGED, values, strict=True)))
        found.append(details)
    return found


def _gains(numbers: Iterable[Number]) -> tuple[ImageInterval, ImageInterval] | None:
    """Return the gains in accuracy and in class-balanced accuracy, averaged over held-out environments."""
    of = {number.id: number.interval for number in numbers}
    metric, balanced = of.get("gain_in_accuracy"), of.get("gain_in_balanced_accuracy")
    return (metric, balanced) if metric and balanced else None


def problems_of(published: Sequence[Published], unread: bool = False) -> list[str]:
    """Return one sentence for each problem of the records of a results folder; it names the file and the remedy.

    `unread`: whether the folder has further records that cannot be read. Verdicts that need them are not checked then.
    """
    problems: list[str] = []
    known = {one.path: one for one in published}
    alone = []
    for one in published:
        try:
            found = [f"{one.path}: {problem}." for problem in _of_record(one, known)]
        except IcmBenchError as error:
            found = [str(error)]
        problems += found
        alone += [] if found else [one]
    sound = {one.path: one for one in alone}
    computed: dict[str, list[Number]] = {}
    for one in alone:
        plain = None if one.details.plain is None else _beside(one, one.details.plain)
        if plain in known and plain not in sound:
            continue  # first correct plain prediction
        try:
            computed[one.path] = _numbers(one, known.get(plain or ""))
            problems += [f"{one.path}: {problem}." for problem in _of_numbers(one, computed[one.path])]
        except IcmBenchError as error:
            problems.append(str(error))
    families: dict[tuple[str, str], list[Published]] = {}
    for one in alone:
        families.setdefault((one.details.recipe_hash, one.details.publication), []).append(one)
    if not problems:  # a verdict depends on all gains of its publication
        for family in families.values():
            problems += _of_family(family, computed, unread)
    return problems


def _beside(one: Published, name: str) -> str:
    """Return the path of another record of the same encoder."""
    return f"{one.path.rpartition('/')[0]}/{name}.json"


def _of_record(one: Published, known: Mapping[str, Published]) -> Iterator[str]:
    """Yield the problems that show in a record and its answers, except in its numbers."""
    details, publisher = one.details, one.publisher
    path = details.path(one.model_id)
    if path != one.path and path in known:
        yield f"it holds the same result as {path}; remove one of the two"
        return
    weights = [str(spec.get("pretrained")) for spec in details.recipe.get("backbones", ()) if isinstance(spec, dict)]
    if details.random_weights or "RANDOM WEIGHTS" in details.encoder.upper() or weights == ["random"]:
        yield "its encoder has random weights, so it is no result; remove it"
    if details.rule not in RULES:
        yield f"its rule '{details.rule}' is unknown; update icm-bench"
        return
    looks = RULES[details.rule].looks_at_target or _SEES_TARGET in details.method
    with suppress(IcmBenchError):  # a protocol of the user's own
        looks = looks or PROTOCOLS.component_class(details.protocol).looks_at_target
    if looks and not details.looks_at_target:
        what = f"its rule '{details.rule}', protocol '{details.protocol}' or method looks at the held-out environment"
        yield f"{what}, and looks_at_target is false; mark it by true, for it is a bound and no result"
    of_recipe = list(_against_recipe(details))
    yield from of_recipe
    if one.answers is not None:
        yield from _of_answers(one, one.answers)
    if path != one.path and not of_recipe:
        yield f"its content belongs at {path}; it was moved, or its identity changed: {RESTORE}"
    expected = build(replace(details), publisher, one.numbers, one.answers).record
    if one.answers is not None:  # reading has compared it with the file
        expected["detailed_evaluation_results"]["checksum"] = one.record["detailed_evaluation_results"]["checksum"]
    for found in differences(expected, one.record, TOLERANCE):
        if found.expected is ABSENT:
            yield f"it has the unknown key {found.path}; remove it, or update icm-bench"
        elif found.stated is ABSENT:
            yield f"it lacks {found.path}; {RESTORE}"
        else:
            where = _named(one, found.path)
            yield f"{where} is {found.stated!r}, and the rest of the record gives {found.expected!r}; {RESTORE}"


def _named(one: Published, path: str) -> str:
    """Return a path with the name of its result: "evaluation_results[1] (accuracy/sketch).score_details.score"."""
    if not path.startswith("evaluation_results["):
        return path
    place, bracket, rest = path.partition("]")
    return f"{place}{bracket} ({one.numbers[int(place.partition('[')[2])].id}){rest}"


def _against_recipe(details: Details) -> Iterator[str]:
    """Yield where details contradict the recipe in them."""
    recipe = details.recipe
    try:
        imported = recipe["datasets"][0]["layout"] == "imported"
        prompts, name = recipe["prompts"], details.dataset.partition(" (")[0]
        asked = prompts["by_dataset"].get(name, prompts["templates"])
        precisions = {spec["precision"] for spec in recipe["backbones"]}
        is_hashed = hash_of(recipe) == details.recipe_hash
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        yield f"its recipe is not one of icm-bench ({error!r}); {RESTORE}"
        return
    if not imported and isinstance(asked, list) and asked != details.prompts:
        yield f"prompts are {some(details.prompts)}, and its recipe has {some(asked)}; {RESTORE}"
    if not imported and not precisions & {details.precision, "auto"}:
        yield f"precision is {details.precision}, and its recipe has {some(sorted(precisions))}; {RESTORE}"
    if not is_hashed and not details.shortened:
        yield f"recipe_hash is not the hash of its recipe, so one of the two was changed; {RESTORE}"


def _of_answers(one: Published, answers: Answers) -> Iterator[str]:
    """Yield where answers are not of the classes, environments, seeds and folds that the details name."""
    details, lines = one.details, f"{one.samples}, line"
    for name in ("label", "predicted"):
        outside = ~np.isin(getattr(answers, name), details.classes)
        if outside.any():
            at = int(outside.argmax())
            word = str(getattr(answers, name)[at])
            yield f"{lines} {at + 1}: '{word}' is not one of its {len(details.classes)} classes; {RESTORE}"
            return
    cells = set(zip(answers.held_out.tolist(), answers.seed.tolist(), answers.fold.tolist(), strict=True))
    wanted = [(e, s, f) for e in details.held_outs for s in details.seeds for f in range(details.folds) or (-1,)]
    if absent := [cell for cell in wanted if cell not in cells]:
        environments = [e for e in details.held_outs if e not in {cell[0] for cell in cells}]
        if environments:
            yield f"{one.samples} has no answers for the held-out environment {some(environments)}; {RESTORE}"
        else:
            what = "held-out environment {}, seed {}, fold {}".format(*absent[0])
            yield f"{one.samples} has no answers for {what}: a split was removed; {RESTORE}"
    elif more := cells - {*wanted}:
        what = "held-out environment {}, seed {}, fold {}".format(*min(more))
        yield f"{one.samples} has answers for {what}, which the record does not name; {RESTORE}"
    halves = {"base", "new"} if details.class_half == "harmonic" else {details.class_half}
    if {*answers.half.tolist()} != halves:
        yield f"{one.samples} has answers of other classes than class_half '{details.class_half}'; {RESTORE}"
    seen: dict[tuple[object, ...], int] = {}
    names = zip(answers.held_out.tolist(), answers.seed.tolist(), answers.sample.tolist(), strict=True)
    for number, name in enumerate(names, start=1):
        if seen.setdefault(name, number) != number:
            yield f"{lines} {number}: the sample {name[2]} repeats line {seen[name]}; {RESTORE}"
            return


def _numbers(one: Published, plain: Published | None) -> list[Number]:
    """Return the numbers that follow from the answers; those that are stated if there are none."""
    if one.answers is None:
        return one.numbers
    if one.details.plain is None:
        return numbers_of(answered([one.answers])[0], None)
    path = _beside(one, one.details.plain)
    if plain is None or plain.answers is None:
        raise IcmBenchError(f"{one.path}: the answers of plain prediction, {path}, are missing; add them.")
    for name in _ALIKE:
        ours, theirs = getattr(one.details, name), getattr(plain.details, name)
        if ours != theirs:
            problem = f"{name} is unlike that of its plain prediction {path} ({ours!r:.80}, not {theirs!r:.80})"
            raise IcmBenchError(f"{one.path}: {problem}, so no gain can be computed; publish both from one run.")
    return numbers_of(*answered([one.answers, plain.answers]))


def _of_numbers(one: Published, computed: Sequence[Number]) -> Iterator[str]:
    """Yield at most one problem: the first number that does not follow from the answers."""
    names, stated = ([number.id for number in numbers] for numbers in (computed, one.numbers))
    if names != stated:
        wrong = sorted({*names} ^ {*stated}) or stated
        yield f"evaluation_results lacks {some(wrong)}, or has it without answers; {RESTORE}"
        return
    entries = ([number.entry(one.details) for number in numbers] for numbers in (computed, one.numbers))
    found = list(differences(*entries, TOLERANCE, "evaluation_results"))
    if found:
        first, more = found[0], f" ({len(found) - 1} more differ)" if len(found) > 1 else ""
        where = _named(one, first.path)
        yield f"{where} is {first.stated!r}, and the answers give {first.expected!r}{more}; {RESTORE}"


def _of_family(family: Sequence[Published], computed: Mapping[str, Sequence[Number]], unread: bool) -> Iterator[str]:
    """Yield the problems of the verdicts of one publication, whose numbers are right."""
    parts = [(one.details, computed[one.path], _kept_plain(one)) for one in family]
    judged = judged_together(parts)
    stated, there = ({one.family for one in of if one.verdict} for of in ([one.details for one in family], judged))
    if len(stated) == 1 and max(stated) > max(there):
        if not unread:
            problem = f"its publication has {max(stated)} gains, which are judged together, and {max(there)} are here"
            yield f"{family[0].path}: {problem}; add the other records."
        return
    for one, details in zip(family, judged, strict=True):
        for name in _JUDGED:
            is_, should = getattr(one.details, name), getattr(details, name)
            if list(differences({name: should}, {name: is_}, TOLERANCE)):
                yield f"{one.path}: {name} is {is_!r}, and the answers give {should!r}; {RESTORE}."
                break


def _kept_plain(one: Published) -> bool:
    return bool(one.answers.kept_plain.all()) if one.answers is not None else one.details.verdict == "is plain"
