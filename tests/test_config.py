"""Recipe files that come from anybody: what is wrong with them is said in one line, at once."""

from __future__ import annotations

import time

import pytest

from realnvp.config import read_recipe

LAUGHS = "kind: vector\na0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)

BAD = {
    "aliases that multiply": (LAUGHS, "aliases"),
    "an alias of itself": ("kind: vector\nmodel: &m {hidden: *m}", "aliases"),
    "a merge": ("kind: vector\nmodel: &m {hidden: 3}\ndata: {<<: *m}", "aliases"),
    "a list for the kind": ("kind: [vector]", "kind: image"),
    "a mapping for the kind": ("kind: {vector: 1}", "kind: image"),
    "a list for a section": ("kind: vector\nmodel: [1, 2]", "model .* section"),
    "a number for a section": ("kind: vector\ntraining: 3", "training .* section"),
    "a number for a key": ("kind: vector\nmodel: {3: 4}", "3 .* text"),
    "a number for a section's name": ("kind: vector\n3: {hidden: 4}", "3 .* text"),
    "nested without end": ("kind: vector\nmodel: " + "[" * 20_000, "nested"),
    "larger than any recipe": ("kind: vector\n" + "#" * 2_000_000, "large"),
    "a date that is none": ("kind: vector\nseed: 2020-99-99", "YAML"),
    "digits without end": ("kind: vector\nseed: " + "9" * 9_000, "YAML"),
    "a key that is a list": ("kind: vector\n? [a, b]\n: 3", "YAML|text"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused_at_once(tmp_path, case):
    text, message = BAD[case]
    path = tmp_path / "r.yaml"
    path.write_text(text)
    start = time.process_time()
    with pytest.raises(ValueError, match=message) as caught:
        read_recipe(str(path))
    assert time.process_time() - start < 2
    assert len(str(caught.value)) < 600


def test_an_empty_section_is_the_defaults(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("kind: vector\nmodel:\n")
    assert read_recipe(str(path))["model"] == {}
