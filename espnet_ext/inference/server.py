"""The HTTP service ``ser serve`` (FastAPI, the extra ``serve``).

Recordings stay in memory: nothing is written to a disk and nothing is kept.
"""

import base64
import binascii
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any

from espnet_ext.errors import UserError
from espnet_ext.inference.sources import Source, open_source

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

    from espnet_ext.inference.emotion import SpeechEmotion


# Bytes over the limit that are still read, and dropped: many clients read an answer
# only when they have sent all.
_SPARE = 32 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for.

    Attributes:
        max_mb: Largest upload in megabytes.
        max_seconds: Longest recording.
        max_waiting: Requests at a time, the one that computes included.
    """

    max_mb: float = 100
    max_seconds: float = 3600
    max_waiting: int = 16

    def __post_init__(self) -> None:
        for name in ("max_mb", "max_seconds", "max_waiting"):
            if not 0 < getattr(self, name) < 1e9:
                raise UserError(f"{name} must be positive, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Query:
    """A request's content.

    Attributes:
        audio: Bytes of an audio file.
        parameters: By name.
        kind: ``hosted`` in the JSON of hosted pipelines, which answers as they do.
    """

    audio: bytes
    parameters: dict[str, Any]
    kind: str = "plain"


class RefusedError(Exception):
    """A request that is not answered.

    Args:
        status: HTTP status.
        text: Why.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def make_app(ser: "SpeechEmotion", limits: Limits) -> "FastAPI":
    """Make the application.

    ``POST /predict`` and ``POST /timeline`` take a recording as the field ``file`` of a
    form, as the body itself (``audio/*``, ``application/octet-stream``), or as JSON
    ``{"inputs": BASE64, "parameters": {...}}``, as hosted pipelines do.
    """
    try:
        from fastapi import FastAPI, Request
        from fastapi.responses import JSONResponse
    except ImportError as error:
        raise UserError(
            f"ser serve needs FastAPI ({error}): pip install 'espnet_ext[serve]'"
        ) from error

    app = FastAPI(title="Speech emotion recognition", version="1")
    room = BoundedSemaphore(limits.max_waiting)

    @app.exception_handler(RefusedError)
    async def refuse(_: Request, error: RefusedError) -> JSONResponse:
        # Closed where the body is not read to its end: whoever sends 3 GB may stop.
        unread = {"Connection": "close"} if error.status in (413, 503) else None
        return JSONResponse({"error": str(error)}, error.status, unread)

    async def answer(request: Request, work: Callable[[Source, Query], Any]) -> Any:
        from starlette.concurrency import run_in_threadpool

        if not room.acquire(blocking=False):
            raise RefusedError(503, "too many requests at a time; try again later")
        try:
            query = await _read_request(request, limits)
            return await run_in_threadpool(_compute, query, work, limits)
        finally:
            room.release()

    @app.get("/health")
    def health() -> dict[str, str]:
        """Tell that the service is up."""
        return {"status": "ok"}

    @app.get("/info")
    def info() -> dict[str, Any]:
        """Say what the model was made of."""
        return {"labels": list(ser.labels), **ser.info.as_dict()}

    def predict_one(source: Source, query: Query) -> Any:
        if query.kind == "hosted":
            _known(query.parameters, {"top_k"})
            most = _whole(query.parameters.get("top_k", 1000))
            return ser(source).to_hf()[:most]
        _known(query.parameters, set())
        return ser(source).to_dict()

    def follow(source: Source, query: Query) -> Any:
        _known(query.parameters, {"window", "hop"})
        window = _number(query.parameters.get("window", 4.0), "window")
        hop = _number(query.parameters.get("hop", 1.0), "hop")
        if source.seconds() / hop > 100_000:
            raise UserError(f"hop {hop:g}: more than 100,000 steps")
        return ser.timeline(source, window, hop).to_dict()

    body = {"requestBody": _BODY, "responses": _RESPONSES}

    @app.post("/predict", openapi_extra=body)
    async def predict(request: Request) -> Any:
        """Class and attributes of a recording."""
        return await answer(request, predict_one)

    @app.post("/timeline", openapi_extra=body)
    async def timeline(request: Request) -> Any:
        """Emotion over time."""
        return await answer(request, follow)

    return app


