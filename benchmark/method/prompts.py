"""Prompts: templates, and what a projection asks for beside the texts of the classes.

A projection says which prompts it needs, from the names of classes and environments. They go through the text tower
alone, once, and no image is embedded for them. A fit sees those that name none but its own source environments and
classes, so that not even the name of what is held out reaches it.
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
    """Return templates: `openai` are the 80 for ImageNet that open_clip has of CLIP's authors, `simple` its 7."""
    if isinstance(templates, tuple):
        return templates
    import open_clip

    sets = {"openai": open_clip.OPENAI_IMAGENET_TEMPLATES, "simple": open_clip.SIMPLE_IMAGENET_TEMPLATES}
    return tuple(template("{}") for template in sets[templates])


def fill(template: str, name: str) -> str:
    """Return the prompt of a class, with spaces for underscores as in the released code."""
    return template.replace("{}", name.replace("_", " "))


@dataclass(frozen=True)
class Names:
    """What prompts can be made of."""

    classes: tuple[str, ...]  # what prompts call the classes, in the order of the labels
    environments: tuple[str, ...]  # names of the environments, in the order of their indices
    templates: tuple[str, ...]  # those of the recipe

    def in_templates(self, name: str) -> tuple[str, ...]:
        """Return a name in each of the recipe's templates."""
        return tuple(fill(template, name) for template in self.templates)

    def words(self, given: tuple[str, ...] | None) -> list[tuple[str, int | None]]:
        """Return words for environments, each with the index of that which it names; given ones name none."""
        if given is None:
            return [(name, index) for index, name in enumerate(self.environments)]
        return [(word, None) for word in given]


@dataclass(frozen=True)
class Prompt:
    """A prompt that a projection asks for."""

    # its texts; of several the embedding is the mean of their unit-length embeddings, at unit length again
    texts: tuple[str, ...]
    role: str  # what the projection wants it for
    group: int = 0  # number of the group, within its role, of prompts that belong together. Default 0
    environment: int | None = None  # index of the environment whose name is in it; None (default) if it is none's
    label: int | None = None  # the class whose name is in it; None (default) if it is none's


def in_groups(role: str, groups: Collection[Collection[str]]) -> list[Prompt]:
    """Return prompts as a recipe gives them, group by group: every fit sees them."""
    return [Prompt((text,), role, number) for number, group in enumerate(groups) for text in group]


@dataclass(frozen=True)
class PromptEmbeddings:
    """The prompts of a projection, embedded."""

    prompts: tuple[Prompt, ...]  # what was asked for
    z: Array  # their embeddings at unit length, shape (len(prompts), D)
    base: int  # number of base classes, the first ones

    def visible(self, environments: Collection[int], halves: Collection[str]) -> dict[str, list[Array]]:
        """Return what a fit may see: role -> for each group the embeddings of its prompts, shape (members, D)."""
        groups: dict[tuple[str, int], list[int]] = {}
        for row, prompt in enumerate(self.prompts):
            half = None if prompt.label is None else "base" if prompt.label < self.base else "new"
            if (prompt.environment is None or prompt.environment in environments) and (half is None or half in halves):
                groups.setdefault((prompt.role, prompt.group), []).append(row)
        seen: dict[str, list[Array]] = {}
        for (role, _), rows in groups.items():
            seen.setdefault(role, []).append(self.z[rows])
        return seen


GroupsOfPrompts = Mapping[str, list[Array]]  # role -> for each group embeddings of prompts, shape (members, D)


def within_groups(groups: Collection[Array]) -> Array:
    """Return how prompts differ from the mean of their group, shape (prompts, D)."""
    return np.concatenate([group - group.mean(axis=0) for group in groups])
