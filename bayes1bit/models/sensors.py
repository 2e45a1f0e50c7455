"""Sensors: photons counted by one bit, converters of a few bits, channels of unknown gain."""

import pyro
import torch
from pyro import distributions as dist
from torch import Tensor
from torch.distributions import constraints

from bayes1bit.diffusion import DiffusionPrior
from bayes1bit.errors import InputError
from bayes1bit.models.checks import (
    Model,
    check_event_shape,
    check_indices,
    check_one_bit,
    check_parameter,
)
from bayes1bit.observation import Link, OneBit, PhotonDetection, Quantized
from bayes1bit.operators import Identity, LinearOperator
from bayes1bit.special import log_sigmoid

_FAINT = -12.0
"""Argument below which two terms of log softplus's series are exact in double precision."""


def quanta_image_sensor(
    prior: DiffusionPrior,
    max_flux: float | Tensor,
    *,
    exposures: Tensor | None = None,
    dark: float | Tensor = 0.0,
    softness: float | Tensor = 0.05,
    operator: LinearOperator | None = None,
) -> Model:
    r"""A picture from pixels that say only whether they saw a photon.

    In frame f of exposure :math:`\tau_f` pixel i reports 1 if it detected at least one photon of a
    Poisson number of mean :math:`\lambda_{f i}`:

    .. math::

        P(y_{f i} = 1) = 1 - e^{-\lambda_{f i}}, \qquad
        \lambda_{f i} = \tau_f\, (\mathrm{flux}(t_i) + \mathrm{dark}), \qquad t = A x

        \mathrm{flux}(t) = \mathrm{max\_flux} \cdot \mathrm{softness} \cdot
        \log\Big(1 + \exp\frac{1 + t}{2\, \mathrm{softness}}\Big)

    The flux is the affine map of [-1, 1] to [0, ``max_flux``], bent so that it stays positive: at
    t = -1 it is 0.7 ``softness`` of ``max_flux``, and above t = -0.4 straight to 0.05% (for a
    softness of 0.05). A mean count near 1 tells most; frames of different exposure widen the
    range.

    Args:
        prior: Prior of pictures with values in [-1, 1].
        max_flux: Photons detected per unit of exposure where t = 1, positive; quantum efficiency
            and gain are part of it. A number or shape (m,).
        exposures: Exposure of each frame, positive, shape (frames,); one frame of exposure 1 by
            default.
        dark: Dark counts per unit of exposure, at least 0; a number or shape (m,).
        softness: Width of the bend as a share of ``max_flux``, positive; a number or shape (m,).
        operator: Optics A before the pixels; by default every element of the signal has a pixel.

    Returns:
        A Pyro model of ``"y"``, 0 and 1 of shape (frames, m).

    Raises:
        InputError: If the operator is for other signals or a setting is outside its domain.

    References:
        Yang, Lu, Sbaiz and Vetterli, *Bits from photons*, IEEE Trans. Image Process. 21 (2012);
        Chan, Elgendy and Wang, *Images from bits: non-iterative image reconstruction for quanta
        image sensors*, Sensors 16 (2016).
    """
    if operator is None:
        operator = Identity(prior.event_shape).to(prior.device)
    check_event_shape(prior, operator)
    optics = operator
    check_parameter("max_flux", max_flux, optics.m, constraints.positive, "positive")
    check_parameter("dark", dark, optics.m, constraints.nonnegative, "at least 0")
    check_parameter("softness", softness, optics.m, constraints.positive, "positive")
    times = torch.ones(1) if exposures is None else exposures
    if not isinstance(times, Tensor) or times.ndim != 1 or len(times) == 0:
        got = tuple(times.shape) if isinstance(times, Tensor) else type(times).__name__
        raise InputError(f"exposures must be a tensor of shape (frames,), not {got}")
    check_parameter("exposures", times, len(times), constraints.positive, "positive")
    log_times = times.to(prior.device, prior.dtype).log()[:, None]
    # numbers go straight to the signal's type: by way of single precision they would lose digits
    bend, flux, counts = (
        torch.as_tensor(value, dtype=prior.dtype, device=prior.device)
        for value in (softness, max_flux, dark)
    )
    log_unit, log_dark = (flux * bend).log(), counts.log()

    def model(y: Tensor | None = None) -> Tensor:
        x = pyro.sample("x", prior)
        log_flux = log_unit + _log_softplus((1 + optics(x)) / (2 * bend))
        log_rate = torch.logaddexp(log_flux, log_dark).unsqueeze(-2) + log_times
        measured: Tensor = pyro.sample("y", PhotonDetection(log_rate).to_event(2), obs=y)
        return measured

    return model


