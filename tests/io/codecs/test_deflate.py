import zlib

import pytest

from ddnsr_cli.io.codecs.deflate import in_parallel, zlib_stream


@pytest.mark.parametrize("level", [0, 6, 9])
@pytest.mark.parametrize("count", [0, 1, 2, 200])
def test_the_stream_is_one_that_zlib_reads_checksum_and_all(level, count):
    parts = [bytes([index % 256]) * (index * 37 % 999) for index in range(count)]
    assert zlib.decompress(b"".join(zlib_stream(iter(parts), level=level))) == b"".join(parts)


def test_results_come_in_order():
    parts = [str(index).encode() for index in range(500)]
    assert list(in_parallel(lambda part: part[::-1], iter(parts))) == [part[::-1] for part in parts]


def test_parts_are_taken_as_they_are_needed():
    taken = []

    def parts():
        for index in range(10_000):
            taken.append(index)
            yield b"x"

    stream = in_parallel(bytes, parts())
    next(stream)
    stream.close()
    assert len(taken) < 100


def test_an_error_in_the_work_comes_out():
    with pytest.raises(ZeroDivisionError):
        list(in_parallel(lambda _: bytes(1 // 0), [b"x"]))