def run(ser: "SpeechEmotion", limits: Limits, host: str, port: int) -> None:
    """Serve until interrupted.

    Raises:
        UserError: FastAPI is not installed, or `listen` fails.
    """
    with listen(host, port) as listening:
        app = make_app(ser, limits)
        import uvicorn

        most = 4 * limits.max_waiting
        config = uvicorn.Config(app, host=host, port=port, limit_concurrency=most)
        uvicorn.Server(config).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address; port 0 takes a free one.

    Raises:
        UserError: The port is in use or cannot be had, or the host is not known.
    """
    if not 0 <= port < 65536:
        raise UserError(f"port is {port}; from 0 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = str(error.strerror).partition(" (while ")[0]
        raise UserError(
            f"cannot listen on {host}, port {port} ({reason}); choose another --port "
            "or --host"
        ) from error


def _compute(query: Query, work: Callable[[Source, Query], Any], limits: Limits) -> Any:
    try:
        with open_source(query.audio) as source:
            if source.seconds() > limits.max_seconds:
                raise RefusedError(
                    413, f"longer than {limits.max_seconds:g} s, this service's limit"
                )
            return work(source, query)
    except (UserError, OSError) as error:
        raise RefusedError(422, str(error)) from error


async def _read_request(request: "Request", limits: Limits) -> Query:
    """Read the recording and the parameters, never more than the limit."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await _read_body(request, round(limits.max_mb * 1e6))
    if kind == "multipart/form-data":
        return await _read_form(request, body)
    if kind == "application/json":
        return _read_json(body)
    if not kind.startswith("audio/") and kind != "application/octet-stream":
        raise RefusedError(
            415, "send a form with 'file', JSON with 'inputs', or audio as the body"
        )
    return Query(body, dict(request.query_params))


async def _read_body(request: "Request", most: int) -> bytes:
    length = request.headers.get("content-length", "")
    parts: list[bytes] = []
    size = int(length) if length.isdigit() else 0
    if size <= most + _SPARE:
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > most + _SPARE:
                break
            if size <= most:
                parts.append(part)
    if size > most:
        raise RefusedError(413, f"more than {most / 1e6:g} MB, this service's limit")
    return b"".join(parts)


async def _read_form(request: "Request", body: bytes) -> Query:
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def stream() -> Any:
        yield body

    parser = MultiPartParser(request.headers, stream(), max_files=1, max_fields=8)
    parser.spool_max_size = len(body) + 1  # in memory, whatever its size
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError, UnicodeError) as error:
        raise RefusedError(400, f"no form that can be read ({error})") from error
    values = dict(form)
    file = values.pop("file", None)
    if not hasattr(file, "read"):
        raise RefusedError(422, "the form has no file in its field 'file'")
    audio = await file.read()  # type: ignore[union-attr]
    await form.close()
    return Query(audio, {**request.query_params, **values})


def _read_json(body: bytes) -> Query:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "no JSON that can be read") from error
    if not isinstance(content, dict) or not isinstance(content.get("inputs"), str):
        raise RefusedError(422, "expected {'inputs': base64 of an audio file}")
    parameters = content.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise RefusedError(422, "parameters must be an object")
    try:
        audio = base64.b64decode(content["inputs"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedError(422, "inputs is no base64") from error
    return Query(audio, parameters, kind="hosted")


def _known(parameters: dict[str, Any], names: set[str]) -> None:
    for name in parameters:
        if name not in names:
            known = ", ".join(sorted(names)) or "none"
            raise UserError(f"the parameter {name} is unknown; there are: {known}")


def _number(value: Any, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 < number < 1e6:
        raise UserError(f"{name} must be a positive number, not {value!r}")
    return number


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not str(value).isascii() or not str(value).isdigit():
        raise UserError(f"top_k must be a whole number, not {value!r}")
    return int(str(value)[:9])


_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"file": {"type": "string", "format": "binary"}},
                "required": ["file"],
            }
        },
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "inputs": {"type": "string", "format": "byte"},
                    "parameters": {"type": "object"},
                },
                "required": ["inputs"],
            }
        },
        "audio/wav": {"schema": {"type": "string", "format": "binary"}},
    },
}
_RESPONSES = {
    status: {"description": text}
    for status, text in {
        "400": "The form or JSON cannot be read",
        "413": "Too large or too long",
        "415": "Another kind of body",
        "422": "The recording or a parameter cannot be used",
        "503": "Too many requests at a time",
    }.items()
}
