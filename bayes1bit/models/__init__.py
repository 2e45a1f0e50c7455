r"""Ready-made Pyro models.

Each function here returns an ordinary Pyro model: a signal ``"x"`` drawn from a diffusion prior,
and measurements ``"y"`` of it, which the model takes as its one optional argument. One object
simulates, predicts and is conditioned::

    model = one_bit_cs(prior, Hadamard(prior.event_shape, m=256), scale=0.5)
    y = model()
    posterior = DiffOneBit(model).run(y)
    replicated = Predictive(model, posterior.get_samples())()["y"]

They are short enough to be read, and to be copied when a model needs one line more: a second
sensor, an unknown scale.

What they have in common is that measurements are event dimensions (``.to_event(1)``), that signals
keep whatever dimensions plates put in front, and that settings are checked when the model is made,
so that nothing has to be checked when it runs.

==============================  ==================================  ==============================
model                           one measurement                     law
==============================  ==================================  ==============================
:func:`one_bit_cs`              sign of a noisy number              probit or logistic, flips
:func:`quantized_cs`            bin of a noisy number               probit or logistic
:func:`dithered_adc`            code of a converter of b bits       probit
:func:`heavy_tailed_cs`         number with outliers                Student's t
:func:`super_resolution`        pixel of a small picture            normal
:func:`quanta_image_sensor`     whether a photon was seen           Poisson
:func:`unknown_gain_cs`         sign, by a channel of unknown gain  probit or logistic
:func:`logistic_regression`     outcome of two                      logistic
:func:`classification_images`   yes or no to a picture of noise     logistic
:func:`ordinal_regression`      category of several in order        logistic or probit
:func:`bradley_terry`           which of two items wins             logistic or probit
==============================  ==================================  ==============================
"""

from bayes1bit.models.checks import Model, check_event_shape, check_one_bit, check_parameter
from bayes1bit.models.comparisons import bradley_terry
from bayes1bit.models.compressed_sensing import (
    heavy_tailed_cs,
    one_bit_cs,
    quantized_cs,
    super_resolution,
)
from bayes1bit.models.psychophysics import classification_images, observer_gain
from bayes1bit.models.regression import logistic_regression, ordinal_regression
from bayes1bit.models.sensors import dithered_adc, quanta_image_sensor, unknown_gain_cs

__all__ = [
    "Model",
    "bradley_terry",
    "check_event_shape",
    "check_one_bit",
    "check_parameter",
    "classification_images",
    "dithered_adc",
    "heavy_tailed_cs",
    "logistic_regression",
    "observer_gain",
    "one_bit_cs",
    "ordinal_regression",
    "quanta_image_sensor",
    "quantized_cs",
    "super_resolution",
    "unknown_gain_cs",
]
