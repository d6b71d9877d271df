import pytest

from ddnsr_cli.io.codecs.tiff import in_parallel


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
