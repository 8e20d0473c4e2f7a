"""A tracked run is one training's and no other's, in whatever process and folder, killed or failing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from limbeck.progress import Silent
from limbeck.tracking import KINDS, Tracking
from limbeck.tracking.kind import Kind


class Said(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def tracking(folder: Path, *wanted: str, display: Any = None) -> Tracking:
    return Tracking({name: {} for name in wanted}, "run", folder, {"epochs": 3}, display or Silent())


def line(step: int) -> dict[str, Any]:
    return {"role": "student", "seed": 0, "step": step, "accuracy": step / 10}


def test_tensorboard_shows_no_step_twice_after_a_kill(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    record = tmp_path / "track/student-0.json"
    opened = tracking(tmp_path, "tensorboard").open("student", 0)
    opened.line(line(4))
    before = record.read_text()
    opened.line(line(8))
    opened.close()
    record.write_text(before)  # killed after step 8 was sent, before that was remembered
    opened = tracking(tmp_path, "tensorboard").open("student", 0)
    for step in (8, 12):
        opened.line(line(step))
    opened.close()
    events = EventAccumulator(str(tmp_path / "track/tensorboard/student-0"))
    events.Reload()
    assert [event.step for event in events.Scalars("accuracy")] == [4, 8, 12]


class Service:
    """A tracker that keeps what happens to it, and fails where it is told to."""

    def __init__(self, fails: str) -> None:
        self.fails = fails
        self.calls: list[str] = []

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fails:
            raise ConnectionError("no network")

    def start(self) -> None:
        self._called("start")

    def log(self, values: dict[str, Any], step: int) -> None:
        self._called("log")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self._called("configure")

    def finish(self) -> None:
        self._called("finish")


class Fake(Kind):
    fails: ClassVar[str] = ""
    services: ClassVar[list[Service]] = []
    restored: ClassVar[int] = 0

    def made(self, options: dict[str, Any], before: dict[str, Any]) -> Any:
        Fake.services.append(Service(self.fails))
        return Fake.services[-1]

    def restore(self) -> None:
        Fake.restored += 1


@pytest.mark.parametrize(
    ("fails", "calls"),
    [
        ("start", ["start"]),
        ("configure", ["start", "configure", "finish"]),
        ("log", ["start", "configure", "log", "finish"]),
        ("finish", ["start", "configure", "log", "log", "finish"]),
    ],
)
def test_a_tracker_that_fails_is_closed_for_the_next_training(
    fails: str, calls: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KINDS, "fake", Fake)  # type: ignore[arg-type]  # a dict, told to readers as a Mapping
    monkeypatch.setattr(Fake, "fails", fails)
    monkeypatch.setattr(Fake, "services", [])
    monkeypatch.setattr(Fake, "restored", 0)
    display = Said()
    opened = tracking(tmp_path, "fake", display=display).open("student", 0)
    for step in (1, 2):
        opened.line(line(step))
    opened.close()
    assert Fake.services[0].calls == calls
    assert Fake.restored == 1
    assert len(display.lines) == 1
    assert "fake failed" in display.lines[0]


def test_a_record_that_cannot_be_kept_does_not_stop_the_training(tmp_path: Path) -> None:
    display = Said()
    opened = tracking(tmp_path, "tensorboard", display=display).open("student", 0)
    (tmp_path / "track/student-0.json").unlink()
    (tmp_path / "track/student-0.json").mkdir()  # nothing can be put in its place
    for step in (1, 2, 3):
        opened.line(line(step))
    opened.close()
    assert len(display.lines) == 1
    assert "what trackers have got cannot be kept" in display.lines[0]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "track/tensorboard/student-0"))
    events.Reload()
    assert [event.step for event in events.Scalars("accuracy")] == [1, 2, 3]


SCRIPT = """
import json, shutil, sqlite3, sys
from pathlib import Path
from limbeck.progress import Silent
from limbeck.tracking import Tracking

class Said(Silent):
    def say(self, text): warnings.append(text)

warnings, found = [], {}
OPTIONS = {"mlflow": {}, "wandb": {"mode": "offline"}, "trackio": {"group": "given"}}

def send(folder, *steps):
    opened = Tracking(OPTIONS, "run", Path(folder), {"epochs": 3}, Said()).open("student", 0)
    for step in steps:
        opened.line({"step": step, "accuracy": step / 10})
    opened.close()
    record = json.loads((Path(folder) / "track/student-0.json").read_text())
    return {name: known["memory"]["run"] for name, known in record.items()}

found["first"] = send("a", 4)
found["resumed"] = send("a", 4, 8)
found["other"] = send("b", 4)
shutil.rmtree("a/track/wandb")
Path("a/track/student-0.json").unlink()
found["anew"] = send("a", 4)
import mlflow
found["left"] = mlflow.is_tracking_uri_set()
found["mlflow"] = {name: sorted(
    [int(line.split()[2]) for line in file.read_text().splitlines()]
    for file in Path(name).glob("track/mlflow/*/*/metrics/accuracy")) for name in "ab"}
(database,) = Path().rglob("*.db")
found["trackio folder"] = str(database.parent)
with sqlite3.connect(database) as opened:
    found["trackio"] = sorted(opened.execute("select run_id, step from metrics"))
found["warnings"] = warnings
print(json.dumps(found))
"""


@pytest.mark.slow
def test_runs_do_not_run_into_each_other(tmp_path: Path) -> None:
    """One process, two folders; a training that is resumed, and one that begins anew in the same folder."""
    (tmp_path / "script.py").write_text(SCRIPT)
    owned = ("MLFLOW_TRACKING_URI", "TRACKIO_DIR", "WANDB_MODE")
    settings = {k: v for k, v in os.environ.items() if k not in owned} | {"HF_HOME": str(tmp_path / "hub")}
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["resumed"] == found["first"]
    for tracker in ("mlflow", "wandb", "trackio"):
        assert len({found[when][tracker] for when in ("first", "other", "anew")}) == 3, tracker
    assert found["mlflow"] == {"a": [[4], [4, 8]], "b": [[4]]}
    assert not found["left"]
    # An option is checked by importing the package, which settles its folder: it must be the run's by then.
    assert found["trackio folder"] == "a/track/trackio"
    ids = {when: found[when]["trackio"] for when in ("first", "other", "anew")}
    rows = [[ids["first"], 4], [ids["first"], 8], [ids["other"], 4], [ids["anew"], 4]]
    assert found["trackio"] == sorted(rows)
    # The second folder's figures cannot go to the second folder, and that is said.
    assert [text for text in found["warnings"] if "trackio writes to" in text]
    assert not [text for text in found["warnings"] if "failed" in text]
