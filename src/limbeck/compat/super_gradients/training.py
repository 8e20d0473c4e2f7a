"""`train_params`: SuperGradients' words for a training, as the `train:` and `objective:` of a recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from limbeck.compat.super_gradients import losses, metrics
from limbeck.compat.super_gradients.keys import Gone, Keys, warn
from limbeck.errors import InputError

__all__ = ["Translated", "translate"]

_OPTIMIZERS = {
    "SGD": "sgd",
    "Adam": "adam",
    "AdamW": "adamw",
    "Lamb": "lamb",
    "Lion": "lion",
    "RMSprop": "rmsprop",
    "RMSpropTF": "rmsproptf",
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "sgd": {"weight_decay": 1e-4, "momentum": 0.9},
    "adam": {"weight_decay": 1e-4},
    "rmsprop": {"weight_decay": 1e-4, "momentum": 0.9},
    "rmsproptf": {"weight_decay": 1e-4, "momentum": 0.9},
}
"""Options that these have in SuperGradients where `optimizer_params` does not say otherwise."""

_PARTS = ("Loss", "Task Loss", "Distillation Loss")

_CALLBACKS = Gone(
    "there are no callbacks here: the trainer is a generator (limbeck.Trainer), with plain code around."
)
_STATE = Gone("the state is saved by the clock (save_every of a recipe), and continues to the bit.", (True,))
_BATCHES = Gone("is not supported; use fewer images.")
_QUANTISED = Gone("is not supported; the student is exported as int8 anyway.", (False,))
_REMOTE = Gone("is not supported; the run's folder is local.", (False,))
_RESUME = Gone("use checkpoint_params={'load_checkpoint': True}.", (False,))
_TRACK = Gone("the recipe's track: names trackers (tensorboard, wandb, mlflow, trackio, csv).", (False,))
_COMPILED = Gone("is not supported; torch_compile compiles the networks and the loss.", (False,))
_GONE = {
    "ckpt_best_name": Gone("the run's folder holds student.safetensors.", ("ckpt_best.pth",)),
    "ckpt_name": Gone("load_checkpoint continues from the newest state.", ("ckpt_latest.pth",)),
    "criterion_params": Gone("give the loss as an object: KDLogitsLoss(...)."),
    "dataset_statistics": Gone("is not supported.", (False,)),
    "enable_qat": _QUANTISED,
    "finetune": Gone("is not supported.", (False,)),
    "forward_pass_prep_fn": _CALLBACKS,
    "kill_ddp_pgroup_on_end": Gone("the launcher ends its processes.", (True,)),
    "launch_tensorboard": _TRACK,
    "load_ema_as_net": _STATE,
    "load_opt_params": _STATE,
    "log_installed_packages": Gone("result.json always holds the versions.", (True,)),
    "lr_schedule_function": Gone("use lr_mode: cosine, poly, step or constant."),
    "lr_warmup_steps": Gone("give lr_warmup_epochs, which may be a fraction.", (0,)),
    "max_train_batches": _BATCHES,
    "max_valid_batches": Gone("is not supported: every sample counts once."),
    "multiply_head_lr": Gone("is not supported: one rate for all layers.", (1, 1.0)),
    "phase_callbacks": _CALLBACKS,
    "pre_prediction_callback": _CALLBACKS,
    "precise_bn": Gone("is not supported.", (False,)),
    "precise_bn_batch_size": Gone("is not supported."),
    "qat_params": _QUANTISED,
    "resume": _RESUME,
    "resume_from_remote_sg_logger": _REMOTE,
    "resume_path": _RESUME,
    "resume_strict_load": _STATE,
    "run_id": _RESUME,
    "run_test_freq": Gone("every epoch is evaluated.", (1,)),
    "run_validation_freq": Gone("every epoch is evaluated.", (1,)),
    "save_ckpt_epoch_list": _STATE,
    "save_full_train_log": Gone("metrics.jsonl always holds all figures.", (False, True)),
    "save_logs_to_s3": _REMOTE,
    "save_model": _STATE,
    "save_tensorboard_remote": _REMOTE,
    "save_tensorboard_to_s3": _REMOTE,
    "sg_logger": Gone(_TRACK.why, ("base_sg_logger",)),
    "sg_logger_params": _TRACK,
    "step_lr_update_freq": Gone("give lr_updates, a list of epochs."),
    "sync_bn": Gone("statistics are those of each process.", (False,)),
    "tb_files_user_prompt": _TRACK,
    "tensorboard_port": _TRACK,
    "torch_compile_loss": _COMPILED,
    "torch_compile_options": _COMPILED,
    "warmup_initial_lr": Gone("the first step takes 1/(w+1) of the rate, for w steps of warm-up."),
    "warmup_mode": Gone(
        "the rate rises linearly, step by step.",
        (
            "linear_step",
            "linear_epoch_step",
            "LinearEpochLRWarmup",
            "linear_batch_step",
            "LinearBatchLRWarmup",
        ),
    ),
    "zero_weight_decay_on_bias_and_norm": Gone("is called zero_weight_decay_on_bias_and_bn.", (False,)),
}


@dataclass
class Translated:
    """What `train_params` come to: parts of a recipe."""

    train: dict[str, Any]
    objective: dict[str, dict[str, Any]]
    accumulated: int
    metrics: list[str] = field(default_factory=list)
    seed: int = 0
    unmet: bool = False
    """Whether an average of the best epochs was asked for in vain, since nothing is watched."""
    silent: bool = False


def translate(
    train_params: Mapping[str, Any] | None, device: str, *, watches: bool, name: str = "train_params"
) -> Translated:
    """Read `train_params`.

    Args:
        train_params: the user's.
        device: where it trains, for what `mixed_precision` means there.
        watches: whether there is a validation part to choose by.
        name: what the mapping is called, for messages.

    Raises:
        InputError: an unknown key, or a value that cannot be.
    """
    keys = Keys(train_params, name, _GONE)
    epochs = keys.count("max_epochs", 0)
    if not epochs:
        raise InputError(f"{keys.place('max_epochs')}: is missing; give the number of epochs, from 1 up.")
    if "loss" not in keys:
        raise InputError(f"{keys.place('loss')}: is missing; give KDLogitsLoss(...).")
    objective = losses.objective(keys.take("loss"))
    accumulated = keys.count("batch_accumulate", 1, least=1)
    train: dict[str, Any] = {
        "epochs": epochs,
        "optimizer": _optimizer(keys),
        "schedule": _schedule(keys, epochs),
        "accumulate": accumulated,
        "decay_bias_and_norm": not keys.switch("zero_weight_decay_on_bias_and_bn", False),
        "precision": _precision(keys, device),
        "compile": keys.switch("torch_compile", False),
    }
    if (clip := keys.limit("clip_grad_norm")) is not None:
        train["clip"] = clip
    train |= _averages(keys)
    found = Translated(train, objective, accumulated)
    for given in ("train_metrics_list", "valid_metrics_list"):
        found.metrics += metrics.further(keys.take(given, []), keys.place(given))
    found.metrics = list(dict.fromkeys(found.metrics))
    found.unmet = _watched(keys, found, watches)
    found.seed = keys.count("seed", 0)
    found.silent = keys.switch("silent_mode", False)
    _names(keys)
    keys.close()
    return found


def _optimizer(keys: Keys) -> dict[str, Any]:
    given = keys.take("optimizer", "SGD")
    if not isinstance(given, str):
        raise InputError(f'{keys.place("optimizer")}: must be a name such as "Lamb", given {given!r}.')
    name = {there.lower(): here for there, here in _OPTIMIZERS.items()}.get(given.lower(), given.lower())
    rate = keys.number("initial_lr", 0.0)
    if not rate:
        raise InputError(f"{keys.place('initial_lr')}: is missing; give the learning rate, above 0.")
    options = keys.take("optimizer_params") or {}
    if not isinstance(options, Mapping):
        raise InputError(f"{keys.place('optimizer_params')}: must be a mapping, given {options!r}.")
    if "lr" in options:
        raise InputError(f"{keys.place('optimizer_params')}.lr: give initial_lr.")
    return {"name": name, "lr": rate, **_DEFAULTS.get(name, {}), **options}


def _schedule(keys: Keys, epochs: int) -> dict[str, Any]:
    kinds = {"cosine": "cosine", "poly": "polynomial", "step": "step", "constant": "constant"}
    # In SuperGradients' later releases the schedules are called by their classes.
    kinds |= {"CosineLRScheduler": "cosine", "PolyLRScheduler": "polynomial", "StepLRScheduler": "step"}
    kind = keys.choice("lr_mode", None, kinds) or "constant"
    found: dict[str, Any] = {"name": kind, "warmup_epochs": keys.number("lr_warmup_epochs", 0.0)}
    cooldown = keys.number("lr_cooldown_epochs", 0.0)
    _fits(keys, epochs, found["warmup_epochs"], cooldown if kind in ("cosine", "polynomial") else 0.0)
    final = keys.number("cosine_final_lr_ratio", 0.01)
    updates, factor = _updates(keys), keys.take("lr_decay_factor")
    if kind in ("cosine", "polynomial"):
        found["cooldown_epochs"] = cooldown
    if kind == "cosine":
        found["final"] = final
    elif final != 0.01:
        raise InputError(
            f"{keys.place('cosine_final_lr_ratio')}: is for lr_mode: cosine; this one is {kind}."
        )
    if kind == "step":
        # The rate of the last epochs is the one that they begin with, and a constant one is held anyway.
        found["milestones"] = [epoch for epoch in updates if epoch < epochs - cooldown]
        found["gamma"] = 0.1 if factor is None else factor
        if not found["milestones"]:
            raise InputError(
                f"{keys.place('lr_updates')}: must name an epoch before the cool-down (below "
                f"{epochs - cooldown:g}) at which the rate falls, given {updates}."
            )
    elif updates or factor is not None:
        key = "lr_updates" if updates else "lr_decay_factor"
        raise InputError(f"{keys.place(key)}: is for lr_mode: step; this one is {kind}.")
    return found


def _fits(keys: Keys, epochs: int, warmup: float, cooldown: float) -> None:
    parts = {"lr_warmup_epochs": warmup, "lr_cooldown_epochs": cooldown}
    if sum(parts.values()) > epochs:
        told = " and ".join(f"{key}: {length:g}" for key, length in parts.items() if length)
        raise InputError(f"{keys.place(told)} must fit into max_epochs: {epochs}.")


def _updates(keys: Keys) -> list[float]:
    """The epochs at which the rate falls; a range or an array of NumPy's counts as well."""
    given = keys.take("lr_updates")
    try:
        updates = (
            [] if given is None else [value.item() if hasattr(value, "item") else value for value in given]
        )
    except TypeError:
        updates = [given]
    if isinstance(given, str) or any(isinstance(v, bool) or not isinstance(v, int | float) for v in updates):
        raise InputError(f"{keys.place('lr_updates')}: must be a list of epochs, given {given!r}.")
    return updates


