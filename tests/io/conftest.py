"""What several test modules of this folder share."""

import pytest

from ddnsr_cli.io.read import read_picture


@pytest.fixture
def read(tmp_path):
    """`read(data)`: the picture that a file with these bytes holds; the name tells nothing."""

    def run(data, **options):
        path = tmp_path / "picture.bin"
        path.write_bytes(data)
        return read_picture(path, **options)

    return run
