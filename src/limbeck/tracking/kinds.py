"""The trackers by name, each through Accelerate's class for it, and what is peculiar to each."""

import inspect
import os
import sys
import uuid
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.errors import InputError, unknown
from limbeck.tracking.kind import Kind

__all__ = ["KINDS", "check"]


class TensorBoard(Kind):
    package = "tensorboard"
    own = ("log_dir", "purge_step")

    def made(self, options: dict[str, Any], before: dict[str, Any]) -> Any:
        from accelerate.tracking import TensorBoardTracker

        if self.sent is not None:
            options["purge_step"] = self.sent + 1  # what a kill left unremembered comes again
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
        # Drawn, and kept with the run: the same folder on another machine, or made anew, is another run.
        self.id = before.get("run") or uuid.uuid4().hex[:16]
        return WandBTracker(
            project,
            dir=str(self.place.folder),
            id=self.id,
            name=self.place.name,
            resume="allow",
            **options,
        )

    @staticmethod
    def takes() -> Callable[..., Any]:
        import wandb

        found: Callable[..., Any] = wandb.init
        return found

    def memory(self) -> dict[str, Any]:
        return {"run": self.id}

    def picture(self, pixels: np.ndarray, step: int) -> None:
        self.tracker.log_images({"samples": [pixels]}, step=step)


class MLflow(Kind):
    package = "mlflow"
    own = ("logging_dir", "run_id", "run_name")
    _local = False

    def made(self, options: dict[str, Any], before: dict[str, Any]) -> Any:
        import mlflow
        from accelerate.tracking import MLflowTracker

        if not mlflow.is_tracking_uri_set():  # type: ignore[no-untyped-call]  # MLflow leaves it bare
            # Files in the run's folder; a server is named by MLFLOW_TRACKING_URI.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            self.place.folder.mkdir(parents=True, exist_ok=True)
            mlflow.set_tracking_uri(self.place.folder.resolve().as_uri())
            self._local = True
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

    def restore(self) -> None:
        if self._local:
            import mlflow

            # The next run of this process has a folder of its own.
            mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # unsets it; the type forgets that
            self._local = False

    def picture(self, pixels: np.ndarray, step: int) -> None:
        import mlflow
        from PIL import Image

        mlflow.log_image(Image.fromarray(pixels), artifact_file="samples.png")


class Trackio(Kind):
    package = "trackio"
    own = ("config", "name", "resume")

    def made(self, options: dict[str, Any], before: dict[str, Any]) -> Any:
        self.settle(self.place.folder)
        from accelerate.tracking import TrackioTracker
        from trackio.utils import TRACKIO_DIR

        if not os.environ.get("TRACKIO_DIR") and Path(TRACKIO_DIR) != self.place.folder.resolve():
            self.notice = (
                f"trackio writes to {TRACKIO_DIR}, not to the run's folder: that is settled when its package "
                "is first imported"
            )
        project = options.pop("project", None) or self.place.project
        # It resumes by name, and a project may hold another run of that name; one without a line is not kept.
        self.id = before.get("run") if self.sent else None
        return TrackioTracker(
            project, name=self.place.name, resume="never" if self.id is None else "must", **options
        )

    @classmethod
    def settle(cls, folder: Path) -> None:
        """It reads the folder when the package is imported, and never again."""
        if not os.environ.get("TRACKIO_DIR") and "trackio" not in sys.modules:
            os.environ["TRACKIO_DIR"] = str(folder.resolve())
            try:
                import trackio  # noqa: F401
            finally:
                del os.environ["TRACKIO_DIR"]

    def memory(self) -> dict[str, Any]:
        found = self.tracker.tracker.id
        if self.id not in (None, found):
            raise RuntimeError("a newer run of that name is in the project, so this one cannot be resumed")
        return {"run": found}

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


def check(wanted: Mapping[str, Mapping[str, Any]], folder: Path | None = None) -> None:
    """See whether these trackers can be had, before any training.

    Args:
        wanted: the recipe's `track`: options by name.
        folder: where those that are going to be used may write; None: none is.

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
        if folder is not None:
            kind.settle(folder / name)
        for option in options:
            taken = kind.takes()
            allowed = [] if taken is None else _keywords(taken, kind.own)
            if option not in allowed:
                raise unknown("option", option, allowed, where=f"track.{name}")


def _keywords(taken: Callable[..., Any], own: tuple[str, ...]) -> list[str]:
    parameters = inspect.signature(taken).parameters.values()
    return [p.name for p in parameters if p.name not in (*own, "self") and p.kind is not p.VAR_KEYWORD]
