"""`kd` with loss and gradient in one pass: the same numbers, and the plain formula where it must stay."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from slow import agree, draw
from test_golden import CASES, read, relative
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

from limbeck import functional
from limbeck.methods import _divergence
from limbeck.methods.kd import kd

ROWS, CLASSES = 140, 450


def logits(dtype: torch.dtype = torch.float32, **options: Any) -> tuple[Tensor, Tensor]:
    """The student's, which want a gradient, and the teacher's."""
    return (
        draw(ROWS, CLASSES, **options).to(dtype).requires_grad_(),
        draw(ROWS, CLASSES, seed=1, **options).to(dtype),
    )


def plain(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """The formula as a chain of operations."""
    p, q = (F.log_softmax(z / temperature, dim=1) for z in (student, teacher))
    return F.kl_div(p, q, reduction="batchmean", log_target=True) * temperature**2


def in_one_pass(loss: Tensor) -> bool:
    return type(loss.grad_fn).__name__ == "_AtOnceBackward"


def slope(loss: Tensor, at: Tensor, **options: Any) -> Tensor:
    return torch.autograd.grad(loss, at, **options)[0]


def close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-6) -> None:
    """To a share of the largest entry."""
    assert ours.dtype == theirs.dtype
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


@pytest.fixture
def at_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_divergence, "_LEAST", 0)
    monkeypatch.setattr(_divergence, "_NARROW", 0)


def slow_kd(student: Tensor, teacher: Tensor, temperature: float) -> tuple[float, Tensor]:
    """Loss and gradient on probabilities, row by row."""
    total, gradient = 0.0, []
    for pair in zip(student.tolist(), teacher.tolist(), strict=True):
        both = []
        for row in pair:
            largest = max(row)
            weights = [math.exp((v - largest) / temperature) for v in row]
            whole = sum(weights)
            both.append([w / whole for w in weights])
        total += sum(b * math.log(b / a) for a, b in zip(*both, strict=True))
        gradient.append([(a - b) * temperature / len(student) for a, b in zip(*both, strict=True)])
    return temperature**2 * total / len(student), torch.tensor(gradient, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [1, 3.0, 4.0])
@pytest.mark.usefixtures("at_any_size")
def test_value_and_gradient_of_few_logits(temperature: float) -> None:
    """In double precision, the gradient by central differences."""
    student, teacher = draw(4, 5), draw(4, 5, seed=1)
    assert in_one_pass(kd(student.clone().requires_grad_(), teacher, temperature=temperature))
    agree(
        lambda z: kd(z, teacher, temperature=temperature),
        lambda z: slow_kd(z, teacher, temperature)[0],
        student,
    )


@pytest.mark.parametrize("temperature", [1, 3.0, 4.0])
@pytest.mark.parametrize("room", [None, 9 * CLASSES, 1], ids=["at once", "blocks of 9 rows", "row by row"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-13)], ids=["float32", "float64"]
)
def test_value_and_gradient_of_many_logits(
    dtype: torch.dtype,
    tolerance: float,
    room: int | None,
    temperature: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """140 is no multiple of 9; a common offset of all logits, which no softmax sees, does no harm."""
    if room is not None:
        monkeypatch.setattr(_divergence, "_ROOM", room)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    student, teacher = logits(dtype)
    student = (student.detach() + 30).requires_grad_()
    loss = kd(student, teacher, temperature=temperature)
    assert in_one_pass(loss)
    assert loss.dtype == dtype
    assert loss.shape == ()
    exact, gradient = slow_kd(student.detach(), teacher, temperature)
    assert loss.item() == pytest.approx(exact, rel=tolerance)
    close(slope(loss, student).double(), gradient, tolerance)


@pytest.mark.parametrize("case", [c for c in CASES if c["function"] == "kd"], ids=lambda c: c["file"])
@pytest.mark.usefixtures("at_any_size")
def test_the_fields_own_values(case: dict[str, Any]) -> None:
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        inputs, expected = read(case, dtype)
        loss = kd(**inputs, **case["params"])
        assert in_one_pass(loss)
        assert loss.item() == pytest.approx(case["loss"], rel=tolerance)
        loss.backward()
        assert relative(inputs["student_logits"].grad, expected["student_logits"]) < 10 * tolerance


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_no_less_exact_than_the_plain_formula(offset: float) -> None:
    """Where the student is nearly there, and little is left of large terms."""
    errors: dict[Any, float] = {kd: 0.0, plain: 0.0}
    for seed in range(5):
        teacher = draw(ROWS, CLASSES, seed=seed).float()
        student = (teacher + 1e-2 * draw(ROWS, CLASSES, seed=99).float() + offset).requires_grad_()
        exact = plain(student.double(), teacher.double())
        for formula in errors:
            loss = formula(student, teacher)
            assert in_one_pass(loss) == (formula is kd)
            errors[formula] += abs(loss.item() - exact.item())
            difference = slope(loss, student) - slope(exact, student, retain_graph=True)
            errors[formula] += difference.abs().max().item()
    assert errors[kd] <= errors[plain]


def test_equal_logits_give_zero() -> None:
    student, _ = logits()
    loss = kd(student, student.detach().clone())
    assert in_one_pass(loss)
    assert abs(loss.item()) < 1e-7
    assert slope(loss, student).abs().max() < 1e-8 / ROWS


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    student, teacher = logits(dtype)
    wide = student.detach().float().requires_grad_()
    loss, wanted = kd(student, teacher), kd(wide, teacher.float())
    assert in_one_pass(loss)
    assert torch.equal(loss, wanted)
    assert torch.equal(slope(loss, student), slope(wanted, wide).to(dtype))


def test_autocast_changes_nothing() -> None:
    student, teacher = logits()
    expected = kd(student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        found = kd(student, teacher)
        assert in_one_pass(found)
        again = slope(slope(kd(student, teacher), student, create_graph=True).square().sum(), student)
    assert torch.equal(found, expected)
    assert torch.equal(slope(found, student), slope(expected, student))
    wanted = slope(slope(plain(student, teacher), student, create_graph=True).square().sum(), student)
    close(again, wanted, 1e-5)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "columns first": lambda z: z.T.contiguous().T,
    "every second column": lambda z: torch.stack([z, z + 1], dim=2)[:, :, 0],
    "one row for all": lambda z: z[:1].expand(ROWS, -1),
    "one column for all": lambda z: z[:, :1].expand(-1, CLASSES),
    "inside a larger tensor": lambda z: F.pad(z, (3, 5, 2, 1))[2:-1, 3:-5],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_in_memory(layout: str) -> None:
    made = [LAYOUTS[layout](z.detach()) for z in logits()]
    for change in ((True, True), (True, False), (False, True)):
        sides = [z if odd else z.contiguous() for z, odd in zip(made, change, strict=True)]
        sides[0].requires_grad_()
        loss, wanted = kd(*sides), plain(*sides)
        assert in_one_pass(loss)
        torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(slope(loss, sides[0]), slope(wanted, sides[0]), rtol=1e-4, atol=1e-8)
        sides[0].requires_grad_(False)


def test_logits_stay_as_they_are() -> None:
    student, teacher = logits()
    before = student.detach().clone(), teacher.clone()
    loss = kd(student, teacher)
    for _ in range(2):
        slope(loss, student, retain_graph=True)
    assert torch.equal(student.detach(), before[0])
    assert torch.equal(teacher, before[1])


def test_logits_may_change_between_loss_and_gradient() -> None:
    """As with the plain formula; what needs them as they were, a second derivative, refuses."""
    student, teacher = logits()
    wanted = slope(kd(student, teacher), student)
    for differentiable in (False, True):
        made, known = student * 1, teacher.clone()
        loss = kd(made, known)
        with torch.no_grad():
            made.zero_()
            known.zero_()
        if differentiable:
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                slope(loss, student, create_graph=True)
        else:
            assert torch.equal(slope(loss, student), wanted)


def test_a_weight_and_a_second_term_reach_the_gradient() -> None:
    student, teacher = logits()
    for formula in (kd, plain):
        student.grad = None
        (0.9 * formula(student, teacher) + student.square().mean()).backward()
        if formula is kd:
            found = student.grad
    assert found is not None
    assert student.grad is not None
    close(found, student.grad)


def test_back_propagation_twice_gives_the_gradient_twice() -> None:
    """The first gradient, which the caller may hold, is not touched by the second."""
    student, teacher = logits()
    loss = kd(student, teacher)
    first = slope(loss, student, retain_graph=True)
    kept = first.clone()
    second = slope(3 * loss, student)
    assert torch.equal(first, kept)
    close(second, 3 * first)


def test_gradients_of_several_outputs_at_once() -> None:
    student, teacher = logits()
    weights = torch.tensor([1.0, -2.0, 0.5])
    (found,) = torch.autograd.grad(kd(student, teacher), student, weights, is_grads_batched=True)
    close(found, weights[:, None, None] * slope(plain(student, teacher), student))


def test_second_derivative() -> None:
    student, teacher = logits(torch.float64)
    direction = draw(ROWS, CLASSES, seed=2)
    products = []
    for formula in (kd, plain):
        first = slope(formula(student, teacher), student, create_graph=True)
        second = slope((first * direction).sum(), student, create_graph=True)
        products.append((first, second, slope((second * direction).sum(), student)))
    for ours, theirs in zip(*products, strict=True):
        close(ours, theirs, 1e-10)


@pytest.mark.usefixtures("at_any_size")
def test_second_derivative_by_differences() -> None:
    student, teacher = draw(3, 4).requires_grad_(), draw(3, 4, seed=1)
    assert in_one_pass(kd(student, teacher))
    assert torch.autograd.gradcheck(lambda z: kd(z, teacher), student)
    assert torch.autograd.gradgradcheck(lambda z: kd(z, teacher), student)


def test_a_teacher_that_learns_gets_its_gradient() -> None:
    """Of peers that learn from each other, and of data that are made for the teacher."""
    student, teacher = logits()
    teacher.requires_grad_()
    for sides in ((student, teacher), (student.detach(), teacher)):
        loss, wanted = kd(*sides), plain(*sides)
        assert not in_one_pass(loss)
        close(slope(loss, teacher, retain_graph=True), slope(wanted, teacher, retain_graph=True))
        if sides[0].requires_grad:
            close(slope(loss, student), slope(wanted, student))


def test_without_a_gradient_nothing_is_kept() -> None:
    student, teacher = logits()
    with torch.no_grad():
        loss = kd(student, teacher)
    assert not loss.requires_grad
    assert not kd(student.detach(), teacher).requires_grad
    close(loss, plain(student, teacher).detach(), 1e-5)


def test_an_answer_from_inference_mode_teaches() -> None:
    student, teacher = logits()
    with torch.inference_mode():
        known = teacher.clone()
    close(slope(kd(student, known), student), slope(plain(student, teacher), student))


def test_no_more_than_the_gradient_is_kept() -> None:
    """Beside the logits themselves, which are there in any case."""
    student, teacher = logits()
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        loss = kd(student, teacher)
    assert in_one_pass(loss)
    assert set(kept) == {student.data_ptr(), teacher.data_ptr()}
    gap = loss.grad_fn.gap  # type: ignore[union-attr]
    assert gap.untyped_storage().nbytes() == student.untyped_storage().nbytes()
    slope(loss, student)
    assert loss.grad_fn.gap is None  # type: ignore[union-attr]


@pytest.mark.parametrize("side", ["student", "teacher", "both"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_gives_what_the_plain_formula_gives(value: float, side: str) -> None:
    student, teacher = (z.detach().clone() for z in logits())
    for name, z in (("student", student), ("teacher", teacher)):
        if side in (name, "both"):
            z[3, 7] = value
    student.requires_grad_()
    loss, wanted = kd(student, teacher), plain(student, teacher)
    assert not loss.isfinite()
    torch.testing.assert_close(loss, wanted, equal_nan=True)
    torch.testing.assert_close(slope(loss, student), slope(wanted, student), equal_nan=True)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("least", [-1e9, torch.finfo(torch.float32).min], ids=str)
def test_masked_classes_count_for_nothing(least: float, temperature: float) -> None:
    student, teacher = (z.detach().clone() for z in logits())
    student[:, 5:9] = teacher[:, 5:9] = least
    student.requires_grad_()
    loss, wanted = kd(student, teacher, temperature=temperature), plain(student, teacher, temperature)
    torch.testing.assert_close(loss, wanted, equal_nan=True)
    assert loss.isfinite() or (temperature < 1 and least < -1e30)
    torch.testing.assert_close(slope(loss, student), slope(wanted, student), equal_nan=True)


@pytest.mark.parametrize("size", [1e3, 1e4, 1e30])
def test_certain_answers_stay_finite(size: float) -> None:
    student, teacher = (z.detach() * size for z in logits())
    student.requires_grad_()
    loss = kd(student, teacher)
    torch.testing.assert_close(loss, plain(student, teacher), rtol=1e-5, atol=0.0)
    assert slope(loss, student).isfinite().all()


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is:FutureWarning")
def test_transforms_of_functions() -> None:
    student, teacher = (z.detach() for z in logits(torch.float64))
    tangent = draw(ROWS, CLASSES, seed=2)
    stack = torch.stack([student, student.flip(0), teacher])
    for ours, theirs in (
        [torch.func.grad(f, argnums=(0, 1))(student, teacher) for f in (kd, plain)],
        [torch.func.vmap(f, in_dims=(0, None))(stack, teacher) for f in (kd, plain)],
        [torch.func.vmap(torch.func.grad(f), in_dims=(0, None))(stack, teacher) for f in (kd, plain)],
        [torch.func.jvp(lambda z, f=f: f(z, teacher), (student,), (tangent,)) for f in (kd, plain)],
        [torch.func.vjp(lambda z, f=f: f(z, teacher), student)[0] for f in (kd, plain)],
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is:FutureWarning")
@pytest.mark.parametrize("moved", ["student", "teacher"])
def test_forward_mode(moved: str) -> None:
    student, teacher = logits(torch.float64)
    tangent = draw(ROWS, CLASSES, seed=2)
    with forward_ad.dual_level():
        sides = [
            forward_ad.make_dual(z, tangent) if name == moved else z
            for name, z in (("student", student), ("teacher", teacher))
        ]
        ours, theirs = (forward_ad.unpack_dual(formula(*sides)).tangent for formula in (kd, plain))
    assert ours is not None
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_many_logits_compile_in_one_graph() -> None:
    student, teacher = logits()
    torch.compiler.reset()
    try:
        loss = torch.compile(kd, fullgraph=True, backend="aot_eager")(student, teacher)
        found = slope(loss, student)
    finally:
        torch.compiler.reset()
    close(loss.detach(), plain(student, teacher).detach(), 1e-5)
    close(found, slope(plain(student, teacher), student))


def test_a_parameter_and_a_precision_of_its_own_take_the_plain_formula() -> None:
    student, teacher = logits()
    own = nn.Parameter(student.detach())
    for ours, theirs in ((own, teacher), (student, teacher.double())):
        loss = kd(ours, theirs)
        assert not in_one_pass(loss)
        close(slope(loss, ours), slope(plain(ours, theirs), ours))


def test_a_temperature_that_learns_gets_its_gradient() -> None:
    student, teacher = logits()
    temperature = torch.tensor(3.0, requires_grad=True)
    found, wanted = (
        torch.autograd.grad(formula(student, teacher, temperature=temperature), (student, temperature))
        for formula in (kd, plain)
    )
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("shape", [(128, 10), (64, 100)])
def test_few_logits_take_the_plain_formula(shape: tuple[int, int]) -> None:
    """They would not be faster otherwise."""
    student, teacher = draw(*shape).float().requires_grad_(), draw(*shape, seed=1).float()
    assert not in_one_pass(kd(student, teacher))


def test_standardized_kd_takes_the_same_pass() -> None:
    student, teacher = logits()

    def standard(z: Tensor) -> Tensor:
        return (z - z.mean(1, keepdim=True)) / (z.std(1, keepdim=True) + 1e-7)

    loss = functional.standardized_kd(student, teacher, temperature=2.0)
    assert in_one_pass(loss)
    wanted = plain(standard(student), standard(teacher), 2.0)
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-6)
    close(slope(loss, student), slope(wanted, student), 1e-5)
