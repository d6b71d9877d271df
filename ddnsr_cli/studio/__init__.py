"""`ddnsr studio`: a page on this machine, for people who would rather drop images than type."""
