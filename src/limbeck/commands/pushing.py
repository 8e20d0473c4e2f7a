"""`limbeck push`."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import typer

from limbeck import weights
from limbeck.build import load_data, restored
from limbeck.commands.card import card
from limbeck.commands.common import screen
from limbeck.commands.viewing import evaluation_views
from limbeck.composing import is_composite, told
from limbeck.errors import InputError, WorkError
from limbeck.models.hub import CONFIG, WEIGHTS, is_local, is_pushed, is_trusted, origin
from limbeck.models.timm import published_form
from limbeck.reading import shown
from limbeck.recipe import Recipe
from limbeck.runfolder import RunFolder

__all__ = ["push"]

_COPIED = (
    "recipe.yaml",
    "result.json",
    "student.onnx",
    "student.onnx.data",
    "student.int8.onnx",
    "report.html",
)
"""Files of a run that go along where it has them. Those of a student that was pushed before are removed: an
export of other weights beside these would be taken for theirs."""


def push(
    run: Path, target: str, private: bool, message: str | None, license: str | None, as_json: bool
) -> dict[str, Any]:
    """Write a finished run's student as a folder in the hub's form; upload it, unless that is the target."""
    result = run / "result.json"
    if not result.is_file():
        raise InputError(f"{run}: holds no result.json; limbeck push takes the folder of a finished run.")
    told = json.loads(result.read_text(encoding="utf-8"))
    if "exports" not in told:
        raise InputError(
            f"{run}: is a comparison, which has no single student; push a run of limbeck distill."
        )
    target = target.removeprefix("folder:") if is_local(target.removeprefix("folder:")) else target
    if is_local(target):
        folder = Path(target).expanduser()
        _free(folder)
        files = _written(run, folder, told, target, license)
        if not as_json:
            typer.echo(f"{folder}: {', '.join(files)}")
        return {"folder": str(folder), "files": files}
    if target.count("/") != 1 or not all(target.split("/")):
        raise InputError(f"TARGET: must be OWNER/NAME, or a folder such as ./name; given {shown(target)}.")
    with tempfile.TemporaryDirectory() as place:
        files = _written(run, Path(place), told, target, license)
        screen().say(f"uploading {len(files)} files to {target}")
        url = _uploaded(
            Path(place), target, private, message or f"{told['name']}, by limbeck {told['limbeck']}"
        )
    if not as_json:
        typer.echo(url)
    return {"repository": target, "url": url, "files": files}


def _free(folder: Path) -> None:
    """Refuse a folder that holds something else, be it another model in the hub's form."""
    if folder.is_dir() and any(folder.iterdir()) and not is_pushed(folder):
        raise InputError(f"{folder}: is not empty and holds no pushed model; choose another.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be used: {error.strerror}.") from error


def _written(run: Path, folder: Path, result: dict[str, Any], target: str, license: str | None) -> list[str]:
    """Everything that belongs to the repository, in a folder; the files' names."""
    recipe = RunFolder(run).load_recipe()
    data = load_data(recipe)
    built = restored(recipe, data, recipe.seed_list[0], run / "student.safetensors")
    model, options = _origin(recipe)
    weights.save(built.model, folder / WEIGHTS, weights.metadata(run / "student.safetensors"))
    spec, seen = built.spec, evaluation_views(recipe)
    own: dict[str, Any] = {
        "version": result["limbeck"],
        "model": model,
        "options": options,
        "classes": list(data.classes),
        "channels": data.train.channels if spec.channels is None else spec.channels,
        "size": list(data.train.size),
        # How a folder's images are cut and resized to that; null where they are as they are.
        "resize": seen.get("resize"),
        "interpolation": seen.get("interpolation"),
        "input": {"mean": spec.mean, "std": spec.std, "size": spec.size, "channels": spec.channels},
    }
    plain = {}
    if not is_composite(weights.metadata(run / "student.safetensors")):
        plain = published_form(built.model, model, options, data.classes, spec, data.train.size, seen)
    about = {**plain, "limbeck": own}
    (folder / CONFIG).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    for name in _COPIED:
        if (run / name).is_file():
            shutil.copyfile(run / name, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    timm = "architecture" in about
    text = card(run, target, license, timm=timm, needs=None if is_trusted(model) else model)
    (folder / "README.md").write_text(text, encoding="utf-8")
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def _origin(recipe: Recipe) -> tuple[str, dict[str, Any]]:
    """What a student is built by anywhere: a run or a repository that it was taken from may not be there.

    Raises:
        InputError: it was taken from a student that is a composite.
    """
    network, beside = recipe.student, recipe.beside
    model, options = network.model, dict(network.options)
    while (prefix := model.partition(":")[0]) in ("run", "hf"):
        name = model.partition(":")[2]
        if prefix == "hf":
            model, more = origin(name, beside, "student.model")
            options = {**more, **{key: value for key, value in options.items() if key != "num_classes"}}
            beside = None if not is_local(name) or beside is None else beside / name
            continue
        folder = next(p for p in (*([] if beside is None else [beside / name]), Path(name)) if p.is_dir())
        notes = weights.metadata(folder / "student.safetensors")
        if is_composite(notes):
            raise InputError(f"student.model: run:{name} {told(notes)}, which no model's name builds.")
        before = RunFolder(folder).load_recipe()
        model, options, beside = before.student.model, dict(before.student.options), before.beside
    return model, options


def _uploaded(folder: Path, repository: str, private: bool, message: str) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        url = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            folder_path=folder,
            repo_id=repository,
            commit_message=message,
            delete_patterns=[name for name in _COPIED if not (folder / name).is_file()],
        )
    except LocalTokenNotFoundError as error:
        raise InputError("TARGET: nobody is logged in: `hf auth login`, or set HF_TOKEN.") from error
    except (HfHubHTTPError, OSError) as error:
        raise WorkError(f"{repository}: cannot be uploaded: {error}. Nothing was changed here.") from error
    return str(url)
