"""Further figures of every evaluation."""

from typing import Annotated, Any

from pydantic import Field

from limbeck.recipe.base import FIGURE_NAME, Open

__all__ = ["MetricSpec", "Metrics"]


class MetricSpec(Open):
    """One further figure; keys that are not listed here are the metric's options."""

    metric: Annotated[str, Field(min_length=1)] | None = None
    """The metric, where the figure has a name of its own: f1, top5, auroc, … or package.module:Class."""

    @property
    def wanted(self) -> dict[str, Any]:
        """The metric and its options, as `limbeck.evaluation.figures.Figures` takes them."""
        return {**self.options, **({} if self.metric is None else {"metric": self.metric})}


Metrics = Annotated[dict[Annotated[str, Field(pattern=FIGURE_NAME)], MetricSpec], Field(max_length=100)]
