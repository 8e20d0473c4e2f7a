"""The page of a run: complete, honest, offline, and safe whatever a run is called."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from limbeck.errors import InputError, WorkError
from limbeck.report import write, write_many

from .conftest import metrics, result

Make = Callable[..., Path]
EVIL = "<script>alert(1)</script>\"'&$x_{$"


class Page(HTMLParser):
    """Counts elements, and collects what a browser would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.alts: list[str] = []
        self.said = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        for key, value in attrs:
            if key in ("src", "href", "xlink:href", "data", "srcset", "action") and not (
                value or ""
            ).startswith("#"):
                self.loads.append(value or "")
            if key == "id":
                self.ids.append(value or "")
            if tag == "svg" and key == "aria-label":
                self.alts.append(value or "")

    def handle_data(self, data: str) -> None:
        self.said += data


def page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8").replace("\u00a0", " "))


def seeds(found: dict[str, Any], most: int) -> dict[str, Any]:
    """The same result with fewer seeds."""
    found["seeds"] = found["seeds"][:most]
    for part in ("control", "student"):
        found[part] = {k: v[:most] if isinstance(v, list) else v for k, v in found[part].items()}
    return found


def test_a_full_run_shows_all_that_it_has(make_run: Make) -> None:
    run = make_run()
    out = write(run)
    shown = page(out)
    assert out == run / "report.html"
    assert "Distilling helped: the student ends 0.84 points above its control" in shown.said
    for text in (
        *("90.96 % ± 0.22", "93.39 %", "853,018", "371 kB", "2.11 ms", "93.07 %", "1 h 38 min", "2.15.0"),
        *("limbeck distill recipe.yaml", "temperature: 4", "closes 26 %"),
        "seed 0, whose student scores 90.88 %",
    ):
        assert text in shown.said, text
    assert shown.tags["svg"] == shown.tags["figure"] == 7
    assert len(shown.alts) == 7
    assert all(len(alt) > 20 for alt in shown.alts)
    assert "int8 90.71 % at 371 kB" in " ".join(shown.alts)


def test_a_files_agreement_is_with_its_student_and_never_called_the_teachers(make_run: Make) -> None:
    found = result()
    found["exports"]["int8"]["agreement"] = 0.9876
    shown = page(write(make_run(found=found)))
    assert "They name the same class as that student in PyTorch: ONNX 100.00 %, int8 98.76 %." in shown.said
    agreement = next(alt for alt in shown.alts if alt.startswith("Agreement with the teacher"))
    assert "98.76" not in agreement
    assert "ONNX" not in agreement


def test_classes_go_by_their_names(make_run: Make) -> None:
    found = result()
    found["classes"] = [f"animal{i}" for i in range(10)]
    assert "animal7" in page(write(make_run(found=found))).said
    found["classes"] = found["classes"][:3]  # a list that does not fit names nobody
    assert "class 7" in page(write(make_run("other", found=found))).said


def test_the_page_loads_nothing_and_runs_nothing(make_run: Make) -> None:
    path = write(make_run())
    shown, text = page(path), path.read_text(encoding="utf-8")
    assert set(shown.loads) <= {"data:,"}
    assert "script" not in shown.tags
    assert "://" not in text
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert len(shown.ids) == len(set(shown.ids))


def test_references_inside_the_drawings_resolve(make_run: Make) -> None:
    text = write(make_run()).read_text(encoding="utf-8")
    used = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    assert used
    assert used <= set(re.findall(r'id="([^"]+)"', text))
    for drawing in re.findall(r"<svg.*?</svg>", text, flags=re.S):
        ElementTree.fromstring(drawing)
    assert not re.search(r"(fill|stroke): #", text)
    assert "mathdefault" not in text


def test_names_and_labels_are_text_and_never_markup(make_run: Make) -> None:
    found = result(EVIL)
    found["environment"][EVIL] = EVIL
    found["metrics"] = {EVIL: EVIL}
    found["exports"][EVIL] = {"file": EVIL, "accuracy": 0.9, "bytes": 5, "latency_ms": 1, "agreement": 0.9}
    found["seconds"][EVIL] = 1.0
    found["limbeck"] = EVIL
    lines = metrics()
    for line in lines:
        line["losses"][EVIL] = 1.0
    run = make_run(found=found, lines=lines)
    many = write_many([run], run / "many.html")
    for path in (write(run), many):
        assert "script" not in page(path).tags
        assert EVIL in page(path).said
        for drawing in re.findall(r"<svg.*?</svg>", path.read_text(encoding="utf-8"), flags=re.S):
            ElementTree.fromstring(drawing)


