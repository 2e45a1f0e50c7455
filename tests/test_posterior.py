"""The result object: statistics, checks, ArviZ containers and files."""

import json
import math

import pytest
import torch
import xarray
from torch import Tensor

from bayes1bit import posterior_io
from bayes1bit.errors import InputError
from bayes1bit.posterior import Posterior

NUM_SAMPLES, BITS = 600, 20


def probit_posterior(weighted=True):
    """A two-dimensional probit regression with a Gaussian prior, by importance sampling."""
    generator = torch.Generator().manual_seed(5)

    def randn(*shape):
        return torch.randn(*shape, generator=generator)

    A, x = randn(BITS, 2), torch.tensor([0.4, -0.8])
    y = torch.where(A @ x + randn(BITS) > 0, 1.0, -1.0)
    samples = randn(NUM_SAMPLES, 2) * 0.5 + x
    log_likelihood = torch.special.log_ndtr(samples @ A.T * y)
    posterior = Posterior(
        samples,
        weights=log_likelihood.sum(1).softmax(0),
        log_evidence=-12.25,
        nfe=12.5,
        seconds=1.75,
        algorithm="ImportanceSampling",
        settings={"rho": (8.0, 0.25), "levels": torch.arange(3), "steps": {"kind": "exact"}},
        attributes={"structure": "probit, row-orthogonal", "data_range": (-1.0, 1.0)},
        observed={"y": y},
        log_likelihood={"y": log_likelihood},
        predictive={"y": torch.where(samples @ A.T + randn(NUM_SAMPLES, BITS) > 0, 1.0, -1.0)},
        constants={"A": A, "rows": torch.arange(BITS), "kept": torch.tensor(True)},
    )
    return posterior if weighted else posterior.equally_weighted()


def picture_posterior(weighted=True):
    generator = torch.Generator().manual_seed(6)
    samples = torch.randn(5, 3, 4, 6, generator=generator, dtype=torch.float64)
    weights = torch.tensor([0.1, 0.0, 0.5, 0.2, 0.2]) if weighted else None
    return Posterior(samples, site="picture", weights=weights, nfe=7)


def assert_same(first: Posterior, second: Posterior):
    assert torch.equal(first.samples, second.samples)
    assert first.samples.dtype == second.samples.dtype
    if first.weights is None:
        assert second.weights is None
    else:
        assert torch.equal(first.weights, second.weights)
    for name in ("site", "log_evidence", "nfe", "seconds", "algorithm", "settings", "attributes"):
        assert getattr(first, name) == getattr(second, name)
    for name in ("observed", "log_likelihood", "predictive", "constants"):
        mine, theirs = getattr(first, name), getattr(second, name)
        assert mine.keys() == theirs.keys()
        for key, value in mine.items():
            assert value.dtype == theirs[key].dtype
            assert torch.equal(value, theirs[key])


# Statistics


def test_statistics_honour_weights():
    samples = torch.tensor([[0.0, 1.0], [4.0, 3.0], [100.0, 100.0]])
    posterior = Posterior(samples, weights=torch.tensor([3.0, 1.0, 0.0]))
    torch.testing.assert_close(posterior.mean, torch.tensor([1.0, 1.5]))
    # Variance 0.75 * 1 + 0.25 * 9 = 3, corrected by 1 - 10/16.
    torch.testing.assert_close(posterior.std[0], torch.tensor(math.sqrt(3 / 0.375)))
    assert posterior.effective_sample_size == pytest.approx(1.6)
    assert posterior.num_samples == 3
    assert posterior.event_shape == (2,)
    assert float(posterior.quantile(1.0).max()) <= 4.0


def test_interval_holds_a_new_gaussian_value_as_often_as_it_promises():
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(65, 20_000, generator=generator)
    covered = Posterior(draws[1:]).covers(draws[0], 0.9).double().mean()
    # Standard error sqrt(0.09 / 20000) = 0.002; interpolating the curved density adds 0.003.
    # The common definition of quantiles would give 0.872.
    assert float(covered) == pytest.approx(0.9, abs=0.01)


