"""ddnsr: up-scale noisy real photos four times, and learn a camera's own degradation from unpaired images.

The Python API; docs/python.md shows it at work. Importing the package loads none of it: each name is loaded when it is
first used, and PyTorch with the first that needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ddnsr_cli.api.images import read_image, write_image
    from ddnsr_cli.api.models import Degrader, Model, degrade, evaluate, load_degrader, load_model, upscale
    from ddnsr_cli.errors import DdnsrError
    from ddnsr_cli.io.image import RasterImage
else:
    _HOMES = {
        "DdnsrError": "ddnsr_cli.errors",
        "Degrader": "ddnsr_cli.api.models",
        "Model": "ddnsr_cli.api.models",
        "RasterImage": "ddnsr_cli.io.image",
        "degrade": "ddnsr_cli.api.models",
        "evaluate": "ddnsr_cli.api.models",
        "load_degrader": "ddnsr_cli.api.models",
        "load_model": "ddnsr_cli.api.models",
        "read_image": "ddnsr_cli.api.images",
        "upscale": "ddnsr_cli.api.models",
        "write_image": "ddnsr_cli.api.images",
    }

    def __getattr__(name):  # noqa: ANN001, ANN202  # hidden from type checkers: to them every name would exist
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value

    def __dir__():  # noqa: ANN202
        return sorted({*globals(), *_HOMES})


__all__ = [
    "DdnsrError",
    "Degrader",
    "Model",
    "RasterImage",
    "__version__",
    "degrade",
    "evaluate",
    "load_degrader",
    "load_model",
    "read_image",
    "upscale",
    "write_image",
]
