"""The recipe: defaults, precedence, hash, and what is refused in which words."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmark.common.code import own_code
from benchmark.common.errors import IcmBenchError
from benchmark.datasets.spec import DatasetSpec
from benchmark.method.evaluation.splits import Split
from benchmark.method.interventions import INTERVENTIONS
from benchmark.method.interventions.photometric import Grayscale
from benchmark.method.subspace.moments import CROSS
from benchmark.recipe.loading import load_recipe, parse_recipe
from benchmark.recipe.recipe import Recipe
from benchmark.recipe.specs import ImagesSpec, RunSpec
from benchmark.sweep.trials import trial_specs
from tests.conftest import REPOSITORY

DEMO_HASH = "6c190546f247f4375e55cf29b1c41262f078de7fc3fdbfe1e6181c1ef4d8d743"
SMALL: dict[str, Any] = {"name": "small", "datasets": ["PACS"], "backbones": ["MiniLiT"]}


def recipe(**changes: Any) -> Recipe:
    return parse_recipe({**SMALL, **changes}, "recipe.yaml")


def test_three_keys_are_enough_and_the_rest_has_defaults() -> None:
    minimal = recipe()
    assert [kind.name for kind in minimal.interventions.kinds] == INTERVENTIONS.names()
    assert len(minimal.interventions.kinds) == 7
    assert minimal.prompts.templates == ("a photo of a {}.",)
    assert [p.label for p in minimal.sweep.projections] == [
        "identity", "pca", "random", "icm", "icm(order=released)", "icm(nuisance=('interventions', 'environments', 'both'))",
        "shrinkage", "fixed", "isotropic_environments", "within_classes",
    ]  # fmt: skip


def test_a_data_set_may_have_its_own_templates() -> None:
    own = recipe(datasets=["PACS", "VLCS"], prompts={"by_dataset": {"VLCS": ["{} in a scene"]}}).prompts
    assert own.templates_for("VLCS") == ("{} in a scene",)
    assert own.templates_for("PACS") == ("a photo of a {}.",)


def test_open_clips_templates_for_imagenet_go_by_name() -> None:
    import open_clip

    prompts = recipe(prompts={"templates": "openai", "by_dataset": {"PACS": "simple"}}).prompts
    theirs = {"VLCS": open_clip.OPENAI_IMAGENET_TEMPLATES, "PACS": open_clip.SIMPLE_IMAGENET_TEMPLATES}
    for dataset, given in theirs.items():
        templates = prompts.templates_for(dataset)
        assert [template.replace("{}", "dog") for template in templates] == [template("dog") for template in given]
        assert all(template.count("{}") == 1 for template in templates)


def test_folds_take_the_place_of_the_split_and_refuse_another_one() -> None:
    folded = recipe(sweep={"folds": 5, "seeds": [0]})
    assert folded.sweep.test_splits == ("out_fold",)
    assert recipe(sweep={"folds": 5, "test_splits": ["out_fold"], "seeds": [0]}).hash() == folded.hash()
    specs = trial_specs(folded, "PACS", 8)
    assert {spec.fold for spec in specs} == {None}  # a trial has all of them
    assert [turn.fold for turn in specs[0].turns] == [0, 1, 2, 3, 4]
    assert {spec.split for spec in specs} == {Split(0, folds=5)}
    seeds = trial_specs(recipe(sweep={"folds": 3, "seeds": [4, 7]}), "PACS", 8)
    assert {spec.split.seed for spec in seeds} == {4, 7}
    assert len(specs) == len(trial_specs(recipe(sweep={"seeds": [0]}), "PACS", 8))


def test_a_predictor_may_have_a_grid_of_its_own() -> None:
    sweep = {"lambdas": [1, 3], "ranks": [2, 4, 8], "grids": {"linear_probe": {"lambdas": [3], "ranks": [8, 4]}}}
    of_icm = [s for s in trial_specs(recipe(sweep=sweep), "PACS", 8) if s.projection.name == "icm"]
    grids = {spec.predictor.name: (spec.lambdas, spec.ranks) for spec in of_icm}
    assert grids == {"zero_shot": ((1.0, 3.0), (2, 4, 8)), "linear_probe": ((3.0,), (4, 8))}
    with pytest.raises(IcmBenchError, match=r"sweep\.grids\.linear_probe\.ranks: rank 8 is above"):
        recipe(sweep={**sweep, "ranks": [2]}).sweep.check_ranks(4, "ViT-B-32")


def test_the_whole_space_has_one_rank_its_width() -> None:
    specs = trial_specs(recipe(sweep={"ranks": [2, 4]}), "PACS", 8)
    assert {spec.ranks for spec in specs if spec.projection.name == "identity"} == {(8,)}


@pytest.mark.parametrize(
    ("protocol", "given", "rounding"),
    [
        ("open_class", None, "ceil"), ("held_out_open_class", None, "floor"), ("held_out", None, "ceil"),
        ("open_class", "floor", "floor"), ("held_out_open_class", "ceil", "ceil"), ("held_out", "floor", "ceil"),
    ],
)  # fmt: skip
def test_half_an_odd_number_of_classes_is_rounded_as_protocol_or_recipe_say(
    protocol: str, given: str | None, rounding: str
) -> None:
    spec, *_ = trial_specs(recipe(sweep={"protocols": [protocol], "base_classes": given}), "PACS", 8)
    assert spec.split.rounding == rounding


def test_all_subsets_of_seven_kinds_are_127_sets() -> None:
    sets = recipe(sweep={"intervention_sets": "all_subsets"}).intervention_sets()
    assert len(sets) == len({s.kinds for s in sets}) == 127
    assert sets[0].kinds == (INTERVENTIONS.names()[0],)
    assert list(sets[-1].kinds) == INTERVENTIONS.names()


def test_command_line_over_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({**SMALL, "sweep": {"seeds": [7], "lambdas": [2]}}))
    given = {"sweep.seeds": [1, 2], "datasets.0": {"name": "PACS", "root": "/data"}, "run.store": "s"}
    loaded = load_recipe(file, given)
    assert loaded.sweep.seeds == (1, 2)  # command line
    assert loaded.sweep.lambdas == (2.0,)  # file
    assert loaded.sweep.test_splits == ("out_20",)  # default
    assert (loaded.datasets[0].root, loaded.run.store) == ("/data", "s")


def test_hash_is_of_the_meaning_and_not_of_the_spelling() -> None:
    kinds = {"kinds": INTERVENTIONS.names(), "seed": 0}
    assert recipe(datasets=[{"name": "PACS"}], interventions=kinds, sweep={"ranks": "auto"}).hash() == recipe().hash()
    assert parse_recipe(dict(reversed(SMALL.items()))).hash() == recipe().hash()
    assert recipe(sweep={"lambdas": [1]}).hash() == recipe(sweep={"lambdas": [1.0]}).hash()


def test_hash_ignores_where_it_runs_and_notices_everything_else() -> None:
    base = recipe().hash()
    same = recipe(name="other", run={"store": "s3://b/p", "actors": 3}, datasets=[{"name": "PACS", "root": "/x"}])
    assert same.hash() == base
    for change in (
        {"interventions": {"seed": 1}},
        {"interventions": {"kinds": [{"name": "posterize", "bits": 3}]}},
        {"sweep": {"seeds": [0]}},
        {"prompts": {"templates": ["{}"]}},
        {"backbones": [{"name": "MiniLiT", "precision": "float16"}]},
    ):
        assert recipe(**change).hash() != base


def test_a_dumped_recipe_reads_back_as_itself() -> None:
    original = recipe(interventions={"kinds": [{"name": "solarize", "threshold": 64}, "grayscale"]})
    again = parse_recipe(yaml.safe_load(yaml.safe_dump(original.model_dump(mode="json"))))
    assert again == original
    assert again.hash() == original.hash()


def test_recipes_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(recipe().sweep, "seeds", (1,))  # noqa: B010


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sweeep": {}}, "unknown key 'sweeep': did you mean 'sweep'?"),
        ({"sweep": {"lamdas": [1]}}, "unknown key 'sweep.lamdas': did you mean 'lambdas'?"),
        ({"backbones": [{"nmae": "x"}]}, "unknown key 'backbones.0.nmae': did you mean 'name'?"),
        ({"sweep": {"lamda": 1}, "run": {"stor": 1}}, "unknown key 'sweep.lamda': did you mean 'lambdas'?"),
        ({"sweep": {"lamda": 1}, "run": {"stor": 1}}, "; also check 'run.stor'."),
        ({"backbones": [{"name": "a", "precision": 1, "mean": 2, "seed": "q", "folder": 3, "quick_gelu": 9}]}, "1 more."),
        ({"datasets": [{}]}, "recipe.yaml: the key 'datasets.0.name' is missing."),  # of both branches of a union
        ({"sweep": {"seeds": "x"}}, "sweep.seeds: input should be a valid list, not 'x'."),
        ({"datasets": []}, "datasets: list should have at least 1 item"),
        ({"sweep": {"lambdas": ["x"]}}, "sweep.lambdas.0: input should be a valid number"),
        ({"sweep": {"lambdas": [-1]}}, "sweep.lambdas.0: input should be greater than or equal to 0, not -1"),
        ({"sweep": {"seeds": [1, 1]}}, "the value '1' is given twice"),
        ({"sweep": {"ranks": [True]}}, "sweep: ranks takes neither true nor false; give a number"),
        ({"sweep": {"predictors": [{"name": "few_shot", "shots": True}]}}, "'few_shot' is not valid: shots takes neither"),
        ({"sweep": {"search": {"strengths": {"posterize": {"bits": [False, 4]}}}}}, "strengths takes neither true nor"),
        ({"run": {"actors": True}}, "run: actors takes neither true nor false"),
        ({"datasets": [{"name": "a"}, {"name": "b", "root": "http://host/b"}]}, "datasets.1.root: an address of the web"),
        ({"run": {"data": "HTTPS://host"}}, "run.data: an address of the web is no folder; download the images, and give"),
        ({"sweep": {"ranks": [0]}}, "sweep.ranks.0: input should be greater than or equal to 1, not 0"),
        ({"sweep": {"test_splits": ["out"]}}, "input should be 'out_20', 'in_80', 'full' or 'out_fold', not 'out'"),
        ({"sweep": {"predictors": ["zeroshot"]}}, "Unknown predictor 'zeroshot': did you mean 'zero_shot'?"),
        ({"sweep": {"projections": ["ic"]}}, "Unknown projection 'ic': did you mean 'icm'?"),
        ({"sweep": {"projections": [{"name": "icm", "order": "smallest"}]}}, "input should be 'largest' or 'released'"),
        ({"sweep": {"projections": [{"name": "icm", "ordr": "released"}]}}, "did you mean 'order'? Valid: centered, nuisance"),
        ({"sweep": {"projections": [{"name": "icm", "lambda_": 3}]}}, "sweep.projections.0: lambda is swept"),
        ({"sweep": {"projections": [{"name": "icm", "lambda": 3}]}}, "lambda is swept: give sweep.lambdas."),
        ({"sweep": {"projections": [{"name": "random", "seed": 3}]}}, "seed is swept: give sweep.seeds."),
        ({"interventions": {"kinds": ["grayscal"]}}, "Unknown intervention 'grayscal': did you mean 'grayscale'?"),
        ({"interventions": {"kinds": [{"name": "posterize", "bit": 1}]}}, "unknown key 'bit': did you mean 'bits'?"),
        ({"interventions": {"kinds": [{"name": "gaussian_blur", "sigma": [2, 1]}]}}, "lower bound 2.0 is above the upper bound 1.0"),
        ({"interventions": {"kinds": []}}, "'icm' needs interventions, but interventions.kinds is empty"),
        ({"sweep": {"intervention_sets": [{"name": "s", "kinds": ["inver"]}]}}, "'inver' of the set 's' is not among"),
        ({"sweep": {"intervention_sets": [{"name": "s", "kinds": ["inver"]}]}}, "did you mean 'invert'?"),
        ({"backbones": [{"name": "x", "folder": "f", "pretrained": "openai"}]}, "'folder' or 'pretrained', not both"),
        ({"backbones": [{"name": "x", "precision": "fp16"}]}, "'tf32', 'bfloat16' or 'float16', not 'fp16'"),
        ({"prompts": {"templates": ["a photo"]}}, "must have exactly one {}"),
        ({"prompts": {"by_dataset": {"PACS": ["a photo"]}}}, "must have exactly one {}"),
        ({"prompts": {"by_dataset": {"PAC": ["a {}"]}}}, "'PAC' is not one of the data sets"),
        ({"prompts": {"templates": "opena"}}, "input should be 'openai' or 'simple', not 'opena'"),
        ({"interventions": {"text": {"pairs": "p.jsonl", "edits": ["size"]}}}, "a file and edits exclude each other"),
        ({"interventions": {"text": {"edits": ["size", "size"]}}}, "the edit 'size' is given twice"),
        ({"sweep": {"intervention_sets": [{"name": "x", "kinds": ["text"]}]}}, "'text' of the set 'x' is not among"),
        ({"sweep": {"intervention_sets": [{"name": "x", "kinds": ["invert"], "weights": [1, 2]}]}}, "one weight"),
        ({"sweep": {"intervention_sets": [{"name": "x", "kinds": ["invert", "invert"]}]}}, "names a kind twice"),
        ({"sweep": {"intervention_sets": [{"name": "x", "kinds": [CROSS], "pairing": "random_one"}]}}, "draw one view"),
        ({"interventions": {"kinds": ["no_such.module:Kind"]}}, "cannot be loaded: No module named 'no_such'"),
        ({"interventions": {"kinds": ["pathlib:Path"]}}, "must derive from Intervention"),
    ],
)  # fmt: skip
def test_refusals_name_the_key_and_the_nearest_valid_name(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(IcmBenchError) as caught:
        recipe(**changes)
    message = str(caught.value)
    assert message.startswith("recipe.yaml: ")
    assert sentence in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("name: [", "line 1 is not valid YAML"), ("- a\n", "must be a mapping"), (None, "No such file or directory")],
)
def test_unreadable_files_are_named(tmp_path: Path, text: str | None, sentence: str) -> None:
    file = tmp_path / "r.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(IcmBenchError, match=sentence) as caught:
        load_recipe(file)
    assert str(file) in str(caught.value)


def test_an_override_reaches_into_lists_and_empty_sections_and_is_refused_where_it_leads_nowhere(
    tmp_path: Path,
) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("name: a\ndatasets: [b]\nbackbones: [{name: c, mean: [0.1, 0.2, 0.3]}]\nrun:\n")
    loaded = load_recipe(file, {"backbones.0.mean.0": 0.9, "run.store": "s"})
    assert (loaded.backbones[0].mean, loaded.run.store) == ((0.9, 0.2, 0.3), "s")
    with pytest.raises(IcmBenchError, match=r"--set datasets.3.root: '3' is not a position in a list of 1"):
        load_recipe(file, {"datasets.3.root": "/x"})
    with pytest.raises(IcmBenchError, match="is inside a value that is neither mapping nor list"):
        load_recipe(file, {"name.x": 1})


def test_ranks_above_the_width_are_refused_and_auto_and_all_end_at_it() -> None:
    assert recipe(sweep={"ranks": "all"}).sweep.ranks_for(5) == (1, 2, 3, 4, 5)
    assert recipe().sweep.ranks_for(20) == (4, 8, 16, 20)
    assert recipe().sweep.ranks_for(256) == (4, 8, 16, 32, 64, 128, 256)
    assert recipe().sweep.ranks_for(768)[-2:] == (512, 768)
    assert recipe(sweep={"ranks": [64, 8]}).sweep.ranks_for(64) == (8, 64)
    several = recipe(sweep={"ranks": [8, 300], "grids": {"zero_shot": {"ranks": [400]}}}).sweep
    several.check_ranks(400, "wide")
    with pytest.raises(
        IcmBenchError, match=r"sweep\.ranks: rank 300 is above the embedding width D = 256 of .* 'narrow'"
    ):
        several.check_ranks(256, "narrow")
    with pytest.raises(
        IcmBenchError, match=r"sweep\.grids\.zero_shot\.ranks: rank 400 .* D = 300 of the backbone 'narrow'"
    ):
        several.check_ranks(300, "narrow")
    recipe(sweep={"ranks": "all"}).sweep.check_ranks(1, "narrow")


class MyGrayscale(Grayscale):
    """A component of the user's own that derives from a registered one."""


