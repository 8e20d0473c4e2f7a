"""YAML that a stranger may have written is either plain values or one clear error."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import InputError
from limbeck.overrides import apply_overrides
from limbeck.reading import read_yaml, shown, write_yaml
from limbeck.recipe.plain import plain

fuzz = settings(max_examples=300, deadline=None, derandomize=True, database=None)

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=12).filter(
    lambda t: not set(t) & set("\ufeff\ufffe\uffff")
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
    | st.sampled_from(
        ["1e3", "1e-3", "0o7", "0x1f", "yes", "no", "null", "~", "1:30", "2001-01-01", "", "- a", ".5"]
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS.filter(bool), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("5E4", 5e4),
        ("1.", 1.0),
        (".5", 0.5),
        ("-7", -7),
        ("010", 10),
        ("0x10", 16),
        ("0o10", 8),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2001-02-30", "2001-02-30"),
        ("1_000", "1_000"),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("!!float 1", 1.0),
        ("cifar:resnet20", "cifar:resnet20"),
    ],
)
def test_words_are_read_by_yaml_1_2(text: str, value: Any) -> None:
    found = read_yaml(text)
    assert found == value
    assert type(found) is type(value)


def test_keys_are_text_as_written() -> None:
    assert read_yaml("{1: a, true: b, null: c, 1.50: d}") == {"1": "a", "true": "b", "null": "c", "1.50": "d"}


def test_aliases_are_unfolded_and_not_shared() -> None:
    found = read_yaml("a: &x {k: [1]}\nb: *x")
    assert found == {"a": {"k": [1]}, "b": {"k": [1]}}
    found["a"]["k"].append(2)
    assert found["b"] == {"k": [1]}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a: &x\n  b: *x", ["line 1, column 4", "itself"]),
        ("&x [*x]", ["itself"]),
        ("a: 1\nb: 2\na: 3", ["line 3, column 1", '"a"', "twice"]),
        ("[" * 21 + "]" * 21, ["line 1", "20 levels"]),
        ("- " * 5000 + "x", ["20 levels"]),
        ("a: .inf", ["line 1, column 4", "finite", "inf"]),
        ("a: -.INF", ["finite"]),
        ("a: .nan", ["finite", "nan"]),
        ("a: 1e999", ["finite"]),
        ("a: 9223372036854775808", ["64 bits"]),
        ("a: " + "9" * 5000, ["64 bits"]),
        ("a: [1, 2", ["line 1", "not valid YAML"]),
        ("a:\n\t- b", ["line 2", "not valid YAML"]),
        ("a: b: c", ["line 1", "not valid YAML"]),
        ("a\n---\nb", ["line 2", "not valid YAML"]),
        ("a: *nothing", ["not valid YAML", "nothing"]),
        ("a: !!python/object/apply:os.system [x]", ["tag", "not allowed"]),
        ("a: !!python/name:os.system", ["tag", "not allowed"]),
        ("a: !!set {b}", ["tag", "not allowed"]),
        ("a: !!binary aGk=", ["tag", "not allowed"]),
        ("a: !!int x", ['"x"', '"int"']),
        ('a: !!bool "true\\n"', ['"bool"']),
        ("? [a]\n: b", ["key must be text"]),
        ("{'': 1}", ["key must be text"]),
        ('a: "\\0"', ["control characters", "U+0000"]),
        ('a: "\\ud800"', ["control characters", "U+D800"]),
        ('"a\\e": 1', ["control characters", "U+001B"]),
        ('a: "\\UFFFFFFFF"', ["not valid YAML"]),
        ("a: \x07", ["not valid YAML"]),
        ("x" * 1_000_001, ["1,000,000 bytes"]),
    ],
)
def test_what_is_refused_is_named_with_its_place(text: str, parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        read_yaml(text, "r.yaml")
    message = str(caught.value)
    assert message.startswith("r.yaml")
    assert "\n" not in message
    assert ("not valid YAML" in message) == ("not valid YAML" in parts)
    assert [part for part in parts if part not in message] == []


def test_a_bomb_of_aliases_is_refused_before_it_unfolds() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 15)]
    with pytest.raises(InputError, match="100,000 values"):
        read_yaml("\n".join(lines))


def test_a_vast_document_is_refused_early() -> None:
    with pytest.raises(InputError, match=r"^YAML, line \d+: must not hold so many values"):
        read_yaml("[" + "1," * 201_000 + "]")


def test_twenty_levels_are_allowed() -> None:
    value = read_yaml("[" * 20 + "]" * 20)
    for _ in range(19):
        value = value[0]
    assert value == []


class TestFiles:
    def test_reads_utf_8_with_and_without_mark(self, tmp_path: Path) -> None:
        file = tmp_path / "a.yaml"
        for mark in (b"", b"\xef\xbb\xbf"):
            file.write_bytes(mark + "größe: 1".encode())
            assert read_yaml(file) == {"größe": 1}

    def test_missing_names_the_nearest(self, tmp_path: Path) -> None:
        (tmp_path / "recipe.yaml").write_text("a: 1")
        with pytest.raises(InputError, match=r'no such file. Did you mean "recipe.yaml"'):
            read_yaml(tmp_path / "recipy.yaml")

    def test_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no such file"):
            read_yaml(tmp_path / "none" / "recipe.yaml")

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="is a folder"):
            read_yaml(tmp_path)

    def test_not_utf_8(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_bytes(b"ab\xff")
        with pytest.raises(InputError, match="UTF-8 text; the byte at position 2"):
            read_yaml(tmp_path / "a.yaml")

    def test_too_large(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_bytes(b"#" * 1_000_001)
        with pytest.raises(InputError, match="1,000,000 bytes"):
            read_yaml(tmp_path / "a.yaml")

    @pytest.mark.parametrize("name", ["a\0b", "a/b" * 3000])
    def test_names_that_no_file_can_have(self, name: str) -> None:
        with pytest.raises(InputError, match="cannot be read"):
            read_yaml(Path(name))


class TestOverrides:
    def test_values_are_yaml_and_the_later_wins(self) -> None:
        data = {"train": {"epochs": 3, "optimizer": {"lr": 0.1}}, "seeds": [0, 1]}
        found = apply_overrides(
            data,
            [
                "train.optimizer.lr=1e-3",
                "data.views={crop: 4}",
                "seeds.1=5",
                "name=a=b",
                "train.clip=",
                "name=x.y",
            ],
        )
        assert found == {
            "train": {"epochs": 3, "optimizer": {"lr": 1e-3}, "clip": None},
            "seeds": [0, 5],
            "data": {"views": {"crop": 4}},
            "name": "x.y",
        }
        assert data == {"train": {"epochs": 3, "optimizer": {"lr": 0.1}}, "seeds": [0, 1]}

    def test_null_on_the_way_becomes_a_mapping(self) -> None:
        assert apply_overrides({"a": None}, ["a.b=1"]) == {"a": {"b": 1}}
        assert apply_overrides({"a": [None]}, ["a.0.b=1"]) == {"a": [{"b": 1}]}

    @pytest.mark.parametrize(
        ("override", "part"),
        [
            ("train.epochs", "key.sub=value"),
            ("=1", "key.sub=value"),
            ("train..epochs=1", "key.sub=value"),
            (".a=1", "key.sub=value"),
            ("name.first=1", 'name is "n", which has no keys'),
            ("seeds.2=1", "a list of 2; its items are numbered from 0"),
            ("seeds.-1=1", "numbered from 0"),
            ("seeds.x=1", "numbered from 0"),
            ("train=[1", "not valid YAML"),
            ("train.epochs=.inf", "finite"),
            ("a\0=1", "control characters"),
        ],
    )
    def test_wrong_overrides_are_named(self, override: str, part: str) -> None:
        with pytest.raises(InputError) as caught:
            apply_overrides({"name": "n", "seeds": [0, 1]}, [override])
        assert part in str(caught.value)
        assert str(caught.value).startswith("override ")

    @fuzz
    @given(st.lists(st.text("ab.=0{}[]: -&*\n\0", max_size=12), max_size=4))
    def test_any_override_gives_a_mapping_or_an_input_error(self, overrides: list[str]) -> None:
        try:
            found = apply_overrides({"a": {"b": [1, {"a": None}]}, "b": None}, overrides)
        except InputError:
            return
        assert plain(found) == found


class TestPlain:
    def test_python_values_become_plain(self) -> None:
        assert plain({1: (Path("a/b"), 2.5), "x": None}) == {"1": ["a/b", 2.5], "x": None}

    @pytest.mark.parametrize(
        ("value", "part"),
        [
            ({"a": {"b": math.inf}}, "r: a.b: must be a finite number"),
            ({"a": [0, {1, 2}]}, "r: a.1: must be text, a number"),
            ({"a": {True: 1}}, "r: a: a key must be text, given true"),
            ({"a": {"": 1}}, "a key must be text"),
            ({1: 0, "1": 0}, '"1" is given twice'),
            ({"a": 2**64}, "64 bits"),
            ({"a": "x\0"}, "control characters"),
            ({"a\0": 1}, "control characters"),
            ({"a": b"x"}, "given a bytes"),
        ],
    )
    def test_what_is_refused_is_named_with_its_place(self, value: Any, part: str) -> None:
        with pytest.raises(InputError) as caught:
            plain(value, "r")
        assert part in str(caught.value)

    def test_endless_deep_and_vast_structures(self) -> None:
        endless: dict[str, Any] = {}
        endless["a"] = [endless]
        deep: Any = 1
        for _ in range(21):
            deep = [deep]
        vast: Any = 1
        for _ in range(18):
            vast = [vast, vast]
        for value, part in ((endless, "itself"), (deep, "20 levels"), (vast, "100,000 values")):
            with pytest.raises(InputError, match=part):
                plain(value)


@fuzz
@given(VALUES)
def test_what_is_written_is_read_back_equal_by_either_yaml(value: Any) -> None:
    text = write_yaml(value)
    assert plain(value) == value
    assert read_yaml(text) == value
    assert yaml.safe_load(text) == value


TOKENS = [
    "&a ",
    "*a",
    "- ",
    ": ",
    "? ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\n",
    "\n  ",
    "a",
    "b",
    "1",
    "1e3",
    ".inf",
    '"',
]
TOKENS += [
    "'",
    "\\",
    "\\ud800",
    "\\U99999999",
    "!!int ",
    "!!map ",
    "!x ",
    "!!float ",
    "|",
    ">",
    "%YAML 1.1\n",
]
TOKENS += [
    "---",
    "...",
    "#",
    "\t",
    "\0",
    "\x85",
    "\u2028",
    "\ufeff",
    "<<",
    "~",
    "0x",
    "%TAG ! x\n",
    "\r",
    "@",
]


@fuzz
@given(st.text(max_size=60) | st.lists(st.sampled_from(TOKENS), max_size=25).map("".join))
def test_any_text_gives_plain_values_or_an_input_error(text: str) -> None:
    try:
        found = read_yaml(text)
    except InputError as error:
        assert str(error).startswith("YAML")  # noqa: PT017
        return
    assert plain(found) == found


@fuzz
@given(st.binary(max_size=60))
def test_any_file_gives_plain_values_or_an_input_error(tmp_path_factory: Any, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(content)
    try:
        found = read_yaml(file)
    except InputError as error:
        assert str(file) in str(error)  # noqa: PT017
        return
    assert plain(found) == found


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        ("a\n", '"a?"'),
        ("x" * 100, '"' + "x" * 76 + '…"'),
        ({}, "an empty mapping"),
        (dict.fromkeys("abcde"), "a mapping (a, b, c, d, …)"),
        ([1, 2], "a list of 2"),
        (1.5, "1.5"),
        pytest.param(10**5000, "a number beyond 64 bits", id="huge"),
        ({1}, "a set"),
    ],
)
def test_values_are_shown_briefly(value: object, text: str) -> None:
    assert shown(value) == text
