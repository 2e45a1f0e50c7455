"""Can I put my own sensor in? A photon-counting camera in ten lines.

A quanta image sensor reports for each pixel and each of many short frames one bit: whether at
least one photon arrived. With a mean of ``lambda`` photons per frame the chance of a 1 is
``1 - exp(-lambda)``. No distribution of this package describes it, so we write the model with
Pyro's own ``Bernoulli``, and everything else stays as it is.

Run it from top to bottom: ``python tutorials/own_observation_model.py``. It takes under a minute
and writes ``photons.png``.
"""

import pyro
import pyro.distributions as dist
import torch

import bayes1bit as b1

pyro.set_rng_seed(0)
prior = b1.load_prior("fashion32")

# 1. The sensor. Pixel values lie in [-1, 1]; `exposure` is the mean number of photons per frame
#    that a white pixel receives. Softplus keeps the rate positive wherever an algorithm may look.
frames, exposure = 4, 1.0


def model(y=None):
    x = pyro.sample("x", prior)
    brightness = torch.nn.functional.softplus(10 * (x + 1) / 2) / 10
    one = -torch.expm1(-exposure * brightness)  # 1 - exp(-rate), exact for small rates
    per_frame = dist.Bernoulli(probs=one.clamp(1e-6, 1 - 1e-6)).expand([frames, *x.shape])
    return pyro.sample("y", per_frame.to_event(4), obs=y)


# 2. The model is the simulator: condition it on a picture and run it.
path = b1.shipped_priors()["fashion32"] / "examples" / "bag.png"
truth = b1.pictures.read_signal(path, prior.event_shape, prior.data_range)
y = pyro.condition(model, {"x": truth})()
print(f"{int(y.sum())} ones among {y.numel()} bits")

# 3. The model is the likelihood, too. There is no linear operator here, so algorithms use
#    gradients, and say so. Every pixel has bits of its own here, so the prior gets its full
#    weight, lambda_ = 1; the default of 0.1 suits compressed measurements.
posterior = b1.infer.DiffOneBit(model, num_samples=4, num_levels=40, lambda_=1.0).run(y)
print(posterior.attributes["structure"])
print(posterior.summary())

# 4. How good is it? Beside it stands what the bits alone say: the average over frames.
naive = y.mean(0).clamp(max=0.95)
naive = 2 * (-torch.log1p(-naive) / exposure).clamp(max=1) - 1
psnr = b1.diagnostics.psnr
print(f"PSNR of the bits alone: {psnr(naive, truth, 2.0):.1f} dB")
print(f"PSNR of the posterior mean: {psnr(posterior.mean, truth, 2.0):.1f} dB")
posterior.plot(truth=truth, extra={"bits alone": naive}).savefig("photons.png")

# Exercise: give the sensor a dark count, so that a pixel without light still fires with
# probability 0.02. One line of the model changes.
