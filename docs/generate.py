"""Write the parts of these pages that follow from the code.

    python docs/generate.py

Run it after a change to a method, a scheme, a public name, a recipe's keys or a command. `methods.md`,
`kinds.md`, `papers.md`, `reference.md` and `functions.md` are written whole. In `recipe.md`, `commands.md`
and `comparison.md`, what stands between `<!-- generated: NAME -->` and `<!-- end -->` is replaced, and the
rest is left alone. A test runs this and wants nothing to change.
"""

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from limbeck import methods
from limbeck.reading import write_yaml
from limbeck.recipe import schema
from limbeck.schemes import catalogue

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS))
from reference import functions_page, reference_page, table  # noqa: E402

NOTICE = "<!-- Written by docs/generate.py; change the docstrings instead. -->\n"
KINDS = {
    "label": "label; it looks at the labels only, so the control learns from it as well",
    "response": "response; it compares logits",
    "feature": "feature; it compares inner layers",
    "relation": "relation; it compares relations between samples or layers",
}
PAIRS = {
    "none": "none",
    "one": "one pair, `{student layer: teacher layer}`",
    "many": "one pair or several, `{student layer: teacher layer, …}`",
}
AUTO = {
    "embedding": "what enters the classifiers",
    "map": "the last maps",
    "classified": "the last maps, or what enters the classifiers where either takes anything else",
    "middle": "the maps in the middle of the networks",
    "stages": "the last map of every stage",
    "before_relu": "the last map of every stage, before its ReLU",
    "flow": "the map that enters the first stage, then the last map of every stage",
}
STAGES = {
    "alone": "the student learns from it by itself first, then from the other terms without it",
    "layers": "layers of its own are trained first, by the teacher alone",
}
PARTS = {
    "Recipe": "Top level",
    "Network": "teacher, student",
    "CacheSpec": "teacher.cache",
    "InputSettings": "teacher.input, student.input",
    "DataSpec": "data",
    "MixSpec": "data.mix",
    "TermSpec": "objective.TERM",
    "RampSpec": "objective.TERM.weight, as a ramp",
    "StepsSpec": "objective.TERM.weight, in steps",
    "StageSpec": "stages.N",
    "WeightingSpec": "weighting",
    "SchemeSpec": "scheme",
    "TrainSpec": "train",
    "OptimizerSpec": "train.optimizer",
    "ScheduleSpec": "train.schedule",
    "EmaSpec": "train.ema",
    "CheckpointSpec": "train.checkpoint",
    "MetricSpec": "metrics.NAME",
    "ControlSpec": "control, as a mapping",
    "VariantSpec": "variants.NAME",
    "LinkSpec": "chain.N",
    "GenerationsSpec": "chain, as a mapping",
    "ExportSpec": "export",
}
"""The parts of a recipe as the schema calls them, and the headings that they get on the page."""


def pages() -> dict[Path, str]:
    """Every page that holds generated text, as it should be."""
    return {
        DOCS / "methods.md": methods_page(),
        DOCS / "kinds.md": kinds_page(),
        DOCS / "papers.md": papers_page(),
        DOCS / "reference.md": reference_page(NOTICE),
        DOCS / "functions.md": functions_page(NOTICE),
        DOCS / "comparison.md": filled(DOCS / "comparison.md", comparison_parts()),
        DOCS / "recipe.md": filled(DOCS / "recipe.md", {"keys": recipe_keys}),
        DOCS / "commands.md": filled(DOCS / "commands.md", command_parts()),
    }


def filled(page: Path, parts: Mapping[str, Callable[[], str]]) -> str:
    """A page with its generated parts written anew.

    Raises:
        KeyError: the page asks for a part that does not exist.
        ValueError: a part has no place on the page.
    """
    text = page.read_text(encoding="utf-8")
    found: set[str] = set()

    def part(match: re.Match[str]) -> str:
        found.add(match["name"])
        return f"<!-- generated: {match['name']} -->\n\n{parts[match['name']]().strip()}\n\n<!-- end -->"

    pattern = r"<!-- generated: (?P<name>[\w ]+) -->.*?<!-- end -->"
    result = re.sub(pattern, part, text, flags=re.DOTALL)
    if missing := set(parts) - found:
        raise ValueError(f"{page.name} has no place for: {', '.join(sorted(missing))}")
    return result


# Methods


