"""Linear operators: algebra, shapes, storage, derivatives, effects on their calls, errors."""

import json
import math
import threading

import hypothesis.strategies as st
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import scipy.fft
import scipy.linalg
import torch
from hypothesis import given, settings
from PIL import Image
from pyro.infer import Predictive
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bayes1bit import operators
from bayes1bit.errors import InputError
from bayes1bit.operators import (
    DCT,
    Dense,
    Downsample,
    Gaussian,
    Hadamard,
    Identity,
    LinearOperator,
    record_operators,
    replace_output,
)

EVENT_SHAPES = [(1, 28, 28), (7,), (3, 8, 8), (12,), (1,), (16, 16), (5, 3), (2, 6, 10), (32,)]
LEADING_SHAPES = [(), (5,), (4, 1), (2, 3), (0,)]
SEEDED = [Gaussian, Hadamard, DCT]
# Double precision: products of at most 784 terms of order one, eps = 2e-16.
RELATIVE = 1e-10

examples = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def any_operator(draw):
    kind = draw(st.sampled_from([*SEEDED, Dense, Identity, Downsample]))
    shape = draw(st.sampled_from(EVENT_SHAPES))
    n, seed = math.prod(shape), draw(st.integers(0, 2**63 - 1))
    if kind in SEEDED:
        return kind(shape, m=draw(st.integers(1, min(n, 100))), seed=seed)
    if kind is Dense:
        generator = torch.Generator().manual_seed(seed)
        return Dense(torch.randn(draw(st.integers(1, 9)), n, generator=generator), shape)
    if kind is Identity:
        return Identity(shape)
    shape, factor = draw(st.sampled_from([((1, 28, 28), 4), ((3, 8, 8), 2), ((6, 9), 3)]))
    return Downsample(shape, factor, draw(st.sampled_from(["box", "bicubic"])))


any_leading = st.sampled_from(LEADING_SHAPES)


def example_of(kind, shape):
    if kind is Identity:
        return Identity(shape)
    return Downsample(shape, 2) if kind is Downsample else kind(shape, m=20)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def as_matrix(A):
    """The matrix of an operator, from its action on unit vectors."""
    unit_vectors = torch.eye(A.n, dtype=torch.float64)
    return A(unit_vectors.reshape(A.n, *A.event_shape)).T


def close(actual, expected, relative=RELATIVE):
    scale = expected.abs().max() if expected.numel() else 1.0
    return torch.allclose(actual, expected, rtol=0, atol=float(relative * scale + 1e-300))


# Algebra of every operator


@examples
@given(any_operator(), any_leading)
def test_adjoint_identity_and_shapes(A, leading):
    x, v = normal(*leading, *A.event_shape), normal(*leading, A.m, seed=1)
    y, z = A(x), A.T(v)
    assert y.shape == (*leading, A.m)
    assert z.shape == (*leading, *A.event_shape)
    size = x.norm() * v.norm() * A.row_norms_squared.max().sqrt()
    assert abs((y * v).sum() - (x * z).sum()) <= RELATIVE * size


@examples
@given(any_operator(), any_leading)
def test_linear_and_every_signal_on_its_own(A, leading):
    x, other = normal(*leading, *A.event_shape), normal(*leading, *A.event_shape, seed=1)
    assert close(A(2.5 * x - other), 2.5 * A(x) - A(other))
    flat = x.reshape(-1, *A.event_shape)
    one_by_one = [A(signal) for signal in flat]
    stacked = torch.stack(one_by_one) if one_by_one else flat.new_empty(0, A.m)
    assert close(A(x).reshape(-1, A.m), stacked)


@examples
@given(any_operator())
def test_operator_is_its_matrix(A):
    matrix = as_matrix(A)
    x, v = normal(3, *A.event_shape), normal(3, A.m, seed=1)
    assert close(A(x), x.reshape(3, -1) @ matrix.T)
    assert close(A.T(v).reshape(3, -1), v @ matrix)
    assert close(A.row_norms_squared.double(), matrix.square().sum(1), 1e-5)
    if A.row_gram is not None:
        gram = matrix @ matrix.T
        assert close(gram, A.row_gram * torch.eye(A.m, dtype=torch.float64))


