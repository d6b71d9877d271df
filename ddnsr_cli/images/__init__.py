"""Files and pixels: listing, reading, resizing and writing pictures."""
