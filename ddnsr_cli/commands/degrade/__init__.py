"""What `ddnsr degrade` does: from clean HR images and real noisy photos to a paired data set."""
