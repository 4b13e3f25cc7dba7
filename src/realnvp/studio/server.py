"""The server of the page, which is only reachable from this machine by default."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from realnvp.studio.models import Library

__all__ = ["serving"]

MOST_BYTES = 4 * 2**30
"""Most bytes of all requests together, whose files stay on the disk until the studio ends."""


@contextmanager
def serving(
    library: Library,
    host: str = "127.0.0.1",
    port: int | None = None,
    browser: bool = False,
    names: Sequence[str] = (),
) -> Iterator[str]:
    """Serve the page inside this context, and yield its address.

    Files are only written into a temporary folder, which is removed at the end, and nothing is
    loaded from other hosts: no fonts, no analytics, no share links.

    Args:
        library: models to offer.
        host: address to listen on.
        port: port to listen on; a free one if left out.
        browser: open the page in the user's browser.
        names: names and addresses of this machine by which visitors may open the page, in addition
            to ``localhost``, ``host`` and the machine's own name. Any other is refused: another
            site can give its own name this machine's address.

    Raises:
        ValueError: if Gradio is not installed, the first model cannot be loaded, or the port is
            taken.
    """
    with tempfile.TemporaryDirectory(prefix="realnvp-studio-") as temporary:
        # Gradio reads these when it is imported and when it is started.
        os.environ.update(
            GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=temporary, HF_HUB_OFFLINE="1"
        )
        try:
            import gradio as gr
        except ImportError as error:
            raise ValueError(
                "the studio needs Gradio, which is not installed: pip install '.[studio]'"
            ) from error
        from starlette.middleware import Middleware  # FastAPI's, on which Gradio is built
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        from realnvp.studio.page import build

        hosts = ["localhost", "127.0.0.1", "[::1]", host, socket.gethostname(), *names]
        library.get(library.first)
        if port is not None:
            _check_free(host, port)
        page = build(library, Path(temporary))
        page.queue(default_concurrency_limit=2)
        try:
            _, address, _ = page.launch(
                server_name=host,
                server_port=port,
                inbrowser=browser,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                ssr_mode=False,
                run_history=False,
                enable_monitoring=False,
                footer_links=[],
                allowed_paths=[temporary],
                app_kwargs={
                    "middleware": [
                        Middleware(TrustedHostMiddleware, hosts, www_redirect=False),
                        Middleware(Guard),
                    ]
                },
                max_file_size="200mb",
                # Of weight 600, the usual one, Gradio's files have few letters.
                theme=gr.themes.Default(
                    font=[
                        gr.themes.LocalFont("Source Sans Pro", (400, 700)),
                        "system-ui",
                        "sans-serif",
                    ],
                    font_mono=[gr.themes.LocalFont("IBM Plex Mono", (400, 700)), "monospace"],
                ).set(
                    body_text_color_subdued="*neutral_500",
                    body_text_color_subdued_dark="*neutral_300",
                    button_primary_background_fill="*primary_700",
                    button_primary_background_fill_dark="*primary_700",
                    button_primary_background_fill_hover="*primary_800",
                    button_primary_background_fill_hover_dark="*primary_800",
                ),
                css_paths=[Path(__file__).with_name("page.css")],
                js=Path(__file__).with_name("page.js").read_text("utf-8"),
            )
            yield address
        finally:
            page.close(verbose=False)


class Guard:
    """Refuse requests of other sites' pages, and requests that would fill the disk.

    Browsers name the site of the page that sends data in the header ``Origin``.

    Args:
        app: the application, which is called with every request that is not refused (ASGI).
    """

    def __init__(self, app: Callable[..., Any]) -> None:
        self._app, self._taken = app, 0

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        from starlette.responses import PlainTextResponse

        answer = self._app
        if scope["type"] in ("http", "websocket"):
            headers = dict(scope["headers"])
            origin, size = headers.get(b"origin"), int(headers.get(b"content-length", 0))
            if origin is not None and urlsplit(origin).netloc != headers.get(b"host"):
                answer = PlainTextResponse("another site's page asks for this", 403)
            elif b"transfer-encoding" in headers:
                answer = PlainTextResponse("the request does not tell its size", 411)
            elif size and self._taken + size > MOST_BYTES:
                answer = PlainTextResponse("there were too many uploads: restart the studio", 413)
            else:
                self._taken += size
        await answer(scope, receive, send)


def _check_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        except OSError as error:
            raise ValueError(
                f"port {port} of {host} cannot be used ({error.strerror}): give another --port"
            ) from error
