import pytest
import torch

from ddnsr_cli.inference.tiling import Cut, Span, TensorSource, fade, tile_row


def test_a_fade_goes_smoothly_from_old_to_new():
    result = fade(torch.zeros(3, 5, 64), torch.ones(3, 5, 64), 2)
    ramp = result[0, 0]
    assert ramp[0] < 0.001
    assert ramp[-1] > 0.999
    assert (ramp.diff() > 0).all()
    torch.testing.assert_close(ramp + ramp.flip(0), torch.ones(64))
    torch.testing.assert_close(result, ramp.expand(3, 5, 64))


def test_a_fade_between_equal_values_is_exactly_those_values():
    values = torch.rand(3, 37, 4, generator=torch.Generator().manual_seed(0)) * 1e3
    assert torch.equal(fade(values, values.clone(), 1), values)


def test_a_fade_of_no_length_is_empty():
    assert fade(torch.zeros(3, 0, 4), torch.zeros(3, 0, 4), 1).shape == (3, 0, 4)


def test_a_row_of_tiles_is_cropped_and_joined_in_place():
    image = torch.rand(3, 8, 20, generator=torch.Generator().manual_seed(0))
    cols = Cut(12, (Span(0, 0, 11), Span(8, 9, 20)))
    row = Span(2, 3, 7)
    windows = [(span, image[:, 2:8, span.start : span.start + 12]) for span in cols.spans]
    assert torch.equal(tile_row(windows, row, cols, 1), image[:, 3:7])


def test_a_row_takes_the_middle_of_a_fade_half_from_each_tile():
    cols = Cut(6, (Span(0, 0, 6), Span(3, 3, 9)))
    windows = [(cols.spans[0], torch.zeros(3, 2, 6)), (cols.spans[1], torch.ones(3, 2, 6))]
    row = tile_row(windows, Span(0, 0, 2), cols, 1)
    torch.testing.assert_close(row[0, 0], torch.tensor([0, 0, 0, 0.0669873, 0.5, 0.9330127, 1, 1, 1]))


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 4, 4), (4, 4), (1, 3, 0, 4)])
def test_a_tensor_that_is_no_image_is_refused(shape):
    with pytest.raises(ValueError, match="An image is"):
        TensorSource(torch.zeros(shape))


def test_a_source_gives_the_window_asked_for():
    lr = torch.rand(1, 3, 9, 7)
    source = TensorSource(lr)
    assert (source.height, source.width) == (9, 7)
    assert torch.equal(source.read(2, 1, 5, 4), lr[0, :, 2:7, 1:5])
