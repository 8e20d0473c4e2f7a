"""Arguments that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Jobs", "Json", "Out", "Overrides", "RecipeFile", "Resume", "Small"]

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
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in that folder.")]
Small = Annotated[bool, typer.Option("--small", help="The recipe's own small version, done in minutes.")]
Jobs = Annotated[
    int, typer.Option(help="Trainings side by side, each in a process of its own.", min=1, max=256)
]
