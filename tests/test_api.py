"""`limbeck.distill` with plain modules and plain loaders: fair to the control, and leaving nothing behind."""

import copy
import math
import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import limbeck
from limbeck.api import Distilled, Feeding, distill
from limbeck.errors import InputError, WorkError
from limbeck.inputs import InputAdapter, InputSpec
from limbeck.knowledge import Batch
from limbeck.objective import Term

QUIET: dict[str, Any] = {"progress": False, "device": "cpu", "optimizer": {"name": "sgd", "lr": 0.1}}


def net(width: int = 6, seed: int = 0, dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 3)
    )


def samples(count: int = 48, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=generator)
    return x, x[:, :3].argmax(1)


def loader(batch_size: int = 16, shuffle: bool = True, count: int = 48, **options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*samples(count)), batch_size, shuffle=shuffle, **options)


def state(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(model.state_dict())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def taught_teacher() -> nn.Module:
    return distill(None, net(32, seed=1), loader(), objective={"ce": 1.0}, epochs=20, **QUIET).student


class TestWhatComesBack:
    def test_the_student_learns_in_place_and_the_figures_are_its_own(self) -> None:
        teacher, student = taught_teacher(), net()
        before = state(student)
        held_out = loader(25, shuffle=True, count=100)
        options = {**QUIET, "optimizer": {"name": "sgd", "lr": 0.3, "momentum": 0.9}}
        found = distill(teacher, student, loader(), held_out, epochs=15, **options)
        assert found.student is student
        assert not student.training
        assert not same(state(student), before)
        x, y = samples(100)
        with torch.no_grad():
            said, heard = student(x).argmax(1), teacher.eval()(x).argmax(1)
        assert found.evaluation is not None
        assert found.control is not None
        assert found.teacher is not None
        assert found.evaluation.accuracy == pytest.approx(float((said == y).float().mean()))
        assert found.teacher.accuracy == pytest.approx(float((heard == y).float().mean()))
        # A shuffling loader gives another order at each pass; agreement is sample by sample all the same.
        assert found.evaluation.agreement == pytest.approx(float((said == heard).float().mean()))
        assert found.gain == found.evaluation.accuracy - found.control.accuracy
        assert found.evaluation.accuracy > 0.6

    def test_the_teacher_is_unchanged_to_the_last_bit_and_given_back_as_it_came(self) -> None:
        teacher = net(32, seed=1, dropout=0.3)
        teacher.train()
        teacher[0].bias.requires_grad_(False)
        teacher[1].eval()
        before, flags = state(teacher), [p.requires_grad for p in teacher.parameters()]
        modes = [m.training for m in teacher.modules()]
        terms = {"ce": 0.5, "hint": Term(layers={"0": "0"}), "kd": 0.5}
        student = net()
        distill(teacher, student, loader(), loader(), objective=terms, epochs=2, **QUIET)
        assert same(state(teacher), before)
        assert [p.requires_grad for p in teacher.parameters()] == flags
        assert [m.training for m in teacher.modules()] == modes
        assert all(p.grad is None for p in teacher.parameters())
        assert hooks(teacher) == hooks(student) == 0
        assert list(student.state_dict()) == list(net().state_dict())

    def test_after_a_failure_nothing_stays_on_the_networks(self) -> None:
        teacher, student = net(32, seed=1), net()
        bad = [(torch.full((8, 4), float("nan")), torch.zeros(8, dtype=torch.int64))]
        terms = {"ce": 0.5, "hint": Term(layers={"0": "0"})}
        with pytest.raises(WorkError, match='step 1: the term "ce"'):
            distill(teacher, student, bad, objective=terms, control=False, **QUIET)
        assert hooks(teacher) == hooks(student) == 0
        assert teacher.training
        assert all(p.requires_grad for p in teacher.parameters())

    def test_without_a_validation_loader_there_are_no_figures(self) -> None:
        found = distill(net(seed=1), net(), loader(), epochs=1, **QUIET)
        assert found == Distilled(found.student, None, None, None, None)

    def test_no_epochs_train_nothing(self) -> None:
        student = net()
        before = state(student)
        found = distill(net(seed=1), student, loader(), loader(), epochs=0, **QUIET)
        assert same(state(student), before)
        assert found.gain == 0.0

    def test_a_teacher_of_other_classes_may_teach_by_its_features(self) -> None:
        teacher = nn.Sequential(nn.Linear(4, 9), nn.Linear(9, 7))
        terms = {"ce": 1.0, "hint": Term(layers={"0": "0"})}
        found = distill(teacher, net(), loader(), loader(), objective=terms, epochs=1, **QUIET)
        assert found.teacher is None
        assert found.evaluation is not None
        assert found.evaluation.agreement is None
        assert found.gain is not None

    def test_it_can_be_called_again_on_the_same_networks(self) -> None:
        teacher, student = net(seed=1), net()
        for _ in range(2):
            terms = {"kd": 1.0, "ce": 1.0, "hint": Term(layers={"0": "0"})}
            found = distill(teacher, student, loader(), loader(), objective=terms, epochs=1, **QUIET)
        assert found.evaluation is not None


class Noting(Dataset[tuple[Tensor, int]]):
    """Samples whose views are drawn from all three global generators; notes what it gave."""

    def __init__(self) -> None:
        self.given: list[float] = []

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        value = index + random.random() + float(np.random.rand()) + float(torch.rand(()))
        self.given.append(value)
        return torch.full((4,), value / 24), index % 3


class TestTheControl:
    @pytest.mark.parametrize("own_generator", [False, True])
    def test_it_sees_the_same_samples_in_the_same_order(self, own_generator: bool) -> None:
        data = Noting()
        generator = torch.Generator().manual_seed(7) if own_generator else None
        feed = DataLoader(data, 8, shuffle=True, generator=generator)
        distill(net(seed=1), net(dropout=0.5), feed, epochs=3, **QUIET)
        probe = 8
        trained = data.given[2 * probe :]  # both are set up before either is trained
        run = len(trained) // 2
        assert run == 3 * 24
        assert trained[:run] == trained[run:]
        passes = [trained[i * 24 : (i + 1) * 24] for i in range(3)]
        assert len({tuple(int(v) for v in p) for p in passes}) == 3

    def test_it_starts_from_the_students_weights_and_adapters(self) -> None:
        """With the teacher's term at weight 0 both are the same training: any difference would be unfair."""
        adapter = nn.Linear(4, 4)
        student = net(dropout=0.5)
        terms = {"ce": 1.0, "kd": 0.0}
        found = distill(
            net(seed=1),
            student,
            loader(),
            loader(100),
            objective=terms,
            epochs=3,
            student_adapter=adapter,
            **QUIET,
        )
        assert found.control is not None
        assert found.evaluation is not None
        assert found.gain == 0.0
        assert found.evaluation.loss == pytest.approx(found.control.loss, abs=1e-7)

    def test_it_does_not_change_what_the_student_becomes(self) -> None:
        with_control, without = net(), net()
        for student, control in ((with_control, True), (without, False)):
            distill(net(seed=1), student, loader(), epochs=2, control=control, **QUIET)
        assert same(state(with_control), state(without))

    @pytest.mark.parametrize(
        "options", [{"control": False}, {"objective": {"kd": 1.0}}, {"objective": {"ce": 1.0}}]
    )
    def test_where_there_is_none(self, options: dict[str, Any]) -> None:
        found = distill(net(seed=1), net(), loader(), loader(), epochs=1, **QUIET, **options)
        assert found.control is None
        assert found.gain is None

    def test_that_labels_teach_nothing_is_said(self, capsys: pytest.CaptureFixture[str]) -> None:
        options = {**QUIET, "progress": True}
        distill(net(seed=1), net(), loader(), objective={"kd": 1.0}, epochs=1, **options)
        captured = capsys.readouterr()
        assert "no control: no term of the objective looks at labels" in captured.err
        assert "student: epoch 1/1" in captured.err
        assert captured.out == ""


class TestSeeds:
    def trained(self, seed: int, stir: int = 0) -> dict[str, Tensor]:
        student = net(dropout=0.5)
        torch.manual_seed(stir)
        distill(net(seed=1), student, loader(), epochs=2, seed=seed, control=False, **QUIET)
        return state(student)

    def test_a_seed_decides_everything(self) -> None:
        assert same(self.trained(0, stir=1), self.trained(0, stir=2))
        assert not same(self.trained(0), self.trained(1))


@pytest.mark.parametrize("clip", [0, 0.0, -1.0, math.nan, "much", True])
def test_a_limit_of_the_gradient_that_is_none_is_refused(clip: Any) -> None:
    student = net()
    with pytest.raises(InputError, match=r"clip: must be a number above 0, or None"):
        distill(net(seed=1), student, loader(), clip=clip, **QUIET)
    assert same(state(student), state(net()))


class TestAccumulation:
    def test_parts_give_the_gradient_of_the_whole(self) -> None:
        found = []
        for parts in (1, 4):
            student = nn.Linear(4, 3)
            nn.init.zeros_(student.weight)
            nn.init.zeros_(student.bias)
            x, y = samples()
            y = torch.where(torch.arange(48) % 5 == 0, -1, y)  # unlabelled ones lie unevenly in the parts
            feed = DataLoader(TensorDataset(x, y), 16)
            distill(net(seed=1), student, feed, epochs=2, accumulate=parts, control=False, **QUIET)
            found.append(state(student))
        torch.testing.assert_close(found[0], found[1])

    def test_a_smaller_last_batch_leaves_a_few_samples_out(self) -> None:
        feed = Feeding(loader(16, shuffle=False, count=39), parts=4)
        sizes = [[len(part) for part in parts] for parts in feed.steps(0)]
        assert sizes == [[4, 4, 4, 4], [4, 4, 4, 4], [1, 1, 1, 1]]
        feed = Feeding(loader(16, shuffle=False, count=34), parts=4)
        assert [[len(part) for part in parts] for parts in feed.steps(0)][-1] == [1, 1]

    def test_a_batch_that_cannot_be_split_is_refused_at_once(self) -> None:
        with pytest.raises(InputError, match="a batch of 16 cannot be split into 3 equal parts"):
            distill(net(seed=1), net(), loader(), accumulate=3, **QUIET)

    def test_parts_keep_what_belongs_together(self) -> None:
        x = torch.arange(8.0)[:, None]
        batch = Batch({"a": x, "b": -x}, torch.arange(8), torch.arange(8) + 10, torch.zeros(8))
        (parts,) = Feeding([batch], parts=2).steps(0)
        second = parts[1]
        assert isinstance(second.input, dict)
        assert second.input["b"].flatten().tolist() == [-4, -5, -6, -7]
        assert second.target is not None
        assert second.target.tolist() == [4, 5, 6, 7]
        assert second.index is not None
        assert second.index.tolist() == [14, 15, 16, 17]


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(zip(*samples(), strict=True))


class Once:
    """A loader that can be gone through only once."""

    def __init__(self) -> None:
        self.left = iter([samples(8), samples(8), samples(8)])

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.left


class TestLoaders:
    @pytest.mark.parametrize(
        "given", [iter([samples()]), [], DataLoader(Stream(), 8)], ids=["iter", "[]", "ds"]
    )
    def test_one_without_a_length_is_refused(self, given: Iterable[Any]) -> None:
        with pytest.raises(InputError, match="train_loader: must have a length of at least 1"):
            distill(net(seed=1), net(), given, **QUIET)

    def test_one_that_runs_dry_is_noticed(self) -> None:
        with pytest.raises(InputError, match=r"pass 2 gave 0 batches, and its length is 2"):
            distill(net(seed=1), net(), Once(), epochs=2, control=False, **QUIET)

    def test_one_that_gives_more_than_it_says_is_noticed(self) -> None:
        class More(list[Any]):
            def __len__(self) -> int:
                return 1

        with pytest.raises(InputError, match=r"pass 1 gave 2 batches, and its length is 1"):
            distill(net(seed=1), net(), More([samples(8), samples(8)]), epochs=1, control=False, **QUIET)

    def test_a_list_of_batches_and_a_smaller_last_one_will_do(self) -> None:
        found = distill(net(seed=1), net(), [samples(16), samples(5)], [samples(9)], epochs=2, **QUIET)
        assert found.evaluation is not None
        assert found.evaluation.samples == 9

    def test_starting_later_reads_and_drops(self) -> None:
        feed = Feeding(loader(16, shuffle=True))
        whole = [parts[0].input for parts in feed.steps(1)]
        late = [parts[0].input for parts in feed.steps(1, start=2)]
        assert len(late) == 1
        assert isinstance(late[0], Tensor)
        assert torch.equal(late[0], whole[2])  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("given", "message"),
        [([], "valid_loader: it gives no batch"), ([(samples(4)[0], torch.zeros(4, 3))], "not mixed")],
    )
    def test_a_validation_loader_that_cannot_be_scored(self, given: Any, message: str) -> None:
        with pytest.raises(InputError, match=message):
            distill(net(seed=1), net(), loader(), given, epochs=0, **QUIET)


