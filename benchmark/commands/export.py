"""`icm-bench export`: one projection as two small files, to be used elsewhere."""

from pathlib import Path
from typing import Any

from benchmark.commands.choice import choose
from benchmark.commands.prepare import Sources, _have_embeddings
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage import Storage
from benchmark.method.subspace import SourceMoments
from benchmark.recipe.recipe import Recipe
from benchmark.recipe.specs import TEXT
from benchmark.sweep.fitting import Choice, Fitting
from benchmark.sweep.identity import code_version
from benchmark.sweep.subject import Subject


def provenance(recipe: Recipe, choice: Choice, moments: SourceMoments) -> dict[str, Any]:
    """Return where a projection comes from, in plain data."""
    subject, chosen = choice.subject, choice.intervention_set
    return {
        "dataset": subject.manifest.name,
        "dataset_fingerprint": subject.manifest.fingerprint,
        "environments": list(moments.environments),
        "images": moments.images.n,
        "split": f"in-split (80 %) of trial seed {choice.seed}",
        "backbone": subject.facts.label,
        "fingerprint": subject.facts.fingerprint,
        "random_weights": subject.facts.random_weights,
        "precision": subject.facts.precision,
        "projection": choice.projection.model_dump(mode="json"),
        "lambda": choice.lambda_ if choice.projection.uses_lambda else None,
        "intervention_set": chosen.model_dump(mode="json") if chosen else None,
        "interventions": recipe.interventions.model_dump(mode="json") if chosen else None,
        "text_pairs": subject.text_pairs if chosen and TEXT in chosen.kinds else None,
        "normalize": choice.normalize,
        "prompts": list(recipe.prompts.templates_for(subject.manifest.name)),
        "recipe_hash": recipe.hash(),
        "code_version": code_version(),
    }


def export_stage(
    recipe: Recipe,
    storage: Storage,
    subjects: Sources,
    given: dict[str, Any],
    rank: int,
    folder: Path,
) -> dict[str, Any]:
    """Fit one projection of a recipe, write it into `folder`, and return its provenance. Needs a connection to Ray.

    `given` is what the command line chose: see `choice.choose`.

    Raises:
        IcmBenchError: the choice is ambiguous or impossible, embeddings are missing, or the folder is not writable.
    """
    from benchmark.backbones.projection_files import write_projection

    choice = choose(recipe, [subject for subject, _ in subjects], given)
    _check_rank(rank, choice.subject)
    _have_embeddings(recipe, storage, [(s, spec) for s, spec in subjects if s is choice.subject])
    fitting = Fitting(storage, choice.subject, (choice.seed,))
    facts = provenance(recipe, choice, fitting.moments(choice))
    write_projection(folder, fitting.basis(choice).vectors[:, :rank], facts)
    return {"folder": str(folder), "rank": rank, "dim": choice.subject.facts.dim, **facts}


def _check_rank(rank: int, subject: Subject) -> None:
    if not 1 <= rank <= subject.facts.dim:
        raise IcmBenchError(f"--rank: {rank} is not between 1 and the embedding width D = {subject.facts.dim}.")
