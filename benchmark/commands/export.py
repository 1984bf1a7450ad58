"""`icm-bench export`: one projection as two small files, to be used elsewhere."""

from pathlib import Path
from typing import Any

from benchmark.backbones.projection_files import write_projection
from benchmark.commands.choice import Choosing, check_rank, choose
from benchmark.commands.embed import on_sound_embeddings
from benchmark.commands.prepare import Run, have_embeddings
from benchmark.method.subspace import Basis, SourceMoments
from benchmark.recipe.specs import TEXT
from benchmark.sweep.fitting import Choice, Fitting
from benchmark.sweep.identity import code_version


def export_projection(run: Run, choosing: Choosing, rank: int, folder: Path) -> dict[str, Any]:
    """Fit one projection of a recipe, write it into `folder`, and return its provenance. Needs a connection to Ray.

    Args:
        run: with the embeddings.
        choosing: which of the recipe's projections.
        rank: number of directions kept, 1 to D.
        folder: where to; made if need be.

    Raises:
        IcmBenchError: the choice is ambiguous or impossible, embeddings are missing, or the folder is not writable.
    """
    choice = choose(run, choosing)
    check_rank(rank, choice.subject)
    moments, basis = on_sound_embeddings(run, lambda: _fitted(run, choice))
    facts = _provenance(run, choice, moments)
    write_projection(folder, basis.vectors[:, :rank], facts)
    return {"folder": str(folder), "rank": rank, "dim": choice.subject.facts.dim, **facts}


def _fitted(run: Run, choice: Choice) -> tuple[SourceMoments, Basis]:
    have_embeddings(run, [choice.subject])
    fitting = Fitting(run.storage, choice.subject, (choice.seed,))
    return fitting.moments(choice), fitting.basis(choice)


def _provenance(run: Run, choice: Choice, moments: SourceMoments) -> dict[str, Any]:
    """Return where a projection comes from, in plain data."""
    subject, intervention_set = choice.subject, choice.intervention_set
    interventions = subject.interventions.model_dump(mode="json")
    interventions["seed"] += subject.view_draw
    return {
        "dataset": subject.manifest.name,
        "dataset_fingerprint": subject.manifest.fingerprint,
        "environments": list(moments.environments),
        "images": moments.images.n,
        "split": choice.split_words(run.recipe.sweep.folds),
        "backbone": subject.facts.label,
        "fingerprint": subject.facts.fingerprint,
        "random_weights": subject.facts.random_weights,
        "precision": subject.facts.precision,
        "projection": choice.projection.model_dump(mode="json"),
        "lambda": choice.lambda_,
        "intervention_set": intervention_set.model_dump(mode="json") if intervention_set else None,
        "interventions": interventions if intervention_set else None,
        "text_pairs": subject.text_pairs if intervention_set and TEXT in intervention_set.kinds else None,
        "normalize": choice.normalize,
        "prompts": list(subject.prompts),
        "recipe_hash": run.recipe.hash(),
        "code_version": code_version(),
    }
