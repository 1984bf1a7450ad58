"""Registries of components: interventions, projections, predictors and other parts that recipes name.

A component is a frozen pydantic model; its fields are its parameters. A recipe writes a component as a word
(`grayscale`) or as a mapping (`{name: posterize, bits: 2}`). The name of a user's class is its import path
(`{name: "my_package.my_module:MyProjection"}`).
"""

import importlib
import inspect
import os
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ValidationError, model_serializer
from pydantic.fields import FieldInfo

from benchmark.common.code import NO_PLUGINS, UNASKED, find_own_code, own_code
from benchmark.common.errors import IcmBenchError, PluginError, nearest
from benchmark.common.failing import in_words, meant_for_user, place_of_import, where
from benchmark.common.spec import Spec, sentence

_names: dict[str, str] = {}  # import path of a class, "module:Class" -> registered name


def _place_of(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


# A new field is a new column of rows: raise `VERSION` in store/rows.py. If the field is a keyword of component classes,
# as all but `traits` are, add it to `PRESENTATION` in common/code.py.
class Presentation(BaseModel, frozen=True, extra="forbid"):
    """How reports show a component. The values are stored in result rows, so that reports need not import the class.

    Attributes:
        label: name in tables. Default: the name in recipes.
        role: `plain` (unchanged embeddings), `baseline`, `method` (default), `control` (an alternative explanation of a
            method's gain) or `rival` (a published method; a method is compared with the best rival).
        place: sort key in tables, ascending, default 3; components with equal keys are sorted by name.
        traits: names of the class attributes that are True, such as `uses_labels`. Unlike the other fields, it is
            derived from the class.
    """

    label: str = ""
    role: Literal["plain", "baseline", "method", "control", "rival"] = "method"
    place: int = 3
    traits: tuple[str, ...] = ()

    def columns(self, kind: str) -> dict[str, object]:
        """Return column name -> value of the fields in result rows, such as `projection_label` for `projection`."""
        return {f"{kind}_{name}": value for name, value in self}

    @classmethod
    def of_row(cls, row: Mapping[Any, Any], kind: str) -> Self:
        """Return the presentation stored in a result row, for a kind such as `projection`; see `columns`."""
        return cls(**{name: row[f"{kind}_{name}"] for name in cls.model_fields})


class Component(Spec):
    """Base class of all components. A subclass gives fields of `Presentation` as keywords of its class statement."""

    presentation: ClassVar[Presentation] = Presentation()

    def __init_subclass__(cls, **presentation: Any) -> None:
        super().__init_subclass__()
        try:
            cls.presentation = Presentation(**presentation)  # not inherited by subclasses
        except ValidationError as error:
            raise TypeError(f"class {cls.__name__}: {sentence(error, Presentation)}") from error

    @property
    def name(self) -> str:
        """The name in recipes: the registered name, or `module:Class` for a user's class."""
        return _names.get(place := _place_of(type(self)), place)

    @property
    def implementation(self) -> str:
        """Identity of the code in hashes: the registered name; for a user's class, its name and a hash of its code."""
        if ":" not in self.name:
            return self.name
        return with_source(self.name, type(self))

    @property
    def params(self) -> dict[str, Any]:
        """All parameters, defaults included, in the order of their declaration."""
        return {field: getattr(self, field) for field in type(self).model_fields}

    @property
    def label(self) -> str:
        """The name with all parameters that differ from their defaults, as `posterize(bits=2)`."""
        defaults = {field: info.default for field, info in type(self).model_fields.items()}
        changed = [f"{k}={v}" for k, v in self.params.items() if v != defaults[k]]
        return f"{self.name}({', '.join(changed)})" if changed else self.name

    @property
    def variant(self) -> str:
        """Text of the parameters that give a separate line in tables; selection rules choose all other parameters."""
        return ""

    @model_serializer
    def _as_recipe(self) -> dict[str, Any]:
        fields = type(self).model_fields
        return {"name": self.name} | {k: v for k, v in self.params.items() if not _is_left_out(fields[k], v)}


def _is_left_out(field: FieldInfo, value: Any) -> bool:
    """Return whether a parameter that came later has its default, so that hashes of recipes without it stay."""
    return field.exclude_if is not None and field.exclude_if(value)


def presented(name: str, cls: type[Component]) -> Presentation:
    """Return the presentation of a class with its traits; `name` is the label if the class has none."""
    traits = tuple(name for name in dir(cls) if not name.startswith("_") and getattr(cls, name, None) is True)
    return cls.presentation.model_copy(update={"label": cls.presentation.label or name, "traits": traits})


def with_source(name: str, cls: type) -> str:
    """Return the name of a user's class and the hash of the code that it depends on, see `own_code`."""
    return f"{name} {own_code(cls)}"


C = TypeVar("C")
T = TypeVar("T", bound=Component)


def is_plugin(name: str) -> bool:
    """Return whether a name in a recipe is an import path from outside this package."""
    return ":" in name and not name.startswith("benchmark.")  # recipes of imported embeddings name a class of ours


def load(kind: str, name: str, home: str | None = None, asked: bool = False) -> Any:
    """Return the object at an import path of the form `module:NAME`.

    Args:
        kind: noun for messages, in the singular.
        name: name in the recipe; without `home` also the import path.
        home: import path of an object in this package. Default: none, for an object of the user.
        asked: whether the command line names the object (default False: a recipe or a row names it).

    Raises:
        PluginError: plugins are refused, see `NO_PLUGINS`.
        IcmBenchError: the module or the name in it does not exist, or the module raises an error.
    """
    if home is None and is_plugin(name):
        plugin, refused = f"The {kind} '{name}' is a plugin", os.environ.get(NO_PLUGINS)
        if refused == UNASKED and not asked:
            raise PluginError(f"{plugin}, which this command imports only with --plugins; check its code and add it.")
        if refused and refused != UNASKED:
            raise PluginError(
                f"{plugin}, which --no-plugins (or {NO_PLUGINS}) refuses; check its code, and allow plugins."
            )
        find_own_code()
    module, _, attribute = (home or name).partition(":")
    if "" in module.split("."):
        raise IcmBenchError(f"The {kind} '{name}' is no import path; write it as my_package.my_module:MyClass.")
    try:
        return getattr(importlib.import_module(module), attribute)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # These messages need no place in the code; a file with NUL bytes is a SyntaxError without one.
        is_known = isinstance(error, ImportError | AttributeError | ValueError | TypeError | SyntaxError)
        place = place_of_import(error) or ("" if is_known else where(error))
        why = f"{in_words(error)} at {place}" if place else error
        raise IcmBenchError(f"The {kind} '{name}' cannot be loaded: {why}.") from error


class ClassRegistry(Generic[C]):
    """Classes of one kind by name. A class is imported at its first use.

    Args:
        kind: noun for messages, in the singular.
        base: base class of the classes.
        homes: registered name -> import path, "module:Class".
    """

    def __init__(self, kind: str, base: type[C], homes: dict[str, str]) -> None:
        self.kind, self.base, self._homes = kind, base, homes
        _names.update({home: name for name, home in homes.items()})

    def names(self) -> list[str]:
        """Return the registered names, in order of registration."""
        return list(self._homes)

    def component_class(self, name: str) -> type[C]:
        """Return the class with a registered name or an import path `module:Class`.

        Raises:
            PluginError: plugins are refused, see `NO_PLUGINS`.
            IcmBenchError: the name is unknown (the message suggests a similar one), the class does not exist, is
                abstract or of another kind, or its module raises an error.
        """
        home = self._homes.get(name) or (name if ":" in name else None)
        if home is None:
            raise IcmBenchError(f"Unknown {self.kind} '{name}': {nearest(name, self.names())}")
        component = load(self.kind, name, home if name in self._homes else None)
        if not (isinstance(component, type) and issubclass(component, self.base)):
            raise IcmBenchError(f"The {self.kind} '{name}' must derive from {self.base.__name__}.")
        if inspect.isabstract(component):
            raise IcmBenchError(f"The {self.kind} '{name}' lacks a method; implement those of its base class.")
        return component

    def implementation(self, cls: type[C]) -> str:
        """Return the identity of a class in hashes: its registered name, or its import path and a hash of its code."""
        return _names.get(place := _place_of(cls)) or with_source(place, cls)


class Registry(ClassRegistry[T]):
    """Components of one kind, which are created by name from entries of a recipe."""

    def create(self, spec: object) -> T:
        """Return the component for an entry of a recipe: a name, a mapping with `name`, or already a component.

        Raises:
            IcmBenchError: the name or a parameter is unknown, or a value is out of range; the message names it.
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
        except Exception as error:  # raised by a user's class
            if meant := meant_for_user(error):
                raise meant from error
            raise