def dithered_adc(
    prior: DiffusionPrior,
    operator: LinearOperator,
    scale: float | Tensor,
    *,
    bits: int,
    full_scale: float,
    dither: float | Tensor = 0.0,
) -> Model:
    r"""An analogue-to-digital converter of b bits, with dither and saturation.

    With steps :math:`\Delta = 2^{1 - b}\, \mathrm{full\_scale}`, the code is

    .. math:: y_i = \min\Big(2^b - 1, \max\Big(0, \Big\lfloor
              \frac{a_i x + \mathrm{dither}_i + \mathrm{scale} \cdot \varepsilon_i +
              \mathrm{full\_scale}}{\Delta} \Big\rfloor\Big)\Big), \qquad \varepsilon \sim N(0, I).

    The first and the last code take all that lies beyond the range, so saturated codes are right
    data, not errors. Dither is known: it moves the edges of the steps differently for each
    measurement, so that together they see what lies within a step. The usual law is uniform over
    one step, ``step * (torch.rand(m) - 0.5)``.

    Args:
        prior: Prior of the signal.
        operator: Sensing operator A for signals of ``prior.event_shape``.
        scale: Standard deviation of the noise before the converter in units of A x, positive; a
            number or shape (m,).
        bits: Bits b of the converter, 1 to 16.
        full_scale: Half of the converter's range, which is [-full_scale, full_scale], in units of
            A x, positive.
        dither: What was added before the converter, in units of A x; a number or shape (m,).

    Returns:
        A Pyro model of ``"y"``, codes 0 to 2^b - 1 of shape (m,).

    Raises:
        InputError: If the operator is for other signals or a setting is outside its domain.

    References:
        Schuchman, *Dither signals and their effect on quantization noise*, IEEE Trans. Commun.
        Technol. 12 (1964); Xu and Jacques, *Quantized compressive sensing with RIP matrices: the
        benefit of dithering*, Information and Inference 9 (2020).
    """
    check_event_shape(prior, operator)
    check_parameter("scale", scale, operator.m, constraints.positive, "positive")
    check_parameter("full_scale", full_scale, 1, constraints.positive, "positive")
    check_parameter("dither", dither, operator.m, constraints.real, "finite")
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 16:
        raise InputError(f"bits must be a whole number from 1 to 16, got {bits!r}")
    codes = torch.arange(1, 2**bits, dtype=torch.float64)
    edges = (full_scale * (codes / 2 ** (bits - 1) - 1)).to(prior.device, prior.dtype)

    def model(y: Tensor | None = None) -> Tensor:
        x = pyro.sample("x", prior)
        code = Quantized(operator(x) + dither, scale, edges)
        measured: Tensor = pyro.sample("y", code.to_event(1), obs=y)
        return measured

    return model


def unknown_gain_cs(
    prior: DiffusionPrior,
    operator: LinearOperator,
    scale: float | Tensor,
    channels: Tensor,
    threshold: float | Tensor,
    *,
    spread: float = 0.5,
    link: Link = "probit",
) -> Model:
    r"""One-bit compressed sensing by channels whose gains are unknown.

    .. math:: y_i = \operatorname{sign}(g_{c_i}\, a_i x - \mathrm{threshold}_i +
              \mathrm{scale} \cdot \mathrm{noise}_i), \qquad
              \log g_c \sim N(0, \mathrm{spread}^2)

    Channel c amplifies by g before its comparator, whose noise and thresholds are known. Gains are
    the site ``"gain"``: :class:`~bayes1bit.infer.JointGibbs` infers them with the signal, or
    ``pyro.condition(model, {"gain": g})`` fixes them. Signs about zero say little about a gain, so
    let the thresholds vary within each channel (dither) over the range of the outputs.

    Args:
        prior: Prior of the signal.
        operator: Sensing operator A for signals of ``prior.event_shape``.
        scale: Scale of the comparators' noise in units of g A x, positive; a number or shape (m,).
        channels: Channel of each measurement, whole numbers from 0, shape (m,), ``torch.int64``.
        threshold: Level that g A x is compared with; a number or shape (m,).
        spread: Standard deviation of the logarithm of a gain, positive.
        link: Law of the noise, ``"probit"`` (normal) or ``"logistic"``.

    Returns:
        A Pyro model of ``"gain"``, positive numbers of shape (max(channels) + 1,), and of ``"y"``,
        -1 and +1 of shape (m,).

    Raises:
        InputError: If the operator is for other signals, a setting is outside its domain, or
            channels are not such numbers.

    References:
        Bilen, Puy, Gribonval and Daudet, *Convex optimization approaches for blind sensor
        calibration using sparsity*, IEEE Trans. Signal Process. 62 (2014).
    """
    check_event_shape(prior, operator)
    check_one_bit(operator.m, scale, threshold, link, 0.0)
    check_parameter("spread", spread, 1, constraints.positive, "positive")
    check_indices("channels", channels, (operator.m,))
    zeros = torch.zeros(int(channels.max()) + 1, dtype=prior.dtype, device=prior.device)

    def model(y: Tensor | None = None) -> Tensor:
        x = pyro.sample("x", prior)
        gain = pyro.sample("gain", dist.LogNormal(zeros, spread).to_event(1))
        bits = OneBit(gain[..., channels] * operator(x), scale, threshold, link=link)
        measured: Tensor = pyro.sample("y", bits.to_event(1), obs=y)
        return measured

    return model


def _log_softplus(u: Tensor) -> Tensor:
    """log(log(1 + exp(u))), also where the logarithm inside underflows."""
    faint = u < _FAINT
    v = torch.where(faint, u, _FAINT).exp()
    series = u - v / 2 + 5 * v.square() / 24
    exact = torch.log(-log_sigmoid(-torch.where(faint, 0.0, u)))
    return torch.where(faint, series, exact)
