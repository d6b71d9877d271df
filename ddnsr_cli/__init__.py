"""ddnsr: up-scale noisy real photos four times, and learn a camera's own degradation from unpaired pictures."""

__version__ = "0.1.0"
