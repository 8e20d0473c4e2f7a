"""`chain:` of a recipe: several students one after another, each the teacher of the next.

Teacher assistants (Mirzadeh et al. 2020, https://arxiv.org/abs/1902.03393) and born-again generations
(Furlanello et al. 2018, https://arxiv.org/abs/1805.04770). What a link says is laid over the recipe; how the
links become recipes of their own stands in `limbeck.recipe.linking`.
"""

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from limbeck.errors import InputError
from limbeck.reading import shown
from limbeck.recipe.base import LIST, MAPPING, RUN_NAME, Part, kind_of

__all__ = ["Chain", "GenerationsSpec", "LinkSpec", "merged", "settled_students"]

COMMON = ("seeds", "data", "scheme", "variants", "export", "metric", "metrics", "track", "small", "chain")
"""Keys of a recipe that all its links share."""

TAKEN = ("teacher", "control", "ensemble")
"""Names that the result of a chain uses itself."""

WHOLE = ("student", "teacher")
"""Keys of a link that replace the recipe's: the options of one model are not those of another."""


class LinkSpec(Part):
    """One student of a chain, and what it says otherwise than the recipe: laid over it as overrides are."""

    name: Annotated[str, Field(pattern=RUN_NAME)]
    """What it is called in figures and messages, and in the name of its folder."""
    teacher: dict[str, Any] | None = None
    """The first link only: its teacher, in place of the recipe's. Every other is taught by the one before."""
    student: dict[str, Any] | None = None
    """Its student, in place of the recipe's."""
    objective: dict[str, Any] | None = None
    """Terms laid over the recipe's; a term that is null is left out."""
    stages: list[dict[str, Any]] | None = None
    """Its stages, in place of the recipe's."""
    train: dict[str, Any] | None = None
    """Settings laid over the recipe's train."""
    control: bool | dict[str, Any] | None = None
    """Its control; null: none, and for the last link the recipe's, which is the direct pair."""

    @model_validator(mode="before")
    @classmethod
    def _common_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in COMMON:
                if key in data:
                    raise ValueError(f"{key} is common to all links: it stands at the top of the recipe")
            if data.get("name") in TAKEN:
                raise ValueError(f'name: "{data["name"]}" is taken: the result of a chain uses it itself')
        return data


class GenerationsSpec(Part):
    """The same student again and again: born-again networks."""

    generations: Annotated[int, Field(ge=2, le=100)]
    """How many students; with `teacher: null` the first of them is trained plainly, on the labels alone."""
    ensemble: bool = False
    """Also tell how good the mean of all generations' probabilities is."""

    def links(self) -> tuple[LinkSpec, ...]:
        """A link for each generation."""
        return tuple(LinkSpec(name=f"generation-{n}") for n in range(1, self.generations + 1))


Links = Annotated[tuple[LinkSpec, ...], Field(max_length=100, strict=False)]
Chain = Annotated[
    Annotated[Links, Tag(LIST)] | Annotated[GenerationsSpec, Tag(MAPPING)], Discriminator(kind_of)
]


def settled_students(data: dict[str, Any], where: str) -> dict[str, Any]:
    """A recipe whose `student` is the last link's: the one that its run folder holds in the end.

    Links that had the recipe's own student get it written into them.

    Raises:
        InputError: a link has no student.
    """
    links = data.get("chain")
    if not isinstance(links, list) or not links or not all(isinstance(link, dict) for link in links):
        return data  # which is told elsewhere
    common = data.get("student")
    for number, link in enumerate(links):
        if common is None and link.get("student") is None:
            raise InputError(
                f"{where}: chain.{number} ({shown(link.get('name'))}): has no student. Give it one "
                "(student: {model: …}), or the recipe one for all links."
            )
    last = links[-1].get("student")
    if last is None:
        return data
    earlier = [
        link if link.get("student") is not None else {**link, "student": common} for link in links[:-1]
    ]
    own = {key: value for key, value in links[-1].items() if key != "student"}
    return {**data, "student": last, "chain": [*earlier, own]}


def merged(base: Any, over: Any, *, whole: tuple[str, ...] = WHOLE) -> Any:
    """A mapping laid over another: nested mappings are merged, anything else is replaced.

    Args:
        base: stays as it is.
        over: what is laid over it.
        whole: keys at the top whose values are replaced even where both are mappings.
    """
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    result = dict(base)
    for key, value in over.items():
        result[key] = value if key in whole or key not in base else merged(base[key], value, whole=())
    return result
