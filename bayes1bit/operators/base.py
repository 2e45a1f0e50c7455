r"""What a sensing operator is: a linear map :math:`A` from signals to measurements.

An operator knows the shape of one signal (``event_shape``, n numbers) and the number m of its
measurements. It acts on the trailing dimensions of a tensor and keeps all leading ones, so one
signal, a batch of particles and whatever plates Pyro puts in front are the same call:

* ``A(x)``: shape (\*leading, \*event_shape) to (\*leading, m),
* ``A.T(v)``: shape (\*leading, m) to (\*leading, \*event_shape), the exact adjoint,
  :math:`\langle A x, v\rangle = \langle x, A^T v\rangle`.

A linear map is its own derivative, and its backward pass is its adjoint. So one autograd rule
serves every operator: a subclass gives the two maps on flat batches, (batch, n) to (batch, m) and
back, as plain arithmetic that may reuse its buffers, and gradients of any order,
``torch.func`` transforms and ``torch.vmap`` follow. Nothing is kept for the backward pass.

Some exact inference steps need :math:`A A^T = c I_m`; ``row_gram`` is that :math:`c`, or None
when the rows of the operator are not orthogonal with one norm.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor

from bayes1bit.errors import InputError
from bayes1bit.operators.arguments import positive_integer, seed_integer, shape_of_event
from bayes1bit.operators.effects import perform

_UNIT_VECTORS_AT_ONCE = 64
_KINDS: dict[str, type["LinearOperator"]] = {}


class LinearOperator(ABC):
    """Base class of all operators.

    A subclass implements :meth:`_forward` and :meth:`_adjoint`, and names itself with
    ``class MyOperator(LinearOperator, kind="MyOperator")`` when it should be found by
    :meth:`from_dict`; ``_arguments`` then lists its constructor's arguments, each of which is
    also an attribute.

    Args:
        event_shape: Shape of one signal.
        m: Number of measurements.
        row_gram: The c of A A^T = c I_m, or None.
        seed: Seed the operator is made from, or None.

    Attributes:
        event_shape: Shape of one signal.
        n: Number of elements of one signal.
        m: Number of measurements.
        row_gram: The c of A A^T = c I_m, or None if A A^T has no such form.
        seed: Seed the operator was made from, or None.
        device: Device of its tensors, and of the signals it takes.
        dtype: Type of its large tensors, ``torch.float32`` or ``torch.float64``. Outputs have
            the type of the input, whatever this is.

    Raises:
        InputError: If a size, ``m`` or ``seed`` is not a valid integer.
    """

    kind: ClassVar[str] = ""
    _arguments: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, kind: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if kind is not None:
            cls.kind = kind
            _KINDS[kind] = cls

    def __init__(
        self,
        event_shape: int | Sequence[int],
        m: int,
        row_gram: float | None = None,
        seed: int | None = None,
    ) -> None:
        self.event_shape = shape_of_event(event_shape)
        self.n = prod(self.event_shape)
        self.m = positive_integer("m", m)
        self.row_gram = row_gram
        self.seed = seed if seed is None else seed_integer(seed)
        self.device = torch.device("cpu")
        self.dtype = torch.float32

    @abstractmethod
    def _forward(self, x: Tensor) -> Tensor:
        """Map flat signals (batch, n) to a new tensor (batch, m) of the same type."""

    @abstractmethod
    def _adjoint(self, v: Tensor) -> Tensor:
        """Map measurements (batch, m) to a new tensor (batch, n) of the same type."""

    def __call__(self, x: Tensor) -> Tensor:
        """Measure signals.

        Args:
            x: Signals, shape (*leading, *event_shape), real floating point.

        Returns:
            Measurements A x, shape (*leading, m), of the type of ``x``.

        Raises:
            InputError: If ``x`` has another shape, another device or is not real floating point.
        """
        self._check("signal", x, self.event_shape)
        return perform(self, x, lambda x: cast(Tensor, _Apply.apply(x, self, False)))

    @property
    def T(self) -> "Adjoint":  # noqa: N802
        """The adjoint, called as ``A.T(v)``."""
        return Adjoint(self)

    @property
    def row_norms_squared(self) -> Tensor:
        """Squared norm of each row, the diagonal of A A^T, shape (m,); computed at each access."""
        if self.row_gram is not None:
            return torch.full((self.m,), self.row_gram, device=self.device, dtype=self.dtype)
        rows = torch.arange(self.m, device=self.device)
        unit_vectors = (part[:, None] == rows for part in rows.split(_UNIT_VECTORS_AT_ONCE))
        norms = [
            torch.linalg.vector_norm(self._adjoint(e.to(self.dtype)), dim=1) for e in unit_vectors
        ]
        return torch.cat(norms).square()

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Move the operator, in place, as modules do.

        Args:
            device: Device to move to, or None to stay.
            dtype: New type of the large tensors, ``torch.float32`` or ``torch.float64``, or None.

        Returns:
            The operator itself.

        Raises:
            InputError: If the device cannot be used or the type is another one.
        """
        if dtype not in (None, torch.float32, torch.float64):
            raise InputError(f"an operator is stored in float32 or float64, not in {dtype}")
        try:
            # An empty tensor turns "cuda" into the device with its index, as in `x.device`.
            target = torch.empty(0, device=device or self.device).device
        except (AssertionError, RuntimeError, TypeError) as error:
            raise InputError(f"cannot move an operator to {device!r}: {error}") from error
        self._move(target, dtype or self.dtype)
        return self

    def _move(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move every tensor of the operator; subclasses extend this with their own."""
        self.device = device
        self.dtype = dtype

    def to_dict(self) -> dict[str, Any]:
        """Everything needed to make the operator again.

        Returns:
            A dictionary that :meth:`from_dict` takes: "kind" and the constructor's arguments as
            plain JSON values. Only a dense matrix that has no seed is stored, as a tensor.
        """
        values = {name: getattr(self, name) for name in self._arguments}
        plain = {k: list(v) if isinstance(v, torch.Size) else v for k, v in values.items()}
        return {"kind": self.kind, **plain}

    @classmethod
    def from_dict(cls, dictionary: Mapping[str, Any]) -> Self:
        """Make an operator from its dictionary form, bit-identical to the one that was stored.

        Args:
            dictionary: What :meth:`to_dict` returned.

        Returns:
            The operator, on the CPU unless a stored matrix is elsewhere.

        Raises:
            InputError: If it is not a dictionary, the kind is unknown, a key is missing or
                unexpected, or a value is bad.
        """
        if not isinstance(dictionary, Mapping):
            raise InputError(
                f"an operator is made from a dictionary, got {type(dictionary).__name__}"
            )
        kind = dictionary.get("kind")
        operator_class = _KINDS.get(kind) if isinstance(kind, str) else None
        if operator_class is None or not issubclass(operator_class, cls):
            known = sorted(name for name, made in _KINDS.items() if issubclass(made, cls))
            raise InputError(f"unknown kind of operator {kind!r}; known are {', '.join(known)}")
        given = {str(key) for key in dictionary} - {"kind"}
        expected = set(operator_class._arguments)
        if given != expected:
            raise InputError(
                f"a dictionary of kind {kind!r} needs the keys {sorted(expected)}: "
                f"missing {sorted(expected - given)}, unexpected {sorted(given - expected)}"
            )
        return operator_class(**{name: dictionary[name] for name in expected})

    def __repr__(self) -> str:
        shown = [f"event_shape={tuple(self.event_shape)}", f"m={self.m}"]
        if self.seed is not None:
            shown.append(f"seed={self.seed}")
        if self.row_gram is not None:
            shown.append(f"row_gram={self.row_gram:g}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def _check(self, what: str, value: Any, shape: Sequence[int]) -> None:
        if not isinstance(value, Tensor):
            raise InputError(f"the {what} must be a torch.Tensor, got {type(value).__name__}")
        if not value.is_floating_point():
            raise InputError(f"the {what} must be real floating point, got {value.dtype}")
        if value.shape[max(0, value.ndim - len(shape)) :] != tuple(shape):
            expected = ", ".join(str(size) for size in shape)
            raise InputError(
                f"the {what} has shape {tuple(value.shape)}, but {self!r} expects "
                f"(*leading, {expected}){self._advice(what, value.shape)}"
            )
        if value.device != self.device:
            raise InputError(
                f"the {what} is on {value.device} and the operator on {self.device}: "
                f'move the operator with A.to("{value.device}")'
            )

    def _advice(self, what: str, shape: torch.Size) -> str:
        """End of the message about a wrong shape, for subclasses that know a remedy."""
        return ""


class Adjoint:
    """The transpose of an operator; ``A.T.T`` is ``A`` itself.

    Args:
        operator: The operator to transpose.
    """

    def __init__(self, operator: LinearOperator) -> None:
        self.T = operator

    def __call__(self, v: Tensor) -> Tensor:
        """Map measurements back to signals.

        Args:
            v: Shape (*leading, m), real floating point.

        Returns:
            A^T v, shape (*leading, *event_shape), of the type of ``v``.

        Raises:
            InputError: If ``v`` has another shape, another device or is not real floating point.
        """
        self.T._check("measurement", v, (self.T.m,))
        return cast(Tensor, _Apply.apply(v, self.T, True))

    def __repr__(self) -> str:
        return f"{self.T!r}.T"


class _Apply(torch.autograd.Function):
    """The autograd rule of every operator: the derivative of A is A, its backward pass A^T."""

    @staticmethod
    def forward(x: Tensor, operator: LinearOperator, transposed: bool) -> Tensor:
        # Reduced precision that surrounds a network must not reach the measurements.
        with torch.autocast(x.device.type, enabled=False):
            if transposed:
                signals = operator._adjoint(x.reshape(-1, operator.m))
                return signals.reshape(*x.shape[:-1], *operator.event_shape)
            leading = x.shape[: x.ndim - len(operator.event_shape)]
            return operator._forward(x.reshape(-1, operator.n)).reshape(*leading, operator.m)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.operator, ctx.transposed = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Apply.apply(gradient, ctx.operator, not ctx.transposed), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return cast(Tensor, _Apply.apply(tangent, ctx.operator, ctx.transposed))

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], x: Tensor, operator: LinearOperator, transposed: bool
    ) -> tuple[Tensor, int]:
        return _Apply.apply(x.movedim(in_dims[0], 0), operator, transposed), 0


def from_dict(dictionary: Mapping[str, Any]) -> LinearOperator:
    """Make an operator of any kind from its dictionary form: :meth:`LinearOperator.from_dict`."""
    return LinearOperator.from_dict(dictionary)
