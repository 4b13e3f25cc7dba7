"""Names of parts: added by a decorator, and never an import by a file."""

from __future__ import annotations

import pytest

from realnvp.utils.registry import BUILDERS, Registry, register_builder


@pytest.fixture
def numbers() -> Registry[type]:
    return Registry("number", "numbers:Number", {"int": "builtins:int"})


def test_a_decorator_adds_a_name(numbers):
    @numbers.register("half")
    class Half(float):
        pass

    assert numbers["half"] is Half
    assert list(numbers) == ["int", "half"]
    assert numbers["int"] is int


def test_the_cell_of_a_notebook_may_run_twice(numbers):
    for _ in range(2):

        @numbers.register("half")
        class Half(float):
            pass

    assert numbers["half"] is Half
    with pytest.raises(ValueError, match="there is a number 'half' already"):
        numbers.register("half")(complex)
    with pytest.raises(ValueError, match="there is a number 'int' already"):
        numbers.register("int")(Half)


def test_what_is_of_another_kind_is_refused(numbers):
    with pytest.raises(ValueError, match="is no number: derive it from numbers:Number"):
        numbers.register("text")(str)
    for name in ("", 3):
        with pytest.raises(ValueError, match="is a word"):
            numbers.register(name)


def test_unknown_names_are_told_with_the_known_ones(numbers):
    with pytest.raises(ValueError, match="unknown number 'itn': did you mean 'int'"):
        numbers["itn"]


class Thing:
    """Stands for a flow."""

    config = None


def test_a_builder_records_its_arguments():
    @register_builder("test-thing")
    def make(a, b=2, *, c=(1, 2), **more):
        return Thing()

    try:
        thing = make(1, c=[3], d="x")
        assert thing.config == {
            "builder": "test-thing", "arguments": {"a": 1, "b": 2, "c": [3], "d": "x"}
        }  # fmt: skip
        assert BUILDERS["test-thing"] is make
        with pytest.raises(ValueError, match="argument a of the builder 'test-thing' cannot be"):
            make(object())
    finally:
        del BUILDERS._entries["test-thing"]
    with pytest.raises(ValueError, match="parameters with names"):
        register_builder("other")(lambda *args: None)
