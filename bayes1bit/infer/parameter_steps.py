r"""Draws of unknown parameters given the signal.

All chains are moved at once, each by a density of its own, :math:`\log p(z_i) + \log p(y | x_i,
z_i)` in unconstrained coordinates. Two families:

* **Slice sampling** (Neal, *Slice sampling*, Annals of Statistics 31, 2003), coordinate by
  coordinate. Under the density at the present point a level is drawn; an interval is stepped out
  until both its ends lie below that level; points are drawn from it until one lies above, and the
  interval shrinks to every point that does not. It has no step size that could be wrong, and
  needs no gradient.
* **Hamiltonian Monte Carlo**, Pyro's HMC or NUTS (Hoffman and Gelman, JMLR 2014), on the product
  of the chains: the potential is the sum of theirs. It moves all coordinates together, so that it
  is the better one for parameters that depend on each other, and for many.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

LogDensity = Callable[[Tensor], Tensor]
"""Log density of every chain: shape (chains, d) to (chains,)."""

_STEPS_OUT = 16
"""Most widths that an interval is stepped out to."""
_SHRINKAGES = 100
"""Most points drawn from an interval: after that many it has shrunk to the present point."""


class ParameterStep(ABC):
    """Base class of draws of parameters."""

    @abstractmethod
    def __call__(self, log_density: LogDensity, z: Tensor) -> Tensor:
        """Move every chain by a transition that leaves its density invariant.

        Args:
            log_density: The densities, up to a constant for each chain.
            z: Unconstrained parameters, shape (chains, d).

        Returns:
            New parameters, shape of ``z``.
        """


class SliceStep(ParameterStep):
    """Slice sampling of each coordinate in turn, with stepping out and shrinkage.

    Args:
        width: Width of a step out for each coordinate, shape (d,): about that of the density.
            It changes the time that a draw takes, not its law.
    """

    def __init__(self, width: Tensor) -> None:
        self.width = width

    @torch.no_grad()
    def __call__(self, log_density: LogDensity, z: Tensor) -> Tensor:
        """See :meth:`ParameterStep.__call__`."""

        def value_at(z: Tensor) -> Tensor:
            return log_density(z).nan_to_num(nan=-torch.inf)

        value = value_at(z)
        for i, width in enumerate(self.width):
            value, z = self._along(value_at, value, z, i, width)
        return z

    def _along(
        self, log_density: LogDensity, value: Tensor, z: Tensor, i: int, width: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Draw coordinate ``i`` of all chains."""
        start = z[:, i]

        def at(coordinate: Tensor) -> Tensor:
            moved = z.clone()
            moved[:, i] = coordinate
            return moved

        level = value + torch.rand_like(value).log()
        lower = start - width * torch.rand_like(start)
        upper = lower + width
        # the steps are shared out at random, which the interval's symmetry needs
        down = (_STEPS_OUT * torch.rand_like(start)).floor()
        lower = _step_out(lambda c: log_density(at(c)) > level, lower, -width, down)
        upper = _step_out(
            lambda c: log_density(at(c)) > level, upper, width, _STEPS_OUT - 1 - down
        )
        waiting = torch.ones_like(start, dtype=torch.bool)
        chosen, new_value = start, value
        for _ in range(_SHRINKAGES):
            point = torch.lerp(lower, upper, torch.rand_like(start))
            candidate = log_density(at(torch.where(waiting, point, chosen)))
            accepted = waiting & (candidate > level)
            chosen = torch.where(accepted, point, chosen)
            new_value = torch.where(accepted, candidate, new_value)
            waiting = waiting & ~accepted
            if not waiting.any():
                break
            lower = torch.where(waiting & (point < start), point, lower)
            upper = torch.where(waiting & (point >= start), point, upper)
        return new_value, at(chosen)

    def __repr__(self) -> str:
        return "SliceStep()"


def _step_out(
    inside: Callable[[Tensor], Tensor], end: Tensor, step: Tensor, budget: Tensor
) -> Tensor:
    """Move an end of each interval until it is outside or its budget of steps is used up."""
    moving = budget > 0
    while moving.any():
        moving = moving & inside(end)
        end = torch.where(moving, end + step, end)
        budget = budget - moving.to(budget)
        moving = moving & (budget > 0)
    return end


class HamiltonianStep(ParameterStep):
    """One transition of Pyro's NUTS or HMC on the product of all chains.

    Args:
        kind: "nuts" or "hmc".
        num_warmup: Number of first calls, in which step size and diagonal mass matrix are adapted.
    """

    def __init__(self, kind: Literal["nuts", "hmc"], num_warmup: int) -> None:
        self.kind, self.num_warmup = kind, num_warmup
        self._kernel: Any = None
        self._log_density: LogDensity | None = None

    def __call__(self, log_density: LogDensity, z: Tensor) -> Tensor:
        """See :meth:`ParameterStep.__call__`."""
        self._log_density = log_density
        with torch.enable_grad():
            if self._kernel is None:
                self._kernel = self._set_up(z)
            # the densities have changed since the last call: signals have moved
            self._kernel.clear_cache()
            moved: Tensor = self._kernel.sample({"z": z.detach()})["z"]
        return moved.detach()

    def _potential(self, state: dict[str, Tensor]) -> Tensor:
        assert self._log_density is not None
        return -self._log_density(state["z"]).sum()

    def _set_up(self, z: Tensor) -> Any:
        from pyro.infer import HMC, NUTS

        kernel = {"nuts": NUTS, "hmc": HMC}[self.kind](potential_fn=self._potential)
        kernel.initial_params = {"z": z.detach()}
        kernel.setup(self.num_warmup)
        return kernel

    def __repr__(self) -> str:
        return f"HamiltonianStep(kind={self.kind!r}, num_warmup={self.num_warmup})"
