"""Kinds of teacher."""

from limbeck.teachers.base import Teacher
from limbeck.teachers.cached import Cached
from limbeck.teachers.copied import Copied
from limbeck.teachers.ema import Ema
from limbeck.teachers.ensemble import Ensemble, Fixed
from limbeck.teachers.frozen import Frozen
from limbeck.teachers.weightings import Weighting

__all__ = ["Cached", "Copied", "Ema", "Ensemble", "Fixed", "Frozen", "Teacher", "Weighting"]
