import numpy as np
import pytest

from ddnsr_cli.data.validation.comparisons import near_pairs, same_bytes
from ddnsr_cli.data.validation.image_stats import image_hash
from tests.helpers.drawn_images import drawn_image, noisy, resized


@pytest.fixture(scope="module")
def clean():
    """Ten images."""
    return [drawn_image(seed) for seed in range(10)]


def test_unrelated_images_differ_in_many_bits(clean):
    hashes = [image_hash(image) for image in clean]
    nearest = min((one ^ other).bit_count() for one in hashes for other in hashes if one != other)
    assert nearest > 12
    assert max((image_hash(noisy(resized(clean[0], 0.4), 8)) ^ hashes[0]).bit_count(), 0) <= 6
    assert image_hash(np.full((64, 64, 3), 90, np.uint8)) is None


@pytest.mark.parametrize("most_bits", [0, 3, 6])
def test_near_pairs_finds_what_a_search_of_all_pairs_finds(most_bits):
    rng = np.random.default_rng(3)
    hashes = [int(value) for value in rng.integers(0, 2**63, 300)]
    for number in range(300):
        flips = rng.choice(64, int(rng.integers(0, 12)), replace=False)
        hashes.append(hashes[number] ^ sum(1 << int(bit) for bit in flips))
    found = {later: (earlier, bits) for later, earlier, bits in near_pairs(hashes, most_bits)}
    distance = {later: (hashes[later] ^ hashes[earlier]).bit_count() for later, (earlier, _) in found.items()}
    assert distance == {later: bits for later, (_, bits) in found.items()}
    near = {
        later
        for later in range(600)
        if any((hashes[later] ^ hashes[earlier]).bit_count() <= most_bits for earlier in range(later))
    }
    assert set(found) == near
    assert all(earlier < later for later, (earlier, _) in found.items())


def test_same_bytes_reads_beyond_the_middle(tmp_path):
    data = bytes(200_000)
    contents = {"a": data, "b": data[:-1] + b"x", "c": data, "d": data + b"x", "e": data}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    pairs = list(same_bytes([tmp_path / name for name in contents]))
    assert pairs == [(tmp_path / "c", tmp_path / "a"), (tmp_path / "e", tmp_path / "a")]