def test_a_users_component_does_not_take_the_name_of_the_one_it_derives_from() -> None:
    (kind,) = recipe(interventions={"kinds": [f"{__name__}:MyGrayscale"]}).interventions.kinds
    assert kind.name == f"{__name__}:MyGrayscale"
    assert kind.implementation == f"{kind.name} {own_code(MyGrayscale)}"
    assert INTERVENTIONS.create("grayscale").implementation == "grayscale"


def sets_of(asked: Recipe) -> dict[tuple[str, str], list[str | None]]:
    """Return (predictor, projection) -> intervention sets with which it is tried."""
    return {
        (predictor.name, projection.name): [
            s.name if s else None for s in asked.sets_for("PACS", predictor, projection)
        ]
        for projection in asked.sweep.projections
        for predictor in asked.sweep.predictors
    }


def test_predictors_that_look_at_views_or_at_c_d_have_every_set_whatever_the_projection() -> None:
    sets = [{"name": "one", "kinds": ["grayscale"]}, {"name": "rotated", "kinds": ["grayscale"], "placebo": "rotated"}]
    predictors = ["zero_shot", "mean_of_views", "zero_temperature", "probe_with_views", "soft_penalty"]
    asked = recipe(sweep={"intervention_sets": sets, "predictors": predictors})
    names = sets_of(asked)
    for projection in ("identity", "pca", "isotropic_environments"):
        for predictor in predictors[1:]:
            expected = ["one", "rotated"] if predictor == "soft_penalty" else ["one"]  # a placebo is one of C_d
            assert names[predictor, projection] == expected
    assert names["zero_shot", "identity"] == [None]
    assert {tuple(names[predictor, "shrinkage"]) for predictor in predictors} == {("one", "rotated")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"interventions": {"kinds": []}}, "needs interventions, but .*kinds is empty"),
        ({"sweep": {"intervention_sets": [{"name": "x", "kinds": [CROSS]}]}}, "needs views of images, but 'x' has none"),
        ({"sweep": {"intervention_sets": [{"name": "x", "pairs": 0.1}]}}, "needs a view of every image"),
        ({"datasets": ["ImageNet", "ImageNet-R"], "sweep": {"protocols": ["imagenet_shift"]}}, "variants of ImageNet"),
    ],
)  # fmt: skip
def test_predictors_without_the_views_that_they_look_at_are_refused(change: dict[str, Any], message: str) -> None:
    def asked(predictor: str) -> Recipe:
        sweep = {"predictors": [predictor], "projections": ["identity"], **change.get("sweep", {})}
        return recipe(**{**change, "sweep": sweep})

    with pytest.raises(IcmBenchError, match=f"'mean_of_views' .*{message}"):
        asked("mean_of_views")
    assert asked("zero_shot")
    if "ImageNet" in message:
        assert asked("probe_with_views")  # its views are those of ImageNet itself


