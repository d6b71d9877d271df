"""Distributions of the project, built as a release builds them."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def built(kind, folder, *, root=ROOT):
    """The wheel or the sdist of a checkout, in an empty folder."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", folder], cwd=root, check=True)
    (path,) = folder.iterdir()
    return path
