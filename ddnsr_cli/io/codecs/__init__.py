"""One module a format: its samples and its metadata, in and out."""
