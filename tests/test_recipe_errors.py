"""Whatever is wrong with a recipe ends in one `InputError` that names place, rule, value and nearest word."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import InputError
from limbeck.reading import read_yaml
from limbeck.recipe import Recipe
from limbeck.recipe.recipe import SchemeSpec

BASE: dict[str, Any] = {
    "name": "base",
    "seeds": 2,
    "teacher": {
        "model": "cifar:resnet32",
        "weights": "t.safetensors",
        "input": {"mean": [0.5], "std": [0.5]},
    },
    "student": {"model": "cifar:resnet20", "shortcut": "pad"},
    "data": {"source": "digits", "views": {"crop": 1}},
    "objective": {
        "cross_entropy": 0.1,
        "kd": {"weight": {"start": 0, "end": 1, "epochs": 2}, "temperature": 4},
    },
    "scheme": "offline",
    "train": {"epochs": 3, "optimizer": {"lr": 0.1}, "schedule": {"name": "step", "milestones": [1, 2]}},
    "control": {"train": {"epochs": 2}, "objective": {"ce": 1}},
    "export": {"formats": ["onnx"]},
}

CASES = [
    # unknown and missing keys
    ("lr=1", ['unknown key "lr"', "Allowed: chain, control, data"]),
    ("techer={model: x}", ['unknown key "techer". Did you mean "teacher"?']),
    ("data.batchsize=3", ['data: unknown key "batchsize". Did you mean "batch_size"?']),
    ("train.epoch=3", ['train: unknown key "epoch". Did you mean "epochs"?']),
    ("train.schedule.warmup=3", ['train.schedule: unknown key "warmup". Did you mean "warmup_epochs"?']),
    ("control.trian={}", ['control: unknown key "trian". Did you mean "train"?']),
    ("control.train.epoch=1", ['control.train: unknown key "epoch". Did you mean "epochs"?']),
    ("teacher.train={epoch: 1}", ['teacher.train: unknown key "epoch". Did you mean "epochs"?']),
    ("teacher.input.siz=3", ['teacher.input: unknown key "siz". Did you mean "size"?']),
    ("export.format=onnx", ['export: unknown key "format". Did you mean "formats"?']),
    (
        "objective.kd.weight={start: 0, end: 1, epoch: 2}",
        ['objective.kd.weight: unknown key "epoch".', '"epochs"'],
    ),
    ("objective.kd.weight={start: 0, end: 1}", ["objective.kd.weight.epochs: is missing. How many epochs"]),
    ("data={}", ["data.source: is missing", "cifar10"]),
    ("student={}", ["student.model: is missing", "timm:NAME"]),
    ("train={}", ["train.epochs: is missing"]),
    ("train.optimizer={name: sgd}", ["train.optimizer.lr: is missing"]),
    # wrong types and ranges
    ("name=", ["name: must be text, given null"]),
    ("name=1", ["name: must be text, given 1"]),
    ("name=a/b", ["name: must be 1 to 100 letters, digits", 'given "a/b"']),
    ("name=..", ['name must not be ".."']),
    ("name=.", ['name must not be "."']),
    ('name=""', ["name: must be 1 to 100"]),
    ('name="a\\n"', ["name: must be 1 to 100"]),
    ("seeds=0", ["seeds: must be at least 1, given 0"]),
    ("seeds=true", ["seeds: must be a number or a list, given true"]),
    ("seeds=1.5", ["seeds: must be a whole number, given 1.5"]),
    ("seeds=[]", ["seeds: must have at least 1 entry"]),
    ("seeds=[0, 1, 0]", ["seeds must not repeat one"]),
    ("seeds=[0, -1]", ["seeds.1: must be at least 0, given -1"]),
    ("seeds=[a]", ['base: seeds.0: must be a whole number, given "a"']),
    ("teacher=cifar:resnet20", ['teacher: must be a mapping or a list, given "cifar:resnet20"']),
    ("student=", ["student: must be a mapping, given null"]),
    ("student.model=", ["student.model: must be text, given null"]),
    ('student.model=""', ["student.model: must not be empty"]),
    ("teacher.classes=all", ['teacher.classes: must be "auto", given "all"']),
    ("teacher.classes=aut", ['Did you mean "auto"?']),
    ("teacher.classes={a: 1}", ["teacher.classes: must be a word or a list, given a mapping"]),
    ("teacher.classes=[]", ["teacher.classes: must have at least 1 entry"]),
    ("teacher.classes=[1.5]", ["teacher.classes.0"]),
    ("teacher.input.std=[0]", ["teacher.input: std must be greater than 0"]),
    (
        "teacher.input={mean: [1, 2], std: [1, 1, 1]}",
        ["teacher.input: mean and std must have one number, or as many"],
    ),
    ("teacher.input={mean: [1, 2], channels: 3}", ["teacher.input: mean and std must have one number, or 3"]),
    ("teacher.input.mean=x", ['teacher.input.mean: must be a list, given "x"']),
    ("teacher.pretrained=yes", ['teacher.pretrained: must be true or false, given "yes"']),
    ("teacher.pretrained=true", ["teacher: give weights or pretrained: true, not both"]),
    ("teacher.options=3", ["teacher: options must be a mapping, given 3"]),
    ("student.options={shortcut: conv}", ['student: the option "shortcut" is given twice']),
    ("data.batch_size=big", ['data.batch_size: must be a whole number, given "big"']),
    ("data.batch_size=0", ["data.batch_size: must be at least 1, given 0"]),
    ("data.batch_size=1e3", ["data.batch_size: must be a whole number, given 1000.0"]),
    ("data.validation=1", ["data.validation: must be less than 1, given 1"]),
    ("data.views=4", ["data.views: must be a mapping, given 4"]),
    ("data.root=3", ["data.root: must be text, given 3"]),
    ("objective={}", ["objective: must have at least 1 entry"]),
    ("objective=kd", ['objective: must be a mapping, given "kd"']),
    ("objective.kd=true", ["objective.kd: must be a mapping, given true"]),
    ("objective.kd.weight=-1", ["objective.kd.weight: must be at least 0, given -1"]),
    ("objective.kd.weight=a", ['objective.kd.weight: must be a number or a mapping, given "a"']),
    ("objective.kd.layers=all", ["objective.kd.layers: must be auto (of several", 'given "all"']),
    ("objective.kd.layers={}", ["objective.kd.layers: must have at least 1 entry"]),
    ("objective.kd.layers={a: 1.5}", ["objective.kd.layers.a: must be text, given 1.5"]),
    ("objective.kd.method=a b", ["objective.kd.method: must be a method's name or package.module:Class"]),
    ("objective.a b=1", ["objective.a b: this name must be made of letters"]),
    ("train.epochs=-1", ["train.epochs: must be at least 0, given -1"]),
    ("train.optimizer.lr=0", ["train.optimizer.lr: must be greater than 0"]),
    (
        "train.schedule.name=cosin",
        ['train.schedule.name: must be "cosine", "polynomial", "step" or "constant"', '"cosine"?'],
    ),
    ("train.schedule.name=cosine", ["train.schedule: milestones are for the step schedule only"]),
    ("train.schedule.milestones=[]", ["train.schedule: a step schedule needs milestones"]),
    ("train.schedule.milestones=[2, 2]", ["train.schedule: milestones must rise"]),
    ("train.precision=fp8", ['train.precision: must be "fp32", "bf16", "fp16" or "auto", given "fp8"']),
    ("train.schedule.cooldown_epochs=1", ["train.schedule: cooldown_epochs are for cosine and polynomial"]),
    ("train.schedule.cycles=2", ["train.schedule: cycles are for the cosine schedule only"]),
    (
        "train.schedule={name: cosine, warmup_epochs: 2, cooldown_epochs: 1.5}",
        ["train.schedule.warmup_epochs: 2 and cooldown_epochs: 1.5 must fit into train.epochs: 3."],
    ),
    (
        "train.schedule={name: cosine, warmup_epochs: 3}",
        [
            "control.train.schedule.warmup_epochs: 3 must fit into control.train.epochs: 2.",
            "This is the schedule of train; give control.train.schedule.",
        ],
    ),
    (
        "teacher={model: cifar:resnet8, train: {epochs: 1, schedule: {warmup_epochs: 2}}}",
        ["teacher.train.schedule.warmup_epochs: 2 must fit into teacher.train.epochs: 1."],
    ),
    (
        "stages=[{name: a, epochs: 1, objective: {kd: 1}, schedule: {warmup_epochs: 2}}]",
        ["stages.0.schedule.warmup_epochs: 2 must fit into stages.0.epochs: 1."],
    ),
    (
        "variants={a: {objective: {ce: 1}, stages: [{name: a, epochs: 1, objective: {kd: 1}, "
        "schedule: {warmup_epochs: 2}}]}}",
        ["variants.a.stages.0.schedule.warmup_epochs: 2 must fit into variants.a.stages.0.epochs: 1."],
    ),
    ("train.ema=1.0", ["train.ema.decay: must be less than 1, given 1.0"]),
    ("train.ema={dcay: 0.9}", ['train.ema: unknown key "dcay". Did you mean "decay"?']),
    ("train.ema.schedule=linear", ['train.ema.schedule: must be "constant", "exponential" or "threshold"']),
    ("train.checkpoint=bst", ['train.checkpoint.take: must be "last", "best" or "average", given "bst"']),
    ("train.checkpoint.best=0", ["train.checkpoint.best: must be at least 1, given 0"]),
    ("train.decay_bias_and_norm=1", ["train.decay_bias_and_norm: must be true or false, given 1"]),
    ("metrics=top5", ['metrics: must be a mapping, given "top5"']),
    ("metrics=[1]", ["metrics: must be a mapping, given a list"]),
    ("teacher.blank=true", ["teacher: blank: true is for a teacher without weights; this one has some"]),
    ("student.blank=true", ["student.blank: only a teacher has this key"]),
    ("small=3", ["small: must be a mapping, given 3"]),
    ("train.device=gpu", ["train.device: must be auto, cpu, cuda, cuda:N, mps or xpu"]),
    ("train.clip=0", ["train.clip: must be greater than 0"]),
    ("train.compile=2", ['train.compile: must be "auto", "graphs", true or false, given 2']),
    ("train.compile=yess", ['train.compile: must be "auto", "graphs", true or false, given "yess"']),
    ("train=3", ["train: must be a mapping, given 3"]),
    ("control=3", ["control: must be true or false or a mapping, given 3"]),
    (
        "export.formats=[onx]",
        ['export.formats.0: must be "onnx" or "int8", given "onx". Did you mean "onnx"?'],
    ),
    ("export.formats=onnx", ['export.formats: must be a list, given "onnx"']),
    ("metric=acuracy", ['metric: must be "accuracy"', 'Did you mean "accuracy"?']),
    # what does not fit together
    ("student.train={epochs: 1}", ["student.train: only a teacher has this key", "top of the recipe"]),
    ("student.classes=auto", ["student.classes: only a teacher has this key"]),
    ("teacher.weights=", ["teacher: knows nothing yet. Give weights: FILE, pretrained: true, or train"]),
    ("teacher.objective={ce: 1}", ["teacher: objective is used only when the teacher is trained"]),
    (
        "data={source: digits, labels: 10, samples: 5}",
        ["data.labels: must be at most data.samples (5), given 10"],
    ),
    ("scheme=onlin", ['scheme.name: unknown scheme "onlin". Did you mean "online"?']),
    ("scheme.peers=3", ["scheme.peers: offline has none; it is for online"]),
    ("scheme.kind=mutual", ["scheme.kind: offline has none; it is for online and own"]),
    ("scheme={name: online, peers: 3}", ["teacher: with the scheme online peers teach each other"]),
    ("scheme=own", ["teacher: with the scheme own the student teaches itself"]),
    ("objective.kdd=1", ['objective.kdd: unknown method "kdd". Did you mean "kd"?']),
    (
        "objective.soft={method: decoupled_k}",
        ['objective.soft: unknown method "decoupled_k"', '"decoupled_kd"?'],
    ),
    (
        "objective.kd.temprature=4",
        ['objective.kd: unknown option of kd "temprature". Did you mean "temperature"?'],
    ),
    ("objective.kd.wieght=4", ['objective.kd: unknown option of kd "wieght". Did you mean "weight"?']),
    ("objective.kd.temperature=-1", ["objective.kd", "temperature"]),
    ("objective.kd.temperature=hot", ["objective.kd", "temperature"]),
    ("objective.9=1", ["objective.9: this is no method's name"]),
    ("objective.loss={method: kd}", ['objective.loss: a term must not be called "loss"']),
    ("objective.x={method: 'no_such_module_here:X'}", ["objective.x", "no_such_module_here"]),
    ("teacher=", ["objective.kd: this term compares with a teacher, but there is no teacher here"]),
    (
        "control.objective={kd: 1}",
        ["control.objective.kd: this term compares with a teacher", "only label terms"],
    ),
    ("objective={ce: 0, kd: 0}", ["objective: at least one term must have a weight above 0"]),
    ("control.objective={ce: 0}", ["control.objective: at least one term"]),
    (
        "teacher.train={epochs: 1, precision: bf16}",
        ['teacher.train.precision: is one for all trainings of a run (train.precision: "fp32"), given'],
    ),
    ("control.train={threads: 3}", ["control.train.threads: is one for all trainings", "null", "given 3"]),
    ("teacher.cache.vews=3", ['teacher.cache: unknown key "vews". Did you mean "views"?']),
    ("teacher.cache=sometimes", ["teacher.cache.when", "always", "auto", "never", '"sometimes"']),
    ("teacher.cache=0", ["teacher.cache.views", "at least 1", "given 0"]),
    ("teacher.cache=2.5", ["teacher.cache.views", "2.5"]),
    ("teacher.cache={when: auto, views: 3}", ["teacher.cache", "when: auto goes with no other key"]),
    ("student.cache=3", ["student.cache: only a teacher has this key"]),
    # not yet
    ("chain=[]", ["chain: has no links"]),
    ("scheme=data_free", ['scheme "data_free": not yet supported']),
    ("weighting=confidence", ["weighting: says how much", "there is one"]),
    ("teacher=[{model: a}, {model: 3}]", ["teacher.1.model: must be text, given 3"]),
    ("teacher=[]", ["teacher: must have at least 2 entries"]),
]


@pytest.mark.parametrize(("override", "parts"), CASES, ids=[case[0] for case in CASES])
def test_what_is_wrong_is_said(override: str, parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        Recipe.from_dict(BASE, Path("base"), [override])
    message = str(caught.value)
    assert message.startswith("base: ")
    assert [part for part in parts if part not in message] == []
    assert "pydantic" not in message


@pytest.mark.parametrize(
    "objective",
    [{"kd": 1}, {"kd": 1, "ce": 0}, {"kd": 1, "ce": {"weight": {"start": 0, "end": 0, "epochs": 1}}}],
)
def test_without_label_terms_the_control_must_be_given(objective: dict[str, Any]) -> None:
    data = {**BASE, "objective": objective}
    for control in (True, {"train": {"epochs": 1}}):
        with pytest.raises(InputError, match="control: the objective has no label term"):
            Recipe.from_dict({**data, "control": control})
    assert Recipe.from_dict({**data, "control": False}).control is False
    assert Recipe.from_dict(data).objective.keys() == objective.keys()


def test_a_teacher_that_brings_its_own_weights_needs_none() -> None:
    for model in ("py:a.b:c", "run:runs/x"):
        assert Recipe.from_dict({**BASE, "teacher": {"model": model}}).teacher is not None


def test_several_findings_are_listed_and_counted() -> None:
    with pytest.raises(InputError) as caught:
        Recipe.from_dict({"name": 1, "a": 1, "b": 1})
    lines = str(caught.value).split("\n")
    assert lines[0] == "recipe: 7 things are wrong:"
    assert lines[1] == "  name: must be text, given 1."
    assert lines[-1] == "  … and 2 more"
    assert len(lines) == 7


@pytest.mark.parametrize("data", [None, [], "x", 3])
def test_a_recipe_that_is_no_mapping(data: Any) -> None:
    with pytest.raises(InputError, match="must be a mapping"):
        Recipe.from_dict(data)


def test_files(tmp_path: Path) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text("# nothing\n")
    with pytest.raises(InputError, match=r"empty\.yaml: must be a mapping .*, but it is empty"):
        Recipe.load(empty)
    with pytest.raises(InputError, match="no such file"):
        Recipe.load(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: x\ndata: {source: digits\ntrain: 1\n")
    with pytest.raises(InputError, match=r"broken\.yaml, line \d"):
        Recipe.load(broken)


@pytest.mark.parametrize("body", ["raise RuntimeError('boom')", "import not_there_at_all", "def ("])
def test_a_third_partys_broken_file_is_named(tmp_path: Path, body: str) -> None:
    name = f"broken_method_{abs(hash(body))}"
    (tmp_path / f"{name}.py").write_text(body)
    with pytest.raises(InputError, match=f"objective.x: .*{name}"):
        Recipe.from_dict({**BASE, "objective": {"ce": 1, "x": {"method": f"{name}:X"}}}, tmp_path / "r.yaml")


def test_what_trains_nothing_has_no_schedule_to_fit_in() -> None:
    schedule = "train.schedule={name: cosine, warmup_epochs: 9}"
    stages = "stages=[{name: a, epochs: 1, objective: {kd: 1}, schedule: {warmup_epochs: 2}}]"
    assert not Recipe.from_dict(BASE, overrides=[schedule, stages, "train.epochs=0"]).has_control


def test_parts_built_by_hand_are_checked_too() -> None:
    with pytest.raises(ValueError, match="name"):
        SchemeSpec(name="")


# Fuzzing: a sound recipe with anything at any place, which reaches further than anything at the top.

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.binary(max_size=2)
    | st.sampled_from(
        ["auto", "kd", "ce", "hint", "offline", "step", "cpu", math.inf, -1, 0, 1.5, "a:b", "..", "\0"]
    )
)
KEYS = (
    st.text(max_size=4)
    | st.integers()
    | st.sampled_from(
        [
            "weight",
            "method",
            "layers",
            "options",
            "train",
            "objective",
            "epochs",
            "model",
            "name",
            "kd",
            "start",
            "stages",
        ]
    )
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if not isinstance(value, dict):
        return [here]
    return [here, *(place for key, inner in value.items() for place in places(inner, (*here, key)))]


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    data: Any = {"": copy.deepcopy(BASE)}
    for _ in range(draw(st.integers(1, 3))):
        where = draw(st.sampled_from(places(data[""])))
        if draw(st.booleans()):
            where = (*where, draw(KEYS))
        parent = data
        for key in ("", *where)[:-1]:
            parent = parent[key]
            if not isinstance(parent, dict):
                break
        else:
            parent[("", *where)[-1]] = draw(ANYTHING)
    return data[""]


def holds(data: Any) -> None:
    """Either an `InputError`, or a recipe that is equal after writing and reading."""
    try:
        recipe = Recipe.from_dict(data)
    except InputError as error:
        assert str(error).startswith("recipe: ")  # noqa: PT017
        return
    assert Recipe.from_dict(read_yaml(recipe.to_yaml())).dump() == recipe.dump()


@settings(max_examples=600, deadline=None, derandomize=True, database=None)
@given(damaged())
def test_anything_at_any_place_gives_a_recipe_or_an_input_error(data: Any) -> None:
    holds(data)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(ANYTHING)
def test_anything_at_all_gives_a_recipe_or_an_input_error(data: Any) -> None:
    holds(data)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.sampled_from(places(BASE)), st.text(max_size=8)), min_size=1, max_size=3))
def test_any_override_gives_a_recipe_or_an_input_error(settings_: list[tuple[tuple[str, ...], str]]) -> None:
    overrides = [f"{'.'.join(place)}={text}" for place, text in settings_]
    try:
        Recipe.from_dict(BASE, overrides=overrides)
    except InputError:
        return


def test_the_fuzz_reaches_sound_recipes_too() -> None:
    """Guards the strategy: were every example refused, the round trip above would test nothing."""
    sound = 0

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(damaged())
    def count(data: Any) -> None:
        nonlocal sound
        try:
            Recipe.from_dict(data)
        except InputError:
            return
        sound += 1

    count()
    assert sound >= 10
