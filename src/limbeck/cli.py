"""The command line: thin. Every command reads its arguments, calls the library, prints the answer.

Heavy imports happen inside the commands, so that `limbeck --help` answers at once.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from limbeck.commands.answering import answer
from limbeck.commands.arguments import Jobs, Json, Out, Overrides, RecipeFile, Resume, Small
from limbeck.commands.failing import perform
from limbeck.errors import InputError, unknown

__all__ = ["app", "main"]


class _Commands(typer.core.TyperGroup):
    """The commands; a misspelt one gets the nearest."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the first word names.

        Raises:
            InputError: there is no such command.
        """
        word = args[0]
        if not word.startswith("-") and self.get_command(ctx, word) is None:
            raise unknown("command", word, self.list_commands(ctx))
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Commands,
    name="limbeck",
    help="Knowledge distillation: a large teacher, a small student, and the proof that it helped.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from limbeck import __version__

        typer.echo(f"limbeck {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


@app.command()
def distill(
    recipe: RecipeFile,
    overrides: Overrides = None,
    out: Out = None,
    resume: Resume = False,
    jobs: Jobs = 1,
    small: Small = False,
    as_json: Json = False,
) -> None:
    """Run a recipe: teacher, control, student, exports, report."""
    from limbeck.commands.distill import distill as work

    answer(as_json, lambda: work(recipe, overrides or [], out, resume, jobs, as_json, small))


@app.command()
def compare(
    recipe: RecipeFile,
    overrides: Overrides = None,
    methods: Annotated[
        str,
        typer.Option(help="Methods with commas between: kd,dkd,kd+crd. Beside the recipe's own variants."),
    ] = "",
    seeds: Annotated[
        int | None, typer.Option(help="How many seeds; by default the recipe's.", min=1, max=1000)
    ] = None,
    out: Out = None,
    resume: Resume = False,
    jobs: Jobs = 1,
    small: Small = False,
    as_json: Json = False,
) -> None:
    """Compare methods under one budget, each against one control."""
    from limbeck.commands.compare import compare as work

    answer(as_json, lambda: work(recipe, overrides or [], methods, seeds, out, resume, jobs, as_json, small))


@app.command()
def demo(
    out: Out = None,
    seeds: Annotated[int, typer.Option(help="How many seeds.", min=1, max=1000)] = 3,
    as_json: Json = False,
) -> None:
    """Run the built-in recipe: a small student of handwritten digits."""
    from limbeck.commands.distill import demo as work

    answer(as_json, lambda: work(out, seeds, as_json))


@app.command()
def init(
    teacher: Annotated[str, typer.Option(help="The teacher's model, such as cifar:resnet56.")],
    data: Annotated[str, typer.Option(help="A data source, or a folder of images.")],
    student: Annotated[str | None, typer.Option(help="The student's model; by default a small one.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="The teacher's weights file; by default published ones or training.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The file to write; by default recipe.yaml.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a commented recipe to start from."""
    from limbeck.commands.recipes import init as work

    answer(as_json, lambda: work(teacher, data, student, weights, out, as_json))


@app.command()
def check(
    recipe: RecipeFile, overrides: Overrides = None, small: Small = False, as_json: Json = False
) -> None:
    """Try a recipe on one small batch; say what it would do."""
    from limbeck.commands.check import check as work

    answer(as_json, lambda: work(recipe, overrides or [], as_json, small))


@app.command()
def cache(
    recipe: RecipeFile,
    overrides: Overrides = None,
    views: Annotated[
        int | None,
        typer.Option(
            help="Views of each sample; by default the recipe's, else one for each epoch.", min=1, max=10**6
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder; by default one below LIMBECK_CACHE.")
    ] = None,
    small: Small = False,
    as_json: Json = False,
) -> None:
    """Ask the teacher once, for runs that replay its answers."""
    from limbeck.commands.caching import cache as work

    answer(as_json, lambda: work(recipe, overrides or [], views, out, as_json, small))


@app.command()
def evaluate(
    model: Annotated[
        str, typer.Argument(help="A model as a recipe names it, a run folder, or an ONNX file.")
    ],
    data: Annotated[str, typer.Option(help="A data source as a recipe names it, or a folder of images.")],
    weights: Annotated[str | None, typer.Option(help="A weights file.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="An argument of the model: key=value.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Samples in one batch.", min=1)] = 500,
    size: Annotated[
        int | None, typer.Option(help="Side in pixels of the images; by default what is known.", min=1)
    ] = None,
    as_json: Json = False,
) -> None:
    """Accuracy, loss and calibration of a model on test data."""
    from limbeck.commands.evaluate import evaluate as work

    answer(as_json, lambda: work(model, data, weights, option or [], batch, size, as_json))


@app.command()
def export(
    source: Annotated[str, typer.Argument(help="A run folder, or a model as a recipe names it.")],
    format: Annotated[str, typer.Option("--format", help="onnx or int8.")] = "onnx",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write into; by default the run's, or this one.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="For a model by name: the data to check it on.")] = None,
    weights: Annotated[str | None, typer.Option(help="For a model by name: a weights file.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="An argument of the model: key=value.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a finished run's student, or a model, as ONNX or int8."""
    from limbeck.commands.shipping import export as work

    answer(as_json, lambda: work(source, format, out, data, weights, option or [], as_json))


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
    """Latency, size and multiply-adds of several, side by side."""
    from limbeck.commands.shipping import measure as work

    answer(as_json, lambda: work(targets, threads, batch, shape, classes, as_json))


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="One run folder or several.")],
    out: Annotated[Path | None, typer.Option("--out", help="The page to write.")] = None,
    as_json: Json = False,
) -> None:
    """Write the page of a run, or one that compares several."""
    from limbeck.commands.shipping import report as work

    answer(as_json, lambda: work(runs, out, as_json))


@app.command()
def push(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    target: Annotated[str, typer.Argument(help="OWNER/NAME on the Hugging Face Hub, or a folder: ./name.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    message: Annotated[str | None, typer.Option(help="Of the commit.")] = None,
    license: Annotated[str | None, typer.Option(help="For the model card, such as apache-2.0.")] = None,
    as_json: Json = False,
) -> None:
    """Publish a run's student on the Hugging Face Hub."""
    from limbeck.commands.pushing import push as work

    answer(as_json, lambda: work(run, target, private, message, license, as_json))


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="A method, for its card.")] = None, as_json: Json = False
) -> None:
    """List the distillation methods, or show one's card."""
    from limbeck.commands.recipes import methods as work

    answer(as_json, lambda: work(name, as_json))


@app.command()
def schema(as_json: Json = False) -> None:
    """Print the JSON Schema of recipes, for editors."""
    from limbeck.recipe import schema as recipe_schema

    answer(True, recipe_schema)


LATER = {
    "predict": "answer inputs with an exported student",
    "search": "search a student within a budget",
    "condense": "distil a data set",
    "doctor": "say what a run's figures suggest",
}


def _not_yet(name: str) -> Callable[[typer.Context], None]:
    def command(context: typer.Context) -> None:
        raise InputError(f"limbeck {name}: not yet in this version.")

    return command


for _name, _text in LATER.items():
    app.command(
        _name,
        help=f"Not yet: {_text}.",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(_not_yet(_name))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line. Returns the exit code: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    return perform(typer.main.get_command(app), arguments, "limbeck")


def entry() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