def test_one_intervention_set_is_enough_where_it_is_the_scale_alone() -> None:
    sets = [{"name": "one", "kinds": ["grayscale"]}, {"name": "other", "kinds": ["invert"]}]
    names = sets_of(recipe(sweep={"intervention_sets": sets}))
    assert names["zero_shot", "shrinkage"] == ["one", "other"]
    assert names["zero_shot", "isotropic_environments"] == names["zero_shot", "within_classes"] == ["one"]
    assert names["zero_shot", "pca"] == [None]


def test_a_grid_names_the_intervention_sets_of_its_predictor() -> None:
    """So that a placebo that costs a fit for each draw is tried with zero-shot alone, or with fewer draws."""
    few, rest = ({"placebo": "matched", **changes} for changes in ({"draws": 2}, {"draws": 5, "first": 3}))
    sets = [{"name": "all"}, {"name": "few", **few}, {"name": "rest", **rest}]
    sweep = {"intervention_sets": sets, "projections": ["icm", "pca"], "predictors": ["zero_shot", "linear_probe"]}

    def asked(given: list[str]) -> Recipe:
        return recipe(sweep={**sweep, "grids": {"linear_probe": {"intervention_sets": given}}})

    names: dict[str, set[str | None]] = {"zero_shot": set(), "linear_probe": set()}
    for spec in trial_specs(asked(["all", "few"]), "PACS", 8):
        names[spec.predictor.name].add(spec.intervention_set.name if spec.intervention_set else None)
    assert names == {"zero_shot": {"all", "few", "rest", None}, "linear_probe": {"all", "few", None}}
    for given, said in ((["al"], "'al' is not an .* 'all'"), (["few"], "'few' is a placebo of 'all'; add that set")):
        with pytest.raises(IcmBenchError, match=rf"linear_probe\.intervention_sets: {said}"):
            asked(given)


