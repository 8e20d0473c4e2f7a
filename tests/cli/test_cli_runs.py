"""Commands that make runs, and those that take finished ones."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from limbeck.phase import Interrupted
from limbeck.runfolder import RunFolder

Finished = tuple[Path, dict[str, Any]]


def test_distill_prints_its_result_and_writes_it(finished: Finished) -> None:
    folder, printed = finished
    assert printed == json.loads((folder / "result.json").read_text())
    assert printed["gain"]["interval"] is None
    assert printed["gain"]["mean"] == pytest.approx(
        printed["student"]["accuracy"][0] - printed["control"]["accuracy"][0]
    )
    for name in ("recipe.yaml", "metrics.jsonl", "student.safetensors", "student.onnx", "student.int8.onnx"):
        assert (folder / name).is_file()
    assert "<html" in (folder / "report.html").read_text()


def test_every_way_to_evaluate_the_student_agrees_with_the_result(call, finished: Finished) -> None:
    folder, result = finished
    student = call("evaluate", folder, "--data", "digits", "--json").json
    for name in ("accuracy", "loss", "ece"):
        assert student[name] == pytest.approx(result["student"][name][0], abs=1e-6)
    assert student["samples"] == 360
    assert call("evaluate", f"run:{folder}", "--data", "digits", "--json").json["loss"] == student["loss"]
    onnx = call("evaluate", folder / "student.onnx", "--data", "digits", "--json").json
    assert onnx["accuracy"] == result["exports"]["onnx"]["accuracy"]
    assert onnx["loss"] == pytest.approx(student["loss"], abs=1e-4)
    int8 = call("evaluate", folder / "student.int8.onnx", "--data", "digits", "--json").json
    assert int8["accuracy"] == result["exports"]["int8"]["accuracy"]
    text = call("evaluate", folder, "--data", "digits")
    right = round(student["accuracy"] * 360)
    assert f"accuracy {student['accuracy']:.4f} ({right} right)" in text.out


def test_measure(call, finished: Finished) -> None:
    folder, result = finished
    said = call(
        "measure", folder, folder / "student.onnx", "cifar:resnet20", "--shape", "1x8x8", "--json"
    ).json
    student, onnx, named = said["rows"]
    assert student["parameters"] == result["student"]["parameters"]
    assert onnx["bytes"] == result["exports"]["onnx"]["bytes"] == (folder / "student.onnx").stat().st_size
    assert named["multiply_adds"] > student["multiply_adds"] > 0
    assert all(row["p95_ms"] >= row["median_ms"] > 0 for row in said["rows"])
    assert "ratio" in call("measure", folder).out


def test_export_and_report(call, finished: Finished, tmp_path: Path) -> None:
    folder, result = finished
    found = call("export", folder, "--out", tmp_path / "x", "--json").json
    assert found["accuracy"] == result["exports"]["onnx"]["accuracy"]
    assert Path(found["path"]).is_file()
    small = call("export", folder, "--format", "int8", "--out", tmp_path / "y", "--json").json
    assert small["file"] == "student.int8.onnx"
    assert sorted(p.name for p in (tmp_path / "y").iterdir()) == ["student.int8.onnx"]
    assert (folder / "student.onnx").is_file()
    page = call("report", folder, "--out", tmp_path / "page.html", "--json").json
    assert "tiny" in Path(page["report"]).read_text()
    both = call("report", folder, folder, "--out", tmp_path / "both.html")
    assert "both.html" in both.out


def test_bad_input_to_commands_that_take_runs(call, finished: Finished, tmp_path: Path) -> None:
    folder, _ = finished
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.onnx").write_bytes((folder / "student.onnx").read_bytes()[:100])
    (tmp_path / "taken").write_text("")
    call("evaluate", "runs/none", "--data", "digits").refused('"runs/none" is no run folder')
    call("evaluate", "empty", "--data", "digits").refused("empty", "no finished run")
    call("evaluate", "none.onnx", "--data", "digits").refused("none.onnx")
    call("evaluate", "torn.onnx", "--data", "digits").refused("torn.onnx", "not an ONNX model")
    call("evaluate", "cifar:resnet21", "--data", "digits").refused('unknown network "resnet21"')
    call("evaluate", folder, "--data", "digitz").refused('Did you mean "digits"?')
    call("evaluate", folder, "--data", "digits", "--option", "width=3").refused('"width"')
    call("evaluate", folder / "student.onnx", "--data", "digits", "--weights", "x").refused("--weights")
    net = "py:limbeck.students.small:convnet"
    call("evaluate", net, "--data", "digits", "--option", "widht=3").refused('Did you mean "width"?')
    call("evaluate", net, "--data", "digits", "--option", "width").refused("key=value")
    call("evaluate", net, "--data", "digits", "--option", "width=[1").refused(
        "--option width", "not valid YAML"
    )
    call("evaluate", net, "--data", "digits", "--option", "num_classes=7").refused("[360, 10]", "[360, 7]")
    call("evaluate", net, "--data", "digits", "--option", "in_channels=3").refused("cannot take these images")
    call("measure", net, "--shape", "3x32").refused("--shape", "CxHxW")
    call("measure", "torchvision:inception_v3", "--shape", "3x8x8").refused("cannot take these images")
    call("measure", "torn.onnx").refused("torn.onnx")
    call("export", "empty").refused("empty is no run")
    call("export", folder, "--format", "tflite").refused("--format", '"tflite"', "int8, onnx")
    call("export", folder, "--out", "taken").refused("taken: cannot be used")
    call("report", "empty").refused("empty")
    call("report", "none").refused("none")


def test_a_folder_that_cannot_be_used(call, recipe: Path, finished: Finished, tmp_path: Path) -> None:
    folder, _ = finished
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    (tmp_path / "file").write_text("")
    call("distill", recipe, "--out", "mine").refused("mine is not empty", "thesis.txt", "--out")
    call("distill", recipe, "--out", "file").refused("file: cannot be used")
    call("distill", recipe, "--out", folder).refused("holds a run already", "--resume")
    call("distill", recipe, "--out", folder, "--resume", "train.epochs=7").refused("train.epochs", "7")
    with RunFolder(tmp_path / "busy").lock():
        call("distill", recipe, "--out", "busy").refused("busy is in use by another process")


def test_a_finished_run_can_be_resumed(call, finished: Finished) -> None:
    folder, before = finished
    words = "distill", folder.parent / "tiny.yaml", "export.formats=[onnx]", "--out", folder.parent / "copy"
    assert call(*words).code == 0
    said = call(*words, "--resume")
    assert said.code == 0, said.err
    assert "Page: " in said.out
    assert "epoch" not in said.err  # nothing was trained again
    after = json.loads((folder.parent / "copy" / "result.json").read_text())
    assert after["student"]["accuracy"] == before["student"]["accuracy"]


def test_no_epochs_is_everything_but_training(call, recipe: Path) -> None:
    result = call("distill", recipe, "train.epochs=0", "--out", "out", "--json").json
    assert result["gain"] is None
    assert result["control"] is None
    assert result["student"]["best"] == result["student"]["accuracy"]
    assert result["exports"]["onnx"]["agreement"] > 0.99
    assert Path("out/report.html").is_file()


def test_unlabelled_samples_beside_a_hundred_labelled(call, recipe: Path) -> None:
    words = "data.samples=null", "data.labels=100", "train.epochs=3", "teacher.train.epochs=1"
    assert call("check", recipe, *words, "--json").json["data"]["labelled"] == 100
    said = call("distill", recipe, *words, "objective.kd.weight=2", "--out", "out")
    assert said.code == 0, said.err
    result = json.loads(Path("out/result.json").read_text())
    lines = [json.loads(line) for line in Path("out/metrics.jsonl").read_text().splitlines()]
    assert {line["role"] for line in lines} == {"teacher", "control", "student"}
    for line in lines:
        assert all(math.isfinite(value) for value in line["losses"].values())
        # A mean over the labelled alone: thinned out over all samples it would be a fourteenth.
        assert line["losses"]["cross_entropy"] > 1.5
    control = [line["losses"]["cross_entropy"] for line in lines if line["role"] == "control"]
    assert control[-1] < control[0]  # it learns from the hundred
    assert all(math.isfinite(value) for value in result["control"]["loss"] + result["student"]["loss"])


def test_a_loss_that_explodes_is_a_failure_of_the_work(call, plain: Path) -> None:
    said = call("distill", plain, "train.optimizer.lr=1e30", "train.epochs=3", "--out", "out", "--json")
    assert said.code == 1
    assert said.out == ""
    last = said.err.splitlines()[-1]
    assert last.startswith("limbeck: ")
    assert "cross_entropy" in last
    assert "step" in last
    assert "Traceback" not in said.err


@pytest.mark.parametrize("error", [Interrupted, KeyboardInterrupt])
def test_a_stopped_run_says_how_to_go_on(call, recipe: Path, monkeypatch, error: type[BaseException]) -> None:
    from limbeck.commands import distill

    def stops(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(distill, "run", stops)
    said = call("distill", recipe, "train.epochs=3", "--out", "my runs/a", "--json")
    assert (said.code, said.out) == (130, "")
    assert f"limbeck distill {recipe} train.epochs=3 --out 'my runs/a' --resume" in said.err


@pytest.mark.slow
def test_ctrl_c_saves_and_resuming_finishes(call, plain: Path, tmp_path: Path) -> None:
    words = "distill", str(plain), "train.epochs=120", "control=false", "export.formats=[]", "--out", "out"
    running = subprocess.Popen(
        [sys.executable, "-m", "limbeck.cli", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    journal = tmp_path / "out" / "metrics.jsonl"
    while not (journal.exists() and journal.read_text().count("\n") >= 2):
        assert running.poll() is None, running.stderr.read()  # type: ignore[union-attr]  # a pipe, as asked for above
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=120)
    assert (running.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert err.splitlines()[-1].endswith("--out out --resume")
    done = journal.read_text().count("\n")
    assert done < 120
    said = call(*words, "--resume", "--json")
    assert said.json["student"]["accuracy"][0] is not None
    assert "goes on from step" in said.err
    epochs = [json.loads(line)["epoch"] for line in journal.read_text().splitlines()]
    assert epochs == list(range(1, 121))


def test_a_model_by_name_is_exported_and_agrees(call, tmp_path: Path) -> None:
    said = call(
        *("export", "py:limbeck.students.small:mlp", "--option", "width=8", "--data", "digits"),
        *("--out", str(tmp_path), "--json"),
    )
    assert said.code == 0, said.err
    assert said.json["agreement"] == 1.0
    assert (tmp_path / "student.onnx").is_file()


def test_a_model_by_name_needs_data(call) -> None:
    call("export", "cifar:resnet20").refused("--data", "checked and calibrated on")
