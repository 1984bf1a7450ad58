"""A user-defined protocol in all places: recipe, trials, holdouts, curves, captions."""

from typing import Any

import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.method.evaluation.evaluation import Method
from benchmark.method.evaluation.protocols import PROTOCOLS, HeldOut
from benchmark.method.predictors.zero_shot import ZeroShot
from benchmark.recipe.loading import parse_recipe
from benchmark.recipe.recipe import Recipe
from benchmark.sweep.trials import trial_specs
from reports.analysis.findings import comparisons
from reports.analysis.selections import Selections
from reports.analysis.settings import Options, by_setting
from reports.analysis.verdicts import answer
from reports.text.captions import protocol_words
from reports.text.verdicts import intervals
from tests.method.predictors.test_reference import icm, protocol_of, synthetic
from tests.method.wrapped import Wrapped
from tests.reports.synthetic import TESTED, frame, row

NAME = "tests.method.evaluation.own_protocol:Chronological"
YEARS = ["2021", "2022", "2023", "2024"]


def recipe(protocol: Any) -> Recipe:
    return parse_recipe(
        {
            "name": "own",
            "datasets": [{"name": "toy", "root": "toy"}],
            "backbones": [{"name": "ViT-B-32", "pretrained": "random"}],
            "sweep": {"protocols": [protocol], "predictors": ["zero_shot"], "projections": ["identity"], "seeds": [0]},
        }
    )


def test_a_protocol_of_the_users_own_makes_trials_holdouts_and_curves() -> None:
    own = recipe(NAME)
    assert own.model_dump(mode="json")["sweep"]["protocols"] == [NAME]
    assert own.hash() == recipe({"name": NAME}).hash() != recipe("held_out").hash()
    (spec,) = trial_specs(own, "toy", 512)
    assert spec.content()["protocol"] == NAME
    holdouts = spec.holdouts(YEARS)
    assert [(holdout.name, holdout.sources) for holdout in holdouts] == [("2023", (0, 1)), ("2024", (0, 1, 2))]
    assert spec.rows(YEARS) == 2
    data, views = synthetic()
    curves = list(protocol_of(data, views).curves(Method(Wrapped(icm), ZeroShot(), (2, 4)), holdouts))
    tested = [(curve.held_out, list(curve.tested.images())) for curve in curves]
    assert tested == [("2023", ["cyan"]), ("2024", ["dun"])]


def test_its_words_stand_in_captions_and_beside_intervals() -> None:
    rows = [row(held_out=name, protocol=NAME, projection=p, order=o) for name in YEARS[2:] for p, o in
            (("identity", None), ("icm", "largest"))]  # fmt: skip
    [(setting, part)] = by_setting(frame(rows))
    selections = Selections(part, TESTED)
    words = protocol_words(setting, selections, Options())
    for phrase in (f"{NAME}: fitted on earlier", "on the future of synthetic", "out-split of the next environment"):
        assert phrase in words
    assert setting.protocol_class.holdouts_in_words == "later environments"
    made = comparisons(setting, selections, Options())
    assert "Later environments have seen more." in intervals(answer([(setting, selections)], [made]))


def test_rows_of_a_protocol_that_is_gone_are_still_reported() -> None:
    [(setting, part)] = by_setting(frame([row(protocol="gone.module:Protocol")]))
    assert "Protocol gone.module:Protocol. " in protocol_words(setting, Selections(part, TESTED), Options())
    assert setting.protocol_class.holdouts_in_words == "held-out environments"


def test_a_misspelt_name_gets_the_nearest_one() -> None:
    with pytest.raises(IcmBenchError, match=r"Unknown protocol 'held_outs': did you mean 'held_out'\?"):
        recipe("held_outs")


def test_a_protocol_has_no_parameters() -> None:
    with pytest.raises(TypeError, match="a protocol has no parameters, and Many has 'folds_each'"):

        class Many(HeldOut):
            folds_each: int = 2

    with pytest.raises(IcmBenchError, match="held_out"):
        PROTOCOLS.create({"name": "held_out", "splits": 3})
