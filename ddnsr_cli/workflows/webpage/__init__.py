"""What every page that the commands write has in common."""
