#!/usr/bin/env python3
"""Writes tests/data/quant/TYPE.bin: packed blocks and the float32 values that they stand for.

The values come from the Python package `gguf` (pip install gguf), so they are independent of this project's own code.
Where the package can quantise a type, half of the blocks are its quantisation of Gaussian data; the others are random
codes and scales. Every file also has blocks of extreme bytes: all bits clear, all bits set, and each of the largest,
smallest and negative scales. Scales are finite, because a file with others is damaged.

Usage: tools/make_quant_fixtures.py [--out DIR]

Layout of a file, little-endian:
    8 bytes   "TDLQUANT"
    u32       the type's number in GGUF files
    u32       n, the number of elements
    u32       the number of packed bytes
    u8[...]   the packed blocks
    f32[n]    their values
"""

import argparse
import pathlib
import struct

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES

# Byte offsets of the f16 numbers in a block.
F16_FIELDS = {
    Type.Q4_0: [0],
    Type.Q4_1: [0, 2],
    Type.Q5_0: [0],
    Type.Q8_0: [0],
    Type.Q4_K: [0, 2],
    Type.Q5_K: [0, 2],
    Type.Q6_K: [208],
    Type.Q5_1: [0, 2],
    Type.Q2_K: [80, 82],
    Type.Q3_K: [108],
    Type.IQ4_NL: [0],
    Type.IQ4_XS: [0],
}
QUANTISED_BY_PACKAGE = [Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q8_0, Type.Q5_1]
# Zeros of both signs, the smallest and the largest subnormal, one, a third, and the largest of both signs.
EXTREME_F16 = [0x0000, 0x8000, 0x0001, 0x03FF, 0x3C00, 0x3555, 0x7BFF, 0xFBFF]


def random_f16(rng, count):
    """Finite f16 bits with all exponents, both signs."""
    bits = rng.integers(0, 1 << 16, size=count, dtype=np.uint32).astype(np.uint16)
    infinite = (bits & 0x7C00) == 0x7C00
    bits[infinite] &= 0xBFFF
    return bits


def packed_blocks(rng, dtype):
    block_size, block_bytes = GGML_QUANT_SIZES[dtype]
    blocks = []
    if dtype in QUANTISED_BY_PACKAGE:
        data = rng.standard_normal((12, block_size)).astype(np.float32)
        blocks.extend(quants.quantize(data, dtype).reshape(12, block_bytes))
    for _ in range(12 if block_size == 32 else 4):
        block = rng.integers(0, 256, size=block_bytes, dtype=np.uint32).astype(np.uint8)
        for offset in F16_FIELDS[dtype]:
            block[offset : offset + 2] = random_f16(rng, 1).view(np.uint8)
        blocks.append(block)
    for fill in (0x00, 0xFF, 0x80, 0x7F):
        for index in range(0, len(EXTREME_F16), 1 if block_size == 32 else 2):
            block = np.full(block_bytes, fill, dtype=np.uint8)
            for field, offset in enumerate(F16_FIELDS[dtype]):
                scale = EXTREME_F16[(index + 3 * field) % len(EXTREME_F16)]
                block[offset : offset + 2] = np.array([scale], dtype="<u2").view(np.uint8)
            blocks.append(block)
    return np.stack(blocks)


def float_values(rng, dtype):
    """Packed elements of a float type: special values, then random finite ones."""
    if dtype == Type.F32:
        special = np.array([0x0, 0x80000000, 1, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000], dtype=np.uint32)
        return np.concatenate([special, rng.standard_normal(57).astype(np.float32).view(np.uint32)]).view(np.uint8)
    infinity = 0x7C00 if dtype == Type.F16 else 0x7F80
    special = np.array([0, 0x8000, 1, 0x8001, 0x03FF, 0x0400, infinity - 1, infinity, infinity | 0x8000], dtype=np.uint16)
    bits = rng.integers(0, 1 << 16, size=503, dtype=np.uint32).astype(np.uint16)
    bits[(bits & infinity) == infinity] &= np.uint16(0xFFFF ^ (infinity & 0x4000))
    return np.concatenate([special, bits]).view(np.uint8)


def write(folder, dtype, packed):
    values = quants.dequantize(packed, dtype).astype("<f4").reshape(-1)
    raw = packed.tobytes()
    path = folder / f"{dtype.name.lower()}.bin"
    header = b"TDLQUANT" + struct.pack("<III", dtype.value, values.size, len(raw))
    path.write_bytes(header + raw + values.tobytes())
    print(f"{path}: {values.size} elements, {path.stat().st_size} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "quant"
    parser.add_argument("--out", type=pathlib.Path, default=default, help="folder to write to")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(20240607)
    with np.errstate(over="ignore", invalid="ignore"):
        for dtype in (Type.F32, Type.F16, Type.BF16):
            write(folder, dtype, float_values(rng, dtype))
        for dtype in F16_FIELDS:
            write(folder, dtype, packed_blocks(rng, dtype))


if __name__ == "__main__":
    main()