class TestWhatIsRefused:
    def test_an_empty_objective(self) -> None:
        with pytest.raises(InputError, match="give at least one term"):
            distill(net(seed=1), net(), loader(), objective={}, **QUIET)

    def test_a_teacher_that_shares_layers_with_the_student(self) -> None:
        teacher, student = net(), net()
        student[0] = teacher[0]
        for given in (student, teacher):
            with pytest.raises(InputError, match=r"student: shares 0\.weight with the teacher"):
                distill(teacher, given, loader(), **QUIET)
        assert all(p.requires_grad for p in teacher.parameters())

    def test_a_student_that_cannot_learn(self) -> None:
        with pytest.raises(InputError, match="none of its parameters takes a gradient"):
            distill(net(seed=1), net().requires_grad_(False), loader(), **QUIET)

    def test_a_teachers_term_without_teacher(self) -> None:
        with pytest.raises(InputError, match=r"objective\.kd compares with a teacher, and there is none"):
            distill(None, net(), loader(), **QUIET)

    @pytest.mark.parametrize("who", ["teacher", "student"])
    def test_a_network_that_answers_no_tensor(self, who: str) -> None:
        odd = nn.LSTM(4, 3)
        given = (odd, net()) if who == "teacher" else (net(), odd)
        with pytest.raises(InputError, match=rf"{who}: must answer a tensor of logits; it answers tuple"):
            distill(*given, loader(), control=False, **QUIET)

    def test_a_layer_that_is_not_there(self) -> None:
        terms = {"hint": Term(layers={"0": "layer"})}
        with pytest.raises(InputError, match='teacher: no layer "layer"'):
            distill(net(seed=1), net(), loader(), objective=terms, **QUIET)


