r"""How wrong a denoiser is at each noise level.

How far the denoiser's answer is from the truth decides how much noise an honest reverse step must
add (:class:`bayes1bit.diffusion.solvers.VarianceCorrected`), and where levels should lie
(:func:`bayes1bit.diffusion.levels.adapted_levels`).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from bayes1bit.errors import InputError


class ErrorTable:
    r"""Mean squared denoising error per dimension, :math:`r^2(\sigma)`, as a table over levels.

    .. math::

        r^2(\sigma) = \tfrac1n\, E \lVert x - D(x + \sigma \varepsilon, \sigma) \rVert^2

    Between levels the error is interpolated linearly in log-log; below the lowest level it falls
    as :math:`\sigma^2`, above the highest it stays what it is there (the variance of the prior).

    Args:
        sigma: Different levels in any order, shape (levels,).
        error: Mean squared error at each level, shape (levels,).

    Raises:
        InputError: If the shapes differ, an entry is not positive and finite, or a level occurs
            twice.
    """

    def __init__(self, sigma: Tensor | Sequence[float], error: Tensor | Sequence[float]) -> None:
        sigma = torch.as_tensor(sigma, dtype=torch.float64).cpu()
        error = torch.as_tensor(error, dtype=torch.float64).cpu()
        if sigma.ndim != 1 or sigma.shape != error.shape or len(sigma) < 2:
            raise InputError(
                "an error table needs two lists of equal length, at least 2: got shapes "
                f"{tuple(sigma.shape)} and {tuple(error.shape)}"
            )
        for values in (sigma, error):
            if not (torch.isfinite(values) & (values > 0)).all():
                raise InputError("levels and errors of an error table must be positive and finite")
        order = sigma.argsort()
        self.sigma, self.error = sigma[order], error[order]
        if not (self.sigma.diff() > 0).all():
            raise InputError("a level occurs twice in the error table; give each level once")

    def __call__(self, sigma: float | Tensor) -> Tensor:
        """Mean squared error per dimension at ``sigma``, same shape, float64 on the CPU."""
        query = torch.as_tensor(sigma, dtype=torch.float64).cpu()
        grid, values = self.sigma.log(), self.error.log()
        # clamped to the table: both tails are handled by their known laws below
        inside = query.log().clamp(grid[0], grid[-1])
        right = torch.searchsorted(grid, inside).clamp(1, len(grid) - 1)
        left = right - 1
        fraction = (inside - grid[left]) / (grid[right] - grid[left])
        error = (values[left] + fraction * (values[right] - values[left])).exp()
        return error * (query / self.sigma[0]).clamp(max=1).square()

    @classmethod
    def measure(
        cls,
        denoise: Callable[[Tensor, Tensor], Tensor],
        clean: Tensor,
        sigma: Tensor,
        *,
        batch_size: int = 128,
        seed: int = 2718,
        progress: bool = False,
    ) -> "ErrorTable":
        """Measure the error of a denoiser on clean signals that it was not trained on.

        Args:
            denoise: The denoiser, called with shapes (batch, *event) and ().
            clean: Held-out signals, shape (count, *event).
            sigma: Levels to measure, shape (levels,).
            batch_size: Signals per call.
            seed: Seed of the noise, which must not be that of the signals. Every level sees the
                same draws, which keeps the table smooth.
            progress: Whether to show a progress bar.

        Returns:
            The table of mean squared errors.
        """
        errors = torch.zeros(len(sigma), dtype=torch.float64)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            batches = clean.split(batch_size)
            for batch in tqdm(batches, "denoising error", disable=not progress, unit="batch"):
                eps = torch.randn(batch.shape, generator=generator).to(batch)
                for i, level in enumerate(sigma.tolist()):
                    estimate = denoise(batch + level * eps, torch.tensor(level).to(batch))
                    errors[i] += (estimate - batch).double().square().sum().item()
        return cls(sigma, errors / clean.numel())
