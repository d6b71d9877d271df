"""What `ddnsr weights` does with files: convert, mix, push."""
