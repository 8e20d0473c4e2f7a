"""A teacher that is the moving average of the student's weights (Tarvainen and Valpola 2017)."""

import torch
from torch import Tensor, nn

from limbeck.taps import Tapped
from limbeck.teachers.copied import Copied

__all__ = ["Ema"]


class Ema(Copied):
    """θ' ← d·θ' + (1 − d)·θ after each step, with d = min(decay, (1 + step) / (10 + step)).

    Statistics of norm layers are averaged as weights are; whole numbers (counts) are copied.

    Args:
        student: whose weights are averaged.
        taps: the layers that terms read of the teacher.
        decay: the largest share of the old average that is kept at each step, in [0, 1).

    Raises:
        ValueError: `decay` is out of range.
    """

    def __init__(self, student: Tapped, taps: list[str], decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be from 0 to below 1, given {decay!r}")
        super().__init__(student, taps)
        self.decay = decay
        self._steps = 0
        self._moving: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._counts: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def after_step(self, student: nn.Module) -> None:
        """Take in the weights of a step."""
        self._steps += 1
        weight = 1 - min(self.decay, (1 + self._steps) / (10 + self._steps))
        if not self._moving[0]:  # found once: walking both networks at each step costs more than the sums
            own, theirs = ([*m.parameters(), *m.buffers()] for m in (self.network.model, student))
            for mine, live in zip(own, theirs, strict=True):
                if mine.is_floating_point():
                    self._moving[0].append(mine)
                    self._moving[1].append(live)
                else:
                    self._counts.append((mine, live))
        torch._foreach_lerp_(*self._moving, weight)
        for mine, live in self._counts:
            mine.copy_(live)
        self.agree()

    def state(self) -> dict[str, Tensor]:
        return {**super().state(), "steps": torch.tensor(self._steps)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        super().load_state(state)
        self._steps = int(state["steps"])
