"""Files and images: finding, reading and writing them, with their metadata."""
