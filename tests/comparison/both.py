"""A comparison of a second: digits, two small networks, two seeds."""

from typing import Any

RECIPE: dict[str, Any] = {
    "name": "both",
    "seeds": 2,
    "teacher": {"model": "py:limbeck.students.small:convnet", "width": 8, "train": {"epochs": 1}},
    "student": {"model": "py:limbeck.students.small:convnet", "width": 4},
    "data": {"source": "digits", "batch_size": 128, "samples": 256},
    "objective": {"cross_entropy": 0.1, "kd": {"weight": 0.9, "temperature": 2}},
    "train": {"epochs": 2, "optimizer": {"name": "sgd", "lr": 0.05}, "threads": 1},
    "export": {"formats": []},
}
