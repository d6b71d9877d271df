"""ncnn files in: other converters' ways of saying the same, and everything that is not the same."""

import contextlib
import random
import re
import struct
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from ddnsr_cli.errors import WeightsError
from ddnsr_cli.weights.layouts import build
from ddnsr_cli.weights.ncnn import param_text, read_ncnn, weight_bytes


@pytest.fixture
def pair(small_net, small_compact):
    """`pair("rrdb", half=True)`: a network, and its two files."""

    def make(kind, *, half=False, **sizes):
        net = (small_net if kind == "rrdb" else small_compact)(**sizes)
        return net, param_text(net.config), b"".join(weight_bytes(net.state_dict(), half=half))

    return make


def read(text, content):
    return read_ncnn(text.encode(), content, "x4.param")


def refused(text, content, *words):
    with pytest.raises(WeightsError) as caught:
        read(text, content)
    message = str(caught.value)
    assert message.startswith("x4.param")
    assert message.isprintable()
    assert len(message) < 300
    for word in words:
        assert word in message


KINDS = [
    ("rrdb", {}),
    ("rrdb", {"scale": 2, "features": 5}),
    ("rrdb", {"scale": 1, "blocks": 1}),
    ("compact", {}),
    ("compact", {"scale": 1, "convs": 0}),
    ("compact", {"scale": 3, "features": 7}),
]


@pytest.mark.parametrize(("kind", "sizes"), KINDS)
@pytest.mark.parametrize("half", [False, True])
def test_what_is_written_is_read(pair, kind, sizes, half):
    net, text, content = pair(kind, half=half, **sizes)
    config, state = read(text, content)
    assert config == net.config
    for key, value in net.state_dict().items():
        rounded = value.half().float() if half and value.ndim == 4 else value
        assert torch.equal(state[key], rounded)


def unfused(text):
    """LeakyReLUs as layers of their own, as some converters leave them."""
    lines = text.splitlines()
    made = []
    for line in lines[2:]:
        fused = re.fullmatch(r"(Convolution +\S+ +1 1 \S+) (\S+) (.*) 9=2 -23310=1,(\S+)", line)
        if fused:
            made += (
                f"{fused[1]} {fused[2]}_raw {fused[3]}",
                f"ReLU r{fused[2]} 1 1 {fused[2]}_raw {fused[2]} 0={fused[4]}",
            )
        else:
            made.append(line)
    return "\n".join([lines[0], f"{len(made)} 0", *made])


def multiplied(text):
    """Scaled sums as a multiple and a plain sum, in the other order."""
    lines = text.splitlines()
    made = []
    for line in lines[2:]:
        summed = re.fullmatch(r"Eltwise +(\S+) +2 1 (\S+) (\S+) (\S+) .*", line)
        if summed:
            name, added, kept, blob = summed.groups()
            made += (
                f"BinaryOp m{name} 1 1 {added} {blob}_m 0=2 1=1 2=0.2",
                f"BinaryOp {name} 2 1 {kept} {blob}_m {blob} 0=0",
            )
        else:
            made.append(line)
    return "\n".join([lines[0], f"{len(made)} 0", *made])


def renamed(text):
    return text.replace("data", "in0").replace("output", "out0").replace(" ", "   ").replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("change", "trace"),
    [(unfused, "ReLU "), (multiplied, " 2=0.2"), (renamed, "in0"), (lambda text: renamed(unfused(text)), "ReLU ")],
)
def test_other_ways_to_say_the_same_are_the_same(pair, change, trace):
    net, text, content = pair("rrdb")
    changed = change(text)
    assert trace in changed
    assert trace not in text
    config, state = read(changed, content)
    assert config == net.config
    assert all(torch.equal(state[key], value) for key, value in net.state_dict().items())


