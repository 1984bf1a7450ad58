"""Ray tasks that can be declared without importing Ray, which takes 0.3 s; plans and reports do not need Ray."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from benchmark.common.failing import propagate_user_errors


class Task:
    """A module-level function that Ray workers run, with `propagate_user_errors`. Its first use imports Ray."""

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

    def here(self, *args: Any) -> Any:
        """Run the function in this process, without Ray, and return its result."""
        return self._function(*args)

    def options(self, **options: Any) -> Any:
        """Return Ray's task with other options of `ray.remote`."""
        return self._task.options(**options)


def remote(**resources: Any) -> Callable[[Callable[..., Any]], Task]:
    """Return a decorator that makes a function a `Task`; `resources` are options of `ray.remote`."""
    return lambda function: Task(function, resources)