def cards() -> list[dict[str, Any]]:
    """The cards of all methods of this package."""
    return [methods.card(methods.get(name)) for name in methods.names()]


def linked(paper: str) -> str:
    """A paper's line with its address as a link."""
    return re.sub(r"https?://\S+", lambda match: f"<{match[0]}>", paper)


def methods_page() -> str:
    """One section for each method, from its card."""
    rows = [
        (f"[`{c['name']}`](#{c['name']})", ", ".join(f"`{a}`" for a in c["aliases"]), c["kind"], c["summary"])
        for c in cards()
    ]
    head = (
        "# Methods\n\n"
        + NOTICE
        + "\nA method is one distillation loss. A recipe names it, or one of its other names, under "
        "[`objective`](recipe.md#objectiveterm). `limbeck methods NAME` prints the same card. Each method is "
        "also a plain function in `limbeck.functional`, for [a loop of your own](python.md#functions). "
        "How to add one: [CONTRIBUTING](../CONTRIBUTING.md#how-to-add-a-method).\n"
    )
    sections = [section(c) for c in cards()]
    return "\n".join([head, table(("Method", "Also", "Kind", "In one sentence"), rows), "", *sections])


def section(card: dict[str, Any]) -> str:
    """The section of one method."""
    options = [
        (
            f"`{name}`",
            f"`{option['type']}`",
            "required" if option["required"] else f"`{plain(option['default'])}`",
            f"`{plain(card['published'][name])}`" if name in card["published"] else "",
        )
        for name, option in card["options"].items()
    ]
    facts = [
        f"- Kind: {KINDS[card['kind']]}.",
        f"- Layers: {PAIRS[card['pairs']]}"
        + ("." if card["pairs"] == "none" else f"; `auto` takes {AUTO[card['prefers']]}."),
        f"- Paper: {linked(card['paper'])}.",
    ]
    if card["hard_targets"]:
        facts.append("- Needs class indices: mixed labels are refused.")
    if card["stage"] in STAGES:
        facts.append(f"- Stages: {STAGES[card['stage']]}; see [stages](recipe.md#stages).")
    facts += [f"- Between unlike networks: {addresses(card['unlike'])}"] if card["unlike"] else []
    facts += ["- Draws random numbers."] if card["random"] else []
    facts += ["- Remembers earlier batches."] if card["stateful"] else []
    facts += ["- Compares the samples of a batch with each other."] if card["compares_samples"] else []
    parts = [
        f"## {card['name']}\n",
        "\n".join(facts) + "\n",
        prose(card["doc"]),
        table(("Option", "Type", "Default", "Published"), options) + "\n" if options else "No options.\n",
        "In a recipe, with the published values:\n\n```yaml\nobjective:\n" + in_recipe(card) + "```\n",
    ]
    return "\n".join(parts)


def in_recipe(card: dict[str, Any]) -> str:
    """The lines of an objective that uses the method, with the published values."""
    published = card["published"]
    values = {"weight": published.get("weight", 1.0)}
    values |= {key: value for key, value in published.items() if key in card["options"]}
    fields = [f"{key}: {plain(value)}" for key, value in values.items()]
    if card["pairs"] != "none":
        fields.append("layers: auto")
    alone = card["name"] == "cross_entropy" or not card["beside"]
    beside = "" if alone else f"  cross_entropy: {{weight: {card['beside']}}}\n"
    return f"{beside}  {card['name']}: {{{', '.join(fields)}}}\n"


