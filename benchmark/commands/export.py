"""`icm-bench export`: writes one projection as safetensors and JSON, or folded into an open_clip checkpoint."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmark.backbones.projection_files import write_projection
from benchmark.commands.choice import Choosing, check_rank, choose
from benchmark.commands.embed import on_sound_embeddings
from benchmark.commands.preparing.prepare import Run, have_embeddings
from benchmark.common.errors import IcmBenchError
from benchmark.method.subspace import Basis, SourceMoments
from benchmark.recipe.sets import TEXT
from benchmark.sweep.fitting import Choice, Fitting
from benchmark.sweep.identity import code_version


def export_projection(
    run: Run, choosing: Choosing, rank: int | None, folder: Path, fold: bool = False
) -> dict[str, Any]:
    """Fit one projection of a recipe, write it into `folder`, return its provenance. Call it in a block of `connected`.

    Args:
        run: run with the embeddings.
        choosing: options that select the projection.
        rank: number of directions kept, 1 to D; None if the projection has no ranks.
        folder: output folder, created if missing.
        fold: whether to multiply the projection into the backbone, and to write the result as an open_clip checkpoint
            into `folder`, which must not exist. Default False.

    Raises:
        IcmBenchError: the choice is ambiguous or impossible, embeddings are missing, the folder is not writable, or
            the projection cannot be folded.
    """
    choice = choose(run, choosing)
    check_rank(rank, choice)
    dim = choice.subject.facts.dim
    if rank is None and not choice.projection.full_rank_only:
        raise IcmBenchError(f"--rank is needed: {choice.label} keeps the first of D = {dim} directions.")
    rank = dim if rank is None else rank
    moments, basis = on_sound_embeddings(run, lambda: _fitted(run, choice))
    facts = _provenance(run, choice, moments)
    if fold:
        facts["notes"] = _fold(choice, basis, rank, folder, facts)
    else:
        texts = None if basis.text_vectors is None else basis.text_vectors[:, :rank]
        write_projection(folder, basis.vectors[:, :rank], facts, texts)
    return {"folder": str(folder), "rank": rank, "dim": dim, **facts}


def _fold(choice: Choice, basis: Basis, rank: int, folder: Path, facts: Mapping[str, Any]) -> list[str]:
    """Multiply the projection into the backbone and write it; return notes on differences from the recipe's rows."""
    from benchmark.backbones.folding import write_folded

    if basis.text_vectors is not None or rank < len(basis.vectors):
        raise IcmBenchError(
            f"--fold: {choice.projection.label} at rank {rank} is not a single square map of images and texts, unlike "
            f"shrinkage with sides: symmetric; export it without --fold."
        )
    write_folded(choice.subject.backbone, basis.vectors, folder, facts)
    notes = []
    if len(choice.subject.prompts) > 1:
        notes.append(
            f"the recipe averages {len(choice.subject.prompts)} templates before the map, and open_clip after it, each "
            f"at unit length: predictions may differ if two classes are close (with one template they are equal)"
        )
    if choice.normalize != "none":
        notes.append(
            f"normalize {choice.normalize} scales embeddings to unit length, but the checkpoint does not: cosines are "
            f"equal, inner products and heads trained on them may differ"
        )
    if choice.subject.facts.precision != "float32":
        notes.append(f"the recipe ran in {choice.subject.facts.precision}: run the checkpoint in it too")
    return notes


def _fitted(run: Run, choice: Choice) -> tuple[SourceMoments, Basis]:
    have_embeddings(run, [choice.subject])
    fitting = Fitting(run.storage, choice.subject, (choice.seed,))
    return fitting.moments(choice), fitting.basis(choice)


def _provenance(run: Run, choice: Choice, moments: SourceMoments) -> dict[str, Any]:
    """Return the provenance of a projection as plain data."""
    # benchmark/backbones/projection_files.py requires `backbone`, `fingerprint` and `normalize` in an export.
    subject, intervention_set = choice.subject, choice.intervention_set
    interventions = subject.interventions.model_dump(mode="json")
    interventions["seed"] += subject.view_draw
    return {
        "dataset": subject.manifest.name,
        "dataset_fingerprint": subject.manifest.fingerprint,
        "environments": list(moments.environments),
        **({"clusters": asdict(choice.clusters)} if choice.clusters else {}),
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