def test_strengths_and_shares_of_the_pairs_are_intervention_sets_and_no_set_for_what_has_a_scale_alone() -> None:
    blurs = [{"name": "gaussian_blur", "sigma": [s, s]} for s in (1, 2, 4)]
    labels = [kind.label for kind in recipe(interventions={"kinds": blurs}).interventions.kinds]
    assert len(set(labels)) == 3  # a view of each strength
    sets = [{"name": "hundredth", "pairs": 0.01}, {"name": "all"}, *({"name": k, "kinds": [k]} for k in labels)]
    sweep = {"projections": ["icm", "isotropic"], "predictors": ["zero_shot"], "seeds": [0]}
    made = recipe(interventions={"kinds": blurs}, sweep={"intervention_sets": sets, **sweep})
    specs = trial_specs(made, "PACS", 16)
    names = {p: [s.intervention_set.name for s in specs if s.projection.name == p and s.intervention_set]
             for p in ("icm", "isotropic")}  # fmt: skip
    assert names == {"icm": ["hundredth", "all", *labels], "isotropic": ["all"]}
    shares = {s.intervention_set.name: s.intervention_set.pairs_in_words for s in specs if s.intervention_set}
    assert shares == {"hundredth": "1 % of the pairs", **dict.fromkeys(["all", *labels], "")}


