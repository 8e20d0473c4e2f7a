"""Mixing the samples of a batch: mixup and cutmix, drawn so that every mix can be replayed.

    mixup   x ← λ·x + (1 − λ)·x',   y ← λ·y + (1 − λ)·y',   λ ~ Beta(α, α)
    cutmix  a box of x' in x, λ = share of x that is left

H. Zhang, M. Cisse, Y. Dauphin, D. Lopez-Paz, mixup: Beyond Empirical Risk Minimization, ICLR 2018,
https://arxiv.org/abs/1710.09412; S. Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers
with Localizable Features, ICCV 2019, https://arxiv.org/abs/1905.04899. The modes are those of timm.

timm's own mixing draws from NumPy's global generator and needs the whole batch in one process. Here a mix is
a function of (seed, pass, number of the batch, place in it): a teacher's answers to it can be replayed, a
resumed run goes on with the same mixes, and several processes, accumulated parts and workers make the same
ones. The partner of a sample is the one at the mirrored place, which the plan keeps in the same process. Beta
variables come from uniform ones through the inverse of their distribution, since NumPy does not promise that
its generators' streams stay the same.

The pixels are mixed before each network's own normalisation, which is affine: the order makes no difference.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from limbeck.data.keyed import draw, uniform
from limbeck.data.options import Options, check_choice, check_number
from limbeck.data.plans import Share
from limbeck.knowledge import UNLABELLED

__all__ = ["Mix"]

_STREAM = 16
"""Where the draws of mixes begin; the views of samples have the lower streams."""

_APPLIED, _KIND, _SHARE, _TOP, _LEFT = range(5)


@dataclass(frozen=True)
class Mix(Options):
    """How batches are mixed.

    Attributes:
        mixup: α of mixup's Beta distribution; 0 turns mixup off.
        cutmix: α of cutmix's; 0 turns cutmix off.
        probability: that there is a mix at all.
        switch: that it is cutmix, where both are on.
        mode: `batch`: one λ for a batch; `pair`: one for each two partners; `elem`: one for each sample.

    Raises:
        InputError: a value is out of range, or both are off.
    """

    where = "data.mix"

    mixup: float = 0.0
    cutmix: float = 0.0
    probability: float = 1.0
    switch: float = 0.5
    mode: Literal["batch", "pair", "elem"] = "batch"

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            check_number(f"{self.where}.{name}", getattr(self, name), 0, 1000)
        for name in ("probability", "switch"):
            check_number(f"{self.where}.{name}", getattr(self, name), 0, 1)
        check_choice(f"{self.where}.mode", self.mode, ("batch", "pair", "elem"))
        if not self.mixup and not self.cutmix:
            self.refuse("one of mixup and cutmix must be above 0 (the usual: mixup 0.2, cutmix 1.0)")

    def __call__(
        self, images: Tensor, target: Tensor, share: Share, seed: int, classes: int
    ) -> tuple[Tensor, Tensor]:
        """Mix what one process has of a batch.

        Args:
            images: [B, C, H, W], float; changed in place.
            target: class indices [B], `UNLABELLED` where not known.
            share: which samples of which batch these are.
            seed: of the run.
            classes: C, the number of classes.

        Returns:
            The images, and class shares [B, C]. A sample without a label brings no share: the rows of what is
            mixed with it sum to less than 1.
        """
        known = (target != UNLABELLED)[:, None]
        own = F.one_hot(target.clamp(min=0), classes).to(images.dtype) * known
        kept, boxes = self._drawn(share, seed, images.shape[2], images.shape[3])
        mixed = _mixed(images, kept, boxes)
        left = torch.from_numpy(kept).to(images.dtype)[:, None]
        return mixed, left * own + (1 - left) * own.flip(0)

    def _drawn(
        self, share: Share, seed: int, height: int, width: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
        """λ of each sample, [B], and its box (top, bottom, left, right), [B, 4], empty for mixup."""
        place = share.position
        if self.mode == "batch":
            place = np.zeros_like(place)
        elif self.mode == "pair":
            place = np.minimum(place, share.whole - 1 - place)
        number = np.array([share.step], dtype=np.int64)
        key = int(draw(seed, number, share.turn, _STREAM)[0])

        def drawn(what: int) -> NDArray[np.float64]:
            return uniform(draw(key, place, 0, _STREAM + 1 + what))

        applied = drawn(_APPLIED) < self.probability
        cut = (
            (drawn(_KIND) < self.switch)
            if self.mixup and self.cutmix
            else np.full(len(place), self.cutmix > 0)
        )
        alpha = np.where(cut, self.cutmix, self.mixup)
        kept = np.where(applied, _beta(alpha, drawn(_SHARE)), 1.0)
        if not (cut & applied).any():
            return kept, None
        # A box of the share 1 − λ around a uniform centre; what lies outside the image is cut off.
        side = np.sqrt(1 - kept) * (cut & applied)
        tall, wide = (height * side).astype(np.int64), (width * side).astype(np.int64)
        y, x = (drawn(_TOP) * height).astype(np.int64), (drawn(_LEFT) * width).astype(np.int64)
        top, bottom = np.clip(y - tall // 2, 0, height), np.clip(y + tall // 2, 0, height)
        left, right = np.clip(x - wide // 2, 0, width), np.clip(x + wide // 2, 0, width)
        outside = 1 - (bottom - top) * (right - left) / (height * width)
        return np.where(cut & applied, outside, kept), np.stack([top, bottom, left, right], 1)


def _beta(alpha: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Beta(α, α) variables from uniform ones."""
    from scipy.special import betaincinv

    found: NDArray[np.float64] = betaincinv(alpha, alpha, at)
    return found


def _mixed(images: Tensor, kept: NDArray[np.float64], boxes: NDArray[np.int64] | None) -> Tensor:
    """The images, mixed in place with the mirrored ones."""
    box = np.zeros((len(kept), 4), dtype=np.int64) if boxes is None else boxes
    cut = (box[:, 1] > box[:, 0]) & (box[:, 3] > box[:, 2])
    alike = (kept == kept[0]).all() and (box == box[0]).all()
    if alike and cut.all():
        top, bottom, left, right = box[0]
        images[:, :, top:bottom, left:right] = images[:, :, top:bottom, left:right].flip(0)
        return images
    # A box of no area leaves its sample as it is, and has the whole share: λ is 1 there.
    share = np.where(cut, 1.0, kept)
    if (share == 1).all() and not cut.any():
        return images
    partners = images.flip(0)
    if (share < 1).any():
        weight = torch.from_numpy(1 - share).to(images.dtype)
        images.lerp_(partners, weight[:, None, None, None] if not alike else weight[0])
    for number in np.flatnonzero(cut):
        top, bottom, left, right = box[number]
        images[number, :, top:bottom, left:right] = partners[number, :, top:bottom, left:right]
    return images
