"""Reading YAML that a stranger may have written, into plain Python values.

The rules are those of YAML 1.2's core schema, which JSON Schema editors follow as well: `1e-3` is a number,
`no` and `on` are words, there are no dates and no tags beyond the plain ones. PyYAML does the parsing; what
it would construct by the older rules is built here, so that every refusal can name its line.

A document is refused when it is larger than a megabyte, nests deeper than 20, refers to itself, unfolds to
more than 100 000 values, repeats a key, or holds infinities, numbers beyond 64 bits or control characters.
"""

import math
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from limbeck.errors import InputError, nearest

__all__ = [
    "MAX_DEPTH",
    "MAX_VALUES",
    "MAX_WHOLE",
    "read_yaml",
    "refusal",
    "shown",
    "write_yaml",
]

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_VALUES = 100_000
MAX_WHOLE = 2**63

_RESOLVERS: dict[str, tuple[str, list[str]]] = {
    "null": (r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    "bool": (r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    "int": (r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    "float": (
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+.0123456789"),
    ),
}


class _Loader(yaml.SafeLoader):
    """Resolves plain words by YAML 1.2; only its composer is used."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own name and type)


class _Dumper(yaml.SafeDumper):
    """Quotes whatever YAML 1.1 or 1.2 would take for something other than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, (_pattern, _first) in _RESOLVERS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def shown(value: object) -> str:
    """A value as a person would recognise it in an error message, at most 80 characters."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        text = '"' + "".join(c if c.isprintable() else "?" for c in value[:80]) + '"'
        return text if len(value) <= 80 else text[:77] + '…"'
    if isinstance(value, Mapping):
        keys = ", ".join(str(k)[:20] for k in list(value)[:4])
        return f"a mapping ({keys}{', …' if len(value) > 4 else ''})" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, int) and abs(value) >= MAX_WHOLE:
        return "a number beyond 64 bits"
    if isinstance(value, int | float):
        return repr(value)
    return f"a {type(value).__name__}"


def refusal(value: object) -> str | None:
    """Why a single value cannot stand in a recipe; None when it can."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be a finite number, given {value}"
    if isinstance(value, int) and abs(value) >= MAX_WHOLE:
        return "must be a number of at most 64 bits"
    if isinstance(value, str):
        for char in value:
            if _unprintable(char):
                return f"must not hold control characters, given U+{ord(char):04X}"
    return None


def _unprintable(char: str) -> bool:
    if char in "\t\n" or " " <= char <= "~":
        return False
    return unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or ord(char) in (0xFEFF, 0xFFFE, 0xFFFF)


def read_yaml(source: Path | str, where: str = "") -> Any:
    """Read a YAML file (a `Path`) or YAML text (a `str`).

    Args:
        source: the file, or the text itself.
        where: what to call the text in messages; a file is called by its name.

    Returns:
        dict, list, str, int, float, bool or None; the keys of mappings are always text, as written.

    Raises:
        InputError: no such file, not UTF-8, not YAML, or refused by this module's rules.
    """
    if isinstance(source, Path):
        where = where or str(source)
        source = _text(source)
    where = where or "YAML"
    if len(source) > MAX_BYTES:
        raise InputError(f"{where}: must be at most {MAX_BYTES:,} bytes.")
    try:
        _check_size(source, where)
        node = yaml.compose(source, Loader=_Loader)
    except InputError:  # is a ValueError as well
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InputError(f"{where}{place}: not valid YAML: {error.problem or error.context}.") from None
    except yaml.reader.ReaderError as error:
        raise InputError(f"{where}: not valid YAML: {error.reason} (position {error.position}).") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # PyYAML lets chr() and int() errors of broken escapes and directives through.
        raise InputError(f"{where}: not valid YAML: {error}.") from None
    return None if node is None else _Builder(where).build(node, 0)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.{_neighbour(path)}") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; a YAML file is needed.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    if len(content) > MAX_BYTES:
        raise InputError(f"{path}: must be at most {MAX_BYTES:,} bytes.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be UTF-8 text; the byte at position {error.start} is not.") from None


def _neighbour(path: Path) -> str:
    try:
        return nearest(path.name, [p.name for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml")])
    except OSError:
        return ""


def _check_size(text: str, where: str) -> None:
    """Refuse deep or vast documents by their events, before PyYAML's recursive composer sees them."""
    depth = values = 0
    for event in yaml.parse(text, Loader=_Loader):
        values += isinstance(event, yaml.NodeEvent)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH or values > 2 * MAX_VALUES:  # keys count here as well
            line = f", line {event.start_mark.line + 1}" if event.start_mark else ""
            problem = f"nest deeper than {MAX_DEPTH} levels" if depth > MAX_DEPTH else "hold so many values"
            raise InputError(f"{where}{line}: must not {problem}.")


class _Builder:
    """Plain values from PyYAML's nodes. Aliases are unfolded, so nothing is shared and nothing is endless."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.values = 0
        self.open: list[yaml.Node] = []

    def refuse(self, node: yaml.Node, problem: str) -> InputError:
        mark = node.start_mark
        return InputError(f"{self.where}, line {mark.line + 1}, column {mark.column + 1}: {problem}.")

    def build(self, node: yaml.Node, depth: int) -> Any:
        self.values += 1
        if self.values > MAX_VALUES:
            raise self.refuse(node, f"unfolds to more than {MAX_VALUES:,} values")
        if any(node is parent for parent in self.open):
            raise self.refuse(node, "must not contain itself (an alias refers to what it stands in)")
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        if depth >= MAX_DEPTH:
            raise self.refuse(node, f"must not nest deeper than {MAX_DEPTH} levels")
        self.open.append(node)
        value = self.mapping(node, depth) if isinstance(node, yaml.MappingNode) else self.items(node, depth)
        self.open.pop()
        return value

    def items(self, node: yaml.Node, depth: int) -> list[Any]:
        if node.tag != "tag:yaml.org,2002:seq":
            raise self.refuse(node, f"the tag {shown(node.tag)} is not allowed")
        return [self.build(child, depth + 1) for child in node.value]

    def mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        if node.tag != "tag:yaml.org,2002:map":
            raise self.refuse(node, f"the tag {shown(node.tag)} is not allowed")
        result: dict[str, Any] = {}
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode) or not key.value:
                raise self.refuse(key, "a key must be text")
            if problem := refusal(key.value):
                raise self.refuse(key, f"a key {problem}")
            if key.value in result:
                raise self.refuse(key, f"the key {shown(key.value)} is given twice")
            result[key.value] = self.build(child, depth + 1)
        return result

    def scalar(self, node: yaml.ScalarNode) -> Any:
        text: str = node.value
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        # An explicit tag ("!!int x") may not fit its text; the implicit ones always do.
        if kind in _RESOLVERS and not re.fullmatch(_RESOLVERS[kind][0], text):
            raise self.refuse(node, f"{shown(text)} is not of the kind {shown(kind)}")
        if kind not in _RESOLVERS and kind != "str":
            raise self.refuse(node, f"the tag {shown(node.tag)} is not allowed")
        value = _scalar(kind, text)
        if problem := refusal(value):
            raise self.refuse(node, problem)
        return value


def _scalar(kind: str, text: str) -> Any:
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int":
        if len(text) > 100:
            return MAX_WHOLE  # refused by the caller; int() of thousands of digits is slow or forbidden
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    if kind == "float":
        return float(re.sub(r"\.(inf|nan)$", r"\1", text.lower()))
    return text


def write_yaml(data: object) -> str:
    """Plain values as YAML text that `read_yaml` and YAML 1.1 readers read back equal."""
    text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return str(text)
