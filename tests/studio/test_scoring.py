"""The tab of scores, driven in a browser."""

from __future__ import annotations

import pytest
from PIL import Image


def test_an_image_is_scored_among_the_others(page, tmp_path):
    page.choose_model("digits")
    Image.effect_noise((8, 8), 120).save(tmp_path / "noise.png")
    page.tab("Score")
    page.upload("#score-files", tmp_path / "noise.png")
    page.click("#score-go")
    for part in ("seen", "histogram", "heat"):
        page.picture(f"#score-{part}")
    page.text("#score-table", "noise.png", "bits/dim")
    page.text("#score-note", "Compared with 128 held-out examples of digits (test)")


@pytest.mark.parametrize(
    ("content", "message"),
    [("a,b,c\n1,2,3\n4,6,5\n9,1,1\n", "holds vectors of 3 columns"), ("", "t.csv")],
)
def test_a_table_that_does_not_fit_gets_the_line_of_the_command_line(
    page, tmp_path, content, message
):
    (tmp_path / "t.csv").write_text(content)
    page.open()  # without an earlier test's files
    page.choose_model("moons")
    page.tab("Score")
    page.upload("#score-files", tmp_path / "t.csv")
    page.click("#score-go")
    error = page.error()
    assert message in error
    assert "Traceback" not in error
