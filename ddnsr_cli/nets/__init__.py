"""Networks: torch only, no files."""
