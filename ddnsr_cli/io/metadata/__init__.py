"""What files say beside their pixels: EXIF, IPTC, XMP, and the directories they lie in."""
