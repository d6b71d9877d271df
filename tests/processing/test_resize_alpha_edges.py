"""An enlarged alpha channel: flat areas stay exactly flat, edges stay within what was there."""

import numpy as np

from ddnsr_cli.processing.resize import held_near, spread


def test_flat_areas_are_exact_and_ringing_is_cut():
    alpha = np.zeros((6, 8), np.uint8)
    alpha[:, 4:] = 255
    ringing = np.random.default_rng(0).integers(0, 256, (24, 32)).astype(np.uint8)
    held = held_near(ringing, alpha, 4)
    assert (held[:, :12] == 0).all()
    assert (held[:, 20:] == 255).all()
    np.testing.assert_array_equal(held[:, 12:20], ringing[:, 12:20])  # beside the edge the network decides


def test_a_soft_edge_stays_between_its_neighbors():
    alpha = np.array([[10, 20, 200]], np.uint16)
    held = held_near(np.full((2, 6), 65535, np.uint16), alpha, 2)
    np.testing.assert_array_equal(held, [[20, 20, 200, 200, 200, 200]] * 2)


def test_samples_are_repeated_in_squares():
    np.testing.assert_array_equal(spread(np.array([[1, 2]], np.uint8), 2), [[1, 1, 2, 2], [1, 1, 2, 2]])
