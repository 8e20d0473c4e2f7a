"""The divergence of softened responses, its gradient computed along with it where that is faster.

    L = T² · (1/B) Σ_n KL( p_t ‖ p_s ),    p = softmax(z/T),    dL/dz_s = (p_s − p_t) · T/B

As a chain of operations, loss and gradient take two exponentials of each logit and write a dozen tensors
[B, C]; one exponential and three tensors are enough. With u = (z − max z) · log2(e)/T and S = Σ_c 2^u,

    KL( p_t ‖ p_s ) = ln 2 · Σ_c 2^u_t (u_t − u_s) / S_t + ln(S_s / S_t)
    p_s − p_t = (2^u_s − 2^u_t · S_s/S_t) / S_s

where the last division is left to back-propagation, which has something to multiply by anyway. Powers of two,
because torch computes them in a third of the time of its powers of e.

All this is for eager training on a processor, of logits enough to be worth it. Elsewhere stands the plain
formula: compiled, because the compiler fuses it; on a GPU, which would have to be waited for (see below);
where the teacher wants a gradient too; and in forward-mode differentiation and the transforms of
`torch.func`.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F

__all__ = ["softened_divergence"]

_LEAST = 50_000
"""Logits on one side from which on one pass was faster for every number of classes that was measured."""
_NARROW = 100
"""Classes below which it was not for some: a short row that a processor's vectors do not fill is slow."""
_ROOM = 2**18
"""Logits on one side that a thread takes at a time, so that what it writes stays in a cache of some MiB."""

_NUMBERS = (float, int)


def softened_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence from teacher to student at a temperature, times its square.

    Args:
        student: logits [B, C], in at least single precision.
        teacher: logits [B, C], the same.
        temperature: T > 0.

    Returns:
        A scalar, mean over the rows. Both arguments get their gradient, of any order.
    """
    # The first question is a constant to the compiler, and the first two are all that a small batch pays for.
    if (
        not torch.compiler.is_compiling()
        and student.numel() >= _LEAST
        and _suits(student, teacher, temperature)
    ):
        loss: Tensor = _AtOnce.apply(student, teacher, temperature)
        # Infinite logits, and finite ones without a finite multiple, such as the least number there is as a
        # mask: the plain formula says what comes of these. Asking is free, as a processor has nothing queued.
        if math.isfinite(loss.item()):
            return loss
    ours = F.log_softmax(student / temperature, dim=1)
    theirs = F.log_softmax(teacher / temperature, dim=1)
    # One factor for the mean and for T²: an operation less, which a tiny network notices.
    return F.kl_div(ours, theirs, reduction="sum", log_target=True) * (temperature**2 / student.shape[0])


def _suits(student: Tensor, teacher: Tensor, temperature: float) -> bool:
    """Whether the student alone wants a gradient, and both sides are plain tensors on a processor."""
    return (
        student.shape[1] >= _NARROW
        and student.requires_grad
        and not teacher.requires_grad
        and torch.is_grad_enabled()
        and student.dtype == teacher.dtype
        and student.is_cpu
        and teacher.is_cpu
        # A subclass, a distributed tensor say, may know log_softmax and not how to be written into.
        and type(student) is type(teacher) is Tensor
        and not teacher.is_inference()
        and isinstance(temperature, _NUMBERS)
        and temperature > 0
        and forward_ad._current_level < 0
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._get_tracing_state()
    )


class _AtOnce(torch.autograd.Function):
    """Loss and gradient in one pass; what stays until back-propagation is the gradient."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        total, ctx.gap, ctx.whole = _blocks(student, teacher, temperature)
        # By reference: the logits are asked for again by a second back-propagation or derivative only.
        ctx.save_for_backward(student, teacher)
        ctx.temperature = temperature
        return total.mul_(temperature**2 / student.shape[0])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        slope = slopes[0] * (ctx.temperature / ctx.whole.shape[0])
        # A gradient that is differentiated in its turn.
        if torch.is_grad_enabled():
            ours, theirs = ((side / ctx.temperature).softmax(1) for side in ctx.saved_tensors)
            return (ours - theirs) * slope, None, None
        # Handed over, not copied: the receiver may keep it, add to it or free it.
        gap, ctx.gap = ctx.gap, None
        if gap is None:
            student, teacher = ctx.saved_tensors
            _, gap, _ = _blocks(student, teacher, ctx.temperature)
        slope = slope / ctx.whole
        return gap * slope if _several(slope) else gap.mul_(slope), None, None


def _several(slope: Tensor) -> bool:
    """Whether a slope stands for several at once, each of which needs a gradient of its own."""
    functorch = torch._C._functorch
    return torch._C._are_functorch_transforms_active() or functorch.is_legacy_batchedtensor(slope)


def _blocks(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """The divergence summed over all rows; S_s · (p_s − p_t), [B, C]; and S_s, [B, 1]."""
    student, teacher = student.contiguous(), teacher.contiguous()
    gap = torch.empty_like(student)
    rows = max(1, _ROOM * torch.get_num_threads() // student.shape[1])
    if student.shape[0] <= rows:
        total, whole = _pass(student, teacher, gap, temperature)
        return total, gap, whole
    sides = torch.split(student, rows), torch.split(teacher, rows)
    parts = [_pass(*block, temperature) for block in zip(*sides, torch.split(gap, rows), strict=True)]
    totals, wholes = zip(*parts, strict=True)
    return torch.stack(totals).sum(), gap, torch.cat(wholes)


def _pass(student: Tensor, teacher: Tensor, gap: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The divergence summed over some rows, and S_s; `gap` becomes S_s · (p_s − p_t)."""
    scale = math.log2(math.e) / temperature
    both = student.new_empty((2, *student.shape))
    ours, theirs = both.unbind()
    for logits, exponents in ((student, ours), (teacher, theirs)):
        torch.add(logits.amax(1, keepdim=True).mul_(-scale), logits, alpha=scale, out=exponents)
    torch.sub(theirs, ours, out=gap)
    our_whole, their_whole = both.exp2_().sum(2, keepdim=True).unbind()
    expected = gap.mul_(theirs).sum(1, keepdim=True).div_(their_whole)
    ratio = our_whole / their_whole
    torch.addcmul(ours, theirs, ratio, value=-1, out=gap)
    return ratio.log_().add_(expected, alpha=math.log(2)).sum(), our_whole
