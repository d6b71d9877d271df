"""What `ddnsr degrade` is made of: the manifest, the noisy photos, the ways from HR to LR, the pool of workers."""
