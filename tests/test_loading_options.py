"""What ``load_prior`` is asked for beside a name: devices, batches, graphs, and the compiler."""

import copy
import warnings

import pytest
import torch
from prior_cases import picture_recipe, untrained_prior
from torch import nn

from bayes1bit.bench import network_speed, speed
from bayes1bit.diffusion import DiffusionPrior, KarrasDenoiser, MixedPrior
from bayes1bit.diffusion.training.network import AUTOCAST
from bayes1bit.errors import InputError
from bayes1bit.infer.guidance import guided_denoise
from bayes1bit.networks import compile_network, compiled
from bayes1bit.networks.compiled import compiler_fault
from bayes1bit.zoo import load_prior

BITS = (
    picture_recipe("bits", [1, 8, 8])
    .replace("attention = [false, false]", 'kind = "bitunet"\nblocks = 1\nknots = 3\noctaves = 2')
    .replace("[32, 32]", "[16, 32]")
)


@pytest.fixture(scope="module")
def bits(tmp_path_factory):
    """Folder of an untrained binary prior of the tiny one's signals."""
    return untrained_prior(tmp_path_factory.mktemp("priors") / "bits", BITS)


@pytest.fixture
def traced(monkeypatch):
    """Networks are traced as for the compiler, then run without it: no machine code is made."""
    plain = nn.Module.compile
    monkeypatch.setattr(compiled, "compiler_fault", lambda device_type: None)
    monkeypatch.setattr(nn.Module, "compile", lambda self: plain(self, backend="aot_eager"))
    torch.compiler.reset()
    with warnings.catch_warnings():
        # torch's tracer imports parts that are deprecated, and asks for gradients that are none
        warnings.simplefilter("ignore")
        yield
    torch.compiler.reset()


def is_compiled(prior):
    return prior.denoiser.network._compiled_call_impl is not None


# --- devices, batches, graphs -----------------------------------------------------------------


def tensors_of(module):
    """Every tensor that the modules of a network hold, however they hold it."""
    for part in module.modules():
        held = [*vars(part).values(), *part._parameters.values(), *part._buffers.values()]
        for value in held:
            for piece in value if isinstance(value, tuple) else (value,):
                if isinstance(piece, torch.Tensor):
                    yield piece


@pytest.mark.parametrize("kind", ["full", "bits", "mixed"])
def test_to_leaves_nothing_behind(tiny_prior, bits, kind):
    name = {"full": tiny_prior, "bits": bits, "mixed": f"{bits}+{tiny_prior}@0.5"}[kind]
    prior = load_prior(name)
    # a call with a gradient, after which packed units hold their weights in float too
    prior.denoise(torch.randn(2, 1, 8, 8).requires_grad_(), torch.tensor([0.1, 2.0]))
    # a second device that every machine has: tensors without numbers
    assert prior.to("meta") is prior
    assert prior.device.type == "meta"
    # levels and errors are numbers for the solvers, wherever the denoiser is
    assert prior.error(torch.tensor([0.1, 1.0])).device.type == "cpu"
    assert prior.sampling.levels(prior).device.type == "cpu"
    assert prior.pure_noise(2, 1.0).device.type == "meta"
    parts = [prior.cheap, prior.exact] if kind == "mixed" else [prior]
    x, label = torch.empty(3, 1, 8, 8, device="meta"), torch.empty(3, device="meta")
    for part in parts:
        assert {tensor.device.type for tensor in part.denoiser.state_dict().values()} == {"meta"}
        # operations on tensors of two devices raise an error
        for noisy in (x, x.clone().requires_grad_()):
            assert part.denoiser.network(noisy, label).device.type == "meta"
        assert {tensor.device.type for tensor in tensors_of(part.denoiser)} == {"meta"}


def test_calls_of_the_network_are_bounded(tiny_prior):
    prior, bounded = load_prior(tiny_prior), load_prior(tiny_prior, max_batch=3)
    sizes = []
    bounded.denoiser.register_forward_hook(lambda m, args, out: sizes.append(len(args[0])))
    x = torch.randn(8, 1, 8, 8)
    torch.testing.assert_close(bounded.denoise(x, 1.0), prior.denoise(x, 1.0))
    assert sizes == [3, 3, 2]
    sizes.clear()
    bounded.sample((4,))
    assert set(sizes) == {3, 1}
    sizes.clear()
    guided_denoise(bounded, x, 1.0, lambda clean: -clean.square().flatten(1).sum(1))
    assert sizes == [3, 3, 2]


def test_both_parts_of_a_mixed_prior_are_bounded(tiny_prior, bits):
    mixed = load_prior(f"{bits}+{tiny_prior}@0.5", max_batch=3)
    assert isinstance(mixed, MixedPrior)
    assert (mixed.max_batch, mixed.cheap.max_batch, mixed.exact.max_batch) == (3, 3, 3)


def test_a_bound_below_one_is_refused(tiny_prior):
    with pytest.raises(InputError, match="at least 1, got 8 and 0"):
        load_prior(tiny_prior, max_batch=0)


def saved_bytes(prior, x):
    """Bytes that the graph of a call of the denoiser keeps for its backward pass."""
    kept = []

    def pack(tensor):
        kept.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        answer = prior.denoise(x, 1.0)
    return answer, sum(kept)


