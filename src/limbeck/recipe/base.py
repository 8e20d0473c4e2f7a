"""What the parts of a recipe share: strict types, no unknown keys, and room for options where it is meant."""

from collections.abc import Mapping
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from limbeck.reading import shown

__all__ = ["Open", "Part", "kind_of"]

# The names of the branches of "this or that" fields, worded so that they can stand in a message.
NUMBER, LIST, MAPPING, WORD, SWITCH = "a number", "a list", "a mapping", "a word", "true or false"
STEPS = "a mapping with steps"
TAGS = frozenset({NUMBER, LIST, MAPPING, WORD, SWITCH, STEPS})

# The patterns of names, and how to say them.
RUN_NAME = r"^[A-Za-z0-9._-]{1,100}$"
TERM_NAME = r"^[A-Za-z0-9._:-]{1,200}$"
METHOD_NAME = r"^[A-Za-z_][A-Za-z0-9_]*([.:][A-Za-z_][A-Za-z0-9_]*)*$"
FIGURE_NAME = r"^[A-Za-z][A-Za-z0-9_.-]{0,99}$"
AUTO_LAYERS = r"^([A-Za-z0-9._-]{1,100}/)?auto$"
DEVICE = r"^(auto|cpu|mps|xpu|cuda(:[0-9]{1,3})?)$"
PATTERNS = {
    AUTO_LAYERS: "auto (of several teachers, NAME/auto), or a mapping {student layer: teacher layer}",
    FIGURE_NAME: "a letter, then letters, digits and . _ -, 100 at most",
    RUN_NAME: "1 to 100 letters, digits, dots, underscores or hyphens",
    TERM_NAME: "made of letters, digits and . _ : -",
    METHOD_NAME: "a method's name or package.module:Class",
    DEVICE: "auto, cpu, cuda, cuda:N, mps or xpu",
}


def kind_of(value: Any) -> str:
    """Which branch of a "this or that" field a value belongs to: the discriminator of all such fields."""
    if isinstance(value, Mapping | BaseModel):
        return MAPPING
    if isinstance(value, list | tuple):
        return LIST
    if isinstance(value, bool):
        return SWITCH
    if isinstance(value, int | float):
        return NUMBER
    return WORD if isinstance(value, str) else "nothing"


class Part(BaseModel):
    """One closed part of a recipe: a key that it does not name is an error."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        protected_namespaces=(),
    )


class Open(Part):
    """A part that passes every key it does not name on to a constructor, as `options`.

    An option whose name the recipe uses itself can be written inside an explicit `options:` mapping.
    """

    model_config = ConfigDict(json_schema_extra={"additionalProperties": True})

    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Options by name; any key that the recipe does not know is put here as well.",
    )

    @model_validator(mode="before")
    @classmethod
    def _collect_options(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        known = cls.model_fields
        options = data.get("options", {})
        if not isinstance(options, Mapping):
            raise ValueError(f"options must be a mapping, given {shown(options)}")
        others = {key: value for key, value in data.items() if key not in known}
        if twice := sorted(set(others) & set(options)):
            raise ValueError(f"the option {shown(twice[0])} is given twice")
        return {k: v for k, v in data.items() if k in known} | {"options": {**options, **others}}

    @model_serializer(mode="wrap")
    def _spread_options(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The options as plain keys again; keys without a value are left out."""
        fields = {key: value for key, value in handler(self).items() if value is not None}
        options = fields.pop("options")
        hidden = {key: value for key, value in options.items() if key in type(self).model_fields}
        plain = {key: value for key, value in options.items() if key not in hidden}
        return {**fields, **plain, **({"options": hidden} if hidden else {})}
