"""Seeding torch for one step, so that a resumed training draws what it would have drawn."""

import torch

__all__ = ["seed_step"]

_MASK = (1 << 64) - 1


def seed_step(seed: int, step: int, rank: int, device: torch.device) -> None:
    """Seed torch's generators by training, step and process alone."""
    word = _keyed_seed(seed, step, rank)
    torch.default_generator.manual_seed(word)
    if device.type == "cuda":
        torch.cuda.manual_seed(word)


def _keyed_seed(seed: int, step: int, rank: int) -> int:
    """A 63-bit number from three, well mixed (the finaliser of splitmix64)."""
    value = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return (value ^ (value >> 31)) >> 1
