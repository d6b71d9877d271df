"""Checkpoints as trainers save them: under any prefix, in any nest, the averaged network before the plain one."""

import pytest
import torch

from ddnsr_cli.errors import WeightsError
from ddnsr_cli.weights.layouts import named_tensors, read_layout


@pytest.fixture
def state(small_net):
    return small_net(features=4, blocks=1, growth=2).state_dict()


@pytest.fixture
def averaged(state):
    return {key: value + 1 for key, value in state.items()}


def under(prefix, state):
    return {f"{prefix}{key}": value for key, value in state.items()}


def reads(loaded, expected):
    read = read_layout(loaded, "net.pth")[1]
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[key], value) for key, value in expected.items())


DISCRIMINATOR = {"model.0.weight": torch.ones(4, 3, 3, 3), "model.0.bias": torch.ones(4)}
VGG = {"features.0.weight": torch.ones(4, 3, 3, 3)}

PREFIXES = [
    "_orig_mod.",
    "module._orig_mod.",
    "model.",
    "net_g.",
    "netG.",
    "g.",
    "gen.",
    "sr.",
    "my_net.module.",
    "net_g._orig_mod.",
]


@pytest.mark.parametrize("layout", [1, 2, 3])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_any_prefix_that_all_names_share_or_that_a_generator_has(state, as_layout, layout, prefix):
    named = as_layout(state, layout)
    reads({"state_dict": under(prefix, named), "epoch": 3, "hyper_parameters": {"lr": 1e-4}}, state)
    reads(under(prefix, named), state)


@pytest.mark.parametrize("prefix", ["model.", "net_g.", "netG.", "generator.", "g.", "sr."])
def test_what_else_a_training_module_holds_is_passed_over(state, prefix):
    module = {**under(prefix, state), **under("net_d.", DISCRIMINATOR), **under("perceptual.vgg.", VGG)}
    reads({"state_dict": module, "optimizer_states": [{"state": {}}]}, state)


@pytest.mark.parametrize("nest", ["g", "G", "net_g", "netG", "gen", "weights", "my network", "generator", "model"])
def test_any_nest(state, nest):
    reads({nest: state, "d": DISCRIMINATOR, "optimizer": {"state": {0: {}}}, "step": 5}, state)
    reads({nest: {"state_dict": under("module.", state)}}, state)


@pytest.mark.parametrize(
    ("plain", "average"),
    [
        ("generator", "generator_ema"),
        ("params", "params_ema"),
        ("params", "params-ema"),
        ("g", "g_ema"),
        ("model", "ema"),
        ("model", "ema_model"),
        ("state_dict", "model_ema"),
        ("net_g", "net_g_ema"),
        ("model", "swa_model"),
        ("model", "averaged"),
        ("model", "EMA"),
    ],
)
def test_the_averaged_network_is_taken_before_the_plain_one(state, averaged, plain, average):
    for first, second in ((plain, average), (average, plain)):
        sets = {plain: state, average: averaged}
        reads({name: sets[name] for name in (first, second)}, averaged)
        reads({"state_dict": {**under(f"{first}.", sets[first]), **under(f"{second}.", sets[second])}}, averaged)
        reads({name: under("module.", sets[name]) for name in (first, second)}, averaged)


def test_an_average_of_pytorch(state, averaged, small_net):
    net = torch.optim.swa_utils.AveragedModel(small_net(features=4, blocks=1, growth=2))
    kept = net.state_dict()
    assert "n_averaged" in kept
    reads(kept, state)
    reads({"model": state, "other": {"n_averaged": torch.tensor(3), **under("module.", averaged)}}, averaged)


def kept_by(state):
    """An average as programs keep it: by names, of a whole module, without dots, as a list of all that learns."""
    return {
        "names": dict(state),
        "module": {**under("net_g.", state), **under("net_d.", DISCRIMINATOR), **under("vgg.", VGG)},
        "compiled": under("_orig_mod.", state),
        "no dots": {**{key.replace(".", ""): value for key, value in state.items()}, "decay": torch.tensor(0.99)},
        "list": list(state.values()),
        "longer list": (*VGG.values(), *state.values(), *DISCRIMINATOR.values()),
        "shadow": {"decay": 0.99, "num_updates": 7, "shadow_params": list(state.values()), "collected_params": None},
    }


PLACES = [
    ("callbacks", "EMA", "ema_weights"),
    ("callbacks", "EMACallback{'decay': 0.99, 'monitor': 'val_loss'}", "state"),
    ("callbacks", "StochasticWeightAveraging", "average_model_state"),
    ("callbacks", "Weights", "ema_state_dict"),
    ("ema_state",),
    ("averaged_weights",),
    ("model_ema",),
    ("trainer", "modelEma", "state_dict"),
    ("optimizer_states", "ema"),
]


