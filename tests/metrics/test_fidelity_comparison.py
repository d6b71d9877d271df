import torch

from ddnsr_cli.metrics.fidelity import compare, psnr_db, ssim


def distance(a, b):
    return (a - b).abs().mean(dim=(1, 2, 3))


def images():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 24, 26, generator=generator), torch.rand(2, 3, 24, 26, generator=generator)


def test_all_figures_are_over_the_same_inner_part():
    sr, hr = images()
    framed = sr.clone()
    framed[..., :3, :] = framed[..., :, -3:] = 0.5
    inside, cut = compare(framed, hr, crop_px=3, lpips=distance), compare(sr, hr, crop_px=3, lpips=distance)
    assert inside.keys() == {"psnr", "ssim", "lpips"}
    for name, values in cut.items():
        assert torch.equal(inside[name], values)
        assert not torch.equal(compare(framed, hr, crop_px=2, lpips=distance)[name], values)


def test_without_a_border_all_of_the_image_counts():
    sr, hr = images()
    scores = compare(sr, hr, crop_px=0, lpips=distance)
    assert torch.equal(scores["psnr"], psnr_db(sr, hr, crop_px=0))
    assert torch.equal(scores["ssim"], ssim(sr, hr, crop_px=0))
    assert torch.equal(scores["lpips"], distance(sr, hr))


def test_lpips_is_left_out_when_it_is_not_given():
    assert compare(*images(), crop_px=0).keys() == {"psnr", "ssim"}


def test_one_reference_serves_a_whole_batch():
    sr, hr = images()
    one, many = (compare(sr, truth, crop_px=2, lpips=distance) for truth in (hr[:1], hr[:1].expand(2, -1, -1, -1)))
    for name, values in many.items():
        torch.testing.assert_close(one[name], values)
        assert len(one[name]) == 2
