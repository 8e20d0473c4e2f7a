"""The trackers by name, each through Accelerate's class for it, and what is peculiar to each."""

import hashlib
import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.errors import InputError, unknown

__all__ = ["KINDS", "Kind", "Place", "check"]


@dataclass(frozen=True, slots=True)
class Place:
    """One training as trackers know it.

    Attributes:
        project: the run's name.
        name: the training's, unique within the project.
        folder: where the tracker may write.
    """

    project: str
    name: str
    folder: Path

    @property
    def key(self) -> str:
        """The same for a training that is resumed, and for no other."""
        return hashlib.sha256(f"{self.folder.resolve()}/{self.name}".encode()).hexdigest()[:16]


class Kind(ABC):
    """One tracker of one training.

    Args:
        place: the training.
        options: what the recipe gives it.
        before: what `memory` gave when the training was interrupted; empty at first.
    """

    package = ""
    """What has to be installed."""

    def __init__(self, place: Place, options: Mapping[str, Any], before: Mapping[str, Any]) -> None:
        self.place = place
        self.tracker: Any = self.made(dict(options), dict(before))
        self.tracker.start()

    @abstractmethod
    def made(self, options: dict[str, Any], before: dict[str, Any]) -> Any:
        """Accelerate's tracker."""

    @staticmethod
    def takes() -> Callable[..., Any] | None:
        """What the options are keyword arguments of; None: there are none."""
        return None

    own: tuple[str, ...] = ()
    """Options that are set here and cannot be given."""

    def memory(self) -> dict[str, Any]:
        """What a resumed training has to know."""
        return {}

    def picture(self, pixels: np.ndarray, step: int) -> None:
        """Show a picture, bytes [H, W, 3]."""

    def close(self) -> None:
        """Write all that was sent, and let go."""
        self.tracker.finish()


class TensorBoard(Kind):
    package = "tensorboard"
    own = ("log_dir",)

    def made(self, options: dict[str, Any], before: dict[str, Any]) -> Any:
        from accelerate.tracking import TensorBoardTracker

        return TensorBoardTracker(self.place.name, self.place.folder, **options)

    @staticmethod
    def takes() -> Callable[..., Any]:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter

    def picture(self, pixels: np.ndarray, step: int) -> None:
        self.tracker.log_images({"samples": pixels[None]}, step=step, dataformats="NHWC")


class WandB(Kind):
    package = "wandb"
    own = ("config", "dir", "id", "name", "resume")

    def made(self, options: dict[str, Any], before: dict[str, Any]) -> Any:
        from accelerate.tracking import WandBTracker

        os.environ.setdefault("WANDB_SILENT", "true")  # its summary would stand among our lines
        self.place.folder.mkdir(parents=True, exist_ok=True)
        project = options.pop("project", None) or self.place.project
        return WandBTracker(
            project,
            dir=str(self.place.folder),
            id=self.place.key,
            name=self.place.name,
            resume="allow",
            **options,
        )

    @staticmethod
    def takes() -> Callable[..., Any]:
        import wandb

        found: Callable[..., Any] = wandb.init
        return found

    def picture(self, pixels: np.ndarray, step: int) -> None:
        self.tracker.log_images({"samples": [pixels]}, step=step)


class MLflow(Kind):
    package = "mlflow"
    own = ("logging_dir", "run_id", "run_name")

    def made(self, options: dict[str, Any], before: dict[str, Any]) -> Any:
        import mlflow
        from accelerate.tracking import MLflowTracker

        if not os.environ.get("MLFLOW_TRACKING_URI"):
            # Files in the run's folder; a server is named by that variable.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            self.place.folder.mkdir(parents=True, exist_ok=True)
            mlflow.set_tracking_uri(self.place.folder.resolve().as_uri())
        project = options.pop("experiment_name", None) or self.place.project
        return MLflowTracker(
            project,
            run_id=before.get("run"),
            run_name=None if "run" in before else self.place.name,
            **options,
        )

    @staticmethod
    def takes() -> Callable[..., Any]:
        from accelerate.tracking import MLflowTracker

        found: Callable[..., Any] = MLflowTracker.__init__
        return found

    def memory(self) -> dict[str, Any]:
        return {"run": self.tracker.tracker.info.run_id}

    def picture(self, pixels: np.ndarray, step: int) -> None:
        import mlflow
        from PIL import Image

        mlflow.log_image(Image.fromarray(pixels), artifact_file="samples.png")


class Trackio(Kind):
    package = "trackio"
    own = ("config", "name", "resume")

    def made(self, options: dict[str, Any], before: dict[str, Any]) -> Any:
        # Read when the package is imported.
        os.environ.setdefault("TRACKIO_DIR", str(self.place.folder.resolve()))
        from accelerate.tracking import TrackioTracker

        project = options.pop("project", None) or self.place.project
        return TrackioTracker(project, name=self.place.name, resume="allow", **options)

    @staticmethod
    def takes() -> Callable[..., Any]:
        import trackio

        found: Callable[..., Any] = trackio.init
        return found

    def picture(self, pixels: np.ndarray, step: int) -> None:
        import trackio

        self.tracker.log({"samples": trackio.Image(pixels)}, step=step)

    def close(self) -> None:
        import trackio

        trackio.finish()  # type: ignore[no-untyped-call]  # Accelerate's leaves it to the exit, which prints


class Csv(Kind):
    def made(self, options: dict[str, Any], before: dict[str, Any]) -> Any:
        from limbeck.tracking.csv import CsvTracker

        return CsvTracker(self.place.folder / f"{self.place.name}.csv")

    def picture(self, pixels: np.ndarray, step: int) -> None:
        from PIL import Image

        Image.fromarray(pixels).save(self.place.folder / f"{self.place.name}.png")


KINDS: Mapping[str, type[Kind]] = {
    "csv": Csv,
    "mlflow": MLflow,
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": WandB,
}


def check(wanted: Mapping[str, Mapping[str, Any]]) -> None:
    """See whether these trackers can be had, before any training.

    Args:
        wanted: the recipe's `track`: options by name.

    Raises:
        InputError: an unknown tracker or option, or a package that is not installed.
    """
    for name, options in wanted.items():
        if name not in KINDS:
            raise unknown("tracker", name, KINDS, where="track")
        kind = KINDS[name]
        if kind.package and find_spec(kind.package) is None:
            raise InputError(
                f"track.{name}: the package {kind.package} is not installed: "
                "pip install 'limbeck[trackers]' brings all trackers."
            )
        for option in options:
            taken = kind.takes()
            allowed = [] if taken is None else _keywords(taken, kind.own)
            if option not in allowed:
                raise unknown("option", option, allowed, where=f"track.{name}")


def _keywords(taken: Callable[..., Any], own: tuple[str, ...]) -> list[str]:
    parameters = inspect.signature(taken).parameters.values()
    return [p.name for p in parameters if p.name not in (*own, "self") and p.kind is not p.VAR_KEYWORD]
