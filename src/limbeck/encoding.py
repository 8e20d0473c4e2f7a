"""How a recipe has its teacher's answers written: `codec_of`."""

from limbeck.cache import Codec, Dense, Sampled, TopK
from limbeck.errors import InputError
from limbeck.methods.base import Method
from limbeck.objective import Objective
from limbeck.recipe import CacheSpec

__all__ = ["codec_of"]

MANY, VERY_MANY = 1000, 20_000
"""Classes above which not all logits are kept, and above which classes are drawn instead."""


def codec_of(spec: CacheSpec, classes: int, objective: Objective) -> Codec:
    """How answers over so many classes are written.

    Raises:
        InputError: not all logits are kept, and the objective does not say at which temperature the rest is.
    """
    store = spec.store
    if store == "auto":
        store = "fp16" if classes <= MANY else "topk" if classes <= VERY_MANY else "sample"
    if store in ("fp16", "fp32"):
        return Dense(16 if store == "fp16" else 32)
    temperature = spec.temperature if spec.temperature is not None else _temperature(objective)
    return TopK(spec.top_k, temperature) if store == "topk" else Sampled(spec.draws, temperature)


def _temperature(objective: Objective) -> float:
    """The temperature of the terms that learn from logits.

    Raises:
        InputError: they have none, or several.
    """
    methods = [m for m in objective.modules() if isinstance(m, Method) and m.kind != "label"]
    found = {t for t in (getattr(m, "temperature", None) for m in methods) if isinstance(t, float)}
    if len(found) != 1:
        said = "have none" if not found else f"have {', '.join(f'{t:g}' for t in sorted(found))}"
        raise InputError(
            "teacher.cache.temperature: the mass of the logits that are not kept is kept at one temperature, "
            f"and the objective's terms {said}; say which, or give store: fp16."
        )
    return found.pop()
