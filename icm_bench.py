"""The public names of icm-bench: `import icm_bench as icm`.

`icm.evaluate(embeddings, labels, environments, texts, views)` judges embeddings in arrays, and `icm.run(recipe)` does
what `icm-bench run` does. A name is imported at its first use, so that this module is imported in milliseconds.
"""

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

_HOME = Path(__file__).parent  # the folder of this project's packages


def _check_packages() -> None:
    """Raise ImportError if other code has the name of one of our packages, such as a folder of the user."""
    if str(_HOME) not in sys.path:
        sys.path.append(str(_HOME))  # our packages then win over folders without code, as in `benchmark/__init__.py`
    for name in ("benchmark", "reports", "jobs"):
        spec, ours = importlib.util.find_spec(name), (_HOME / name / "__init__.py").resolve()
        if spec is None or spec.origin is None or Path(spec.origin).resolve() != ours:
            place = next(iter(spec.submodule_search_locations or [str(spec.origin)])) if spec else "nothing"
            raise ImportError(
                f"icm_bench needs its own package '{name}', which {place} hides; rename that, or start Python "
                f"elsewhere, or as `python -P`, which does not search the working directory."
            )


_check_packages()

import benchmark as _benchmark  # noqa: E402  after the check

if TYPE_CHECKING:
    from benchmark import *  # noqa: F403

    __version__: str

__all__ = [*_benchmark.__all__]


def __getattr__(name: str) -> Any:
    if name in __all__ or name == "__version__":
        return getattr(_benchmark, name)
    raise AttributeError(f"module 'icm_bench' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
