"""The model card of a pushed student, written from what its run found."""

from pathlib import Path

from limbeck.models.hub import is_local
from limbeck.report import words
from limbeck.report.record import Record, read

__all__ = ["card"]


def card(run: Path, target: str, license: str | None, *, timm: bool, needs: str | None = None) -> str:
    """The card as Markdown with the hub's head.

    Args:
        run: the folder of a finished run.
        target: OWNER/NAME, or the folder it is written to.
        license: the hub's word for a licence ("apache-2.0"); None leaves it out.
        timm: whether timm reads the repository as well.
        needs: its owner's own model, without whose code it cannot be read; None: it can.
    """
    record = read(run)
    name = target.rstrip("/").rpartition("/")[2]
    head = ["---"]
    if license:
        head.append(f"license: {license}")
    head += [
        f"library_name: {'timm' if timm else 'limbeck'}",
        "pipeline_tag: image-classification",
        "tags: [image-classification, knowledge-distillation, limbeck]",
        "---",
    ]
    found = words.verdict(record)
    lines = [*head, "", f"# {name}", "", *_about(record), "", found.sentence, "", found.beside, ""]
    lines += [*_table(record), "", "`report.html` shows the run, `recipe.yaml` repeats it.", ""]
    return "\n".join([*lines, *_use(target, record, timm=timm, needs=needs), ""])


def _about(record: Record) -> list[str]:
    parts = {key: record.settings.get(key) or {} for key in ("student", "data")}
    taught = _taught(record)
    classes = len(record.classes)
    return [
        f"`{parts['student'].get('model')}`, {taught} on `{parts['data'].get('source')}`"
        f"{f' ({classes} classes)' if classes else ''} by [Limbeck](https://github.com/limbeck/limbeck) "
        f"{record.version}."
    ]


def _taught(record: Record) -> str:
    """By whom the student was taught."""
    given = record.settings.get("teacher") or []
    teachers = [one.get("model") for one in (given if isinstance(given, list) else [given])]
    scheme = record.settings.get("scheme") or {}
    if teachers:
        return f"distilled from {', '.join(f'`{model}`' for model in teachers)}"
    if scheme.get("name") in ("online", "own"):
        return f"taught by the scheme {scheme['name']} (`{scheme.get('kind') or 'mutual'}`)"
    return "trained"


def _table(record: Record) -> list[str]:
    lines = [
        f"| | {record.metric} | parameters | size | latency, one sample, one thread |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in record.costs().values():
        label = f"Student, {row.label}" if row.export else row.label
        label += ", old classes alone" if record.tasks and row.key == "teacher" else ""
        lines.append(
            f"| {label} | {words.score(row.score, record.metric)} | {words.count(row.parameters)} | "
            f"{words.size(row.bytes)} | {words.latency(row.latency)} |"
        )
    return [line.replace(words.NBSP, " ") for line in lines]


def _use(target: str, record: Record, *, timm: bool, needs: str | None) -> list[str]:
    """How the student is loaded."""
    lines = ["## Use", "", "As a teacher or student of another recipe:", ""]
    if needs is None:
        lines += ["```yaml", f'teacher: {{model: "hf:{target}"}}', "```"]
    else:
        lines += ["```yaml", f'teacher: {{model: "{needs}", weights: model.safetensors}}', "```", ""]
        lines.append(f"The code of `{needs}` is its owner's and is not part of this repository.")
    if timm:
        lines += [
            "",
            "By timm (images normalised as `pretrained_cfg` says):",
            "",
            "```python",
            "import timm",
            "",
        ]
        source = "local-dir" if is_local(target) else "hf-hub"
        lines += [f'model = timm.create_model("{source}:{target}", pretrained=True)', "```"]
    if "onnx" in record.rows:
        lines += ["", "`student.onnx` takes pixels in [0, 1] and answers logits, in ONNX Runtime."]
    return lines
