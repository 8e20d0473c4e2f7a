"""What a finished chain says: its links one after another, the direct pair, the ensemble, and the page."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck import files, ship, weights
from limbeck.asking import ask
from limbeck.build import further_figures, make_teacher, prepare, restored
from limbeck.data import Data
from limbeck.evaluation.metrics import score
from limbeck.evaluation.statistics import paired_interval
from limbeck.recipe import GenerationsSpec, Link, Recipe
from limbeck.runfolder import RunFolder
from limbeck.taps import Tapped
from limbeck.training.runtime import Runtime

__all__ = ["conclude_chain"]

SHIPPED = ("student.safetensors", *ship.FILES.values())


def conclude_chain(
    recipe: Recipe,
    links: Sequence[Link],
    found: Sequence[dict[str, Any]],
    data: Data,
    runtime: Runtime,
    folder: RunFolder,
) -> dict[str, Any]:
    """Write the last student's files, `result.json` and the page of a chain.

    Args:
        recipe: of the chain.
        links: its links.
        found: the `result.json` of each.
        data: what all are tested on.
        runtime: where; all processes come here.
        folder: of the chain.

    Returns:
        What `result.json` holds; empty in all processes but the first.
    """
    asked = isinstance(recipe.chain, GenerationsSpec) and recipe.chain.ensemble
    together = _ensemble(recipe, links, data, runtime, folder) if asked else None
    if not runtime.main:
        return {}
    last = folder.path / links[-1].folder
    for name in SHIPPED:
        _copy(last / name, folder.path / name)
    _time_anew(links, found, data, folder)
    folder.write_result(_result(recipe, links, found, together))
    from limbeck import report

    report.write(folder.path)
    result: dict[str, Any] = json.loads(folder.result.read_text())
    return result


def _time_anew(links: Sequence[Link], found: Sequence[dict[str, Any]], data: Data, folder: RunFolder) -> None:
    """Put in place of each run's latencies those of all networks side by side: hours may lie between them."""
    networks = {}
    teacher = _teacher(links[0], data, folder)
    if teacher is not None:
        networks["teacher"] = teacher
    for link in links:
        file = folder.path / link.folder / "student.safetensors"
        built = restored(link.recipe, data, link.recipe.seed_list[0], file)
        networks[f"link {link.number}"] = nn.Sequential(built.adapter, built.model).eval()
    exported: dict[str, Path] = {
        form: folder.path / ship.FILES[form] for form in links[-1].recipe.export.formats
    }
    timed = ship.latencies(networks, exported, next(ship.pixels(data.test, 1)))
    if teacher is not None:
        found[0]["teacher"]["latency_ms"] = timed["teacher"]
    for link, one in zip(links, found, strict=True):
        one["student"]["latency_ms"] = timed[f"link {link.number}"]
    for form, entry in found[-1]["exports"].items():
        entry["latency_ms"] = timed[form]


def _teacher(first: Link, data: Data, folder: RunFolder) -> nn.Module | None:
    """The teacher of the first link behind its adapter, with the weights that it taught with."""
    recipe = first.recipe
    spec, seed = recipe.sole_teacher, recipe.seed_list[0]
    if spec is None:
        return None
    if spec.train is None:
        network = make_teacher(recipe, data, []).network
        return nn.Sequential(network.adapter, network.model).eval()
    built = prepare(spec, data, where="teacher", beside=recipe.beside)
    file = RunFolder(folder.path / first.folder).phase("teacher", seed) / "teacher.safetensors"
    weights.load(built.model, file, where="teacher")
    return nn.Sequential(built.adapter, built.model).eval()