@examples
@given(any_operator())
def test_gradient_is_the_adjoint_and_vmap_is_batching(A):
    x, v = normal(3, *A.event_shape), normal(3, A.m, seed=1)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad((v * A(x)).sum(), x)
    assert torch.equal(gradient, A.T(v))
    v.requires_grad_()
    (gradient,) = torch.autograd.grad((x.detach() * A.T(v)).sum(), v)
    assert torch.equal(gradient, A(x.detach()))
    x, v = x.detach(), v.detach()
    assert close(torch.vmap(A)(x), A(x))
    assert close(torch.vmap(A.T)(v), A.T(v))
    last = x.movedim(0, -1)
    assert close(torch.vmap(A, in_dims=-1, out_dims=-1)(last), A(x).movedim(0, -1))


@pytest.mark.parametrize("kind", SEEDED)
def test_second_derivatives(kind):
    """f(x) = sum (A x)^4 / 12 has the Hessian A^T diag((A x)^2) A."""
    A = kind((2, 6), m=5, seed=3)
    x, matrix = normal(2, 6), as_matrix(A)
    exact = matrix.T @ torch.diag(A(x) ** 2) @ matrix

    def potential(x):
        return (A(x) ** 4).sum() / 12

    functional = torch.func.jacrev(torch.func.jacrev(potential))(x)
    assert close(functional.reshape(12, 12), exact)
    assert close(torch.autograd.functional.hessian(potential, x).reshape(12, 12), exact)
    per_particle = torch.vmap(torch.func.grad(potential))(torch.stack([x, 2 * x]))
    assert close(per_particle[1], A.T((2 * A(x)) ** 3 / 3))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("kind", SEEDED)
def test_forward_mode_derivative_is_the_operator(kind):
    A = kind((2, 6), m=5)
    x, tangent = normal(2, 6), normal(2, 6, seed=1)
    assert close(torch.func.jvp(A, (x,), (tangent,))[1], A(tangent))


@examples
@given(any_operator(), st.sampled_from([torch.float16, torch.bfloat16, torch.float32]))
def test_output_has_the_type_of_the_input(A, dtype):
    x, v = normal(2, *A.event_shape), normal(2, A.m, seed=1)
    low, low_adjoint = A(x.to(dtype)), A.T(v.to(dtype))
    assert low.dtype == low_adjoint.dtype == dtype
    # Sums of up to 784 products: a few tens of rounding errors of the type.
    tolerance = 50 * torch.finfo(dtype).eps
    assert close(low.double(), A(x), tolerance)
    assert close(low_adjoint.double(), A.T(v), tolerance)


@pytest.mark.parametrize("kind", SEEDED)
def test_autocast_leaves_measurements_alone(kind):
    A, x = kind((64,), m=16), normal(3, 64, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(A(x), A(x.clone()))
        inside = A(x)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, A(x))


@pytest.mark.parametrize("A", [Identity((3, 4)), Hadamard((12,), 5), DCT((12,), 5)])
def test_input_is_left_as_it_was_and_output_is_new(A):
    x, v = normal(2, *A.event_shape), normal(2, A.m)
    x_before, v_before = x.clone(), v.clone()
    A(x).zero_()
    A.T(v).zero_()
    assert torch.equal(x, x_before)
    assert torch.equal(v, v_before)


@pytest.mark.parametrize("kind", SEEDED)
def test_large_batches_go_in_parts(kind):
    """More elements than one part of the batch on the CPU holds, and non-contiguous views."""
    A = kind((4096,), m=16)
    x = normal(4096, 150, dtype=torch.float32).T
    v = normal(16, 150, dtype=torch.float32).T
    assert close(A(x)[-1], A(x[-1]), 1e-5)
    assert close(A.T(v)[-1], A.T(v[-1]), 1e-5)
    assert close(A(x[:1].expand(150, -1))[70], A(x[0]), 1e-5)


def test_adjoint_of_adjoint():
    A = Hadamard((8,), m=4)
    assert A.T.T is A
    assert repr(A.T) == repr(A) + ".T"


# Particular operators


@pytest.mark.parametrize("n", [2, 4, 8, 64, 512])
def test_hadamard_is_scipys_matrix(n):
    A = Hadamard((n,), m=n, seed=5)
    expected = torch.from_numpy(scipy.linalg.hadamard(n)).double() / math.sqrt(n)
    assert close(as_matrix(A), expected[A.rows] * A.signs)


