"""What every tracker is to the rest: one tracker of one training."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Kind", "Place"]


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


class Kind(ABC):
    """One tracker of one training.

    Args:
        place: the training.
        options: what the recipe gives it.
        before: what `memory` gave when the training was interrupted; empty at first.
        sent: the last step that is known to have been sent; None: the training is a new one.

    Attributes:
        notice: what people should know of where it writes; empty where all is as documented.
    """

    package = ""
    """What has to be installed."""

    def __init__(
        self, place: Place, options: Mapping[str, Any], before: Mapping[str, Any], sent: int | None = None
    ) -> None:
        self.place = place
        self.sent = sent
        self.notice = ""
        try:
            self.tracker: Any = self.made(dict(options), dict(before))
            self.tracker.start()
        except BaseException:
            self.restore()
            raise

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
        try:
            self.tracker.finish()
        finally:
            self.restore()

    def restore(self) -> None:
        """Put back what was set for the whole process."""

    @classmethod
    def settle(cls, folder: Path) -> None:
        """Say where the tracker writes, before its package is imported for any reason."""
