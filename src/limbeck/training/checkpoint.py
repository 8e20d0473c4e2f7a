"""Training states on disk: tensors in safetensors, the rest in JSON, written so that a kill at any moment
leaves a whole state behind. Never a pickle.

A state is a folder `step-<number>` with `tensors.safetensors` and `state.json`. It is written under another
name, forced to the disk, and then renamed, which is atomic; `state.json` carries the checksums of both, so a
torn or altered state is noticed and the one before it is used.
"""

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import WorkError
from limbeck.files import draft, flush

__all__ = ["States", "explain", "write_atomically"]

FORMAT = 1


class States:
    """The states of one training, the newest few kept.

    Args:
        folder: where they lie; made when the first is saved.
        keep: how many to keep; at least 2, so that one is whole while another is torn.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = max(2, keep)

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write a state.

        Raises:
            WorkError: the disk is full, or the folder cannot be written; earlier states are untouched.
        """
        tensors: dict[str, Tensor] = {}
        tree = _split(state, tensors)
        final = self.folder / f"step-{step:09d}"
        part = self.folder / f".{final.name}.part"
        try:
            self._write(part, tree, tensors)
            if final.exists():
                shutil.rmtree(final)
            part.rename(final)
            flush(self.folder)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            saved = self._saved()
            kept = f"The state {saved[-1].name} is saved." if saved else "No state was saved before."
            raise explain(error, final, kept) from error
        self._tidy(final)
        return final

    def _write(self, part: Path, tree: Any, tensors: dict[str, Tensor]) -> None:
        from safetensors.torch import save

        part.mkdir(parents=True, exist_ok=True)
        data = save(tensors)
        _write_synced(part / "tensors.safetensors", data)
        body = json.dumps({"format": FORMAT, "tensors": hashlib.sha256(data).hexdigest(), "tree": tree})
        envelope = {"sha256": hashlib.sha256(body.encode()).hexdigest(), "body": body}
        _write_synced(part / "state.json", json.dumps(envelope).encode())
        flush(part)

    def load(self) -> dict[str, Any] | None:
        """The newest whole state, or None when there is none."""
        for folder in reversed(self._saved()):
            state = _read(folder)
            if state is not None:
                return state
        return None

    def clear(self) -> None:
        """Remove all states: the training is done and its result saved."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _saved(self) -> list[Path]:
        return sorted(p for p in self.folder.glob("step-*") if p.is_dir())

    def _tidy(self, newest: Path) -> None:
        saved = self._saved()
        # A state of a later step would have been loaded, had it been whole: it is torn, and must not count
        # as one of the few that are kept.
        torn = [p for p in saved if p.name > newest.name]
        kept = [p for p in saved if p.name <= newest.name]
        for old in [*torn, *kept[: -self.keep], *self.folder.glob(".step-*")]:
            shutil.rmtree(old, ignore_errors=True)


def _read(folder: Path) -> dict[str, Any] | None:
    """A state from its folder; None when it is torn, altered, or of another format."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        envelope = json.loads((folder / "state.json").read_bytes())
        body = envelope["body"]
        if hashlib.sha256(body.encode()).hexdigest() != envelope["sha256"]:
            return None
        content = json.loads(body)
        if content["format"] != FORMAT:
            return None
        data = (folder / "tensors.safetensors").read_bytes()
        if hashlib.sha256(data).hexdigest() != content["tensors"]:
            return None
        joined = _join(content["tree"], load(data))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError):
        return None  # torn, or a file of somebody else
    return joined if isinstance(joined, dict) else None


def _split(value: Any, tensors: dict[str, Tensor]) -> Any:
    """A tree with its tensors taken out into `tensors`; what is left is JSON."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        # A copy: safetensors refuses tensors that share memory, and the training goes on changing them.
        tensors[name] = value.detach().cpu().clone().contiguous()
        return {"tensor": name}
    if isinstance(value, torch.dtype):  # an option of some optimisers
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, dict):
        return {"dict": [[_key(k), _split(v, tensors)] for k, v in value.items()]}
    if isinstance(value, tuple | list):
        return {"tuple" if isinstance(value, tuple) else "list": [_split(v, tensors) for v in value]}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a training state cannot hold a {type(value).__name__}")


def _key(key: Any) -> Any:
    assert isinstance(key, str | int), "keys of a training state are strings or numbers"
    return key


def _join(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(tree, dict):
        return tree
    ((kind, content),) = tree.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dtype":
        return getattr(torch, content)
    if kind == "dict":
        return {k: _join(v, tensors) for k, v in content}
    items = [_join(v, tensors) for v in content]
    return tuple(items) if kind == "tuple" else items


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def explain(error: OSError, path: Path, kept: str = "All that was saved before is still there.") -> WorkError:
    """The error for a file that cannot be written; a full disk is named as such."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WorkError(f"the disk is full: cannot write {path}. {kept} Free some room, then use --resume.")
    return WorkError(f"cannot write {path}: {error.strerror or error}. {kept}")


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a whole file or nothing: under another name, forced to the disk, then renamed.

    Raises:
        WorkError: the disk is full, or the place cannot be written.
    """
    with draft(path, explain) as part:
        _write_synced(part, data.encode() if isinstance(data, str) else data)
