"""Training in several processes, one for each GPU, started by ``accelerate launch`` or torchrun.

Every process draws the whole batch of a step, which depends on (seed, step) alone, and takes its
share of it; gradients and losses are averaged over the processes before the optimiser moves, so
that all of them hold the same weights throughout. The first process alone writes. Apart from
rounding, and from dropout, the result does not depend on how many there are.
"""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bayes1bit.errors import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator


class Processes:
    """The processes that train together; most often, this one alone.

    Args:
        device: The device that was asked for. With several processes on GPUs, each has its own.
        batch_size: Signals per step, over all processes.

    Raises:
        InputError: If there are several processes, but not the package ``accelerate``, or if the
            batch cannot be divided among them.
    """

    _accelerator: "Accelerator | None"

    def __init__(self, device: str | torch.device, batch_size: int) -> None:
        self.device, self.index, self.count = torch.device(device), 0, 1
        self._accelerator = None
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise InputError(
                "training in several processes needs the package accelerate: "
                "pip install 'bayes1bit[train]'"
            ) from error
        accelerator = Accelerator(cpu=self.device.type == "cpu")
        self._accelerator, self.device = accelerator, accelerator.device
        self.index, self.count = accelerator.process_index, accelerator.num_processes
        if batch_size % self.count:
            raise InputError(
                f"training.batch_size = {batch_size} cannot be divided among {self.count} "
                "processes; take a multiple"
            )

    @property
    def is_main(self) -> bool:
        """Whether this process writes, and shows progress."""
        return self.index == 0

    def share(self, tensor: Tensor) -> Tensor:
        """This process's part of a batch, on its device."""
        return tensor.chunk(self.count)[self.index].to(self.device)

    def seed(self, step_seed: int) -> int:
        """Seed of what a network draws in a step: another in every process."""
        return (step_seed + self.index * 0x85EBCA6B) % 2**32

    def average(self, loss: Tensor, parameters: Iterable[nn.Parameter]) -> Tensor:
        """Replace gradients by their averages over the processes.

        Args:
            loss: This process's loss, shape ().
            parameters: Those whose gradients to average.

        Returns:
            The loss averaged over the processes, shape ().
        """
        loss = loss.detach()
        if self._accelerator is None:
            return loss
        gradients = [p.grad for p in parameters if p.grad is not None]
        # all in one message
        flat = torch.cat([loss.reshape(1).float(), *(g.flatten() for g in gradients)])
        flat = self._accelerator.reduce(flat, "mean")
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, average in zip(gradients, flat[1:].split(sizes), strict=True):
            gradient.copy_(average.view_as(gradient))
        return flat[0]

    def wait(self) -> None:
        """Let every process come this far."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()

    def end(self) -> None:
        """Take leave of the other processes."""
        if self._accelerator is not None:
            self._accelerator.end_training()
