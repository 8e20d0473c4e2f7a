"""Methods under one budget: what each variant is made of, and that all start where the control does."""

import json
from pathlib import Path
from typing import Any

import pytest
from both import RECIPE

import limbeck
from limbeck.comparison import with_methods
from limbeck.errors import InputError
from limbeck.recipe import Recipe
from limbeck.running import run

Made = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    out = tmp_path_factory.mktemp("compared") / "run"
    return out, limbeck.compare(Recipe.from_dict(RECIPE), out, methods=["kd", "dkd", "fitnet"])


def objective(recipe: Recipe, name: str) -> dict[str, Any]:
    assert recipe.variants is not None
    return {n: t.model_dump(mode="json") for n, t in recipe.variants[name].objective.items()}


def test_a_method_of_the_recipe_keeps_its_terms_and_others_get_the_published_ones(settings) -> None:
    found = with_methods(Recipe.from_dict(settings), ["kd", "dkd"])
    assert objective(found, "kd") == {
        "cross_entropy": {"weight": 0.1},
        "kd": {"weight": 0.9, "temperature": 2},
    }
    assert objective(found, "decoupled_kd") == {
        "cross_entropy": {"weight": 1.0},
        "decoupled_kd": {"weight": 1.0, "alpha": 1.0, "beta": 8.0, "temperature": 4.0},
    }


def test_methods_can_be_joined(settings) -> None:
    found = objective(with_methods(Recipe.from_dict(settings), ["kd+hint"]), "kd-hint")
    assert found["kd"] == {"weight": 0.9, "temperature": 2}
    assert found["hint"] == {"weight": 100.0, "normalize": True, "layers": "auto"}
    assert found["cross_entropy"] == {"weight": 1.0}


