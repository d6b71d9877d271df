"""The recipes are scripts: their folders are put where they are imported from when they run."""

import sys
from pathlib import Path

RECIPES = Path(__file__).parents[2] / "recipes"
sys.path[:0] = [str(RECIPES), str(RECIPES / "gpu")]
