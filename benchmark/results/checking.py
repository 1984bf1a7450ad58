"""Checks of published records: pure functions of records, which return the first problem of each in one sentence.

Every record is rebuilt from its details and its answers, and compared with the file. So a check finds records that
contradict themselves or other records of the folder. It does not find a record that is forged consistently: this takes
`icm-bench reproduce`, which runs the recipe.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from benchmark.common.errors import some
from benchmark.method.evaluation.multiple_testing import Gain, adjusted_gains
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.seed_variance import MIN_UNITS
from benchmark.method.evaluation.selection import IMPORTED, RULES
from benchmark.recipe.recipe import hash_of
from benchmark.results.answers import RESTORE, answered
from benchmark.results.differences import differences
from benchmark.results.records import IDENTITY, Details, Number, Published, numbers_of

TOLERANCE = 1e-9  # of numbers that are computed again, relative to the larger of 1 and the number
MAX_NAME = 200  # characters of a method's name
IS_PLAIN, NO_VERDICT = "is plain", "cannot be said"  # verdicts besides `multiple_testing.KINDS`
_SEES_TARGET = "‡"  # mark, in labels, of methods that look at test images
# What a method and its plain prediction have in common; the predictor only if predictions are not imported.
_ALIKE = {*IDENTITY, "seeds", "held_outs", "classes", "rule"} - {"projection", "order", "variant"}


def judged_together(publication: Sequence[Published]) -> list[Published]:
    """Return all records of one publication with their verdicts; see `multiple_testing`.

    Details with an empty verdict, and records without a gain, are not judged.
    """
    gains, found = dict[int, tuple[Number, Number]](), [*publication]
    for place, one in enumerate(publication):
        of = {number.id: number for number in one.numbers if one.details.verdict}
        if "gain_in_accuracy" in of and "gain_in_balanced_accuracy" in of:
            gains[place] = of["gain_in_accuracy"], of["gain_in_balanced_accuracy"]
    adjusted = adjusted_gains([Gain(*both) for both in gains.values()])
    for (place, (gain, _)), judged in zip(gains.items(), adjusted, strict=True):
        one, n = publication[place], gain.min_clusters
        kept_plain = one.details.verdict == IS_PLAIN if one.answers is None else one.answers["kept_plain"].all()
        why = "there is no standard error" if np.isnan(gain.p) else ""
        why = f"an environment has {n} images or groups, of {MIN_UNITS} that are needed" if n < MIN_UNITS else why
        verdict = IS_PLAIN if kept_plain else NO_VERDICT if why else judged.kind.replace("the metric", "accuracy")
        p = [None if np.isnan(value) else float(value) for value in (judged.p_metric, judged.p_balanced, judged.p_both)]
        details = replace(one.details, verdict=verdict, why=why, family=judged.family, p_holm=p[0])
        found[place] = replace(one, details=replace(details, p_balanced_holm=p[1], p_both_holm=p[2]))
    return found


def problems_of(published: Sequence[Published], label_of: Callable[[Details], str], unread: bool = False) -> list[str]:
    """Return one sentence for each record of a results folder with a problem: the file, its first problem, the remedy.

    Args:
        published: the records.
        label_of: returns the label that a method has in reports; empty for a method with a part from outside this
            package.
        unread: whether the folder has further records. Verdicts that need them are not checked then. Default False.
    """
    known, problems = {one.path: one for one in published}, dict[str, str]()
    for one in sorted(published, key=lambda one: one.details.plain is not None):  # plain prediction first
        named = _of_method(one.details, label_of(one.details))
        checks = (
            _of_record(one, known),
            named,
            _of_recipe(one.details),
            _of_answers(one),
            _of_numbers(one, known, problems),
        )
        if problem := next((problem for check in checks for problem in check), ""):
            problems[one.path] = problem
    families: dict[tuple[str, str], list[Published]] = {}
    for one in published if not problems else ():  # a verdict depends on all gains of its publication
        families.setdefault((one.details.recipe_hash, one.details.publication), []).append(one)
    for family in families.values():
        problems |= _of_family(family, unread)
    return [f"{path}: {problem}." for path, problem in problems.items()]


def _of_record(one: Published, known: Collection[str]) -> Iterator[str]:
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


def _of_method(details: Details, label: str) -> Iterator[str]:
    """Yield why the name of the method is none, or is that of another method; `label` is empty if it is unknown."""
    if problem := unsound_name(details.method):
        yield f"its method {details.method!r:.80} {problem}; {RESTORE}"
    parts = [f"projection {details.projection}", details.variant, details.order, f"predictor {details.predictor}"]
    if label and label != details.method:
        given = ", ".join(part for part in parts if part)
        yield f"method is '{details.method}', and {given} give '{label}'; {RESTORE}, or update icm-bench"


def unsound_name(name: str) -> str:
    """Return why a text cannot be the name of a method in tables and pages; empty if it can."""
    if not 0 < len(name.strip()) <= MAX_NAME or not name.isprintable():
        return f"is empty, longer than {MAX_NAME} characters, or has characters that cannot be printed"
    return "has < or >, which begin and end markup" if {"<", ">"} & {*name} else ""


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
    details, line = one.details, f"{one.samples.rpartition('/')[2]}, line"
    outside = ~answers[["label", "predicted"]].isin(details.classes).all(axis=1)
    for at in np.flatnonzero(outside).tolist():
        words = f"'{answers['label'][at]}' or '{answers['predicted'][at]}'"
        yield f"{line} {at + 1}: {words} is not one of its {len(details.classes)} classes; {RESTORE}"
    for at in np.flatnonzero(answers.duplicated(["held_out", "seed", "sample"])).tolist():
        yield f"{line} {at + 1}: the sample {answers['sample'][at]} repeats an earlier line; {RESTORE}"
    tested = set(answers[["held_out", "seed", "fold"]].itertuples(index=False, name=None))
    environments, where = {split[0] for split in tested}, "held-out environment {}, seed {}, fold {}"
    folds = range(details.folds) or (-1,)
    for split in ((e, s, f) for e in details.held_outs for s in details.seeds for f in folds):
        if split[0] not in environments:
            yield f"it has no answers for the environment {split[0]}; {RESTORE}"
        if split not in tested:
            yield f"it has no answers for {where.format(*split)}: a split was removed; {RESTORE}"
    for e, s, f in sorted(tested):
        if e not in details.held_outs or s not in details.seeds or f not in folds:
            yield f"it has answers for {where.format(e, s, f)}, which it does not name; {RESTORE}"
    if {*answers["half"]} != ({"base", "new"} if details.class_half == "harmonic" else {details.class_half}):
        yield f"it has answers of other classes than class_half '{details.class_half}'; {RESTORE}"


def _of_numbers(one: Published, known: Mapping[str, Published], unsound: Collection[str]) -> Iterator[str]:
    """Yield where a record differs from the one that its details and answers give; first, why they give none."""
    answers, path = [] if one.answers is None else [one.answers], ""
    if answers and one.details.plain is not None:
        path = f"{one.path.rpartition('/')[0]}/{one.details.plain}.json"
        plain = known.get(path)
        if plain is None or plain.answers is None:
            yield f"the answers of plain prediction, {path}, are missing or cannot be read; add them"
            return
        answers.append(plain.answers)
        for name in sorted(_ALIKE - ({"predictor"} if one.details.projection == IMPORTED else set())):
            ours, theirs = getattr(one.details, name), getattr(plain.details, name)
            if ours != theirs and path not in unsound:
                unlike = f"{name} is {ours!r:.80}, and {theirs!r:.80} in its plain prediction {path}"
                yield f"{unlike}, so there is no gain to compute; publish both from one run"
    if (place := one.details.path(one.model_id)) != one.path:
        yield f"its content belongs at {place}: it was moved, or its identity was changed; {RESTORE}"
    made = replace(one, numbers=numbers_of(*answered(answers))) if answers and path not in unsound else one
    wrong = [*differences(made.record, one.stated, TOLERANCE)]
    for first in wrong:
        more = f" ({len(wrong) - 1} more values differ)" if len(wrong) > 1 else ""
        stated = f"{first.path} is {first.stated!r:.80}, and details and answers give {first.expected!r:.80}{more}"
        yield f"{stated}; {RESTORE}, or update icm-bench"


def _of_family(family: Sequence[Published], unread: bool) -> dict[str, str]:
    """Return path -> problem of the verdicts of one publication, whose numbers are right."""
    judged = judged_together(family)
    stated = {one.details.family for one in family if one.details.verdict}
    there = max((one.details.family for one in judged if one.details.verdict), default=0)
    if len(stated) == 1 and max(stated) > there:
        problem = f"its publication has {max(stated)} gains, which are judged together, and {there} are here"
        return {} if unread else {family[0].path: f"{problem}; add the other records"}
    found: dict[str, str] = {}
    for one, again in zip(family, judged, strict=True):
        for wrong in differences(vars(again.details), vars(one.details), TOLERANCE):
            problem = f"{wrong.path} is {wrong.stated!r}, and the gains give {wrong.expected!r}; {RESTORE}"
            found.setdefault(one.path, problem)
    return found
