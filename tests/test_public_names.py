"""The public names are there, cheap to reach, and the arrows of docs/architecture.md point one way."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import limbeck
from limbeck import functional, methods

ROOT = Path(limbeck.__file__).parent
MODULES = sorted(
    ".".join(("limbeck", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
)


def source(module: str) -> Path:
    path = ROOT.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imported(module: str, at_start: bool = True) -> set[str]:
    """What a module imports: when it is imported itself, or (`at_start=False`) at any time.

    Names under TYPE_CHECKING do not count. `from limbeck.data import load` counts as the module that is
    meant: `limbeck.data.load` where that is one, else `limbeck.data`.
    """
    found: set[str] = set()
    todo: list[ast.AST] = [ast.parse(source(module).read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
        elif at_start and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            base = node.module or ""
            found |= {m if (m := f"{base}.{a.name}") in MODULES else base for a in node.names}
        else:
            todo += ast.iter_child_nodes(node)
    return found


def within(module: str, *places: str) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def all_below(*places: str) -> list[str]:
    return [m for m in MODULES if within(m, *places)]


@pytest.mark.parametrize("name", limbeck.__all__)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(limbeck, name)
    assert value is not None
    assert name in dir(limbeck)
    if name not in ("__version__", "functional"):
        assert value.__name__ == name
        assert value.__module__.startswith("limbeck.")
        assert value.__doc__


def test_what_type_checkers_see_is_what_there_is() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: (f"{node.module}", alias.name)
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(seen) == set(limbeck.__all__) - {"__version__"}
    for name, (module, own) in seen.items():
        assert name == own
        if name != "functional":
            assert getattr(importlib.import_module(module), name) is getattr(limbeck, name)


def test_a_name_stays_what_it_is_when_it_is_used_again() -> None:
    """No module may have a public name: importing it would put it in the place of what it holds."""
    code = "import limbeck; print(all(getattr(limbeck, n) is getattr(limbeck, n) for n in limbeck.__all__))"
    assert run_python(code) == "True"
    assert run_python("import limbeck, limbeck.running; limbeck.run; print(callable(limbeck.run))") == "True"
    modules = {module.removeprefix("limbeck.") for module in MODULES} - {"functional"}
    assert not modules & set(limbeck.__all__)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'distil'"):
        limbeck.distil  # noqa: B018
    with pytest.raises(AttributeError, match=r"no function 'decopled_kd'\. Did you mean \"decoupled_kd\"\?"):
        functional.decopled_kd  # noqa: B018


@pytest.mark.parametrize("module", MODULES)
def test_every_module_can_be_imported_and_its_all_is_true(module: str) -> None:
    found = importlib.import_module(module)
    for name in getattr(found, "__all__", ()):
        assert hasattr(found, name), f"{module}.__all__ names {name}"


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["limbeck", "limbeck.cli", "limbeck.errors", "limbeck.reading"])
def test_importing_is_quick(module: str) -> None:
    heavy = "{'torch', 'numpy', 'timm', 'torchvision', 'accelerate', 'pydantic', 'onnx', 'matplotlib'}"
    assert run_python(f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_each_module_can_be_the_first_one() -> None:
    """A circle of imports shows only from some of its modules. One process forgets in between."""
    code = (
        "import importlib, sys, torch\n"
        f"for name in {MODULES!r}:\n"
        "    for known in [m for m in sys.modules if m.split('.')[0] == 'limbeck']:\n"
        "        del sys.modules[known]\n"
        "    importlib.import_module(name)\n"
        "print('done')"
    )
    assert run_python(code) == "done"


class TestTheArrows:
    def test_no_circles(self) -> None:
        arrows = {m: {i for i in imported(m) if i in MODULES and i != m} for m in MODULES}
        done: set[str] = set()

        def visit(module: str, path: tuple[str, ...]) -> None:
            assert module not in path, " → ".join((*path[path.index(module) :], module))
            if module not in done:
                for other in sorted(arrows[module]):
                    visit(other, (*path, module))
                done.add(module)

        for module in MODULES:
            visit(module, ())

    def test_nothing_imports_the_command_line(self) -> None:
        for module in MODULES:
            if module in (
                "limbeck.__main__",
                "limbeck.adapters.ray",
            ):  # started by `python -m`: command lines
                continue
            assert "limbeck.cli" not in imported(module, at_start=False), module
            if not within(module, "limbeck.cli", "limbeck.commands"):
                assert not any(within(i, "limbeck.commands") for i in imported(module, at_start=False)), (
                    module
                )

    @pytest.mark.parametrize(
        ("places", "allowed"),
        [
            (
                ["limbeck.errors", "limbeck.knowledge", "limbeck.importing", "limbeck.files"],
                ["limbeck.errors"],
            ),
            (
                ["limbeck.methods"],
                ["limbeck.errors", "limbeck.knowledge", "limbeck.importing", "limbeck.methods"],
            ),
            (["limbeck.functional"], ["limbeck.methods", "limbeck.errors"]),
            (["limbeck.taps", "limbeck.tap"], ["limbeck.errors", "limbeck.knowledge", "limbeck.tap"]),
            (
                ["limbeck.objective", "limbeck.term"],
                [
                    "limbeck.errors",
                    "limbeck.knowledge",
                    "limbeck.methods",
                    "limbeck.term",
                    "limbeck.weighting",
                ],
            ),
            (["limbeck.weighting"], []),
            (
                ["limbeck.teachers"],
                [
                    "limbeck.errors",
                    "limbeck.knowledge",
                    "limbeck.methods",
                    "limbeck.taps",
                    "limbeck.teachers",
                ],
            ),
            (
                ["limbeck.schemes"],
                [
                    "limbeck.errors",
                    "limbeck.knowledge",
                    "limbeck.taps",
                    "limbeck.calls",
                    "limbeck.layers",
                    "limbeck.methods",
                    "limbeck.data.keyed",
                    "limbeck.objective",
                    "limbeck.students",
                    "limbeck.teachers",
                    "limbeck.schemes",
                    "limbeck.weighting",
                ],
            ),
        ],
    )
    def test_each_layer_knows_those_below_it_only(self, places: list[str], allowed: list[str]) -> None:
        for module in all_below(*places):
            own = {i for i in imported(module, at_start=False) if within(i, "limbeck")}
            assert {i for i in own if not within(i, *allowed)} == set(), module

    @pytest.mark.parametrize(
        "place",
        ["limbeck.methods", "limbeck.schemes", "limbeck.teachers", "limbeck.objective", "limbeck.taps"],
    )
    def test_the_core_needs_nothing_heavier_than_torch(self, place: str) -> None:
        for module in all_below(place):
            foreign = {i.split(".")[0] for i in imported(module, at_start=False)}
            # NumPy holds the numbers of samples, which some schemes look up; nothing else has it.
            light = {"torch", "numpy"} if place == "limbeck.schemes" else {"torch"}
            assert foreign - sys.stdlib_module_names - {"limbeck"} <= light, module

    def test_training_knows_a_scheme_and_no_run(self) -> None:
        above = (
            "build",
            "runner",
            "comparison",
            "teaching",
            "jobs",
            "pairing",
            "conclusion",
            "phase",
            "recipe",
            "evaluation",
            "export",
            "report",
            "methods",
            "objective",
            "api",
        )
        for module in all_below("limbeck.training"):
            known = imported(module, at_start=False)
            assert not any(within(i, *(f"limbeck.{a}" for a in above)) for i in known), module

    def test_what_lies_below_build_knows_no_recipes(self) -> None:
        low = (
            "schemes",
            "objective",
            "methods",
            "teachers",
            "training",
            "taps",
            "data",
            "models",
            "evaluation",
        )
        for module in all_below(*(f"limbeck.{name}" for name in low)):
            if module == "limbeck.models.run":  # a run's folder holds its recipe
                continue
            assert not any(within(i, "limbeck.recipe") for i in imported(module, at_start=False)), module


def modules_of(package: ModuleType) -> set[str]:
    return {m.name for m in pkgutil.iter_modules(package.__path__)}


class TestFunctions:
    def test_every_function_of_every_method_is_offered(self) -> None:
        offered = set()
        for name in methods.names():
            found = methods.functions(name)
            assert found, f"methods/{name}.py offers no function"
            for function, value in found.items():
                assert function not in offered, f"two methods offer {function}"
                assert getattr(functional, function) is value
                offered.add(function)
        assert functional.__all__ == sorted(offered)
        assert set(methods.names()) <= modules_of(methods)

    def test_a_file_dropped_in_is_offered(self, tmp_path: Path) -> None:
        (tmp_path / "twice.py").write_text(
            "from limbeck.methods.base import Method\n"
            "__all__ = ['Twice', 'twice']\n"
            "def twice(x): return 2 * x\n"
            "def helper(x): return x\n"
            "class Twice(Method):\n"
            "    def forward(self, student, teacher, batch): return twice(student.logits.sum())\n"
        )
        code = (
            f"from limbeck import methods; methods.__path__.append({str(tmp_path)!r})\n"
            "from limbeck import functional\n"
            "print(functional.twice(4), 'twice' in functional.__all__, 'helper' in functional.__all__)"
        )
        assert run_python(code) == "8 True False"
