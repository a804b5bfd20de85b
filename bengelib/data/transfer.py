"""Resumable download of one file over HTTP: an interruption or a stall loses nothing that was already received."""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from bengelib.arguments import real_number, whole_number
from bengelib.errors import DownloadError
from bengelib.files import writing

_PIECE = 2**18
"""Number of bytes per read."""
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Status codes after which to retry: the server is busy or temporarily unavailable."""
_LONGEST_WAIT = 60.0
"""Maximum waiting time in seconds, also if the server asks for more."""

_Result = TypeVar("_Result")


class _TryAgainError(Exception):
    """A temporary failure; `wait` is the delay in seconds that the server asks for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Transfer:
    """Settings of downloads: retries, timeout and progress bar.

    Attributes:
        attempts: number of consecutive failures, without any byte received, after which to give up.
        wait: seconds before the second attempt; doubled before each further one.
        timeout: seconds without a byte that count as a failure.
        progress: whether to show a progress bar.
    """

    attempts: int = 6
    wait: float = 1.0
    timeout: float = 30.0
    progress: bool = True

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ArgumentError: naming the setting, its value and what was expected.
        """
        whole_number("attempts", self.attempts)
        real_number("wait", self.wait, least=0)
        real_number("timeout", self.timeout, above=0)

    def file(self, url: str, part: Path, size: int | None = None) -> None:
        """Download `url` to `part`, continuing after the bytes that it has already.

        Args:
            url: the address.
            part: the file to write; after an error it is kept for the next call.
            size: expected number of bytes, None if unknown.

        Raises:
            DownloadError: the server refuses, lacks the file, sends a web page instead, or fails repeatedly.
            DiskSpaceError: the disk is full.
        """
        if size is not None and _bytes_in(part) > size:
            part.unlink()
        name = part.name.removesuffix(".part")
        with tqdm(total=size, unit="B", unit_scale=True, desc=name, disable=not self.progress) as bar:
            self._persist(url, lambda: self._stream(url, part, size, bar), lambda: _bytes_in(part))

    def json(self, url: str) -> Any:
        """The content of the JSON document at `url`.

        Raises:
            DownloadError: the server does not send it, or it is not JSON.
        """

        def read() -> bytes:
            with self._open(url, {}) as answer:
                return self._piece(answer, -1)

        data = self._persist(url, read, lambda: 0)
        try:
            return json.loads(data)
        except ValueError:
            raise DownloadError(f"{url} answered with something that is not JSON: {data[:60]!r}") from None

    def _persist(self, url: str, action: Callable[[], _Result], gained: Callable[[], int]) -> _Result:
        """Repeat `action` until it succeeds, or fails too often in a row without progress."""
        failures = 0
        while True:
            before = gained()
            try:
                return action()
            except _TryAgainError as failure:
                failures = 1 if gained() > before else failures + 1
                if failures >= self.attempts:
                    raise DownloadError(f"{url}: {failure}; gave up after {failures} attempts") from failure
                time.sleep(min(_LONGEST_WAIT, max(failure.wait, self.wait * 2 ** (failures - 1))))

    def _stream(self, url: str, part: Path, size: int | None, bar: Any) -> None:
        """Request the missing part of a file once, and write the response."""
        have = _bytes_in(part)
        if size is not None and have == size:
            if not part.exists():  # an empty file
                part.touch()
            bar.update(have - bar.n)
            return
        with self._open(url, {"Range": f"bytes={have}-"} if have else {}) as answer:
            if answer.status != 206:
                have = 0  # the server starts again: it does not support Range
            elif not (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
                part.unlink()
                raise _TryAgainError("the server went on from another place than it was asked to")
            if answer.headers.get_content_type() == "text/html":
                raise _web_page(url)
            length = answer.headers.get("Content-Length")
            end = size if size is not None else have + int(length) if length else None
            with part.open("ab" if have else "wb") as file:
                bar.update(have - bar.n)
                while end is None or have < end:
                    piece = self._piece(answer, _PIECE if end is None else min(_PIECE, end - have))
                    if not piece:
                        break
                    if have == 0 and piece.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
                        raise _web_page(url)
                    with writing(part, "call fetch again: it continues where it stopped"):
                        file.write(piece)
                        file.flush()
                    have += len(piece)
                    bar.update(len(piece))
        if end is not None and have < end:
            raise _TryAgainError(f"the connection ended after {have} of {end} bytes")

    def _open(self, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """The response of the server, if it can be read."""
        if not url.startswith(("https://", "http://")):  # urllib would read local files as well
            raise DownloadError(f"{url} is not a web address")
        request = urllib.request.Request(
            url, headers={"User-Agent": "bengelib", "Accept-Encoding": "identity", **headers}
        )
        try:
            answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            if error.code in _PASSING:
                after = error.headers.get("Retry-After", "")
                wait = float(after) if after.isdigit() else 0.0
                raise _TryAgainError(f"the server answered {error.code} {error.reason}", wait) from error
            raise DownloadError(f"{url}: the server answered {error.code} {error.reason}") from error
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", error)
            raise _TryAgainError(f"no answer ({reason})") from error
        return answer

    def _piece(self, answer: http.client.HTTPResponse, size: int) -> bytes:
        """The next bytes, `b""` at the end."""
        try:
            return answer.read1(size) if size >= 0 else answer.read()  # read1 does not wait for all of `size`
        except TimeoutError as error:
            raise _TryAgainError(f"no byte came for {self.timeout:g} s") from error
        except (http.client.HTTPException, OSError) as error:
            raise _TryAgainError(f"the connection broke ({error})") from error


def _bytes_in(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _web_page(url: str) -> DownloadError:
    return DownloadError(f"{url} answered with a web page instead of the file")
