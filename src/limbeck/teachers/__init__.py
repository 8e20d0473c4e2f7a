"""Kinds of teacher."""

from limbeck.teachers.base import Teacher
from limbeck.teachers.cached import Cached
from limbeck.teachers.frozen import Frozen

__all__ = ["Cached", "Frozen", "Teacher"]
