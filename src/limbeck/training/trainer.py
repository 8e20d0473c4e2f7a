"""The loop, as a generator: `for step in trainer.fit(loader): ...`. No callbacks: logging, evaluation and
saving are ordinary code around it."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.errors import DivergedError, InputError
from limbeck.knowledge import Batch
from limbeck.schemes.base import Scheme
from limbeck.training.ahead import looking_ahead
from limbeck.training.ema import Ema
from limbeck.training.feed import Feed
from limbeck.training.labels import LabelCount
from limbeck.training.optimizers import build_optimizer, build_schedule, same_layout
from limbeck.training.runtime import Runtime
from limbeck.training.seeding import seed_step
from limbeck.training.settings import Span, Training
from limbeck.training.sharding import gathered, is_sharded, load_state, local

__all__ = ["Step", "Trainer"]

CHECK_EVERY = 20
"""How often losses are looked at on a device that works asynchronously; on a CPU, always."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one optimiser step did.

    Attributes:
        number: steps done, from 1.
        epoch: epochs done when this step is the last of one, else the number of the running one, from 1.
        last: whether it ends its epoch.
        losses: `loss` and each term, scalars on the device, means over the parts of the batch.
        lr: the learning rate that was used.
    """

    number: int
    epoch: int
    last: bool
    losses: dict[str, Tensor]
    lr: float


class Trainer:
    """Trains the parts of a scheme.

    Args:
        scheme: what is trained; it is moved to the runtime's device, and wrapped.
        settings: length, optimiser, schedule.
        runtime: where.
        steps_per_epoch: number of steps in one pass.
        seed: what dropout and other random layers draw depends on (seed, step, process) alone, so that a
            resumed run draws the same.
        span: the stretch of the training that this one does.
        ema: the average of the student's weights, which goes on from stage to stage; None keeps none.
        ahead: how many coming batches the teacher is asked about at a time, where the scheme allows that.
    """

    def __init__(
        self,
        scheme: Scheme,
        settings: Training,
        runtime: Runtime,
        steps_per_epoch: int,
        seed: int = 0,
        span: Span | None = None,
        ema: Ema | None = None,
        ahead: int = 1,
    ) -> None:
        self.scheme = scheme
        self.ema = ema
        self.ahead = ahead
        self.span = span or Span()
        self._last = settings.epochs if self.span.last is None else self.span.last
        self.seed = seed
        self.settings = settings
        self.runtime = runtime
        self.steps_per_epoch = steps_per_epoch
        self.step = self.first_step = self.span.first * steps_per_epoch
        scheme.place(runtime)
        parts = scheme.parts()
        self._parts = {name: [p for _, p in part] for name, part in parts.items()}
        self.optimizers: dict[str, Optimizer] = {
            name: build_optimizer(part, settings) for name, part in parts.items()
        }
        self._schedules = {
            name: build_schedule(optimizer, settings, steps_per_epoch)
            for name, optimizer in self.optimizers.items()
        }
        self.sharded = is_sharded(scheme)
        # Several whole copies must know first what the loss depends on: see `_wrap`.
        self._wrapped = runtime.wrap(scheme) if runtime.world == 1 or self.sharded else None
        self._scaler = runtime.scaler()
        self._unchecked: dict[str, Tensor] = {}
        self._labels = LabelCount(runtime)

    @property
    def total_steps(self) -> int:
        """Steps done when it ends, those before its span included."""
        return self._last * self.steps_per_epoch

    @property
    def saved_step(self) -> int:
        """Steps of all stages so far, whatever they trained: it only rises, as the numbers of states must."""
        return self.step + self.span.extra * self.steps_per_epoch

    def fit(self, feed: Feed) -> Iterator[Step]:
        """Train from where it stands to the end, one step at a time.

        Raises:
            DivergedError: a loss is not finite any more; names the term and the step.
        """
        # Asked of the scheme alone, a network inside that came in eval mode would stay in it.
        self.scheme.train()
        self._labels.complete = feed.complete
        first = self.step // self.steps_per_epoch
        for epoch in range(first, self._last):
            start = self.step - epoch * self.steps_per_epoch
            for parts, taught in looking_ahead(feed, self.scheme, self.runtime, self.ahead, epoch, start):
                if not self.scheme.training:
                    self.scheme.train()
                yield self._advance(parts, taught)

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """The student with the weights that count: their average, where there is one."""
        return contextlib.nullcontext() if self.ema is None else self.ema.applied()

    def try_step(self, parts: list[Batch]) -> dict[str, Tensor]:
        """The losses of a batch, forward and back, without learning anything from it: for a check."""
        if not self.scheme.training:
            self.scheme.train()
        self.scheme.before_step(0.0)
        self._unchecked = self._backward(self._labels(parts))
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        self.check()
        return self._unchecked

    def _advance(self, parts: list[Batch], taught: list[Any] | None = None) -> Step:
        progress = self.step / self.steps_per_epoch
        self._seed_step()
        self.scheme.before_step(progress)
        chosen = self.scheme.active(self.step)
        active = list(self.optimizers) if chosen is None else [n for n in chosen if n in self.optimizers]
        for name in active:
            self._schedules[name].step_update(self.step - self.span.origin * self.steps_per_epoch)
        lr = float(self.optimizers[active[0]].param_groups[0]["lr"])
        losses = self._backward(self._labels(parts), taught)
        for name in active:
            self._update(name)
        if self._scaler is not None:
            self._scaler.update()  # once: the gradients of all parts were scaled alike
        self.scheme.after_step()
        self.step += 1
        if self.ema is not None and self.span.student:
            self.ema.update(self.step)
        self._unchecked = losses
        if self.runtime.device.type == "cpu" or self.step % CHECK_EVERY == 0:
            self.check()
        epoch, rest = divmod(self.step, self.steps_per_epoch)
        return Step(self.step, epoch + (rest > 0), rest == 0, losses, lr)

    def _seed_step(self) -> None:
        seed_step(self.seed, self.step, self.runtime.rank, self.runtime.device)

    def _backward(self, parts: list[Batch], taught: list[Any] | None = None) -> dict[str, Tensor]:
        """Gradients of the mean over the parts; the losses are detached means."""
        if len(parts) == 1:
            return self._part(parts[0], 1, taught)
        total: dict[str, Tensor] = {}
        for number, part in enumerate(parts):
            said = None if taught is None else taught[number:]
            losses = self._part(part, len(parts), said, last=number == len(parts) - 1)
            for name, value in losses.items():
                total[name] = total[name] + value / len(parts) if name in total else value / len(parts)
        return total

    def _part(
        self, batch: Batch, parts: int, taught: list[Any] | None, last: bool = True
    ) -> dict[str, Tensor]:
        batch = self.runtime.put(batch)
        if taught is None:
            with self.runtime.autocast():
                taught = [self.scheme.teach(batch)]
        teaching = taught[0]
        wrapped = self._wrapped if self._wrapped is not None else self._wrap(batch, teaching)
        if self.runtime.graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # torch leaves it bare
        # The gradients are exchanged once, with the last part.
        with contextlib.nullcontext() if last else self.runtime.no_sync(wrapped):
            losses: dict[str, Tensor] = wrapped(batch, teaching)
            self.runtime.backward(losses["loss"] if parts == 1 else losses["loss"] / parts)
        return self.runtime.kept(losses)

    def _wrap(self, batch: Batch, teaching: Any) -> nn.Module:
        """Wrap the scheme for several processes, once a first batch tells whether all its parameters count.

        A network may hold parameters that no pass reaches (a head for other uses, say). The batch leaves no
        trace: neither gradients, nor statistics, nor random numbers drawn.
        """
        buffers = [(buffer, buffer.clone()) for buffer in self.scheme.buffers()]
        learned = [p for p in self.scheme.parameters() if p.requires_grad]
        with self.runtime.autocast():
            loss = self.scheme(batch, teaching)["loss"]
        found = torch.autograd.grad(loss, learned, allow_unused=True)
        for buffer, before in buffers:
            buffer.copy_(before)
        self._seed_step()
        missed = torch.tensor(float(any(g is None for g in found)), device=self.runtime.device)
        self._wrapped = self.runtime.wrap(self.scheme, unreached=bool(self.runtime.mean(missed) > 0))
        return self._wrapped

    def _update(self, name: str) -> None:
        optimizer, scaler = self.optimizers[name], self._scaler
        if self.settings.clip is not None:
            if scaler is not None:
                scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(self._parts[name], self.settings.clip)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
        optimizer.zero_grad(set_to_none=True)

    def check(self) -> None:
        """Look at the losses of the last step.

        Raises:
            DivergedError: one of them is not finite.
        """
        found = self._unchecked
        if found and self.runtime.world > 1:
            # All must stop, or those that saw nothing would wait for the others forever.
            joined = self.runtime.mean(torch.stack(list(found.values())))
            found = dict(zip(found, joined, strict=True))
        self._refuse(found)

    def _refuse(self, losses: dict[str, Tensor]) -> None:
        if not losses or math.isfinite(float(losses["loss"])):
            return
        bad = next((n for n, v in losses.items() if n != "loss" and not math.isfinite(float(v))), "loss")
        raise DivergedError(
            f'step {self.step}: the term "{bad}" became {float(losses[bad])}. A lower train.optimizer.lr, '
            "train.clip: 1.0, or train.precision: fp32 usually helps."
        )

    def state(self) -> dict[str, Any]:
        """All that the rest of the training depends on, as a tree of plain values and tensors.

        It is the same whatever the processes. Where the scheme is sharded, all of them must call this, and
        only the first one gets the tensors.

        Raises:
            DivergedError: a parameter is not finite, so that this state is not worth keeping.
        """
        self._refuse(self._unchecked)  # not `check`: of several processes, only one need ask for the state
        self._check_parameters()
        state = {
            "step": self.step,
            "scheme": self.scheme.state_dict(),
            "teacher": self.scheme.teacher_state(),
            "optimizers": {n: o.state_dict() for n, o in self.optimizers.items()},
            "scaler": {} if self._scaler is None else self._scaler.state_dict(),
            "ema": {} if self.ema is None else self.ema.state(),
        }
        return gathered(state, keep=self.runtime.main) if self.sharded else state

    def _check_parameters(self) -> None:
        named = dict(self.scheme.named_parameters())
        if not named:
            return
        finite = torch.stack([torch.isfinite(local(p)).all().float() for p in named.values()])
        if self.sharded:
            finite = self.runtime.mean(finite)
        for name, whole in zip(named, finite.tolist(), strict=True):
            if whole < 1:
                raise DivergedError(f"step {self.step}: the parameter {name} is not finite any more.")

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave.

        Raises:
            InputError: the state belongs to other networks.
        """
        try:
            load_state(self.scheme, state["scheme"])
        except RuntimeError as error:
            raise InputError(f"the saved state does not fit these networks: {error}") from error
        self.scheme.load_teacher_state(state["teacher"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
            same_layout(optimizer)
        if self._scaler is not None:
            self._scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.load_state(state["ema"])
        self.step = int(state["step"])
