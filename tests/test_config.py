import json
from dataclasses import dataclass, field, fields

import pytest
import typer

from ddnsr_cli.cli.app import app
from ddnsr_cli.commands.degrade.manifest import PairSettings
from ddnsr_cli.config import changed_options, in_words, option_of, options_from_json, options_to_json, unlike_names
from ddnsr_cli.errors import ConfigError
from ddnsr_cli.training.options import JointOptions
from ddnsr_cli.training.paired_options import PairedOptions


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int = 3
    span: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    other: Inner | None = None
    ends: tuple[int, int] | None = None
    name: str = "x"
    notes: list[str] = field(default_factory=list)


@pytest.mark.parametrize(
    "options",
    [
        Outer(),
        Outer(inner=Inner(size=5, span=(0.25, 0.5)), name="é"),
        Outer(other=Inner(size=7), ends=(1, 2), notes=["a", "b"]),
    ],
)
def test_json_and_back_is_the_same(options):
    again = options_from_json(Outer, json.loads(json.dumps(options_to_json(options))))
    assert again == options  # a list is not equal to a tuple, nor a dict to a dataclass
    assert hash(again.inner) == hash(options.inner)


@pytest.mark.parametrize(
    ("change", "odd"),
    [
        ({"color": 1}, "color"),
        ({"inner": {"size": 1, "span": [0, 1], "depth": 2}}, "depth"),
        ({"other": {"size": 1}}, "span"),
    ],
)
def test_an_unknown_or_missing_key_is_refused_by_name(change, odd):
    with pytest.raises(ConfigError, match=odd):
        options_from_json(Outer, options_to_json(Outer()) | change)


def test_a_missing_key_is_refused_though_it_has_a_default():
    raw = options_to_json(Outer())
    del raw["name"]
    with pytest.raises(ConfigError, match=r"Outer .*: name\."):
        options_from_json(Outer, raw)


def test_changes_are_told_by_dotted_name():
    before = options_to_json(Outer())
    after = options_to_json(Outer(inner=Inner(size=4), name="y"))
    assert changed_options(before, after) == {"inner.size": (3, 4), "name": ("x", "y")}


def test_a_list_from_json_is_not_a_change_of_a_tuple():
    options = Outer(inner=Inner(span=(0.5, 2.0)), ends=(1, 2))
    saved = json.loads(json.dumps(options_to_json(options)))
    assert changed_options(saved, options_to_json(options)) == {}
    assert changed_options(options_to_json(options), saved) == {}


def test_options_in_a_list_are_compared_by_their_places():
    before = {"parts": (options_to_json(Inner()), options_to_json(Inner(size=4)))}
    after = {"parts": [{"size": 3, "span": [0.0, 1.0]}, {"size": 5, "span": [0.0, 1.0]}, {"size": 6}]}
    assert changed_options(before, after) == {"parts.2.size": (4, 5), "parts.3": (None, {"size": 6})}
    assert unlike_names(before, after) == []  # one more of the same version
    after["parts"][0]["depth"] = 1
    assert unlike_names(before, after) == ["parts.1.depth"]


@dataclass(frozen=True, kw_only=True)
class Many:
    parts: tuple[Inner, ...] = (Inner(), Inner(size=4))


def test_options_in_a_tuple_come_back_from_memory_and_from_json():
    raw = options_to_json(Many())
    assert options_from_json(Many, raw) == options_from_json(Many, json.loads(json.dumps(raw))) == Many()


def test_a_key_on_one_side_only_is_a_change():
    assert changed_options({"a": 1}, {"b": 2}) == {"a": (1, None), "b": (None, 2)}


def test_a_part_that_appears_is_a_change_as_a_whole():
    after = options_to_json(Outer(other=Inner()))
    assert changed_options(options_to_json(Outer()), after) == {"other": (None, {"size": 3, "span": (0.0, 1.0)})}


def test_options_of_two_versions_differ_in_names_however_deep():
    before = {"inner": {"size": 3, "gone": 1}, "other": None, "old": 1}
    after = {"inner": {"size": 4, "new": (1, 1)}, "other": {"size": 3}}
    assert unlike_names(before, after) == ["inner.gone", "inner.new", "old"]
    assert unlike_names(before, before) == []


def dotted(values, prefix=""):
    """The names of all values, nested ones included."""
    for name, value in values.items():
        yield from dotted(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name}"]


@pytest.mark.parametrize(
    ("command", "names", "some"),
    [
        ("train", dotted(options_to_json(JointOptions())), {"--batch", "--crop", "--loss", "--degrader-only-steps"}),
        ("train", dotted(options_to_json(PairedOptions())), {"--features", "--growth", "--perceptual", "--teacher"}),
        ("degrade", [field.name for field in fields(PairSettings)], {"-m", "--noise-source", "--kernel-steps"}),
    ],
)
def test_options_are_called_as_on_the_command_line(command, names, some):
    told = {called.split()[0] for name in names if (called := option_of(name)).startswith("-")}
    assert some <= told
    there = {word for param in typer.main.get_command(app).commands[command].params for word in param.opts}
    assert told <= there


def test_what_is_no_option_keeps_its_name():
    assert [option_of(name) for name in ("ema_decay", "degrader.features", "sources.1.kind", "losses.color")] == [
        "ema_decay",
        "degrader.features",
        "sources.1.kind",
        "--loss color",
    ]
    assert option_of("sources.2.degradation.noise_sigma") == "--degradation noise_sigma"
    assert option_of("sharpen.sigma_px") == "--sharpen-targets sigma_px"
    assert option_of("teacher.truth_share") == "--truth-share"
    assert [in_words(value) for value in (True, None, {"a": 1}, (1, 2))] == ["yes", "none", "{...}", "(1, 2)"]
