"""Where and how the arithmetic runs: device, precision, processes, compile. A thin layer over Accelerate."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from limbeck.errors import InputError, WorkError, unknown
from limbeck.knowledge import Batch
from limbeck.training import sharding
from limbeck.training.devices import (
    AUTO,
    PRECISIONS,
    check_device,
    check_together,
    fitting_precision,
)
from limbeck.training.failures import explained

__all__ = ["Runtime"]


class Runtime:
    """One process's view of the machine.

    Args:
        device: `auto` (what Accelerate finds), `cpu`, `cuda`, `mps`.
        precision: `fp32`, or autocast in `bf16` or `fp16`; `auto`: fp32 on a CPU, else bf16 where the device
            has it, else fp16.
        compile: compile the scheme and the teacher, in place, so that no parameter changes its name.
        channels_last: keep images and convolution weights in that memory order, which is faster on most
            hardware.
        graphs: compiled trainings record each step once and replay it (CUDA graphs), so that the device
            waits for no Python.
        threads: number of CPU threads; None leaves it as it is.
        shard: which networks are shared out among several processes, `teacher`, `student` or both; one
            process has them whole.

    Raises:
        InputError: unknown precision, a device that is not here, or one that several processes would share.
    """

    def __init__(
        self,
        device: str = "auto",
        precision: str = "fp32",
        compile: bool = False,
        channels_last: bool = True,
        threads: int | None = None,
        shard: Sequence[str] = (),
        graphs: bool = False,
    ) -> None:
        from accelerate import Accelerator, DistributedDataParallelKwargs
        from accelerate.state import AcceleratorState

        if precision not in (*PRECISIONS, AUTO):
            raise unknown("precision", precision, (*PRECISIONS, AUTO), where="train.precision")
        check_device(device)
        precision = fitting_precision(device) if precision == AUTO else precision
        if threads is not None:
            torch.set_num_threads(threads)
        self._spread = DistributedDataParallelKwargs()
        # Accelerate keeps one precision a process; a run that needs another starts it anew.
        AcceleratorState._reset_state(reset_partial_state=device != "auto")
        self.accelerator = Accelerator(
            mixed_precision=PRECISIONS[precision],
            # Left to itself, Accelerate takes several processes without an accelerator for several runs.
            cpu=device.startswith("cpu") or (device == "auto" and not torch.accelerator.is_available()),
            device_placement=False,
            step_scheduler_with_optimizer=False,
            kwargs_handlers=[self._spread],
        )
        scaler = self.accelerator.scaler
        self._scaling = None if scaler is None else scaler.state_dict()
        self.precision = precision
        self.compile = compile or graphs
        self.graphs = graphs
        self.channels_last = channels_last
        # Accelerate chooses the kind; a numbered device is the user's own choice among several.
        self.device: torch.device = torch.device(device) if ":" in device else self.accelerator.device
        if precision == "fp16" and self.device.type == "cpu":
            raise InputError("train.precision: fp16 needs a GPU; on a CPU use bf16 or fp32.")
        self.rank: int = self.accelerator.process_index
        self.world: int = self.accelerator.num_processes
        self._plain = precision == "fp32"
        if graphs and self.device.type != "cuda":
            raise InputError(f"train.compile: graphs are CUDA's, and this runs on {self.device}; give true.")
        self._shard = tuple(shard)
        if self.world > 1:
            check_together(device, self._shard, compile)

    @property
    def main(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    def shards(self, part: str) -> bool:
        """Whether a network, `teacher` or `student`, is shared out among the processes."""
        return self.world > 1 and part in self._shard

    def place(self, module: nn.Module, part: str = "", learns: bool = False) -> None:
        """Move a module to the device, in this runtime's memory order.

        Args:
            module: what is moved, in place.
            part: what it is, `teacher` or `student`: shared out among the processes where that is to be.
            learns: it is trained.

        Raises:
            InputError: it cannot be trained in parts with this precision.
        """
        if self.shards(part):
            if learns and self.precision == "fp16":
                raise InputError(
                    f"train.shard: a {part} that is trained in parts needs train.precision: bf16 or fp32; "
                    "fp16's scaling of gradients does not look at all parts of them."
                )
            sharding.shard(module, self.device)
            return
        module.to(self.device)
        # torch refuses that order for tensors of five dimensions, such as the weights of Conv3d.
        if self.channels_last and all(t.dim() < 5 for t in (*module.parameters(), *module.buffers())):
            module.to(memory_format=torch.channels_last)

    def put(self, batch: Batch) -> Batch:
        """Move a batch to the device, in this runtime's memory order."""
        if self.device.type != "cpu":
            batch = batch.to(self.device)
        if self.channels_last and isinstance(batch.input, Tensor) and batch.input.dim() == 4:
            ordered = batch.input.contiguous(memory_format=torch.channels_last)
            if ordered is not batch.input:
                batch = replace(batch, input=ordered)
        return batch

    def wrap(self, scheme: nn.Module, unreached: bool = False) -> nn.Module:
        """The scheme ready to be called: compiled where asked, and spread over the processes.

        Args:
            scheme: what is called.
            unreached: it holds trainable parameters that its loss does not depend on, so several processes
                must find out in each pass which ones to exchange.
        """
        if sharding.is_sharded(scheme):
            return sharding.Sharded(scheme, self.autocast)
        if self.compile:
            scheme.compile(mode="reduce-overhead") if self.graphs else scheme.compile()
        if self.world == 1 and self._plain:
            return scheme  # nothing to wrap: Accelerate would return the module as it is
        self.accelerator.free_memory()  # it holds on to all that it ever wrapped
        self._spread.find_unused_parameters = unreached
        return cast(nn.Module, self.accelerator.prepare_model(scheme, device_placement=False))

    def scaler(self) -> Any:
        """The scaler of gradients that fp16 needs, as good as new; None where nothing is scaled.

        A training must not depend on the one before it, which a resumed run does not repeat.
        """
        if self._scaling is not None:
            self.accelerator.scaler.load_state_dict(self._scaling)
        return self.accelerator.scaler

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision's autocast, for what runs outside the wrapped scheme (the teacher)."""
        return contextlib.nullcontext() if self._plain else self.accelerator.autocast()

    def kept(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """A step's losses without their history; copied where the next step writes over them."""
        return {n: v.detach().clone() if self.graphs else v.detach() for n, v in losses.items()}

    def backward(self, loss: Tensor) -> None:
        """Back-propagate, scaled where the precision needs it."""
        if self._plain:
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it bare
        else:
            self.accelerator.backward(loss)

    @contextlib.contextmanager
    def no_sync(self, wrapped: nn.Module) -> Iterator[None]:
        """Leave the exchange of gradients to the last part of an accumulated batch."""
        if isinstance(wrapped, sharding.Sharded):
            paused: AbstractContextManager[Any] = wrapped.no_sync()
        else:
            paused = self.accelerator.no_sync(wrapped)
        with paused:
            yield

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over the processes."""
        return value if self.world == 1 else cast(Tensor, self.accelerator.reduce(value, "mean"))

    def gather(self, value: Tensor) -> Tensor:
        """Rows of all processes, in the order of the processes; they may hold unequal numbers of rows."""
        if self.world == 1:
            return value
        import torch.distributed as dist

        counts = [0] * self.world
        dist.all_gather_object(counts, int(value.shape[0]))
        room = value.new_zeros((max(counts), *value.shape[1:]))
        room[: value.shape[0]] = value
        parts = [torch.empty_like(room) for _ in counts]
        dist.all_gather(parts, room)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def same_buffers(self, module: nn.Module) -> None:
        """Give all processes the first one's buffers (BatchNorm statistics differ between them)."""
        self.same(module.buffers())

    def same(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes what the first one's tensors hold."""
        if self.world > 1:
            import torch.distributed as dist

            for tensor in tensors:
                dist.broadcast(tensor.detach(), 0)

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Say in words what it means when memory runs out, or the exchange with another process fails.

        Raises:
            WorkError: in place of the error of the library that met it.
        """
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            told = explained(error, self.device, self.world)
            if told is None:
                raise
            raise told from error

    def first(self, action: Callable[[], object]) -> None:
        """Let the first process do something, such as writing files, while the others wait.

        Raises:
            InputError, WorkError: the action raised it; it is raised in all processes.
        """
        failed: Exception | None = None
        if self.main:
            try:
                action()
            except (InputError, WorkError) as error:
                failed = error
        if self.world > 1:
            import torch.distributed as dist

            told: list[Any] = [None if failed is None else (_kind(failed), str(failed))]
            dist.broadcast_object_list(told, src=0)
            if failed is None and told[0] is not None:
                failed = told[0][0](told[0][1])
        if failed is not None:
            raise failed

    def told(self, word: str) -> str:
        """The first process's word, in all of them."""
        if self.world == 1:
            return word
        import torch.distributed as dist

        words = [word]
        dist.broadcast_object_list(words, src=0)
        return words[0]

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.world > 1:
            self.accelerator.wait_for_everyone()


def _kind(failed: Exception) -> type[Exception]:
    """What an error is raised as in the other processes; those of InputError may want more than a message."""
    return InputError if isinstance(failed, InputError) else type(failed)
