"""What the rows of a trial depend on, as a hash."""

import functools
import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmark.common.hashing import canonical_hash
from benchmark.recipe.recipe import Recipe
from benchmark.recipe.specs import TEXT
from benchmark.store.embeddings import ORIGINAL
from benchmark.sweep.subject import Subject, labels_of
from benchmark.sweep.trials import Trial


def trial_id(recipe: Recipe, subjects: Sequence[Subject], trial: Trial) -> str:
    """Return the hash of everything that a trial's rows depend on."""
    subject = subjects[trial.subject]
    kinds = labels_of(subject, trial.intervention_set) if trial.intervention_set else ()
    content = {
        **trial.settings(),
        "implementations": [c.implementation for c in (trial.projection, trial.predictor, trial.protocol)],
        "datasets": [
            [s.manifest.name, s.manifest.fingerprint, s.unreadable, s.views[0].depends_on]
            for s in (subject, *(subjects[i] for i in trial.shifts))
        ],
        "backbone": subject.facts.label,
        "views": [view.depends_on for view in subject.views if view.label in (ORIGINAL, *kinds)],
        "text_pairs": subject.text_pairs if TEXT in kinds else None,
        "texts": subject.texts,  # the hash of the prompts, templates and class names
        "test_splits": list(trial.protocol.test_splits(recipe.sweep.test_splits)),
        "ranks": list(subject.ranks),
        "code": code_version(),
    }
    return canonical_hash(content)[:32]


@functools.cache
def code_version() -> str:
    """Return the version and a hash of the sources that turn embeddings into rows."""
    benchmark = Path(__file__).parent.parent
    files = [benchmark / "sweep" / f"{name}.py" for name in ("trials", "evaluate", "subject", "loading", "summing")]
    files += [benchmark / "store" / f"{name}.py" for name in ("embeddings", "moments", "texts", "rows")]
    files += sorted((benchmark / "method").rglob("*.py"))
    digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
    return f"{version('icm-bench')}+{digest[:12]}"
