"""`ImageNetDatasetInterface`: a folder with train/ and val/, and how its images are varied."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limbeck.compat.super_gradients.keys import Gone, Keys, none_left
from limbeck.errors import InputError
from limbeck.inputs import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["ImageNetDatasetInterface"]

WATCHED = 0.02
"""Share of the training images that is split off to watch, where the folder brings no part for that."""

_OWN = "each network normalises for itself; give a NormalizationAdapter where its own is not right."
_COLLATE = "batches are put together here; cutmix mixes them."
_SAMPLING = "every process takes its own part of each batch here; there is no sampler to choose."
_GONE = {
    "color_jitter": Gone("is not supported; rand_augment_config_string varies colours.", (0, 0.0)),
    "dataset_dir": Gone("give data_dir to ImageNetDatasetInterface."),
    "eval_scale": Gone("is not supported; give resize_size and crop_size."),
    "imagenet_pca_aug": Gone("is not supported; rand_augment_config_string varies colours.", (0, 0.0)),
    "img_mean": Gone(_OWN, ([*IMAGENET_MEAN], IMAGENET_MEAN)),
    "img_std": Gone(_OWN, ([*IMAGENET_STD], IMAGENET_STD)),
    "s3_link": Gone("nothing is fetched; give data_dir."),
    "test_batch_size": Gone("all evaluations take val_batch_size."),
    "train_collate_fn": Gone(_COLLATE),
    "train_image_size": Gone("give crop_size."),
    "train_loader_drop_last": Gone("every batch is whole: the rest of a pass is left out.", (True,)),
    "train_max_batch_prefetch": Gone("workers prepare batches ahead by themselves."),
    "train_sampler": Gone(_SAMPLING),
    "val_collate_fn": Gone(_COLLATE),
    "val_image_size": Gone("give crop_size."),
    "val_sampler": Gone(_SAMPLING),
}
_MIX_GONE = {
    "cutmix_minmax": Gone("is not supported: cutmix_alpha says how large the part is."),
    "correct_lam": Gone("is always done: the share is that of the image that is left.", (True,)),
}
_INTERPOLATIONS = {"default": "bilinear", "bilinear": "bilinear", "bicubic": "bicubic", "random": "random"}


class ImageNetDatasetInterface:
    """A folder of images with `train/` and `val/`, one folder for each class in each.

    Args:
        data_dir: the folder.
        dataset_params: batch_size (of one process), val_batch_size, resize_size, crop_size,
            random_erase_prob, random_erase_value, train_interpolation, rand_augment_config_string, cutmix,
            cutmix_params {mixup_alpha, cutmix_alpha, prob, switch_prob, mode, label_smoothing, num_classes},
            aug_repeat_count. What is not given is as it is there.
        watched: where there is no `test/` beside them, this share of the training images is split off to
            watch, so that `val/` is for the final figures alone. 0: nothing is watched.

    Raises:
        InputError: an unknown key, or a value that cannot be.
    """

    def __init__(
        self,
        data_dir: Path | str | None = None,
        dataset_params: Mapping[str, Any] | None = None,
        watched: float = WATCHED,
        **others: Any,
    ) -> None:
        none_left(others, "ImageNetDatasetInterface", ("data_dir", "dataset_params", "watched"))
        if data_dir is None:
            raise InputError("ImageNetDatasetInterface: data_dir is missing; give the folder of the images.")
        if not isinstance(data_dir, str | Path):
            raise InputError(
                f"data_dir: must be the path of a folder, given {type(data_dir).__name__}; give data_dir and "
                "dataset_params by name."
            )
        keys = Keys(dataset_params, "dataset_params", _GONE)
        self.folder = Path(data_dir)
        if isinstance(watched, bool) or not isinstance(watched, int | float) or not 0 <= watched < 1:
            raise InputError(f"watched: must be a share from 0 to below 1, given {watched!r}.")
        self.watched = watched
        self.batch_size = keys.count("batch_size", 64, least=1)
        self.val_batch_size = keys.count("val_batch_size", 200, least=1)
        self.repeats = max(1, keys.count("aug_repeat_count", 0))
        self.views: dict[str, Any] = {
            "size": keys.count("crop_size", 224, least=1),
            "resize": keys.count("resize_size", 256, least=1),
            "interpolation": keys.choice("train_interpolation", "default", _INTERPOLATIONS) or "bilinear",
        }
        if policy := keys.take("rand_augment_config_string"):
            self.views["rand_augment"] = policy
        self._erase(keys)
        self.smoothing = 0.0
        self.classes: int | None = None
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
        given = keys.take("cutmix_params")
        if on and not given:
            raise InputError(
                f"{keys.place('cutmix_params')}: is missing; cutmix needs it, such as "
                "{'mixup_alpha': 0.2, 'cutmix_alpha': 1.0, 'label_smoothing': 0.0}."
            )
        own = Keys(given, "dataset_params.cutmix_params", _MIX_GONE)
        found = {
            "mixup": own.number("mixup_alpha", 1.0),
            "cutmix": own.number("cutmix_alpha", 0.0),
            "probability": own.number("prob", 1.0),
            "switch": own.number("switch_prob", 0.5),
            "mode": own.choice("mode", "batch", {n: n for n in ("batch", "pair", "elem")}) or "batch",
        }
        smoothing = own.number("label_smoothing", 0.1)
        if smoothing >= 1:
            raise InputError(f"{own.place('label_smoothing')}: must be below 1, given {smoothing}.")
        classes = own.count("num_classes", 0)
        own.close()
        if not on:
            return None
        self.smoothing, self.classes = smoothing, classes or None
        return found

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
    def found(self) -> int:
        """How many classes the folder holds."""
        train = self.folder / "train"
        inside = (train if train.is_dir() else self.folder).iterdir()
        return sum(p.is_dir() and p.name != "unlabelled" and not p.name.startswith(".") for p in inside)

    @property
    def watches(self) -> bool:
        """Whether there is a part to choose by."""
        own = all((self.folder / part).is_dir() for part in ("train", "val", "test"))
        return own or self.watched > 0
