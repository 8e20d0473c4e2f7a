"""Kinds of teacher."""

from limbeck.teachers.base import Teacher
from limbeck.teachers.cached import Cached
from limbeck.teachers.copied import Copied
from limbeck.teachers.ema import Ema
from limbeck.teachers.frozen import Frozen

__all__ = ["Cached", "Copied", "Ema", "Frozen", "Teacher"]
