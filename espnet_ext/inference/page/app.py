"""The page itself, and the server behind it."""

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Any

from espnet_ext.errors import UserError
from espnet_ext.inference.page import answers, parts
from espnet_ext.inference.page.style import CSS

if TYPE_CHECKING:
    from fastapi import FastAPI

    from espnet_ext.inference.emotion import SpeechEmotion
    from espnet_ext.inference.server import Limits

KEPT = 3600  # seconds that an upload is kept while the page is open
_HINT = parts.box("hint", "Record or drop a file:", "the answer appears here.")
_HINT_FILES = parts.box("hint", "Drop several files:", "each becomes a row here.")


def run(
    ser: "SpeechEmotion", description: str, limits: "Limits", listening: socket
) -> None:
    """Show the page until interrupted. Uploads are gone then.

    Args:
        ser: The model.
        description: What it was made of, as ``ser info`` prints it.
        limits: Of an upload.
        listening: Where the page is asked for.

    Raises:
        UserError: Gradio is not installed.
    """
    # Ends as Ctrl-C does, so that the folder below is deleted.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="ser_demo_") as folder:
        app = make_app(ser, description, limits, Path(folder))
        import uvicorn

        host, port = listening.getsockname()[:2]
        name = f"[{host}]" if ":" in host else host
        print(f"http://{name}:{port} (Ctrl-C ends it)", flush=True)
        # Browsers keep a connection open for as long as they show the page.
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        uvicorn.Server(config).run(sockets=[listening])


def make_app(
    ser: "SpeechEmotion", description: str, limits: "Limits", folder: Path
) -> "FastAPI":
    """Make the page; it asks no other host and writes to `folder` alone."""
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio as gr
        from fastapi import FastAPI
    except ImportError as error:
        raise UserError(
            f"ser demo needs Gradio ({error}): pip install 'espnet_ext[demo]'"
        ) from error

    def one(path: str | None) -> str:
        if path is None:
            return _HINT
        return answers.answer(ser, Path(path), limits.max_seconds)

    def several(paths: list[str] | None) -> Iterator[tuple[str, Any]]:
        hidden = gr.DownloadButton(visible=False)
        if not paths:
            yield _HINT_FILES, hidden
            return
        place = Path(tempfile.mkdtemp(dir=folder))
        found = answers.answer_all(
            ser, [Path(path) for path in paths], place, limits.max_seconds
        )
        for table in found:
            if table.csv is None:
                yield table.html, hidden
            else:
                yield table.html, gr.DownloadButton(value=table.csv, visible=True)

    with gr.Blocks(
        title="Speech emotion", analytics_enabled=False, delete_cache=(KEPT, KEPT)
    ) as blocks:
        title = f"<h1>Speech emotion</h1>{answers.warn_of_toy(ser.info)}"
        gr.HTML(title, elem_classes="ser-page")
        with gr.Tab("One recording"), gr.Row():
            with gr.Column(scale=2, min_width=320, elem_classes="ser-left"):
                audio = gr.Audio(
                    sources=["upload", "microphone"],
                    type="filepath",
                    label="Recording",
                    buttons=["download"],  # not "share", which asks another host
                    elem_id="recording",
                )
                model = answers.about(ser, description)
                gr.HTML(model, elem_id="about", elem_classes="ser-page")
            with gr.Column(scale=5, min_width=320):
                shown = gr.HTML(_HINT, elem_id="answer", elem_classes="ser-page")
        with gr.Tab("Several files"):
            files = gr.File(file_count="multiple", label="Files", elem_id="files")
            download = gr.DownloadButton(
                "Download csv", variant="primary", visible=False, elem_id="csv"
            )
            rows = gr.HTML(_HINT_FILES, elem_id="rows", elem_classes="ser-page")
        audio.change(one, audio, shown, api_visibility="private")
        files.change(several, files, [rows, download], api_visibility="private")
    blocks.queue(max_size=limits.max_waiting)
    return gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        max_file_size=round(limits.max_mb * 1e6),
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=gr.themes.Default(
            font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
        css=CSS,
    )
