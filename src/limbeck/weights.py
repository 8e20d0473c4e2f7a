"""Weights on disk: read without running any code, written so that a crash leaves no torn file.

Read are safetensors and torch checkpoints. The latter are pickles, which can run anything while they are
opened; they go through torch's restricted loader only, and one that asks for more than tensors and plain
values is refused. Written is safetensors alone.
"""

import contextlib
import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from limbeck import files
from limbeck.errors import InputError

__all__ = ["load", "metadata", "read", "save"]

WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "ema_net",
    "net",
    "network",
    "ema",
    "state_dict_ema",
    "model_ema",
)
"""Keys under which training scripts put the weights, in order of preference."""

PREFIXES = ("module.", "_orig_mod.", "model.")
"""What wrapping for several processes, compiling and a surrounding trainer put in front of every key."""

SHOWN = 5
"""How many keys a message lists."""


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file, by the names of the plain network.

    Wrappers (`state_dict`, `model`, `net`, …) are opened, and prefixes that all keys share (`module.`,
    `model.`, `_orig_mod.`) are taken off.

    Raises:
        InputError: the file is missing, broken, holds no tensors, or would run code while it is opened.
    """
    state = _raw(path)
    while (stripped := _stripped(state)) is not None:
        state = stripped
    return state


def metadata(path: Path) -> dict[str, str]:
    """The notes in the head of a safetensors file; empty for any other kind of file.

    Raises:
        InputError: the file is missing or broken.
    """
    from safetensors import SafetensorError, safe_open

    if not _is_safetensors(path):
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _broken(path, error) from error


def _raw(path: Path) -> dict[str, Tensor]:
    """The tensors with the keys of the file."""
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty.")
    if _is_safetensors(path):
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            content: object = load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise _broken(path, error) from error
    else:
        content = _torch_checkpoint(path)
    return _unwrapped(content, path)


def _is_safetensors(path: Path) -> bool:
    """By the first bytes (length of the head, then its opening brace), so a file's ending does not matter."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}.") from error
    return path.suffix == ".safetensors" or (len(head) == 9 and head[8:] == b"{" and head[6:8] == b"\0\0")


def _torch_checkpoint(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle's version; what matters raises
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "global" not in str(error).lower() and "Unsupported" not in str(error):
            raise _broken(path, error) from error
        raise InputError(
            f"{path}: refused: opening it would run code, for it holds more than tensors and plain values. "
            "Open it yourself where you trust it, and save its state_dict as safetensors. "
            f"What it asks for: {_asked(str(error))}."
        ) from error
    except Exception as error:  # a damaged file can trip the parser anywhere
        raise _broken(path, error) from error


def _asked(message: str) -> str:
    """The name of the refused class or function out of torch's long message."""
    for line in message.splitlines():
        if "GLOBAL" in line or "global" in line:
            words = line.split("GLOBAL ")
            return words[1].split(" ")[0] if len(words) > 1 else line.strip()[:120]
    return "something other than tensors"


def _broken(path: Path, error: BaseException) -> InputError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
    reason = reason if " " in reason else type(error).__name__  # a bare number or key says nothing
    return InputError(f"{path}: not a complete safetensors or torch checkpoint ({reason}).")


def _unwrapped(content: object, path: Path) -> dict[str, Tensor]:
    """Opens the mappings that training scripts put around the weights."""
    for _ in range(4):
        if not isinstance(content, Mapping):
            break
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
            if tensors:
                return tensors
            keys = ", ".join(str(key) for key in list(content)[:10]) or "none"
            raise InputError(
                f"{path}: holds no tensors by name. Keys: {keys}. Allowed: tensors, or a mapping of them "
                f"under one of {', '.join(WRAPPERS)}."
            )
        content = inner
    raise InputError(f"{path}: holds {type(content).__name__}, not a mapping from names to tensors.")


def _stripped(state: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """The same without the first prefix that all keys share; None where they share none."""
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            return {key.removeprefix(prefix): value for key, value in state.items()}
    return None


def load(model: nn.Module, path: Path, *, where: str) -> None:
    """Put a file's weights into a network; every key and every shape must fit.

    Args:
        model: the network; unchanged when the weights do not fit.
        path: a file that `read` can read.
        where: place in the recipe, for the message.

    Raises:
        InputError: as `read`, or keys are missing or unexpected, or shapes differ (the message names them).
    """
    own = model.state_dict()
    # A network may itself begin every name with "model.": of the file's keys with zero, one, … prefixes taken
    # off, the ones that fit best are used.
    best = state = _raw(path)
    while (stripped := _stripped(state)) is not None:
        state = stripped
        if len(own.keys() & state.keys()) > len(own.keys() & best.keys()):
            best = state
    problems = _problems(own, best)
    if problems:
        raise InputError(f"{where}: {path} does not fit {type(model).__name__}: {'; '.join(problems)}.")
    try:
        model.load_state_dict(best, strict=True)
    except RuntimeError as error:
        raise InputError(f"{where}: {path} does not fit {type(model).__name__}: {error}") from error


def _problems(own: Mapping[str, object], state: Mapping[str, Tensor]) -> list[str]:
    # Checkpoints from before torch 0.4.1 lack the counter of batches; BatchNorm itself fills it in.
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    shapes = [
        f"{key} (file {list(state[key].shape)}, model {list(value.shape)})"
        for key, value in own.items()
        if key in state and isinstance(value, Tensor) and value.shape != state[key].shape
    ]
    named = (
        ("missing in the file", missing),
        ("unexpected in the file", unexpected),
        ("other shape", shapes),
    )
    return [f"{len(keys)} {what}: {_some(keys)}" for what, keys in named if keys]


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:SHOWN]) + (", …" if len(keys) > SHOWN else "")


def save(
    model: nn.Module | Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a network's plain state as safetensors, whole or not at all.

    A reader finds the old file or the new one, never a part. Tensors that share memory are written once for
    each name. Equal weights and notes give equal bytes.

    Args:
        model: its `state_dict()` is written, from any device; or such a state itself.
        path: the file; an existing one is replaced.
        metadata: notes for the head of the file.

    Raises:
        WorkError: the disk is full or the folder cannot be written; an existing file is untouched.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with files.draft(path) as part:
        part.unlink(missing_ok=True)
        part.touch()
        rights = part.stat().st_mode  # the library gives them to the owner alone, whatever the umask says
        try:
            save_file(_plain(model), part, {"format": "pt", **(metadata or {})})
        except SafetensorError as error:
            raise OSError(f"{error}") from error
        with contextlib.suppress(OSError):  # not every file system has any
            part.chmod(rights)
        _order_notes(part)


def _plain(model: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors on the CPU, no two of which share memory."""
    plain: dict[str, Tensor] = {}
    seen: set[int] = set()
    for key, value in (model.state_dict() if isinstance(model, nn.Module) else model).items():
        tensor = value.detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        plain[key] = tensor.clone() if storage in seen else tensor
        seen.add(storage)
    return plain


def _order_notes(path: Path) -> None:
    """The library writes the notes in random order; sorted, equal weights give equal files."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        head = json.loads(file.read(length))
        head["__metadata__"] = dict(sorted(head["__metadata__"].items()))
        ordered = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
        if len(ordered) <= length:  # else a note is escaped in another way, and its order is left
            file.seek(8)
            file.write(ordered.ljust(length))
