import json

import numpy as np
import pytest
from safetensors.numpy import save

from ddnsr_cli.weights.hub.prefix import LayoutError, Place, header_length, read_places, runs_of

SHAPES = {"b": (4,), "a": (2, 3), "d": (5,)}
ENTRIES = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "F32", "shape": [4], "data_offsets": [24, 40]},
    "c": {"dtype": "I64", "shape": [1], "data_offsets": [40, 48]},
    "d": {"dtype": "F16", "shape": [5], "data_offsets": [48, 58]},
}
PLACES = {
    "a": Place(dtype="F32", shape=(2, 3), start=0, stop=24),
    "b": Place(dtype="F32", shape=(4,), start=24, stop=40),
    "d": Place(dtype="F16", shape=(5,), start=48, stop=58),
}


def test_places_are_found_in_the_order_of_the_data():
    found = read_places(json.dumps(dict(reversed(ENTRIES.items()))).encode(), SHAPES, 58)
    assert list(found.items()) == list(PLACES.items())
    assert runs_of(found) == [(0, 40), (48, 58)]


def test_a_file_of_the_formats_own_writer_is_understood():
    content = save({name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()})
    length = header_length(content[:8], len(content))
    assert list(read_places(content[8 : 8 + length], SHAPES, 60)) == ["a", "b", "d"]


def with_b(**change):
    return ENTRIES | {"b": ENTRIES["b"] | change}


LIES = {
    "no table": ([ENTRIES], "no table"),
    "missing": ({"__metadata__": {}}, "no b"),
    "no entry": (ENTRIES | {"b": 3}, "no b"),
    "shape": (with_b(shape=[2, 2]), "b not of the shape"),
    "no shape": (with_b(shape=None), "b not of the shape"),
    "dtype": (with_b(dtype="I32"), "another type"),
    "no dtype": (with_b(dtype=None), "another type"),
    "odd dtype": (with_b(dtype=["F32"]), "another type"),
    "half": (with_b(dtype="F16"), "offsets that cannot be"),
    "beyond": (with_b(data_offsets=[43, 59]), "offsets that cannot be"),
    "negative": (with_b(data_offsets=[-16, 0]), "offsets that cannot be"),
    "backwards": (with_b(data_offsets=[40, 24]), "offsets that cannot be"),
    "length": (with_b(data_offsets=[24, 41]), "offsets that cannot be"),
    "words": (with_b(data_offsets=["24", "40"]), "without offsets"),
    "truths": (with_b(data_offsets=[False, 16]), "without offsets"),
    "three": (with_b(data_offsets=[24, 40, 56]), "without offsets"),
    "shared": (with_b(data_offsets=[20, 36]), "bytes of another tensor"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_header_that_lies_is_refused(name):
    entries, words = LIES[name]
    with pytest.raises(LayoutError, match=words):
        read_places(json.dumps(entries).encode(), SHAPES, 58)


@pytest.mark.parametrize("text", [b"", b"\xff" * 80, b"[" * 100_000, b"{", b"1" * 10_000])
def test_a_header_that_is_no_json_is_refused(text):
    with pytest.raises(LayoutError, match="no JSON"):
        read_places(text, SHAPES, 58)


@pytest.mark.parametrize(
    ("length", "file_bytes"), [(0, 100), (93, 100), (2**20 + 1, 2**30), (2**64 - 1, 2**30), (1, 5)]
)
def test_an_absurd_header_length_is_refused(length, file_bytes):
    with pytest.raises(LayoutError, match=f"a header of {length} bytes"):
        header_length(length.to_bytes(8, "little"), file_bytes)


def test_a_header_may_fill_the_file():
    assert header_length((92).to_bytes(8, "little"), 100) == 92
