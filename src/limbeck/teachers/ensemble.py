"""Several teachers at once, and their answers as one: `Ensemble`, `combined`.

    z = T · log Σ_k w_k softmax(z_k / T)

At the temperature T these logits say just what the weighted mean of the teachers' answers says, so that `kd`
at T has the gradient of Σ_k w_k T² KL(p_k ‖ p_s), the weighted sum of the teachers' own losses: the two
differ by what the teachers disagree about, which no student can change. The mean of an ensemble's answers as
the target is that of Hinton et al. 2015, https://arxiv.org/abs/1503.02531.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from limbeck.errors import InputError, unknown
from limbeck.knowledge import Batch, Knowledge
from limbeck.teachers.base import Teacher
from limbeck.teachers.frozen import Frozen
from limbeck.teachers.weightings import Weighting
from limbeck.teachers.weightings.base import even

if TYPE_CHECKING:
    from limbeck.training.runtime import Runtime

__all__ = ["Averaged", "Ensemble", "Fixed", "combined", "taps_of", "whose"]

T = TypeVar("T")


def combined(logits: Tensor, weights: Tensor, temperature: float = 1.0) -> Tensor:
    """Logits of the weighted mean of several answers, as they are at a temperature.

    Args:
        logits: of K networks, [B, K, C].
        weights: [B, K], at least 0; rows sum to 1.
        temperature: T > 0.

    Returns:
        [B, C], float32: T · log Σ_k w_k softmax(z_k / T).
    """
    logs = (logits.float() / temperature).log_softmax(2)
    return temperature * (logs + weights.log()[..., None]).logsumexp(1)


def whose(tap: str, names: Sequence[str], where: str = "objective") -> tuple[str, str]:
    """The teacher that a tap `NAME/tap` is of, and the tap.

    Raises:
        InputError: it names none of the teachers.
    """
    name, sign, rest = tap.partition("/")
    if not sign:
        raise InputError(
            f'{where}: the layer "{tap}" must say which of the teachers ({", ".join(names)}) it is of: '
            f'"{names[0]}/{tap}".'
        )
    if name not in names:
        raise unknown("teacher", name, names, f'{where}: layer "{tap}"')
    return name, rest


def taps_of(name: str, taps: Sequence[str]) -> list[str]:
    """What one teacher reads of all taps `NAME/tap`, in their order."""
    return [tap.partition("/")[2] for tap in taps if tap.partition("/")[0] == name]


class Ensemble(Teacher):
    """Several frozen teachers, each asked about every batch.

    Args:
        members: by name, in the order of the weights; each reads what `taps_of` gives for it.
        weighting: how much each counts, yet to be set up; a scheme takes a copy for its own.
        taps: what all of them read, `NAME/tap`, in the order of the features.

    Attributes:
        network: their networks in one module, to be moved, looked at or compiled together.

    Raises:
        InputError: a tap names no member.
    """

    def __init__(self, members: Mapping[str, Frozen], weighting: Weighting, taps: Sequence[str] = ()) -> None:
        self.members = dict(members)
        self.weighting = weighting
        self.taps = tuple(taps)
        self._readers = [whose(tap, self.names)[0] for tap in taps]
        self.network = nn.ModuleList([member.network for member in self.members.values()])
        self._together: Callable[[Tensor], Sequence[Knowledge]] | None = None

    @property
    def names(self) -> list[str]:
        """Of the members."""
        return list(self.members)

    @property
    def steady(self) -> bool:  # type: ignore[override]  # of other teachers a constant
        """Whether all members are."""
        return all(member.steady for member in self.members.values())

    @property
    def tapped_modules(self) -> tuple[nn.Module, ...]:
        """The modules that are read, in the order of the features."""
        return self.ordered({name: member.network.tapped_modules for name, member in self.members.items()})

    def ordered(self, of_each: Mapping[str, Sequence[T]]) -> tuple[T, ...]:
        """What each member has for each of its own taps, in the order of all taps."""
        rest = {name: iter(values) for name, values in of_each.items()}
        return tuple(next(rest[name]) for name in self._readers)

    def each(self, of_each: Mapping[str, T]) -> tuple[T, ...]:
        """What each member has once, for each of all taps."""
        return tuple(of_each[name] for name in self._readers)

    def run_by(self, together: Callable[[Tensor], Sequence[Knowledge]] | None) -> None:
        """Let something else run all networks at once: answers without a gradient come from there.

        Args:
            together: gives the networks' answers to a batch's input, in the order of the members; None: each
                member answers in its own way.
        """
        self._together = together

    def __call__(self, batch: Batch, differentiable: bool = False) -> Knowledge:
        """All members' answers: logits [B, K, C], and the features of all in the order of the taps."""
        members = self.members.items()
        if self._together is not None and not differentiable and isinstance(batch.input, Tensor):
            said = self._together(batch.input)
            answers = {n: m.picked(k) for (n, m), k in zip(members, said, strict=True)}
        else:
            answers = {n: m(batch, differentiable) for n, m in members}
        self._check({name: answer.logits for name, answer in answers.items()})
        return Knowledge(
            torch.stack([answer.logits for answer in answers.values()], 1),
            self.ordered({name: answer.features for name, answer in answers.items()}),
        )

    def _check(self, logits: Mapping[str, Tensor]) -> None:
        """Refuse answers over different classes."""
        (first, known), *others = logits.items()
        for name, said in others:
            if said.shape != known.shape:
                raise InputError(
                    f"teacher.{name}: answers {list(said.shape)} (samples, classes), and {first} answers "
                    f"{list(known.shape)}; all teachers must answer the same classes (teacher.classes)."
                )

    def averaged(self, answer: Knowledge) -> Knowledge:
        """All members' answers as one: the average."""
        return Knowledge(combined(answer.logits, even(answer.logits)), answer.features)

    def plain(self) -> nn.Module:
        """One network that answers the average of the members' probabilities, as logits."""
        members = self.members.values()
        return Averaged([member.plain() for member in members], [m.classes for m in members]).eval()

    def place(self, runtime: "Runtime", compiles: bool = True) -> None:
        """Each goes to where the training runs; see `Frozen.place`."""
        for member in self.members.values():
            member.place(runtime, compiles and self._together is None)

    def close(self) -> None:
        """Give all networks back as they came."""
        for member in self.members.values():
            member.close()


class Averaged(nn.Module):
    """The average of several networks' probabilities, as logits [B, C].

    Args:
        networks: each answers logits.
        classes: for each, which of its logits belong to the classes, [C]; None: all.
    """

    def __init__(self, networks: Sequence[nn.Module], classes: Sequence[Tensor | None]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self._classes = list(classes)

    def forward(self, input: Tensor) -> Tensor:
        answers = [network(input) for network in self.networks]
        chosen = [a if c is None else a[:, c] for a, c in zip(answers, self._classes, strict=True)]
        logits = torch.stack(chosen, 1)
        return combined(logits, even(logits))


Fixed: TypeAlias = Frozen | Ensemble
"""Teachers that are networks and never change."""