def test_weighted_interval_holds_a_new_gaussian_value_as_often_as_it_promises():
    generator = torch.Generator().manual_seed(1)
    truth = torch.randn(4000, generator=generator)
    proposals = 1.5 * torch.randn(256, 4000, generator=generator)
    log_weights = -(proposals**2) / 2 + (proposals / 1.5) ** 2 / 2
    weights = log_weights.softmax(0)
    covered = [
        bool(Posterior(proposals[:, i, None], weights=weights[:, i]).covers(truth[i, None]))
        for i in range(0, 4000, 4)
    ]
    # Standard error sqrt(0.09 / 1000) = 0.0095, three of them; without weights: 0.985.
    assert sum(covered) / len(covered) == pytest.approx(0.9, abs=0.03)


def test_interval_ends_are_quantiles():
    posterior = probit_posterior()
    lower, upper = posterior.interval(0.5)
    torch.testing.assert_close(lower, posterior.quantile(0.25))
    torch.testing.assert_close(upper, posterior.quantile(torch.tensor([0.75]))[0])


def test_resampling_keeps_draws_and_their_companions_together():
    posterior = probit_posterior()
    torch.manual_seed(3)
    draws = posterior.resample(50)
    assert draws.weights is None
    assert draws.num_samples == 50
    for i in range(50):
        origin = (posterior.samples == draws.samples[i]).all(1).nonzero()[0, 0]
        for name in ("log_likelihood", "predictive"):
            assert torch.equal(getattr(draws, name)["y"][i], getattr(posterior, name)["y"][origin])
    assert draws.observed.keys() == {"y"}
    assert draws.log_evidence == posterior.log_evidence


def test_resampling_follows_the_weights_and_the_generator():
    posterior = probit_posterior()
    many = posterior.resample(20_000)
    # Rounding 600 counts (standard deviation about 0.3 each) among 20000 draws of spread 0.3.
    torch.testing.assert_close(many.mean, posterior.mean, atol=5 * 600**0.5 * 0.09 / 2e4, rtol=0)
    generator = torch.Generator().manual_seed(4)
    first = posterior.resample(7, generator).samples
    assert torch.equal(first, posterior.resample(7, generator.manual_seed(4)).samples)
    assert posterior.resample().num_samples == NUM_SAMPLES
    assert Posterior(torch.randn(4, 2)).resample(2).num_samples == 2


def test_get_samples_are_equally_weighted():
    plain = Posterior(torch.randn(4, 2), site="signal")
    assert torch.equal(plain.get_samples()["signal"], plain.samples)
    samples = picture_posterior().get_samples()["picture"]
    assert samples.shape == (5, 3, 4, 6)
    # Cumulative weights 0.1, 0.1, 0.6, 0.8, 1 against the points 0.1, 0.3, 0.5, 0.7, 0.9.
    assert torch.equal(samples[1:], picture_posterior().samples[[2, 2, 3, 4]])


def test_summary_says_what_was_drawn():
    posterior = probit_posterior()
    posterior.attributes |= {"structure": "gradients only", "exactness": "as particles grow"}
    *_, structure, exactness = str(posterior.summary()).splitlines()
    assert structure.split(maxsplit=1) == ["structure", "gradients only"]
    assert exactness.split(maxsplit=1) == ["exactness", "as particles grow"]


