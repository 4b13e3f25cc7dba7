"""The server of the page, which is only reachable from this machine by default."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from realnvp.studio.models import Library

__all__ = ["serving"]


@contextmanager
def serving(
    library: Library, host: str = "127.0.0.1", port: int | None = None, browser: bool = False
) -> Iterator[str]:
    """Serve the page inside this context, and yield its address.

    Files are only written into a temporary folder, which is removed at the end, and nothing is
    loaded from other hosts: no fonts, no analytics, no share links.

    Args:
        library: models to offer.
        host: address to listen on.
        port: port to listen on; a free one if left out.
        browser: open the page in the user's browser.

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

        from realnvp.studio.jobs import Arrivals
        from realnvp.studio.page import CSS, build

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
                app_kwargs={"middleware": [Middleware(Arrivals)]},
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
                    block_info_text_color="*neutral_500",
                    block_info_text_color_dark="*neutral_300",
                ),
                css=CSS,
            )
            yield address
        finally:
            page.close(verbose=False)


def _check_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        except OSError as error:
            raise ValueError(
                f"port {port} of {host} cannot be used ({error.strerror}): give another --port"
            ) from error