@pytest.mark.parametrize(
    ("sets", "projections", "message"),
    [
        ([{"name": "x", "pairs": 0}], ["icm"], r"pairs"),
        ([{"name": "x", "pairs": 0.1, "kinds": ["cross_environment"]}], ["icm"], r"pairs below 1 need views"),
        ([{"name": "x", "pairs": 0.1, "placebo": "rotated"}], ["icm"], r"pairs below 1 need views"),
        ([{"name": "x", "seed": 1}], ["icm"], r"'x' has nothing to draw"),
        ([{"name": "x", "pairs": 0.1, "draws": 2}], ["icm"], r"'x' has nothing to draw"),
        ([{"name": "x", "pairs": 0.1}], ["denoiser"], r"'denoiser' needs a view of every image, but 'x' has only a"),
    ],
)
def test_shares_of_pairs_that_cannot_be_are_refused(sets: Any, projections: Any, message: str) -> None:
    with pytest.raises(IcmBenchError, match=message):
        recipe(sweep={"intervention_sets": sets, "projections": projections})


def test_an_encoder_that_is_built_is_named_by_its_training_and_no_other_has_one() -> None:
    training = {"image_size": 96, "width": 64, "trunk": "lite1", "augmented": True, "seed": 3}
    [backbone] = recipe(backbones=[{"name": "MiniLiT", "image_size": 96, "training": training}]).backbones
    assert backbone.label == "MiniLiT 96px (trained at 96px, lite1, width 64, augmented, seed 3)"
    [plain] = recipe(backbones=[{"name": "MiniLiT", "training": {}}]).backbones
    assert plain.label == "MiniLiT"
    for other in ({"name": "ViT-B-32"}, {"name": "MiniLiT", "folder": "elsewhere"}):
        with pytest.raises(IcmBenchError, match=r"only MiniLiT is trained here; leave it out"):
            recipe(backbones=[{**other, "training": {}}])