def test_letters_that_the_drawing_font_lacks_do_no_harm(make_run: Make) -> None:
    lines = metrics()
    for line in lines:
        line["losses"]["損失"] = 1.0
    assert "損失" in page(write(make_run(lines=lines))).said


def test_one_seed_is_called_not_proven(make_run: Make) -> None:
    found = seeds(result(), 1)
    found["gain"] = {"mean": 0.0076, "interval": None, "seeds": 1}
    shown = page(write(make_run(found=found, lines=[line for line in metrics() if line["seed"] == 0])))
    assert "Not proven: the student ends 0.76 points above its control (one seed: no interval" in shown.said
    assert "±" not in shown.said
    assert "closes" not in shown.said


def test_no_control_no_verdict(make_run: Make) -> None:
    found = result()
    found["control"] = found["gain"] = None
    shown = page(write(make_run(found=found)))
    assert "without a control, so it cannot say whether distilling helped" in shown.said
    assert "The control is" not in shown.said


def test_no_epochs_is_said(make_run: Make) -> None:
    found = seeds(result(), 1)
    found["control"] = found["gain"] = None
    shown = page(write(make_run(found=found, epochs=0)))
    assert "Nothing was trained" in shown.said
    assert "by epoch" not in shown.said


def test_a_gain_below_zero_is_said(make_run: Make) -> None:
    found = result()
    found["gain"] = {"mean": -0.004, "interval": [-0.006, -0.002], "seeds": 3}
    assert "Distilling hurt: the student ends 0.40 points below" in page(write(make_run(found=found))).said


@pytest.mark.parametrize(
    "missing", ["teacher", "control", "student", "exports", "seconds", "environment", "gain", "seeds"]
)
@pytest.mark.parametrize("how", ["absent", "null", "empty"])
def test_any_part_may_be_missing(make_run: Make, missing: str, how: str) -> None:
    found = result()
    if how == "absent":
        del found[missing]
    else:
        found[missing] = None if how == "null" else type(found[missing])()
    shown = page(write(make_run(found=found, lines=metrics(2), epochs=2)))
    assert "None" not in shown.said
    assert "nan" not in shown.said.split()


def test_a_bare_result_gives_a_page(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"name": "bare", "accuracy": 1}', encoding="utf-8")
    shown = page(write(tmp_path))
    assert "nothing to judge" in shown.said
    assert "svg" not in shown.tags


def test_another_metric_is_no_percentage(make_run: Make) -> None:
    found = {
        "name": "stsb", "seeds": [0, 1], "metric": "spearman", "teacher": {"spearman": 0.88, "bytes": 400},
        "control": {"spearman": [0.80, 0.81]}, "student": {"spearman": [0.82, 0.84], "bytes": 90},
        "gain": {"mean": 0.025, "interval": [0.01, 0.04], "seeds": 2}, "metrics": {"pearson": [0.81, 0.83]},
    }  # fmt: skip
    lines = [{"role": "student", "seed": s, "epoch": e, "spearman": 0.1 * e} for s in (0, 1) for e in (1, 2)]
    shown = page(write(make_run(found=found, lines=lines)))
    assert "0.0250 above its control (95 % interval +0.0100 to +0.0400, 2 seeds)" in shown.said
    assert "Spearman against size" in shown.said
    assert "Spearman by epoch" in shown.said
    assert "points" not in shown.said


def test_one_epoch_and_many_seeds_and_classes_still_draw(make_run: Make) -> None:
    found = result()
    found["seeds"] = list(range(40))
    for part in ("control", "student"):
        found[part]["accuracy"] = [0.5 + 0.001 * i for i in range(40)]
        found[part]["per_class"] = [0.5] * 1000
    shown = page(write(make_run(found=found, lines=metrics(1), epochs=1)))
    assert "The first 12 of 40 seeds" in shown.said
    assert "The 12 of 1000 classes that differ most" in shown.said


def test_the_same_run_gives_the_same_bytes(make_run: Make) -> None:
    run = make_run()
    assert write(run).read_bytes() == write(run, run / "again.html").read_bytes()


def test_out_may_be_a_file_in_a_new_folder_or_a_folder(make_run: Make, tmp_path: Path) -> None:
    run = make_run()
    assert write(run, tmp_path / "new" / "page.html") == tmp_path / "new" / "page.html"
    assert write(run, tmp_path / "new") == tmp_path / "new" / "report.html"
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["page.html", "report.html"]


