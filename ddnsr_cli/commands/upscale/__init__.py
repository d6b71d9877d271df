"""What `ddnsr upscale` does: from image files to larger image files."""