def test_trials_are_known_by_the_metric_that_chooses_and_by_metrics_of_scores_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = ("tests.commands.own_f1:MacroF1", "tests.commands.own_auroc:Auroc")

    def of(metric: str | None = None, *metrics: str, choose_by: str = "metric") -> Recipe:
        dataset = {"name": "toy", "root": "toy", "metric": metric}
        backbones = [{"name": "ViT-B-32", "pretrained": "random"}]
        sweep = {"metrics": metrics, "choose_by": choose_by}
        return parse_recipe({"name": "r", "datasets": [dataset], "backbones": backbones, "sweep": sweep})

    def known_by(recipe: Recipe) -> list[dict[str, object]]:
        return [spec.content() for spec in trial_specs(recipe, "toy", 512)]

    plain = known_by(of())
    shown = of(None, "nll", own[0])
    assert known_by(shown) == plain
    assert shown.hash() == of().hash()
    for recipe, chosen in (
        (of("macro_f1"), "macro_f1"),
        (of(own[0]), own[0]),
        (of(choose_by="balanced"), "balanced"),
        (of("macro_f1", choose_by="balanced"), "balanced"),
    ):
        assert recipe.hash() != of().hash()
        for one, before in zip(known_by(recipe), plain, strict=True):
            assert one["metric"] == {"name": chosen}
            assert {key for key in one if one[key] != before[key]} - {"code"} == {"metric"}
    for recipe, chosen in (
        (of(own[1]), "accuracy"),
        (of(None, own[1]), "accuracy"),
        (of("macro_f1", *own), "macro_f1"),
    ):
        found = known_by(recipe)
        assert all(one["metrics"] == [{"name": own[1]}] and one["code"] != plain[0]["code"] for one in found)
        assert all(one["metric"] == {"name": chosen} for one in found)
    assert [metric.title for metric in of(own[1], own[0]).metrics[-2:]] == ["my F1", "my AUROC"]
    with pytest.raises(IcmBenchError, match=r"Unknown metric 'macrof1': did you mean 'macro_f1'\?"):
        of("macrof1")
    with pytest.raises(IcmBenchError, match="must derive from Metric"):
        of(None, "tests.recipe.test_recipe:Recipe")
    monkeypatch.setenv("ICM_BENCH_NO_PLUGINS", "1")
    with pytest.raises(IcmBenchError, match=f"The metric '{own[0]}' is a plugin"):
        of(own[0])


