"""Shapes that do not belong together end in a sentence that says what is needed and what was given."""

import pytest
import torch

from limbeck import functional
from limbeck.knowledge import Batch, Knowledge
from limbeck.methods.base import Probe
from limbeck.methods.hint import Hint

LABELS = torch.zeros(4, dtype=torch.int64)


def test_logits_of_other_class_counts() -> None:
    with pytest.raises(ValueError, match=r"one shape \[samples, classes\]; got \[4, 5\] and \[4, 6\]"):
        functional.kd(torch.zeros(4, 5), torch.zeros(4, 6))
    with pytest.raises(ValueError, match="decoupled_kd needs student and teacher logits"):
        functional.decoupled_kd(torch.zeros(4, 5), torch.zeros(4, 6), LABELS)


def test_decoupled_kd_needs_class_indices_and_two_classes() -> None:
    with pytest.raises(ValueError, match=r"targets \[4, 5\]"):
        functional.decoupled_kd(torch.zeros(4, 5), torch.zeros(4, 5), torch.zeros(4, 5))
    with pytest.raises(ValueError, match="at least 2 classes"):
        functional.decoupled_kd(torch.zeros(4, 1), torch.zeros(4, 1), LABELS)


@pytest.mark.parametrize("target", [torch.zeros(3, dtype=torch.int64), torch.zeros(4, 6), torch.tensor(0)])
def test_cross_entropy_names_both_shapes(target: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"got logits \[4, 5\] and targets "):
        functional.cross_entropy(torch.zeros(4, 5), target)


def test_hint_function_names_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"student \[4, 5\] and teacher \[4, 6\]"):
        functional.hint(torch.zeros(4, 5), torch.zeros(4, 6))


def knowledge(*shapes: tuple[int, ...]) -> Knowledge:
    return Knowledge(torch.zeros(4, 5), tuple(torch.zeros(4, *s) for s in shapes))


def probe(student: Knowledge, teacher: Knowledge | None) -> Probe:
    return Probe(student, teacher, Batch(torch.zeros(4)))


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (knowledge((3, 2, 2)), knowledge((3,)), r"got student \[4, 3, 2, 2\] and teacher \[4, 3\]"),
        (knowledge((3, 6)), knowledge((4, 6)), r"of one length; got student \[4, 3, 6\]"),
        (knowledge((3, 2, 2)), knowledge(), "got 1 of the student and 0 of the teacher"),
        (knowledge(), knowledge(), "at least one"),
        (knowledge((3,)), None, "hint needs a teacher"),
    ],
)
def test_hint_setup_refuses(student: Knowledge, teacher: Knowledge | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Hint().setup(probe(student, teacher))


def test_hint_refuses_features_that_it_was_not_set_up_for() -> None:
    method, one, two = Hint(), knowledge((3,)), knowledge((3,), (3,))
    with pytest.raises(ValueError, match="set up for 0 pairs"):
        method(one, one, Batch(torch.zeros(4)))
    method.setup(probe(one, one))
    with pytest.raises(ValueError, match="set up for 1 pairs of features; got 2"):
        method(two, two, Batch(torch.zeros(4)))


def test_hint_normalized_refuses_tokens() -> None:
    with pytest.raises(ValueError, match="not for tokens"):
        Hint(normalize=True).setup(probe(knowledge((3, 6)), knowledge((3, 6))))
