"""Settings as options: names, help and messages."""

from __future__ import annotations

import pytest

from realnvp.cli.options import Parser, add_count, add_seed, add_settings, expand, given_settings


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
        "training": {"minutes": 5.0, "betas": (0.8, 0.9)},
    }
    assert given_settings(parser, ["digits"]) == {}


def test_help_shows_the_recipes_values(parser):
    out = " ".join(parser.format_help().split())
    assert "--model.scales N number of scales" in out
    assert "default: 24)" in out
    assert "--model.norm {batch,act,none}" in out
    assert "Short: --minutes" in out


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("--lr", "--training.lr"),
        ("--hiden", "--model.hidden"),
        ("--modle.hidden", "--model.hidden"),
        ("--minute", "--minutes"),
        ("--data_root", "--data.root"),
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
        ("--model.norm", "layer", "choose from 'batch', 'act', 'none'"),
        ("--model.scales", "2.5", "must be an integer, got 2.5"),
        ("--model.hidden", "2.5", "must be an integer or a list with one for each scale, got 2.5"),
        ("--model.linear", "maybe", "must be true or false, got maybe"),
        ("--training.minutes", "soon", "must be a number or null, got soon"),
        ("--training.betas", "3", "must be a list"),
        ("--seed", "-1", "from 0 to"),
        ("--seed", "9" * 40, "from 0 to"),
        ("--n", "0", "must be 1 or more, got 0"),
        ("--n", "some", "must be 1 or more, got some"),
    ],
)
def test_messages_are_in_plain_words(parser, option, value, message):
    add_count(parser, "--n", 3, "how many")
    with pytest.raises(ValueError, match=message) as error:
        parser.parse_args(["digits", option, value])
    for jargon in ("Literal", "typing", "<class", "restriction"):
        assert jargon not in str(error.value)


def test_long_values_are_cut(parser):
    for digits in (400, 5000):
        with pytest.raises(ValueError, match=r"model\.hidden") as error:
            parser.parse_args(["digits", "--model.hidden", "9" * digits + ".5"])
        assert len(str(error.value)) < 400


def test_seeds_of_verbs_have_a_range():
    parser = Parser("sample", "Sample.", "")
    add_seed(parser, "the noise")
    assert parser.parse_args(["--seed", "7"]).seed == 7
    with pytest.raises(ValueError, match="--seed must be an integer from 0"):
        parser.parse_args(["--seed", str(2**63)])
