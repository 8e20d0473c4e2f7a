"""Students are pushed and read back, from folders; whatever a repository names, no foreign code is run."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import limbeck
from limbeck import models
from limbeck.cli import main
from limbeck.errors import InputError, WorkError
from limbeck.models.base import Built
from limbeck.recipe import Recipe

RECIPE: dict[str, Any] = {
    "name": "pushed",
    "teacher": {"model": "cifar:resnet8", "train": {"epochs": 1}},
    "data": {"source": "digits", "batch_size": 50, "samples": 100},
    "objective": {"cross_entropy": 0.5, "kd": 0.5},
    "train": {"epochs": 1, "optimizer": {"lr": 0.05}},
    "control": False,
    "export": {"formats": ["onnx"]},
}
STUDENTS = {
    "cifar": {"model": "cifar:resnet8"},
    "timm": {"model": "timm:test_resnet", "input": {"channels": 3, "size": 32, "mean": [0.4, 0.4, 0.4]}},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each kind of student."""
    found = {}
    for name, student in STUDENTS.items():
        found[name] = tmp_path_factory.mktemp("runs") / name
        limbeck.run(Recipe.from_dict({**RECIPE, "student": student}), found[name])
    return found


def read(name: str, beside: Path | None = None, **options: Any) -> Built:
    return models.build(
        name, classes=10, channels=1, size=(8, 8), options=options, where="student", beside=beside
    )


