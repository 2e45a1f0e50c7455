"""Loops and vectors in LLVM's form, for what no loop of numba's compiles to.

Numba's cache on disk looks for changes only in the file of the function that it holds, so one that
is made here has to touch ``kernels.py`` as well.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped, unused-ignore]

INT, INT32, FLOAT = ir.IntType(64), ir.IntType(32), ir.FloatType()


class Loop:
    """A loop in LLVM's form, run at least once, that carries values from one turn to the next.

    Args:
        builder: Where its instructions go.
        times: Number of turns.
        firsts: Values of the first turn.
    """

    def __init__(self, builder: Any, times: Any, firsts: Sequence[Any]) -> None:
        self.builder, self.times, self.firsts = builder, times, firsts

    def __enter__(self) -> "Loop":
        start, self.body = self.builder.block, self.builder.append_basic_block()
        self.builder.branch(self.body)
        self.builder.position_at_end(self.body)
        self.values = []
        for first in [constant(0), *self.firsts]:
            self.values.append(self.builder.phi(first.type))
            self.values[-1].add_incoming(first, start)
        self.turn = self.values.pop(0)
        return self

    def next(self, results: Sequence[Any]) -> None:
        """Say what the next turn starts from, or what is left after the last."""
        self.results = results

    def __exit__(self, *error: object) -> None:
        turns = self.builder.add(self.turn, constant(1))
        carried = zip([self.turn, *self.values], [turns, *self.results], strict=True)
        for value, following in carried:
            value.add_incoming(following, self.builder.block)
        end = self.builder.append_basic_block()
        more = self.builder.icmp_signed("<", turns, self.times)
        self.builder.cbranch(more, self.body, end)
        self.builder.position_at_end(end)


def constant(number: int) -> Any:
    """A 64-bit integer."""
    return ir.Constant(INT, number)


def load(builder: Any, address: Any, kind: Any, align: int) -> Any:
    """What stands at an address."""
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=align)


def step(builder: Any, address: Any, step: Any, times: int) -> Any:
    """An address some steps on."""
    return builder.add(address, builder.mul(step, constant(times)))


def repeat(builder: Any, value: Any, lanes: int) -> Any:
    """A vector of one value."""
    empty = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(INT32, 0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(INT32, lanes), None))


def widen(builder: Any, bits: Any) -> Any:
    """Float32 from the 16 bits of a number of half precision.

    LLVM's own conversion crashes where the machine has no instruction for it.
    """
    bits = builder.zext(bits, INT32)
    number = lambda value: ir.Constant(INT32, value)  # noqa: E731
    # exponent and mantissa where those of a float32 are; its exponents are larger by 112
    size = builder.shl(builder.and_(bits, number(0x7FFF)), number(13))
    normal = builder.add(size, number(112 << 23))
    # without an exponent it is a mantissa that lacks the leading one
    lead = builder.bitcast(builder.add(size, number(113 << 23)), FLOAT)
    small = builder.bitcast(builder.fsub(lead, ir.Constant(FLOAT, 2.0**-14)), INT32)
    endless = builder.add(size, number(224 << 23))
    absolute = builder.select(
        builder.icmp_unsigned("<", size, number(1 << 23)),
        small,
        builder.select(builder.icmp_unsigned("<", size, number(31 << 23)), normal, endless),
    )
    sign = builder.shl(builder.and_(bits, number(0x8000)), number(16))
    return builder.bitcast(builder.or_(absolute, sign), FLOAT)