def plain(value: object) -> str:
    """A value as YAML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def addresses(text: str) -> str:
    """A text with its addresses as links."""
    return re.sub(r"https?://[^\s)]*[^\s).,;]", r"<\g<0>>", text)


def prose(doc: str) -> str:
    """A docstring as Markdown: indented equations become blocks, other lines stay paragraphs."""
    blocks = []
    for block in doc.strip().split("\n\n"):
        lines = block.split("\n")
        if all(line.startswith("    ") for line in lines):
            blocks.append("```text\n" + "\n".join(line[4:] for line in lines) + "\n```")
        else:
            blocks.append(addresses("\n".join(lines)))
    return "\n\n".join(blocks) + "\n"


# Kinds of schemes


def kind_cards() -> list[dict[str, Any]]:
    """The cards of all kinds of schemes."""
    found = [(family, kind) for family in catalogue.FAMILIES for kind in catalogue.kinds(family)]
    return [catalogue.card(catalogue.get(*one)) for one in found]


def kinds_page() -> str:
    """One section for each kind of scheme, from its card."""
    rows = [
        (
            f"[`{c['name']}`](#{c['name']})",
            ", ".join(f"`{a}`" for a in c["aliases"]),
            f"`{c['family']}`",
            c["summary"],
        )
        for c in kind_cards()
    ]
    head = (
        "# Kinds of schemes\n\n"
        + NOTICE
        + "\nWho teaches whom, where there is no finished teacher: a recipe names it under "
        "[`scheme`](recipe.md#scheme), `{name: online, kind: mutual}`, say. The "
        "[page on schemes](schemes.md) says when to use which, and what came out.\n"
    )
    sections = [kind_section(c) for c in kind_cards()]
    return "\n".join([head, table(("Kind", "Also", "Scheme", "In one sentence"), rows), "", *sections])


def kind_section(card: dict[str, Any]) -> str:
    """The section of one kind."""
    published = card["published"]
    options = [
        (f"`{name}`", f"`{plain(value)}`", f"`{plain(published[name])}`" if name in published else "")
        for name, value in card["options"].items()
    ]
    terms = "; layers may be compared too" if card["reads_layers"] else ", which compare responses"
    facts = [f"- Terms: those of the objective{terms}.", f"- Paper: {linked(card['paper'])}."]
    recipe = {
        "objective": published["objective"],
        "scheme": {"name": card["family"], "kind": card["name"], **_chosen(card)},
    }
    parts = [
        f"## {card['name']}\n",
        "\n".join(facts) + "\n",
        prose(card["doc"]),
        table(("Option", "Default", "Published"), options) + "\n" if options else "No options.\n",
        "In a recipe, with the published values:\n\n```yaml\n" + write_yaml(recipe) + "```\n",
    ]
    return "\n".join(parts)


def _chosen(card: dict[str, Any]) -> dict[str, Any]:
    """The published values of a kind's options."""
    return {key: value for key, value in card["published"].items() if key in (*card["options"], "peers")}


def papers_page() -> str:
    """Which paper stands behind what, oldest first, and the further sources of the docstrings."""
    rows = []
    for card in [*cards(), *kind_cards()]:
        year = re.search(r"\((\d{4})\)", card["paper"])
        own = re.search(r"https?://\S+", card["paper"])
        others = [
            address
            for address in dict.fromkeys(re.findall(r"https?://[^\s)]*[^\s).,;]", card["doc"]))
            if own is None or address != own[0]
        ]
        further = ", ".join(f"<{address}>" for address in others)
        key = year[1] if year else "9999"
        page = "kinds.md" if "family" in card else "methods.md"
        rows.append((key, (linked(card["paper"]), f"[`{card['name']}`]({page}#{card['name']})", further)))
    listed = [row for _, row in sorted(rows)]
    return (
        "# Papers\n\n"
        + NOTICE
        + "\nWhich paper stands behind which method or scheme. What is followed where a paper and the code "
        "of its authors differ is said on the card of the [method](methods.md) or [scheme](kinds.md).\n\n"
        + table(("Paper", "Used by", "Also used"), listed)
        + "\n"
    )


# Comparison


def comparison_parts() -> dict[str, Callable[[], str]]:
    """The tables of the page of comparison, from the figures in `measured/`."""
    sys.path.insert(0, str(DOCS / "measured"))
    from side_by_side import outcomes, side_by_side

    figures = (
        "Method",
        "Last epoch",
        "Best epoch",
        "Agreement",
        "Calibration error",
        "Gain",
        "95 % interval",
    )
    costs = ("Method", "Needs", "A step costs", "Gain, points (95 % interval)")
    return {
        "outcomes": lambda: unbroken(table(figures, outcomes())),
        "side by side": lambda: unbroken(table(costs, side_by_side(cards()))),
    }


def unbroken(text: str) -> str:
    """A text whose figures and their limits stay on one line."""
    return re.sub(r"(?<=\d) (±|to) (?=[+−\d])", "\u00a0\\1\u00a0", text)


# Recipes


