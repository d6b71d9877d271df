"""The package itself: quick to import, without PyTorch, and every public name is there."""

import subprocess
import sys

import pytest

import ddnsr_cli as ddnsr_api


def run(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_it_loads_neither_torch_nor_numpy_and_takes_no_time():
    program = """
import sys, time
start = time.process_time()
import ddnsr_cli
print(time.process_time() - start < 0.1, "torch" in sys.modules, "numpy" in sys.modules)
"""
    assert run(program) == ["True", "False", "False"]


def test_files_are_read_without_torch(tmp_path):
    path = tmp_path / "a.png"
    program = f"""
import sys, numpy, ddnsr_cli
ddnsr_cli.write_image(numpy.zeros((5, 6, 3), numpy.uint8), {str(path)!r})
print(*numpy.asarray(ddnsr_cli.read_image({str(path)!r})).shape, "torch" in sys.modules)
"""
    assert run(program) == ["5", "6", "3", "False"]


def test_every_public_name_is_there():
    for name in ddnsr_api.__all__:
        assert getattr(ddnsr_api, name) is not None
        assert name in dir(ddnsr_api)
    assert set(ddnsr_api._HOMES) == set(ddnsr_api.__all__) - {"__version__"}


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="no attribute 'upscael'"):
        ddnsr_api.upscael  # noqa: B018
