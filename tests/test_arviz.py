"""ArviZ's own functions on the posterior of every algorithm, in its old and in its new version."""

import warnings

import matplotlib
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray
from short_runs import SHORT

from bayes1bit.diagnostics import compare_loo, leave_one_out
from bayes1bit.diagnostics.comparison import relative_efficiency
from bayes1bit.diffusion import GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer import ALGORITHMS
from bayes1bit.infer.registry import make_algorithm
from bayes1bit.observation import OneBit
from bayes1bit.operators import Hadamard
from bayes1bit.posterior import Posterior
from bayes1bit.posterior_io import import_arviz

matplotlib.use("agg")

# a fifth of the draws is a whole number, which versions of ArviZ round differently if it is not
NUM_SAMPLES, BITS = 40, 12
ESTIMATES = ("sim-dmis", "biht", "plan-vershynin")
"""Algorithms whose samples are one estimate."""


@pytest.fixture(scope="module")
def arviz():
    return import_arviz()


@pytest.fixture(scope="module")
def posteriors():
    """Get the posterior of an algorithm by name; each is made once."""
    made = {}

    def get(name: str) -> Posterior:
        if name not in made:
            made[name] = run(name)
        return made[name]

    return get


def run(name: str) -> Posterior:
    pyro.set_rng_seed(0)
    prior = GaussianMixturePrior(torch.randn(3, 4, 4), 0.4)
    operator = Hadamard((4, 4), BITS, seed=0)
    dither = 0.5 * torch.randn(BITS)

    def model(y=None):
        x, scale = pyro.sample("x", prior), torch.tensor(0.5)
        if name == "joint-gibbs":
            scale = pyro.sample("scale", dist.LogNormal(-1.0, 0.5))
        return pyro.sample("y", OneBit(operator(x), scale, dither).to_event(1), obs=y)

    y = pyro.condition(model, {"scale": torch.tensor(0.5)})()
    spec = f"{name} {SHORT.get(name, '')}"
    posterior = make_algorithm(spec, model, num_samples=NUM_SAMPLES, progress=False).run(y)
    # scored here as a reader of the paper would, sample by sample
    scale = posterior.latents.get("scale", torch.full((posterior.num_samples,), 0.5))
    output = torch.stack([operator(x) for x in posterior.samples])
    expected = torch.special.log_ndtr(y * (output - dither) / scale[:, None]).double()
    torch.testing.assert_close(posterior.log_likelihood["y"], expected, atol=1e-4, rtol=1e-4)
    return posterior


def called(function, *args, **options):
    """Call a function of ArviZ, whose advice about few draws is not an error here."""
    from matplotlib import pyplot

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return function(*args, **options)
        finally:
            pyplot.close("all")


@pytest.mark.parametrize("name", ALGORITHMS)
def test_arviz_takes_the_posterior(arviz, posteriors, name):
    posterior = posteriors(name)
    data = posterior.to_arviz()
    draws = posterior.equally_weighted()
    summary = called(arviz.summary, data, round_to="none")
    means = [summary.loc[f"x[{i}, {j}]", "mean"] for i in range(4) for j in range(4)]
    assert means == pytest.approx(draws.mean.flatten().tolist(), abs=1e-5)
    assert ("scale" in summary.index) is (name == "joint-gibbs")
    chains = posterior.num_chains
    assert data.log_likelihood["y"].shape == (chains, draws.num_samples // chains, BITS)
    assert called(arviz.plot_trace, data, var_names=["x"], coords={"x_dim_0": 0}) is not None
    # ArviZ 1.x tests whether chains agree, and refuses one chain
    if hasattr(arviz, "plot_ppc") or chains > 1:
        coords = {"x_dim_0": [0], "x_dim_1": [1]}
        assert called(arviz.plot_rank, data, var_names=["x"], coords=coords) is not None
    if posterior.num_samples > 1:
        plot_ppc = arviz.plot_ppc if hasattr(arviz, "plot_ppc") else arviz.plot_ppc_dist
        assert (
            called(
                plot_ppc,
                data,
                **{"num_pp_samples": 5} if plot_ppc.__name__ == "plot_ppc" else {"num_samples": 5},
            )
            is not None
        )


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name not in ESTIMATES])
def test_arviz_scores_the_predictions(arviz, posteriors, name):
    posterior = posteriors(name)
    data = posterior.to_arviz()
    # of which ArviZ's versions take their own
    loo = called(arviz.loo, data, pointwise=True, reff=relative_efficiency(posterior))
    assert loo.n_data_points == BITS
    fitted = posterior.log_likelihood["y"].double().exp().mean(0).log().sum()
    elpd = loo.elpd if hasattr(loo, "elpd") else loo.elpd_loo
    # left out, a bit is predicted worse than by the fit that has seen it
    assert float(elpd) < float(fitted) + 1e-6
    value, k = leave_one_out(posterior)
    assert float(value.sum()) == pytest.approx(float(elpd), abs=1e-3)
    assert k.shape == value.shape == (BITS,)
    if hasattr(arviz, "waic"):
        waic = called(arviz.waic, data)
        variance = posterior.log_likelihood["y"].double().var(0, correction=0).sum()
        assert waic.elpd_waic == pytest.approx(float(fitted - variance), abs=1e-3)