def test_label_terms_keep_their_shares(settings) -> None:
    settings["objective"] = {
        "cross_entropy": 0.2,
        "smooth": {"method": "ce", "label_smoothing": 0.1, "weight": {"start": 0, "end": 0.6, "epochs": 1}},
        "kd": 0.9,
    }
    found = objective(with_methods(Recipe.from_dict(settings), ["dkd"]), "decoupled_kd")
    assert found["cross_entropy"]["weight"] == pytest.approx(0.25)
    assert found["smooth"]["weight"] == pytest.approx(0.75)
    assert found["smooth"]["label_smoothing"] == 0.1


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (["kd", "kd"], "there twice"),
        (["decoupled_kd", "dkd"], "there twice"),
        (["decopled_kd"], 'Did you mean "decoupled_kd"'),
        ([], "nothing to compare"),
    ],
)
def test_what_cannot_be_compared(settings, methods: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_methods(Recipe.from_dict(settings), methods)


def test_a_variant_may_not_take_a_name_of_the_run(settings) -> None:
    settings["variants"] = {"control": {"objective": {"kd": 1}}}
    with pytest.raises(InputError, match='"control" is taken'):
        Recipe.from_dict(settings)


def test_distill_refuses_a_recipe_with_variants(settings, tmp_path: Path) -> None:
    settings["variants"] = {"hot": {"objective": {"kd": {"weight": 1, "temperature": 8}}}}
    with pytest.raises(InputError, match="limbeck compare"):
        run(Recipe.from_dict(settings), tmp_path / "run")


def test_every_method_has_its_figures_and_its_gain(made: Made) -> None:
    out, result = made
    assert list(result["variants"]) == ["kd", "decoupled_kd", "hint"]
    assert result == json.loads((out / "result.json").read_text())
    before = result["control"]["accuracy"]
    for found in result["variants"].values():
        for key in ("accuracy", "best", "agreement", "ece", "seconds"):
            assert len(found[key]) == 2
        ours = [b - a for a, b in zip(before, found["accuracy"], strict=True)]
        assert found["gain"]["mean"] == pytest.approx(sum(ours) / 2)
        assert found["gain"]["interval"] is not None


def test_each_is_the_student_that_a_run_of_its_own_would_train(made: Made, settings, tmp_path: Path) -> None:
    """The same start, the same batches: a comparison changes nothing but the objective."""
    out, result = made
    alone = limbeck.run(Recipe.from_dict(settings), tmp_path / "alone")
    assert alone["student"]["accuracy"] == result["variants"]["kd"]["accuracy"]
    for seed in (0, 1):
        for ours, theirs in (("control", "control"), ("student", "kd")):
            a = tmp_path / "alone" / "seeds" / str(seed) / ours / "student.safetensors"
            b = out / "seeds" / str(seed) / theirs / "student.safetensors"
            assert a.read_bytes() == b.read_bytes()


def test_auto_layers_are_written_out_in_the_run(made: Made) -> None:
    found = Recipe.load(made[0] / "recipe.yaml")
    assert objective(found, "hint")["hint"]["layers"] == {"stage1": "stage1"}


def test_resuming_adds_methods_and_repeats_none(made: Made, settings) -> None:
    out, before = made
    file = out / "seeds" / "0" / "kd" / "student.safetensors"
    stamp = file.stat().st_mtime_ns
    recipe = Recipe.from_dict(settings)
    after = limbeck.compare(recipe, out, methods=["kd+dkd", "hint"], resume=True)
    assert list(after["variants"]) == ["kd", "decoupled_kd", "hint", "kd-decoupled_kd"]
    assert after["variants"]["kd"]["accuracy"] == before["variants"]["kd"]["accuracy"]
    assert file.stat().st_mtime_ns == stamp


def test_the_page_has_a_row_for_each(made: Made) -> None:
    page = (made[0] / "report.html").read_text()
    for text in (
        "decoupled_kd",
        "hint",
        "control",
        "best epoch",
        "not corrected for",
        "Lead over the control",
    ):
        assert text in page
    assert "https://" not in page


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_student_that_diverges_is_given_up_and_the_others_go_on(
    settings, tmp_path: Path, jobs: int, capsys: pytest.CaptureFixture[str]
) -> None:
    settings["variants"] = {"wild": {"objective": {"cross_entropy": 1.0, "kd": {"weight": 1e30}}}}
    out = tmp_path / "run"
    found = limbeck.compare(Recipe.from_dict(settings), out, methods=["kd"], jobs=jobs)
    wild = found["variants"]["wild"]
    assert [said.split(":")[0] for said in wild["failed"]] == ["seed 0", "seed 1"]
    assert "became" in wild["failed"][0]
    assert wild["gain"] is None
    assert len(found["variants"]["kd"]["accuracy"]) == 2
    assert "Given up. seed 0: step" in (out / "report.html").read_text(encoding="utf-8")
    again = limbeck.compare(Recipe.from_dict(settings), out, methods=["kd", "dkd"], resume=True)
    assert again["variants"]["wild"]["failed"] == wild["failed"]
    assert len(again["variants"]["decoupled_kd"]["accuracy"]) == 2


def test_a_method_with_stages_keeps_what_the_recipe_says_of_it(settings) -> None:
    own = {"weight": 0.5, "margin": 2.0, "layers": {"stage2": "stage2"}}
    settings["objective"] = {"cross_entropy": 1.0, "ab": own}
    found = with_methods(Recipe.from_dict(settings), ["ab", "kd"])
    assert objective(found, "activation_boundary")["ab"] == own
    written = found.written_out().variants
    assert written is not None
    assert [s.objective["ab"].weight for s in written["activation_boundary"].stages or ()] == [0.5]


def test_a_student_that_ends_in_the_teachers_classifier_has_its_own_size(settings, tmp_path: Path) -> None:
    found = limbeck.compare(Recipe.from_dict(settings), tmp_path / "run", methods=["simkd", "kd"])
    larger, plain = found["variants"]["simple_projector"]["parameters"], found["student"]["parameters"]
    assert larger > plain
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "The student of simple_projector is another network than the control" in page
    assert f"{larger:,} parameters instead of {plain:,}" in page
    assert "The student of kd" not in page
    assert "parameters" not in found["variants"]["kd"]


def test_methods_with_stages_are_compared_under_the_same_budget(settings, tmp_path: Path) -> None:
    found = limbeck.compare(Recipe.from_dict(settings), tmp_path / "run", methods=["ab", "kd+ft"])
    first, second = found["variants"]["activation_boundary"], found["variants"]["kd-factor_transfer"]
    assert [(s["name"], s["epochs"], s["trains"]) for s in first["stages"]] == [
        ("activation_boundary", 1, "student")
    ]
    assert list(first["objective"]) == ["cross_entropy"]
    assert [(s["epochs"], s["trains"]) for s in second["stages"]] == [(1, "layers")]
    lines = [json.loads(t) for t in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    scored = [x["epoch"] for x in lines if x["role"] == "activation_boundary" and x["seed"] == 0]
    assert scored == [1, 2], "the stage is part of the student's two epochs"
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "first the student, 1 epoch: activation_boundary {weight: 0.003" in page
    assert "; then: cross_entropy {weight: 1}" in page
    assert "first its own layers, 1 epoch: factor_transfer {weight: 1" in page
