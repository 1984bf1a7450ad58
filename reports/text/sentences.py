"""Sentences that describe beside verdicts: several data sets together, and how well environments are read."""

from collections.abc import Sequence
from statistics import fmean

from benchmark.method.evaluation.judging import adjusted_interval
from reports.analysis.chosen import Selections
from reports.analysis.comparisons import Comparison, Overall
from reports.analysis.findings import Family
from reports.analysis.predictions import read_of
from reports.analysis.settings import Setting


def overall_sentences(families: Sequence[Family]) -> list[str]:
    """Return what several data sets say together of gains over plain prediction; nothing without such a gain."""
    sentences = []
    for family in families:
        gains = {one.method: one for one in reversed(family.members) if one.baseline.is_plain}  # the first of each
        sentences += [_overall(family.settings[0], gain, len(gains)) for gain in reversed(gains.values())]
    if sentences:
        sentences.append(
            "Each data set counts alike. Of new environments: random effects of data sets, of environments within them "
            "and of images (Paule and Mandel; Hartung and Knapp), adjusted for all gains that stand together here."
        )
    return sentences


def _overall(setting: Setting, one: Overall, gains: int) -> str:
    where = f"{setting.banner}{setting.backbone_label}{setting.half_words}"
    n, sets = one.others.ahead + one.others.level + one.others.behind, ", ".join(one.datasets)
    said = [
        f"{where}: {one.method.label} minus plain prediction over {len(one.datasets)} data sets ({sets}): "
        f"{points_with_ends(one)} points, ahead in {one.others.ahead} of {n} environments."
    ]
    new = one.others.interval and adjusted_interval(one.others.interval, gains)
    if new is not None and new.standard_error > 0:
        narrow = " (too narrow, for groups of images stand in several)" if one.grouped else ""
        ends = f"{100 * new.low:+.1f} and {100 * new.high:+.1f}"
        said.append(f"In new environments of new sets the mean gain lies between {ends} points{narrow}.")
    said += [f"Left out, for lack of an interval: {', '.join(one.left_out)}."] if one.left_out else []
    return " ".join(said)


def p_words(p: float) -> str:
    """Return "p = 0.012", or "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def points_with_ends(one: Comparison | Overall) -> str:
    """Return a difference in points with the ends of its interval, "+1.0 [-0.5, +2.5]"; without, where it has none."""
    interval = one.interval
    ends = f" [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]" if interval.standard_error > 0 else ""
    return f"{100 * interval.estimate:+.1f}{ends}"


def decodability(described: Sequence[tuple[Setting, Selections]]) -> list[str]:
    """Return of each setting how well the environment is read from embeddings, and after each projection."""
    sentences = []
    for setting, selections in described:
        means = {
            method: [100 * fmean(one[k] for one in found) for k in range(3)]
            for method, found in read_of(selections).items()
        }
        if means:
            before, _, chance = next(iter(means.values()))
            after = ", ".join(f"{of_one[1]:.1f} % after {method.label}" for method, of_one in means.items())
            sentences.append(
                f"{setting.banner}{setting.dataset}, {setting.backbone_label}: a linear classifier reads the "
                f"environment from embeddings at {before:.1f} % (chance {chance:.1f} %), at {after}."
            )
    return list(dict.fromkeys(sentences))
