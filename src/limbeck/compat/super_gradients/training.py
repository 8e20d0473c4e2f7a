"""`train_params`: SuperGradients' words for a training, as the `train:` and `objective:` of a recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from limbeck.compat.super_gradients import losses, metrics
from limbeck.compat.super_gradients.keys import Keys, warn
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
_CALLBACKS = (
    "there are no callbacks here: the trainer is a generator (limbeck.Trainer), with plain code around."
)
_STATE = "the state is saved by the clock (save_every of a recipe), and continues to the bit."
_GONE = {
    "ckpt_name": "checkpoint_params.load_checkpoint continues from the newest state.",
    "criterion_params": "give the loss as an object: KDLogitsLoss(...).",
    "dataset_statistics": "is not supported.",
    "enable_qat": "is not supported; the student is exported as int8 anyway.",
    "launch_tensorboard": "the recipe's track: [tensorboard] writes for it; start it yourself.",
    "load_opt_params": _STATE,
    "lr_schedule_function": "use lr_mode: cosine, poly, step or constant.",
    "max_train_batches": "is not supported; use fewer images.",
    "max_valid_batches": "is not supported: every sample counts once.",
    "phase_callbacks": _CALLBACKS,
    "pre_prediction_callback": _CALLBACKS,
    "precise_bn": "is not supported.",
    "resume": "use checkpoint_params={'load_checkpoint': True}.",
    "run_validation_freq": "every epoch is evaluated.",
    "save_ckpt_epoch_list": _STATE,
    "save_model": _STATE,
    "save_tensorboard_to_s3": "is not supported.",
    "sg_logger": "the recipe's track: names trackers.",
    "sg_logger_params": "the recipe's track: names trackers.",
    "step_lr_update_freq": "give lr_updates, a list of epochs.",
    "sync_bn": "statistics are those of each process.",
    "tb_files_user_prompt": "is not supported.",
    "warmup_initial_lr": "the first step takes 1/(w+1) of the rate, for w steps of warm-up.",
    "warmup_mode": "the rate rises linearly, step by step.",
    "zero_weight_decay_on_bias_and_norm": "is called zero_weight_decay_on_bias_and_bn.",
}


@dataclass
class Translated:
    """What `train_params` come to: parts of a recipe."""

    train: dict[str, Any]
    objective: dict[str, dict[str, Any]]
    accumulated: int
    metrics: list[str] = field(default_factory=list)
    seed: int = 0


def translate(train_params: Mapping[str, Any] | None, device: str, *, watches: bool) -> Translated:
    """Read `train_params`.

    Args:
        train_params: the user's.
        device: where it trains, for what `mixed_precision` means there.
        watches: whether there is a validation part to choose by.

    Raises:
        InputError: an unknown key, or a value that cannot be.
    """
    keys = Keys(train_params, "train_params", _GONE)
    epochs = keys.count("max_epochs", 0)
    if not epochs:
        raise InputError("train_params.max_epochs: is missing; give the number of epochs, from 1 up.")
    if "loss" not in keys:
        raise InputError("train_params.loss: is missing; give KDLogitsLoss(...).")
    objective = losses.objective(keys.take("loss"))
    accumulated = keys.count("batch_accumulate", 1, least=1)
    train: dict[str, Any] = {
        "epochs": epochs,
        "optimizer": _optimizer(keys),
        "schedule": _schedule(keys),
        "accumulate": accumulated,
        "decay_bias_and_norm": not keys.switch("zero_weight_decay_on_bias_and_bn", False),
        "precision": _precision(keys, device),
    }
    clip = keys.take("clip_grad_norm")
    if clip is not None:
        train["clip"] = clip
    train |= _averages(keys)
    train |= _watched(keys, watches)
    found = Translated(train, objective, accumulated)
    for name in ("train_metrics_list", "valid_metrics_list"):
        found.metrics += metrics.further(keys.take(name, []), keys.place(name))
    found.metrics = list(dict.fromkeys(found.metrics))
    found.seed = keys.count("seed", 0)
    _names(keys)
    for silent in ("silent_mode", "log_installed_packages"):
        keys.switch(silent, False)
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
    return {"name": name, "lr": rate, **options}


def _schedule(keys: Keys) -> dict[str, Any]:
    kinds = {"cosine": "cosine", "poly": "polynomial", "step": "step", "constant": "constant"}
    # In SuperGradients' later releases the schedules are called by their classes.
    kinds |= {"CosineLRScheduler": "cosine", "PolyLRScheduler": "polynomial", "StepLRScheduler": "step"}
    kind = keys.choice("lr_mode", None, kinds) or "constant"
    final = keys.number("cosine_final_lr_ratio", 0.01)
    cooldown = keys.number("lr_cooldown_epochs", 0.0)
    updates, factor = keys.take("lr_updates"), keys.number("lr_decay_factor", 0.1)
    found: dict[str, Any] = {"name": kind, "warmup_epochs": keys.number("lr_warmup_epochs", 0.0)}
    if kind in ("cosine", "polynomial"):
        found["cooldown_epochs"] = cooldown
    if kind == "cosine":
        found["final"] = final
    if kind == "step":
        found |= {"milestones": list(updates or []), "gamma": factor}
    elif updates:
        raise InputError(f"{keys.place('lr_updates')}: are for lr_mode: step; this one is {kind}.")
    return found


def _precision(keys: Keys, device: str) -> str:
    if not keys.switch("mixed_precision", False):
        return "fp32"
    import torch

    if device == "cpu" or not torch.accelerator.is_available():
        warn("train_params.mixed_precision: has no effect on a CPU; the computation is in fp32.")
    return "auto"


def _averages(keys: Keys) -> dict[str, Any]:
    """The moving average of the weights."""
    on = keys.switch("ema", False)
    own = Keys(keys.take("ema_params"), "train_params.ema_params", {})
    found = {
        "decay": own.number("decay", 0.9999),
        "schedule": own.choice(
            "decay_type",
            "exp",
            {"exp": "exponential", "constant": "constant", "threshold": "threshold"},
        ),
        "beta": own.number("beta", 15.0),
    }
    own.close()
    return {"ema": found} if on else {}


def _watched(keys: Keys, watches: bool) -> dict[str, Any]:
    """Which epochs are the best, and whether their weights are averaged."""
    asked = "average_best_models" in keys
    average = keys.switch("average_best_models", True)
    name = keys.take("metric_to_watch", "Accuracy")
    greater = keys.switch("greater_metric_to_watch_is_better", True)
    watch = metrics.watched(name, keys.place("metric_to_watch"))
    if average and not watches:
        if asked:
            raise InputError(
                f"{keys.place('average_best_models')}: the best epochs are chosen on a part that is watched, "
                "and there is none: ImageNetDatasetInterface(watched=0.02) splits one off."
            )
        average = False
    return {
        "checkpoint": {
            "take": "average" if average else "last",
            "best": 10,
            "watch": watch,
            "mode": "max" if greater else "min",
        }
    }


def _names(keys: Keys) -> None:
    """The names of the loss's parts: ours are those of the terms."""
    given = keys.take("loss_logging_items_names")
    if given is None:
        return
    if not isinstance(given, list | tuple) or not all(isinstance(name, str) for name in given):
        raise InputError(
            f"{keys.place('loss_logging_items_names')}: must be a list of names, given {given!r}."
        )
    if len(given) != 3:
        raise InputError(
            f"{keys.place('loss_logging_items_names')}: KDLogitsLoss reports 3 parts (Loss, Task Loss, "
            f"Distillation Loss), given {len(given)} names."
        )
