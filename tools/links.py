"""Ask whether the pages that the docs lead to are still there: python tools/links.py [FILE.md ...]

By hand, and with a network: links inside the site and to files of the repository are checked by
``tests/docs`` and by ``make docs``, which need none. Without files, the list of all sources is
read, ``docs/reference/sources.md``. Ends with status 1 if a page is gone.
"""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "docs" / "reference" / "sources.md"

REFUSALS = (401, 403, 405, 406, 429)
"""Answers of a server that is there, and does not serve programs."""

WAIT = 30  # seconds


def links(text: str) -> list[str]:
    """Return the addresses of Markdown's links, each once.

    >>> links("[a](https://a.org/x) and [b](b.md), [a](https://a.org/x)")
    ['https://a.org/x']
    """
    return list(dict.fromkeys(re.findall(r"\]\((https?://[^)\s]+)\)", text)))


def fault(link: str) -> str | None:
    """Return what is wrong with a link, or None."""
    request = urllib.request.Request(link, headers={"User-Agent": "Mozilla/5.0 (links of docs)"})
    try:
        with urllib.request.urlopen(request, timeout=WAIT):
            return None
    except urllib.error.HTTPError as error:
        error.close()
        return None if error.code in REFUSALS else str(error)
    except OSError as error:
        return str(getattr(error, "reason", error))


def main(files: list[str]) -> int:
    """Print each link that leads nowhere; return the exit status."""
    found = links("".join(Path(f).read_text("utf-8") for f in files or [SOURCES]))
    with ThreadPoolExecutor(8) as pool:
        faults = dict(zip(found, pool.map(fault, found), strict=True))
    wrong = {link: why for link, why in faults.items() if why is not None}
    for link, why in wrong.items():
        print(f"{link}: {why}")
    print(f"{len(found)} links, {len(wrong)} of them lead nowhere")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
