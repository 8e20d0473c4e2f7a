"""One term of an objective: `Term`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limbeck import methods
from limbeck.errors import InputError
from limbeck.methods.base import Method
from limbeck.weighting import Changing

__all__ = ["Term"]


class Term:
    """One term of an objective: a method, its weight, and the layer pairs that it compares.

    Args:
        method: a method's name or alias, `package.module:Class`, or a `Method`; None means that the term's
            name in the objective is the method's.
        weight: a number, or one that changes over the epochs: a `Ramp`, or `Steps`.
        layers: `{student tap: teacher tap}`, for methods that compare features; `auto` is for those who know
            both networks (`limbeck.distill`, recipes) to find out. Of several teachers, `NAME/tap`, and
            `NAME/auto`; without a name the term stands for one with each of them.
        beside: a folder whose modules may hold the method, such as the recipe's.
        options: the method's own options (`temperature=4`).
    """

    def __init__(
        self,
        method: str | Method | None = None,
        *,
        weight: float | Changing = 1.0,
        layers: Mapping[str, str] | str | None = None,
        beside: Path | None = None,
        **options: Any,
    ) -> None:
        self.method = method
        self.beside = beside
        self.weight = weight
        self.owner, _, word = layers.rpartition("/") if isinstance(layers, str) else ("", "", "")
        self.auto = word == "auto"
        self.layers: dict[str, str] = {} if isinstance(layers, str) or layers is None else dict(layers)
        self.options = options

    def build(self, name: str) -> Method:
        """The term's method, its options checked.

        Raises:
            InputError: unknown method or option, a value that the method refuses, or layers that it does
                not want or lacks.
        """
        if isinstance(self.method, Method) and self.options:
            raise InputError(
                f"objective.{name}: options ({', '.join(self.options)}) are for a method given by name; this "
                "one is built already, so give them to its constructor."
            )
        if self.auto:
            raise InputError(
                f"objective.{name}.layers: auto has to be written out first (limbeck.pairing.settle_terms)."
            )
        method = self.method if isinstance(self.method, Method) else self._construct(name)
        if method.pairs == "none" and self.layers:
            raise InputError(f"objective.{name}.layers: this method compares no layers; leave the key out.")
        if method.pairs != "none" and not self.layers:
            raise InputError(
                f"objective.{name}.layers: this method compares features and needs the layers of the student "
                "and of the teacher, for example {layer2: layer2}."
            )
        if method.pairs == "one" and len(self.layers) != 1:
            raise InputError(
                f"objective.{name}.layers: this method compares one pair of layers; got {len(self.layers)}."
            )
        return method

    def _construct(self, name: str) -> Method:
        wanted = self.method if isinstance(self.method, str) else name
        return methods.create(wanted, self.options, where=f"objective.{name}", beside=self.beside)
