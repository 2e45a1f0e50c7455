"""Measurements: bits of the right law, files that come back, and files that must not."""

import json

import h5py
import pyro
import pytest
import torch
import xarray
from pyro import poutine

from bayes1bit import operators
from bayes1bit.diffusion import DiffusionPrior, GaussianMixturePrior
from bayes1bit.errors import InputError
from bayes1bit.infer import DiffOneBit, ProximalStep
from bayes1bit.measurement import Measurement

EVENT = (1, 4, 4)
MATRIX = torch.randn(8, 16, generator=torch.Generator().manual_seed(1))
OPERATORS = {
    "Hadamard": operators.Hadamard(EVENT, 8, seed=5),
    "DCT": operators.DCT(EVENT, 8, seed=5),
    "Gaussian": operators.Gaussian(EVENT, 8, seed=5),
    "Dense": operators.Dense(MATRIX, EVENT),
    "Dense double": operators.Dense(MATRIX.double(), EVENT),
    "Identity": operators.Identity(EVENT),
    "Downsample": operators.Downsample(EVENT, 2, "bicubic"),
}
X = torch.linspace(-1, 1, 16).reshape(EVENT)


def simulate(operator=OPERATORS["Hadamard"], **settings):
    pyro.set_rng_seed(0)
    return Measurement.simulate(X, operator, **{"scale": 0.5, **settings})


@pytest.mark.parametrize("link", ["probit", "logistic"])
def test_bits_have_the_stated_law(link):
    n, threshold, flip = 40_000, 0.2, 0.1
    pyro.set_rng_seed(0)
    measurement = Measurement.simulate(
        torch.full((n,), 0.6),
        operators.Identity(n),
        scale=0.5,
        threshold=threshold,
        flip=flip,
        link=link,
    )
    z = torch.tensor((0.6 - threshold) / 0.5)
    chance = torch.special.ndtr(z) if link == "probit" else torch.sigmoid(z)
    chance = (1 - 2 * flip) * chance + flip
    share = (measurement.y > 0).double().mean()
    # four standard errors of a share of n bits
    assert abs(share - chance) < 4 * (0.25 / n) ** 0.5
    assert measurement.y.dtype == torch.int8


def test_thresholds_are_those_of_their_own_bits():
    thresholds = torch.where(torch.arange(16) % 2 == 0, -50.0, 50.0)
    measurement = simulate(operators.Identity(EVENT), threshold=thresholds)
    assert measurement.y.tolist() == [1, -1] * 8


@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize("dithered", [False, True])
def test_file_round_trip(tmp_path, kind, dithered):
    operator = OPERATORS[kind]
    thresholds = torch.linspace(-1, 1, operator.m, dtype=torch.float64)
    saved = simulate(
        operator,
        scale=1 / 3,
        link="logistic",
        threshold=thresholds if dithered else 0.1,
        flip=0.05,
        data_range=(-1, 1.5),
        keep_truth=dithered,
    )
    saved.save(tmp_path / "m.nc")
    loaded = Measurement.load(tmp_path / "m.nc")
    torch.testing.assert_close(loaded.y, saved.y, rtol=0, atol=0)
    for name in ("scale", "link", "flip", "data_range", "created", "version", "event_shape"):
        assert getattr(loaded, name) == getattr(saved, name)
    torch.testing.assert_close(loaded.threshold, saved.threshold, rtol=0, atol=0)
    assert torch.equal(loaded.operator(X), operator(X))
    assert type(loaded.operator) is type(operator)
    assert loaded.operator.dtype == operator.dtype
    if dithered:
        assert torch.equal(loaded.truth, X)
    else:
        assert loaded.truth is None
    assert repr(loaded) == repr(saved)


def test_bits_are_stored_compactly(tmp_path):
    m = 16384
    pyro.set_rng_seed(0)
    measurement = Measurement.simulate(torch.zeros(m), operators.Identity(m), scale=1.0)
    measurement.save(tmp_path / "m.nc")
    with h5py.File(tmp_path / "m.nc") as file:
        # deflate codes a coin flip with less than 1.5 bits
        assert file["y"].id.get_storage_size() * 8 < 1.5 * m
    assert Measurement.load(tmp_path / "m.nc").data_range is None


def test_a_file_is_replaced_only_when_complete(tmp_path, monkeypatch):
    path = tmp_path / "m.nc"
    simulate().save(path)
    before = path.read_bytes()

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(xarray.Dataset, "to_netcdf", interrupt)
    with pytest.raises(KeyboardInterrupt):
        simulate(scale=2.0).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def prior():
    means = torch.stack([X, -X])
    return GaussianMixturePrior(means, 0.3)


