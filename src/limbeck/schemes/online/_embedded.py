"""A peer that is read at what enters its classifier: `embedded`."""

import torch

from limbeck.errors import InputError
from limbeck.knowledge import Batch
from limbeck.layers import Layers
from limbeck.taps import Tapped
from limbeck.teachers.base import Speaking

__all__ = ["embedded"]


def embedded(peer: Tapped, probe: Batch, kind: str) -> tuple[Tapped, int]:
    """The same network, with what enters its classifier as its only feature, and how wide that is.

    Args:
        peer: a network without taps.
        probe: a few samples.
        kind: which scheme wants it, for the message.

    Raises:
        InputError: the network does not end in a linear layer.
    """
    device = next((p.device for p in peer.parameters()), torch.device("cpu"))
    try:
        tap = Layers(peer, probe.to(device)).embedding()
    except InputError as error:
        raise InputError(
            f"scheme: {kind} compares what enters the classifiers of its peers, and the {peer.who} does not "
            "end in a linear layer that gets one vector for each sample."
        ) from error
    found = Tapped(peer.model, (tap,), peer.adapter, who=peer.who)
    return found, int(Speaking(found)(probe.to(device)).features[0].shape[1])
