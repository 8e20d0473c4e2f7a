"""What a weights' file says of a composite student, so that it can be put together again: `Notes`."""

import json
from dataclasses import asdict, fields
from typing import Any, ClassVar, Self, get_args, get_origin

__all__ = ["Notes"]


class Notes:
    """For frozen dataclasses whose fields are texts, numbers and truths, or tuples of one of these."""

    kind: ClassVar[str]
    """Which composite they are of."""
    told: ClassVar[str]
    """How people are told what sets such a student apart."""

    def dump(self) -> str:
        """As one line of JSON."""
        return json.dumps({"kind": self.kind, **asdict(self)})  # type: ignore[call-overload]  # all are

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `dump` wrote.

        Raises:
            ValueError, TypeError: it is something else.
        """
        given = json.loads(text)
        if not isinstance(given, dict):
            raise ValueError(f"it is {given!r}")
        kinds = {field.name: field.type for field in fields(cls)}  # type: ignore[arg-type]  # all are dataclasses
        found = {k: _checked(k, v, kinds[k]) if k in kinds else v for k, v in given.items() if k != "kind"}
        return cls(**found)


def _checked(name: str, value: Any, kind: Any) -> Any:
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_checked(name, one, get_args(kind)[0]) for one in value)
    if type(value) is not kind:
        raise ValueError(f"{name} is {value!r}")
    return value
