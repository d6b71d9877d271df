"""The terminal: parse, call one workflow, print."""