def test_arviz_compares_algorithms(arviz, posteriors):
    names = ["split-gibbs-smc", "moment-matched", "nuts"]
    group = {name: posteriors(name) for name in names}
    # ArviZ 1.x rounds its tables to what their errors allow
    exact = {} if hasattr(arviz, "waic") else {"round_to": "none"}
    table = called(arviz.compare, {name: group[name].to_arviz() for name in names}, **exact)
    ours = compare_loo(group)
    column = "elpd_loo" if "elpd_loo" in table else "elpd"
    assert set(table.index) == set(names)
    for name, value in zip(ours.names, ours.elpd.tolist(), strict=True):
        # with a relative efficiency of its own, which tells in 40 draws
        assert float(table.loc[name, column]) == pytest.approx(value, abs=1.0)


@pytest.mark.parametrize("name", ESTIMATES)
def test_estimates_have_nothing_to_leave_out(posteriors, name):
    with pytest.raises(InputError, match=r"one estimate"):
        leave_one_out(posteriors(name))


@pytest.mark.parametrize("name", ["split-gibbs-smc", "joint-gibbs"])
def test_files_are_opened_as_arviz_opens_them(arviz, posteriors, tmp_path, name):
    """ArviZ 1.x opens a file as a tree of datasets, ArviZ 0.x as its own container."""
    posterior = posteriors(name)
    posterior.save(tmp_path / "posterior.nc")
    expected = posterior.to_arviz()
    with xarray.open_datatree(tmp_path / "posterior.nc", engine="h5netcdf") as tree:
        for group in ("posterior", "log_likelihood", "observed_data", "sample_stats"):
            for variable in tree[group].data_vars:
                assert (tree[group][variable] == expected[group][variable]).all()
        assert tree.attrs["algorithm"] == posterior.algorithm
    data = arviz.from_netcdf(tmp_path / "posterior.nc")
    loo, again = (called(arviz.loo, each, pointwise=True) for each in (expected, data))
    assert again.pareto_k.values == pytest.approx(loo.pareto_k.values, abs=1e-6)
    data.close()


def test_new_arviz_accepts_the_tree():
    arviz_base = pytest.importorskip("arviz_base", reason="ArviZ 1.x needs Python 3.12")
    if int(arviz_base.__version__.split(".")[0]) < 1:
        pytest.skip("arviz-base before 1.0")
    posterior = Posterior(torch.randn(12, 2), num_chains=3)
    tree = posterior.to_arviz()
    assert isinstance(tree, xarray.DataTree)
    extracted = arviz_base.extract(tree, var_names="x", combined=True)
    assert extracted.sizes["sample"] == 12
    assert arviz_base.convert_to_datatree(tree)["posterior"]["x"].shape == (3, 4, 2)
