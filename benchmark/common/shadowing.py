"""Whether the packages of this project are the ones that are imported, here and in the workers of Ray."""

from importlib.util import find_spec
from pathlib import Path

from benchmark.common.code import HOME
from benchmark.common.errors import IcmBenchError

PACKAGES = ("benchmark", "jobs", "reports")


def check_shadows() -> None:
    """See that no other package of the same name is found first; Ray's workers look into the working directory first.

    Raises:
        IcmBenchError: one is; names it.
    """
    for name in PACKAGES:
        spec = find_spec(name)
        found = Path(spec.origin) if spec and spec.origin else None
        here = Path.cwd() / name
        beside = next((file for file in (here / "__init__.py", here.with_suffix(".py")) if file.is_file()), None)
        for file in filter(None, (found, beside)):
            if file.resolve().parent != (HOME / name).resolve():
                raise IcmBenchError(
                    f"{file} hides the package '{name}' of icm-bench, which is in {HOME / name}; run from another "
                    f"folder, or rename it."
                )
