"""Which weights are taken in the end: chosen on the validation part, averaged, evaluated and shipped."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import limbeck
from limbeck import weights
from limbeck.choosing import Choosing
from limbeck.errors import InputError
from limbeck.evaluation.metrics import Evaluation, score
from limbeck.recipe import Recipe
from limbeck.students.small import convnet
from limbeck.training.runtime import Runtime
from limbeck.training.settings import Checkpoint

RECIPE: dict[str, Any] = {
    "name": "choosing",
    "teacher": None,
    "student": {"model": "py:limbeck.students.small:convnet", "width": 4},
    "data": {"source": "digits", "batch_size": 50, "samples": 200, "validation": 0.2},
    "objective": {"cross_entropy": 1.0},
    "control": False,
    "train": {"epochs": 4, "optimizer": {"name": "sgd", "lr": 0.2}},
    "export": {"formats": []},
}


def network(value: float) -> nn.Module:
    made = nn.Linear(1, 2, bias=False)
    nn.init.constant_(made.weight, value)
    return made


def choose(folder: Path, checkpoint: Checkpoint, values: list[float | None], rising: bool = True) -> Choosing:
    """Epochs 1, 2, … with these watched figures; the weights of epoch n are all n."""
    choosing = Choosing(checkpoint, rising, folder / "states", folder, [], Runtime("cpu"))
    for epoch, value in enumerate(values, 1):
        choosing.offer(epoch, value, network(float(epoch)))
    return choosing


def figures() -> tuple[Evaluation, Evaluation]:
    found = score(torch.eye(2), torch.tensor([0, 1]))
    return found, found


@pytest.mark.parametrize(
    ("rising", "values", "expected"),
    [
        (True, [0.1, 0.9, 0.5, 0.9, None], [2]),  # of equal ones the earlier; None is no figure
        (False, [0.3, 0.2, 0.4, 0.2], [2]),
    ],
)
def test_the_best_epoch_is_kept(
    tmp_path: Path, rising: bool, values: list[float | None], expected: list[int]
) -> None:
    choosing = choose(tmp_path, Checkpoint("best"), values, rising)
    assert [entry["epoch"] for entry in choosing.kept] == expected
    choosing.tidy()
    assert [p.name for p in (tmp_path / "states/epochs").iterdir()] == ["epoch-000002.safetensors"]
    model = network(5.0)
    _, _, told = choosing.conclude(model, 5, figures)
    assert told["taken"] == "best"
    assert torch.equal(model.weight, torch.full((2, 1), 2.0))
    assert torch.equal(load_file(tmp_path / "best.safetensors")["weight"], model.weight)


def test_the_average_is_the_mean_of_the_best_epochs(tmp_path: Path) -> None:
    choosing = choose(tmp_path, Checkpoint("average", best=3), [0.1, 0.9, 0.5, 0.8, 0.2])
    model = network(7.0)
    _, _, told = choosing.conclude(model, 5, figures)
    assert told["checkpoints"]["average"]["epochs"] == [2, 3, 4]
    torch.testing.assert_close(model.weight.detach(), torch.full((2, 1), 3.0))


def test_files_go_only_when_the_state_is_saved(tmp_path: Path) -> None:
    """An older state may still count on the weights of an epoch that is not among the best any more."""
    choosing = choose(tmp_path, Checkpoint("best"), [0.1, 0.9])
    assert len(list((tmp_path / "states/epochs").iterdir())) == 2
    choosing.tidy()
    assert len(list((tmp_path / "states/epochs").iterdir())) == 1


@pytest.mark.parametrize("take", ["last", "best", "average"])
def test_what_is_taken_is_what_is_saved_and_scored(tmp_path: Path, take: str) -> None:
    recipe = Recipe.from_dict(
        RECIPE, overrides=[f"train.checkpoint={{take: {take}, best: 2, watch: loss}}", "metrics=[top5]"]
    )
    result = limbeck.run(recipe, out=tmp_path / "run")
    folder = tmp_path / "run/seeds/0/student"
    found = json.loads((folder / "evaluation.json").read_text())["evaluation"]
    lines = [json.loads(text) for text in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [line["validation_loss"] for line in lines]
    best = min(range(4), key=losses.__getitem__)
    told = found["checkpoints"]
    assert found["taken"] == take
    assert told["best"]["epoch"] == best + 1
    assert told["best"]["watched"] == losses[best]
    assert told["best"]["accuracy"] == lines[best]["accuracy"]
    assert told["last"]["watched"] == losses[-1]
    assert (told.get("average") or {}).get("epochs") == (
        sorted(n + 1 for n in sorted(range(4), key=losses.__getitem__)[:2]) if take == "average" else None
    )
    assert found["accuracy"] == told[take]["accuracy"]
    assert found["loss"] == told[take]["loss"]
    assert result["student"]["taken"] == [take]
    assert result["student"]["metrics"]["top5"] == [found["metrics"]["top5"]]
    if take == "best":
        assert (
            weights.read(folder / "best.safetensors").keys()
            == weights.read(folder / "student.safetensors").keys()
        )


def test_choosing_needs_a_validation_part(tmp_path: Path) -> None:
    recipe = Recipe.from_dict(RECIPE, overrides=["data.validation=0", "train.checkpoint=best"])
    with pytest.raises(InputError, match=r"train\.checkpoint\.take: best is chosen on a validation part"):
        limbeck.run(recipe, out=tmp_path / "run")


def test_an_unknown_figure_to_watch_is_refused(tmp_path: Path) -> None:
    recipe = Recipe.from_dict(RECIPE, overrides=["train.checkpoint={watch: acuracy}"])
    with pytest.raises(InputError, match=r"train\.checkpoint\.watch: .*accuracy"):
        limbeck.run(recipe, out=tmp_path / "run")


def test_the_average_over_the_steps_is_what_is_scored_and_shipped(tmp_path: Path) -> None:
    """With a decay that forgets nothing, the average is the untrained network, whatever was learnt."""
    found = {}
    for name, ema in (("without", "null"), ("with", "{decay: 0.999999, schedule: constant}")):
        overrides = [f"train.ema={ema}", "data.validation=0", "train.optimizer={name: adam, lr: 0.02}"]
        limbeck.run(Recipe.from_dict(RECIPE, overrides=overrides), out=tmp_path / name)
        text = (tmp_path / name / "metrics.jsonl").read_text()
        found[name] = [json.loads(line) for line in text.splitlines()]
    torch.manual_seed(0)
    untrained = convnet(width=4).state_dict()
    shipped, learnt = (load_file(tmp_path / name / "student.safetensors") for name in ("with", "without"))
    moving = [name for name, value in untrained.items() if value.is_floating_point()]
    for name in moving:
        torch.testing.assert_close(shipped[name], untrained[name], atol=1e-3, rtol=1e-3)
    assert not all(torch.allclose(learnt[n], untrained[n], atol=1e-2) for n in moving)
    # The training itself does not notice; what is scored is the average.
    assert [line["losses"] for line in found["with"]] == [line["losses"] for line in found["without"]]
    assert found["with"][-1]["test_loss"] > found["without"][-1]["test_loss"]