def test_what_is_usual_may_be_said(pair):
    net, text, content = pair("rrdb")
    said = text.replace("4=1 5=1", "2=1 3=1 4=1 5=1 11=3 12=1 13=1 14=1 15=1 16=1 18=0.0")
    config, state = read(re.sub(r"(Interp .*)", r"\1 5=0 6=0", said), content)
    assert config == net.config
    assert all(torch.equal(state[key], value) for key, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("0=1 1=2.000000e+00 2=2.000000e+00", "0=1 1=2.000000e+00 2=2.000000e+00 6=1"),  # corners on corners
        ("2.000000e-01,1.000000e+00", "3.000000e-01,1.000000e+00"),  # another residual scale
        ("-23310=1,2.0", "-23310=1,1.0"),  # another slope
        ("-23310=1,2.000000e-01", ""),
        ("9=2", "9=4"),  # a sigmoid
        ("0=1 1=2.000000e+00 2=2.000000e+00", "0=2 1=2.000000e+00 2=2.000000e+00"),  # bilinear
        ("0=1 1=2.000000e+00 2=2.000000e+00", "0=1 1=2.000000e+00 2=1.000000e+00"),
        ("Eltwise ", "Pooling "),
        ("BinaryOp ", "Concat "),
    ],
)
def test_a_network_joined_in_another_way_is_refused(pair, before, after):
    _, text, content = pair("rrdb")
    number = text.count(before)
    assert number
    for which in {0, number - 1}:  # one place is enough
        parts = text.split(before)
        changed = before.join(parts[: which + 1]) + after + before.join(parts[which + 1 :])
        refused(changed, content)


def test_inputs_of_a_layer_that_change_places_are_refused(pair):
    _, text, content = pair("rrdb")
    concat = re.search(r"Concat +\S+ +2 1 (\S+) (\S+) \S+", text).groups()
    refused(text.replace(" ".join(concat), " ".join(reversed(concat)), 1), content, "in another way")


def resized(text, parameters):
    """The text with one layer more at its end."""
    lines = text.splitlines()
    lines[1] = f"{len(lines) - 1} 0"
    lines[-1] = lines[-1].replace("output", "large")
    return "\n".join([*lines, f"Interp last 1 1 large output {parameters}"])


@pytest.mark.parametrize(("times", "scale"), [(0.5, 2), (0.75, 3), (0.25, 1), (2.0, 8)])
def test_a_bicubic_resize_at_the_end_is_loaded(pair, times, scale):
    net, text, content = pair("compact", half=False)
    config, state = read(resized(text, f"0=3 1={times:e} 2={times:e}"), content)
    assert config == replace(net.config, scale=scale, inner_scale=4)
    other = build(config)
    other.load_state_dict(state, assign=True)
    lr = torch.rand(1, 3, 9, 7)
    expected = F.interpolate(net(lr), scale_factor=times, mode="bicubic", align_corners=False)
    torch.testing.assert_close(other(lr), expected)
    assert read(param_text(config), content)[0] == config  # what is written is read again


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ("0=2 1=5.000000e-01 2=5.000000e-01", "by 0.5 at its end (bilinear)"),
        ("0=3 1=4.000000e-01 2=4.000000e-01", "by 0.4 at its end (bicubic)"),
        ("0=3 1=5.000000e-01 2=7.500000e-01", "by 0.5 at its end (bicubic)"),
        ("0=3 1=nan 2=nan", "by nan at its end (bicubic)"),
    ],
)
def test_another_resize_at_the_end_is_reported(pair, parameters, word):
    _, text, content = pair("compact")
    refused(resized(text, parameters), content, word)


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        ("1=3", "1=5", "not 3x3"),
        ("4=1", "4=0", "not 3x3"),
        ("5=1", "5=0", "not 3x3"),
        ("6=", "8=1 6=", "not 3x3"),
        ("4=1", "4=1 11=5", "not 3x3"),
        ("4=1", "4=1 12=2", "not 3x3"),
        ("4=1", "4=1 13=2", "not 3x3"),
        ("4=1", "4=1 14=0", "not 3x3"),
        ("4=1", "4=1 16=0", "not 3x3"),
        ("4=1", "4=1 18=1.0", "not 3x3"),
        ("6=216", "6=217", "not 3x3"),
        ("0=8 1=3", "0=-8 1=3", "-8 channels"),
        ("0=8 1=3", "0=nan 1=3", "nan channels"),
        ("0=8 1=3", "0=1e300 1=3", "not 3x3"),
        ("0=8 1=3 4=1 5=1 6=216", "0=8000000000 1=3 4=1 5=1 6=216000000000", "shorter"),
        ("PixelShuffle", "Softmax", "Softmax"),
        ("Input", "Split", "one input"),
        ("7767517", "7767518", "no ncnn text"),
    ],
)
def test_layers_of_no_use_are_named(pair, before, after, word):
    _, text, content = pair("compact")
    assert before in text
    refused(text.replace(before, after, 1), content, word)