def test_model_scores_the_bits_as_they_were_drawn(prior):
    thresholds = torch.linspace(-1, 1, 8, dtype=torch.float64)
    measurement = simulate(threshold=thresholds, flip=0.1)
    model = poutine.condition(measurement.model(prior), data={"x": X})
    trace = poutine.trace(model).get_trace(measurement.y)
    z = measurement.y * (measurement.operator(X) - thresholds) / 0.5
    expected = (0.8 * torch.special.ndtr(z) + 0.1).log().sum()
    log_prob = trace.nodes["y"]["fn"].log_prob(measurement.y)
    torch.testing.assert_close(log_prob.double(), expected, rtol=1e-5, atol=0)


def test_model_follows_the_type_of_the_prior(prior):
    measurement = simulate(threshold=torch.zeros(8))
    double = GaussianMixturePrior(prior.means.double(), 0.3)
    algorithm = DiffOneBit(measurement.model(double), 2, num_levels=2, progress=False)
    assert algorithm.run(measurement.y).samples.dtype == torch.float64


def test_recovery_from_a_file_agrees_with_the_truth(tmp_path, prior):
    simulate(operators.Hadamard(EVENT, 16), scale=0.1).save(tmp_path / "m.nc")
    measurement = Measurement.load(tmp_path / "m.nc")
    algorithm = DiffOneBit(
        measurement.model(prior), 8, num_levels=20, data_step=ProximalStep(), progress=False
    )
    posterior = algorithm.run(measurement.y)
    # the prior's components are X and -X, and 16 nearly noiseless bits tell which
    assert ((posterior.mean - X).square().mean()) < (X.square().mean()) / 4


def test_model_refuses_a_prior_of_other_signals(prior):
    flat = Measurement(torch.ones(8), operators.Hadamard((16,), 8), scale=0.5)
    with pytest.raises(InputError, match="make the operator with"):
        flat.model(prior)


def test_model_refuses_a_prior_of_another_range(prior):
    other = DiffusionPrior(prior.denoiser, EVENT, 0.01, 10.0, data_range=(0.0, 1.0))
    simulate(data_range=None).model(other)
    simulate(data_range=(-1, 1)).model(prior)
    with pytest.raises(InputError, match=r"\[-1.0, 1.0\], but signals of the prior have \[0.0"):
        simulate(data_range=(-1, 1)).model(other)


BITS = torch.ones(8)
HADAMARD = OPERATORS["Hadamard"]
REFUSED = {
    "count": ({"y": torch.ones(5)}, r"\(5,\), but the operator makes 8 measurements"),
    "zeros": ({"y": torch.tensor([0.0, 1] * 4)}, "4 of its 8 values are others, such as 0"),
    "NaN bits": ({"y": torch.full((8,), torch.nan)}, "y must hold -1 and [+]1 only"),
    "bool bits": ({"y": torch.ones(8, dtype=torch.bool)}, "y must hold -1 and [+]1 only"),
    "scale": ({"scale": 0.0}, "scale must be positive"),
    "scales": ({"scale": torch.ones(8)}, "scale must be one number"),
    "flips": ({"flip": torch.zeros(8)}, "flip must be one number"),
    "flip": ({"flip": 0.7}, "flip must be at least 0"),
    "link": ({"link": "cauchit"}, "link must be"),
    "threshold": ({"threshold": torch.full((8,), torch.nan)}, "threshold must be finite"),
    "integers": ({"threshold": torch.zeros(8, dtype=torch.int64)}, "must be floating point"),
    "range": ({"data_range": (1.0, -1.0)}, r"data_range must be \(low, high\)"),
    "infinite range": ({"data_range": (0.0, torch.inf)}, r"data_range must be \(low, high\)"),
    "truth shape": ({"truth": torch.zeros(16)}, r"truth has shape \(16,\)"),
    "truth NaN": ({"truth": torch.full(EVENT, torch.nan)}, "truth holds NaN"),
    "truth range": ({"truth": 3 * X, "data_range": (-1.0, 1.0)}, "truth has values from -3 to 3"),
    "truth type": ({"truth": torch.zeros(EVENT, dtype=torch.int64)}, "must be floating point"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_parts_that_do_not_fit_are_refused(case):
    settings, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        Measurement(**{"y": BITS, "operator": HADAMARD, "scale": 0.5, **settings})


@pytest.mark.parametrize(
    ("x", "settings", "message"),
    [
        (X[0], {}, "the signal has shape"),
        (X * torch.nan, {}, "the signal holds NaN"),
        (X, {"data_range": (0, 1)}, r"from -1 to 1, but the data range is \[0, 1\]"),
        (X, {"data_range": (1, 0)}, "data_range must be"),
        (X, {"scale": -1.0}, "scale must be positive"),
        (X, {"threshold": torch.zeros(3)}, "threshold has shape"),
    ],
)
def test_signals_that_cannot_be_measured(x, settings, message):
    with pytest.raises(InputError, match=message):
        Measurement.simulate(x, HADAMARD, **{"scale": 0.5, **settings})


def test_files_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="it is a folder"):
        simulate().save(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        simulate().save(tmp_path / "file" / "m.nc")

    class Unregistered(operators.Identity):
        kind = ""

    with pytest.raises(InputError, match="Unregistered cannot be saved"):
        simulate(Unregistered(EVENT)).save(tmp_path / "m.nc")
    assert not (tmp_path / "m.nc").exists()


def refusal(path, *parts):
    """Load a file that must be refused, and check that the message names it."""
    with pytest.raises(InputError) as error:
        Measurement.load(path)
    message = str(error.value)
    for part in (str(path), *parts):
        assert part in message


def test_files_that_are_not_measurements(tmp_path):
    refusal(tmp_path / "missing.nc", "there is no file", "give a measurement file")
    refusal(tmp_path, "there is no file")
    for content in (b"", b"hello", b"\x89HDF\r\n\x1a\nhello"):
        (tmp_path / "a.nc").write_bytes(content)
        refusal(tmp_path / "a.nc", "damaged or not a NetCDF file; expected a measurement file")
    xarray.Dataset({"y": ("m", [1, -1])}).to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    refusal(tmp_path / "b.nc", "is a NetCDF file of another kind", "measurement 1")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.999])