def test_a_place_that_cannot_be_written_is_named(make_run: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(WorkError, match="cannot write"):
        write(make_run(), tmp_path / "file" / "page.html")


def test_several_runs_stand_side_by_side(make_run: Make, tmp_path: Path) -> None:
    one = seeds(result("lonely"), 1)
    one["gain"] = {"mean": 0.0076, "interval": None, "seeds": 1}
    bare = {"name": "bare", "student": {"accuracy": [0.5]}}
    runs = [make_run("a"), make_run("b", found=one), make_run("c", found=bare, lines=[])]
    shown = page(write_many(runs, tmp_path / "many.html"))
    assert "Of 3 runs, distilling clearly helped in 1 and shows no clear effect in 2." in shown.said
    for text in ("cifar10-resnet56-resnet20", "lonely", "bare", "+0.69 to +0.98", "Not proven", "50.00 %"):
        assert text in shown.said, text
    assert shown.tags["svg"] == 1
    assert "lonely +0.76 points (no interval)" in shown.alts[0]


def test_runs_that_cannot_be_compared_are_refused(make_run: Make, tmp_path: Path) -> None:
    other = make_run("b", found={"name": "b", "metric": "spearman"})
    with pytest.raises(InputError, match="accuracy, spearman"):
        write_many([make_run("a"), other], tmp_path / "many.html")
    with pytest.raises(InputError, match="no run"):
        write_many([], tmp_path / "many.html")


def test_what_was_taken_and_further_figures_are_told(tmp_path: Path) -> None:
    """A run that takes the mean of its best epochs does not claim the last one's figures."""
    import limbeck
    from limbeck.recipe import Recipe

    recipe = Recipe.from_dict(
        {
            "name": "taken",
            "seeds": 2,
            "student": {"model": "py:limbeck.students.small:mlp", "width": 8},
            "data": {"source": "digits", "samples": 200, "batch_size": 50, "validation": 0.2},
            "objective": {"cross_entropy": 1},
            "control": False,
            "train": {"epochs": 3, "ema": 0.9, "checkpoint": {"take": "average", "best": 2}},
            "metrics": ["top5"],
            "export": {"formats": []},
        }
    )
    result = limbeck.run(recipe, tmp_path / "run")
    text = (tmp_path / "run/report.html").read_text()
    assert "the verdict takes the mean weights of the epochs with the best accuracy" in text
    assert "moving average of the weights over the steps (decay 0.9)" in text
    assert "Student: mean of the best epochs" in text
    mean = 100 * sum(result["student"]["metrics"]["top5"]) / 2
    assert f"{mean:.2f}" in text


def test_peers_stand_beside_the_student_and_their_terms_do_not_count_for_it(make_run: Make) -> None:
    peers = {
        "peer-2": {"accuracy": [0.9, 0.91, 0.92], "ece": [0.1, 0.1, 0.1], "parameters": 272474},
        "ensemble": {"accuracy": [0.93, 0.94, 0.95], "ece": [0.1, 0.1, 0.1], "parameters": 544948},
    }
    lines = [
        {"role": "student", "seed": 0, "epoch": n, "accuracy": 0.5, "losses": {"kd": 1.0, "peer-2.kd": 2.0}}
        for n in (1, 2)
    ]
    folder = make_run(found=result() | {"peers": peers}, lines=lines)
    said = page(write(folder)).said
    assert re.search(r"peer-2\s*91.00 % ± 1.00\s*272,474", said)
    assert re.search(r"ensemble\s*94.00 % ± 1.00\s*544,948", said)
    assert "was settled before the training: the student" in said
    assert "peer-2.kd" not in said


def test_the_files_of_exits_and_what_stopping_at_them_brings(make_run: Make) -> None:
    entry = {"file": "student.exit-1.onnx", "accuracy": 0.786, "bytes": 30752, "latency_ms": 0.0576}
    found = result() | {
        "exits": {"exit-1": {"accuracy": [0.78, 0.79, 0.8], "parameters": 6114, "exports": {"onnx": entry}}},
        "early_exit": [
            {"threshold": 0.9, "accuracy": 0.8381, "shares": {"exit-1": 0.4086, "student": 0.5914}}
        ],
    }
    said = page(write(make_run(found=found))).said
    assert re.search(r"exit-1, ONNX\s*78.60 %\s*30.8 kB\s*57.6 µs\s*student.exit-1.onnx", said)
    assert re.search(r"Sure by 0.9\s*83.81 %\s*40.86 %\s*59.14 %", said)
    assert "Stopping early" not in page(write(make_run("plain"))).said
