"""Checks of published records: pure functions of records, which return one sentence for each problem.

A record is built again from its details and its answers, and compared with what it states. So a check finds every
record that contradicts itself or the records beside it. It cannot find one that is forged consistently: only running
its recipe again can, with `icm-bench reproduce`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmark.common.errors import IcmBenchError, some
from benchmark.method.evaluation.inference import ImageInterval
from benchmark.method.evaluation.multiple_testing import Gain, adjusted_gains
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.seed_variance import MIN_UNITS
from benchmark.method.evaluation.selection import IMPORTED, RULES
from benchmark.recipe.recipe import hash_of
from benchmark.results.answers import RESTORE, answered
from benchmark.results.differences import ABSENT, differences
from benchmark.results.records import Details, Number, Published, build, numbers_of

TOLERANCE = 1e-9  # of numbers that are computed again, relative to the larger of 1 and the number
IS_PLAIN, NO_VERDICT = "is plain", "cannot be said"  # verdicts besides `multiple_testing.KINDS`
_SEES_TARGET = "‡"  # mark, in labels, of methods that look at test images
_ALIKE = (  # what a method and its plain prediction have in common
    "recipe_hash", "publication", "dataset", "data_fingerprint", "encoder", "weights_fingerprint", "precision",
    "prompts", "protocol", "test_split", "class_half", "rounding", "folds", "seeds", "held_outs", "classes", "rule",
    "predictor",
)  # fmt: skip


def judged_together(publication: Sequence[tuple[Details, Sequence[Number], bool]]) -> list[Details]:
    """Return details with verdicts, given all records of one publication; see `multiple_testing`.

    Args:
        publication: details, numbers, and whether the rule kept plain prediction in every test. Details with an empty
            verdict, and records without a gain, are not judged.
    """
    gains, found = [], []
    for details, numbers, _ in publication:
        of = {number.id: number.interval for number in numbers if details.verdict}
        both = of.get("gain_in_accuracy"), of.get("gain_in_balanced_accuracy")
        gains.append(Gain(both[0], both[1]) if both[0] and both[1] else None)
    adjusted = iter(adjusted_gains([gain for gain in gains if gain]))
    for gain, (details, _, kept_plain) in zip(gains, publication, strict=True):
        if gain and isinstance(gain.metric, ImageInterval):
            one, n = next(adjusted), gain.metric.min_clusters
            why = "there is no standard error" if np.isnan(gain.metric.p) else ""
            why = f"an environment has {n} images or groups, of {MIN_UNITS} that are needed" if n < MIN_UNITS else why
            verdict = IS_PLAIN if kept_plain else NO_VERDICT if why else one.kind.replace("the metric", "accuracy")
            p = [None if np.isnan(value) else float(value) for value in (one.p_metric, one.p_balanced, one.p_both)]
            details = replace(details, verdict=verdict, why=why, family=one.family, p_holm=p[0])
            details = replace(details, p_balanced_holm=p[1], p_both_holm=p[2])
        found.append(details)
    return found


def problems_of(published: Sequence[Published], unread: bool = False) -> list[str]:
    """Return one sentence for each problem of the records of a results folder; it names the file and the remedy.

    Args:
        published: the records.
        unread: whether the folder has further records. Verdicts that need them are not checked then. Default False.
    """
    problems, known, read = list[str](), {one.path: one for one in published}, list[Published]()
    for one in published:
        try:
            _ = one.details, one.publisher, one.numbers
            read.append(one)
        except IcmBenchError as error:
            problems.append(str(error))
    sound: dict[str, list[Number]] = {}
    for one in sorted(read, key=lambda one: one.details.plain is not None):  # plain prediction first
        found = list(_of_record(one, known)) or [*_of_recipe(one.details), *_of_answers(one)]
        numbers, problem = _numbers(one, known, sound)
        found = found or ([problem] if problem else list(_rebuilt(one, numbers)))
        problems += [f"{p}." if p.startswith(one.samples) else f"{one.path}: {p}." for p in found]
        if not found:
            sound[one.path] = numbers
    families: dict[tuple[str, str], list[Published]] = {}
    for one in read:
        families.setdefault((one.details.recipe_hash, one.details.publication), []).append(one)
    for family in [] if problems else families.values():  # a verdict depends on all gains of its publication
        problems += _of_family(family, sound, unread)
    return problems


def _of_record(one: Published, known: Mapping[str, Published]) -> Iterator[str]:
    """Yield why a record is none: it is doubled, of random weights, or looks at the target unmarked."""
    details, path = one.details, one.details.path(one.model_id)
    if path != one.path and path in known:
        yield f"it holds the same result as {path}; remove one of the two"
    if details.random_weights or "RANDOM WEIGHTS" in details.encoder.upper():
        yield "its encoder has random weights, so it is no result; remove it"
    if details.rule not in RULES:
        yield f"its rule '{details.rule}' is unknown; update icm-bench"
        return
    looks = RULES[details.rule].looks_at_target or _SEES_TARGET in details.method
    if details.protocol in PROTOCOLS.names():  # else it is a user's own
        looks = looks or PROTOCOLS.component_class(details.protocol).looks_at_target
    if looks and not details.looks_at_target:
        what = f"its rule '{details.rule}', protocol '{details.protocol}' or method looks at the held-out environment"
        yield f"{what}, and looks_at_target is false; set it to true, for the record is a bound and no result"


def _of_recipe(details: Details) -> Iterator[str]:
    """Yield where details contradict the recipe in them."""
    recipe = details.recipe
    try:
        imported, prompts = recipe["datasets"][0]["layout"] == "imported", recipe["prompts"]
        asked = prompts["by_dataset"].get(details.dataset.partition(" (")[0], prompts["templates"])
        precisions = {spec["precision"] for spec in recipe["backbones"]}
        is_hashed = bool(details.shortened) or hash_of(recipe) == details.recipe_hash
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        yield f"its recipe is not one of icm-bench ({error!r}); {RESTORE}"
        return
    if not imported and isinstance(asked, list) and asked != details.prompts:
        yield f"prompts are {some(details.prompts)}, and its recipe has {some(asked)}; {RESTORE}"
    if not imported and not precisions & {details.precision, "auto"}:
        yield f"precision is {details.precision}, and its recipe has {some(sorted(precisions))}; {RESTORE}"
    if not is_hashed:
        yield f"recipe_hash is not the hash of its recipe, so one of the two was changed; {RESTORE}"


def _of_answers(one: Published) -> Iterator[str]:
    """Yield where answers are not of the classes, environments, seeds and folds that the details name."""
    if (answers := one.answers) is None:
        return
    details, lines = one.details, f"{one.samples}, line"
    outside = ~np.isin([answers.label, answers.predicted], details.classes).all(axis=0)
    if outside.any():
        at = int(outside.argmax())
        words = f"'{answers.label[at]}' or '{answers.predicted[at]}'"
        yield f"{lines} {at + 1}: {words} is not one of its {len(details.classes)} classes; {RESTORE}"
    cells = set(zip(answers.held_out.tolist(), answers.seed.tolist(), answers.fold.tolist(), strict=True))
    if len(details.held_outs) * len(details.seeds) * max(1, details.folds) > len(answers):
        yield f"{one.samples} has fewer answers than held-out environments, seeds and folds; {RESTORE}"
        return
    wanted = [(e, s, f) for e in details.held_outs for s in details.seeds for f in range(details.folds) or (-1,)]
    absent, where = [cell for cell in wanted if cell not in cells], "held-out environment {}, seed {}, fold {}"
    if environments := {*details.held_outs} - {cell[0] for cell in cells}:
        yield f"{one.samples} has no answers for the environment {some(sorted(environments))}; {RESTORE}"
    elif absent:
        yield f"{one.samples} has no answers for {where.format(*absent[0])}: a split was removed; {RESTORE}"
    elif more := cells - {*wanted}:
        yield f"{one.samples} has answers for {where.format(*min(more))}, which it does not name; {RESTORE}"
    if {*answers.half.tolist()} != ({"base", "new"} if details.class_half == "harmonic" else {details.class_half}):
        yield f"{one.samples} has answers of other classes than class_half '{details.class_half}'; {RESTORE}"
    seen: dict[tuple[Any, ...], int] = {}
    tests = zip(answers.held_out.tolist(), answers.seed.tolist(), answers.sample.tolist(), strict=True)
    for number, test in enumerate(tests, start=1):
        if seen.setdefault(test, number) != number:
            yield f"{lines} {number}: the sample {test[2]} repeats line {seen[test]}; {RESTORE}"
            return


def _numbers(one: Published, known: Mapping[str, Published], sound: Collection[str]) -> tuple[list[Number], str]:
    """Return the numbers that follow from the answers, and a problem, if any; without answers, what is stated."""
    if one.answers is None:
        return one.numbers, ""
    if one.details.plain is None:
        return numbers_of(answered([one.answers])[0]), ""
    path = f"{one.path.rpartition('/')[0]}/{one.details.plain}.json"
    plain = known.get(path)
    if plain is None or plain.answers is None:
        return one.numbers, f"the answers of plain prediction, {path}, are missing; add them"
    if path not in sound:
        return one.numbers, ""  # first its problems
    for name in _ALIKE[: -1 if one.details.projection == IMPORTED else None]:  # whose predictor is their own
        ours, theirs = getattr(one.details, name), getattr(plain.details, name)
        if ours != theirs:
            unlike = f"{name} is {ours!r:.80}, and {theirs!r:.80} in its plain prediction {path}"
            return one.numbers, f"{unlike}, so there is no gain to compute; publish both from one run"
    return numbers_of(*answered([one.answers, plain.answers])), ""


def _rebuilt(one: Published, numbers: Sequence[Number]) -> Iterator[str]:
    """Yield where a record differs from the one that its details and numbers give; of its numbers, the first."""
    names, stated = [number.id for number in numbers], [number.id for number in one.numbers]
    if names != stated:
        missing = [name for name in names if name not in stated]
        lacks = f"lacks {some(missing)}" if missing else f"has {some(stated)}"
        yield f"evaluation_results {lacks}, of the results {some(names)}; {RESTORE}"
        return
    made = build(one.details, one.publisher, numbers, one.answers)
    if made.path != one.path:
        yield f"its content belongs at {made.path}: it was moved, or its identity was changed; {RESTORE}"
        return
    if one.answers is not None:  # reading has compared the checksum with the file
        made.record["detailed_evaluation_results"]["checksum"] = one.record["detailed_evaluation_results"]["checksum"]
    numbers_that_differ = []
    for found in differences(made.record, one.record, TOLERANCE):
        place, _, rest = found.path.partition("]")
        if found.expected is ABSENT:
            yield f"it has the unknown key {found.path}; remove it, or update icm-bench"
        elif found.stated is ABSENT:
            yield f"it lacks {found.path}; {RESTORE}"
        elif place.startswith("evaluation_results["):
            where = f"{place}] ({names[int(place.rpartition('[')[2])]}){rest}"
            numbers_that_differ.append(f"{where} is {found.stated!r}, and the answers give {found.expected!r}")
        else:
            yield f"{found.path} is {found.stated!r}, and the rest of the record gives {found.expected!r}; {RESTORE}"
    if numbers_that_differ:
        more = f" ({len(numbers_that_differ) - 1} more numbers differ)" if len(numbers_that_differ) > 1 else ""
        yield f"{numbers_that_differ[0]}{more}; {RESTORE}"


def _of_family(family: Sequence[Published], numbers: Mapping[str, Sequence[Number]], unread: bool) -> Iterator[str]:
    """Yield the problems of the verdicts of one publication, whose numbers are right."""
    kept = [o.details.verdict == IS_PLAIN if o.answers is None else bool(o.answers.kept_plain.all()) for o in family]
    judged = judged_together([(one.details, numbers[one.path], k) for one, k in zip(family, kept, strict=True)])
    stated = {one.details.family for one in family if one.details.verdict}
    there = max((details.family for details in judged if details.verdict), default=0)
    if len(stated) == 1 and max(stated) > there:
        if not unread:
            problem = f"its publication has {max(stated)} gains, which are judged together, and {there} are here"
            yield f"{family[0].path}: {problem}; add the other records."
        return
    for one, details in zip(family, judged, strict=True):
        for name in ("verdict", "p_holm", "p_balanced_holm", "p_both_holm", "family", "why"):
            found = differences({name: getattr(details, name)}, {name: getattr(one.details, name)}, TOLERANCE)
            for wrong in [*found][:1]:
                yield f"{one.path}: {name} is {wrong.stated!r}, and the gains give {wrong.expected!r}; {RESTORE}."