def test_cut_files(tmp_path, share):
    path = tmp_path / "m.nc"
    simulate(threshold=torch.zeros(8)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refusal(path, "damaged or not a NetCDF file; expected a measurement file")


def test_damaged_bits_are_noticed(tmp_path):
    path = tmp_path / "m.nc"
    simulate().save(path)
    with h5py.File(path) as file:
        position = file["y"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[position + 4] ^= 1
    path.write_bytes(content)
    refusal(path, "damaged")


def other_operator(**changes):
    return json.dumps(HADAMARD.to_dict() | changes)


def unit(value, name="y"):
    return {name: ("measurement", value)}


TAMPERED = {
    "version": ({"format": "bayes1bit measurement 2"}, {}, 'has the format "bayes1bit measur'),
    "posterior": ({"format": "bayes1bit posterior 1"}, {}, "NetCDF file of another kind"),
    "no scale": ({"scale": None}, {}, "'scale' is missing"),
    "no operator": ({"operator": None}, {}, "'operator' is missing"),
    "no bits": ({}, {"y": None}, "'y' is missing"),
    "scale": ({"scale": 0.0}, {}, "scale must be positive"),
    "scale NaN": ({"scale": float("nan")}, {}, "scale must be positive and finite, got nan"),
    "scale text": ({"scale": "large"}, {}, "could not convert string to float"),
    "link": ({"link": "cauchit"}, {}, "link must be 'probit' or 'logistic'"),
    "flip": ({"flip": 0.5}, {}, "flip must be at least 0"),
    "range": ({"data_range": [1.0, 0.0]}, {}, "data_range must be (low, high)"),
    "m": ({"operator": other_operator(m=7)}, {}, "the operator makes 7 measurements"),
    "kind": ({"operator": other_operator(kind="Fourier")}, {}, "unknown kind of operator"),
    "seed": ({"operator": '{"kind": "Hadamard", "m": 8}'}, {}, "missing ['event_shape', 'seed']"),
    "no JSON": ({"operator": "Hadamard"}, {}, "Expecting value"),
    "no dictionary": ({"operator": "[1]"}, {}, "not described by a dictionary"),
    "bits": ({}, unit([0, 1] * 4), "4 of its 8 values are others, such as 0"),
    "bits NaN": ({}, unit([1.0, float("nan")] * 4), "4 of its 8 values are others, such as nan"),
    "count": ({}, unit([1, -1] * 3), "y has shape (6,), but the operator makes 8"),
    "text bits": ({}, unit(["+", "-"] * 4), "holds values of type"),
    "thresholds": ({}, {"threshold": ("other", [0.0] * 7)}, "threshold has shape (7,)"),
    "truth": ({}, {"truth": ("x", [0.0] * 16)}, "truth has shape (16,)"),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_files_whose_parts_disagree(tmp_path, case):
    attributes, variables, message = TAMPERED[case]
    path = tmp_path / "m.nc"
    simulate().save(path)
    with xarray.open_dataset(path, engine="h5netcdf", decode_cf=False) as file:
        dataset = file.load()
    attributes = {k: v for k, v in (dataset.attrs | attributes).items() if v is not None}
    variables = {k: v for k, v in (dict(dataset.data_vars) | variables).items() if v is not None}
    xarray.Dataset(variables, attrs=attributes).to_netcdf(path, engine="h5netcdf")
    refusal(path, message)
