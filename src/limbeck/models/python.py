"""`py:package.module:factory`: a user's own network, from an installed package or beside the recipe."""

import inspect
from collections.abc import Mapping

from torch import nn

from limbeck.errors import InputError
from limbeck.importing import find_callable
from limbeck.inputs import InputSpec
from limbeck.models.request import Built, Request, call, fill

__all__ = ["build"]


def build(request: Request) -> Built:
    """Calls the factory with the options; the network's `input_spec`, if it has one, says what it expects."""
    name, where = f"py:{request.name}", request.where
    factory = find_callable(request.name, beside=request.beside, where=f"{where}.model")
    try:
        declared = inspect.signature(factory).parameters
    except ValueError as error:
        raise InputError(
            f"{where}.model: {name} has no signature that its options could be checked by."
        ) from error
    options = fill(request, factory)
    if request.pretrained:
        if "pretrained" not in declared:
            request.refuse_pretrained("py")
        options["pretrained"] = True
    model = call(factory, options, where=where, name=name)
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{where}.model: {name} must return torch.nn.Module, returned {type(model).__name__}."
        )
    return Built(model, _spec(getattr(model, "input_spec", None), f"{name}, input_spec"), name)


def _spec(given: object, where: str) -> InputSpec:
    if given is None or isinstance(given, InputSpec):
        return given or InputSpec()
    if not isinstance(given, Mapping):
        raise InputError(
            f"{where}: must be limbeck.inputs.InputSpec or a mapping, got {type(given).__name__}."
        )
    values = {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in given.items()}
    spec: InputSpec = call(InputSpec, values, where=where, name="InputSpec")
    return spec
