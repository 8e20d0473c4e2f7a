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
from limbeck.runner import run

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
    assert objective(found, "hint")["hint"]["layers"] == {"stage2": "stage2"}


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
