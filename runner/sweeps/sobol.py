"""Points of the Sobol sequence: they cover a cube more evenly than random ones, however many are taken.

Direction numbers by S. Joe and F. Y. Kuo, "Constructing Sobol sequences with better two-dimensional projections"
(2008). Each row: degree and coefficients of a primitive polynomial, then the first direction numbers.
"""

from __future__ import annotations

from functools import cache
from random import Random

_BITS = 32
_ROWS = (
    (1, 0, (1,)),
    (2, 1, (1, 3)),
    (3, 1, (1, 3, 1)),
    (3, 2, (1, 1, 1)),
    (4, 1, (1, 1, 3, 3)),
    (4, 4, (1, 3, 5, 13)),
    (5, 2, (1, 1, 5, 5, 17)),
    (5, 4, (1, 1, 5, 5, 5)),
    (5, 7, (1, 1, 7, 11, 19)),
    (5, 11, (1, 1, 5, 1, 1)),
    (5, 13, (1, 1, 1, 3, 11)),
    (5, 14, (1, 3, 5, 5, 31)),
    (6, 1, (1, 3, 3, 9, 7, 49)),
    (6, 13, (1, 1, 1, 15, 21, 21)),
    (6, 16, (1, 3, 1, 13, 27, 49)),
    (6, 19, (1, 1, 1, 15, 7, 5)),
    (6, 22, (1, 3, 1, 15, 13, 25)),
    (6, 25, (1, 1, 5, 5, 19, 61)),
    (7, 1, (1, 3, 7, 11, 23, 15, 103)),
    (7, 4, (1, 3, 7, 13, 13, 15, 69)),
)
DIMENSIONS = len(_ROWS) + 1
"""So many parameters can be sampled."""


@cache
def _directions(dimension: int) -> tuple[int, ...]:
    if dimension == 0:
        return tuple(1 << (_BITS - 1 - bit) for bit in range(_BITS))
    degree, coefficients, first = _ROWS[dimension - 1]
    numbers = [value << (_BITS - 1 - bit) for bit, value in enumerate(first)]
    for bit in range(degree, _BITS):
        value = numbers[bit - degree] ^ (numbers[bit - degree] >> degree)
        for term in range(1, degree):
            if coefficients >> (degree - 1 - term) & 1:
                value ^= numbers[bit - term]
        numbers.append(value)
    return tuple(numbers)


def point(number: int, dimensions: int, seed: int | None = None) -> tuple[float, ...]:
    """Point `number` (from 0) in [0, 1)^dimensions.

    Args:
        seed: shifts all points by the same random bits, which keeps them even; None: the sequence as it is.
    """
    gray = number ^ (number >> 1)
    shifts = Random(seed)
    found = []
    for dimension in range(dimensions):
        value = 0 if seed is None else shifts.getrandbits(_BITS)
        for bit, direction in enumerate(_directions(dimension)):
            if gray >> bit & 1:
                value ^= direction
        found.append(value / 2**_BITS)
    return tuple(found)
