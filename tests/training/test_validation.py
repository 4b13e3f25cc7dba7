"""How often a training validates, and that it keeps to the time."""

from __future__ import annotations

import math

import pytest

from realnvp.training.validation import EVALUATED, FEWEST, SAMPLED, Plan, ValidationPlan, plan

MOST = Plan(times=20, examples=2000, pictures=20, samples=100)


def cost(chosen: Plan) -> float:
    """Return the cost of all validations, in trained examples."""
    evaluated = chosen.times * chosen.examples * EVALUATED
    return evaluated + chosen.pictures * chosen.samples * SAMPLED


@pytest.mark.parametrize("trained", [5_000, 20_000, 100_000, 1_000_000])
@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_validations_keep_to_their_share(trained, share):
    chosen = plan(MOST, trained, share)
    assert cost(chosen) <= trained * share / (1 - share) + 1e-9
    assert all(a <= b for a, b in zip(chosen, MOST, strict=True))


def test_however_short_the_budget_there_is_one():
    assert plan(MOST, 1, 0.1) == (1, FEWEST[1], 1, FEWEST[2])
    few = MOST._replace(examples=7)
    assert plan(few, 1, 0.1).examples == 7


def test_without_a_limit_nothing_is_left_out():
    assert plan(MOST, 1, 1.0) == plan(MOST, math.inf, 0.1) == MOST


def test_the_same_settings_make_the_same_plan_whatever_the_clock_says():
    plans = []
    for seconds in (0.1, 60.0):
        it = ValidationPlan(MOST, 0.1, None)
        it.choose(60_000)
        it.add(seconds, seconds)
        assert it.affords_validation(0.2)
        assert it.reserve(5000, 2.0) == 0
        assert it.affordable(1e9, 5000, 2.0) == 5000
        plans.append(it.now)
    assert plans[0] == plans[1]


def test_a_resumed_training_makes_the_same_plan():
    it, again = ValidationPlan(MOST, 0.1, None), ValidationPlan(MOST, 0.1, None)
    it.choose(60_000)
    it.add(1.0, 1.0)
    again.load_state_dict(it.state_dict())
    again.choose(60_000)
    assert again.now == it.now
    longer = ValidationPlan(MOST, 0.1, None)
    longer.load_state_dict(it.state_dict())
    longer.choose(1e9)
    assert longer.now == MOST._replace(examples=it.now.examples), "means over others do not compare"


def test_damaged_states_are_refused():
    it = ValidationPlan(MOST, 0.1, None)
    for bad in ({}, {**it.state_dict(), "examples": "3"}):
        with pytest.raises(ValueError, match="validation"):
            it.load_state_dict(bad)


@pytest.mark.parametrize("each", [0.001, 0.01, 0.1])
@pytest.mark.parametrize("error", [0.5, 1.0, 1.5])
def test_a_budget_of_minutes_is_kept(each, error):
    """Simulate a minute: a step of 32 examples, and evaluations that cost other than guessed."""
    it = ValidationPlan(MOST, 0.1, 1.0)
    clock, steps, validating, progress = 0.0, 0, 0.0, 0.0
    evaluated, drawn = error * EVALUATED * each, error * SAMPLED * each

    def validate(picture: bool) -> None:
        nonlocal clock, validating
        seconds = evaluated * it.now.examples, drawn * it.now.samples if picture else 0.0
        it.add(*seconds)
        clock, validating = clock + sum(seconds), validating + sum(seconds)

    while progress < 1:
        before = progress
        clock, steps = clock + 32 * each, steps + 1
        progress = max(progress, min(1.0, clock / (60 - it.reserve(5000, 1.0))))
        if it.is_due(before, progress) and not it.is_chosen:
            it.choose(60 / each, each)
        if it.is_due(before, progress) and it.affords_validation(progress):
            validate(it.affords_picture(before, progress))
            progress = max(progress, min(1.0, clock / (60 - it.reserve(5000, 1.0))))
    clock += it.affordable(clock, 5000, 1.0) * evaluated
    assert clock == pytest.approx(60, abs=3 + 2 * 32 * each)
    assert validating <= 6
    assert it.now.times >= 1
