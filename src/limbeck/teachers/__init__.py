"""Kinds of teacher."""

from limbeck.teachers.base import Teacher
from limbeck.teachers.frozen import Frozen

__all__ = ["Frozen", "Teacher"]
