"""Finding, reading and refusing trained priors."""

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from bayes1bit import zoo
from bayes1bit.diffusion import DiffusionPrior, ErrorTable, MixedPrior, VarianceCorrected
from bayes1bit.diffusion.training import Recipe
from bayes1bit.diffusion.training.network import build_denoiser
from bayes1bit.errors import InputError
from bayes1bit.networks import count
from bayes1bit.zoo import as_stored, load_prior, open_prior, save_prior, shipped_priors

RECIPE = """
[data]
event_shape = [1, 8, 8]
low = 0.0
high = 2.0
[network]
patch = 2
widths = [32, 32]
attention = [false, false]
[noise]
sigma_min = 0.02
sigma_max = 30.0
[training]
signals = 64
[card]
title = "Toy"
summary = "Untrained."
source = "None."
terms = "None."
"""
FACTS = {"parameters": 306340, "pictures": 64, "seconds": 1}
ERROR = ErrorTable([0.02, 1.0, 30.0], [0.0004, 0.2, 0.5])


@pytest.fixture(scope="module")
def denoiser():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_denoiser(Recipe.from_table(_table()))


@pytest.fixture
def folder(tmp_path, denoiser):
    path = tmp_path / "toy"
    path.mkdir()
    (path / "recipe.toml").write_text(RECIPE)
    save_prior(path, denoiser, ERROR, FACTS)
    return path


def _table():
    import tomllib

    return tomllib.loads(RECIPE)


def test_loaded_prior_is_the_saved_one(folder, denoiser):
    prior = load_prior(folder)
    assert type(prior) is DiffusionPrior
    assert prior.event_shape == (1, 8, 8)
    assert (prior.sigma_min, prior.sigma_max) == (0.02, 30.0)
    assert prior.data_range == (0.0, 2.0)
    assert isinstance(prior.solver, VarianceCorrected)
    assert prior.denoiser.sigma_data == 0.5
    assert not prior.denoiser.training
    assert not any(p.requires_grad for p in prior.denoiser.parameters())
    for name, weight in prior.denoiser.state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, denoiser.state_dict()[name].half().float())
    sigma = torch.tensor([0.02, 0.3, 1.0, 30.0])
    assert torch.equal(prior.error(sigma), ERROR(sigma))
    x = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        close = denoiser.eval()(x, torch.tensor(1.0))
    # half precision keeps weights to 2^-11; the output is of order one
    torch.testing.assert_close(prior.denoise(x, 1.0), close, rtol=0, atol=5e-3)


BITS = RECIPE.replace(
    "attention = [false, false]", 'kind = "bitunet"\nblocks = 1\nknots = 3\noctaves = 2'
).replace("[32, 32]", "[16, 32]")


