r"""The denoiser contract: one noise convention for the whole package.

A noisy signal is always :math:`x_\sigma = x + \sigma\,\varepsilon`, with no scaling of the signal,
and a denoiser returns the posterior mean :math:`D(x_\sigma, \sigma) = E[x \mid x_\sigma]`.
By Tweedie's formula that one function also gives the score of the smoothed prior,
:math:`\nabla \log p_\sigma(x) = (D(x, \sigma) - x) / \sigma^2`.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Denoiser(nn.Module, ABC):
    """Base class of all denoisers, in the convention ``x_sigma = x + sigma * eps``."""

    @abstractmethod
    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Posterior mean of the clean signal.

        Args:
            x: Noisy signals, shape (batch, *event).
            sigma: Noise standard deviation in units of the signal, shape () or (batch,).

        Returns:
            ``E[x | x_sigma]``, shape (batch, *event).
        """


class KarrasDenoiser(Denoiser):
    r"""A network with the preconditioning of Karras et al. (NeurIPS 2022), table 1.

    .. math::

        D(x, \sigma) = c_{skip}\, x + c_{out}\, F(c_{in}\, x, c_{noise}), \quad
        c_{skip} = \frac{\sigma_d^2}{\sigma^2 + \sigma_d^2}, \quad
        c_{out} = \frac{\sigma \sigma_d}{\sqrt{\sigma^2 + \sigma_d^2}}, \quad
        c_{in} = \frac{1}{\sqrt{\sigma^2 + \sigma_d^2}}

    so that input and training target of the network have unit variance at every level. The level
    enters as ``label_scale * log(sigma)``; with the default of 10 the fastest wave of a sinusoidal
    embedding turns once per factor of about two in sigma. The network runs in the type of its own
    weights, whatever that of ``x``.

    Args:
        network: Module called as ``network(x, noise_label)``, shapes (batch, *event) and (batch,).
        sigma_data: Standard deviation of the clean signal, in its own units.
        autocast: Reduced-precision type of the network's matrix products, or None for the
            type of the weights. Pre- and post-scaling stay in the type of ``x``.
        label_scale: Factor of ``log(sigma)`` in the label; 1/4 in the published networks.
    """

    def __init__(
        self,
        network: nn.Module,
        sigma_data: float,
        autocast: torch.dtype | None = None,
        *,
        label_scale: float = 10.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.sigma_data = sigma_data
        self.autocast = autocast
        self.label_scale = label_scale

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """See :meth:`Denoiser.forward`."""
        levels = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(len(x))
        s = levels.view(-1, *[1] * (x.ndim - 1))
        total = s.square() + self.sigma_data**2
        with torch.autocast(x.device.type, self.autocast, enabled=self.autocast is not None):
            weight_dtype = next(self.network.parameters(), x).dtype
            output = self.network(
                (x / total.sqrt()).to(weight_dtype),
                (self.label_scale * levels.log()).to(weight_dtype),
            )
        skip, out = self.sigma_data**2 / total, s * self.sigma_data / total.sqrt()
        return skip * x + out * output.to(x.dtype)
