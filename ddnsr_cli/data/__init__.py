"""Training data: photos, crops and classical degradations."""