@pytest.fixture
def binary(tmp_path):
    """A binary denoiser whose tail is not zero, and the folder it is saved in."""
    path = tmp_path / "bits"
    path.mkdir()
    (path / "recipe.toml").write_text(BITS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        denoiser = build_denoiser(Recipe.load(path))
        torch.nn.init.normal_(denoiser.network.tail.weight, std=0.1)
    save_prior(path, denoiser, ERROR, FACTS)
    return path, denoiser


def test_binary_prior_is_stored_in_bits_and_loaded_packed(binary):
    folder, denoiser = binary
    tensors = load_file(folder / "weights.safetensors")
    kinds = {tensor.dtype for name, tensor in tensors.items() if not name.startswith("error.")}
    assert kinds == {torch.float16, torch.uint8}
    counts = count(denoiser.network, (1, 8, 8))
    bits = sum(len(tensor) for tensor in tensors.values() if tensor.dtype == torch.uint8)
    assert 8 * bits == counts.binary_parameters
    prior, stored = load_prior(folder), as_stored(denoiser)
    x, sigma = torch.randn(3, 1, 8, 8), torch.tensor([0.02, 1.0, 30.0])
    assert torch.equal(prior.denoise(x, sigma), stored(x, sigma))
    # saved packed or not, the file is the same
    save_prior(folder, stored, ERROR, FACTS)
    again = load_file(folder / "weights.safetensors")
    assert tensors.keys() == again.keys()
    assert all(torch.equal(tensor, again[name]) for name, tensor in tensors.items())


def test_gradients_pass_through_a_binary_prior(binary):
    prior = load_prior(binary[0])
    x = torch.randn(3, 1, 8, 8, requires_grad=True)
    answer = prior.denoiser(x, torch.tensor(0.5))
    assert torch.equal(answer.detach(), prior.denoise(x.detach(), 0.5))
    (gradient,) = torch.autograd.grad(answer.square().sum(), x)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0.1


def test_weights_of_a_float_network_do_not_fit_a_binary_recipe(binary, folder):
    (folder / "recipe.toml").write_text(BITS)
    with pytest.raises(InputError, match=r"do not fit the network of its recipe\.toml"):
        load_prior(folder)
    rewrite(
        binary[0],
        lambda t: t.update({k: v.half() for k, v in t.items() if v.dtype == torch.uint8}),
    )
    with pytest.raises(InputError, match=r"do not fit the network of its recipe\.toml"):
        load_prior(binary[0])


def test_names_and_paths_both_lead_to_a_prior(folder):
    for given in (folder, str(folder)):
        opened = open_prior(given)
        assert opened.name == "toy"
        assert opened.path == folder
        assert opened.recipe == Recipe.from_table(_table())
        assert opened.facts == FACTS
        assert opened.size == (folder / "weights.safetensors").stat().st_size
        assert torch.equal(opened.error.error, ERROR.error)


def test_weights_are_stored_in_half_precision_with_the_table_in_double(folder):
    tensors = load_file(folder / "weights.safetensors")
    for name, tensor in tensors.items():
        assert tensor.dtype == (torch.float64 if name.startswith("error.") else torch.float16)
    assert 2 * FACTS["parameters"] < open_prior(folder).size < 2.2 * FACTS["parameters"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_weights_are_as_readable_as_other_files(folder):
    """The safetensors library itself makes private files."""
    modes = {path.stat().st_mode for path in folder.iterdir()}
    assert len(modes) == 1


def test_shipped_priors_are_found_inside_the_package_or_beside_it(folder, tmp_path, monkeypatch):
    package = tmp_path / "site" / "bayes1bit"
    (package / "priors").mkdir(parents=True)
    monkeypatch.setattr(zoo, "PACKAGE", package)
    assert shipped_priors() == {}
    beside, inside = package.parent / "priors", package / "priors"
    beside.mkdir()
    (beside / "empty").mkdir()
    (beside / "a").symlink_to(folder)
    (beside / "b").symlink_to(folder)
    assert shipped_priors() == {"a": beside / "a", "b": beside / "b"}
    assert open_prior("b").name == "b"
    assert load_prior("a").event_shape == (1, 8, 8)
    # a wheel carries its own, which win
    (inside / "c").symlink_to(folder)
    assert list(shipped_priors()) == ["c"]
    with pytest.raises(
        InputError, match='no prior "fashion"; shipped priors: c; or give the path'
    ):
        load_prior("fashion")


def test_every_shipped_prior_opens():
    for name in shipped_priors():
        opened = open_prior(name)
        assert opened.name == name
        assert (opened.path / "MODEL_CARD.md").is_file()


def test_missing_files_are_named(folder, tmp_path):
    with pytest.raises(InputError, match=r'there is no prior ".*nowhere"'):
        load_prior(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no weights\.safetensors"):
        load_prior(tmp_path)
    (folder / "recipe.toml").unlink()
    with pytest.raises(InputError, match="cannot read recipe"):
        load_prior(folder)


def rewrite(folder, change=lambda tensors: None, metadata=None):
    """Save the weights again with changes."""
    path = folder / "weights.safetensors"
    tensors = load_file(path)
    change(tensors)
    right = {"bayes1bit prior 1": json.dumps(FACTS)}
    save_file(tensors, path, right if metadata is None else metadata)


@pytest.mark.parametrize("keep", [0, 4, 100, -1000, -1])
def test_truncated_weights_are_refused(folder, keep):
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    for function in (open_prior, load_prior):
        with pytest.raises(InputError, match="damaged or incomplete"):
            function(folder)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, 'no entry "bayes1bit prior 1"'),
        ({"format": "pt"}, 'no entry "bayes1bit prior 1"'),
        ({"bayes1bit prior 0": "{}"}, 'no entry "bayes1bit prior 1"'),
        ({"bayes1bit prior 1": "{"}, "damaged or incomplete"),
        ({"bayes1bit prior 1": "[3]"}, r"damaged or incomplete: the facts .* are \[3\]"),
    ],
)
def test_foreign_metadata_is_refused(folder, metadata, message):
    rewrite(folder, metadata=metadata)
    with pytest.raises(InputError, match=message):
        load_prior(folder)


@pytest.mark.parametrize("name", ["error.sigma", "error.mse"])
def test_weights_without_their_table_are_refused(folder, name):
    rewrite(folder, lambda tensors: tensors.pop(name))
    with pytest.raises(InputError, match="damaged or incomplete"):
        open_prior(folder)


def test_a_table_that_is_none_is_refused(folder):
    rewrite(folder, lambda t: t.update({"error.mse": -t["error.mse"]}))
    with pytest.raises(InputError, match="positive and finite"):
        open_prior(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("network.unet.conv_in.bias"),
        lambda t: t.update({"network.unet.conv_in.extra": torch.zeros(3)}),
        lambda t: t.update({"network.unet.conv_in.bias": torch.zeros(1).half()}),
    ],
)
def test_weights_of_another_network_are_refused(folder, change):
    rewrite(folder, change)
    with pytest.raises(InputError, match=r"do not fit the network of its recipe\.toml"):
        load_prior(folder)


