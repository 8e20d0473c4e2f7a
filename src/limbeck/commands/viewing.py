"""How the images of a folder are shown where a student is evaluated: a pushed one takes that along."""

from typing import Any

from limbeck.data import ImageViews
from limbeck.recipe import Recipe

__all__ = ["evaluation_views"]


def evaluation_views(recipe: Recipe) -> dict[str, Any]:
    """The options of `data.views` that the evaluations of this recipe go by, every one of them said.

    Returns:
        `size`, `resize` and `interpolation`; empty where the data are no folder of images, so that nothing is
        cut out of them.
    """
    spec = recipe.data
    if not spec.source.startswith("folder:"):
        return {}
    views = ImageViews.make(spec.views, {} if spec.size is None else {"size": spec.size})
    steps: Any = views.test
    shorter = steps.transforms[0]  # what was not said is asked of the views themselves
    return {
        "size": views.size,
        "resize": int(shorter.size[0]),
        "interpolation": str(shorter.interpolation.value),
    }
