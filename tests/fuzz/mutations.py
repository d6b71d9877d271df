"""A valid file made invalid: the same file and the same chance give the same bytes."""

import struct
import zlib

NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    8,
    16,
    127,
    128,
    255,
    256,
    4096,
    32767,
    32768,
    65535,
    65536,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
MOST_BYTES = 200_000


def mutated(data, others, chance):
    """`data` after one to eight changes. others: files to take pieces from. chance: a `random.Random`."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5, 8))):
        change = chance.choice(CHANGES)
        if changed:
            change(changed, others, chance)
    if data.startswith(b"\x89PNG") and chance.random() < 0.7:
        return with_checksums(bytes(changed))  # else nothing behind the checksums would ever be reached
    return bytes(changed[:MOST_BYTES])


def place(data, chance):
    """Anywhere, but oftener near the front, where headers are."""
    return chance.randrange(chance.choice((len(data), len(data), min(len(data), 64), min(len(data), 400))))


def flip(data, _others, chance):
    data[place(data, chance)] ^= 1 << chance.randrange(8)


def replace(data, _others, chance):
    data[place(data, chance)] = chance.choice((0, 1, 127, 128, 254, 255, chance.randrange(256)))


def number(data, _others, chance):
    code = chance.choice((">H", "<H", ">I", "<I", "<Q"))
    size = struct.calcsize(code)
    at = place(data, chance)
    data[at : at + size] = struct.pack(code, chance.choice(NUMBERS) % (1 << 8 * size))


def nudge(data, _others, chance):
    """A number a little larger or smaller."""
    at = place(data, chance)
    data[at] = (data[at] + chance.choice((-2, -1, 1, 2))) % 256


def cut(data, _others, chance):
    del data[place(data, chance) :]


def drop(data, _others, chance):
    at = place(data, chance)
    del data[at : at + chance.choice((1, 2, 4, 12, 100))]


def insert(data, _others, chance):
    at = place(data, chance)
    data[at:at] = chance.randbytes(chance.choice((1, 2, 4, 12, 100)))


def repeat(data, _others, chance):
    at, length = place(data, chance), chance.choice((1, 4, 12, 100, 1000))
    data[at:at] = data[at : at + length] * chance.choice((1, 2, 20))


def blank(data, _others, chance):
    at, length = place(data, chance), chance.choice((4, 16, 100, 1000))
    data[at : at + length] = bytes([chance.choice((0, 255))]) * len(data[at : at + length])


def swap(data, _others, chance):
    one, other, length = place(data, chance), place(data, chance), chance.choice((1, 4, 16, 100))
    data[one : one + length], data[other : other + length] = data[other : other + length], data[one : one + length]


def splice(data, others, chance):
    donor = chance.choice(others)
    at, length = chance.randrange(len(donor)), chance.choice((4, 16, 100, 1000))
    here = place(data, chance)
    data[here : here + chance.choice((0, length))] = donor[at : at + length]


CHANGES = (flip, replace, replace, number, number, number, nudge, cut, drop, insert, repeat, blank, swap, splice)


def with_checksums(data):
    """A PNG whose chunks have the checksums that their content wants, as far as it can be walked."""
    walked, at = data[:8], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 8 + length]
        if at + 12 + length > len(data):
            break
        walked += data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return walked + data[at:]