def test_summary_gives_scalars_and_prints_them():
    posterior = probit_posterior()
    summary = posterior.summary(prob=0.8)
    lower, upper = posterior.interval(0.8)
    assert summary["num_samples"] == NUM_SAMPLES
    assert summary["effective_sample_size"] == posterior.effective_sample_size
    assert summary["mean_min"] == float(posterior.mean.min())
    assert summary["interval_width"] == pytest.approx(float((upper - lower).mean()))
    assert summary["std_average"] == pytest.approx(float(posterior.std.mean()))
    text = str(summary)
    assert "ImportanceSampling" in text
    assert "log_evidence" in text
    assert "-12.25" in text
    bare = Posterior(torch.randn(3, 2)).summary()
    assert bare["log_evidence"] is None
    assert bare["bit_agreement"] is None
    assert "bit_agreement" not in str(bare)


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_bit_agreement_is_a_weighted_vote(low):
    # Votes for the upper value: 0.9, 0.4, 0.5 (a tie), 1.
    draws = torch.tensor([[1, 0, 1, 1], [1, 1, 0, 1], [0, 0, 0, 1.0]])
    observed = torch.tensor([1, 1, 1, 1.0])
    posterior = Posterior(
        torch.randn(3, 2),
        weights=torch.tensor([0.5, 0.4, 0.1]),
        observed={"y": low + (1 - low) * observed, "level": torch.tensor([2.0])},
        predictive={"y": low + (1 - low) * draws, "level": torch.zeros(3, 1)},
    )
    assert posterior.summary()["bit_agreement"] == pytest.approx((1 + 0 + 0.5 + 1) / 4)


def test_repr_names_what_matters():
    text = repr(probit_posterior())
    for part in ("ImportanceSampling", "600 samples of x (2,)", "12.5 denoiser calls", "-12.25"):
        assert part in text
    assert "effective" not in repr(Posterior(torch.randn(3, 2)))


def test_settings_become_json_values():
    settings = {
        "levels": torch.tensor([1.0, 0.5]),
        "shape": torch.Size((3, 4)),
        "step": Tensor.add,
        "kind": dict,
        "dtype": torch.float32,
        3: None,
    }
    posterior = Posterior(torch.randn(3, 2), settings=settings)
    assert posterior.settings["levels"] == [1.0, 0.5]
    assert posterior.settings["shape"] == [3, 4]
    assert posterior.settings["kind"] == "dict"
    assert posterior.settings["dtype"] == "torch.float32"
    assert posterior.settings["3"] is None
    assert json.loads(json.dumps(posterior.settings)) == posterior.settings


# Checks


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": torch.zeros(3, 2).long()}, "dtype"),
        ({"samples": torch.zeros(3, 2).half()}, "dtype"),
        ({"samples": torch.zeros(0, 2)}, "at least one sample"),
        ({"samples": torch.tensor(1.0)}, "at least one sample"),
        ({"samples": torch.tensor([[0.0], [math.nan], [math.inf]])}, "2 of 3 samples"),
        ({"weights": torch.ones(4)}, "one weight per sample"),
        ({"weights": torch.tensor([0.5, 0.7, -0.2])}, "non-negative"),
        ({"weights": torch.zeros(3)}, "all weights are zero"),
        ({"log_evidence": math.nan}, "log_evidence"),
        ({"log_evidence": -math.inf}, "log_evidence"),
        ({"nfe": -1}, "nfe"),
        ({"seconds": math.nan}, "seconds"),
        ({"log_likelihood": {"y": torch.zeros(4, 5)}}, r"log_likelihood\['y'\]"),
        ({"predictive": {"z": torch.tensor(0.0)}}, r"predictive\['z'\]"),
        (
            {"observed": {"y": torch.zeros(6)}, "predictive": {"y": torch.zeros(3, 5)}},
            r"shape \(3, 6\)",
        ),
    ],
)
def test_bad_posteriors_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Posterior(**{"samples": torch.zeros(3, 2), **arguments})


@pytest.mark.parametrize("prob", [0.0, 1.0, 90, -0.5])
def test_interval_refuses_probabilities_outside_the_open_unit_interval(prob):
    for method in (Posterior(torch.randn(4, 2)).interval, Posterior(torch.randn(4, 2)).summary):
        with pytest.raises(InputError, match="prob"):
            method(prob)


