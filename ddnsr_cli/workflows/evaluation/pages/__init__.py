"""The pieces of the pages for people: their tables, cards and scripts."""
