"""Both networks of `build_model`, as the entries of a recipe: their weights and their adapters."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limbeck.compat.super_gradients.keys import Gone, Keys, warn
from limbeck.compat.super_gradients.networks import NormalizationAdapter, network
from limbeck.errors import InputError
from limbeck.recipe.network import BLANK_MODELS

__all__ = ["check_classes", "check_kd_module", "joined", "tell_of_eval_mode"]

_WHICH = Gone("of which network? Use student_pretrained_weights or teacher_pretrained_weights.")
_CONTINUES = Gone("use load_checkpoint: a run's state is of both networks.", (False,))
_CHECKPOINTS_GONE = {
    "external_checkpoint_path": Gone("use teacher_checkpoint_path."),
    "kd_model_external_checkpoint_path": _CONTINUES,
    "kd_model_source_ckpt_folder_name": _CONTINUES,
    "load_backbone": Gone("is not supported.", (False,)),
    "load_kd_model_checkpoint": _CONTINUES,
    "load_weights_only": Gone("use limbeck's run:FOLDER as a model.", (False,)),
    "pretrained_weights": _WHICH,
    "source_ckpt_folder_name": Gone("give teacher_checkpoint_path, or load_checkpoint to continue."),
    "strict_load": Gone("weights always have to fit.", (True,)),
}
_ARCH_GONE = {"num_classes": Gone("give it in student_arch_params and teacher_arch_params.")}
_IMAGENET = 1000


def joined(
    student_architecture: str | None,
    teacher_architecture: str | None,
    student_arch_params: Mapping[str, Any] | None,
    teacher_arch_params: Mapping[str, Any] | None,
    checkpoint_params: Mapping[str, Any] | None,
    arch_params: Mapping[str, Any] | None,
) -> tuple[dict[str, dict[str, Any]], bool]:
    """The `student:` and `teacher:` of a recipe; see `KDModel.build_model`.

    Returns:
        Both by name, and whether a run is to be continued.

    Raises:
        InputError: an unknown name or key, or numbers of classes that differ.
    """
    if student_architecture is None or teacher_architecture is None:
        who = "student" if student_architecture is None else "teacher"
        raise InputError(f"build_model: {who}_architecture is missing; name both networks.")
    student = network(
        student_architecture,
        student_arch_params,
        where="student_architecture",
        params="student_arch_params",
    )
    teacher = network(
        teacher_architecture,
        teacher_arch_params,
        where="teacher_architecture",
        params="teacher_arch_params",
    )
    resume = _checkpoints(Keys(checkpoint_params, "checkpoint_params", _CHECKPOINTS_GONE), student, teacher)
    _adapters(Keys(arch_params, "arch_params", _ARCH_GONE), student, teacher)
    student_classes, teacher_classes = (n["options"].get("num_classes") for n in (student, teacher))
    if None not in (student_classes, teacher_classes) and student_classes != teacher_classes:
        raise InputError(
            f"build_model: the student answers {student_classes} classes and the teacher "
            f"{teacher_classes}; give both the same num_classes."
        )
    return {"student": student, "teacher": teacher}, resume


def check_classes(networks: Mapping[str, Mapping[str, Any]], there: int) -> None:
    """See whether both networks answer the classes of the data.

    Args:
        networks: as `joined` gives them; a number of classes that is not given is the data's.
        there: the data's.

    Raises:
        InputError: one of them answers others.
    """
    given = {name: networks[name]["options"].get("num_classes") for name in ("student", "teacher")}
    published = bool(networks["teacher"].get("pretrained"))  # its classes are not for the user to say
    wrong = {
        f"{name}_arch_params.num_classes": number
        for name, number in given.items()
        if number not in (None, there) and not (name == "teacher" and published)
    }
    said = []
    if wrong:
        number = next(iter(wrong.values()))
        said.append(f"{' and '.join(wrong)}: data_dir holds {there} classes, given {number}; give {there}.")
    if published and given["teacher"] != there:
        said.append(
            f"checkpoint_params.teacher_pretrained_weights: published weights answer {_IMAGENET} classes, "
            f"and data_dir holds {there}. Give teacher_checkpoint_path, the weights of a teacher of these; "
            "a recipe of limbeck's own picks them out of a published one's (teacher.classes)."
        )
    if said:
        raise InputError(" ".join(said))


def _checkpoints(keys: Keys, student: dict[str, Any], teacher: dict[str, Any]) -> bool:
    """Add the weights of both; whether a run is to be continued."""
    path = keys.take("teacher_checkpoint_path")
    published = {"imagenet": True}
    given = keys.choice("teacher_pretrained_weights", None, published)
    if path is not None:
        if not isinstance(path, str | Path):
            raise InputError(f"{keys.place('teacher_checkpoint_path')}: must be a path, given {path!r}.")
        if given:
            warn(f"checkpoint_params: the teacher has the weights of {path}, and not the published ones.")
        teacher["weights"] = str(Path(path).expanduser().resolve())
    elif given:
        teacher["pretrained"] = True
        # With another number its classifier would start anew, and teach noise.
        if teacher["options"].setdefault("num_classes", _IMAGENET) != _IMAGENET:
            raise InputError(
                f"teacher_arch_params.num_classes: published weights answer {_IMAGENET} classes, given "
                f"{teacher['options']['num_classes']}. Give teacher_checkpoint_path, the weights of a "
                "teacher of these classes."
            )
    elif teacher["model"].partition(":")[0] in BLANK_MODELS:
        teacher["blank"] = True
        warn(
            "checkpoint_params: the teacher has no weights (teacher_pretrained_weights or "
            "teacher_checkpoint_path); a random teacher teaches noise."
        )
    if keys.choice("student_pretrained_weights", None, published):
        student["pretrained"] = True
    resume = keys.switch("load_checkpoint", False)
    keys.close()
    return resume


def _adapters(keys: Keys, student: dict[str, Any], teacher: dict[str, Any]) -> None:
    """What the networks get: pixels are normalised for each by itself."""
    found = {"teacher": keys.take("teacher_input_adapter"), "student": keys.take("student_input_adapter")}
    keys.close()
    for name, adapter in found.items():
        if adapter is not None and not isinstance(adapter, NormalizationAdapter):
            raise InputError(
                f"arch_params.{name}_input_adapter: must be a NormalizationAdapter, given "
                f"{type(adapter).__name__}; other adapters are limbeck.distill's teacher_adapter and "
                "student_adapter."
            )
    if len({adapter.original for adapter in found.values() if adapter is not None}) > 1:
        raise InputError(
            "arch_params: teacher_input_adapter and student_input_adapter start from the same images, so "
            "mean_original and std_original must be the same in both."
        )
    original = next((adapter.original for adapter in found.values() if adapter is not None), None)
    for entry, adapter in ((teacher, found["teacher"]), (student, found["student"])):
        # The images are normalised as the originals say: that is how a network without an adapter gets them.
        if (wanted := original if adapter is None else adapter.required) is not None:
            _normalise(entry, wanted)


def _normalise(entry: dict[str, Any], statistics: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
    """Have a network see images of this mean and deviation."""
    entry["input"] = {**entry.get("input", {}), "mean": list(statistics[0]), "std": list(statistics[1])}


def check_kd_module(given: object, place: str) -> None:
    """Refuse any other arrangement of student and teacher.

    Raises:
        InputError: it is not `kd_module`.
    """
    if given != "kd_module":
        raise InputError(
            f'{place}: must be "kd_module", a student beside a frozen teacher; given {given!r}. Other '
            "arrangements are methods and schemes of limbeck's recipes."
        )


def tell_of_eval_mode(run_teacher_on_eval: object) -> None:
    """Say what `run_teacher_on_eval` comes to.

    Raises:
        InputError: it is neither true nor false.
    """
    if run_teacher_on_eval not in (None, True, False):
        raise InputError(f"run_teacher_on_eval: must be True or False, given {run_teacher_on_eval!r}.")
    if run_teacher_on_eval is False:
        warn("run_teacher_on_eval: False has no effect; the teacher is always in eval mode here.")
