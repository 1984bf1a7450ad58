"""Tasks of Ray's, declared without Ray: its import takes a third of a second, which plans and reports do without."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from benchmark.common.failing import told


class Task:
    """A function at the top of a module that workers run, with errors as of `told`; its first use imports Ray."""

    def __init__(self, function: Callable[..., Any], resources: dict[str, Any]) -> None:
        self._function, self._resources = function, resources

    @cached_property
    def _task(self) -> Any:
        import ray

        make: Any = ray.remote(**self._resources) if self._resources else ray.remote
        return make(told(self._function))

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Let a worker run the function, and return what its answer will be."""
        return self._task.remote(*args, **kwargs)

    def options(self, **options: Any) -> Any:
        """Return the task with other options of `ray.remote`."""
        return self._task.options(**options)


def remote(**resources: Any) -> Callable[[Callable[..., Any]], Task]:
    """Return what makes a function a task of Ray's, with options of `ray.remote`."""
    return lambda function: Task(function, resources)
