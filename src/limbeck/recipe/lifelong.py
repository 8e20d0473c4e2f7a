"""What a recipe of lifelong learning must satisfy."""

from typing import TYPE_CHECKING

from limbeck.errors import InputError, unknown

if TYPE_CHECKING:
    from limbeck.recipe.recipe import Recipe

__all__ = ["check_lifelong"]


def check_lifelong(recipe: "Recipe", where: str) -> None:
    """Check a recipe whose scheme is lifelong, as far as that needs no data.

    Raises:
        InputError: the place, and what to do about it.
    """
    scheme, at = recipe.scheme, f"{where}: scheme"
    for key in scheme.options:
        raise unknown("key", key, ["name", "old"], at)
    for key in ("kind", "peers"):
        if getattr(scheme, key) is not None:
            raise InputError(
                f"{at}.{key}: lifelong has none; it is for online{' and own' * (key == 'kind')}."
            )
    if not scheme.old:
        raise InputError(
            f"{at}.old: say which classes the teacher knows, by name or index: old: [0, 1, 2]. All others "
            "are the new task."
        )
    if recipe.teacher is None:
        raise InputError(
            f"{where}: teacher: is missing. It is the network that knows the old classes: give it with its "
            "weights, or train: {…} to train it on them first."
        )
    _check_student(recipe, where)
    own = None if isinstance(recipe.control, bool) else recipe.control.teacher
    for key, given in (
        ("variants", recipe.variants),
        ("chain", recipe.chain),
        ("train.shard", recipe.train.shard),
        ("control.teacher", own),
    ):
        if given:
            raise InputError(f"{where}: {key}: is not for the scheme lifelong; leave it out.")
    _check_terms(recipe, where)


def _check_student(recipe: "Recipe", where: str) -> None:
    """Refuse weights of the student's own."""
    student = recipe.student
    for key in ("weights", "pretrained", "head"):
        if getattr(student, key):
            raise InputError(
                f"{where}: student.{key}: with the scheme lifelong the student begins with its teacher's "
                "weights; leave it out."
            )
    if student.model.startswith("run:"):
        raise InputError(
            f"{where}: student.model: a finished run's student has weights and classes of its own; name the "
            "network itself. The run may be the teacher."
        )


def _check_terms(recipe: "Recipe", where: str) -> None:
    """See that both tasks are learnt, and by terms that can be."""
    from limbeck import methods  # imports torch, which reading and the schema do without

    labelled = taught = False
    for keys, terms in recipe.objectives().items():
        for name, term in terms.items():
            place = f"{where}: {'.'.join(map(str, keys))}.{name}"
            method = methods.get(term.method or name, where=place, beside=recipe.beside)
            if term.silent:
                continue
            if method.reuses_head:
                raise InputError(
                    f"{place}: gives the student its teacher's classifier, which knows no new class."
                )
            if method.kind != "label" and method.hard_targets:
                raise InputError(
                    f"{place}: needs each sample's class among those of the teacher, and samples of the new "
                    "task have none there; take a term that looks at the teacher's answer alone, such as kd."
                )
            labelled |= method.kind == "label"
            taught |= method.kind != "label"
    if not taught:
        raise InputError(
            f"{where}: objective: all terms look at labels alone, so the old task would be forgotten, as it "
            "is by the control; add a term that compares with the teacher, such as kd."
        )
    if not labelled:
        raise InputError(
            f"{where}: objective: no term looks at labels, so the new task would not be learnt; add "
            "cross_entropy."
        )