def test_a_data_set_that_needs_data_is_left_out_without_it() -> None:
    datasets = ["VLCS", {"name": "PACS", "needs_data": True}]
    without, given = (parse_recipe({**SMALL, "datasets": datasets, "run": run}) for run in ({}, {"data": "/data"}))
    assert [one.name for one in without.datasets] == ["VLCS"]
    assert [(one.name, one.root) for one in given.located()] == [("VLCS", "/data"), ("PACS", "/data")]
    assert without.hash() == parse_recipe({**SMALL, "datasets": ["VLCS"]}).hash()
    with pytest.raises(IcmBenchError, match=r"there is no run\.data; give --data FOLDER"):
        parse_recipe({**SMALL, "datasets": datasets[1:]})
    with pytest.raises(IcmBenchError, match="'PACS' has its own root"):
        parse_recipe({**SMALL, "datasets": [{"name": "PACS", "needs_data": True, "root": "/d"}], "run": {"data": "/d"}})
    objects = [DatasetSpec(name="VLCS"), DatasetSpec(name="PACS", needs_data=True)]
    assert [d.name for d in recipe(datasets=objects).datasets] == ["VLCS"]
    assert len(recipe(datasets=objects, run=RunSpec(data="/data")).datasets) == 2


def test_later_keys_leave_hashes_as_they_are() -> None:
    """Of the demo's recipe as it was before `covariance`, `train_shares` and `needs_data`."""
    assert load_recipe(str(REPOSITORY / "jobs" / "recipes" / "demo.yaml")).hash() == DEMO_HASH
    demo = load_recipe(str(REPOSITORY / "jobs" / "recipes" / "demo.yaml"))
    images = ({"upright": False}, {"resize": "torch"}, {"upright": False, "resize": "torch"})
    others = [demo.model_copy(update={"images": ImagesSpec(**keys)}).hash() for keys in ({}, *images)]
    assert others[0] == DEMO_HASH
    assert len(set(others)) == 4
    projections = (
        [{"name": "shrinkage", "covariance": "sample"}],
        ["shrinkage"],
        [{"name": "shrinkage", "covariance": "oas"}],
    )
    hashes = [recipe(sweep={"projections": ["identity", *one]}).hash() for one in projections]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"train_shares": [0.5]}, "add 1"),
        ({"train_shares": []}, "add 1"),
        ({"train_shares": [0.5, 1]}, "set folds"),
        ({"train_shares": [0.3, 1], "folds": 5}, "with 5 folds give 0.25, 0.5, 0.75, 1"),
        ({"train_shares": [0.25, 1], "folds": 3}, "with 3 folds give 0.5, 1"),
        ({"train_shares": [0, 1], "folds": 5}, "greater than 0"),
        ({"train_shares": [1, 1], "folds": 5}, "given twice"),
    ],
)
def test_shares_of_the_source_images_that_cannot_be_are_refused(sweep: dict[str, Any], message: str) -> None:
    with pytest.raises(IcmBenchError, match=message):
        parse_recipe({**SMALL, "sweep": sweep})


