"""Results that are used while they are made."""

import threading
import time
import weakref

import numpy as np
import pytest

from ddnsr_cli.errors import OutOfMemoryError
from ddnsr_cli.inference import pipeline
from ddnsr_cli.inference.pipeline import LookOptions, check_memory, handed_over, upscale_image, upscale_rows
from ddnsr_cli.io.image import Metadata, RasterImage
from tests.helpers.image_files import noise


def pixels_of(rows):
    return np.concatenate(list(rows.bands))


@pytest.mark.parametrize(
    "look", [LookOptions(), LookOptions(strength=0), LookOptions(strength=0.5, grain=1.5), LookOptions(color_fix=False)]
)
@pytest.mark.parametrize(("channels", "kind"), [(3, np.uint8), (1, np.uint16)])
def test_rows_are_those_of_the_whole_result(engine, listener, look, channels, kind):
    soft = noise(90, 110, channels, kind) // 16 + 100
    image = RasterImage(pixels=soft.astype(kind), metadata=Metadata(dpi=(300, 300)))
    upscaled = upscale_image(image, engine(), look, (440, 360), listener)
    (size, metadata, pixels), faithfulness, notes = upscale_rows(
        image, engine(), look, listener, lambda rows: ((rows.width, rows.height), rows.metadata, pixels_of(rows))
    )
    assert (size, metadata) == ((440, 360), image.metadata)
    assert np.array_equal(pixels, upscaled.image.pixels)
    assert (faithfulness, notes) == (upscaled.faithfulness, upscaled.notes)


def test_rows_come_before_the_network_is_done(engine, listener):
    upscaler, made, seen = engine(tile_px=32), [], []
    bands = upscaler.bands

    def counted(*args, **options):
        for band in bands(*args, **options):
            made.append(band.top)
            yield band

    upscaler.bands = counted
    image = RasterImage(pixels=noise(600, 40, 3))
    upscale_rows(image, upscaler, LookOptions(), listener, lambda rows: seen.extend(len(made) for _ in rows.bands))
    assert min(seen) < len(made) // 2


@pytest.mark.parametrize("strength", [0, 0.5, 1])
def test_a_stop_signal_need_not_wait_for_an_encoder(engine, listener, strength):
    """It is heard in the main thread only, and not within a library."""
    image, look = RasterImage(pixels=noise(90, 40, 3)), LookOptions(strength=strength)
    thread, *_ = upscale_rows(
        image, engine(), look, listener, lambda rows: (list(rows.bands), threading.current_thread())[1]
    )
    assert thread is not threading.current_thread()


def test_an_error_of_a_row_is_told_as_it_is(engine, listener, monkeypatch):
    def broken(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(pipeline, "slow_error", broken)
    with pytest.raises(MemoryError, match="no room"):
        upscale_rows(RasterImage(pixels=noise(90, 40, 3)), engine(), LookOptions(), listener, pixels_of)


def test_rows_ask_for_little_memory(monkeypatch):
    image = RasterImage(pixels=np.broadcast_to(np.zeros(1, np.uint8), (10_000, 10_000, 3)))
    monkeypatch.setattr(pipeline, "free_host_bytes", lambda: 2 << 30)
    with pytest.raises(OutOfMemoryError, match=r"4\.8 GB"):
        check_memory(image, (40_000, 40_000), 4, name="large.png")
    check_memory(image, (40_000, 40_000), 4, name="large.png", in_rows=True)


def test_items_are_used_in_another_thread_in_order():
    names = set()

    def use(items, _check):
        names.add(threading.current_thread())
        return [item * 2 for item in items]

    result = handed_over(iter(range(50)), use)
    assert result == list(range(0, 100, 2))
    assert threading.current_thread() not in names
    assert not any(thread.is_alive() for thread in names)


def test_an_error_of_the_user_ends_the_making():
    made = []

    def items():
        for number in range(1000):
            made.append(number)
            yield number

    def use(taken, _check):
        next(taken)
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        handed_over(items(), use)
    assert len(made) < 10


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_of_the_maker_ends_the_use(kind):
    ended = []

    def items():
        yield 1
        raise kind("stop")

    def use(taken, _check):
        try:
            return list(taken)
        finally:
            ended.append(True)

    with pytest.raises(kind, match="stop"):
        handed_over(items(), use)
    assert ended == [True]


def test_a_long_use_hears_that_the_maker_has_failed():
    used = []

    def items():
        yield 1
        raise KeyboardInterrupt

    def use(taken, check):
        for item in taken:
            for _ in range(1000):  # ten seconds
                check()
                used.append(item)
                time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        handed_over(items(), use)
    assert len(used) < 100


def test_what_was_used_is_let_go():
    class Item:
        pass

    alive, most = weakref.WeakSet(), []

    def items():
        for _ in range(30):
            item = Item()
            alive.add(item)
            yield item
            del item

    def use(taken, _check):
        for item in taken:
            del item
            most.append(len(alive))

    handed_over(items(), use)
    assert max(most) <= 3  # one just made, one waiting, one on its way
