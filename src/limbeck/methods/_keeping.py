"""Checks of the contract (see `limbeck.methods.testing`) on a method's own layers, memory and graph."""

import torch

from limbeck.methods._cases import Subject, loss_of, make_case
from limbeck.methods._promises import back, equal, gradients

__all__ = ["compiles_in_one_graph", "continues_from_its_state", "prepares_its_own_layers", "repeats_by_seed"]


def repeats_by_seed(subject: Subject) -> str | None:
    """The same seed gives the same layers and loss, and setting up takes no number from torch's generator."""
    case = make_case(subject)
    state = torch.get_rng_state()
    first, second = subject.ready(case), subject.ready(case)
    assert torch.equal(state, torch.get_rng_state()), (
        "setup draws from torch's global generator; use the probe's, so that student and control see the same"
    )
    ours, theirs = first.state_dict(), second.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours), "two setups with one seed differ"
    assert torch.equal(loss_of(first, case), loss_of(second, case)), "two runs with one seed differ"
    return None


def continues_from_its_state(subject: Subject) -> str | None:
    """What the method learned or remembers is in its `state_dict`, so that a run can be resumed."""
    case = make_case(subject)
    first, second = subject.ready(case), subject.ready(case)
    back(loss_of(first, case))
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.sub_(0.1 * (0 if parameter.grad is None else parameter.grad))
    second.load_state_dict(first.state_dict(), strict=True)
    assert torch.equal(loss_of(first, case), loss_of(second, case)), "a resumed method gives another loss"
    return None


def prepares_its_own_layers(subject: Subject) -> str | None:
    """The stage that trains the method's own layers gives these a gradient, and after it they rest."""
    if subject.cls.stage != "layers":
        return None
    case = make_case(subject)
    method = subject.ready(case)
    layers = method.prepared
    assert layers is not None, "`prepared` is None after setup"
    assert case.teacher is not None
    own = dict(layers.named_parameters())
    assert own, "there is nothing to train in `prepared`"
    assert not any(p.requires_grad for p in own.values()), "layers of a stage of their own learn outside it"
    assert not layers.training, "layers of a stage of their own are in training mode outside it"
    before = {n: b.clone() for n, b in layers.named_buffers()}
    loss_of(method, case)
    after = dict(layers.named_buffers())
    assert all(torch.equal(before[n], after[n]) for n in before), "statistics move outside the stage"
    method.preparing = True
    layers.requires_grad_()
    method.train()
    loss = method.prepare(case.teacher.detach(), case.batch)
    assert loss.ndim == 0, "the loss must be a scalar"
    assert loss.isfinite(), f"the loss is {loss.item()}"
    back(loss)
    for name, parameter in method.named_parameters():
        assert (parameter.grad is None) == (id(parameter) not in {id(p) for p in own.values()}), (
            f"the stage {'misses' if parameter.grad is None else 'reaches'} {name}"
        )
    return None


def compiles_in_one_graph(subject: Subject) -> str | None:
    """`torch.compile(fullgraph=True)` takes it, so nothing in it waits for the device."""
    case = make_case(subject, dtype=torch.float32)
    plain, compiled = case, case.map(lambda t: t)
    torch.compiler.reset()
    try:
        call = torch.compile(subject.ready(case, torch.float32), fullgraph=True, backend="aot_eager")
        losses = loss_of(subject.ready(case, torch.float32), plain), loss_of(call, compiled)
        for loss in losses:
            back(loss)
    except torch._dynamo.exc.TorchDynamoException as error:
        raise AssertionError(f"it does not compile in one graph: {error}") from error
    finally:
        torch.compiler.reset()
    equal(*losses, "the compiled loss differs", tolerance=1e-5)
    for a, b in zip(gradients(plain), gradients(compiled), strict=True):
        equal(a, b, "the compiled gradient differs", tolerance=1e-5)
    return None
