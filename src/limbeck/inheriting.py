"""A student that begins as its teacher, with a larger classifier: the start of lifelong learning."""

import torch
from torch import Tensor, nn

from limbeck.assembly import setup
from limbeck.build import Prepared, probe_batch
from limbeck.calls import classifier, watch
from limbeck.data import Data
from limbeck.errors import InputError
from limbeck.inputs import InputAdapter
from limbeck.knowledge import Batch
from limbeck.objective import Objective
from limbeck.schemes.lifelong import Heads, Lifelong
from limbeck.taps import Tapped
from limbeck.teachers import Frozen

__all__ = ["inherit", "make_lifelong"]

SHOWN = 3
"""How many tensors a message lists."""


def make_lifelong(
    student: Prepared, objective: Objective, teacher: Frozen, data: Data, seed: int
) -> Lifelong:
    """A student that adds a task to its teacher's, or its control, which only begins as the teacher.

    Args:
        student: with its first weights; those that the teacher has become the teacher's.
        objective: what it learns from; the control's looks at labels alone.
        teacher: knows the old classes.
        data: with `tasks`.
        seed: of the training.

    Raises:
        InputError: the student cannot take the teacher's weights, or networks and terms do not fit together.
    """
    assert data.tasks is not None
    batch, train = probe_batch(data), data.train
    inherit(Tapped(student.model, (), student.adapter, who="student"), teacher, data.tasks.old, batch)
    heads = Heads(data.tasks.old, data.tasks.new)
    for part in objective.modules():
        if isinstance(part, Objective):  # those of stages, too
            part.looking = heads
    tapped = Tapped(student.model, objective.student_taps, student.adapter, who="student")
    heard = teacher if objective.needs_teacher else None
    targets = torch.as_tensor(train.targets)
    setup(tapped, objective, heard, batch, len(train), len(data.classes), seed, targets)
    return Lifelong(tapped, objective, heads, heard)


def inherit(student: Tapped, teacher: Frozen, old: tuple[int, ...], batch: Batch) -> None:
    """Give a student all of its teacher's weights; in its classifier, the rows of the old classes.

    The rows of the new classes stay as they were drawn.

    Args:
        student: answers all classes.
        teacher: answers the old ones.
        old: indices of these among the student's, in the teacher's order.
        batch: a few samples, to see which layer is the classifier.

    Raises:
        InputError: the networks are not the same but for the classifier's rows.
    """
    _check_inputs(student, teacher)
    head = _head(student, batch)
    if _head(teacher.network, batch) != head:
        raise _unlike("their classifiers stand in different places")
    own, known = student.model.state_dict(), teacher.network.model.state_dict()
    rows = [f"{head}.{name}" if head else name for name in ("weight", "bias")]
    apart = [
        f"{name} ({_shape(own.get(name))}, teacher {_shape(known.get(name))})"
        for name in dict.fromkeys([*own, *known])
        if _shape(own.get(name), name in rows) != _shape(known.get(name), name in rows)
    ]
    if apart:
        more = ", …" if len(apart) > SHOWN else ""
        raise _unlike(f"{len(apart)} of its tensors are not the teacher's: {', '.join(apart[:SHOWN])}{more}")
    with torch.no_grad():
        for name, value in own.items():
            theirs = known[name].to(value.device)
            if name not in rows:
                value.copy_(theirs)
                continue
            chosen = theirs if teacher.classes is None else theirs[teacher.classes.to(theirs.device)]
            value[torch.tensor(old, device=value.device)] = chosen


def _head(network: Tapped, batch: Batch) -> str:
    """The path of the linear layer that answers a network's logits."""
    found = classifier(watch(network, batch))
    if found is None or not isinstance(found.module, nn.Linear):
        raise InputError(
            f"{network.who}: its logits are not what one linear layer answers, so there are no rows to which "
            "those of new classes could be added."
        )
    return found.path


def _shape(value: Tensor | None, rows: bool = False) -> list[int] | None:
    """The shape of a tensor; without its rows where these may differ; None: there is no such tensor."""
    return None if value is None else list(value.shape)[1 if rows else 0 :]


def _check_inputs(student: Tapped, teacher: Frozen) -> None:
    """Refuse a student that would see other pixels than the weights were made for."""
    ours, theirs = student.adapter, teacher.network.adapter
    if not isinstance(ours, InputAdapter) or not isinstance(theirs, InputAdapter):
        return
    same = (ours.size, ours.channels) == (theirs.size, theirs.channels) and all(
        torch.equal(one.cpu(), other.cpu())
        for one, other in ((ours.scale, theirs.scale), (ours.shift, theirs.shift))
    )
    if not same:
        raise InputError(
            "student.input: the student begins as its teacher, so it must be shown images as the teacher is. "
            f"The teacher has {theirs.extra_repr()}; the student {ours.extra_repr()}, or other statistics."
        )


def _unlike(why: str) -> InputError:
    return InputError(
        f"student: cannot begin as its teacher, for {why}. With the scheme lifelong the student is the "
        "teacher's network with more classes: give student.model and its options as the teacher's are."
    )
