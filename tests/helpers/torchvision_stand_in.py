"""Imported before spandrel: it takes two small functions of torchvision, for networks that are not used here, and
torchvision itself cannot be imported beside a PyTorch of another build.
"""

import sys
import types

_functional = types.ModuleType("torchvision.transforms.functional")
_functional.InterpolationMode = _functional.rotate = _functional.normalize = None
sys.modules["torchvision"] = types.ModuleType("torchvision")
sys.modules["torchvision.transforms"] = types.ModuleType("torchvision.transforms")
sys.modules["torchvision.transforms.functional"] = _functional
