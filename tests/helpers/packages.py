"""Distributions of the project, built as a release builds them, but without compression: it takes most of the time."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = """
import sys, zlib
from hatchling.cli import hatchling

compressor = zlib.compressobj
zlib.compressobj = lambda _level, *words: compressor(0, *words)
sys.exit(hatchling())
"""


def built(kind, folder, *, root=ROOT):
    """The wheel or the sdist of a checkout, in an empty folder."""
    subprocess.run([sys.executable, "-P", "-c", BUILD, "build", "-t", kind, "-d", folder], cwd=root, check=True)
    (path,) = folder.iterdir()
    return path
