"""params.yaml: read as DVC reads it, and wrong in one line with the place."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from segpipe.cli.init import default_params
from segpipe.config import params, yaml
from segpipe.core.errors import ConfigError

from conftest import ROOT

TEXT = (ROOT / "params.yaml").read_text()

CASES = """1e-4 1E5 on off yes no y n true True TRUE false null Null ~ 010 0o10 0x1F 0b11 08 1_000 12:30 .5 1. -.inf
.nan +1 -0 .5e+3 1e+5 1.5e3 2020-01-01 0_ 1__0 _1 None nan inf 0o 0x 1e 1.2.3 - + . 1,5 5% 3px"""
scalars = st.one_of(
    st.sampled_from(CASES.split()),
    st.from_regex(r"\A[-+]?[0-9_.]{1,6}([eE][-+]?[0-9]{1,2})?\Z"),
    st.from_regex(r"\A[a-zA-Z0-9_.+-]{1,6}\Z"),
)


def read(reader, text):
    try:
        return repr(reader(text))
    except Exception:
        return "error"


@settings(max_examples=400, deadline=None)
@given(scalars)
def test_both_readers_agree_on_every_scalar(scalar):
    for text in (f"k: {scalar}\n", f"k: [{scalar}]\n", f"{{k: '{scalar}'}}\n"):
        ours, theirs = read(yaml.load, text), read(YAML(typ="safe").load, text)
        # Either reader may refuse what is no plain scalar; a value that both give must be one value.
        assert ours == theirs or ("error" in (ours, theirs) and not re.fullmatch(r"[-+]?[0-9]+|[a-z]+", scalar)), text


def test_scalars_that_yaml_1_1_reads_otherwise_are_read_as_dvc_does():
    text = "{a: 1e-4, b: on, c: 010, d: 0o10, e: 12:30, f: no, g: 1_000, h: .inf}"
    wanted = {"a": 1e-4, "b": "on", "c": 10, "d": 8, "e": "12:30", "f": "no", "g": 1000, "h": float("inf")}
    assert yaml.load(text) == YAML(typ="safe").load(text) == wanted


def test_both_readers_agree_on_the_shipped_parameters():
    assert yaml.load(TEXT) == YAML(typ="safe").load(TEXT)


def test_the_wheel_ships_the_same_parameters():
    assert default_params() == TEXT


def test_a_key_given_twice_is_refused():
    with pytest.raises(ConfigError, match=r":\d+: not valid YAML: the key 'threads' occurs twice"):
        params.parse("threads: 3\n" + TEXT)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.epoch=3", "--set train.epoch=3: train.epoch: unknown key; did you mean 'epochs'?"),
        ("train.epochs=many", ": train.epochs: found 'many', wanted integer"),
        ("train.lr=-1", "greater than 0"),
        ("train.lr=.inf", "finite"),
        ("threads='2'", "found '2', wanted integer"),
        ("threads=true", "found True, wanted integer"),
        ("train.epochs=5.0", "found 5.0, wanted integer"),
        ("threads=[", "'[' is not valid YAML"),
        ("crf.tune.bi_w=[]", "at least 1 item"),
        ("model.width=abc", "width is 'abc', wanted a whole number"),
        ("runs.focal.loss=focal(gamma=abc)", "gamma is 'abc', wanted a number"),
        ("runs.focal.loss=ce(label_smoothing=a)", "label_smoothing is 'a'"),
        ("runs.focal.model.name=unett", "runs.focal.model: unknown model 'unett'; did you mean 'unet'"),
        ("trian.lr=1", "no parameter 'trian'; did you mean 'train'?"),
        ("train.lr", "wanted KEY=VALUE"),
        ("threads.x=1", "holds a value, not a section"),
        ("runs.focal.loss=focl", ": runs.focal.loss: unknown loss 'focl'; did you mean 'focal'?"),
        ("runs.focal.loss=ce(class_weights=medain_frequency)", "did you mean 'median_frequency'"),
        ("runs.focal.train.lrr=1", "runs.focal.train.lrr is no parameter; did you mean 'lr'?"),
        ("runs.focal.train.lr=x", "runs.focal.train.lr: found 'x'"),
        ("runs.focal.model.widht=4", "no option 'widht'; did you mean 'width'"),
        ("runs.a-b.loss=ce", "must match"),
        ("runs={}", "runs is empty; name a loss"),
        ("model.name=unett", "did you mean 'unet'"),
        ("seeds=[1, 1]", "repeat"),
        ("crf.runs=[cee]", "matches no run"),
        ("ensemble.average.members=[ce-9]", "matches no member"),
        ("prepare.labels=annotator 0", "the form"),
        ("train.augment.scale=[2, 1]", "wanted [smallest, largest]"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(override, words):
    with pytest.raises(ConfigError) as error:
        params.parse(TEXT, overrides=[override])
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_errors_name_the_line():
    line = next(i for i, text in enumerate(TEXT.splitlines(), 1) if "epochs:" in text)
    with pytest.raises(ConfigError, match=rf"params\.yaml:{line}: train\.epochs: found 'x'"):
        params.parse(yaml.edit(TEXT, {"train.epochs": "x"}))


def test_broken_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="segpipe init"):
        params.load()
    for text, words in (("a: [", "not valid YAML"), ("- 1\n", "wanted sections"), ("train:\n  lr: 1\n", "missing")):
        with pytest.raises(ConfigError, match=words):
            params.parse(text)


def test_an_empty_run_is_named_by_its_loss():
    loaded = params.parse(TEXT, overrides=["runs={focal: , dice: {train: {lr: 1e-3}}}", "crf.runs=[]"])
    assert str(loaded.runs["focal"].loss) == "focal"
    assert loaded.train_of("dice").lr == 0.001
    assert loaded.train_of("focal") == loaded.train


def test_parameters_that_cannot_change_a_result_do_not_change_its_name():
    from segpipe.config.context import Context

    def name(*overrides):
        loaded = params.parse(TEXT, overrides=overrides)
        return Context(loaded, loaded, run="ce").digest("train")

    assert name() == name("train.workers=3") == name("crf.tune.iterations=9") == name("runs.focal.loss=dice")
    assert (
        len({name(), name("train.lr=0.1"), name("runs.ce.loss=dice"), name("prepare.width=64"), name("threads=1")}) == 5
    )


def test_edits_keep_comments_and_other_values():
    text = yaml.edit(TEXT, {"train.lr": 1e-5, "runs": {"a": {"loss": "ce"}}, "download.source": "/x y/ü"})
    data = yaml.load(text)
    assert data["train"]["lr"] == 1e-5
    assert data["runs"] == {"a": {"loss": "ce"}}
    assert data["download"]["source"] == "/x y/ü"
    assert text.count("#") >= TEXT.count("#") - 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("threads: 1\nseeds: [0]\nseeds: [1]\n", "params.yaml:3: not valid YAML: the key 'seeds' occurs twice"),
        ("threads: 1\n\n  a: 1\n", "params.yaml:3: not valid YAML"),
    ],
)
def test_broken_text_is_told_with_its_line(text, said):
    with pytest.raises(ConfigError) as told:
        params.parse(text)
    assert str(told.value).startswith(said)
