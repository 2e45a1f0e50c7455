r"""Networks of variance-preserving diffusion, in the package's one noise convention.

Such a network was trained on :math:`x_t = \sqrt{\bar\alpha_t}\, x + \sqrt{1 - \bar\alpha_t}\,
\varepsilon` at steps t. Divided by :math:`\sqrt{\bar\alpha_t}` this is :math:`x_\sigma = x +
\sigma\,\varepsilon` with

.. math:: \sigma_t = \sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}, \qquad
          x_t = x_\sigma / \sqrt{1 + \sigma_t^2}

(Karras et al., NeurIPS 2022, appendix C.1), so one change of variables, made here and nowhere
else, is all that the two conventions differ by.
"""

from collections.abc import Sequence
from typing import Literal, Unpack, get_args

import torch
from torch import Tensor, nn

from bayes1bit.diffusion.adapters.settings import PriorSettings
from bayes1bit.diffusion.denoiser import Denoiser
from bayes1bit.diffusion.prior import DiffusionPrior
from bayes1bit.errors import InputError

Prediction = Literal["epsilon", "v_prediction", "sample"]


class VariancePreservingDenoiser(Denoiser):
    r"""A variance-preserving network as a denoiser.

    With the network's output F at :math:`x_t = x / \sqrt{1 + \sigma^2}`, the clean mean is

    .. math::

        D(x, \sigma) = \begin{cases}
            x - \sigma F & \text{epsilon (Ho et al., NeurIPS 2020)} \\
            x / (1 + \sigma^2) - \sigma F / \sqrt{1 + \sigma^2}
                & \text{v\_prediction (Salimans and Ho, ICLR 2022)} \\
            F & \text{sample}
        \end{cases}

    The network's time is the index of a trained step. A level between two steps gets a fractional
    index, linear in :math:`\log \sigma`: embeddings of sines and cosines are as good there. A
    level beyond the trained ones is answered at the nearest trained time, with the formula of the
    level that is asked for; so the answer tends to ``x`` as sigma tends to zero. Nothing is
    clipped to the data range.

    Args:
        network: Module called as ``network(x_t, t)``, shapes (batch, *event) and (batch,). Twice
            as many channels as the signal has are taken for the mean and a learned variance
            (Nichol and Dhariwal, ICML 2021), which is dropped. It runs in the type of its weights.
        alphas_cumprod: :math:`\bar\alpha_t` of each step, from little to much noise, shape (T,).
        prediction_type: What the network was trained to predict.

    Raises:
        InputError: If ``alphas_cumprod`` does not decrease strictly between 1 and 0, or
            ``prediction_type`` is unknown.
    """

    log_levels: Tensor

    def __init__(
        self,
        network: nn.Module,
        alphas_cumprod: Tensor | Sequence[float],
        prediction_type: Prediction = "epsilon",
    ) -> None:
        super().__init__()
        share = torch.as_tensor(alphas_cumprod, dtype=torch.float64)
        inside = share.ndim == 1 and len(share) > 1 and bool(((share > 0) & (share < 1)).all())
        if not inside or not bool((share.diff() < 0).all()):
            raise InputError(
                "alphas_cumprod must decrease strictly from step to step, within 1 and 0 and "
                "without reaching them; a schedule that ends in pure noise (zero terminal SNR) "
                "has an infinite last level: leave that step out"
            )
        if prediction_type not in get_args(Prediction):
            known = ", ".join(get_args(Prediction))
            raise InputError(f'prediction_type can be {known}; got "{prediction_type}"')
        levels = ((1 - share) / share).sqrt()
        self.network, self.prediction_type = network, prediction_type
        self.sigma_min, self.sigma_max = float(levels[0]), float(levels[-1])
        # float32, as networks without parameters take their type from it
        self.register_buffer("log_levels", levels.log().float(), persistent=False)

    def time(self, sigma: Tensor) -> Tensor:
        """Fractional index of the trained step of each level, same shape, clamped to the ends."""
        grid = self.log_levels
        inside = sigma.to(grid).log().clamp(grid[0], grid[-1])
        right = torch.searchsorted(grid, inside).clamp(1, len(grid) - 1)
        left = right - 1
        return left + (inside - grid[left]) / (grid[right] - grid[left])

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """See :meth:`Denoiser.forward`.

        Raises:
            InputError: If the network's output has neither the channels of the signal nor twice
                as many, or another size.
        """
        levels = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(len(x))
        s = levels.view(-1, *[1] * (x.ndim - 1))
        norm = (1 + s.square()).sqrt()
        weight_dtype = next(self.network.parameters(), x).dtype
        output = self.network((x / norm).to(weight_dtype), self.time(levels))
        if output.shape[1] == 2 * x.shape[1]:
            output = output[:, : x.shape[1]]
        if output.shape != x.shape:
            raise InputError(
                f"the network answers signals of shape {tuple(x.shape)} with {tuple(output.shape)}"
                "; expected the same shape, or twice the channels with a learned variance"
            )
        output = output.to(x.dtype)
        if self.prediction_type == "epsilon":
            return x - s * output
        if self.prediction_type == "v_prediction":
            return (x / norm - s * output) / norm
        return output


def from_variance_preserving(
    network: nn.Module,
    alphas_cumprod: Tensor | Sequence[float],
    event_shape: Sequence[int],
    *,
    prediction_type: Prediction = "epsilon",
    data_range: tuple[float, float] | None = (-1.0, 1.0),
    **settings: Unpack[PriorSettings],
) -> DiffusionPrior:
    r"""A prior from any network of variance-preserving diffusion in discrete time.

    Args:
        network: See :class:`VariancePreservingDenoiser`; it is frozen and set to evaluation.
        alphas_cumprod: :math:`\bar\alpha_t` of each step, shape (T,).
        event_shape: Shape of one signal.
        prediction_type: "epsilon", "v_prediction" or "sample".
        data_range: Lowest and highest value of clean signals, as the network was trained on.
        **settings: See :class:`~bayes1bit.diffusion.adapters.settings.PriorSettings`.

    Returns:
        The prior; its smallest and largest level are those of the schedule.

    Raises:
        InputError: If the schedule or a setting is outside its domain.
    """
    denoiser = VariancePreservingDenoiser(network, alphas_cumprod, prediction_type)
    denoiser.requires_grad_(False).eval()
    return DiffusionPrior(
        denoiser,
        event_shape,
        denoiser.sigma_min,
        denoiser.sigma_max,
        data_range=data_range,
        **settings,
    )