def test_other_calls_refuse_bad_input():
    posterior = Posterior(torch.randn(4, 2))
    with pytest.raises(InputError, match=r"\(1, 2\).*\(2,\)"):
        posterior.covers(torch.zeros(1, 2))
    with pytest.raises(InputError, match="NaN"):
        posterior.covers(torch.tensor([0.0, math.nan]))
    with pytest.raises(InputError, match="at least 1"):
        posterior.resample(0)
    with pytest.raises(InputError, match="level"):
        posterior.quantile(1.5)


# ArviZ; what its functions say of each algorithm's posterior is in test_arviz.py


@pytest.fixture(scope="module")
def arviz():
    """ArviZ as the package imports it, without its daily announcement."""
    return posterior_io.import_arviz()


def test_arviz_groups_dimensions_and_attributes(arviz):
    data = probit_posterior().to_arviz()
    groups = set(data.children) if isinstance(data, xarray.DataTree) else set(data.groups())
    assert groups == {
        "posterior",
        "posterior_predictive",
        "log_likelihood",
        "sample_stats",
        "observed_data",
        "constant_data",
    }
    assert data.posterior["x"].dims == ("chain", "draw", "x_dim_0")
    assert data.log_likelihood["y"].shape == (1, NUM_SAMPLES, BITS)
    assert data.observed_data["y"].dims == ("y_dim_0",)
    assert data.constant_data["kept"].dims == ()
    assert data.attrs["algorithm"] == "ImportanceSampling"
    assert json.loads(data.attrs["settings"])["rho"] == [8.0, 0.25]
    assert data.attrs["structure"] == "probit, row-orthogonal"
    assert data.attrs["log_evidence"] == -12.25
    assert data.attrs["nfe"] == 12.5
    assert data.posterior.attrs["sampling_time"] == 1.75


def test_arviz_pictures_have_named_dimensions():
    data = picture_posterior().to_arviz()
    assert data.posterior["picture"].dims == ("chain", "draw", "channel", "height", "width")
    assert data.posterior["picture"].shape == (1, 5, 3, 4, 6)
    assert data.posterior["width"].values.tolist() == [0, 1, 2, 3, 4, 5]


def test_arviz_gets_resampled_draws_of_a_weighted_posterior():
    posterior = probit_posterior()
    data = posterior.to_arviz()
    assert f"resampled systematically from {NUM_SAMPLES}" in data.attrs["weights"]
    draws = torch.from_numpy(data.posterior["x"].values[0])
    # Rounding of 600 counts, as above, among 600 draws; without weights the mean is 0.3 away.
    torch.testing.assert_close(draws.mean(0), posterior.mean, atol=0.02, rtol=0)
    assert (draws.mean(0) - posterior.samples.mean(0)).abs().max() > 0.2
    particle = torch.from_numpy(data.sample_stats["particle"].values[0])
    assert torch.equal(posterior.samples[particle], draws)
    weight = torch.from_numpy(data.sample_stats["weight"].values[0])
    assert torch.equal(posterior.weights[particle], weight)
    lp = torch.from_numpy(data.sample_stats["lp"].values[0])
    torch.testing.assert_close(lp, posterior.log_likelihood["y"][particle].double().sum(1))
    assert torch.equal(
        torch.from_numpy(data.log_likelihood["y"].values[0]),
        posterior.log_likelihood["y"][particle],
    )


def test_arviz_gets_equal_draws_as_they_are():
    posterior = probit_posterior(weighted=False)
    data = posterior.to_arviz()
    assert data.attrs["weights"] == "equal"
    assert torch.equal(torch.from_numpy(data.posterior["x"].values[0]), posterior.samples)
    assert "particle" not in data.sample_stats


