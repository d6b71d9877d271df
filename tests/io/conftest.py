"""What several test modules of this folder share."""

import pytest

from ddnsr_cli.io.read import read_image


@pytest.fixture
def read(tmp_path):
    """`read(data)`: the image that a file with these bytes holds; the name tells nothing."""

    def run(data, **options):
        path = tmp_path / "image.bin"
        path.write_bytes(data)
        return read_image(path, **options)

    return run
