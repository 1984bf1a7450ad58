"""Components by name: the small, replaceable parts (interventions, projections, predictors) that recipes name.

A component is a frozen pydantic model: its fields are its parameters, checked when the recipe is read. A recipe
writes it as a word (`grayscale`), as a mapping (`{name: posterize, bits: 2}`), or, for a component of the user's
own, with the place of its class as the name (`{name: "my_package.my_module:MyProjection"}`).
"""

import importlib
import inspect
import os
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ValidationError, model_serializer

from benchmark.common.code import NO_PLUGINS, UNASKED, find_own_code, own_code
from benchmark.common.errors import IcmBenchError, PluginError, nearest
from benchmark.common.failing import in_words, meant_for_user, place_of_import, where
from benchmark.common.spec import Spec, sentence

_names: dict[str, str] = {}  # place of a class, as "module:Class" -> its name in a registry


def _place_of(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


class Presentation(BaseModel, frozen=True, extra="forbid"):
    """How reports show a component: its class says it as keywords, and it travels in rows, so that they need no class.

    Attributes:
        label: its name in tables; by default its name in recipes.
        short: what it is in a few plain words; empty (default) where the label is plain.
        role: `plain` (the embedding space as it is), `baseline`, `method` (default), `control` (what could explain a
            method's gain away) or `rival` (a published method; a method is compared with the best rival).
        place: where it stands in tables among its kind, the lowest first, default 3; equal ones by their names.
        traits: names of the class attributes that are true, such as `uses_labels`. No keyword.
    """

    label: str = ""
    short: str = ""
    role: Literal["plain", "baseline", "method", "control", "rival"] = "method"
    place: int = 3
    traits: tuple[str, ...] = ()

    def columns(self, kind: str) -> dict[str, object]:
        """Return it as columns of result rows: `projection_label` and so on for the kind `projection`."""
        return {f"{kind}_{name}": value for name, value in self}

    @classmethod
    def of_row(cls, row: Mapping[Any, Any], kind: str) -> Self:
        """Return what stands in the `columns` of a row."""
        return cls(**{name: row[f"{kind}_{name}"] for name in cls.model_fields})


class Component(Spec):
    """Base of everything that a registry creates."""

    presentation: ClassVar[Presentation] = Presentation()

    def __init_subclass__(cls, **presentation: Any) -> None:
        super().__init_subclass__()
        cls.presentation = Presentation(**presentation)  # a subclass does not inherit it

    @property
    def name(self) -> str:
        """The name a recipe uses: the registered one, or `module:Class` for a user's own component."""
        return _names.get(place := _place_of(type(self)), place)

    @property
    def implementation(self) -> str:
        """What stands for the code in hashes: the name of a registered component, the user's own code otherwise."""
        if ":" not in self.name:
            return self.name
        return with_source(self.name, type(self))

    @property
    def params(self) -> dict[str, Any]:
        """All parameters, defaults included, in the order of their declaration."""
        return {field: getattr(self, field) for field in type(self).model_fields}

    @property
    def label(self) -> str:
        """The name and those parameters that are not at their default: `posterize(bits=2)`."""
        defaults = {field: info.default for field, info in type(self).model_fields.items()}
        changed = [f"{k}={v}" for k, v in self.params.items() if v != defaults[k]]
        return f"{self.name}({', '.join(changed)})" if changed else self.name

    @property
    def variant(self) -> str:
        """What makes it a line of its own in tables, beside its name; selection rules choose all else."""
        return ""

    @model_serializer
    def _as_recipe(self) -> dict[str, Any]:
        return {"name": self.name, **self.params}


def presented(name: str, cls: type[Component]) -> Presentation:
    """Return how reports show the components of a class, with traits, and its name where it has no label."""
    traits = tuple(name for name in dir(cls) if not name.startswith("_") and getattr(cls, name, None) is True)
    return cls.presentation.model_copy(update={"label": cls.presentation.label or name, "traits": traits})


def with_source(name: str, cls: type) -> str:
    """Return the name of a class of the user's own and the hash of the code that it depends on, see `common.code`."""
    return f"{name} {own_code(cls)}"


C = TypeVar("C")
T = TypeVar("T", bound=Component)


def load(kind: str, name: str, home: str | None = None, asked: bool = False) -> Any:
    """Return what stands at a place of the form `module:NAME`.

    Args:
        kind: what it is, in the singular, for messages.
        name: as the user calls it; also its place, unless `home` is given.
        home: its place in this package, as "module:NAME".
        asked: whether the command line itself names it, and no recipe or row.

    Raises:
        PluginError: code that is not of this package is not to be imported, see `NO_PLUGINS`.
        IcmBenchError: there is no such module or name, or the module raises.
    """
    if home is None:
        _check_wanted(f"The {kind} '{name}' is code of somebody's own, which", asked)
        find_own_code()
    module, _, attribute = (home or name).partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        if place := place_of_import(error):
            raise IcmBenchError(f"The {kind} '{name}' cannot be loaded: {in_words(error)} at {place}.") from error
        raise IcmBenchError(f"The {kind} '{name}' cannot be loaded: {error}.") from error
    except (Exception, SystemExit) as error:  # whatever a module of somebody's own does when it is imported
        place = place_of_import(error) or where(error)
        raise IcmBenchError(f"The {kind} '{name}' cannot be loaded: {in_words(error)} at {place}.") from error


def _check_wanted(what: str, asked: bool) -> None:
    """Refuse code that is not of this package where it is not to be imported, see `NO_PLUGINS`."""
    match os.environ.get(NO_PLUGINS):
        case None | "":
            return
        case value if value == UNASKED:
            if not asked:
                raise PluginError(f"{what} this command imports only with --plugins; read it, and add the option.")
        case _:
            raise PluginError(
                f"{what} --no-plugins (or {NO_PLUGINS}) keeps from being imported; read it, and run without."
            )


class ClassRegistry(Generic[C]):
    """Names of one kind of class, each loaded when it is first asked for.

    Args:
        kind: what a class of it makes, in the singular, for messages.
        base: the class that every class of it derives from.
        homes: registered name -> place of the class, as "module:Class".
    """

    def __init__(self, kind: str, base: type[C], homes: dict[str, str]) -> None:
        self.kind, self.base, self._homes = kind, base, homes
        _names.update({home: name for name, home in homes.items()})

    def names(self) -> list[str]:
        """Return the registered names, in order of registration."""
        return list(self._homes)

    def component_class(self, name: str) -> type[C]:
        """Return the class behind `name`, which is registered or of the form `module:Class`.

        Raises:
            PluginError: code that is not of this package is not to be imported, see `NO_PLUGINS`.
            IcmBenchError: no such name (with the nearest one), no such class, one of another kind, or one whose module
                raises.
        """
        home = self._homes.get(name) or (name if ":" in name else None)
        if home is None:
            raise IcmBenchError(f"Unknown {self.kind} '{name}': {nearest(name, self.names())}")
        component = load(self.kind, name, home if name in self._homes else None)
        if not (isinstance(component, type) and issubclass(component, self.base)):
            raise IcmBenchError(f"The {self.kind} '{name}' must derive from {self.base.__name__}.")
        if inspect.isabstract(component):
            raise IcmBenchError(f"The {self.kind} '{name}' lacks the method that makes it one; see its base class.")
        return component

    def implementation(self, cls: type[C]) -> str:
        """Return what stands for a class in hashes: its registered name, or its place and a hash of its source."""
        return _names.get(place := _place_of(cls)) or with_source(place, cls)


class Registry(ClassRegistry[T]):
    """Names of one kind of component; recipes create components by them."""

    def create(self, spec: object) -> T:
        """Return the component that a recipe's `spec` describes: a name, a mapping with `name`, or a component.

        Raises:
            IcmBenchError: unknown name, unknown parameter, or a value out of range; the sentence names it.
        """
        if isinstance(spec, self.base):
            return spec
        params = dict(spec) if isinstance(spec, dict) else {"name": spec}
        name = params.pop("name", None)
        if not isinstance(name, str) or not all(isinstance(key, str) for key in params):
            raise IcmBenchError(f"A {self.kind} is a name or a mapping with a 'name', not {spec!r}.")
        cls = self.component_class(name)
        try:
            return cls(**params)
        except ValidationError as error:
            raise IcmBenchError(f"The {self.kind} '{name}' is not valid: {sentence(error, cls)}") from error
        except IcmBenchError:
            raise
        except Exception as error:  # of a class of somebody's own
            if meant := meant_for_user(error):
                raise meant from error
            raise
