"""A run on a Ray cluster: the same recipe, its processes started by Ray Train.

    python -m limbeck.adapters.ray RECIPE [key.sub=value ...] --workers 8 --out /shared/runs/mine

Ray finds the machines, starts one process for each worker and sets up the process group that they talk
through; in each of them runs what `limbeck distill` runs, so a run may be started here and go on under
torchrun, or the other way round. The recipe, what it names, and `--out` must lie on storage that all machines
see under the same path.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck.errors import InputError, WorkError
from limbeck.progress import Silent
from limbeck.recipe import Recipe

__all__ = ["app", "distill", "main"]

CARRIED = ("LIMBECK_DATA", "LIMBECK_CACHE", "LIMBECK_DEBUG", "HF_HOME", "HF_HUB_OFFLINE")
"""Variables of the environment that workers get from where the run was started."""


def distill(
    recipe: Recipe,
    out: Path | str,
    *,
    workers: int = 1,
    cpus: int = 1,
    resume: bool = False,
    retries: int = 0,
) -> dict[str, Any]:
    """Run a recipe on the Ray cluster that this process is connected to, or else on a local one.

    Args:
        recipe: what to do. Where it names a GPU (`train.device: cuda`), or leaves the device open and the
            cluster has any, each worker gets one.
        out: the run folder, on storage that all machines share.
        workers: processes, over all machines.
        cpus: CPUs for each; also its number of threads, unless the recipe says another.
        resume: go on with a run that is there already.
        retries: how often Ray may start the workers again when one is lost (a machine that goes down); they
            go on from the last saved state.

    Returns:
        What `result.json` holds.

    Raises:
        InputError: the recipe cannot work, the folder is taken, Ray is missing, or the machine is too small.
        WorkError: the work failed; what was saved stays, and `resume` goes on from it.
    """
    ray = _ray()
    folder = Path(out).resolve()
    _check_folder(recipe, folder, resume)
    started = not ray.is_initialized()
    if started:
        _start(ray)
    try:
        _check_room(ray, workers * cpus)
        _fit(recipe, folder, workers, cpus, _on_gpus(ray, recipe), retries)
    finally:
        if started:
            ray.shutdown()
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def _ray() -> Any:
    try:
        import ray
        import ray.train.torch
    except ImportError as error:
        raise InputError(f"Ray is not installed here ({error}): pip install 'limbeck[ray]'.") from error
    return ray


def _start(ray: Any) -> None:
    """Connect to the cluster of RAY_ADDRESS, or start a local one."""
    local = {} if os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
    ray.init(log_to_driver=True, **local)


def _check_folder(recipe: Recipe, folder: Path, resume: bool) -> None:
    """Refuse a folder that is taken; the workers are told to resume, so that a lost one can be replaced."""
    from limbeck.runfolder import RunFolder

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be used as an output folder: {error.strerror}.") from error
    RunFolder(folder).check(recipe.written_out(), resume)


def _check_room(ray: Any, cpus: int) -> None:
    """Refuse what a cluster that cannot grow would wait for without end."""
    there = int(ray.cluster_resources().get("CPU", 0))
    if cpus > there and not os.environ.get("RAY_ADDRESS"):
        raise InputError(f"--workers: they need {cpus} CPUs in all, and this machine has {there}.")


def _on_gpus(ray: Any, recipe: Recipe) -> bool:
    """Whether each worker gets a GPU."""
    there = ray.cluster_resources().get("GPU", 0) > 0
    kind = recipe.train.device.partition(":")[0]
    if kind == "cuda" and not there and not os.environ.get("RAY_ADDRESS"):
        raise InputError('train.device: "cuda" is not available on this machine; use auto or cpu.')
    return kind == "cuda" or (kind == "auto" and there)


def _fit(recipe: Recipe, folder: Path, workers: int, cpus: int, gpus: bool, retries: int) -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    # Ray's own notes, beside the run and gone with it: they hold nothing that a run needs.
    notes = folder.parent / f".{folder.name}.ray"
    trainer = TorchTrainer(
        _work,
        train_loop_config={
            "recipe": recipe.dump(),
            "path": None if recipe.path is None else str(Path(recipe.path).resolve()),
            "out": str(folder),
            "here": str(Path.cwd()),
            "environment": {name: os.environ[name] for name in CARRIED if name in os.environ},
        },
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=gpus,
            resources_per_worker={"CPU": cpus, **({"GPU": 1} if gpus else {})},
        ),
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        run_config=RunConfig(
            name=notes.name,
            storage_path=str(notes.parent),
            failure_config=FailureConfig(max_failures=retries),
        ),
    )
    try:
        trainer.fit()
    except Exception as error:
        raise _told(error) from error
    finally:
        shutil.rmtree(notes, ignore_errors=True)


def _work(given: dict[str, Any]) -> None:
    """What each worker does."""
    os.environ.update(given["environment"])
    from limbeck.running import run

    if Path(given["here"]).is_dir():
        os.chdir(given["here"])  # a recipe may name modules and data from here
    path = given["path"]
    try:
        recipe = Recipe.from_dict(given["recipe"], None if path is None else Path(path))
        run(recipe, given["out"], resume=True, display=_Lines())
    # Again as the plain kinds: those below them carry more than a message, and do not travel.
    except InputError as error:
        raise InputError(str(error)) from None
    except WorkError as error:
        raise WorkError(str(error)) from None


class _Lines(Silent):
    """Lines on standard error, which Ray brings to who started the run. What is printed comes there twice."""

    def say(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")


def _told(error: BaseException) -> Exception:
    """The first cause that a person can do something about, among what the workers said."""
    causes = list(_causes(error))
    for kind in (InputError, WorkError):
        said = [cause for cause in causes if isinstance(cause, kind)]
        own = [cause for cause in said if "another process" not in str(cause)]
        if said:
            return kind(str((own or said)[0]))
    last = causes[-1]
    return WorkError(f"Ray's workers failed with {type(last).__name__}: {str(last).strip().splitlines()[0]}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and all that it was raised for, in whatever way Ray wraps it."""
    yield error
    failures = getattr(error, "worker_failures", None) or {}
    held = (getattr(error, name, None) for name in ("controller_failure", "cause", "_base_exc", "__cause__"))
    for cause in (*failures.values(), *held):
        if isinstance(cause, BaseException) and cause is not error:
            yield from _causes(cause)


