"""How much of the host's memory a result takes while it is made."""

from ddnsr_cli.images.picture import Picture

RESIZE_BYTES = 18  # a sample of a resized result while it is made: four times float32, once or twice itself
PLANE_BYTES = 16  # a sample of the input as float: for the network, and what each step of the result shrinks to


def result_bytes(picture: Picture, size: tuple[int, int], scale: int) -> int:
    """Bytes for the result of a picture, (width, height) in pixels, and all that is as long-lived as it.

    Not counted: the network's tiles and the bands they make, which follow what is free.
    """
    channels = picture.pixels.shape[2] + picture.has_alpha
    width, height = size
    need = picture.pixels.itemsize * channels * picture.width * picture.height * scale**2
    need += PLANE_BYTES * channels * picture.width * picture.height
    if size != (picture.width * scale, picture.height * scale):
        need += channels * (RESIZE_BYTES * width * height + 4 * width * picture.height * scale)  # the pass across
    return int(need)
