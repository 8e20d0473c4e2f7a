"""Who teaches whom: the `scheme` of a recipe."""

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from limbeck.recipe.base import LIST, NUMBER, Open, kind_of
from limbeck.recipe.network import Network

__all__ = ["SchemeSpec"]

Peers = Annotated[
    Annotated[int, Field(ge=1, le=100), Tag(NUMBER)]
    | Annotated[tuple[Network, ...], Field(max_length=99, strict=False), Tag(LIST)],
    Discriminator(kind_of),
]


Old = Annotated[tuple[str | int, ...], Field(max_length=10**6, strict=False)]


class SchemeSpec(Open):
    """Who teaches whom; a bare word is its name. Keys that are not listed here are options of its kind."""

    name: Annotated[str, Field(min_length=1)] = "offline"
    """offline: a fixed teacher teaches a student; online: peers teach each other; own: it teaches itself;
    lifelong: a student learns new classes beside those of its teacher."""
    kind: Annotated[str, Field(min_length=1)] | None = None
    """How, for online (mutual, …) and own (ema, …)."""
    peers: Peers | None = None
    """online only: how many learn together, the student included; or the networks beside it."""
    old: Old | None = None
    """lifelong only: names or indices of the classes that the teacher knows; all others are the new task."""
