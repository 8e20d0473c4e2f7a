"""Optimisers and learning-rate schedules, which are timm's."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.errors import InputError, unknown
from limbeck.training.settings import Training
from limbeck.training.sharding import is_part, taken

__all__ = ["SCHEDULES", "build_optimizer", "build_schedule", "same_layout"]

SCHEDULES = ("constant", "cosine", "polynomial", "step")

POWER = 0.9
"""Exponent of the polynomial schedule where none is given, as segmentation networks use it (Chen et al. 2017,
https://arxiv.org/abs/1606.00915)."""


def build_optimizer(parameters: Sequence[tuple[str, nn.Parameter]], settings: Training) -> Optimizer:
    """One of timm's optimisers over the named parameters.

    `sgd` is SGD with plain momentum, as the field's recipes mean it; timm's own `sgd` turns Nesterov's
    variant on (here: `nesterov: true`).

    Raises:
        InputError: unknown name, an option that this optimiser does not take, or one that cannot work here.
    """
    from timm.optim import create_optimizer_v2, list_optimizers

    options = dict(settings.optimizer)
    name = str(options.pop("name", "sgd"))
    if name not in list_optimizers():
        raise unknown("optimizer", name, list_optimizers(), where="train.optimizer.name")
    if name == "sgd":
        options.setdefault("nesterov", False)
        options.setdefault("momentum", 0.0)
        if options["nesterov"] is False:
            name = "momentum"
            options.pop("nesterov")
    given = settings.optimizer.get("name", "sgd")
    try:
        allowed = _options(name)
    except (ImportError, AssertionError) as error:  # of another library, or for another device
        raise InputError(f"train.optimizer.name: {given} cannot be used here: {error}") from error
    for option in options:
        # Asked here, because timm drops some options without a word: momentum for an Adam, betas for SGD.
        if option not in allowed:
            raise unknown(f"option of {given}", option, allowed, "train.optimizer")
    if "fused" in allowed and all(_plain(p) for _, p in parameters):
        options.setdefault("fused", True)  # all parameters in one pass; the numbers are the same
    try:
        groups = _groups(parameters, settings.decay_bias_and_norm)
        built: Optimizer = create_optimizer_v2(groups, opt=name, **options)
    except (TypeError, ValueError, AssertionError) as error:
        raise InputError(f"train.optimizer: {given} does not accept these options: {error}") from error
    if getattr(built, "is_second_order", False):
        raise InputError(f"train.optimizer.name: {given} needs second derivatives, which are not computed.")
    return built


def _plain(parameter: nn.Parameter) -> bool:
    """Whether torch's fused optimisers take it."""
    device = parameter.device.type in ("cpu", "cuda")
    return device and parameter.is_floating_point() and not is_part(parameter)


def _groups(
    parameters: Sequence[tuple[str, nn.Parameter]], decay_all: bool
) -> list[nn.Parameter] | list[dict[str, Any]]:
    """The parameters, those without weight decay in a group of their own where it is not for all.

    The rule is timm's: biases, and whatever has one dimension (the weights of norm layers, scales).
    """
    if decay_all:
        return [p for _, p in parameters]
    spared = [p for n, p in parameters if p.dim() <= 1 or n.endswith(".bias")]
    mine = {id(p) for p in spared}
    others = [p for _, p in parameters if id(p) not in mine]
    groups: list[dict[str, Any]] = [{"params": others}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _options(name: str) -> list[str]:
    """What an optimiser can be given in a recipe."""
    from timm.optim import get_optimizer_class

    taken = inspect.signature(get_optimizer_class(name, bind_defaults=False)).parameters
    return ["name", *(option for option in taken if option != "params")]


def build_schedule(optimizer: Optimizer, settings: Training, steps_per_epoch: int) -> Any:
    """A timm scheduler whose rate is a pure function of the step: `.step_update(step)` sets it.

    Raises:
        InputError: unknown name.
    """
    from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler, PolyLRScheduler

    options = dict(settings.schedule)
    name = str(options.get("name", "cosine"))
    warmup = round(float(options.get("warmup_epochs") or 0) * steps_per_epoch)
    cooldown = round(float(options.get("cooldown_epochs") or 0) * steps_per_epoch)
    # The curve lies between; behind its end, timm's hold the final rate.
    curve = max(2, settings.epochs * steps_per_epoch - warmup - cooldown)
    rate = float(optimizer.param_groups[0]["lr"])
    # The first step of a warm-up takes 1/(w+1) of the rate, so that no step is wasted at zero.
    common: dict[str, Any] = {
        "t_in_epochs": False,
        "warmup_t": warmup,
        "warmup_lr_init": rate / (warmup + 1),
        "warmup_prefix": True,
    }
    final = rate * float(options.get("final") or 0.0)
    if name == "cosine":
        cycles = int(options.get("cycles") or 1)
        cycle = curve if cycles == 1 else curve / cycles  # need not end with a step
        return CosineLRScheduler(optimizer, t_initial=cycle, lr_min=final, cycle_limit=cycles, **common)
    if name == "polynomial":
        power = float(options.get("power") or POWER)
        return PolyLRScheduler(optimizer, t_initial=curve, lr_min=final, power=power, **common)
    if name in ("step", "constant"):
        milestones = options.get("milestones") or [] if name == "step" else []
        gamma = options.get("gamma")
        # timm's rate falls one step before the one that it is told.
        decay = [max(1, round(float(m) * steps_per_epoch) - warmup + 1) for m in milestones]
        return MultiStepLRScheduler(
            optimizer, decay_t=decay, decay_rate=0.1 if gamma is None else gamma, **common
        )
    raise unknown("schedule", name, SCHEDULES, where="train.schedule.name")


def same_layout(optimizer: Optimizer) -> None:
    """Give loaded optimiser tensors the memory order of their parameters, and this process its part of them.

    A norm (LAMB's, say) adds up in memory order, so another order would change its last bit.
    """
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                part = taken(value, parameter)
                values[name] = torch.empty_like(parameter, dtype=part.dtype).copy_(part)