def test_refused_weights_say_what_was_expected(folder):
    name = "network.unet.conv_in.bias"
    for other, found in (
        (torch.zeros(3).half(), r"real numbers of shape \[3\]"),
        (torch.zeros(32, dtype=torch.int8), r"torch.int8 of shape \[32\]"),
    ):
        rewrite(folder, lambda t, other=other: t.update({name: other}))
        with pytest.raises(
            InputError, match=rf"{name} must be real numbers of shape \[32\], and is {found}"
        ):
            load_prior(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(folder, value):
    rewrite(folder, lambda t: t["network.unet.conv_in.bias"].fill_(value))
    with pytest.raises(InputError, match=r"damaged: network.unet.conv_in.bias has values"):
        load_prior(folder)


def test_a_flipped_byte_of_the_header_is_refused(folder):
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    for place in (0, 7, 8, 200):
        damaged = content.copy()
        damaged[place] ^= 255
        path.write_bytes(damaged)
        with pytest.raises(
            InputError, match=r"damaged or incomplete .*; expected is the safetens"
        ):
            load_prior(folder)


def test_weights_of_another_recipe_are_refused(folder):
    (folder / "recipe.toml").write_text(RECIPE.replace("[32, 32]", "[32, 64]"))
    with pytest.raises(InputError, match=r"do not fit the network of its recipe\.toml"):
        load_prior(folder)


class Attack:
    """What runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("saver", ["pickle", "torch"])
def test_nothing_is_unpickled(folder, tmp_path, saver):
    proof, path = tmp_path / "executed", folder / "weights.safetensors"
    if saver == "pickle":
        path.write_bytes(pickle.dumps(Attack(proof)))
    else:
        torch.save(Attack(proof), path)
    for function in (open_prior, load_prior):
        with pytest.raises(InputError, match="damaged or incomplete"):
            function(folder)
    assert not proof.exists()
    # the attack itself works
    pickle.loads(pickle.dumps(Attack(proof)))
    assert proof.exists()


def test_reduced_precision_is_close_to_full(folder):
    torch.manual_seed(0)
    x = torch.randn(8, 1, 8, 8)
    full, reduced = (load_prior(folder, precision=p) for p in ("float32", "bfloat16"))
    for sigma in (0.02, 1.0, 30.0):
        exact, answer = full.denoise(x, sigma), reduced.denoise(x, sigma)
        assert answer.dtype == torch.float32
        difference = (answer - exact).square().mean().sqrt().item()
        # bfloat16 keeps 8 bits: a few of them, 2%, of what the network adds, whose size is that of
        # its output, near one, times sigma or sigma_data
        assert 0 < difference < 0.02 * min(sigma, 0.5)


@pytest.mark.parametrize("precision", ["float16", "double", ""])
def test_unknown_precision_is_refused(folder, precision):
    with pytest.raises(InputError, match="use one of float32, bfloat16"):
        load_prior(folder, precision=precision)


def test_loading_leaves_the_global_generator_alone(folder):
    state = torch.random.get_rng_state()
    load_prior(folder)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_interrupted_saving_leaves_the_old_weights(folder, denoiser, monkeypatch):
    import safetensors.torch

    before = (folder / "weights.safetensors").read_bytes()

    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(KeyboardInterrupt):
        save_prior(folder, denoiser, ERROR, FACTS)
    assert (folder / "weights.safetensors").read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == ["recipe.toml", "weights.safetensors"]


def test_two_names_are_a_mixed_prior(folder, tmp_path, denoiser):
    cheap = tmp_path / "cheap"
    cheap.mkdir()
    (cheap / "recipe.toml").write_text(RECIPE)
    # 2% worse at the highest level, half as bad again below
    worse = ErrorTable(ERROR.sigma, ERROR.error * torch.tensor([1.5, 1.5, 1.02]))
    save_prior(cheap, denoiser, worse, FACTS)
    name = f"{cheap}+{folder}"
    prior = load_prior(name)
    assert isinstance(prior, MixedPrior)
    assert 1.0 < prior.switch < 30.0
    assert float(prior.error(1.0)) == pytest.approx(0.2)
    assert float(prior.error(30.0)) == pytest.approx(0.51)
    described = open_prior(name)
    assert described.name == name
    assert described.path == folder
    with pytest.raises(InputError, match='no prior "nowhere"'):
        load_prior(f"nowhere+{folder}")


def test_the_name_of_a_mixed_prior_may_say_where_it_switches(folder):
    prior = load_prior(f"{folder}+{folder}@2.5")
    assert isinstance(prior, MixedPrior)
    assert prior.switch == 2.5
    assert open_prior(f"{folder}+{folder}@2.5").path == folder
    with pytest.raises(InputError, match=r'must be a noise level.* got "low"'):
        load_prior(f"{folder}+{folder}@low")
    with pytest.raises(InputError, match="switch must be a noise level that both priors know"):
        load_prior(f"{folder}+{folder}@1e9")
