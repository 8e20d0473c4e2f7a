"""The command line: thin. Every command reads its arguments, calls the library, prints the answer.

Heavy imports happen inside the commands, so that `limbeck --help` answers at once.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck.errors import InputError, WorkError

__all__ = ["app", "main"]

app = typer.Typer(
    name="limbeck",
    help="Knowledge distillation: a large teacher, a small student, and the proof that it helped.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RecipeFile = Annotated[Path, typer.Argument(help="The recipe, a YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Settings laid over the recipe: key.sub=value.", show_default=False)
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object and nothing else on standard output.")
]
Out = Annotated[
    Path | None, typer.Option("--out", help="Where to write; by default runs/<name>.", show_default=False)
]


def _print(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value))


@app.command()
def distill(
    recipe: RecipeFile,
    overrides: Overrides = None,
    out: Out = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in that folder.")] = False,
    as_json: Json = False,
) -> None:
    """Train control and student, evaluate, export, measure, and write the report."""
    from limbeck.commands.distill import distill as work

    work(recipe, overrides or [], out, resume, as_json)


@app.command()
def demo(
    out: Out = None,
    seeds: Annotated[int, typer.Option(help="How many seeds.", min=1)] = 3,
    as_json: Json = False,
) -> None:
    """Distil a small student of handwritten digits, from the teacher's training to the report."""
    from limbeck.commands.distill import demo as work

    work(out, seeds, as_json)


@app.command()
def init(
    teacher: Annotated[str, typer.Option(help="The teacher's model, such as cifar:resnet56.")],
    data: Annotated[str, typer.Option(help="A data source, or a folder of images.")],
    student: Annotated[str | None, typer.Option(help="The student's model; by default a small one.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The file to write; by default recipe.yaml.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a commented recipe to start from."""
    from limbeck.commands.recipes import init as work

    work(teacher, data, student, out, as_json)


@app.command()
def check(recipe: RecipeFile, overrides: Overrides = None, as_json: Json = False) -> None:
    """Build everything, run one small batch, and say what would happen, without training."""
    from limbeck.commands.check import check as work

    work(recipe, overrides or [], as_json)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A model as a recipe names it, run:FOLDER, or an .onnx file.")],
    data: Annotated[str, typer.Option(help="A data source as a recipe names it.")],
    weights: Annotated[str | None, typer.Option(help="A weights file.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="An argument of the model: key=value.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Samples in one batch.", min=1)] = 500,
    as_json: Json = False,
) -> None:
    """Accuracy, loss and calibration of a model on the test split of some data."""
    from limbeck.commands.evaluate import evaluate as work

    work(model, data, weights, option or [], batch, as_json)


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="A run folder.")],
    format: Annotated[str, typer.Option("--format", help="onnx or int8.")] = "onnx",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write into; by default the run's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a finished run's student as ONNX or int8, and evaluate the file."""
    from limbeck.commands.shipping import export as work

    work(source, format, out, as_json)


@app.command()
def measure(
    targets: Annotated[
        list[str], typer.Argument(help="ONNX files, run folders, or models as recipes name them.")
    ],
    threads: Annotated[int, typer.Option(help="Threads.", min=1)] = 1,
    batch: Annotated[int, typer.Option(help="Samples at once.", min=1)] = 1,
    shape: Annotated[str, typer.Option(help="Shape of one sample, for models by name: CxHxW.")] = "3x32x32",
    classes: Annotated[int, typer.Option(help="Number of classes, for models by name.", min=1)] = 10,
    as_json: Json = False,
) -> None:
    """Latency, size, parameters and multiply-adds, side by side."""
    from limbeck.commands.shipping import measure as work

    work(targets, threads, batch, shape, classes, as_json)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="One run folder or several.")],
    out: Annotated[Path | None, typer.Option("--out", help="The page to write.")] = None,
    as_json: Json = False,
) -> None:
    """Write the page of a run, or one that compares several."""
    from limbeck.commands.shipping import report as work

    work(runs, out, as_json)


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="A method, for its card.")] = None, as_json: Json = False
) -> None:
    """List the distillation methods, or show one's card."""
    from limbeck.commands.recipes import methods as work

    work(name, as_json)


@app.command()
def schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    from limbeck.recipe import schema as recipe_schema

    _print(recipe_schema())


LATER = {
    "compare": "Compare methods under one budget.",
    "predict": "Answer inputs with an exported student.",
    "cache": "Store the teacher's answers.",
    "search": "Search a student within a budget.",
    "condense": "Distil a data set.",
    "doctor": "Say what a run's figures suggest.",
}


def _not_yet(name: str) -> Callable[[typer.Context], None]:
    def command(context: typer.Context) -> None:
        raise InputError(f'"limbeck {name}" does not exist yet in this version.')

    return command


for _name, _text in LATER.items():
    app.command(
        _name,
        help=f"{_text} (Not yet in this version.)",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(_not_yet(_name))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line. Returns the exit code: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    command = typer.main.get_command(app)
    try:
        code = command.main(args=arguments, prog_name="limbeck", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except InputError as error:
        return _fail(str(error), 2)
    except WorkError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return _fail("stopped at once; --resume goes on from the last saved state", 130)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception as error:
        return _other(error)


def _other(error: Exception) -> int:
    """Errors of the command line's own library, told as ours; anything else is a bug of ours."""
    import click

    if isinstance(error, click.exceptions.Abort):
        return _fail("stopped at once; --resume goes on from the last saved state", 130)
    if isinstance(error, click.ClickException):
        # A closed list of words: say which one was meant.
        return _fail(error.format_message(), 2)
    stopped = sys.modules.get("limbeck.phase")
    if stopped is not None and isinstance(error, stopped.Interrupted):
        return _fail("stopped; everything is saved. Go on with: " + _resume_command(), 130)
    raise error


def _resume_command() -> str:
    import shlex

    words = ["limbeck", *sys.argv[1:]]
    return shlex.join(words if "--resume" in words else [*words, "--resume"])


def _fail(message: str, code: int) -> int:
    print(f"limbeck: {message}", file=sys.stderr, flush=True)
    return code


def entry() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
