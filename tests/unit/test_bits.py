"""Numbers in the headers of video streams."""

from __future__ import annotations

import pytest

from dataminer.stages.extract.selection.bits import BitReader


def reader(bits: str) -> BitReader:
    """Return a reader of bits written as 0 and 1, in whole bytes."""
    assert len(bits) % 8 == 0
    return BitReader(int(bits, 2).to_bytes(len(bits) // 8))


def test_bits_are_read_from_the_first() -> None:
    bits = reader("1011000111100000")
    assert [bits.read(count) for count in (1, 0, 3, 4, 5)] == [1, 0, 0b011, 0b0001, 0b11100]


def test_zeros_follow_the_last_bit() -> None:
    bits = reader("11111111")
    assert bits.read(5) == 0b11111
    assert bits.read(200) == 0b111 << 197
    assert bits.read(7) == 0


@pytest.mark.parametrize(
    ("code", "number"), [("1", 0), ("010", 1), ("011", 2), ("00100", 3), ("0001000", 7)]
)
def test_exp_golomb_codes(code: str, number: int) -> None:
    """ITU-T H.264, table 9-2."""
    bits = reader((code + "101").ljust(16, "0"))
    assert bits.read_exp_golomb() == number
    assert bits.read(3) == 0b101


def test_a_code_that_does_not_end_is_no_number_below_zero() -> None:
    assert reader("00000000").read_exp_golomb() == 0
    assert BitReader(b"").read_exp_golomb() == 0
