"""The contract that every method keeps, as checks that anyone can run on their own.

    from limbeck.methods.testing import check_method

    def test_mine_keeps_the_contract():
        check_method(MyMethod, temperature=2.0)

Each check builds the method anew and gives it small made-up tensors; a broken promise is an `AssertionError`
that names it. A check from which a method's own declarations exempt it (it draws random numbers, say) gives
the reason instead. The project's own suite runs the same checks over every method that it finds.
"""

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from limbeck.knowledge import UNLABELLED, Knowledge
from limbeck.methods import options as options_of
from limbeck.methods._cases import CLASSES, INPUTS, SAMPLES, Shape, Subject, loss_of, make_case, tensors
from limbeck.methods._keeping import (
    compiles_in_one_graph,
    continues_from_its_state,
    prepares_its_own_layers,
    repeats_by_seed,
)
from limbeck.methods._promises import back, equal, gradients, refused, works
from limbeck.methods.base import Method

__all__ = ["CHECKS", "Subject", "check_method"]


def finite(subject: Subject) -> str | None:
    """Loss and gradients are finite in float32, in bfloat16, and under bfloat16 autocast."""
    for dtype, autocast in [(torch.float32, False), (torch.bfloat16, False), (torch.float32, True)]:
        made = make_case(subject, dtype=dtype)
        for both in (True, False):
            for name, change in INPUTS.items():
                case = made.map(change, teacher=both)
                method = subject.ready(made, torch.float32)
                with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                    loss = loss_of(method, case)
                back(loss)
                where = f"with {name} answers in {dtype}{' under autocast' if autocast else ''}"
                assert loss.isfinite(), f"the loss is {loss.item()} {where}"
                learned = [p.grad for p in method.parameters() if p.grad is not None]
                for gradient in [*gradients(case), *learned]:
                    assert gradient.isfinite().all(), f"a gradient is not finite {where}"
    return None


def teaches_the_student_only(subject: Subject) -> str | None:
    """The student and the method's own layers get a gradient, the teacher none; answers stay as they are."""
    case = make_case(subject)
    method = subject.ready(case)
    before = [t.detach().clone() for t in tensors(case.student) + tensors(case.teacher)]
    back(loss_of(method, case))
    assert any(bool((g != 0).any()) for g in gradients(case)), "the student gets no gradient"
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"the method's own {name} gets no gradient"
    assert all(t.grad is None for t in tensors(case.teacher)), "a gradient flows to the teacher"
    after = tensors(case.student) + tensors(case.teacher)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True)), (
        "an answer was changed in place"
    )
    return None


def needs_what_it_declares(subject: Subject) -> str | None:
    """Only `label` methods do without a teacher; labels are asked for by those that declare it only."""
    case = make_case(subject)
    method = subject.ready(case)
    if subject.cls.kind != "label":
        refused(lambda: loss_of(method, replace(case, teacher=None)), "a missing teacher")
    without = replace(case, batch=replace(case.batch, target=None))
    if subject.cls.kind == "label" or subject.cls.hard_targets:
        refused(lambda: loss_of(method, without), "missing labels")
    else:
        works(lambda: loss_of(method, without), "missing labels, which are not declared as needed")
    assert case.batch.target is not None
    shares = nn.functional.one_hot(case.batch.target, CLASSES).to(torch.float64)
    mixed = replace(case, batch=replace(case.batch, target=0.7 * shares + 0.3 * shares.flip(0)))
    if subject.cls.hard_targets:
        refused(lambda: loss_of(method, mixed), "mixed targets")
    else:
        works(lambda: loss_of(method, mixed), "mixed targets, while `hard_targets` is not declared")
    return None


def skips_unlabelled(subject: Subject) -> str | None:
    """Unlabelled samples are worth nothing to a loss that looks at labels, and none at all gives zero."""
    if subject.cls.kind != "label" and not subject.cls.hard_targets:
        return "looks at no labels"
    if subject.cls.random or subject.cls.stateful or subject.cls.compares_samples:
        return "is not a mean over samples"
    case = make_case(subject)
    assert case.batch.target is not None
    target = case.batch.target.clone()
    target[::2] = UNLABELLED
    half = replace(case, batch=replace(case.batch, target=target))
    labelled = case.rows(torch.arange(1, SAMPLES, 2))
    method = subject.ready(case)
    equal(loss_of(method, half), loss_of(method, labelled), "unlabelled samples count")
    none = replace(case, batch=replace(case.batch, target=torch.full_like(target, UNLABELLED)))
    loss = loss_of(method, none)
    back(loss)
    assert loss == 0, f"a batch without labels gives {loss.item()}, not 0"
    assert all(bool((g == 0).all()) for g in gradients(none)), "a batch without labels gives a gradient"
    return None


def least_when_equal(subject: Subject) -> str | None:
    """A student that answers as the teacher does has the declared minimum, and no other student less."""
    if subject.cls.minimum is None:
        return "declares no minimum"
    case = make_case(replace(subject, student=subject.shapes()[1]), equal=True)
    method = subject.ready(case)
    loss = loss_of(method, case).item()
    assert math.isclose(loss, subject.cls.minimum, abs_tol=1e-7), f"{loss}, not {subject.cls.minimum}"
    generator = torch.Generator().manual_seed(4)
    noise = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in tensors(case.student)]
    for size in (1e-2, -1e-2, 1.0, -1.0):
        moved = [t.detach() + size * n for t, n in zip(tensors(case.student), noise, strict=True)]
        other = replace(case, student=Knowledge(moved[0], tuple(moved[1:])))
        less = loss_of(subject.ready(case), other).item()
        assert less >= loss - 1e-7, f"another student has {less}, less than the declared minimum"
    return None


