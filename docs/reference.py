"""The pages `reference.md` and `functions.md`: what can be imported, for `generate.py`.

On the built site, mkdocstrings puts signature and description in the place of each line that begins with
`:::`. In the repository the tables have to do.
"""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import limbeck
from limbeck import methods

Group = tuple[str, str, tuple[str, ...]]

GROUPS: tuple[Group, ...] = (
    ("Running", "From start to end, by one call.", ("distill", "Distilled", "run", "compare", "Recipe")),
    (
        "Objectives",
        "What the student learns from.",
        ("Objective", "Term", "Ramp", "Steps", "Stage", "Method", "Probe"),
    ),
    (
        "Networks",
        "Networks, what is read of them, and what stands in front of them.",
        ("Tapped", "Frozen", "Knowledge", "Batch", "InputAdapter", "InputSpec"),
    ),
    ("Training", "The loop and what it runs on.", ("Offline", "Trainer", "Training", "Averaging", "Runtime")),
    ("Errors", "What is raised.", ("InputError", "WorkError")),
)
"""The public names of `limbeck`; one that stands in no group comes last."""

APART = {"functional", "__version__"}
"""`functional` has a page of its own."""

MODULES = {
    "limbeck.data": "Data sets, plans and views",
    "limbeck.methods": "The catalogue of methods",
    "limbeck.methods.testing": "Tests for a method of your own",
    "limbeck.students.small": "Small students",
}
"""Further modules whose names are for users, and their headings."""


def reference_page(notice: str) -> str:
    """The public names of `limbeck`, and of the modules that users import from."""
    grouped = [name for _, _, names in GROUPS for name in names]
    others = tuple(sorted(set(limbeck.__all__) - set(grouped) - APART))
    groups = [*GROUPS, ("Others", "Also public.", others)] if others else GROUPS
    sections = [
        chapter(heading, said, [f"limbeck.{name}" for name in names]) for heading, said, names in groups
    ]
    for path, heading in MODULES.items():
        module = importlib.import_module(path)
        sections.append(chapter(heading, f"`{path}`: {first_line(module)}", own_names(module)))
    head = (
        "# Names in Python\n\n"
        + notice
        + "\nEvery public name, with its signature and what it takes, gives and raises. How they play "
        "together is told on the page about [Python](python.md); the functions of the methods have "
        "[a page of their own](functions.md). The descriptions stand on the built site (`make docs`).\n\n"
    )
    return head + "\n".join(sections)


def functions_page(notice: str) -> str:
    """The functions and the class of every method."""
    rows, sections = [], []
    for name in methods.names():
        module = importlib.import_module(f"limbeck.methods.{name}")
        paths = own_names(module)
        for path in paths:
            if inspect.isfunction(found(path)):
                rows.append((f"`{path.rpartition('.')[2]}`", f"[`{name}`](#{name})", first_line(found(path))))
        said = f"Paper, equation and published values: [`{name}`](methods.md#{name}).\n"
        sections.append("\n".join([f"## {name}\n", said, *directives(paths)]))
    head = (
        "# Methods in Python\n\n"
        + notice
        + "\nEach method is a pure function of tensors, which `limbeck.functional` offers, and a thin class, "
        "which recipes and `limbeck.Term` use. A gradient flows to every argument that asks for one: compute "
        "the teacher's under `torch.no_grad()`. The descriptions stand on the built site (`make docs`).\n\n"
    )
    return (
        head + table(("Function", "Method", "In one sentence"), sorted(rows)) + "\n\n" + "\n".join(sections)
    )


def chapter(heading: str, said: str, paths: list[str]) -> str:
    """One group of names: a table of them, then their descriptions."""
    rows = [(f"`{path}`", first_line(found(path))) for path in paths]
    return "\n".join(
        [f"## {heading}\n", f"{said}\n", table(("Name", "In one sentence"), rows) + "\n", *directives(paths)]
    )


def directives(paths: list[str]) -> Iterator[str]:
    """The lines that mkdocstrings fills; of a part of a recipe only the methods: its keys have their page."""
    for path in paths:
        fields = getattr(found(path), "model_fields", None)
        own = [name for name, value in vars(found(path)).items() if callable(value) or is_class_method(value)]
        public = ", ".join(name for name in own if not name.startswith("_") and not name.startswith("model_"))
        yield f"::: {path}\n" + (f"    options: {{members: [{public}]}}\n" if fields else "")


def is_class_method(value: object) -> bool:
    return isinstance(value, classmethod)


def own_names(module: ModuleType) -> list[str]:
    """The paths of what a module offers, as users import them; constants say nothing and are left out."""
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    values: Mapping[str, Any] = {name: getattr(module, name) for name in names}
    described = {k: v for k, v in values.items() if inspect.isfunction(v) or inspect.isclass(v)}
    public = {f"limbeck.{name}" for name in limbeck.__all__}
    return [f"{module.__name__}.{name}" for name in described if f"limbeck.{name}" not in public]


def found(path: str) -> Any:
    """What a path of names leads to."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def first_line(thing: Any) -> str:
    """The first sentence of a docstring, on one line."""
    paragraph = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
    if not paragraph:
        raise ValueError(f"{thing!r} has no docstring")
    return paragraph


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