@pytest.mark.parametrize("n", [6, 12, 28, 112, 784, 1000])
def test_hadamard_of_other_lengths_is_a_kronecker_product(n):
    """Both ways to the odd factor are here: one more Kronecker factor (12), an FFT (6, 784)."""
    power = n & -n
    cosine = scipy.fft.dct(np.eye(n // power), type=2, norm="ortho", axis=0)
    product = np.kron(cosine, scipy.linalg.hadamard(power) / math.sqrt(power))
    A = Hadamard((n,), m=n // 2, seed=5)
    expected = math.sqrt(2) * torch.from_numpy(product)[A.rows] * A.signs
    assert close(as_matrix(A), expected)


@pytest.mark.parametrize("n", [1, 7, 45])
def test_hadamard_of_odd_length_is_the_cosine_operator(n):
    x = normal(n)
    assert close(Hadamard((n,), m=n, seed=2)(x), DCT((n,), m=n, seed=2)(x))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 9, 16, 100, 784])
def test_dct_is_scipys(n):
    A, x = DCT((n,), m=max(1, n // 2), seed=5), normal(2, n)
    full = scipy.fft.dct((x * A.signs).numpy(), type=2, norm="ortho")
    expected = math.sqrt(n / A.m) * torch.from_numpy(full)[:, A.rows]
    assert close(A(x), expected)


@pytest.mark.parametrize("kind", [Hadamard, DCT])
def test_signs_and_rows_are_uniform(kind):
    """Means within five standard errors; 400 seeds, each row in 3 of 8 operators."""
    A = kind((100, 100), m=10)
    assert abs(A.signs.mean()) < 5 / math.sqrt(A.n)
    assert set(A.signs.tolist()) == {-1.0, 1.0}
    drawn = torch.cat([kind((8,), m=3, seed=seed).rows for seed in range(400)])
    counts = torch.bincount(drawn, minlength=8)
    assert (counts - 150).abs().max() < 5 * math.sqrt(400 * 3 / 8 * 5 / 8)


@pytest.mark.parametrize("kind", [Hadamard, DCT])
def test_rows_are_distinct_and_nested_in_m(kind):
    few, many = kind((3, 8, 8), m=20, seed=4), kind((3, 8, 8), m=192, seed=4)
    assert sorted(many.rows.tolist()) == list(range(192))
    assert torch.equal(few.rows, many.rows[:20])
    x = normal(3, 8, 8)
    assert close(few(x), many(x)[:20] * math.sqrt(192 / 20))
    assert not torch.equal(kind((3, 8, 8), m=20, seed=5).rows, few.rows)


def test_gaussian_moments():
    """Mean, variance and kurtosis of 235,200 entries within five standard errors."""
    A = Gaussian((1, 28, 28), m=300, seed=1)
    z = A.matrix.double() * math.sqrt(300)
    assert abs(z.mean()) < 5 / math.sqrt(z.numel())
    assert abs(z.square().mean() - 1) < 5 * math.sqrt(2 / z.numel())
    assert abs((z**4).mean() - 3) < 5 * math.sqrt(96 / z.numel())
    assert A.row_gram is None
    assert not torch.equal(A.matrix, Gaussian((1, 28, 28), m=300, seed=2).matrix)


@pytest.mark.parametrize(("shape", "factor"), [((12, 20), 2), ((3, 32, 16), 4), ((27, 9), 3)])
def test_bicubic_is_pillows(shape, factor):
    """Pillow resizes pictures of 32-bit floats, so agreement is to single precision."""
    A = Downsample(shape, factor, "bicubic")
    x = normal(*shape, dtype=torch.float32)
    pictures = x.reshape(-1, *shape[-2:])
    size = (shape[-1] // factor, shape[-2] // factor)
    small = [
        np.asarray(Image.fromarray(p.numpy()).resize(size, Image.Resampling.BICUBIC))
        for p in pictures
    ]
    expected = torch.from_numpy(np.stack(small)).reshape(A.output_shape)
    assert close(A(x).reshape(A.output_shape), expected, 2e-6)


def test_box_averages_blocks():
    A = Downsample((2, 4, 6), 2)
    x = normal(2, 4, 6)
    expected = torch.nn.functional.avg_pool2d(x, 2)
    assert A.output_shape == expected.shape
    assert close(A(x).unflatten(-1, A.output_shape), expected)
    assert A.row_gram == 0.25


@pytest.mark.parametrize("kernel", ["box", "bicubic"])
def test_downsample_keeps_constants(kernel):
    A = Downsample((8, 12), 4, kernel)
    assert close(A(torch.ones(8, 12, dtype=torch.float64)), torch.ones(6, dtype=torch.float64))


def test_dense_keeps_the_matrix_it_was_given():
    matrix = normal(4, 6)
    A = Dense(matrix, (2, 3))
    assert A.matrix is matrix
    assert A.dtype == torch.float64
    assert A.event_shape == (2, 3)
    assert Dense(matrix).event_shape == (6,)


def test_dense_accepts_a_true_row_gram():
    rows = torch.linalg.qr(normal(12, 5)).Q.T
    assert Dense(3 * rows, row_gram=9.0).row_gram == 9.0
    assert Dense(3 * rows.float(), row_gram=9.0).row_gram == 9.0


def test_user_operator_gets_row_norms_gradients_and_a_dictionary():
    class Cumulative(LinearOperator, kind="Cumulative"):
        _arguments = ("event_shape",)

        def __init__(self, event_shape):
            super().__init__(event_shape, m=math.prod(event_shape))

        def _forward(self, x):
            return x.cumsum(1)

        def _adjoint(self, v):
            return v.flip(1).cumsum(1).flip(1)

    A = operators.from_dict(Cumulative((70,)).to_dict())
    assert isinstance(A, Cumulative)
    assert close(A.row_norms_squared, torch.arange(1, 71).float(), 1e-6)
    x = normal(70).requires_grad_()
    assert torch.autograd.gradcheck(A, x)


# Storage


@examples
@given(any_operator())
def test_dictionary_round_trip_is_bit_identical(A):
    stored = A.to_dict()
    assert stored["kind"] == type(A).__name__
    if type(A) is not Dense:
        stored = json.loads(json.dumps(stored))
    again = operators.from_dict(stored)
    assert type(again) is type(A)
    assert repr(again) == repr(A)
    x, v = normal(2, *A.event_shape), normal(2, A.m)
    assert torch.equal(again(x), A(x))
    assert torch.equal(again.T(v), A.T(v))
    assert torch.equal(type(A).from_dict(stored)(x), A(x))


def test_dense_dictionary_holds_the_matrix_and_row_gram():
    rows = torch.linalg.qr(normal(12, 5)).Q.T
    stored = Dense(rows, (3, 4), row_gram=1.0).to_dict()
    assert set(stored) == {"kind", "matrix", "event_shape", "row_gram"}
    assert stored["event_shape"] == [3, 4]
    assert operators.from_dict(stored).row_gram == 1.0


@pytest.mark.parametrize("kind", SEEDED)
def test_seeded_operators_ignore_and_keep_the_global_generator(kind):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = kind((12,), m=5, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert torch.equal(kind((12,), m=5, seed=1)(torch.ones(12)), first(torch.ones(12)))


@examples
@given(any_operator())
def test_moving_to_another_type(A):
    x = normal(2, *A.event_shape)
    before = A(x)
    assert A.to(dtype=torch.float64) is A
    assert A.dtype == torch.float64
    assert torch.equal(A(x), before)
    assert A(x.float()).dtype == torch.float32
    assert A.to("cpu", torch.float32).dtype == torch.float32
    assert torch.equal(A(x), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("kind", [*SEEDED, Identity, Downsample])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 28, 28), (3, 64, 64)])
def test_same_operator_on_a_gpu(kind, shape):
    A = example_of(kind, shape)
    x, v = normal(5, *shape), normal(5, A.m)
    y, z = A(x), A.T(v)
    A.to("cuda")
    assert A.device == x.cuda().device
    assert close(A(x.cuda()).cpu(), y)
    assert close(A.T(v.cuda()).cpu(), z)
    assert close(torch.vmap(A)(x.cuda()).cpu(), y)


def stored_numbers(value):
    """How many numbers the tensors in an object hold, complex ones counted twice."""
    if isinstance(value, torch.Tensor):
        return value.untyped_storage().nbytes() // value.element_size() * (1 + value.is_complex())
    if isinstance(value, list):
        return sum(map(stored_numbers, value))
    return sum(map(stored_numbers, vars(value).values())) if hasattr(value, "__dict__") else 0


@pytest.mark.parametrize("kind", [Hadamard, DCT])
@pytest.mark.parametrize("shape", [(1, 28, 28), (4099,), (3, 64, 64), (2**14,), (4, 1001)])
def test_matrix_free_operators_store_few_numbers(kind, shape):
    """Signs, at most n + 2 numbers of twiddle factors or Kronecker factors, and two per row."""
    A = kind(shape, m=math.prod(shape) // 8)
    assert A.n < stored_numbers(A) < 3 * A.n + 2 * A.m + 1000


class AllocatedBytes(TorchDispatchMode):
    """Sum and largest of the outputs of all operations in a block."""

    def __init__(self):
        super().__init__()
        self.total = self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, torch.Tensor):
                size = leaf.numel() * leaf.element_size()
                self.total += size
                self.largest = max(self.largest, size)
        return output


@pytest.mark.parametrize("kind", [Hadamard, DCT])
def test_colour_pictures_fit_in_memory(kind):
    """The matrix for n = 196,608 and m = 12,288 would take 9.7 GB, a signal takes 0.8 MB.

    All outputs of all operations are added up, as if no buffer were ever freed.
    """
    A = kind((3, 256, 256), m=12_288)
    x = normal(3, 256, 256, dtype=torch.float32)
    with AllocatedBytes() as allocated:
        y = A(x)
        back = A.T(y)
    assert allocated.largest <= 16 * (A.n + 2)
    assert allocated.total < 50e6
    # A^T A / row_gram is a projection.
    assert close(A(back), y * A.row_gram, 1e-5)


# Under Pyro


def test_works_in_predictive_and_in_vectorised_plates():
    A = Hadamard((1, 4, 4), m=6)
    shapes = []

    def model():
        x = pyro.sample("x", dist.Normal(torch.zeros(1, 4, 4), 1.0).to_event(3))
        shapes.append(x.shape)
        return pyro.sample("y", dist.Normal(A(x), 1.0).to_event(1))

    samples = {"x": normal(7, 1, 4, 4, dtype=torch.float32)}
    assert Predictive(model, samples, parallel=True)()["y"].shape == (7, 6)
    with pyro.plate("particles", 7, dim=-2), record_operators() as calls:
        assert model().shape == (7, 1, 6)
    assert calls[0].input.shape == shapes[-1] == (7, 1, 1, 4, 4)


# Effects


def test_record_lists_every_call_in_order():
    A, B = Hadamard((8,), m=4), Identity((8,))
    x = normal(8)
    A(x)
    with record_operators() as calls:
        y = A(x)
        B(x)
        A.T(y)
    A(x)
    assert [call.operator for call in calls] == [A, B]
    assert calls[0].input is x
    assert calls[0].output is y


def test_replace_answers_one_very_operator():
    A, twin = Hadamard((8,), m=4), Hadamard((8,), m=4)
    x, answer = normal(3, 8), torch.zeros(2, 1, 4)
    with replace_output(A, answer):
        assert A(x) is answer
        assert torch.equal(twin(x), Hadamard((8,), m=4)(x))
        with pytest.raises(InputError, match="expects"):
            A(normal(7))
    assert torch.equal(A(x), twin(x))


def test_handlers_nest():
    A, x = Hadamard((8,), m=4), normal(8)
    outer_answer, inner_answer = torch.zeros(4), torch.ones(4)
    with record_operators() as outer, replace_output(A, outer_answer):
        with record_operators() as inner, replace_output(A, inner_answer):
            assert A(x) is inner_answer
        assert A(x) is outer_answer
    assert [call.output for call in outer] == [inner_answer, outer_answer]
    assert [call.output for call in inner] == [inner_answer]


def test_handlers_are_gone_after_an_exception():
    A, x = Hadamard((8,), m=4), normal(8)
    answer = torch.zeros(4)
    with pytest.raises(RuntimeError), record_operators() as calls, replace_output(A, answer):
        raise RuntimeError
    y = A(x)
    assert not calls
    assert y.abs().max() > 0


def test_a_call_that_fails_is_not_recorded():
    A = Hadamard((8,), m=4)
    with record_operators() as calls, pytest.raises(InputError):
        A(normal(7))
    assert not calls


def test_handlers_belong_to_their_thread():
    A, outputs = Hadamard((8,), m=4), []
    with record_operators() as calls, replace_output(A, torch.zeros(4)):
        other = threading.Thread(target=lambda: outputs.append(A(torch.ones(8))))
        other.start()
        other.join()
    assert not calls
    assert outputs[0].abs().max() > 0


def test_effects_inside_vmap():
    A, x = Hadamard((8,), m=4), normal(3, 8)
    shift = normal(3, 4)

    def measure(x, answer):
        with record_operators() as calls, replace_output(A, answer):
            y = A(x)
        return y + calls[0].output

    assert torch.equal(torch.vmap(measure)(x, shift), 2 * shift)


# Errors


@pytest.mark.parametrize("kind", [Hadamard, DCT, Gaussian, Identity, Downsample])
def test_wrong_shapes_are_named(kind):
    shape = (3, 8, 8)
    A = example_of(kind, shape)
    with pytest.raises(InputError, match=r"shape \(8, 8\).*expects \(\*leading, 3, 8, 8\)"):
        A(normal(8, 8))
    with pytest.raises(InputError, match=r"shape \(3, 8, 8, 1\)"):
        A(normal(3, 8, 8, 1))
    with pytest.raises(InputError, match=rf"shape \(2, 1\).*expects \(\*leading, {A.m}\)"):
        A.T(normal(2, 1))
    with pytest.raises(InputError, match=r"shape \(\)"):
        A.T(torch.tensor(1.0))


def test_dense_without_event_shape_says_how_pictures_fit():
    A = Dense(normal(5, 64))
    message = (
        r"has shape \(2, 1, 8, 8\), but .* expects \(\*leading, 64\); "
        r"make the operator with event_shape=\(1, 8, 8\) for such signals"
    )
    with pytest.raises(InputError, match=message):
        A(normal(2, 1, 8, 8))
    assert Dense(A.matrix, (1, 8, 8))(normal(2, 1, 8, 8)).shape == (2, 5)
    for call, value in ((A, normal(1, 8, 9)), (A.T, normal(8, 8))):
        with pytest.raises(InputError, match=r"expects \(\*leading, \d+\)$"):
            call(value)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64, torch.bool])
def test_signals_must_be_real_floating_point(dtype):
    A = Hadamard((8,), m=4)
    with pytest.raises(InputError, match="real floating point"):
        A(torch.ones(8).to(dtype))
    with pytest.raises(InputError, match="real floating point"):
        A.T(torch.ones(4).to(dtype))


def test_signals_must_be_tensors_on_the_device_of_the_operator():
    A = Hadamard((8,), m=4)
    with pytest.raises(InputError, match=r"torch\.Tensor, got ndarray"):
        A(np.ones(8))
    with pytest.raises(InputError, match=r'A\.to\("meta"\)'):
        A(torch.ones(8, device="meta"))


@pytest.mark.parametrize("kind", SEEDED)
@pytest.mark.parametrize("m", [0, -1, 2.5, True, "4", None])
def test_m_must_be_a_positive_integer(kind, m):
    with pytest.raises(InputError, match="m must be an integer of at least 1"):
        kind((8,), m=m)


@pytest.mark.parametrize("kind", SEEDED)
@pytest.mark.parametrize("seed", [-1, 0.5, False, None, 2**63])
def test_seed_must_be_a_non_negative_integer(kind, seed):
    with pytest.raises(InputError, match="seed must be"):
        kind((8,), m=4, seed=seed)


@pytest.mark.parametrize("shape", [(), (0,), (3, -1), (2.0,), "8", None])
def test_event_shape_must_hold_positive_integers(shape):
    with pytest.raises(InputError, match="event_shape"):
        Hadamard(shape, m=1)


def test_sizes_may_come_from_numpy():
    A = Hadamard(np.int64(8), m=np.int64(4), seed=np.int64(1))
    assert json.loads(json.dumps(A.to_dict())) == {
        "kind": "Hadamard",
        "event_shape": [8],
        "m": 4,
        "seed": 1,
    }


@pytest.mark.parametrize("kind", [Hadamard, DCT])
def test_no_more_measurements_than_rows(kind):
    with pytest.raises(InputError, match="m must be between 1 and n = 8"):
        kind((8,), m=9)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones((2, 3)), "got ndarray"),
        (torch.ones(2, 3, dtype=torch.int64), "got torch.int64"),
        (torch.ones(2, 3, dtype=torch.float16), "got torch.float16"),
        (torch.ones(3), r"shape \(m, n\), got \(3,\)"),
        (torch.ones(0, 3), r"shape \(m, n\), got \(0, 3\)"),
        (torch.full((2, 3), math.nan), "NaN"),
        (torch.ones(2, 3, requires_grad=True), "detach"),
    ],
)
def test_dense_refuses_what_is_no_matrix(matrix, message):
    with pytest.raises(InputError, match=message):
        Dense(matrix)


