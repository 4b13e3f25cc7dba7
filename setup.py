"""The description of the built package: the README, whose relative links are made absolute."""

import re
from pathlib import Path

from setuptools import setup

REPOSITORY = "https://github.com/realnvp/realnvp"


def absolute(match: re.Match) -> str:
    """Return the start of a link or of a figure, to where the repository is read."""
    figure, text, target = match.groups()
    if figure:
        return f"![{text}]({REPOSITORY}/raw/main/{target})"
    return f"[{text}]({REPOSITORY}/blob/main/{target})"


readme = (Path(__file__).parent / "README.md").read_text("utf-8")
description = re.sub(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)", absolute, readme)
setup(long_description=description, long_description_content_type="text/markdown")