def _precision(keys: Keys, device: str) -> str:
    if not keys.switch("mixed_precision", False):
        return "fp32"
    import torch

    if device == "cpu" or not torch.accelerator.is_available():
        warn(f"{keys.place('mixed_precision')}: has no effect on a CPU; the computation is in fp32.")
    return "auto"


def _averages(keys: Keys) -> dict[str, Any]:
    """The moving average of the weights."""
    on = keys.switch("ema", False)
    own = Keys(keys.take("ema_params"), keys.place("ema_params"), {})
    # Its older word for the kind: a switch between these two.
    usual = "exp" if own.switch("exp_activation", True) else "constant"
    kinds = {"exp": "exponential", "constant": "constant", "threshold": "threshold"}
    found = {
        "decay": own.number("decay", 0.9999),
        "schedule": own.choice("decay_type", usual, kinds) or kinds[usual],
        "beta": own.number("beta", 15.0),
    }
    own.close()
    return {"ema": found} if on else {}


def _watched(keys: Keys, found: Translated, watches: bool) -> bool:
    """Add which epochs are the best, and whether their weights are averaged.

    Returns:
        Whether the average was asked for by name and cannot be had.
    """
    asked = "average_best_models" in keys
    average = keys.switch("average_best_models", True)
    watch = metrics.watched(keys.take("metric_to_watch", "Accuracy"), keys.place("metric_to_watch"))
    if watch not in ("accuracy", "loss", *found.metrics):
        raise InputError(
            f'{keys.place("metric_to_watch")}: "{watch}" is not computed; add it to valid_metrics_list.'
        )
    said = "greater_metric_to_watch_is_better" in keys
    greater = keys.switch("greater_metric_to_watch_is_better", True)
    if said and greater and watch == "loss":
        raise InputError(
            f"{keys.place('greater_metric_to_watch_is_better')}: must be False where the loss is watched."
        )
    found.train["checkpoint"] = {
        "take": "average" if average and watches else "last",
        "best": 10,
        "watch": watch,
        # Not said, it is as is usual for the figure.
        "mode": ("max" if greater else "min") if said else None,
    }
    return asked and average and not watches


def _names(keys: Keys) -> None:
    """The names of the loss's parts, which have no effect: the terms are called by their methods here."""
    given = keys.take("loss_logging_items_names")
    place = keys.place("loss_logging_items_names")
    if given is None:
        return
    if not isinstance(given, list | tuple) or not all(isinstance(name, str) for name in given):
        raise InputError(f"{place}: must be a list of names, given {given!r}.")
    if len(given) != len(_PARTS):
        raise InputError(
            f"{place}: KDLogitsLoss reports {len(_PARTS)} parts ({', '.join(_PARTS)}), given "
            f"{len(given)} names."
        )
    if tuple(given) != _PARTS:
        warn(f"{place}: has no effect; the parts are called loss, cross_entropy and kd here.")