def _result(
    recipe: Recipe,
    links: Sequence[Link],
    found: Sequence[dict[str, Any]],
    together: dict[str, Any] | None,
) -> dict[str, Any]:
    first, last, metric = found[0], found[-1], recipe.metric
    control = _control(links, found)
    result = {
        "name": recipe.name,
        **{key: last[key] for key in ("limbeck", "seeds", "metric", "classes", "environment")},
        "teacher": first["teacher"],
        "control": control,
        "student": last["student"],
        "gain": _gain(control, last["student"], metric),
        "stages": [_stage(link, one) for link, one in zip(links, found, strict=True)],
    }
    if together is not None:
        result["ensemble"] = {
            **together,
            "parameters": sum(one["student"]["parameters"] for one in found),
            "gain": _gain(control, together, metric),
        }
    result["exports"] = last["exports"]
    seconds = [one["seconds"] for one in found]
    result["seconds"] = {
        "teacher": seconds[0]["teacher"],
        "control": round(sum(one["control"] for one in seconds), 1),
        "student": round(sum(one["student"] for one in seconds), 1),
    }
    return result


def _control(links: Sequence[Link], found: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The direct pair; where the first link is that, its figures, with the link named."""
    if links[0].direct:
        teacher = links[0].recipe.sole_teacher
        named = {"teacher": None if teacher is None else teacher.model, "link": links[0].name}
        return {**found[0]["student"], **named}
    given: dict[str, Any] | None = found[-1]["control"]
    return None if given is None else {"teacher": None, **given}


def _stage(link: Link, found: dict[str, Any]) -> dict[str, Any]:
    """What a link has come to."""
    teacher = link.recipe.sole_teacher
    named = teacher.model if teacher is not None and link.taught_by is None else link.taught_by
    own = {"control": found["control"], "gain": found["gain"]} if found["control"] else {}
    return {
        "name": link.name,
        "teacher": named,
        "student": link.recipe.student.model,
        **found["student"],
        **own,
        "epochs": link.recipe.train.epochs,
        "seconds": found["seconds"],
        "folder": link.folder,
    }


def _gain(control: dict[str, Any] | None, other: dict[str, Any], metric: str) -> dict[str, Any] | None:
    if control is None or None in control[metric] + other[metric]:
        return None
    return paired_interval(control[metric], other[metric]).to_json()


def _ensemble(
    recipe: Recipe, links: Sequence[Link], data: Data, runtime: Runtime, folder: RunFolder
) -> dict[str, Any]:
    """Figures of the mean of all generations' probabilities, by seed (BANE, Furlanello et al. 2018)."""
    figures = further_figures(recipe, data)
    targets = data.test.targets
    rows = []
    for seed in recipe.seed_list:
        shares = torch.stack([_shares(link, seed, data, runtime, folder) for link in links]).mean(0)
        # As logits, whose softmax they are again.
        rows.append(score(shares.clamp_min(torch.finfo(shares.dtype).tiny).log(), targets, figures=figures))
    told = [row.to_json() for row in rows]
    result: dict[str, Any] = {key: [row[key] for row in told] for key in ("accuracy", "ece", "loss")}
    if rows[0].metrics:
        result["metrics"] = {name: [row.figure(name) for row in rows] for name in rows[0].metrics}
    return {**result, "of": [link.name for link in links]}


def _shares(link: Link, seed: int, data: Data, runtime: Runtime, folder: RunFolder) -> Tensor:
    """The probabilities [N, C] that a link's student gives to the test set."""
    run = RunFolder(folder.path / link.folder)
    built = restored(link.recipe, data, seed, run.phase("student", seed) / "student.safetensors")
    network = Tapped(built.model, (), built.adapter, who="student")
    runtime.place(network)
    _, logits = ask(
        network,
        data.test,
        runtime,
        link.recipe.data.eval_batch_size,
        classes=len(data.classes),
        workers=link.recipe.train.workers,
    )
    return logits.double().softmax(1)


def _copy(file: Path, to: Path) -> None:
    """A copy, whole or not at all; nothing where there is no such file."""
    for one, other in ((file, to), (file.with_name(f"{file.name}.data"), to.with_name(f"{to.name}.data"))):
        if one.exists():
            with files.draft(other) as part:
                shutil.copyfile(one, part)