def test_adapters_stand_before_each_network() -> None:
    spec = InputSpec(mean=(0.5,), std=(0.25,))
    x = torch.rand(16, 1, 4, 4)
    y = torch.zeros(16, dtype=torch.int64)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval()
    found = distill(
        teacher,
        nn.Sequential(nn.Flatten(), nn.Linear(16, 2)),
        [(x, y)],
        [(x, y)],
        epochs=0,
        teacher_adapter=InputAdapter(spec, channels=1),
        **QUIET,
    )
    with torch.no_grad():
        wanted = nn.functional.cross_entropy(teacher((x - 0.5) / 0.25), y)
    assert found.teacher is not None
    assert found.teacher.loss == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precisions(precision: str) -> None:
    found = distill(net(seed=1), net(), loader(), loader(), epochs=2, precision=precision, **QUIET)
    assert found.evaluation is not None
    assert all(p.dtype == torch.float32 for p in found.student.parameters())


def test_compiled_and_not_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    compile_module = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: compile_module(self, backend="aot_eager"))
    found = []
    for compiled in (False, True):
        student, teacher = net(), net(9, seed=1)
        terms = {"ce": 0.5, "kd": 0.5, "hint": Term(layers={"1:copy": "0"})}
        distill(
            teacher,
            student,
            loader(shuffle=False),
            objective=terms,
            epochs=2,
            compile=compiled,
            control=False,
            **QUIET,
        )
        assert student._compiled_call_impl is None
        assert teacher._compiled_call_impl is None
        found.append(state(student))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_it_is_public() -> None:
    assert limbeck.distill is distill
    assert limbeck.Distilled is Distilled