def test_dense_checks_event_shape_and_row_gram():
    rows = torch.linalg.qr(normal(12, 5)).Q.T
    with pytest.raises(InputError, match=r"12 columns, but event_shape \(5, 2\) has 10"):
        Dense(rows, (5, 2))
    with pytest.raises(InputError, match="A A\\^T is not 2 times the identity"):
        Dense(rows, row_gram=2.0)
    rows[1] += 1e-6 * rows[0]
    with pytest.raises(InputError, match="leave row_gram out"):
        Dense(rows, row_gram=1.0)
    for bad in (0.0, -1.0, math.nan, "1"):
        with pytest.raises(InputError, match="positive number or None"):
            Dense(rows, row_gram=bad)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((8,), 2), "height, width"),
        (((1, 3, 8, 8), 2), "height, width"),
        (((3, 8, 9), 2), "factor 2 does not divide"),
        (((8, 8), 0), "factor must be an integer"),
        (((8, 8), 2, "lanczos"), "unknown kernel 'lanczos'; known are box, bicubic"),
        (((8, 8), 2, ["box"]), "unknown kernel"),
    ],
)
def test_downsample_errors(arguments, message):
    with pytest.raises(InputError, match=message):
        Downsample(*arguments)


def test_move_errors():
    A = Hadamard((8,), m=4)
    with pytest.raises(InputError, match="float32 or float64"):
        A.to(dtype=torch.float16)
    with pytest.raises(InputError, match="cannot move"):
        A.to("nowhere")
    with pytest.raises(InputError, match="cannot move"):
        A.to(torch.float64)


