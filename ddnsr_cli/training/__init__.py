"""The training loop: schedule, state, step."""
