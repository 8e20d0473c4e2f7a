"""A student, what it learns from and its teacher joined into what is trained."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.build import PROBE_SAMPLES, Prepared, probe_batch
from limbeck.calls import eager, first_answer
from limbeck.composing import compose, student_head, teacher_head, teacher_heads
from limbeck.data import Data
from limbeck.errors import InputError
from limbeck.knowledge import Batch
from limbeck.methods.base import Probe
from limbeck.objective import Objective
from limbeck.schemes import Offline, Scheme, Several
from limbeck.staging import Staged
from limbeck.taps import Tapped
from limbeck.teachers import Ensemble, Fixed, Frozen
from limbeck.teachers.base import Speaker
from limbeck.training.runtime import Runtime

__all__ = ["make_scheme", "rehearse", "setup"]


def make_scheme(
    student: Prepared, objective: Objective, teacher: Fixed | None, data: Data, seed: int
) -> Offline:
    """Student, objective and teacher joined; the objective's own layers are built from a probe batch."""
    model = student.model
    if objective.reused is not None and isinstance(teacher, Frozen):
        whole = Tapped(model, (), student.adapter, who="student")
        model = compose(whole, objective, teacher, probe_batch(data), seed)
    tapped = Tapped(model, objective.student_taps, student.adapter, who="student")
    train = data.train
    setup(
        tapped,
        objective,
        teacher,
        probe_batch(data),
        len(train),
        len(data.classes),
        seed,
        torch.as_tensor(train.targets),
    )
    if isinstance(teacher, Ensemble):
        return Several(tapped, objective, teacher, len(data.classes))
    scheme = Offline(tapped, objective, teacher)
    scheme.composed = model is not student.model
    return scheme


def rehearse(scheme: Scheme, data: Data, runtime: Runtime) -> None:
    """One forward pass of every stage on a few samples, so that what cannot work is told before training.

    Nothing is compiled, and nothing learns; the scheme is not to be trained afterwards.

    Raises:
        InputError: a method refuses what it gets.
    """
    few = np.arange(min(PROBE_SAMPLES, len(data.train)), dtype=np.int64)
    batch = runtime.put(data.train.take(few, 0, 0))
    count = len(scheme.objective.stages) + 1 if isinstance(scheme.objective, Staged) else 1
    frozen = scheme.teacher if isinstance(scheme, Offline) and isinstance(scheme.teacher, Fixed) else None
    if frozen is None:
        scheme.place(runtime)
    else:
        runtime.place(scheme, scheme.trains, learns=True)
        frozen.place(runtime, compiles=False)
    scheme.train()
    with torch.no_grad(), eager(scheme if frozen is None else frozen.network), runtime.autocast():
        for number in range(count):
            scheme.enter(number)
            try:
                scheme(batch, scheme.teach(batch))
            except InputError:
                raise
            except ValueError as error:
                raise InputError(f"objective: {error}") from error


def setup(
    student: Tapped,
    objective: Objective,
    teacher: Speaker | Ensemble | None,
    batch: Batch,
    samples: int,
    classes: int,
    seed: int,
    targets: Tensor | None = None,
) -> int:
    """Ask both networks about a probe batch and let the methods build their layers from the answers.

    Returns:
        The number of classes.

    Raises:
        InputError: the student's logits do not fit the data, or a method refuses what it sees.
    """
    device = next((p.device for p in student.parameters()), torch.device("cpu"))
    training = student.training
    student.eval()
    answer = first_answer("student", student, batch.to(device), lambda b: student(b.input))
    seen: dict[str, Any] = {"teacher": None}
    if teacher is not None:
        where = next((p.device for p in teacher.network.parameters()), torch.device("cpu"))
        heard = first_answer("teacher", teacher.network, batch.to(where), teacher)
        if isinstance(teacher, Ensemble):
            seen = {"teacher": teacher.averaged(heard), "teacher_modules": teacher.tapped_modules}
            seen["teacher_heads"] = teacher_heads(teacher, batch)
        else:
            seen = {"teacher": heard, "teacher_modules": teacher.network.tapped_modules}
            seen["teacher_head"] = teacher_head(teacher, batch)
    student.train(training)
    if answer.logits.dim() != 2 or (classes and answer.logits.shape[1] != classes):
        raise InputError(
            f"student: must answer logits [samples, {classes or 'classes'}]; it answers "
            f"{list(answer.logits.shape)}."
        )
    probe = Probe(
        student=answer,
        batch=batch,
        student_modules=student.tapped_modules,
        student_head=student_head(student, batch),
        samples=samples,
        classes=classes or int(answer.logits.shape[1]),
        targets=targets,
        generator=torch.Generator().manual_seed(seed),
        **seen,
    )
    try:
        objective.setup(probe)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"objective: {error}") from error
    return probe.classes