GOOD = {"kind": "Hadamard", "event_shape": [8], "m": 4, "seed": 0}


@pytest.mark.parametrize(
    ("dictionary", "message"),
    [
        ([1], "dictionary, got list"),
        ({}, "unknown kind of operator None; known are .*DCT.*Hadamard"),
        (GOOD | {"kind": "Fourier"}, "unknown kind of operator 'Fourier'"),
        (GOOD | {"kind": ["DCT"]}, "unknown kind"),
        ({k: v for k, v in GOOD.items() if k != "m"}, r"missing \['m'\]"),
        (GOOD | {"rows": 3}, r"unexpected \['rows'\]"),
        (GOOD | {"m": "4"}, "m must be an integer"),
        (GOOD | {"m": 9}, "m must be between"),
        (GOOD | {"event_shape": 2.5}, "event_shape"),
        ({"kind": "Dense", "matrix": [[1.0]], "event_shape": [1], "row_gram": None}, "tensor"),
    ],
)
def test_dictionary_errors(dictionary, message):
    with pytest.raises(InputError, match=message):
        operators.from_dict(dictionary)


def test_from_dict_of_a_class_makes_only_this_class():
    with pytest.raises(InputError, match="unknown kind of operator 'Hadamard'; known are DCT"):
        DCT.from_dict(GOOD)


def test_replacement_must_have_m_measurements():
    A = Hadamard((8,), m=4)
    message = r"\(3,\).*returns \(\*leading, 4\)"
    with pytest.raises(InputError, match=message), replace_output(A, torch.zeros(3)):
        pass
