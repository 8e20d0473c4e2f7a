"""The recipe: what a run is made of, read from YAML and checked before any work starts."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, PrivateAttr, Tag, ValidationError, model_validator

from limbeck.errors import InputError
from limbeck.overrides import apply_overrides
from limbeck.reading import read_yaml, shown, write_yaml
from limbeck.recipe.base import LIST, MAPPING, NUMBER, RUN_NAME, SWITCH, Part, kind_of
from limbeck.recipe.checks import check_recipe, check_supported, with_reused_head
from limbeck.recipe.control import ControlSpec
from limbeck.recipe.data import DataSpec
from limbeck.recipe.linking import check_chain
from limbeck.recipe.links import Chain, settled_students
from limbeck.recipe.messages import explain
from limbeck.recipe.metrics import Metrics
from limbeck.recipe.network import Network
from limbeck.recipe.objective import Terms
from limbeck.recipe.plain import plain
from limbeck.recipe.scheme import SchemeSpec
from limbeck.recipe.several import Teachers, WeightingSpec, with_each_teacher
from limbeck.recipe.spreading import shrunk, spread
from limbeck.recipe.stages import Stages, last_stage_as_objective, with_first_stages
from limbeck.recipe.training import TrainSpec, check_schedules
from limbeck.recipe.variants import Variants, VariantSpec

__all__ = ["ExportSpec", "Recipe", "SchemeSpec"]

Seed = Annotated[int, Field(ge=0, lt=2**31)]
Seeds = Annotated[
    Annotated[int, Field(ge=1, le=1000), Tag(NUMBER)]
    | Annotated[tuple[Seed, ...], Field(min_length=1, max_length=1000, strict=False), Tag(LIST)],
    Discriminator(kind_of),
]


class ExportSpec(Part):
    """What the student is written as."""

    formats: Annotated[tuple[Literal["onnx", "int8"], ...], Field(max_length=2, strict=False)] = (
        "onnx",
        "int8",
    )
    """Formats: onnx, int8 (quantised ONNX); an empty list exports nothing."""


class Recipe(Part):
    """Everything that a run needs to know."""

    name: Annotated[str, Field(pattern=RUN_NAME)]
    """Name of the run and of its folder: letters, digits, dot, underscore and hyphen, at most 100."""
    seeds: Seeds = 1
    """How often all is repeated: a number n (seeds 0 to n-1), or a list of seeds."""
    teacher: (
        Annotated[
            Annotated[Network, Tag(MAPPING)] | Annotated[Teachers, Tag(LIST)],
            Discriminator(kind_of),
        ]
        | None
    ) = None
    """The network that teaches, or a list of several; null: plain training."""
    student: Network
    """The network that is trained."""
    data: DataSpec
    """The samples."""
    objective: Terms
    """The terms of the loss by name: {method: {weight, …options}}, or {method: weight}."""
    stages: Stages | None = None
    """What comes before the objective: [{name, epochs, objective, …}]; null: what its methods' papers say."""
    weighting: WeightingSpec | None = None
    """How much each of several teachers counts: average, a list of numbers, confidence, entropy, gradient,
    learned, or {name, …options}."""
    scheme: SchemeSpec = SchemeSpec()
    """Who teaches whom: offline; {name: online, kind, peers}; {name: own, kind}; {name: lifelong, old}."""
    train: TrainSpec
    """How the student is trained."""
    control: Annotated[
        Annotated[bool, Tag(SWITCH)] | Annotated[ControlSpec, Tag(MAPPING)],
        Discriminator(kind_of),
    ] = True
    """Train the same student without the teacher for comparison: true, false, or {teacher, objective, …}."""
    chain: Chain | None = None
    """Several students one after another, each the next one's teacher: [{name, student, …}], or
    {generations: 3, ensemble: true}."""
    variants: Variants | None = None
    """Other objectives for `limbeck compare`, by name: {NAME: {objective: {…}}}."""
    export: ExportSpec = ExportSpec()
    """What the student is written as when it is done: {formats: [onnx, int8]}."""
    metric: Literal["accuracy", "task_accuracy"] = "accuracy"
    """The figure that the verdict is about; for lifelong task_accuracy, the mean of both tasks."""
    track: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Where figures also go: [tensorboard, wandb, mlflow, trackio, csv], or {NAME: {…options}}."""
    small: dict[str, Any] = Field(default_factory=dict, exclude=True)
    """Settings {key.sub: value} that `--small` lays over the recipe, so that it can be tried in minutes."""
    metrics: Metrics = Field(default_factory=dict)
    """Further figures of every evaluation, by torchmetrics: [top5, f1], or {NAME: {metric, …options}}."""

    _path: Path | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _metric_of_tasks(cls, data: Any) -> Any:
        scheme = data.get("scheme") if isinstance(data, Mapping) else None
        name = scheme.get("name") if isinstance(scheme, Mapping) else scheme
        return {"metric": "task_accuracy", **data} if name == "lifelong" else data

    @model_validator(mode="after")
    def _name_is_no_folder(self) -> Self:
        if self.name in (".", ".."):
            raise ValueError(f'name must not be "{self.name}"')
        if len(set(self.seed_list)) < len(self.seed_list):
            raise ValueError("seeds must not repeat one")
        return self

    @classmethod
    def load(cls, path: Path | str, overrides: Iterable[str] = (), small: bool = False) -> "Recipe":
        """Read and check a recipe.

        Args:
            path: the YAML file.
            overrides: settings `key.sub=value` laid over the file, in order.
            small: lay the recipe's own `small` over it first.

        Raises:
            InputError: anything wrong with file, overrides or recipe; the message names the place.
        """
        path = Path(path)
        return cls.from_dict(read_yaml(path), path, overrides, small)

    @classmethod
    def from_dict(
        cls, data: object, path: Path | None = None, overrides: Iterable[str] = (), small: bool = False
    ) -> "Recipe":
        """Check a recipe that is given as a mapping.

        Args:
            data: the recipe; nothing in it is changed.
            path: the file that it came from; models, weights and data are looked for beside it.
            overrides: settings `key.sub=value` laid over it, in order.
            small: lay the recipe's own `small` over it first.

        Raises:
            InputError: the recipe is wrong; the message names the place.
        """
        where = str(path) if path is not None else "recipe"
        if not isinstance(data, Mapping):
            kind = "but it is empty" if data is None else f"given {shown(data)}"
            raise InputError(f"{where}: must be a mapping (name: …, student: …, data: …), {kind}.")
        settled = shrunk(plain(data, where), small, where)
        for override in [overrides] if isinstance(overrides, str) else overrides:
            settled = plain(apply_overrides(spread(settled), [override]), where)
        check_supported(settled, where)
        settled = settled_students(last_stage_as_objective(settled, where), where)
        recipe = cls._checked(spread(settled, inherit=True), path, where)
        recipe.written_out()  # for what it has to say against it
        check_chain(recipe, where)
        return recipe

    @classmethod
    def _checked(cls, data: dict[str, Any], path: Path | None, where: str) -> "Recipe":
        try:
            recipe = cls.model_validate(data)
        except ValidationError as error:
            raise explain(error, cls, where) from None
        recipe._path = path
        check_recipe(recipe, where)
        check_schedules(recipe, where)
        return recipe

    def written_out(self) -> "Recipe":
        """The recipe as a run keeps it: the first stages of its methods, the student's head, and the terms
        with each of several teachers written out.

        Raises:
            InputError: stages and epochs do not fit; or a head that no term gives the student.
        """
        if self.chain is not None:
            return self  # its links are written out, each by itself
        where = "recipe" if self._path is None else str(self._path)
        recipe = self
        for write in (with_first_stages, with_reused_head, with_each_teacher):
            more = write(recipe, where)
            recipe = recipe if more is None else self._checked(more, self._path, where)
        return recipe

    @property
    def path(self) -> Path | None:
        """The file that the recipe was read from."""
        return self._path

    @property
    def beside(self) -> Path | None:
        """The folder of that file."""
        return None if self._path is None else self._path.absolute().parent

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds, one by one."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    @property
    def is_taught(self) -> bool:
        """Whether there is more to learn from than labels: a teacher, or peers, or the student itself."""
        return self.teacher is not None or self.scheme.name != "offline"

    @property
    def adds_task(self) -> bool:
        """Whether the student is the teacher with further classes (lifelong); so is its control."""
        return self.scheme.name == "lifelong"

    @property
    def teachers(self) -> tuple[Network, ...]:
        """All its teachers."""
        return self.teacher if isinstance(self.teacher, tuple) else (self.teacher,) if self.teacher else ()

    @property
    def sole_teacher(self) -> Network | None:
        """Its teacher, where there is just one."""
        return None if isinstance(self.teacher, tuple) else self.teacher

    @property
    def teacher_names(self) -> list[str]:
        """What several teachers are called; of one teacher there is nothing to tell apart."""
        return [str(spec.name) for spec in self.teacher] if isinstance(self.teacher, tuple) else []

    @property
    def ahead(self) -> int | None:
        """Batches that the teachers are asked about at a time; None: by the device."""
        return next((spec.ahead for spec in self.teachers if spec.ahead is not None), None)

    def members(self) -> dict[str, "Recipe"]:
        """For each of several teachers by name, the recipe as if it were alone; of one, {"": this one}.

        Its seeds are moved on by its place, so that two teachers of one kind differ.
        """
        if not isinstance(self.teacher, tuple):
            return {"": self} if self.teacher else {}
        found = {}
        for number, spec in enumerate(self.teacher):
            seeds = tuple(seed + number for seed in self.seed_list)
            asked = spec.model_copy(update={"ahead": self.ahead})  # about the same batches as the others
            found[str(spec.name)] = self.model_copy(
                update={"teacher": asked, "weighting": None, "seeds": seeds}
            )
        return found

    @property
    def has_control(self) -> bool:
        """Whether a control is trained. Plain training would only be repeated, so it has none by default."""
        wanted = isinstance(self.control, ControlSpec) or (self.control and self.is_taught)
        return wanted and self.train.epochs > 0

    def parts(self) -> dict[tuple[str, ...], "Recipe | VariantSpec"]:
        """What has an objective and stages: the recipe, its variants and a control that has a teacher of its
        own, by the keys that lead there."""
        found: dict[tuple[str, ...], Recipe | VariantSpec] = {(): self}
        for name, variant in (self.variants or {}).items():
            found["variants", name] = variant
        if isinstance(self.control, ControlSpec) and self.control.taught is not None:
            found["control",] = self.control.taught
        return found

    def epochs_of(self, keys: tuple[str, ...]) -> int:
        """Epochs of the training that learns from one of the `parts`."""
        own = self.control.train if keys == ("control",) and isinstance(self.control, ControlSpec) else None
        return (own or self.train).epochs

    def objectives(self) -> dict[tuple[str | int, ...], Terms]:
        """All that is learnt from a teacher: its terms, by the keys that lead to them."""
        found: dict[tuple[str | int, ...], Terms] = {}
        for keys, part in self.parts().items():
            for number, stage in enumerate(part.stages or ()):
                found[*keys, "stages", number, "objective"] = stage.objective
            found[*keys, "objective"] = part.objective
        return found

    def dump(self) -> dict[str, Any]:
        """The resolved recipe, every default written out: plain values that `from_dict` takes back."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """The resolved recipe as YAML that `load` takes back."""
        return write_yaml(self.dump())