@pytest.mark.parametrize("weighted", [True, False])
def test_arviz_summarises_the_container(arviz, weighted):
    posterior = probit_posterior(weighted)
    data = posterior.to_arviz()
    summary = arviz.summary(data, round_to="none")
    draws = posterior.equally_weighted()
    assert summary.loc["x[0]", "mean"] == pytest.approx(float(draws.mean[0]), abs=1e-6)
    assert summary.loc["x[1]", "sd"] == pytest.approx(float(draws.std[1]), rel=1e-4)


def test_arviz_1_gets_a_data_tree(monkeypatch):
    versions = {"arviz": "1.2.0"}
    monkeypatch.setattr(
        posterior_io, "_version", lambda distribution: versions.get(distribution, "2.0")
    )
    posterior = probit_posterior()
    tree = posterior.to_arviz()
    assert isinstance(tree, xarray.DataTree)
    assert tree.attrs["algorithm"] == "ImportanceSampling"
    assert tree.attrs["pyro_version"] == "2.0"
    assert tree["posterior"]["x"].dims == ("chain", "draw", "x_dim_0")
    assert set(tree.children) >= {"posterior", "log_likelihood", "sample_stats", "observed_data"}


# Files


@pytest.mark.parametrize(
    "posterior",
    [
        probit_posterior(),
        probit_posterior(weighted=False),
        picture_posterior(),
        picture_posterior(weighted=False),
        Posterior(torch.randn(3), site="weight", observed={"y": torch.tensor([1, 0], dtype=bool)}),
        Posterior(torch.randn(3, 2), site="weight", weights=torch.rand(3)),
        Posterior(torch.randn(1, 2), constants={"gap": torch.tensor([1.0, math.nan])}).resample(2),
    ],
    ids=["weighted", "equal", "pictures", "equal-pictures", "scalars", "name-weight", "nan"],
)
def test_files_give_back_everything(posterior, tmp_path):
    path = tmp_path / "new" / "posterior.nc"
    posterior.save(path)
    loaded = Posterior.load(path)
    if "gap" in posterior.constants:
        for each in (posterior, loaded):
            each.constants["gap"] = each.constants["gap"].nan_to_num(7.0)
    assert_same(posterior, loaded)
    assert [entry.name for entry in path.parent.iterdir()] == ["posterior.nc"]


def test_saving_a_loaded_posterior_again_changes_nothing(tmp_path):
    probit_posterior().save(tmp_path / "first.nc")
    Posterior.load(tmp_path / "first.nc").save(tmp_path / "second.nc")
    assert_same(probit_posterior(), Posterior.load(tmp_path / "second.nc"))


def test_large_settings_fit_in_a_file(tmp_path):
    settings = {"levels": torch.linspace(0, 1, 20_000)}
    posterior = Posterior(torch.randn(2, 2), settings=settings)
    posterior.save(tmp_path / "posterior.nc")
    assert Posterior.load(tmp_path / "posterior.nc").settings == posterior.settings


@pytest.mark.parametrize("weighted", [True, False])
def test_arviz_opens_the_file(arviz, tmp_path, weighted):
    posterior = probit_posterior(weighted)
    posterior.save(tmp_path / "posterior.nc")
    data = arviz.from_netcdf(tmp_path / "posterior.nc")
    expected = posterior.to_arviz()
    assert (data.posterior["x"] == expected.posterior["x"]).all()
    assert (data.observed_data["y"] == expected.observed_data["y"]).all()
    assert data.attrs["algorithm"] == "ImportanceSampling"
    assert (data.log_likelihood["y"] == expected.log_likelihood["y"]).all()
    data.close()


