"""Prompts: templates for class names, and further prompts that some projections use.

A projection builds its prompts from names of classes and environments. The text encoder embeds these prompts once. A
fit gets only prompts that name its own source environments and classes. So not even the name of the held-out
environment leaks.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field

from benchmark.method.arrays import Array

TemplateSet = Literal["openai", "simple"]
OneOrMore = TemplateSet | Annotated[tuple[str, ...], Field(min_length=1)]


def _with_places(templates: OneOrMore) -> OneOrMore:
    for template in templates if isinstance(templates, tuple) else ():
        if template.count("{}") != 1 or template.count("{") + template.count("}") != 2:
            raise ValueError(f"the template '{template}' must have exactly one {{}} for the class name.")
    return templates


Templates = Annotated[OneOrMore, AfterValidator(_with_places)]


def resolve_templates(templates: OneOrMore) -> tuple[str, ...]:
    """Return the 80 ImageNet templates of CLIP's authors for `openai`, or 7 of them for `simple`.

    A tuple of templates is returned unchanged.
    """
    if isinstance(templates, tuple):
        return templates
    import open_clip

    sets = {"openai": open_clip.OPENAI_IMAGENET_TEMPLATES, "simple": open_clip.SIMPLE_IMAGENET_TEMPLATES}
    return tuple(template("{}") for template in sets[templates])


def fill(template: str, name: str) -> str:
    """Return a template with a class name filled in. As in the released code, underscores become spaces."""
    return template.replace("{}", name.replace("_", " "))


@dataclass(frozen=True)
class Names:
    """Names and templates for prompts."""

    classes: tuple[str, ...]  # class names in prompts, in the order of the labels
    environments: tuple[str, ...]  # names of the environments, in the order of their indices
    templates: tuple[str, ...]  # templates of the recipe

    def in_templates(self, name: str) -> tuple[str, ...]:
        """Return the name filled into each of the recipe's templates."""
        return tuple(fill(template, name) for template in self.templates)

    def words(self, given: tuple[str, ...] | None) -> list[tuple[str, int | None]]:
        """Return pairs (word, environment index).

        The words are the names of the environments, or those in `given`, with index None.
        """
        if given is None:
            return [(name, index) for index, name in enumerate(self.environments)]
        return [(word, None) for word in given]


@dataclass(frozen=True)
class Prompt:
    """A prompt of a projection."""

    # the texts of the prompt. Their unit-length embeddings are averaged, and the mean is scaled to unit length
    texts: tuple[str, ...]
    role: str  # what the projection uses the prompt for
    group: int = 0  # number of the group, within the role, that the prompt belongs to. Default 0
    environment: int | None = None  # index of the environment that the prompt names; None (default): none
    label: int | None = None  # index of the class that the prompt names; None (default): none


def in_groups(role: str, groups: Collection[Collection[str]]) -> list[Prompt]:
    """Return one prompt for each text that a recipe lists in `groups`. Every fit gets these prompts."""
    return [Prompt((text,), role, number) for number, group in enumerate(groups) for text in group]


@dataclass(frozen=True)
class PromptEmbeddings:
    """The prompts of a projection with their embeddings."""

    prompts: tuple[Prompt, ...]  # the prompts
    z: Array  # embeddings of the prompts at unit length, shape (len(prompts), D)
    base: int  # number of base classes; they have the first class indices

    def visible(self, environments: Collection[int], halves: Collection[str]) -> dict[str, list[Array]]:
        """Return the embeddings of the prompts that a fit may use: role -> one array for each group, (members, D).

        A prompt is left out if it names an environment outside `environments`, or a class whose half (`base` or `new`)
        is not in `halves`.
        """
        groups: dict[tuple[str, int], list[int]] = {}
        for row, prompt in enumerate(self.prompts):
            half = None if prompt.label is None else "base" if prompt.label < self.base else "new"
            if (prompt.environment is None or prompt.environment in environments) and (half is None or half in halves):
                groups.setdefault((prompt.role, prompt.group), []).append(row)
        seen: dict[str, list[Array]] = {}
        for (role, _), rows in groups.items():
            seen.setdefault(role, []).append(self.z[rows])
        return seen


GroupsOfPrompts = Mapping[str, list[Array]]  # role -> for each group, embeddings, shape (members, D)


def within_groups(groups: Collection[Array]) -> Array:
    """Return each prompt embedding minus the mean of its group, shape (prompts, D)."""
    return np.concatenate([group - group.mean(axis=0) for group in groups])