def lying_at(place, part):
    for name in reversed(place):
        part = {name: [part] if name == "optimizer_states" else part}
    return part


@pytest.mark.parametrize("kept", ["names", "module", "compiled", "no dots", "list", "longer list", "shadow"])
def test_the_average_is_found_wherever_it_lies(state, averaged, kept):
    for place in PLACES:
        average = lying_at(place, kept_by(averaged)[kept])
        reads({"state_dict": {**under("net_g.", state), **under("net_d.", DISCRIMINATOR)}, **average}, averaged)
        reads({**average, "model": state}, averaged)


def test_an_average_within_one_set_of_names_that_hold_no_dots(state, averaged):
    known = {"decay": torch.tensor(0.99), "num_updates": torch.tensor(9)}
    average = under("model_ema.", {**known, **kept_by(averaged)["no dots"]})
    reads({"state_dict": {**under("model.", state), **average}}, averaged)


def test_the_average_of_a_network_of_another_program(averaged):
    first = {"feats.0.weight": torch.ones(4, 3, 3, 3), "feats.1.mask": torch.ones(4, dtype=torch.int64)}
    later = {"feats.0.weight": torch.full((4, 3, 3, 3), 2.0)}
    for average in (later, list(later.values())):
        found = named_tensors({"params": first, "callbacks": {"EMA": {"ema_weights": average}}}, "net.pth")
        assert torch.equal(found["feats.0.weight"], later["feats.0.weight"])
        assert torch.equal(found["feats.1.mask"], first["feats.1.mask"])
    found = named_tensors({"model": first, "model_ema": {**later, "feats.1.mask": first["feats.1.mask"]}}, "net.pth")
    assert torch.equal(found["feats.0.weight"], later["feats.0.weight"])


@pytest.mark.parametrize(
    "other",
    [
        {"callbacks": {"EMA": {"cur_step": 0, "ema_weights": "average"}}},
        {"swa_model": {"n_averaged": torch.tensor(0), "weights": "average"}},
        {"ema_discriminator": {"weights": "average"}},
        {"optimizer": {"exp_avg": "average"}},
        {"callbacks": {"Teacher": {"weights": "average"}}},
        {"current_model_state": "average"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_is_no_average_of_the_network_is_passed_over(state, averaged, other):
    def filled(part):
        if isinstance(part, dict):
            return {name: filled(inner) for name, inner in part.items()}
        return averaged if part == "average" else part

    reads({"state_dict": state, **filled(other)}, state)
    narrow = {key: value[:1] for key, value in averaged.items()}
    reads({"state_dict": state, "callbacks": {"EMA": {"ema_weights": narrow, "listed": list(narrow.values())}}}, state)


def test_two_averages_of_one_network_are_not_guessed_at(state, averaged):
    two = {"EMA": {"ema_weights": averaged}, "SWA": {"averaged": dict(state)}}
    with pytest.raises(
        WeightsError, match=r"holds 2 networks \(callbacks\.EMA\.ema_weights, callbacks\.SWA\.averaged\)"
    ):
        read_layout({"state_dict": state, "callbacks": two}, "net.pth")


def test_parts_that_hold_each_other_without_end_are_looked_at_once(state):
    crowd = {str(number): None for number in range(3000)}
    crowd |= dict.fromkeys(crowd, crowd)
    reads({"state_dict": state, "callbacks": crowd}, state)


def test_wrappers_within_names(state):
    compiled = {key.replace("body.0.", "body.0._orig_mod."): value for key, value in state.items()}
    reads(under("module.", compiled), state)
    reads({key.replace("body.0.", "body.0._checkpoint_wrapped_module."): value for key, value in state.items()}, state)


def test_the_discriminator_is_never_the_network(state):
    averaged = under("net_d_ema.", DISCRIMINATOR)
    reads({**under("net_g.", state), **averaged}, state)


def test_two_networks_of_one_rank_are_not_guessed_at(state, averaged):
    for loaded in ({"one": state, "other": averaged}, {**under("ema_a.", state), **under("ema_b.", averaged)}):
        with pytest.raises(WeightsError, match=r"net\.pth holds 2 networks \((one, other|ema_a, ema_b)\)"):
            read_layout(loaded, "net.pth")


def test_a_compact_network_too(small_compact):
    state = small_compact().state_dict()
    reads({"state_dict": under("net_g.", state)}, state)
    reads({"params": state, "params_ema": {key: value + 1 for key, value in state.items()}},
          {key: value + 1 for key, value in state.items()})  # fmt: skip
