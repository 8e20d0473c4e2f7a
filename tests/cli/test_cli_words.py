"""The words of the command line themselves: help, version, what is misspelt, what is not there yet."""

import subprocess
import sys

import pytest

from limbeck.cli import LATER

HEAVY = ("torch", "numpy", "pydantic", "timm", "torchvision", "accelerate", "scipy", "rich", "yaml")
COMMANDS = (
    "distill",
    "demo",
    "init",
    "check",
    "evaluate",
    "export",
    "measure",
    "report",
    "push",
    "methods",
    "schema",
)

SCRIPT = """
import resource, sys
from limbeck.cli import main
assert main(["--help"]) == 0
used = resource.getrusage(resource.RUSAGE_SELF)
print([m for m in {heavy} if m in sys.modules], used.ru_utime + used.ru_stime, file=sys.stderr)
"""


def test_help_imports_nothing_heavy_and_takes_under_half_a_second_of_computing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(heavy=HEAVY)], capture_output=True, text=True, check=True
    )
    loaded, seconds = done.stderr.rsplit(" ", 1)
    assert loaded == "[]"
    assert float(seconds) < 0.5
    for command in (*COMMANDS, *LATER):
        assert f"  {command} " in done.stdout
    assert "..." not in done.stdout.split("Commands:")[1]  # no line is cut off


def test_version(call) -> None:
    from limbeck import __version__

    assert call("--version").out == f"limbeck {__version__}\n"


def test_without_a_command_the_help_goes_to_standard_error(call) -> None:
    said = call()
    assert (said.code, said.out) == (2, "")
    assert "Commands:" in said.err


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(call, command: str) -> None:
    said = call(command, "--help")
    assert said.code == 0
    assert said.out.startswith(f"Usage: limbeck {command}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["distil"], ['unknown command "distil"', 'Did you mean "distill"?', "Allowed: cache, check"]),
        (["--foo"], ['unknown option "--foo"', "--help, --version"]),
        (["distill"], ["distill: Missing argument", "Usage: limbeck distill"]),
        (["distill", "r.yaml", "--outt", "x"], ['"--outt"', 'Did you mean "--out"?', "--resume"]),
        (["distill", "r.yaml", "--train.epochs=3"], ["without dashes: key.sub=value"]),
        (["distill", "r.yaml", "--out"], ["'--out' requires an argument"]),
        (["demo", "--seeds", "0"], ["demo", "--seeds"]),
        (["demo", "--seeds", "x"], ["demo", "--seeds"]),
        (["measure"], ["Missing argument"]),
        (["measure", "cifar:resnet20", "--threads", "0"], ["--threads"]),
        (["init", "--teacher", "cifar:resnet20"], ["Missing option '--data'"]),
    ],
)
def test_a_wrong_word_gets_one_message(call, words: list[str], said: list[str]) -> None:
    call(*words).refused(*said)


@pytest.mark.parametrize("command", LATER)
def test_what_later_versions_bring_says_so(call, command: str) -> None:
    call(command, "recipe.yaml", "--views", "3", "--json").refused(f"limbeck {command}: not yet")


def test_an_unforeseen_error_is_one_line_and_no_traceback(call, recipe, monkeypatch) -> None:
    from limbeck.commands import distill

    def fails(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/x/result.json")

    monkeypatch.setattr(distill, "run", fails)
    call("distill", recipe).refused("No space left on device", "LIMBECK_DEBUG=1", code=1)
    monkeypatch.setenv("LIMBECK_DEBUG", "1")
    assert "Traceback" in call("distill", recipe).err


def test_methods_and_schema(call) -> None:
    listed = call("methods", "--json").json["methods"]
    assert {"cross_entropy", "kd", "decoupled_kd", "hint"} <= {m["name"] for m in listed}
    assert all(set(m) == {"name", "aliases", "kind", "paper", "options"} for m in listed)
    table = call("methods").out
    assert all(m["name"] in table for m in listed)
    assert all(line == line.rstrip() for line in table.splitlines())
    card = call("methods", "dkd").out
    assert "decoupled_kd" in card
    assert "temperature: float" in card
    assert call("methods", "fitnet", "--json").json["methods"][0]["name"] == "hint"
    call("methods", "kdd").refused('unknown method "kdd"', 'Did you mean "kd"?')
    assert call("schema").json["properties"]["train"]
    assert call("schema", "--json").out == call("schema").out
