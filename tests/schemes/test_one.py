"""ONE: one network with several last stages, of any architecture; the trunk is computed once."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from hand_made import cross_entropy, divergence, numeric, setting_of, softmax
from torch import Tensor, nn

from limbeck.errors import InputError
from limbeck.knowledge import Batch
from limbeck.objective import Objective, Term
from limbeck.schemes.base import Setting
from limbeck.schemes.online.one import One
from limbeck.students.cifar import resnet8, resnet20
from limbeck.students.small import convnet, mlp
from limbeck.taps import Tapped
from limbeck.weights import load, save

CLASSES = 4


def objective() -> Objective:
    return Objective({"cross_entropy": 0.8, "kd": Term(weight=0.5, temperature=3.0)})


def images(side: int = 16, channels: int = 3, count: int = 4) -> Batch:
    given = torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(5))
    return Batch(given, torch.arange(count) % CLASSES)


def scheme(make: Callable[[], nn.Module], probe: Batch, branches: int = 3, objective: Any = objective) -> One:
    networks = []
    for seed in range(branches):
        torch.manual_seed(seed)
        networks.append(Tapped(make(), who="student" if not seed else f"peer-{seed + 1}"))
    setting = Setting(
        samples=None,  # type: ignore[arg-type]
        classes=CLASSES,
        seed=0,
        epochs=1,
        probe=probe,
        objective=objective,
        peers={one.who: one for one in networks[1:]},
        generator=torch.Generator().manual_seed(0),
    )
    return One(networks[0], objective(), setting, branches=branches)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "convnet": (lambda: convnet(CLASSES, 3, width=4, depth=3), 16),
    "resnet20": (lambda: resnet20(CLASSES, width=4), 16),
    "torchvision resnet18": (lambda: torchvision.models.resnet18(num_classes=CLASSES), 64),
    "torchvision mobilenet_v3": (lambda: torchvision.models.mobilenet_v3_small(num_classes=CLASSES), 64),
    "torchvision vgg11": (lambda: torchvision.models.vgg11(num_classes=CLASSES), 64),
    "torchvision densenet": (
        lambda: torchvision.models.DenseNet(4, (1, 1, 1), 8, num_classes=CLASSES),
        64,
    ),
    "timm lcnet": (lambda: timm.create_model("lcnet_050", num_classes=CLASSES), 64),
    "timm convnext": (lambda: timm.create_model("convnext_atto", num_classes=CLASSES), 64),
    "timm vit": (
        lambda: timm.create_model(
            "vit_tiny_patch16_224", img_size=64, depth=8, num_classes=CLASSES, embed_dim=24
        ),
        64,
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_any_network_with_stages_branches_and_the_trunk_runs_once(name: str) -> None:
    make, side = NETWORKS[name]
    probe = images(side)
    made = scheme(make, probe)
    plain = {n for n, _ in made.student.model.named_parameters()}
    for branch in made.branches:
        own = {n for n, _ in branch.named_parameters()}
        assert own < plain, "the trunk's parameters are there once"
        assert own, "and the last stage's once for each branch"
    calls: list[nn.Module] = []
    for module in made.student.model.modules():
        if any(True for _ in module.parameters(recurse=False)):  # one ReLU may stand in several places
            module.register_forward_hook(lambda module, args, answer: calls.append(module))
    made.train()
    losses = made(probe, None)
    assert len(calls) == len(set(calls)) > 0
    losses["loss"].backward()
    learned = [(n, p) for n, p in made.named_parameters() if p.requires_grad]
    unreached = [n for n, p in learned if p.grad is None]
    assert unreached == []
    # In eval mode a branch with the student's own weights says what the student says.
    made.eval()
    state = made.student.model.state_dict()
    for branch in made.branches:
        branch.load_state_dict({n: state[n] for n in branch.state_dict()})
    said, joined = made.together_on(probe.input)
    for one in said[1:]:
        torch.testing.assert_close(one.logits, said[0].logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(joined, said[0].logits, rtol=1e-4, atol=1e-5)


def double(batch: Batch) -> Batch:
    assert isinstance(batch.input, Tensor)
    return Batch(batch.input.double(), batch.target)


def small() -> nn.Module:
    return convnet(CLASSES, 1, width=2, depth=2)


def by_hand(
    made: One, batch: Batch, fixed: list[list[float]] | None = None
) -> tuple[float, list[list[float]]]:
    """The loss, and the ensemble's logits; these are the branches' target unless another is given.

    Branches are whole networks here, each with the trunk's weights in it.
    """
    assert isinstance(batch.input, Tensor)
    assert batch.target is not None
    target = batch.target.tolist()
    state = made.student.model.state_dict()
    logits = []
    for branch in (nn.Module(), *made.branches):
        whole = copy.deepcopy(made.student.model)
        whole.load_state_dict({**state, **branch.state_dict()})
        logits.append(whole(batch.input).tolist())
    pooled = made.student.model.stage1(batch.input).mean((2, 3)).tolist()
    weight, bias = made.gate.linear.weight.tolist(), made.gate.linear.bias.tolist()
    scores = [
        [sum(w * v for w, v in zip(row, one, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
        for one in pooled
    ]
    columns = []
    for column in zip(*scores, strict=True):
        middle = sum(column) / len(column)
        spread = sum((s - middle) ** 2 for s in column) / len(column)
        columns.append([max(0.0, (s - middle) / (spread + 1e-5) ** 0.5) for s in column])
    gates = [softmax(row) for row in zip(*columns, strict=True)]
    joined = [
        [sum(g * z[n][c] for g, z in zip(gates[n], logits, strict=True)) for c in range(CLASSES)]
        for n in range(len(gates))
    ]
    goal = joined if fixed is None else fixed
    total = 0.8 * cross_entropy(joined, target)
    for own in logits:
        total += 0.8 * cross_entropy(own, target) + 0.5 * divergence(goal, own, 3.0)
    return total, joined


def test_value_and_gradient_are_those_of_the_paper() -> None:
    batch = double(images(8, 1, 6))
    made = scheme(small, images(8, 1)).double()
    made.train()
    for module in made.student.modules(), *(b.modules() for b in made.branches):
        for one in module:
            if isinstance(one, nn.BatchNorm2d):
                one.eval()  # statistics that stay, so that a pass leaves no trace
    loss = made(batch, None)["loss"]
    total, fixed = by_hand(made, batch)
    assert loss.item() == pytest.approx(total, rel=1e-9)
    loss.backward()
    trunk, last = made.student.model.stage1[0].weight, made.student.model.linear.weight
    for weight in (trunk, last, made.branches[1].stage2[0].weight, made.gate.linear.weight):
        wanted = numeric(lambda: by_hand(made, batch, fixed)[0], weight)
        torch.testing.assert_close(weight.grad, wanted, rtol=1e-5, atol=1e-8)


def test_what_is_shipped_is_the_plain_network(tmp_path: Any) -> None:
    made = scheme(small, images(8, 1))
    plain = small()
    save(made.student.model.state_dict(), tmp_path / "student.safetensors", {})
    load(plain, tmp_path / "student.safetensors", where="student")
    made.eval()
    plain.eval()
    given = images(8, 1).input
    assert isinstance(given, Tensor)
    assert torch.equal(plain(given), made.student(given).logits)
    assert made.composed is False
    said, joined = made.together_on(given)
    for number, (name, other) in enumerate(made.kept().items(), 1):
        assert name == f"branch-{number + 1}"
        torch.testing.assert_close(other.eval()(given), said[number].logits)
        small().load_state_dict(other.state_dict(), strict=True)
        torch.testing.assert_close(made.further()[name](given).logits, said[number].logits)
    torch.testing.assert_close(made.further()["ensemble"](given).logits, joined)


def test_branches_begin_with_weights_of_their_own_and_parts_with_one_owner() -> None:
    made = scheme(small, images(8, 1))
    first, second = (branch.stage2[0].weight for branch in made.branches)
    assert not torch.equal(first, second)
    assert not torch.equal(first, made.student.model.stage2[0].weight)
    assert sorted(made.parts()) == ["branch-2", "branch-3", "own", "student"]
    assert {name.split(".")[0] for name, _ in made.parts()["own"]} == {"gate"}


def test_a_copy_reads_from_its_own_trunk() -> None:
    made = scheme(small, images(8, 1)).eval()
    batch = images(8, 1)
    before = made(batch, None)["loss"]
    twin = copy.deepcopy(made)
    assert torch.equal(twin(batch, None)["loss"], before)
    with torch.no_grad():
        for parameter in twin.student.parameters():
            parameter.add_(0.5)
    assert not torch.equal(twin(batch, None)["loss"], before)
    assert torch.equal(made(batch, None)["loss"], before)


def test_compiled_in_one_graph_it_learns_the_same() -> None:
    torch._dynamo.reset()
    found = []
    for compiled in (False, True):
        made = scheme(small, images(8, 1))
        made.train()
        if compiled:
            made.compile(backend="aot_eager", fullgraph=True)
        losses = made(images(8, 1), None)
        losses["loss"].backward()
        found.append([losses["loss"], *(p.grad for p in made.parameters())])
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


class Twice(nn.Module):
    """One layer with weights before and behind the branching point."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(3, 3, 3, padding=1)
        self.stage1 = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())
        self.stage2 = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU())
        self.linear = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage1(self.shared(x))
        return self.linear(self.stage2(self.shared(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mlp((16, 16), CLASSES, 3), "and the student has none: it gives no maps"),
        (lambda: convnet(CLASSES, 3, depth=1), "has only one; there would be nothing to share"),
        (Twice, 'the layer "shared", which lies before it, runs more than once'),
    ],
)
def test_a_network_that_cannot_be_branched_is_refused_with_the_reason(
    make: Callable[[], nn.Module], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        scheme(make, images())
    assert message in str(caught.value)


def test_branches_of_another_kind_and_options_out_of_range_are_refused() -> None:
    kinds = iter([resnet8(CLASSES), resnet20(CLASSES), resnet20(CLASSES)])
    with pytest.raises(InputError, match=r"scheme\.peers: one is a single network with several ends"):
        scheme(lambda: next(kinds), images())
    same = resnet8(CLASSES)
    with pytest.raises(InputError, match="begin with the same weights"):
        scheme(lambda: copy.deepcopy(same), images())
    with pytest.raises(InputError, match="the ensemble of one learns from labels"):
        scheme(small, images(8, 1), objective=lambda: Objective({"kd": 1.0}))
    with pytest.raises(ValueError, match="branches must be a whole number >= 2"):
        One.check({"branches": 1})
    assert One.together({"branches": 5}) == 5


def test_a_number_of_peers_is_no_number_of_branches() -> None:
    networks = iter([small(), small(), small()])
    with pytest.raises(InputError, match=r"leave the key out, and give scheme\.branches"):
        One(
            Tapped(next(networks)),
            objective(),
            setting_of([Tapped(next(networks)), Tapped(next(networks))], objective),
            branches=2,
        )