def same_in_any_order(subject: Subject) -> str | None:
    """The order of the samples in a batch does not matter, neither to the loss nor to the gradient."""
    if subject.cls.random or subject.cls.stateful:
        return "is random or stateful"
    case = make_case(subject)
    other = case.map(lambda t: t)
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(5))
    straight, shuffled = (
        loss_of(subject.ready(case), case),
        loss_of(subject.ready(case), other.rows(order)),
    )
    equal(straight, shuffled, "the order of the samples changes the loss")
    back(straight)
    back(shuffled)
    for a, b in zip(gradients(case), gradients(other), strict=True):
        equal(a, b, "the order of the samples changes the gradient")
    return None


def same_in_halves(subject: Subject) -> str | None:
    """The mean over two halves is the loss of the whole: what several processes or parts of a batch compute.

    Unlabelled samples included: each half then divides by half the number of labelled ones.
    """
    if subject.cls.compares_samples:
        return "compares samples"
    if subject.cls.random or subject.cls.stateful:
        return "is random or stateful"
    case = make_case(subject)
    assert case.batch.target is not None
    target = case.batch.target.clone()
    target[:3] = UNLABELLED
    halves = torch.arange(SAMPLES).chunk(2)
    for batch in (
        case.batch,
        replace(case.batch, target=target, labelled=torch.tensor((SAMPLES - 3) / 2, dtype=torch.float64)),
    ):
        whole = replace(case, batch=replace(batch, labelled=None))
        parts = [loss_of(subject.ready(case), replace(case, batch=batch).rows(half)) for half in halves]
        equal(loss_of(subject.ready(case), whole), torch.stack(parts).mean(), "halves give another loss")
    return None


def same_in_any_memory_order(subject: Subject) -> str | None:
    """Maps whose channels lie innermost in memory, as images like them, give the same loss and gradient."""
    case = make_case(subject)
    if all(t.ndim != 4 for t in tensors(case.student) + tensors(case.teacher)):
        return None
    other = case.map(lambda t: t.to(memory_format=torch.channels_last) if t.ndim == 4 else t)
    losses = [loss_of(subject.ready(case), one) for one in (case, other)]
    for loss in losses:
        back(loss)
    equal(losses[0], losses[1], "another memory order changes the loss")
    for a, b in zip(gradients(case), gradients(other), strict=True):
        equal(a, b, "another memory order changes the gradient")
    return None


def refuses_bad_options(subject: Subject) -> str | None:
    """Every option refuses what it cannot be, with a `ValueError` that names it."""
    if not options_of(subject.cls):
        return "has no options"
    for name in options_of(subject.cls):
        for bad in (math.nan, math.inf, "no such value", object()):
            given = {**subject.options, name: bad}
            message = refused(functools.partial(subject.cls, **given), f"{name}={bad!r}")
            assert name in message, f"the message for {name}={bad!r} does not name the option: {message}"
    return None


def says_what_it_is(subject: Subject) -> str | None:
    """The class has a docstring, and its paper a link."""
    assert inspect.getdoc(subject.cls), "no docstring"
    assert "https://" in subject.cls.paper, f"`paper` has no link: {subject.cls.paper!r}"
    known = {*options_of(subject.cls), "weight"}
    odd = set(subject.cls.published) - known
    assert not odd, f"`published` names options that do not exist: {sorted(odd)}"
    return None


CHECKS: tuple[Callable[[Subject], str | None], ...] = (
    finite,
    teaches_the_student_only,
    needs_what_it_declares,
    skips_unlabelled,
    least_when_equal,
    same_in_any_order,
    same_in_halves,
    repeats_by_seed,
    continues_from_its_state,
    same_in_any_memory_order,
    prepares_its_own_layers,
    compiles_in_one_graph,
    refuses_bad_options,
    says_what_it_is,
)
"""Every check: a function of a `Subject` that gives None when the promise holds, or why it is exempt."""


def check_method(
    cls: type[Method],
    *,
    student_features: Sequence[Shape] | None = None,
    teacher_features: Sequence[Shape] | None = None,
    **options: Any,
) -> dict[str, str]:
    """Hold a method to the contract.

    Args:
        cls: the method.
        student_features: shape of each feature of the student without the batch axis, where the method
            needs others than maps of unlike width and size.
        teacher_features: the same for the teacher.
        options: keyword arguments for the method.

    Returns:
        The checks from which the method is exempt, each with the reason.

    Raises:
        AssertionError: a promise is broken; the message names the check.
    """
    subject = Subject(cls, options, student_features, teacher_features)
    exempt: dict[str, str] = {}
    for check in CHECKS:
        try:
            reason = check(subject)
        except AssertionError as error:
            raise AssertionError(f"{cls.__name__}: {check.__name__}: {error}") from error
        if reason is not None:
            exempt[check.__name__] = reason
    return exempt
