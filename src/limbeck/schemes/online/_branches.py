"""Several ends of one network, of any that has stages: where it branches, and branches grown there.

A branch is a network of the same kind, in which every module that has done its work when the branching point
is reached gives place to one without parameters that hands on what the trunk's own module gave in this pass.
So nothing is traced or rewritten, and a network may do between its modules what it likes: the code that runs
is its own. The trunk is computed once; a branch computes what lies behind the branching point, and the few
operations in front of it that are no modules.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limbeck.calls import Call, version_of, watch
from limbeck.errors import InputError
from limbeck.knowledge import Batch, Knowledge
from limbeck.layers import Layers, Stage
from limbeck.taps import Tapped
from limbeck.teachers.base import Speaking

__all__ = ["Shelf", "Trunk", "grow", "trunk_of"]


class Shelf:
    """What the trunk's modules gave in this pass, in the order of the trunk's taps.

    A class and not closures, so that the branches of a deep copy read from the copy's own shelf.
    """

    def __init__(self) -> None:
        self.values: tuple[Tensor, ...] = ()


class _Replay(nn.Module):
    """Stands for a module of the trunk: hands on what that gave."""

    def __init__(self, shelf: Shelf, number: int, changed: bool) -> None:
        super().__init__()
        self.shelf = shelf
        self.number = number
        self.changed = changed

    def forward(self, *given: object, **named: object) -> Tensor:
        value = self.shelf.values[self.number]
        # What the network changes in place is every branch's own.
        return value.clone() if self.changed else value


@dataclass(frozen=True, slots=True)
class Trunk:
    """What the branches of a network share.

    Attributes:
        given: the tap of what enters the network.
        end: the tap of the map at the branching point, [B, C, H, W].
        paths: the modules whose answers are replayed.
        taps: of these answers.
        changed: whether an answer is changed in place after it was given.
    """

    given: str
    end: str
    paths: tuple[str, ...]
    taps: tuple[str, ...]
    changed: tuple[bool, ...]


def trunk_of(network: Tapped, probe: Batch) -> Trunk:
    """Where a network branches: before its last stage; before the last quarter of a transformer's blocks.

    Args:
        network: without taps.
        probe: a few samples.

    Raises:
        InputError: it has no stages, or a part before the last of them that cannot be replayed.
    """
    fork = _fork(network, probe)
    root = watch(network, probe)
    calls = list(root.all())
    last = next(c for c in calls if (c.path, c.number) == (fork.part.call.path, fork.part.call.number))
    often = {call.path for call in calls if call.number > 1}
    found = []
    for call in _done(root, last.end):
        if call.path in often or not isinstance(call.answer, Tensor):
            if any(True for _ in (*call.module.parameters(), *call.module.buffers())):
                why = "runs more than once" if call.path in often else "gives no single tensor"
                raise InputError(
                    f"scheme: the last stage of the {network.who} cannot be branched: the layer "
                    f'"{call.path}", which lies before it, {why}.'
                )
            continue  # it costs little, and is done again by each branch
        found.append((call.path, version_of(call.answer) != call.answer_version))
    return Trunk(
        ":in:copy" if version_of(root.given) != root.given_version else ":in",
        fork.tap,
        tuple(path for path, _ in found),
        tuple(f"{path}:copy" if changed else path for path, changed in found),
        tuple(changed for _, changed in found),
    )


def _fork(network: Tapped, probe: Batch) -> Stage:
    """The last stage that all branches share."""
    try:
        stages = Layers(network, probe).stages()
    except InputError as error:
        raise InputError(
            f"scheme: one branches the last stage of a network, and the {network.who} has none: it gives no "
            "maps [B, C, H, W]. Take a network of convolutions, or the kind mutual."
        ) from error
    own = max(1, len(stages) // 4) if stages[-1].level is None else 1
    if len(stages) <= own:
        raise InputError(
            f"scheme: one branches the last stage of a network, and the {network.who} has only one; there "
            "would be nothing to share. Take a network of two stages or more, or the kind mutual."
        )
    return stages[-1 - own]


def _done(call: Call, moment: int) -> Iterator[Call]:
    """The outermost calls within a call that had ended at a moment."""
    for inner in call.inner:
        if inner.end <= moment:
            yield inner
        elif inner.start < moment:
            yield from _done(inner, moment)


def grow(network: Tapped, trunk: Trunk, student: Tapped, probe: Batch, shelf: Shelf) -> nn.Module:
    """Make a branch of a network such as the student, in place.

    Args:
        network: with first weights of its own.
        trunk: of the student.
        student: reads the trunk's taps behind two others.
        probe: a few samples.
        shelf: from which the branch will read.

    Raises:
        InputError: the branch would not say what the network says, or begins just as the student does.
    """
    _check_alike(network.model, student.model)
    with torch.no_grad():
        wanted = _asked(student, probe)
        given, _, *outputs = wanted.features
        trial = _grafted(copy.deepcopy(student.model), trunk, shelf).eval()
        shelf.values = tuple(outputs)
        same = torch.allclose(trial(given), wanted.logits, rtol=1e-4, atol=1e-5)
    branch = _grafted(network.model, trunk, shelf)
    own = dict(branch.named_parameters())
    theirs = dict(student.model.named_parameters())
    if all(torch.equal(value, theirs[name]) for name, value in own.items()):
        raise InputError(
            "scheme: all branches of one begin with the same weights (student.weights, student.pretrained) "
            "and would stay alike; leave the weights out."
        )
    if not same:
        raise InputError(
            f"scheme: the last stage of the {student.who} cannot be branched: the network says something "
            "else when what lies before it is replayed."
        )
    _freeze_unreached(branch, given)
    shelf.values = ()
    return branch


def _asked(student: Tapped, probe: Batch) -> Knowledge:
    """What the student says of a probe, in eval mode."""
    device = next((p.device for p in student.parameters()), torch.device("cpu"))
    return Speaking(student)(probe.to(device))


def _grafted(model: nn.Module, trunk: Trunk, shelf: Shelf) -> nn.Module:
    for number, (path, changed) in enumerate(zip(trunk.paths, trunk.changed, strict=True)):
        model.set_submodule(path, _Replay(shelf, number, changed))
    return model


def _check_alike(model: nn.Module, student: nn.Module) -> None:
    shapes, wanted = ({n: v.shape for n, v in m.state_dict().items()} for m in (model, student))
    if type(model) is not type(student) or shapes != wanted:
        raise InputError(
            "scheme.peers: one is a single network with several ends, which are all of the student's kind; "
            "leave the key out, and give scheme.branches."
        )


def _freeze_unreached(branch: nn.Module, given: Tensor) -> None:
    """Parameters that no gradient reaches (a token in front of the replayed blocks, say) are not trained."""
    branch.eval()  # as built it was in training mode throughout, and is put back to that
    learned = [p for p in branch.parameters() if p.requires_grad]
    slopes: tuple[Tensor | None, ...]
    with torch.enable_grad():
        slopes = torch.autograd.grad(branch(given).sum(), learned, allow_unused=True)
    for parameter, slope in zip(learned, slopes, strict=True):
        parameter.requires_grad_(slope is not None)
    branch.train()