@pytest.mark.parametrize("kind", ["full", "bits"])
def test_no_graph_is_kept_where_no_gradient_is_asked(tiny_prior, bits, kind):
    prior = load_prior({"full": tiny_prior, "bits": bits}[kind])
    assert not any(p.requires_grad for p in prior.denoiser.parameters())
    x = torch.randn(4, 1, 8, 8)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            answer, kept = saved_bytes(prior, x)
        assert not answer.requires_grad
        assert answer.grad_fn is None
        assert kept == 0
    with torch.no_grad():
        answer, kept = saved_bytes(prior, x.clone().requires_grad_())
    assert (answer.requires_grad, kept) == (False, 0)
    # the same count sees the graph of a call that a gradient is asked of
    answer, kept = saved_bytes(prior, x.clone().requires_grad_())
    assert answer.requires_grad
    assert kept > x.nbytes
    for drawn in (prior.sample((2,)), prior.sample_given(x.requires_grad_(), 1.0)):
        assert not drawn.requires_grad


# --- the compiler -----------------------------------------------------------------------------


class Small(nn.Module):
    """A network that is traced in no time."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x, noise_label):
        return self.last(torch.tanh(self.first(x) + noise_label.view(-1, 1, 1, 1) / 10))


def small_prior(precision="float32", compile=False):
    torch.manual_seed(0)
    denoiser = KarrasDenoiser(Small(), 0.5, AUTOCAST[precision]).requires_grad_(False)
    if compile:
        compile_network(denoiser.network, "cpu")
    return DiffusionPrior(denoiser, (1, 8, 8), 0.01, 20.0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiled_network_gives_the_same_answers_and_gradients(traced, precision):
    plain, ours = small_prior(precision), small_prior(precision, compile=True)
    # rounding of another order of sums; of bfloat16 a few of its 8 bits
    close = {"rtol": 0, "atol": 1e-5 if precision == "float32" else 0.02}
    for count in (4, 6, 1):
        x = torch.randn(count, 1, 8, 8)
        torch.testing.assert_close(ours.denoise(x, 0.7), plain.denoise(x, 0.7), **close)
        levels = torch.rand(count) + 0.1
        with torch.no_grad():
            torch.testing.assert_close(ours.denoise(x, levels), plain.denoise(x, levels), **close)
    target = torch.randn(6, 1, 8, 8)
    first, second = (
        guided_denoise(
            prior, target, 0.7, lambda clean: -(clean - target).square().flatten(1).sum(1)
        ).gradient
        for prior in (plain, ours)
    )
    assert (first - second).norm() < close["atol"] * first.norm()
    assert not ours.denoise(target, 0.7).requires_grad


def test_compiling_leaves_names_and_copies_alone(tiny_prior, traced):
    plain, ours = load_prior(tiny_prior), load_prior(tiny_prior, compile=True)
    assert [is_compiled(prior) for prior in (plain, ours)] == [False, True]
    assert ours.denoiser.state_dict().keys() == plain.denoiser.state_dict().keys()
    assert not is_compiled(copy.deepcopy(ours))


def test_networks_of_bits_stay_as_they_are(tiny_prior, bits, traced):
    assert not is_compiled(load_prior(bits, compile=True))
    mixed = load_prior(f"{bits}+{tiny_prior}@0.5", compile=True)
    assert [is_compiled(part) for part in (mixed.cheap, mixed.exact)] == [False, True]


@pytest.fixture
def no_compiler(monkeypatch):
    def fail(function):
        raise RuntimeError("no g++ here\nand a long story")

    monkeypatch.setattr(torch, "compile", fail)
    compiler_fault.cache_clear()
    yield
    compiler_fault.cache_clear()


def test_a_missing_compiler_is_said(tiny_prior, no_compiler):
    message = r'can use on "cpu" .* there is none: RuntimeError: no g\+\+ here; install one'
    with pytest.raises(InputError, match=message):
        load_prior(tiny_prior, compile=True)
    assert type(load_prior(tiny_prior)) is DiffusionPrior


@pytest.mark.slow
# torch's tracer looks at the gradient of every input, and warns of those that are not leaves
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_the_compiler_itself():
    compiler_fault.cache_clear()
    if (fault := compiler_fault("cpu")) is not None:
        pytest.skip(fault)
    plain, ours = small_prior(), small_prior(compile=True)
    x = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(ours.denoise(x, 0.7), plain.denoise(x, 0.7), rtol=0, atol=1e-5)
    gradients = []
    for prior in (plain, ours):
        noisy = x.clone().requires_grad_()
        gradients.extend(torch.autograd.grad(prior.denoise(noisy, 0.7).square().sum(), noisy))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("there", [True, False])
def test_table_of_options(traced, monkeypatch, there):
    monkeypatch.setattr(network_speed, "ROUNDS", 1)
    monkeypatch.setattr(speed, "BLOCK", 1e-4)
    monkeypatch.setattr(
        network_speed, "load_prior", lambda name, **options: small_prior(**options)
    )
    fault = None if there else "none"
    monkeypatch.setattr(network_speed, "compiler_fault", lambda device_type: fault)
    rows = network_speed.option_speed(batch=3)
    expected = [("float32", "False"), ("bfloat16", "False")]
    if there:
        expected += [("float32", "True"), ("bfloat16", "True")]
    assert [(row["precision"], row["compile"]) for row in rows] == expected
    assert rows[0]["difference"] == 0
    for row in rows:
        assert row["ratio"] == pytest.approx(row["float32 ms"] / row["ms"])
        assert row["batch"] == 3
        assert row["first call s"] > 0
        assert 0 <= row["difference"] < 0.05