def answers(built: Built) -> torch.Tensor:
    drawn = torch.rand(4, built.input.channels or 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found: torch.Tensor = built.model.eval()(drawn)
    return found


@pytest.mark.parametrize("kind", list(STUDENTS))
def test_a_pushed_student_is_read_back(
    kind: str, runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    assert main(["push", str(runs[kind]), str(folder), "--license", "mit", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["files"]) >= {
        "README.md",
        "config.json",
        "model.safetensors",
        "student.onnx",
        "recipe.yaml",
    }
    original = read(f"run:{runs[kind]}")
    found = read("hf:./model", beside=tmp_path)
    assert torch.equal(answers(found), answers(original))
    assert found.input == original.input
    text = (folder / "README.md").read_text()
    assert "license: mit" in text
    result = json.loads((runs[kind] / "result.json").read_text())
    assert f"{100 * result['student']['accuracy'][0]:.2f} %" in text
    assert "student.onnx" in text
    assert main(["push", str(runs[kind]), str(folder)]) == 0  # its own folder is written anew
    assert main(["evaluate", f"hf:{folder}", "--data", "digits"]) == 0


def test_nothing_of_an_earlier_student_stays_beside_another(runs: dict[str, Path], tmp_path: Path) -> None:
    assert main(["push", str(runs["cifar"]), str(tmp_path)]) == 0
    assert (tmp_path / "student.onnx").is_file()
    (tmp_path / "NOTES.md").write_text("mine")
    bare = tmp_path.with_name("bare")
    shutil.copytree(runs["cifar"], bare, ignore=shutil.ignore_patterns("student.onnx"))
    assert main(["push", str(bare), str(tmp_path)]) == 0
    assert not (tmp_path / "student.onnx").exists()
    assert (tmp_path / "NOTES.md").read_text() == "mine"


def test_timm_reads_a_pushed_student_of_its_own(runs: dict[str, Path], tmp_path: Path) -> None:
    import timm

    assert main(["push", str(runs["timm"]), str(tmp_path / "model")]) == 0
    model = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True)
    original = read(f"run:{runs['timm']}")
    assert torch.equal(answers(Built(model, original.input, "")), answers(original))
    assert tuple(model.pretrained_cfg["mean"]) == (0.4, 0.4, 0.4)
    # Without what we wrote beside, it is any model of timm's, and read as such.
    config = json.loads((tmp_path / "model/config.json").read_text())
    del config["limbeck"]
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    plain = models.build(
        f"hf:{tmp_path / 'model'}", classes=10, channels=3, size=(32, 32), options={}, where="teacher"
    )
    assert torch.equal(answers(plain), answers(original))
    assert plain.input.mean == (0.4, 0.4, 0.4)
    assert plain.input.size == 32


def test_a_pushed_student_teaches_another_run(runs: dict[str, Path], tmp_path: Path) -> None:
    assert main(["push", str(runs["cifar"]), str(tmp_path / "model")]) == 0
    recipe = {**RECIPE, "teacher": {"model": f"hf:{tmp_path / 'model'}"}, "student": STUDENTS["cifar"]}
    result = limbeck.run(Recipe.from_dict({**recipe, "export": {"formats": []}}), tmp_path / "next")
    before = json.loads((runs["cifar"] / "result.json").read_text())
    assert result["teacher"]["accuracy"] == before["student"]["accuracy"][0]


def test_the_upload_is_what_a_folder_would_be(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    class Api:
        def create_repo(self, repo_id: str, **options: Any) -> str:
            calls.append((repo_id, options))
            return f"https://huggingface.co/{repo_id}"

        def upload_folder(self, *, folder_path: Path, **options: Any) -> SimpleNamespace:
            shutil.copytree(folder_path, tmp_path / "uploaded")
            calls.append(("upload", options))
            return SimpleNamespace()

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert main(["push", str(runs["cifar"]), "me/small", "--private", "--message", "first"]) == 0
    assert capsys.readouterr().out.strip() == "https://huggingface.co/me/small"
    assert calls == [
        ("me/small", {"private": True, "exist_ok": True}),
        (
            "upload",
            {
                "repo_id": "me/small",
                "commit_message": "first",
                # What an earlier student may have had and this one has not.
                "delete_patterns": ["student.onnx.data", "student.int8.onnx"],
            },
        ),
    ]
    assert 'model: "hf:me/small"' in (tmp_path / "uploaded/README.md").read_text()
    # What was uploaded comes back by the hub's own download.
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path / "uploaded"))
    assert torch.equal(answers(read("hf:me/small")), answers(read(f"run:{runs['cifar']}")))


@pytest.mark.parametrize("model", ["py:os:system", "py:builtins:eval", "run:/somewhere", "hf:me/other"])
def test_code_that_a_repository_names_is_not_run(model: str, tmp_path: Path) -> None:
    config = {"limbeck": {"model": model, "options": {"command": "exit 1"}, "classes": ["a", "b"]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="never run because a repository names it"):
        read(f"hf:{tmp_path}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no config.json"),
        ("{", "cannot be read"),
        ('{"model_type": "vit"}', r"it is a vit of transformers.*not yet supported"),
        ('{"limbeck": {"model": "cifar:resnet8"}}', "is damaged"),
        ('{"architecture": "no_such_network"}', "cannot be built by timm"),
    ],
)
def test_folders_that_hold_no_network_are_refused(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read(f"hf:{tmp_path}")


def test_what_the_hub_says_is_said_in_our_words(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import errors

    def raising(error: Exception) -> None:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr("huggingface_hub.snapshot_download", fail)

    raising(errors.LocalEntryNotFoundError("offline"))
    with pytest.raises(WorkError, match="not in the cache, and the hub cannot be reached"):
        read("hf:me/small")
    raising(errors.HFValidationError("bad"))
    with pytest.raises(InputError, match="must look like OWNER/NAME"):
        read("hf:me/small/more")
    response = SimpleNamespace(headers={}, request=None, status_code=404)
    for kind, message in (
        (errors.RepositoryNotFoundError, "the hub has no hf:me/small"),
        (errors.RevisionNotFoundError, 'no revision "v9"'),
        (errors.GatedRepoError, "asks for a permission"),
    ):
        raising(kind("gone", response=response))  # type: ignore[arg-type]
        with pytest.raises(InputError, match=message):
            read("hf:me/small@v9")


@pytest.mark.parametrize(
    ("target", "message"),
    [("name", "must be OWNER/NAME, or a folder"), ("a/b/c", "must be OWNER/NAME"), ("/full", "is not empty")],
)
def test_wrong_targets_are_refused(
    target: str, message: str, runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if target == "/full":
        (tmp_path / "letter.txt").write_text("mine")
        target = str(tmp_path)
    assert main(["push", str(runs["cifar"]), target]) == 2
    assert message in capsys.readouterr().err
    assert main(["push", str(tmp_path / "nowhere"), "me/x"]) == 2


@pytest.mark.parametrize("config", ['{"model_type": "bert"}', "{", "[]", '{"limbeck": "6.1"}'])
def test_somebody_elses_model_is_not_written_over(
    config: str, runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = {"config.json": config, "model.safetensors": "their weights", "README.md": "their card"}
    for name, text in theirs.items():
        (tmp_path / name).write_text(text)
    assert main(["push", str(runs["cifar"]), str(tmp_path)]) == 2
    assert "is not empty and holds no pushed model" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == theirs
