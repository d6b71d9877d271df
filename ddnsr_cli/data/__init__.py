"""Training data: images, crops and classical degradations."""