def recipe_keys() -> str:
    """A table of keys for each part of a recipe, from its JSON Schema."""
    whole = schema()
    parts = {name: closed(part) for name, part in whole["$defs"].items()} | {"Recipe": whole}
    if unknown := set(parts) - set(PARTS) - {"PartialTrainSpec"}:
        raise ValueError(f"parts of the schema without a heading in PARTS: {', '.join(sorted(unknown))}")
    sections = []
    for name, heading in PARTS.items():
        part = parts[name]
        required = set(part.get("required", ()))
        rows = [
            (f"`{key}`", words(field), "required" if key in required else default(field), describe(field))
            # Options last, whatever order the schema has.
            for key, field in sorted(part["properties"].items(), key=lambda item: item[0] == "options")
        ]
        head = ("Key", "Value", "Default", "Meaning")
        sections.append(f"### {heading}\n\n{describe(part)}\n\n{table(head, rows)}")
    return "\n\n".join(sections)


def closed(part: dict[str, Any]) -> dict[str, Any]:
    """The mapping form of a part that also has short forms."""
    return next((form for form in part.get("anyOf", ()) if "properties" in form), part)


def describe(field: dict[str, Any]) -> str:
    return " ".join(field.get("description", "").split())


def default(field: dict[str, Any]) -> str:
    if "default" not in field:
        return ""
    value = field["default"]
    if isinstance(value, dict):
        return "see there" if value else "`{}`"
    if isinstance(value, list | tuple):
        return f"`[{', '.join(plain(item) for item in value)}]`"
    return f"`{plain(value)}`"


def words(field: dict[str, Any]) -> str:
    """What a key may hold, in words."""
    if forms := field.get("anyOf", field.get("oneOf")):
        return " or ".join(dict.fromkeys(words(form) for form in forms))
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        heading = PARTS["TrainSpec" if name == "PartialTrainSpec" else name]
        return f"[mapping](#{anchor(heading)})"
    if "enum" in field or "const" in field:
        return ", ".join(f"`{item}`" for item in field.get("enum", [field.get("const")]))
    kind = field.get("type", "anything")
    if isinstance(kind, list):
        return " or ".join(words({"type": one}) for one in kind)
    if kind == "array":
        return f"list of {words(field.get('items', {}))}"
    if kind == "object":
        return "mapping"
    kinds = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true`, `false`"}
    return kinds.get(kind, kind) + limits(field)


def limits(field: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    said = [f"{sign} {field[key]:g}" for key, sign in signs.items() if key in field]
    # The greatest values only keep nonsense out; they are not worth a reader's time.
    said = [text for text in said if float(text.split()[1]) < 4096]
    return f" {', '.join(said)}" if said else ""


def anchor(heading: str) -> str:
    """The address that a heading gets on the page."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


# Commands


def command_parts() -> dict[str, Callable[[], str]]:
    """The generated parts of the page of commands: one for each command, and what comes later."""
    commands = all_commands()
    ready = {name: command for name, command in commands.items() if "Not yet" not in (command.help or "")}
    later = [name for name in commands if name not in ready]
    parts: dict[str, Callable[[], str]] = {
        f"command {name}": lambda name=name: usage(name, ready[name])  # type: ignore[misc]
        for name in ready
    }
    if later:
        parts["later"] = lambda: ", ".join(f"`limbeck {name}`" for name in later) + "."
    return parts


def all_commands() -> dict[str, Any]:
    """Every command of the command line, in its order."""
    import typer

    from limbeck.cli import app

    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def usage(name: str, command: Any) -> str:
    """The call of a command and a table of what it takes."""
    call = [f"limbeck {name}"]
    rows = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            word = parameter.name.upper() + (" …" if parameter.nargs == -1 else "")
        else:
            flag = max(parameter.opts, key=len)
            word = flag if parameter.is_flag else f"{flag} {parameter.name.upper()}"
        call.append(word if parameter.required else f"[{word}]")
        rows.append((f"`{word}`", described(parameter)))
    text = f"{command.help.strip()}\n\n```text\n{' '.join(call)}\n```"
    return text + ("\n\n" + table(("Argument", "Meaning"), rows) if rows else "")


def described(parameter: Any) -> str:
    """What a parameter means, and its default where it has one that says something."""
    text = re.sub(r"\S*<\w+>", r"`\g<0>`", (parameter.help or "").strip())
    given = parameter.default
    if not isinstance(given, str | int) or isinstance(given, bool):
        return text
    return f"{text} Default: `{given}`."


def main() -> None:
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
