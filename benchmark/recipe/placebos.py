"""What a recipe must have for its placebos to say anything."""

from typing import TYPE_CHECKING

from benchmark.common.errors import nearest

if TYPE_CHECKING:
    from benchmark.recipe.recipe import Recipe

WHERE = "sweep.intervention_sets"


def check_placebos(recipe: "Recipe") -> None:
    """Refuse placebos that have no real set beside them, nobody who takes them, or nothing to borrow.

    Raises:
        ValueError: one of these; says what to do.
    """
    sets = recipe.intervention_sets()
    placebos = [chosen for chosen in sets if chosen.placebo]
    if not placebos:
        return
    name = placebos[0].name
    takers = [projection.takes_placebo for projection in recipe.sweep.all_projections()]
    if not any([*takers, *(predictor.uses_c_d for predictor in recipe.sweep.predictors)]):
        raise ValueError(
            f"{WHERE}: '{name}' is a placebo for icm, shrinkage and soft_penalty, and the sweep has none; add one."
        )
    if recipe.sweep.search:
        raise ValueError(f"{WHERE}: '{name}' is a placebo, which a search has none of; leave out sweep.search.")
    for placebo in placebos:
        if not any(real.is_real_one_of(placebo) for real in sets):
            raise ValueError(
                f"{WHERE}: '{placebo.name}' is a placebo of a set that is not there; add one of the same kinds, "
                f"weights and pairing without placebo."
            )
    _check_lenders(recipe)
    _check_draws(recipe)


def _check_lenders(recipe: "Recipe") -> None:
    """Refuse a lender that is not there, and data sets that borrow twice: a rule would choose between lenders."""
    names = [dataset.name for dataset in recipe.datasets]
    borrowed = [chosen for chosen in recipe.intervention_sets() if chosen.placebo == "borrowed"]
    for placebo in borrowed:
        if placebo.lender and placebo.lender not in names:
            raise ValueError(
                f"{WHERE}: '{placebo.lender}', from which '{placebo.name}' borrows, is no data set of the recipe; "
                f"{nearest(placebo.lender, names)}"
            )
        if not any(recipe.lender_of(name, placebo) for name in names):
            raise ValueError(f"{WHERE}: '{placebo.name}' borrows C_d, and there is no other data set; list a second.")
    for name in names:
        seen: list[object] = []
        for placebo in borrowed:
            key = (placebo.kinds, placebo.weights, placebo.pairing)
            if recipe.lender_of(name, placebo) and key in seen:
                raise ValueError(
                    f"{WHERE}: {name} borrows twice for the same kinds, and no rule may choose between lenders; leave "
                    f"one of the sets out."
                )
            seen += [key] if recipe.lender_of(name, placebo) else []


def _check_draws(recipe: "Recipe") -> None:
    """Refuse two sets with the same draws of one placebo: their methods would be one."""
    seen: set[tuple[object, ...]] = set()
    for chosen in recipe.intervention_sets():
        for drawn in chosen.drawn() if chosen.placebo not in (None, "borrowed") else ():
            key = (chosen.placebo, drawn.first, chosen.numbered, chosen.kinds, chosen.weights, chosen.pairing)
            if key in seen:
                raise ValueError(
                    f"{WHERE}: draw {drawn.first} of '{chosen.placebo}' comes twice, the second time in "
                    f"'{chosen.name}'; give it another `first`."
                )
            seen.add(key)
