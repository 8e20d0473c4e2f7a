"""How a network of a recipe is trained."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from limbeck.recipe.base import DEVICE, Open, Part

if TYPE_CHECKING:
    from limbeck.recipe.recipe import Recipe

__all__ = ["OptimizerSpec", "ScheduleSpec", "TrainSpec", "check_schedules"]

Epochs = Annotated[float, Field(ge=0, le=10**6)]


class OptimizerSpec(Open):
    """An optimiser of timm by name; keys that are not listed here are its options."""

    name: Annotated[str, Field(min_length=1)] = "sgd"
    """sgd, adamw, lamb, or any other of timm's names."""
    lr: Annotated[float, Field(gt=0)]
    """Learning rate at the top of the schedule."""


class ScheduleSpec(Part):
    """The learning rate over the epochs, as a share of the optimiser's `lr`."""

    name: Literal["cosine", "polynomial", "step", "constant"] = "cosine"
    """cosine, polynomial: down to `final`; step: times `gamma` at each milestone; constant."""
    warmup_epochs: Epochs = 0.0
    """Epochs in which the rate rises linearly from 0."""
    cooldown_epochs: Epochs = 0.0
    """cosine and polynomial: the last epochs, in which the rate stays at `final`."""
    milestones: Annotated[tuple[Epochs, ...], Field(max_length=1000, strict=False)] = ()
    """step only: the epochs after which the rate falls, in rising order."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    """step only: the factor at each milestone."""
    final: Annotated[float, Field(ge=0, le=1)] = 0.0
    """cosine and polynomial: the share of `lr` at the end."""
    power: Annotated[float, Field(gt=0, le=100)] = 0.9
    """polynomial only: its exponent."""
    cycles: Annotated[int, Field(ge=1, le=10**6)] = 1
    """cosine only: into how many equal cycles it is divided, each from `lr` down to `final`."""

    @model_validator(mode="after")
    def _milestones_fit(self) -> Self:
        if self.name == "step" and not self.milestones:
            raise ValueError("a step schedule needs milestones: [epoch, …]")
        if self.name not in ("cosine", "polynomial") and self.cooldown_epochs:
            raise ValueError(
                f"cooldown_epochs are for cosine and polynomial; a {self.name} schedule holds its rate anyway"
            )
        if self.name != "cosine" and self.cycles > 1:
            raise ValueError(f"cycles are for the cosine schedule only; this one is {self.name}")
        if self.name != "step" and self.milestones:
            raise ValueError(f"milestones are for the step schedule only; this one is {self.name}")
        if any(b <= a for a, b in zip(self.milestones, self.milestones[1:], strict=False)):
            raise ValueError("milestones must rise from each to the next")
        return self


class EmaSpec(Part):
    """The average of the student's weights, which is evaluated and shipped. A bare number is `decay`."""

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.9999
    """Share of the old average that is kept at each step."""
    schedule: Literal["constant", "exponential", "threshold"] = "exponential"
    """exponential: decay*(1-exp(-beta*step/steps)); threshold: min(decay, (1+s)/(10+s)); constant."""
    beta: Annotated[float, Field(gt=0, le=10**6)] = 15.0
    """exponential only: how steeply it rises."""


class CheckpointSpec(Part):
    """Which weights the student is in the end; a bare word is `take`."""

    take: Literal["last", "best", "average"] = "last"
    """last: the last epoch's; best: the best epoch's; average: the mean of the best epochs'."""
    best: Annotated[int, Field(ge=1, le=1000)] = 10
    """How many epochs `average` takes in."""
    watch: Annotated[str, Field(min_length=1)] = "accuracy"
    """The figure that tells what is best, on the validation part: accuracy, loss, ece, one of `metrics`."""
    mode: Literal["max", "min"] | None = None
    """Whether more or less of it is better; null: as is usual for the figure."""


DEFAULT_OPTIMIZER: dict[str, Any] = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}


class TrainSpec(Part):
    """Length, optimiser, schedule and machine of one training."""

    epochs: Annotated[int, Field(ge=0, le=10**6)]
    """Passes over the training set; 0: everything but training happens."""
    optimizer: OptimizerSpec = OptimizerSpec.model_validate(DEFAULT_OPTIMIZER)
    """The optimiser: {name, lr, …}; by default SGD with lr 0.1, momentum 0.9, weight decay 0.0005."""
    schedule: ScheduleSpec = ScheduleSpec()
    """The learning rate over time: {name, warmup_epochs, milestones, gamma, final}."""
    accumulate: Annotated[int, Field(ge=1, le=10**6)] = 1
    """Parts that one batch is computed in, to save memory; the result is that of the whole batch."""
    clip: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of the gradient; null: not clipped."""
    decay_bias_and_norm: bool = True
    """Whether weight decay also shrinks biases and the weights of norm layers."""
    ema: EmaSpec | None = None
    """Average the student's weights over the steps: true, a decay, or {decay, schedule, beta}; null: not."""
    checkpoint: CheckpointSpec = CheckpointSpec()
    """Which weights the student is in the end: last, best or average, by a figure on validation data."""
    precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32"
    """Number format of the computation; weights stay in fp32. auto: fp32 on a CPU, else bf16 or fp16."""
    compile: Literal["auto", "graphs", True, False] = "auto"
    """Compile the networks: slower to start, faster to run. auto: in a long training, where it is faster.
    graphs: with CUDA graphs."""
    channels_last: bool = True
    """Keep images in the memory layout that convolutions like."""
    save_every: Annotated[float, Field(ge=0, le=10**9)] = 60.0
    """Seconds between two savings of the state."""
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    """CPU threads; null: as many as torch takes."""
    device: Annotated[str, Field(pattern=DEVICE)] = "auto"
    """auto, cpu, cuda, cuda:N, mps or xpu."""
    shard: Annotated[tuple[Literal["teacher", "student"], ...], Field(max_length=2, strict=False)] = ()
    """Networks shared out among several processes, for want of room: teacher, student, or both."""
    workers: Annotated[int, Field(ge=0, le=1024)] = 0
    """Processes that read samples; 0: the training's own."""


def check_schedules(recipe: "Recipe", where: str) -> None:
    """See whether every warm-up and cool-down fits into its training.

    Raises:
        InputError: one does not; names it.
    """
    from limbeck.training.settings import check_fits  # imports torch, which reading and the schema do without

    own = recipe.control if recipe.has_control else None
    trained = {
        "train": recipe.train,
        **{f"teacher.{n}.train": t.train for n, t in enumerate(recipe.teachers) if recipe.teacher_names},
        "teacher.train": None if recipe.sole_teacher is None else recipe.sole_teacher.train,
        "control.train": None if own is None or isinstance(own, bool) else own.train,
    }
    for place, spec in trained.items():
        if spec is None:
            continue
        # Taken whole from `train`, it may be too long for fewer epochs.
        taken = place != "train" and spec.schedule == recipe.train.schedule
        hint = f" This is the schedule of train; give {place}.schedule." if taken else ""
        check_fits(spec.schedule.model_dump(), spec.epochs, place, where=f"{where}: ", hint=hint)
    for keys, part in recipe.parts().items():
        for number, stage in enumerate(part.stages or ()):
            if stage.schedule is not None and recipe.epochs_of(keys):
                place = ".".join((*keys, "stages", str(number)))
                check_fits(stage.schedule.model_dump(), stage.epochs, place, where=f"{where}: ")
