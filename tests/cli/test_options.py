"""Settings as options: names, help and messages."""

from __future__ import annotations

import inspect

import pytest

from realnvp.cli.options import (
    Parser,
    _documentation,
    add_count,
    add_seed,
    add_settings,
    expand,
    given_settings,
)
from realnvp.config import DataConfig
from realnvp.recipes import load_recipe


@pytest.fixture
def parser() -> Parser:
    parser = Parser("train", "Train.", "examples:")
    parser.add_argument("recipe", metavar="RECIPE")
    add_settings(parser, "digits")
    return parser


def test_only_what_is_given_replaces_the_recipes_settings(parser):
    argv = expand(["digits", "--minutes", "5", "--data=mnist", "--training.betas", "[0.8,0.9]"])
    assert given_settings(parser, argv) == {
        "data": {"source": "mnist"},
        "training": {"minutes": 5.0, "betas": [0.8, 0.9]},
    }
    assert given_settings(parser, ["digits"]) == {}


def test_help_shows_the_recipes_values(parser):
    out = " ".join(parser.format_help().split())
    assert "--model.scales N number of scales" in out
    assert "default: 24)" in out
    assert "--model.norm {batch,act,none}" in out
    assert "Short: --minutes" in out


def test_documentation_is_read_indented_or_not(monkeypatch):
    found = _documentation(DataConfig)
    assert found["seed"] == "seed of the split and of generated sets."
    monkeypatch.setattr(DataConfig, "__doc__", inspect.cleandoc(DataConfig.__doc__ or ""))
    assert _documentation(DataConfig) == found, "Python 3.13 removes the indentation"


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("--lr", "--training.lr"),
        ("--hiden", "--model.hidden"),
        ("--modle.hidden", "--model.hidden"),
        ("--minute", "--minutes"),
        ("--data_root", "--data-root"),
    ],
)
def test_an_unknown_option_is_suggested(parser, option, meant):
    with pytest.raises(ValueError, match=f"did you mean {meant}"):
        parser.parse_args(["digits", option, "3"])


def test_a_far_fetched_option_is_not(parser):
    with pytest.raises(ValueError, match="--zzz") as error:
        parser.parse_args(["digits", "--zzz", "3"])
    assert "did you mean" not in str(error.value)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--model.norm", "layer", 'model.norm must be "batch" or "act" or "none", got .layer'),
        ("--model.scales", "2.5", r"model.scales must be int, got .2\.5"),
        ("--model.hidden", "2.5", r"model.hidden must be int \| list\[int\], got .2\.5"),
        ("--model.linear", "maybe", "model.linear must be bool, got .maybe"),
        ("--training.minutes", "soon", r"training.minutes must be float \| None, got .soon"),
        ("--training.betas", "3", "training.betas must be tuple"),
        ("--data.columns", "3", "--data.columns: is written as {NAME:VALUE}, got 3"),
        ("--seed", "-1", "--seed: must be an integer from 0 to"),
        ("--seed", "9" * 40, "from 0 to"),
        ("--n", "0", "must be 1 or more, got 0"),
        ("--n", "some", "must be 1 or more, got some"),
        ("--model.hidden", "9" * 5000 + ".5", "model.hidden must be int"),
    ],
)
def test_messages_name_the_option_and_what_it_takes(parser, option, value, message):
    add_count(parser, "--n", 3, "how many")
    with pytest.raises(ValueError, match=message) as error:
        load_recipe("digits", **given_settings(parser, ["digits", option, value]))
    assert len(str(error.value)) < 400


def test_values_are_written_as_in_yaml(parser):
    command = (
        "digits --training.lr 1e-3 --model.hidden=[8,16] --data.flip true --data-background null "
        "--data 2020 --data.columns.a.b drop --data.columns.c=integer"
    )
    argv = expand(command.split())
    assert given_settings(parser, argv) == {
        "data": {
            "flip": True, "background": None, "source": "2020",
            "columns": {"a.b": "drop", "c": "integer"},
        },
        "model": {"hidden": [8, 16]},
        "training": {"lr": 0.001},
    }  # fmt: skip


def test_seeds_of_verbs_have_a_range():
    parser = Parser("sample", "Sample.", "")
    add_seed(parser, "the noise")
    assert parser.parse_args(["--seed", "7"]).seed == 7
    with pytest.raises(ValueError, match="--seed: must be an integer from 0"):
        parser.parse_args(["--seed", str(2**63)])
