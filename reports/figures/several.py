"""Figures of all data sets of a paper at once, a panel for each: one backbone, protocol, split and predictor."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.figure import Figure as Sheet

from reports.analysis.chosen import Selections
from reports.analysis.comparisons import Comparison
from reports.analysis.settings import Setting
from reports.analysis.spectra import Spectra
from reports.figures import environments, heat_maps, interventions, rank, spectrum, wording
from reports.figures.forest import draw_forest, forest_numbers
from reports.figures.wording import drawable
from reports.figures.writing import Drawing, Figure

SUFFIX = "-sets"
MAX_SETS = 9  # of which a figure fits on a page

_Named = Sequence[tuple[str, Any]]  # data set and its numbers


@dataclass(frozen=True)
class _Kind:
    """One figure: its name, the numbers of a data set, how those of several become one, how they are drawn and said."""

    name: str
    numbers: Callable[[Selections, str], Any]
    together: Callable[[_Named], Any]
    draw: Callable[[Any], Sheet]
    words: Callable[[_Named, Setting], str]


def several_drawings(
    described: Sequence[tuple[Setting, Selections]],
    compared: Sequence[tuple[Setting, Comparison]],
    margin: float,
) -> list[Drawing]:
    """Return the figures for which there are data: the forest, then those with a panel for each data set.

    Args:
        described: settings and their rows, one of each data set, that differ in nothing else.
        compared: settings and comparisons of the forest.
        margin: within which two methods count as level, a fraction.
    """
    drawings = []
    if forest := forest_numbers(compared, margin):
        random = any(setting.random_weights for setting, _ in compared)
        caption = wording.of_forest(forest, compared)
        drawings.append(Drawing(f"forest{SUFFIX}", caption, draw_forest, forest, random))
    shown = drawable(described)[:MAX_SETS]
    for kind in _KINDS:
        found = [(one, numbers) for one in shown if (numbers := kind.numbers(one[1], one[1].base_rule)) is not None]
        if found:
            parts, setting = [one for one, _ in found], found[0][0][0]
            named = [(of.dataset, numbers) for (of, _), numbers in found]
            caption = wording.caption_of_several(parts, kind.words(named, setting))
            together = kind.together(named)
            drawings.append(Drawing(f"{kind.name}{SUFFIX}", caption, kind.draw, together, setting.random_weights))
    return drawings


def for_paper(figures: Sequence[Figure]) -> list[Figure]:
    """Return what a paper has of the figures of a report: these, those over backbones, and the first of pairs."""
    shown = [one for one in figures if one.name.endswith(SUFFIX) or one.name.startswith("robustness")]
    return [*shown, *[one for one in figures if one.name.partition("-")[0] == "pairs"][:1]]


def _panels(of: type[Any]) -> Callable[[_Named], Any]:
    """Return what takes the first predictor's panel of each data set, under the name of the data set."""
    return lambda named: of(tuple((dataset, numbers.panels[0][1]) for dataset, numbers in named))


def _environments(named: _Named) -> environments.EnvironmentNumbers:
    return environments.EnvironmentNumbers(tuple(replace(one.panels[0], title=dataset) for dataset, one in named))


def _maps(named: _Named) -> heat_maps.HeatMapNumbers:
    return heat_maps.HeatMapNumbers(tuple(one.maps[0] for _, one in named), tuple(dataset for dataset, _ in named))


def _of_together(
    together: Callable[[_Named], Any], words: Callable[[Any, Setting], str]
) -> Callable[[_Named, Setting], str]:
    return lambda named, setting: words(together(named), setting)


def _of_spectra(named: _Named, setting: Setting) -> str:
    """Return what is said of spectra; the set and normalisation only where all data sets share them."""
    every: list[Spectra] = [spectra for _, spectra in named]
    shared = len({(one.intervention_set, one.normalize) for one in every}) == 1
    first = replace(every[0], thinned=any(one.thinned for one in every))
    own = "" if shared else " Intervention set and normalize of each data set: those picked most often."
    return wording.of_spectrum(first if shared else replace(first, intervention_set=None), setting) + own


def _of_interventions(named: _Named, setting: Setting) -> str:
    every: list[interventions.InterventionNumbers] = [numbers for _, numbers in named]
    left_out = sum(len(one.lines) + one.left_out for one in every)
    left_out -= sum(min(len(one.lines), interventions.lines_of_each(len(every))) for one in every)
    return wording.of_interventions(replace(every[0], left_out=left_out), setting)


_KINDS = (
    _Kind("environments", environments.numbers, _environments, environments.draw,
          _of_together(_environments, wording.of_environments)),
    _Kind("lambda_rank", heat_maps.numbers, _maps, heat_maps.draw, _of_together(_maps, wording.of_heat_maps)),
    _Kind("rank", rank.numbers, _panels(rank.RankNumbers), rank.draw,
          _of_together(_panels(rank.RankNumbers), wording.of_rank)),
    _Kind("spectrum", spectrum.numbers, tuple, spectrum.draw_several, _of_spectra),
    _Kind("interventions", interventions.numbers, tuple, interventions.draw_several, _of_interventions),
)  # fmt: skip
