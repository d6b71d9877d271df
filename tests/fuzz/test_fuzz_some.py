"""Some of the fuzzer's inputs, so that the fuzzer itself does not rot; thousands are run by hand, see README.md."""

import random

from tests.fuzz import seed_files
from tests.fuzz.fuzz import Place
from tests.fuzz.mutations import mutated
from tests.helpers.compiled_once import compile_once

INPUTS = 120


def test_some_damaged_files_through_the_command(tmp_path, capfd, monkeypatch):
    compile_once(monkeypatch)
    kinds = {"image": seed_files.images(), "weights": seed_files.weights()}
    place = Place(tmp_path, kinds)
    finds, codes = [], set()
    for number in range(INPUTS):
        chance = random.Random(f"suite/{number}")
        kind = "weights" if number % 5 == 0 else "image"
        name = chance.choice(sorted(kinds[kind]))
        data = mutated(kinds[kind][name], list(kinds[kind].values()), chance)
        with capfd.disabled():  # the fuzzer catches what is said itself
            report = place.run(kind, name, data)
        finds += [f"{number} {name}: {find}" for find in report["finds"]]
        codes.add(report["code"])
    assert finds == []
    assert codes >= {0, 3, 5}  # done, an image refused, weights refused


def test_a_find_is_one(tmp_path, monkeypatch):
    kinds = {"image": seed_files.images(), "weights": seed_files.weights()}
    place = Place(tmp_path, kinds)

    def leave_something(_words):
        (tmp_path / "out" / "half.part.png").write_bytes(b"half")
        (tmp_path / "err").write_text("Traceback\nerror\n")
        (tmp_path / "out.txt").write_text("")
        return 70

    monkeypatch.setattr(place, "command", leave_something)
    finds = place.run("image", "true.bmp", b"x")["finds"]
    assert ["status 70" in find or "said" in find or "left something" in find for find in finds] == [True, True, True]


def test_the_same_seed_gives_the_same_bytes():
    data = seed_files.png_source()
    made = {mutated(data, [data], random.Random("1/2")) for _ in range(3)}
    assert len(made) == 1
    assert made != {data}
