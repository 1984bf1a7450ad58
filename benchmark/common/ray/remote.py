"""Ray tasks declared without importing Ray, which takes a third of a second: plans and reports do not need it."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from benchmark.common.failing import propagate_user_errors


class Task:
    """A module-level function that workers run, with `propagate_user_errors`; its first use imports Ray."""

    def __init__(self, function: Callable[..., Any], resources: dict[str, Any]) -> None:
        self._function, self._resources = function, resources

    @cached_property
    def _task(self) -> Any:
        import ray

        make: Any = ray.remote(**self._resources) if self._resources else ray.remote
        return make(propagate_user_errors(self._function))

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function on a worker, and return a reference to its result."""
        return self._task.remote(*args, **kwargs)

    def options(self, **options: Any) -> Any:
        """Return the task with other options of `ray.remote`."""
        return self._task.options(**options)


def remote(**resources: Any) -> Callable[[Callable[..., Any]], Task]:
    """Return a decorator that makes a function a `Task`, with options of `ray.remote`."""
    return lambda function: Task(function, resources)
