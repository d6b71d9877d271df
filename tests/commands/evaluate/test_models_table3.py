"""Which rows of the paper's table can be filled, with a registry whose weights lie here, or do not."""

from dataclasses import replace

import pytest

from ddnsr_cli.commands.evaluate.models import ROWS, rows_at_hand
from ddnsr_cli.errors import WeightsError
from ddnsr_cli.weights.registry import Registry, read_registry


@pytest.fixture
def registry():
    return read_registry()


def with_bundled(registry, name, folder):
    """The registry as if the weights of that name came with the program."""
    ours = registry.get("ddnsr-lite")
    entries = [
        replace(entry, bundled=ours.bundled, repo=None, revision=None, file=None, sha256=ours.sha256)
        if entry.name == name
        else entry
        for entry in registry.entries
    ]
    return Registry(entries=tuple(entries), folder=folder)


def test_nothing_but_ours_is_here_and_the_rest_is_named(registry):
    found, missing = rows_at_hand(registry, [])
    assert "ddnsr-lite" in [weights.name for weights in found]
    assert {"ESRGAN", "Impressionism"} <= {row.label for row in missing}
    assert all(row.how for row in missing)


def test_every_name_of_the_preset_is_in_the_registry(registry):
    assert {name for row in ROWS for name in row.weights} <= set(registry.names)


def test_weights_that_are_here_fill_their_row(registry):
    found, missing = rows_at_hand(with_bundled(registry, "realsr-dped", registry.folder), [])
    assert found[-1].name == "realsr-dped"
    assert "Impressionism" not in {row.label for row in missing}


def test_ours_for_research_are_passed_over_where_they_do_not_come_along(registry, tmp_path):
    assert registry.get("ddnsr-track2").beside
    found, _ = rows_at_hand(replace(registry, root=tmp_path), [])
    assert {weights.name for weights in found} >= {"ddnsr-lite", "ddnsr-track1"}
    assert "ddnsr-track2" not in {weights.name for weights in found}


def test_a_named_model_fills_the_row_of_its_name(registry):
    _, missing = rows_at_hand(registry, ["esrgan", "ddnsr gan"])
    assert not {"ESRGAN", "DDNSR GAN"} & {row.label for row in missing}


def test_damaged_weights_are_reported_not_passed_over(registry, tmp_path):
    ours = registry.get("ddnsr-lite")
    (tmp_path / ours.bundled).parent.mkdir(parents=True)
    (tmp_path / ours.bundled).write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="ddnsr-lite is damaged"):
        rows_at_hand(replace(registry, folder=tmp_path), [])