def test_the_average_of_the_weights_is_what_the_student_has_in_the_end() -> None:
    """A decay that forgets nothing leaves the untrained student; without it, the student has learnt."""
    kept, plain = net(dropout=0.0), net(dropout=0.0)
    before = state(kept)
    options = {"objective": {"ce": 1.0}, "epochs": 3, **QUIET}
    distill(None, kept, loader(), ema=limbeck.Averaging(0.9999999, "constant"), **options)
    distill(None, plain, loader(), **options)
    for name, value in state(kept).items():
        if value.is_floating_point():
            torch.testing.assert_close(value, before[name], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(state(plain)["0.weight"], before["0.weight"], atol=1e-2)


def test_biases_and_norms_can_be_spared_weight_decay() -> None:
    strong = {"name": "sgd", "lr": 0.1, "weight_decay": 5.0}
    found = {}
    for decays in (True, False):
        student = net()
        with torch.no_grad():
            student[1].weight.fill_(3.0)
        distill(
            None, student, loader(), objective={"ce": 1.0}, epochs=2, decay_bias_and_norm=decays,
            **{**QUIET, "optimizer": strong},
        )  # fmt: skip
        found[decays] = float(student[1].weight.detach().abs().mean())
    assert found[True] < 1.0 < 2.0 < found[False]
