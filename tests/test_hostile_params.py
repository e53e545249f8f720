"""params.yaml of somebody who means harm, or of a broken program: one line within a second."""

import json
import time

import pytest

from segpipe.config import params, yaml
from segpipe.core.errors import ConfigError, DataError
from segpipe.core.files import read_json
from segpipe.data import catalog

from conftest import ROOT, segpipe

TEXT = (ROOT / "params.yaml").read_text()


def laughs(levels):
    """Nine levels of nine aliases stand for 400 million values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, levels)]
    return "\n".join(lines) + "\n"


BOMBS = {
    "aliases of aliases": (laughs(9), "more than 20000 values"),
    "aliases in a section": (laughs(7) + TEXT, "more than 20000 values"),
    "merge keys": ("a: &a {x: 1}\n" + "".join(f"b{k}: {{<<: *a}}\n" for k in range(9000)), "more than 20000 values"),
    "a list of itself": ("a: &a [*a]\n", "undefined or refers to itself"),
    "a mapping of itself": ("a: &a\n  b: *a\n", "undefined or refers to itself"),
    "an unknown alias": ("a: *b\n", "undefined or refers to itself"),
    "brackets": ("a: " + "[" * 5000 + "]" * 5000, "nested deeper than 50"),
    "braces": ("a: " + "{b: " * 5000 + "}" * 5000, "nested deeper than 50"),
    "dashes": ("- " * 5000 + "x", "nested deeper than 50"),
    "brackets without end": ("[" * 100_000, "nested deeper than 50"),
    "a list as a key": (TEXT + "? [1, 2]\n: 3\n", "is not text"),
    "a mapping as a key": (TEXT + "? {a: 1}\n: 3\n", "unhashable key"),
    "a number as a key": (TEXT.replace("  ce:\n", "  1:\n", 1), "the key 1 of runs is not text"),
    "a truth value as a key": (TEXT + "true: 1\n", "the key True of the file is not text"),
    "nothing as a key": (TEXT + "null: 1\n", "the key None of the file is not text"),
    "many values": ("a: [" + "1, " * 30_000 + "1]", "more than 20000 values"),
    "a long text": ("a: " + "x" * 2**21, "at most 1048576"),
    "a tag of Python": ("a: !!python/object/apply:os.system [echo]\n", "not valid YAML|extra|unknown|constructor"),
    "a control character": ("a: \x07\n", "not valid YAML"),
    "a wrong truth value": ("x: !!bool q\n", "not valid YAML"),
    "a wrong number": ('x: !!int ""\n', "not valid YAML"),
    "two documents": ("a: 1\n---\nb: 2\n", "not valid YAML"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_one_line_within_a_second(name):
    text, words = BOMBS[name]
    start = time.process_time()
    with pytest.raises(ConfigError, match=words) as refused:
        params.parse(text)
    assert time.process_time() - start < 1
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("params.yaml")


def test_a_bomb_on_the_command_line_is_one_line_too():
    for value in ("[" * 3000 + "]" * 3000, "&a [*a]"):
        with pytest.raises(ConfigError, match="is not valid YAML") as refused:
            params.parse(TEXT, overrides=[f"train.lr={value}"])
        assert len(str(refused.value)) < 300


def test_a_thousand_runs_and_honest_aliases_are_no_bomb():
    base = {"runs": {f"r{k}": {"loss": "ce", "train": {"lr": 0.1, "epochs": 3}} for k in range(1000)}}
    assert len(yaml.load(json.dumps(base))["runs"]) == 1000
    assert yaml.load("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n") == {
        "a": {"x": 1},
        "b": {"x": 1},
        "c": {"x": 1, "y": 2},
    }


@pytest.mark.parametrize(
    "name",
    [
        "ce\n",
        "con",
        "prn",
        "aux",
        "nul",
        "com1",
        "lpt9",
        "a" * 65,
        "a" * 300,
        "Ce",
        "1ce",
        "a-b",
        "a b",
        "",
        "ä",
        "a/b",
    ],
)
def test_a_name_that_would_be_no_folder_everywhere_is_refused(name):
    assert not params.NAME.match(name)
    with pytest.raises(ConfigError) as refused:
        params.parse(
            yaml.edit(TEXT, {"runs": {"ce": {"loss": "ce"}, name: {"loss": "ce"}}, "ensemble": {"average": None}})
        )
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("name", ["ce", "a" * 64, "con1", "console", "com", "nula", "x_1"])
def test_other_names_are_names(name):
    assert params.NAME.match(name)


def test_nests_in_json_and_in_cards_are_one_line(tmp_path):
    (tmp_path / "x.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="not valid JSON"):
        read_json(tmp_path / "x.json")
    (tmp_path / "x.toml").write_text("a = " + "[" * 100_000)
    with pytest.raises(ConfigError, match="not valid TOML"):
        catalog.read_card(tmp_path / "x.toml")


def test_the_command_says_it_in_one_line(tmp_path):
    (tmp_path / "params.yaml").write_text(laughs(9))
    done = segpipe("train", "--run", "ce", cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
