"""Errors in one line, and work that is cancelled."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

gr = pytest.importorskip("gradio")

from realnvp.studio.jobs import Jobs, Results, guarded, integer  # noqa: E402
from realnvp.studio.stopping import Cancelled  # noqa: E402


def test_what_a_visitor_can_mend_is_one_line_and_a_bug_is_raised():
    def fail(error):
        raise error

    with pytest.raises(gr.Error, match="too large"):
        guarded(fail)(ValueError("too\nlarge"))
    with pytest.raises(gr.Error, match="cancelled"):
        guarded(fail)(Cancelled())
    with pytest.raises(KeyError):
        guarded(fail)(KeyError("bug"))


def test_an_empty_field_is_named():
    with pytest.raises(ValueError, match="the seed is empty"):
        integer(None, "seed")


def test_only_the_visitors_own_work_is_cancelled(tmp_path):
    jobs = Jobs(tmp_path)
    seen = []
    one, two = (SimpleNamespace(session_hash=name) for name in "ab")
    tell_one, tell_two = (
        jobs.begin(visitor, lambda fraction, desc: seen.append(fraction), "work")
        for visitor in (one, two)
    )
    jobs.cancel(one)
    with pytest.raises(Cancelled):
        tell_one(1, 4)
    tell_two(1, 4)
    assert seen[-1] == 0.25
    jobs.forget(two)
    with pytest.raises(Cancelled):
        tell_two(2, 4)
    jobs.cancel(SimpleNamespace(session_hash="nobody"))


def test_all_work_of_a_visitor_is_cancelled_and_what_comes_later_is_not(tmp_path):
    jobs, visitor = Jobs(tmp_path), SimpleNamespace(session_hash="a")
    works = [jobs.begin(visitor, lambda fraction, desc: None, "work") for _ in range(2)]
    jobs.cancel(visitor)
    for notify in works:
        with pytest.raises(Cancelled):
            notify(1, 4)
    jobs.begin(visitor, lambda fraction, desc: None, "work")(1, 4)


def test_files_of_one_name_do_not_replace_each_other(tmp_path):
    jobs = Jobs(tmp_path)
    first, second = jobs.path("a.png"), jobs.path("a.png")
    assert first != second
    assert first.parent.parent == second.parent.parent == tmp_path


def test_results_are_hidden_until_there_are_some():
    with gr.Blocks():
        results = Results("tab", "press it")
        with results:
            gr.Markdown("inside")
    assert results.column.visible is False
    note, column = results.shown("done")
    assert (note, column["visible"]) == ("done", True) if isinstance(column, dict) else column
    assert results.empty()[0] == "press it"
    assert results.column.children