app = typer.Typer(
    name="limbeck.adapters.ray",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


@app.command()
def _command(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a YAML file.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Settings laid over the recipe: key.sub=value.", show_default=False),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes, over all machines.", min=1, max=65536)] = 1,
    cpus: Annotated[int, typer.Option(help="CPUs for each of them.", min=1, max=4096)] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Where to write, on shared storage; by default runs/<name>.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in that folder.")] = False,
    retries: Annotated[
        int, typer.Option(help="How often workers are started again when one is lost.", min=0, max=1000)
    ] = 0,
    small: Annotated[bool, typer.Option("--small", help="The recipe's own small version.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else on standard output.")
    ] = False,
) -> None:
    """Run a recipe on a Ray cluster (RAY_ADDRESS), or on this machine."""
    from limbeck.commands.answering import answer
    from limbeck.commands.distill import summary

    def work() -> dict[str, Any]:
        loaded = Recipe.load(recipe, overrides or [], small)
        folder = out or Path("runs") / loaded.name
        found = distill(loaded, folder, workers=workers, cpus=cpus, resume=resume, retries=retries)
        if not as_json:
            summary(found, folder)
        return found

    answer(as_json, work)


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns the exit code, as `limbeck` does: 0 done, 1 failed, 2 bad input."""
    from limbeck.commands.failing import perform

    said = "interrupted; --resume goes on from the last saved state"
    return perform(typer.main.get_command(app), arguments, "python -m limbeck.adapters.ray", said)


if __name__ == "__main__":
    from limbeck.adapters.ray import main as entry  # by its name, under which workers find it too

    sys.exit(entry())
