"""Students that are composites: built for a training, and built again from what their weights' file says."""

import json
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from limbeck.calls import Call, classifier, eager, features_at, watch
from limbeck.errors import InputError
from limbeck.knowledge import Batch
from limbeck.methods._heads import classifies
from limbeck.methods.simple_projector import SimpleProjector
from limbeck.objective import Objective
from limbeck.students._notes import Notes
from limbeck.students.exits import ExitNotes, Exits
from limbeck.students.reused_head import HeadNotes, ReusedHead
from limbeck.taps import Tapped
from limbeck.teachers import Ensemble, Frozen
from limbeck.teachers.base import Speaker

__all__ = [
    "compose",
    "is_composite",
    "notes_of",
    "recompose",
    "student_head",
    "teacher_head",
    "teacher_heads",
    "told",
]

NOTE = "composite"
"""Under this name the head of a weights' file says how the student is put together."""

COMPOSITES: dict[str, tuple[type[Notes], Callable[..., nn.Module]]] = {
    HeadNotes.kind: (HeadNotes, ReusedHead),
    ExitNotes.kind: (ExitNotes, Exits),
}
"""By the kind that notes name: how these are read, and what is built of (student, notes, generator)."""


def compose(student: Tapped, objective: Objective, teacher: Frozen, batch: Batch, seed: int) -> nn.Module:
    """The student with its teacher's classifier in place of its own, as the objective's term asks (SimKD).

    Args:
        student: the plain network behind its input adapter; its own classifier is taken out of it.
        objective: one of its terms reuses the head.
        teacher: reads the taps of the objective.
        batch: a few samples, to see widths.
        seed: of the projector.

    Raises:
        InputError: the pair of layers does not fit, or a network has no classifier that could be exchanged.
    """
    assert objective.reused is not None
    ((ours, theirs),) = objective.reused.layers.items()
    read = list(dict.fromkeys([ours, *(tap for term in objective.terms.values() for tap in term.layers)]))
    own = classifier(watch(student, batch))
    if own is None or not own.path:  # a network that is one linear layer and nothing else
        raise InputError(
            "objective: the student is to end in the teacher's classifier in place of its own, and its own "
            "cannot be taken out: its logits are not what one linear layer answers."
        )
    before = features_at(student, read, batch)
    with torch.no_grad(), eager(teacher.network):
        heard = teacher(batch.to(_device(teacher.network)))
    goal, feature = heard.features[objective.teacher_taps.index(theirs)], before[0]
    head = _classifier(teacher, theirs, goal, heard.logits, own.path, batch)
    if feature.ndim != goal.ndim:
        raise InputError(
            f"objective: the student is to end in the teacher's classifier, so {ours} and {theirs} must both "
            f"be maps [B, C, H, W] or both vectors [B, C]; got {list(feature.shape)} and {list(goal.shape)}."
        )
    method = objective.method(next(n for n, t in objective.terms.items() if t is objective.reused))
    assert isinstance(method, SimpleProjector)
    notes = HeadNotes(
        tap=ours,
        replaced=own.path,
        inputs=feature.shape[1],
        width=goal.shape[1],
        classes=head.out_features,
        maps=feature.ndim == 4,
        bias=head.bias is not None,
        factor=method.factor,
    )
    _check_same_without(own, student, read, before, batch)
    whole = ReusedHead(student.model, notes, torch.Generator().manual_seed(seed))
    whole.reuse(head)
    return whole.to(_device(student))


def student_head(student: Tapped, batch: Batch) -> nn.Linear | None:
    """The linear layer that answers the student's logits; None: there is no such layer."""
    found = classifier(watch(student, batch))
    return found.module if found is not None and isinstance(found.module, nn.Linear) else None


def teacher_head(teacher: Speaker, batch: Batch) -> nn.Linear | None:
    """The teacher's likewise, for the classes that are asked for: a copy, where these are not all."""
    found = student_head(teacher.network, batch)
    return None if found is None else _chosen(found, teacher.classes)


def teacher_heads(teacher: Ensemble, batch: Batch) -> tuple[nn.Linear | None, ...]:
    """The head of that one of several teachers which each of the features is of."""
    return teacher.each({name: teacher_head(member, batch) for name, member in teacher.members.items()})


