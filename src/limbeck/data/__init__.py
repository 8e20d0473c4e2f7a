"""Data sets, plans and views that can be replayed."""

from limbeck.data.base import Data
from limbeck.data.loader import Loader, evaluation_batches
from limbeck.data.mixing import Mix
from limbeck.data.photographs import ImageViews
from limbeck.data.plans import Plan
from limbeck.data.samples import ItemSamples, Samples, TensorSamples
from limbeck.data.sources import load, names
from limbeck.data.views import TensorViews

__all__ = [
    "Data",
    "ImageViews",
    "ItemSamples",
    "Loader",
    "Mix",
    "Plan",
    "Samples",
    "TensorSamples",
    "TensorViews",
    "evaluation_batches",
    "load",
    "names",
]
