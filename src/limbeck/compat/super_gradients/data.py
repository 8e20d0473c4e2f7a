"""`ImageNetDatasetInterface`: a folder with train/ and val/, and how its images are varied."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limbeck.compat.super_gradients.keys import Keys
from limbeck.errors import InputError

__all__ = ["ImageNetDatasetInterface"]

WATCHED = 0.02
"""Share of the training images that is split off to watch, where the folder brings no part for that."""

_SAMPLING = "every process takes its own part of each batch here; there is no sampler to choose."
_GONE = {
    "color_jitter": "is not supported; rand_augment_config_string varies colours.",
    "train_max_batch_prefetch": "workers prepare batches ahead by themselves.",
    "dataset_dir": "give data_dir to ImageNetDatasetInterface.",
    "train_sampler": _SAMPLING,
    "val_sampler": _SAMPLING,
    "img_mean": "each network normalises for itself; give a NormalizationAdapter where its own is not right.",
    "img_std": "each network normalises for itself; give a NormalizationAdapter where its own is not right.",
    "eval_scale": "is not supported; give resize_size and crop_size.",
    "train_image_size": "give crop_size.",
    "val_image_size": "give crop_size.",
}
_MIX_GONE = {
    "cutmix_min_max": "is not supported.",
    "correct_lam": "is always done: λ is the share of the image that is left.",
}


class ImageNetDatasetInterface:
    """A folder of images with `train/` and `val/`, one folder for each class in each.

    Args:
        data_dir: the folder.
        dataset_params: batch_size (of one process), val_batch_size, resize_size, crop_size,
            random_erase_prob, random_erase_value, train_interpolation, rand_augment_config_string, cutmix,
            cutmix_params {mixup_alpha, cutmix_alpha, prob, switch_prob, mode, label_smoothing},
            aug_repeat_count.
        watched: where there is no `test/` beside them, this share of the training images is split off to
            watch, so that `val/` is for the final figures alone. 0: nothing is watched.

    Raises:
        InputError: an unknown key, or a value that cannot be.
    """

    def __init__(
        self, data_dir: Path | str, dataset_params: Mapping[str, Any] | None = None, watched: float = WATCHED
    ) -> None:
        keys = Keys(dataset_params, "dataset_params", _GONE)
        self.folder = Path(data_dir)
        if not 0 <= watched < 1:
            raise InputError(f"watched: must be a share from 0 to below 1, given {watched}.")
        self.watched = watched
        self.batch_size = keys.count("batch_size", 64, least=1)
        self.val_batch_size = keys.count("val_batch_size", 200, least=1)
        self.repeats = max(1, keys.count("aug_repeat_count", 0))
        self.views: dict[str, Any] = {
            "size": keys.count("crop_size", 224, least=1),
            "resize": keys.count("resize_size", 256, least=1),
            "interpolation": keys.choice(
                "train_interpolation", "bilinear", {n: n for n in ("bilinear", "bicubic", "random")}
            ),
        }
        if policy := keys.take("rand_augment_config_string"):
            self.views["rand_augment"] = policy
        self._erase(keys)
        self.smoothing = 0.0
        self.mix = self._mix(keys)
        keys.close()

    def _erase(self, keys: Keys) -> None:
        share = keys.number("random_erase_prob", 0.0)
        value = keys.take("random_erase_value", "random")
        if value not in ("random", 0, "0", "zero"):
            raise InputError(f'{keys.place("random_erase_value")}: must be "random" or 0, given {value!r}.')
        if share:
            self.views["erase"] = {"probability": share, "value": "random" if value == "random" else "zero"}

    def _mix(self, keys: Keys) -> dict[str, Any] | None:
        on = keys.switch("cutmix", False)
        own = Keys(keys.take("cutmix_params"), "dataset_params.cutmix_params", _MIX_GONE)
        found = {
            "mixup": own.number("mixup_alpha", 0.2),
            "cutmix": own.number("cutmix_alpha", 1.0),
            "probability": own.number("prob", 1.0),
            "switch": own.number("switch_prob", 0.5),
            "mode": own.choice("mode", "batch", {n: n for n in ("batch", "pair", "elem")}),
        }
        smoothing = own.number("label_smoothing", 0.0)
        own.close()
        self.smoothing = smoothing if on else 0.0
        return found if on else None

    def settings(self, processes: int, accumulated: int) -> dict[str, Any]:
        """The `data:` of a recipe.

        Args:
            processes: how many there are; `batch_size` is that of each.
            accumulated: batches that are added up for a step.

        Raises:
            InputError: the folder is not there.
        """
        folder = self.folder.expanduser().resolve()
        if not folder.is_dir():
            raise InputError(f"data_dir: there is no folder {folder}.")
        own = all((folder / part).is_dir() for part in ("train", "val", "test"))
        found: dict[str, Any] = {
            "source": f"folder:{folder}",
            "batch_size": self.batch_size * processes * accumulated,
            "eval_batch_size": self.val_batch_size,
            "validation": 0.0 if own else self.watched,
            "views": self.views,
            "repeats": self.repeats,
        }
        if self.mix is not None:
            found["mix"] = self.mix
        return found

    @property
    def watches(self) -> bool:
        """Whether there is a part to choose by."""
        own = all((self.folder / part).is_dir() for part in ("train", "val", "test"))
        return own or self.watched > 0