def _chosen(head: nn.Linear, classes: Tensor | None) -> nn.Linear:
    """The rows of a classifier that belong to some of its classes."""
    if classes is None:
        return head
    kept = classes.to(head.weight.device)
    found = nn.Linear(head.in_features, len(kept), bias=head.bias is not None, device="meta")
    found.weight = nn.Parameter(head.weight.detach()[kept], requires_grad=False)
    if head.bias is not None:
        found.bias = nn.Parameter(head.bias.detach()[kept], requires_grad=False)
    return found


def _classifier(
    teacher: Frozen, tap: str, feature: Tensor, logits: Tensor, replaced: str, batch: Batch
) -> nn.Linear:
    """The teacher's classifier, for the classes that are asked for.

    Raises:
        InputError: there is none, or what it takes is not this feature, averaged over its places.
    """
    found = classifier(watch(teacher.network, batch))
    if found is None or not isinstance(found.module, nn.Linear):
        raise InputError(
            "objective: the teacher's logits are not what one linear layer answers, so a student cannot end "
            "in its classifier."
        )
    head = _chosen(found.module, teacher.classes)
    if not classifies(head, feature, logits):
        raise InputError(
            f'objective: the teacher\'s classifier "{found.path}" does not take {tap}, averaged over its '
            "places, so a student cannot end in it. Pair what enters the classifiers, "
            f"layers: {{{replaced}:in: {found.path}:in}}."
        )
    return head


def _check_same_without(
    own: Call, student: Tapped, taps: list[str], before: tuple[Tensor, ...], batch: Batch
) -> None:
    """Refuse taps of the student's own classifier, or of what comes after it: these will be gone.

    Args:
        own: the call of the classifier.
        student: with it.
        taps: what is read.
        before: what is there with it.
        batch: what was asked.

    Raises:
        InputError: without its classifier the student answers something else there, or nothing at all.
    """
    gone = f"the student's own classifier \"{own.path}\" is taken out, for it is to end in the teacher's"
    handle = own.module.register_forward_hook(lambda module, args, answer: args[0])
    try:
        after = features_at(student, taps, batch)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise InputError(
            f"objective: {gone}, and without it the student does not run: {type(error).__name__}: {error}"
        ) from error
    finally:
        handle.remove()
    for tap, old, new in zip(taps, before, after, strict=True):
        if old.shape != new.shape or not torch.allclose(old, new, rtol=1e-3, atol=1e-5, equal_nan=True):
            raise InputError(
                f'objective: {gone}, so there is nothing to compare at "{tap}"; tap what comes before it, '
                f'for example "{own.path}:in".'
            )


def recompose(student: nn.Module, notes: Mapping[str, str]) -> nn.Module:
    """The composite that a weights' file was written by; the plain student, where that was one.

    Args:
        student: the plain network.
        notes: the head of the file.

    Raises:
        InputError: the notes cannot be read, or are of a student that is built in another way.
    """
    if not is_composite(notes):
        return student
    try:
        kind, built = COMPOSITES[_kind(notes)]
        parsed = kind.parse(notes[NOTE])
    except (ValueError, TypeError) as error:
        raise InputError(
            f"the notes on a composite student are broken ({error}): {notes[NOTE]!r}."
        ) from error
    try:
        return built(student, parsed, torch.Generator())
    except ValueError as error:
        raise InputError(
            f"the weights are of a student that {kind.told}, and this student is not the one that was "
            f"inside: {error}"
        ) from error


def _kind(notes: Mapping[str, str]) -> str:
    """Which composite the notes are of.

    Raises:
        ValueError: they are of none.
    """
    given = json.loads(notes[NOTE])
    kind = given.get("kind", HeadNotes.kind) if isinstance(given, dict) else None  # the first had no kind
    if kind not in COMPOSITES:
        raise ValueError(f"there is no composite {kind!r}")
    return str(kind)


def is_composite(notes: Mapping[str, str]) -> bool:
    """Whether the head of a weights' file says that they are a composite's."""
    return NOTE in notes


def told(notes: Mapping[str, str]) -> str:
    """What sets a composite apart from the network inside it, for people: "ends in its teacher's classifier".

    Raises:
        ValueError: the notes cannot be read.
    """
    return COMPOSITES[_kind(notes)][0].told


def notes_of(student: nn.Module) -> dict[str, str]:
    """What the head of the weights' file has to say so that `recompose` can build the student again."""
    return {NOTE: student.notes.dump()} if isinstance(student, ReusedHead | Exits) else {}


def _device(module: nn.Module) -> torch.device:
    return next((p.device for p in module.parameters()), torch.device("cpu"))