def test_xarray_opens_the_file_as_a_tree(tmp_path):
    probit_posterior().save(tmp_path / "posterior.nc")
    with xarray.open_datatree(tmp_path / "posterior.nc", engine="h5netcdf") as tree:
        assert tree["posterior"]["x"].shape == (1, NUM_SAMPLES, 2)
        assert tree["particles"]["weight"].shape == (NUM_SAMPLES,)


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "posterior.nc"
    write, calls = xarray.Dataset.to_netcdf, []

    def interrupted(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return write(self, *args, **kwargs)

    monkeypatch.setattr(xarray.Dataset, "to_netcdf", interrupted)
    with pytest.raises(KeyboardInterrupt):
        probit_posterior().save(path)
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"old")
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        probit_posterior().save(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "posterior.nc"
    probit_posterior().save(path)
    whole = path.read_bytes()

    def refusal(content):
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            Posterior.load(path)
        assert "posterior.nc" in str(caught.value)
        return str(caught.value)

    assert "damaged or not a NetCDF file" in refusal(whole[: len(whole) // 2])
    assert "damaged or not a NetCDF file" in refusal(whole[:-1])
    assert "damaged or not a NetCDF file" in refusal(b"")
    assert "damaged or not a NetCDF file" in refusal(b"\x80\x04\x95not a pickle either")
    path.unlink()
    xarray.Dataset({"x": ("n", [1.0, 2.0])}).to_netcdf(path, engine="h5netcdf")
    assert "format = 'bayes1bit posterior 1'" in refusal(path.read_bytes())


@pytest.mark.parametrize("compressible", [True, False])
def test_flipped_bits_are_found(tmp_path, compressible):
    path = tmp_path / "posterior.nc"
    generator = torch.Generator().manual_seed(0)
    # Nearly all of the file is this one array; what does not shrink must be guarded too.
    levels = 2 if compressible else 256
    values = torch.randint(0, levels, (200_000,), dtype=torch.uint8, generator=generator)
    Posterior(torch.randn(2, 2), constants={"values": values}).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        Posterior.load(path)


def test_incomplete_files_are_refused(tmp_path):
    import h5py

    path = tmp_path / "posterior.nc"
    for part in ("particles/posterior", "particles/weight"):
        probit_posterior().save(path)
        with h5py.File(path, "a") as file:
            del file[part]
        with pytest.raises(InputError, match=r"posterior\.nc is not a complete posterior file"):
            Posterior.load(path)
    probit_posterior().save(path)
    with h5py.File(path, "a") as file:
        del file.attrs["settings"]
    with pytest.raises(InputError, match="not a complete posterior file"):
        Posterior.load(path)


def test_paths_that_cannot_be_used_are_refused(tmp_path):
    posterior = Posterior(torch.randn(3, 2))
    with pytest.raises(InputError, match="no such file"):
        Posterior.load(tmp_path / "missing.nc")
    with pytest.raises(InputError, match="no such file"):
        Posterior.load(tmp_path)
    with pytest.raises(InputError, match="folder"):
        posterior.save(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        posterior.save(tmp_path / "file" / "posterior.nc")


@pytest.mark.parametrize("site", ["scope/x", "draw", ""])
def test_names_that_netcdf_cannot_hold_are_refused(site, tmp_path):
    posterior = Posterior(torch.randn(3, 2), site=site)
    with pytest.raises(InputError, match="rename"):
        posterior.save(tmp_path / "posterior.nc")
    with pytest.raises(InputError, match="rename"):
        posterior.to_arviz()
    assert list(tmp_path.iterdir()) == []


def test_types_that_netcdf_cannot_hold_are_refused(tmp_path):
    for dtype in (torch.float16, torch.bfloat16, torch.complex64):
        posterior = Posterior(torch.randn(3, 2), constants={"c": torch.ones(2, dtype=dtype)})
        with pytest.raises(InputError, match="dtype"):
            posterior.save(tmp_path / "posterior.nc")


def test_plot_passes_its_options_on():
    posterior = Posterior(torch.randn(6, 8, 8))
    figure = posterior.plot(torch.zeros(8, 8), num_samples=2, prob=0.5)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0] == "truth"
    assert sum(title.startswith("sample") for title in titles) == 2
    assert titles[-1].startswith("visibly outside 50%")