def test_shares_of_the_source_images_are_trials_of_fitted_methods_alone() -> None:
    sweep = {"folds": 5, "seeds": [0], "predictors": ["zero_shot", "ridge"], "projections": ["identity", "shrinkage"]}
    sweep["intervention_sets"] = [{"name": "all"}, {"name": "shuffled", "placebo": "shuffled"}]
    counted = Counter[float]()
    for spec in trial_specs(parse_recipe({**SMALL, "sweep": {**sweep, "train_shares": [0.25, 1]}}), "PACS", 512):
        counted[spec.train_share] += 1
        assert spec.train_share == 1 or (spec.projection.name, spec.predictor.name) == ("shrinkage", "zero_shot")
        assert spec.train_share == 1 or spec.intervention_set is None or not spec.intervention_set.placebo
    assert counted[0.25] == 1
    plain = trial_specs(parse_recipe({**SMALL, "sweep": sweep}), "PACS", 512)
    assert counted[1] == len(plain)


def test_own_lambdas_of_a_projection_are_in_the_hash_and_defaults_are_not() -> None:
    def of(*lambdas: float) -> Recipe:
        own = {"lambdas": list(lambdas)} if lambdas else {}
        return recipe(sweep={"projections": ["identity", {"name": "shrinkage", **own}]})

    assert len({of().hash(), of(1).hash(), of(1, 3).hash()}) == 3
    default = of().sweep.projections[1].own_lambdas
    assert default is not None
    assert of(*default).hash() == of().hash()
    assert of(1).model_dump(mode="json")["sweep"]["projections"][1]["lambdas"] == [1.0]
    assert Recipe.model_validate(of(1).model_dump(mode="json")).sweep.projections[1].own_lambdas == (1.0,)
