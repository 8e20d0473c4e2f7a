"""What a teacher's answers were made from: the same, and they may be replayed; else they are another's.

Told apart are the teacher (weights, architecture, input adapter, classes, tapped layers, precision), the
samples and what is done to them (data, views, the libraries that make them), and the plan (seed; for mixes
and repeats also the batch). Which student learns, by which method and for how long, makes no difference: they
all share one cache.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn

from limbeck.data.mixing import Mix
from limbeck.data.plans import Plan
from limbeck.data.samples import ItemSamples, Samples, TensorSamples
from limbeck.inputs import InputAdapter
from limbeck.taps import Tapped
from limbeck.training.sharding import gathered

__all__ = ["key_of", "made_from", "network_hash"]

MAKERS = ("torchvision", "timm", "pillow")
"""Libraries that make views of photographs; another version of them may make others."""

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def made_from(
    network: Tapped,
    classes: list[int] | None,
    samples: Samples,
    plan: Plan,
    mix: Mix | None,
    *,
    precision: str = "fp32",
    backend: str = "exact",
) -> dict[str, Any]:
    """All that a teacher's answers depend on, as plain values.

    Args:
        network: the teacher with its taps and its input adapter.
        classes: which of its logits are taken; None: all.
        samples: the training split.
        plan: seed and repeats; the order and the batch size count for mixes and repeats alone.
        mix: how samples are mixed.
        precision: in which the teacher computes.
        backend: `exact`, or `int8`, whose answers are others.
    """
    bound = mix is not None or plan.repeats > 1
    return {
        "teacher": {
            "weights": network_hash(network.model),
            "architecture": _digest(_ADDRESS.sub("", repr(network.model))),
            "input": _adapter(network.adapter),
            "classes": classes,
            "taps": [tap.text for tap in network.taps],
            "precision": precision,
            "backend": backend,
        },
        "data": {
            "hash": samples.hash(),
            "samples": len(samples),
            "shape": [samples.channels, *samples.size],
            "views": _views(samples),
        },
        "plan": {
            "seed": plan.seed,
            "repeats": plan.repeats,
            "batch": min(plan.batch, plan.samples) if bound else None,
            "mix": None if mix is None else {k: v for k, v in asdict(mix).items() if k != "where"},
        },
        "libraries": _libraries(samples),
    }


def key_of(origin: Mapping[str, Any], layout: Mapping[str, Any]) -> str:
    """A short name for what answers were made from and how they are written; 16 hexadecimal digits."""
    return _digest(json.dumps([origin, layout], sort_keys=True))[:16]


def network_hash(network: nn.Module) -> str:
    """A fingerprint of a network's parameters and buffers; 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in network.state_dict().items():
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        # One at a time: a teacher that is shared out among processes may not fit into one of them.
        plain = gathered(value.detach(), keep=True).cpu().contiguous()
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else b"")
    return digest.hexdigest()


def _adapter(adapter: nn.Module) -> dict[str, Any] | str:
    if not isinstance(adapter, InputAdapter):
        return _ADDRESS.sub("", repr(adapter))
    scale, shift = (getattr(adapter, name).flatten().tolist() for name in ("scale", "shift"))
    return {"size": adapter.size, "channels": adapter.channels, "scale": scale, "shift": shift}


def _views(samples: Samples) -> str:
    """How training views are made, in words that are the same in every process."""
    if isinstance(samples, TensorSamples):
        return repr(samples.views)
    if isinstance(samples, ItemSamples):
        return _ADDRESS.sub("", f"{samples.train!r} {samples.views!r}")
    return type(samples).__qualname__


def _libraries(samples: Samples) -> dict[str, str]:
    policy = isinstance(samples, TensorSamples) and getattr(samples.views, "rand_augment", None) is not None
    found = {}
    for name in MAKERS if policy or not isinstance(samples, TensorSamples) else ():
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
