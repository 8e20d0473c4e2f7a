"""Exits: on any network with stages, taught by its own answer, saved, exported, and stopped at."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from own_parts import batches, built, divergence, recipe, same_gradients
from torch import Tensor, nn
from torch.nn import functional as F

import limbeck
from limbeck import EarlyExit, Recipe, Tapped, models, weights
from limbeck.composing import notes_of, recompose, told
from limbeck.errors import InputError
from limbeck.knowledge import Batch
from limbeck.schemes.own.exits import notes_for
from limbeck.students.early import first_sure
from limbeck.students.exits import AtExit, ExitNotes, Exits
from limbeck.students.small import convnet, mlp

IMAGES = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
COLOURS = Batch(torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))


def whole(**options: Any) -> Exits:
    torch.manual_seed(0)
    student = convnet(**{"width": 4, "depth": 3, **options})
    return Exits(student, notes_for(Tapped(student), Batch(IMAGES), 10), torch.Generator().manual_seed(0))


def trained() -> Exits:
    """One whose exits are more or less sure, by random statistics and larger classifiers."""
    network = whole()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for scale, exit in zip((25, 8), network.exits, strict=True):
            exit.linear.weight.copy_(scale * torch.randn(exit.linear.weight.shape, generator=generator))
    network.train()
    for _ in range(20):
        network.every(IMAGES)
    return network.eval()


def test_loss_and_gradient_are_the_papers() -> None:
    chosen = recipe("exits", {"hint": 0.01})
    scheme, data = built(chosen)
    batch = batches(data)[0]
    assert scheme.teach(batch) is None
    losses = scheme(batch, None)
    model = scheme.student.model
    assert isinstance(model, Exits)
    stages = dict(model.trunk.model.named_children())
    value, maps = scheme.student.adapter(batch.input), []
    for name in ("stage1", "stage2", "stage3"):
        value = stages[name](value)
        maps.append(value)
    deepest = stages["linear"](maps[-1].mean((2, 3)))
    wanted = F.cross_entropy(deepest, batch.target)
    for number, exit in enumerate(model.exits):
        feature = exit.bottleneck(maps[number]).mean((2, 3))
        logits = exit.linear(feature)
        apart = sum(
            ((ours - theirs.detach()) ** 2).sum()
            for ours, theirs in zip(feature, maps[-1].mean((2, 3)), strict=True)
        )
        wanted = wanted + 0.9 * F.cross_entropy(logits, batch.target) + 0.1 * divergence(logits, deepest, 3.0)
        wanted = wanted + 0.01 * apart / len(batch)
    same_gradients(losses["loss"], wanted, scheme)
    names = ["cross_entropy", *(f"exit-{n}.{t}" for n in (1, 2) for t in ("cross_entropy", "kd", "hint"))]
    assert list(losses) == ["loss", *names]


def test_the_deepest_exit_learns_from_labels_alone() -> None:
    scheme, data = built(recipe("exits"))
    batch = batches(data)[0]
    losses = scheme(batch, None)
    head = scheme.student.model.trunk.model.linear.weight
    for name in ("exit-1.kd", "exit-2.kd", "exit-1.hint"):
        assert torch.autograd.grad(losses[name], head, allow_unused=True, retain_graph=True) == (None,)
    (own,) = torch.autograd.grad(losses["cross_entropy"], head, retain_graph=True)
    (all_terms,) = torch.autograd.grad(losses["loss"], head)
    torch.testing.assert_close(own, all_terms)


def test_without_the_hint_no_feature_is_compared() -> None:
    scheme, data = built(recipe("exits", {"hint": 0}))
    assert [name for name in scheme(batches(data)[0], None) if "hint" in name] == []
    with pytest.raises(InputError, match=r"scheme: exits: hint must be a finite number >= 0"):
        recipe("exits", {"hint": -1})


def test_without_labels_the_deepest_has_nothing_to_learn_from() -> None:
    with pytest.raises(InputError, match="the deepest exit has no teacher and learns from labels"):
        built(recipe("exits", objective={"kd": 1.0}, control=False))


@pytest.mark.parametrize(
    ("name", "options", "exits", "halvings"),
    [
        ("cifar:resnet8", {}, 2, (2, 1)),
        ("cifar:vgg8", {}, 3, (2, 1, 0)),
        ("cifar:mobilenetv2", {}, 3, None),
        ("cifar:shufflenetv2", {}, 2, None),
        ("timm:vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "depth": 6}, 3, (0, 0, 0)),
        ("torchvision:resnet18", {}, 2, (2, 1)),
    ],
)
def test_exits_stand_on_any_network_with_stages(
    name: str, options: dict[str, Any], exits: int, halvings: tuple[int, ...] | None
) -> None:
    torch.manual_seed(0)
    plain = models.build(
        name, classes=7, channels=3, size=(32, 32), options=options,
        where="student", beside=None, pretrained=False,
    ).model.eval()  # fmt: skip
    before = plain(COLOURS.input)
    notes = notes_for(Tapped(plain), COLOURS, 7)
    network = Exits(plain, notes, torch.Generator().manual_seed(0)).eval()
    assert len(network.exits) == exits
    assert halvings in (None, notes.halvings)
    assert notes.batch_norm == (not name.startswith("timm:vit"))
    said = network.every(COLOURS.input)
    assert [one.logits.shape for one in said] == [(4, 7)] * (exits + 1)
    assert len({one.features[0].shape for one in said}) == 1
    torch.testing.assert_close(said[-1].logits, before, rtol=0, atol=0)
    torch.testing.assert_close(network(COLOURS.input), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("student", "message"),
    [
        (mlp((8, 8)), "exits stand at the ends of a network's stages, and this one has none"),
        (convnet(width=4, depth=1), 'this network has only one stage, "stage1"'),
    ],
)
def test_a_network_without_stages_is_refused(student: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message):
        notes_for(Tapped(student, who="student"), Batch(IMAGES), 10)


def test_bottlenecks_have_no_batch_statistics_where_the_network_has_none() -> None:
    kinds = {type(m) for m in whole(batch_norm=False).exits.modules()}
    assert nn.GroupNorm in kinds
    assert nn.BatchNorm2d not in kinds


def test_it_is_built_again_from_its_file(tmp_path: Path) -> None:
    network = trained()
    file = tmp_path / "student.safetensors"
    weights.save(network, file, notes_of(network))
    notes = weights.metadata(file)
    assert told(notes) == "has exits of its own"
    again = recompose(convnet(width=4, depth=3), notes).eval()
    weights.load(again, file, where="student")
    assert isinstance(again, Exits)
    for one, other in zip(again.every(IMAGES), network.every(IMAGES), strict=True):
        assert torch.equal(one.logits, other.logits)
    for broken in ({"taps": "stage1"}, {"classes": 1.5}, {"kind": "porch"}, {"porch": 1}):
        text = json.dumps({**json.loads(notes["composite"]), **broken})
        with pytest.raises(InputError, match="notes on a composite student are broken"):
            recompose(convnet(width=4, depth=3), {"composite": text})
    with pytest.raises(InputError, match=r'has exits of its own, and .*: student: no layer "stage3"'):
        recompose(convnet(width=4, depth=2), notes)
    with pytest.raises(ValueError, match="1 stages cannot have 2 exits"):
        Exits(convnet(), ExitNotes(("stage1",), (4,), (1, 1), 10, True), torch.Generator())


@pytest.mark.parametrize("threshold", [0.0, 0.8, 0.95, 0.99, 1.1])
def test_stopping_early_answers_as_asking_all_exits_does(threshold: float) -> None:
    network = trained()
    found = EarlyExit(network, threshold)(IMAGES)
    with torch.no_grad():
        wanted = first_sure([one.logits for one in network.every(IMAGES)], threshold)
    assert torch.equal(found.exits, wanted.exits)
    torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-5, atol=1e-6)
    assert sum(found.shares(3)) == pytest.approx(1)


def test_what_is_behind_an_exit_runs_for_those_alone_that_are_left() -> None:
    network = trained()
    rows: dict[str, int] = {}
    for name in ("stage2", "stage3", "linear"):
        module = network.trunk.model.get_submodule(name)
        module.register_forward_hook(lambda m, args, out, name=name: rows.update({name: len(args[0])}))
    network.train()
    found = EarlyExit(nn.Sequential(nn.Identity(), network), 0.95)(Batch(IMAGES))
    counts = found.exits.bincount(minlength=3).tolist()
    assert all(counts), "the test wants samples at every exit"
    assert rows == {"stage2": 12 - counts[0], "stage3": counts[2], "linear": counts[2]}
    assert network.training
    assert not any(isinstance(m, nn.BatchNorm2d) and not m.training for m in network.modules())
    rows.clear()
    assert EarlyExit(network, 0.0)(IMAGES).exits.tolist() == [0] * 12
    assert len(network.trunk.model.stage1._forward_hooks) == 1, "the trunk's own tap"


def test_a_compiled_network_stops_too() -> None:
    network = trained()
    wanted = EarlyExit(network, 0.95)(IMAGES).exits
    network.compile(backend="aot_eager")
    network(IMAGES)
    assert torch.equal(EarlyExit(network, 0.95)(IMAGES).exits, wanted)


def test_a_network_that_looks_back_past_an_exit_is_told_of() -> None:
    class LooksBack(nn.Module):
        def __init__(self, chain: nn.Module) -> None:
            super().__init__()
            self.chain = chain

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.chain(x)
            return logits[:1] + 0.0 * x.mean((1, 2, 3))[:, None]

    before = trained()
    student = LooksBack(before.trunk.model)
    taps = tuple(f"chain.{tap}" for tap in before.notes.taps)
    network = Exits(student, replace(before.notes, taps=taps), torch.Generator()).eval()
    network.exits.load_state_dict(before.exits.state_dict())
    with pytest.raises(InputError, match=r"\d+ samples are left and 12 come out"):
        EarlyExit(network, 0.95)(IMAGES)


def test_a_network_without_exits_cannot_be_stopped() -> None:
    with pytest.raises(InputError, match="needs one network with exits"):
        EarlyExit(convnet())


def test_an_exit_by_itself_answers_as_beside_the_others() -> None:
    network = trained()
    for number, said in enumerate(network.every(IMAGES)[:-1]):
        torch.testing.assert_close(AtExit(network, number)(IMAGES), said.logits, rtol=0, atol=0)


RECIPE: dict[str, Any] = {
    "name": "exits",
    "student": {"model": "py:limbeck.students.small:convnet", "width": 4, "depth": 3},
    "data": {"source": "digits", "samples": 256, "batch_size": 32},
    "objective": {"cross_entropy": 0.9, "kd": {"weight": 0.1, "temperature": 3}},
    "scheme": {"name": "own", "kind": "exits"},
    "train": {"epochs": 2, "threads": 1, "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9}},
    "export": {"formats": ["onnx"]},
}


@pytest.mark.slow
def test_a_run_ships_every_exit(tmp_path: Path) -> None:
    import onnx

    run = tmp_path / "run"
    result = limbeck.run(Recipe.from_dict(copy.deepcopy(RECIPE)), run)
    assert list(result["exits"]) == ["exit-1", "exit-2"]
    student = models.build(
        f"run:{run}", classes=10, channels=1, size=(8, 8), options={},
        where="student", beside=None, pretrained=False,
    ).model  # fmt: skip
    assert isinstance(student, Exits)
    for name, found in result["exits"].items():
        file = found["exports"]["onnx"]
        assert file["file"] == f"student.{name}.onnx"
        assert file["accuracy"] == found["accuracy"][0]
        assert file["agreement"] == 1.0
        assert file["latency_ms"] > 0
        graph = onnx.load(run / file["file"]).graph
        assert sum(math_size(tensor) for tensor in graph.initializer) < found["parameters"] + 64
        assert file["bytes"] == (run / file["file"]).stat().st_size
    last = {tuple(t.dims) for t in onnx.load(run / "student.exit-1.onnx").graph.initializer}
    assert (16, 8, 3, 3) not in last, "stage 3 is not in the file of exit 1"
    plain = sum(p.numel() for p in convnet(width=4, depth=3).parameters())
    assert result["control"]["parameters"] == plain < result["student"]["parameters"]
    rows = result["early_exit"]
    assert [row["threshold"] for row in rows] == [0.5, 0.7, 0.8, 0.9, 0.95, 0.99]
    assert all(sum(row["shares"].values()) == pytest.approx(1) for row in rows)
    assert list(rows[0]["shares"]) == ["exit-1", "exit-2", "student"]


def math_size(tensor: Any) -> int:
    size = 1
    for side in tensor.dims:
        size *= side
    return size
