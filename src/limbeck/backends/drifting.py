"""How far a backend's answers are from the network's own, on real samples."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from limbeck.backends.base import Backend
from limbeck.backends.eager import Eager
from limbeck.errors import InputError
from limbeck.taps import Tapped

__all__ = ["Drift", "drift"]


@dataclass(frozen=True, slots=True)
class Drift:
    """How far answers are apart.

    Attributes:
        kl: KL(network ‖ backend) of the softmaxes at the temperature, mean over the samples; not times T².
        agreement: share of samples for which both name the same class.
        samples: number of samples compared.
    """

    kl: float
    agreement: float
    samples: int


def drift(backend: Backend, network: Tapped, samples: Iterable[Tensor], temperature: float) -> Drift:
    """Compare a backend with the network that it runs.

    Args:
        backend: what `build` made.
        network: of what; stays untouched.
        samples: batches [B, ...]; training samples where the result is to choose anything.
        temperature: at which the student is taught; above 0.

    Raises:
        InputError: there are no samples, or the temperature is out of range.
    """
    if not temperature > 0:
        raise InputError(f"drift: the temperature must be above 0; got {temperature}.")
    exact = Eager(network)
    kl, same, count = 0.0, 0, 0
    for batch in samples:
        ours, theirs = exact(batch).logits, backend(batch).logits
        # In float64: small divergences are differences of large terms.
        p, q = ((z.double() / temperature).log_softmax(1) for z in (ours, theirs))
        kl += float((p.exp() * (p - q)).sum())
        same += int((ours.argmax(1) == theirs.argmax(1)).sum())
        count += len(batch)
    if count == 0:
        raise InputError("drift: there is no sample to compare on.")
    return Drift(max(0.0, kl / count), same / count, count)  # rounding may end just below
