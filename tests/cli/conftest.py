"""The command line called in this process, and a small finished run to call it on."""

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from limbeck.cli import main

RECIPE: dict[str, Any] = {
    "name": "tiny",
    "teacher": {"model": "py:limbeck.students.small:convnet", "width": 8, "train": {"epochs": 1}},
    "student": {"model": "py:limbeck.students.small:convnet", "width": 4},
    "data": {"source": "digits", "batch_size": 128, "samples": 256},
    "objective": {"cross_entropy": 0.5, "kd": {"weight": 0.5, "temperature": 4}},
    "train": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.05}},
    "export": {"formats": ["onnx"]},
}


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Standard output, which must be one JSON object and nothing else."""
        lines = self.out.splitlines()
        assert len(lines) == 1, self.out
        found = json.loads(lines[0], parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
        assert isinstance(found, dict)
        return found

    def refused(self, *words: str, code: int = 2) -> None:
        """Exactly one message on standard error, nothing on standard output, and each of `words` in it."""
        assert self.code == code, self
        assert self.out == "", self
        assert self.err.count("limbeck: ") == 1, self.err
        assert self.err.startswith("limbeck: "), self.err
        assert "Traceback" not in self.err
        for word in words:
            assert word in self.err, self.err


Call = Callable[..., Said]


def _call(*words: str) -> Said:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Said(code, out.getvalue(), err.getvalue())


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """`limbeck` with these words, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return _call


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of a few seconds, in the folder where `call` works."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """The same without a teacher."""
    path = tmp_path / "plain.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, "teacher": None, "objective": {"cross_entropy": 1}}))
    return path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A finished run, and what `limbeck distill --json` printed of it."""
    folder = tmp_path_factory.mktemp("finished")
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    said = _call("distill", path, "--out", folder / "run", "--json", "export.formats=[onnx, int8]")
    assert said.code == 0, said.err
    return folder / "run", said.json
