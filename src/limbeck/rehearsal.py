"""What a run sees to before it begins: where it computes, that every process sees its folder, and that its
plans can work."""

import uuid
from functools import partial

import torch

from limbeck.build import settings
from limbeck.data import Data, Plan
from limbeck.errors import InputError
from limbeck.recipe import ControlSpec, Recipe, TrainSpec
from limbeck.runfolder import RunFolder
from limbeck.schemes import Scheme
from limbeck.training.optimizers import build_optimizer, build_schedule
from limbeck.training.runtime import Runtime
from limbeck.training.shard_trial import try_optimizer

__all__ = ["check_shared", "runtime_of", "try_plans"]


def runtime_of(train: TrainSpec) -> Runtime:
    """Where trainings with these settings compute."""
    return Runtime(
        train.device,
        train.precision,
        train.compile is True,
        train.channels_last,
        train.threads,
        train.shard,
        train.compile == "graphs",
    )


def check_shared(runtime: Runtime, folder: RunFolder) -> None:
    """Every process must see the folder: states are read, and a trained teacher, by all of them.

    Raises:
        InputError: some do not see what the first one writes there.
    """
    token = runtime.told(uuid.uuid4().hex)
    runtime.first(lambda: folder.mark(token))
    sees = torch.tensor([int(folder.sees(token))], device=runtime.device)
    blind = runtime.world - int(runtime.gather(sees).sum())
    runtime.first(folder.unmark)
    if blind:
        raise InputError(
            f"{folder.path}: {blind} of {runtime.world} processes do not see what the first one writes "
            "there. With several machines, --out must lie on storage that all of them share, under the same "
            "path."
        )


def try_plans(recipe: Recipe, data: Data, runtime: Runtime, scheme: Scheme) -> None:
    """Build the optimiser, the schedule and the plan of every training once.

    Args:
        recipe: the run's.
        data: what is learnt from.
        runtime: where.
        scheme: whose parameters are optimised.

    Raises:
        InputError: one of them cannot work.
    """
    own = recipe.control.train if isinstance(recipe.control, ControlSpec) else None
    teachers = [(teacher.train, "teacher") for teacher in recipe.teachers]
    for spec, part in ((recipe.train, "student"), (own, "student"), *teachers):
        if spec is None:
            continue
        chosen, samples = settings(spec), (data.taught if part == "teacher" else data).train
        build_schedule(build_optimizer(list(scheme.named_parameters()), chosen), chosen, 1)
        Plan(recipe.seed_list[0], len(samples), recipe.data.batch_size).batches(
            0, world=runtime.world, parts=chosen.accumulate
        )
        if runtime.shards(part):
            try_optimizer(partial(build_optimizer, settings=chosen), spec.optimizer.name, runtime.device)
