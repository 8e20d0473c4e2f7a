"""Be your own teacher: exits at the ends of a network's stages learn from its own, deepest answer.

L. Zhang, J. Song, A. Gao, J. Chen, C. Bao, K. Ma, Be Your Own Teacher: Improve the Performance of
Convolutional Neural Networks via Self Distillation, ICCV 2019, https://arxiv.org/abs/1905.08094.

    L = CE(z_C, y) + Σ_i [ (1 − α)·CE(z_i, y) + α·T²·KL(p_C ‖ p_i) + λ·‖F_i − F_C‖² ]

over the exits i before the deepest, C; p at temperature T. The first two terms in brackets are the recipe's
objective; the deepest exit learns from its label terms at a total weight of 1, as the control does. Its
answer and its feature are targets, and take no gradient. A feature is a map's mean over places, as
classifiers take it; the squared distance is summed over channels and averaged over samples.

Values are those of the implementations in use, α = .1, T = 3 and λ = 1e-6. The authors' own later code has
α = .3 without T² (here a kd of weight .033 beside .7 · cross_entropy), and compares no features.

Exits are put at the ends of the stages of whatever network (`limbeck.layers`), four stages at most; a network
without stages is refused. The student that is saved is the network with its exits: `limbeck.students.exits`.
How to stop at them: `limbeck.EarlyExit`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from limbeck.calls import features_at
from limbeck.errors import InputError
from limbeck.knowledge import Batch, Knowledge
from limbeck.layers import MOST_STAGES, Layers
from limbeck.methods._parts import check_number, widen
from limbeck.objective import Objective
from limbeck.schemes.base import Lesson, Setting
from limbeck.schemes.offline import lessons_of
from limbeck.schemes.own._alone import Own
from limbeck.students.exits import AtExit, ExitNotes, Exits, halvings
from limbeck.taps import Tapped
from limbeck.teachers.base import Speaker, Speaking

__all__ = ["BeYourOwnTeacher", "hint_to_deepest"]


def hint_to_deepest(feature: Tensor, deepest: Tensor) -> Tensor:
    """The squared distance of an exit's feature from the deepest one, summed over channels.

    Args:
        feature: [B, D].
        deepest: [B, D]; takes no gradient.

    Returns:
        A scalar >= 0, mean over the batch.
    """
    return (widen(feature) - widen(deepest).detach()).square().sum(1).mean()


class BeYourOwnTeacher(Own):
    """Exits on the way learn from labels and from the network's own answer.

    Args:
        hint: λ, the weight of the squared distance of features, at least 0.
    """

    paper = (
        "Zhang, Song, Gao, Chen, Bao, Ma (2019), Be Your Own Teacher, ICCV, https://arxiv.org/abs/1905.08094"
    )
    aliases = ("byot", "be_your_own_teacher")
    others: ClassVar[str] = "exits"
    published: ClassVar[Mapping[str, object]] = {
        "objective": {"cross_entropy": 0.9, "kd": {"weight": 0.1, "temperature": 3.0}},
        "hint": 1e-6,
    }
    who = "the deepest exit"

    def __init__(
        self, student: Tapped, objective: Objective, setting: Setting, *, hint: float = 1e-6
    ) -> None:
        super().__init__(student, objective, setting)
        if self.alone is None:
            raise InputError(
                "objective: the deepest exit has no teacher and learns from labels; add a term of labels, "
                "such as cross_entropy."
            )
        self.hint = check_number("hint", hint, least=0)
        self.names = self._whole.names
        self.objectives = nn.ModuleList(setting.objective() for _ in self.names[1:])

    @property
    def _whole(self) -> Exits:
        assert isinstance(self.student.model, Exits)
        return self.student.model

    def _each(self) -> list[Objective]:
        """The objective of each exit but the deepest."""
        return [self.objective, *(one for one in self.objectives if isinstance(one, Objective))]

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """A weight of at least 0."""
        check_number("hint", options.get("hint", 0.0), least=0)

    @classmethod
    def compose(cls, student: Tapped, setting: Setting, **options: Any) -> nn.Module:
        """The network with exits at the ends of its stages.

        Raises:
            InputError: it has no stages, or only one.
        """
        return Exits(student.model, notes_for(student, setting.probe, setting.classes), setting.generator)

    def teach(self, batch: Batch) -> None:
        """Nothing: the deepest exit speaks in `forward`."""

    def forward(self, batch: Batch, teaching: None) -> dict[str, Tensor]:
        *shallow, deepest = self._whole.every(self.student.adapter(batch.input))
        assert self.alone is not None
        losses: dict[str, Tensor] = self.alone(Knowledge(deepest.logits), None, batch)
        heard = Knowledge(deepest.logits.detach())
        total = losses.pop("loss")
        for name, said, objective in zip(self.names, shallow, self._each(), strict=True):
            own = objective(Knowledge(said.logits), heard, batch)
            total = total + own.pop("loss")
            if self.hint:
                own["hint"] = hint_to_deepest(said.features[0], deepest.features[0])
                total = total + self.hint * own["hint"]
            losses |= {f"{name}.{term}": value for term, value in own.items()}
        return {"loss": total, **losses}

    def learners(self) -> list[tuple[Tapped, Objective, Speaker]]:
        """Each exit, which the deepest one stands for: their logits are of one shape."""
        source = Speaking(self.student)
        return [
            *super().learners(),
            *((self.student, objective, source) for objective in self._each()[1:]),
        ]

    def lessons(self) -> list[Lesson]:
        """The student from labels; each exit from labels and from it."""
        assert self.alone is not None
        found = lessons_of(self.alone, "student", ())
        for name, objective in zip(self.names, self._each(), strict=True):
            found += lessons_of(objective, name, (self.who,))
        return found

    def further(self) -> dict[str, nn.Module]:
        """The exits but the deepest, which is the student."""
        return {
            name: Tapped(AtExit(self._whole, number), (), self.student.adapter, who=name)
            for number, name in enumerate(self.names)
        }

    def before_step(self, epoch: float) -> None:
        """Set the weights that change with time for every exit."""
        for objective in self._each():
            objective.before_step(epoch)


def notes_for(student: Tapped, batch: Batch, classes: int) -> ExitNotes:
    """Where exits may stand in a network.

    Args:
        student: the plain network behind its input adapter; left as it is.
        batch: a few samples, to see its stages and their sizes.
        classes: logits of each exit.

    Raises:
        InputError: the network has no stages, or only one.
    """
    try:
        stages = Layers(student, batch).stages()
    except InputError as error:
        raise InputError(
            f"scheme: exits stand at the ends of a network's stages, and this one has none ({error})"
        ) from error
    count = min(len(stages), MOST_STAGES)
    if count < 2:
        raise InputError(
            "scheme: exits stand at the ends of the stages before the last one, and this network has "
            f'only one stage, "{stages[0].tap}".'
        )
    taps = tuple(stages[len(stages) * (i + 1) // count - 1].tap for i in range(count))
    maps = features_at(student, taps, batch)
    last = maps[-1].shape[-2]
    return ExitNotes(
        taps=taps,
        channels=tuple(map.shape[1] for map in maps),
        halvings=tuple(halvings(map.shape[-2], last) for map in maps[:-1]),
        classes=classes,
        batch_norm=any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in student.modules()),
    )