@pytest.mark.parametrize("convs", [4, 7])
def test_a_number_of_convolutions_that_no_network_has_is_reported(pair, convs):
    _, text, content = pair("rrdb")
    lines = [line for line in text.splitlines() if line.startswith("Convolution")][:convs]
    refused("\n".join(["7767517", f"{convs} 0", *lines]), content, f"{convs} convolutions")


def test_a_bin_that_does_not_belong_is_reported(pair):
    _, text, content = pair("compact", half=True)
    refused(text, content[:-4], "shorter")
    refused(text, b"", "shorter")
    refused(text, content + b"1234", "4 bytes too long")
    refused(text, struct.pack("<I", 0x000D4B38) + content[4:], "8-bit")
    refused(text, struct.pack("<I", 7) + content[4:], "not known here")
    refused(text, pair("rrdb")[2])
    nan = content[:4] + b"\xff\xff" + content[6:]
    refused(text, nan, "not finite")


def test_single_precision_has_two_tags(pair):
    _, text, content = pair("compact")
    assert content[:4] == b"\0\0\0\0"
    _, state = read(text, struct.pack("<I", 0x0002C056) + content[4:])
    assert torch.equal(state["body.0.weight"], read(text, content)[1]["body.0.weight"])


@pytest.mark.parametrize("text", ["", "7767517", "7767517\n", "7767517\n1 1", "7767517\nx y\nz", "7767517\n2 2\na\nb"])
def test_what_is_hardly_a_text_is_refused(text):
    refused(text, b"")


def test_control_characters_do_not_reach_the_message(pair):
    _, text, content = pair("compact")
    refused(text.replace("PixelShuffle", "Pixel\x1b[31m"), content, "damaged")
    with pytest.raises(WeightsError, match="no ncnn text"):
        read_ncnn(b"7767517\n1 1\n\xff\xfe", content, "x4.param")


@pytest.mark.parametrize("kind", ["rrdb", "compact"])
def test_damage_anywhere_is_one_line(pair, kind):
    """Text and weights with characters changed, taken out and doubled: a network or a refusal, nothing else."""
    _, text, content = pair(kind, features=3, **({"blocks": 1, "growth": 2} if kind == "rrdb" else {"convs": 1}))
    outcomes = set()
    for number in range(200):
        chance = random.Random(f"{kind}/{number}")
        param, weights = bytearray(text.encode()), bytearray(content)
        for _ in range(chance.choice((1, 1, 3))):
            part = chance.choice((param, param, weights))
            at = chance.randrange(len(part))
            change = chance.choice(("set", "cut", "double", "swap"))
            if change == "set":
                part[at] = chance.choice(b"0123456789 =.-,e\n\xff") if part is param else chance.randrange(256)
            elif change == "cut":
                del part[at : at + chance.choice((1, 4, 40))]
            elif change == "double":
                part[at:at] = part[at : at + chance.choice((1, 4, 40))]
            else:
                lines = bytes(param).split(b"\n")
                first, second = chance.sample(range(len(lines)), 2)
                lines[first], lines[second] = lines[second], lines[first]
                param[:] = b"\n".join(lines)
            if not part:
                break
        outcomes.add(outcome(bytes(param), bytes(weights)))
    assert outcomes == {"read", "refused"}


def outcome(param, weights):
    with contextlib.suppress(WeightsError):
        read_ncnn(param, weights, "x4.param")
        return "read"
    with pytest.raises(WeightsError, match=r"^x4\.param[ :][ -~]+$"):
        read_ncnn(param, weights, "x4.param")
    return "refused"
