"""Calls of operators as effects: code around a model can see them, or answer them.

Pyro's handlers can look inside a model because every ``sample`` statement asks them before it
acts. Operators do the same: ``A(x)`` asks the handlers that are active in this thread, innermost
first, and computes only when none of them has an answer. So a model stays an ordinary function,
and an inference algorithm can still learn which signal entered which operator, or run the model
with measurements of its own:

    >>> import torch
    >>> from bayes1bit.operators import Hadamard, record_operators, replace_output
    >>> A = Hadamard((8,), m=4)
    >>> with record_operators() as calls, replace_output(A, torch.zeros(4)):
    ...     y = A(torch.ones(8))
    >>> calls[0].operator is A, y.tolist()
    (True, [0.0, 0.0, 0.0, 0.0])

The adjoint ``A.T(v)`` is plain arithmetic and asks nobody.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from bayes1bit.errors import InputError

if TYPE_CHECKING:
    from bayes1bit.operators.base import LinearOperator


class OperatorCall(NamedTuple):
    """One call ``output = operator(input)``, as :func:`record_operators` lists it.

    Attributes:
        operator: The operator.
        input: Signals, shape (*leading, *event).
        output: Measurements, shape (*leading, m).
    """

    operator: "LinearOperator"
    input: Tensor
    output: Tensor


class _Handler:
    """What a handler may do; this one does nothing."""

    def answer(self, operator: "LinearOperator") -> Tensor | None:
        """Output to use in place of the computation, or None to leave it to others."""
        return None

    def observe(self, call: OperatorCall) -> None:
        """Take note of a finished call."""


class _Recorder(_Handler):
    def __init__(self) -> None:
        self.calls: list[OperatorCall] = []

    def observe(self, call: OperatorCall) -> None:
        self.calls.append(call)


class _Replacement(_Handler):
    def __init__(self, operator: "LinearOperator", output: Tensor) -> None:
        self.operator = operator
        self.output = output

    def answer(self, operator: "LinearOperator") -> Tensor | None:
        return self.output if operator is self.operator else None


class _Active(threading.local):
    """Handlers of this thread, outermost first."""

    def __init__(self) -> None:
        self.handlers: list[_Handler] = []


_active = _Active()


@contextmanager
def _handling(handler: _Handler) -> Iterator[None]:
    _active.handlers.append(handler)
    try:
        yield
    finally:
        _active.handlers.remove(handler)


def perform(operator: "LinearOperator", x: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """Answer the call ``operator(x)``: by the innermost handler that can, or else by computing.

    Args:
        operator: The operator that is called.
        x: Its input.
        compute: Computes the output when no handler gives one.

    Returns:
        The output, which every active handler has seen.
    """
    handlers = _active.handlers[::-1]
    answers = (handler.answer(operator) for handler in handlers)
    output = next((answer for answer in answers if answer is not None), None)
    if output is None:
        output = compute(x)
    for handler in handlers:
        handler.observe(OperatorCall(operator, x, output))
    return output


@contextmanager
def record_operators() -> Iterator[list[OperatorCall]]:
    """List every call of any operator in the block.

    Yields:
        A list of :class:`OperatorCall`, which grows as the block runs.
    """
    recorder = _Recorder()
    with _handling(recorder):
        yield recorder.calls


@contextmanager
def replace_output(operator: "LinearOperator", output: Tensor) -> Iterator[None]:
    """Let calls of one operator return a given output, without computing anything.

    Only this very object is answered; an equal operator made anew computes as usual. When blocks
    for the same operator are nested, the innermost counts.

    Args:
        operator: The operator whose calls are answered.
        output: Measurements, shape (*leading, m). They are returned as they are, whatever the
            leading shape of the input.

    Raises:
        InputError: If the last dimension of ``output`` is not ``operator.m``.
    """
    if output.shape[-1:] != (operator.m,):
        raise InputError(
            f"output has shape {tuple(output.shape)}, but {operator!r} returns "
            f"(*leading, {operator.m})"
        )
    with _handling(_Replacement(operator, output)):
        yield
