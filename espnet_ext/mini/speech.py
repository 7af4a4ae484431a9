"""Speech from espeak-ng: the same samples for the same requests, every time.

espeak-ng is loaded with ctypes from the ``espeakng-loader`` wheel (an extra of this
package: the synthesizer is GPL-3.0 and only the generator of the built-in corpora
calls it). It keeps state between utterances (its random numbers, the phase of its
pitch wobble), so a waveform depends on all speech before it. `synthesize` therefore
starts a fresh process for each list of requests and says them in order after a call
of ``espeak_ng_SetRandSeed``. The process also keeps the GPL library out of this one.
"""

import ctypes
import importlib.util
import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np

from espnet_ext.errors import UserError

SAMPLE_RATE = 16000

# Constants of espeak-ng's speak_lib.h.
_SYNCHRONOUS = 2  # espeak_Synth returns when the callback has had every sample
_DONT_EXIT = 0x8000  # report a missing voice folder instead of ending the process
_UTF8 = 1
_RATE, _VOLUME, _PITCH, _RANGE, _WORD_GAP = 1, 2, 3, 4, 7

# espeak-ng holds its data path in a buffer of 160 bytes and appends file names to it.
_LONGEST_DATA_PATH = 120

_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@dataclass(frozen=True, slots=True)
class Request:
    """One sentence and how espeak-ng shall say it."""

    text: str
    voice: str  # language and variant, such as en-us+f3
    pitch: int = 50  # 0-99; 50 is the variant's own
    pitch_range: int = 50  # 0-99; 0 is monotone
    rate: int = 175  # words a minute, 80-450
    word_gap: int = 0  # in units of 10 ms


def require_synthesizer() -> None:
    """Raise UserError that says how to get the synthesizer, if it is not installed."""
    if importlib.util.find_spec("espeakng_loader") is None:
        raise UserError(
            "the built-in corpora are spoken by espeak-ng, which is not installed: "
            "run `pip install espnet_ext[mini]` (it brings espeakng-loader; the "
            "synthesizer is GPL-3.0 and is used by this generator only)"
        )


def synthesize(requests: Sequence[Request], seed: int) -> Iterator[np.ndarray]:
    """Say each request in a fresh process; the order matters.

    Yields:
        A waveform (samples,) each: float32 in [-1, 1], 16 kHz, no silence at its ends.

    Raises:
        UserError: The synthesizer is missing, or failed (its own words are given).
    """
    import soxr

    require_synthesizer()
    context = multiprocessing.get_context("spawn")
    pipe, end_of_child = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(end_of_child, requests, seed))
    process.start()
    end_of_child.close()
    try:
        for request in requests:
            answer = "it gave no reason"
            with suppress(EOFError):
                answer = pipe.recv()
            if isinstance(answer, str):
                raise UserError(
                    f"espeak-ng failed on voice {request.voice!r}, text "
                    f"{request.text!r}: {answer}"
                )
            samples, rate = answer
            speech = trim_silence(samples).astype(np.float32) / 32768  # (n,)
            yield soxr.resample(speech, rate, SAMPLE_RATE)
    finally:
        process.kill()
        process.join()


def trim_silence(samples: np.ndarray, threshold: int = 60) -> np.ndarray:
    """Cut what is quieter than `threshold` (of 32768) from both ends of (samples,)."""
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > threshold)
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples


# What follows runs in the child process.


class _Synthesizer:
    """espeak-ng through ctypes. One a process: the library has global state."""

    def __init__(self, library: str, data: str, seed: int) -> None:
        self._library = ctypes.CDLL(library)
        self._pieces: list[bytes] = []
        # The callback must outlive the library's use of it.
        self._callback = _CALLBACK(self._collect)
        self.rate = self._library.espeak_Initialize(
            _SYNCHRONOUS, 0, os.fsencode(data), _DONT_EXIT
        )
        if self.rate <= 0:
            raise RuntimeError(f"espeak-ng cannot use its data folder {data}")
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        self._check(self._library.espeak_ng_SetRandSeed(seed), "seed")

    def _collect(self, samples: "ctypes._Pointer", count: int, _events: int) -> int:
        if samples and count > 0:
            self._pieces.append(ctypes.string_at(samples, 2 * count))
        return 0

    @staticmethod
    def _check(status: int, what: str) -> None:
        if status != 0:
            raise RuntimeError(f"espeak-ng refuses {what} (status {status:#x})")

    def say(self, request: Request) -> np.ndarray:
        """Return the int16 samples (n,) of one request."""
        library = self._library
        status = library.espeak_SetVoiceByName(request.voice.encode())
        self._check(status, f"voice {request.voice}")
        for parameter, value in (
            (_RATE, request.rate),
            (_VOLUME, 100),
            (_PITCH, request.pitch),
            (_RANGE, request.pitch_range),
            (_WORD_GAP, request.word_gap),
        ):
            status = library.espeak_SetParameter(parameter, value, 0)
            self._check(status, f"parameter {parameter} = {value}")
        self._pieces.clear()
        text = request.text.encode() + b"\0"
        status = library.espeak_Synth(
            text, ctypes.c_size_t(len(text)), 0, 0, 0, _UTF8, None, None
        )
        self._check(status, "the text")
        return np.frombuffer(b"".join(self._pieces), np.int16)


@contextmanager
def _short_data_path(path: str) -> Iterator[str]:
    """Give espeak-ng a path to its data that fits into its buffer."""
    if len(os.fsencode(path)) <= _LONGEST_DATA_PATH:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="espeak") as folder:
        link = os.path.join(folder, "espeak-ng-data")
        os.symlink(path, link)
        yield link


def _serve(pipe: Connection, requests: Sequence[Request], seed: int) -> None:
    """Send the int16 samples (n,) of each request, or a text that says what failed."""
    try:
        import espeakng_loader

        # Not get_data_path(): some versions return a path of the machine they were
        # built on. The data folder lies beside the library.
        library = espeakng_loader.get_library_path()
        data = os.path.join(os.path.dirname(espeakng_loader.__file__), "espeak-ng-data")
        with _short_data_path(data) as short:
            synthesizer = _Synthesizer(library, short, seed)
            for request in requests:
                pipe.send((synthesizer.say(request), synthesizer.rate))
    except (ImportError, OSError, RuntimeError) as error:
        pipe.send(str(error))
