"""From a name to a loaded network."""
