"""What several test modules of this folder share."""

import pytest

from ddnsr_cli.io.read import read_image


@pytest.fixture
def read(tmp_path):
    """`read(data)`: the image that a file with these bytes holds; the name tells nothing, unless it is given."""

    def run(data, *, name="image.bin", **options):
        path = tmp_path / name
        path.write_bytes(data)
        return read_image(path, **options)

    return run
