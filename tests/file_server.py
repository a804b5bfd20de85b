"""A server on this machine that publishes archives as Zenodo does, and misbehaves as it is told to."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves `/api/records/<record>` and `/files/<name>`; use it in a `with` block.

    `faults` is worked off one request for a file at a time: functions `(handler, data) -> None` that answer in place
    of the server. `requests` lists (path, Range header) of all requests.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.records: dict[str, list[str]] = {}
        self.checksums: dict[str, str] = {}
        self.faults: list = []
        self.record_faults: list = []
        self.requests: list[tuple[str, str | None]] = []
        self.released = threading.Event()

    def publish(self, record: str, name: str, data: bytes) -> None:
        self.files[name] = data
        self.records.setdefault(record, []).append(name)

    def ranges(self, name: str) -> list[str | None]:
        """The Range header of each request for a file."""
        return [wanted for path, wanted in self.requests if path.partition("?")[0].endswith(f"/{name}")]

    def __enter__(self) -> "FileServer":
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                owner.requests.append((self.path, self.headers.get("Range")))
                parts = self.path.partition("?")[0].strip("/").split("/")
                if parts[:2] == ["api", "records"]:
                    if owner.record_faults:
                        owner.record_faults.pop(0)(self, b"")
                    elif parts[2] in owner.records:
                        reply(self, 200, json.dumps(owner.record(parts[2])).encode(), kind="application/json")
                    else:
                        reply(self, 404, b"{}")
                elif parts[-1] in owner.files:
                    data = owner.files[parts[-1]]
                    (owner.faults.pop(0) if owner.faults else serve)(self, data)
                else:
                    reply(self, 404, b"no such file")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.owner = self
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def record(self, record: str) -> dict:
        return {
            "files": [
                {
                    "key": name,
                    "size": len(self.files[name]),
                    "checksum": self.checksums.get(name, f"md5:{hashlib.md5(self.files[name]).hexdigest()}"),
                    "links": {"self": f"{self.url}/files/{name}"},
                }
                for name in self.records[record]
            ]
        }


def reply(handler, status, data, *, kind="application/octet-stream", length=None, **headers) -> None:
    """Answer with `data`, whatever the headers say about it."""
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(data) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)


def wanted(handler) -> int:
    """First byte that the request asks for."""
    header = handler.headers.get("Range")
    return int(header.removeprefix("bytes=").partition("-")[0]) if header else 0


def serve(handler, data, end=None, length=None) -> None:
    """Answer properly, Range included; up to byte `end` only, or with another Content-Length, if told so."""
    start = wanted(handler)
    if start >= len(data) > 0:
        reply(handler, 416, b"", Content_Range=f"bytes */{len(data)}")
    elif handler.headers.get("Range"):
        span = f"bytes {start}-{len(data) - 1}/{len(data)}"
        reply(handler, 206, data[start:end], length=length or len(data) - start, Content_Range=span)
    else:
        reply(handler, 200, data[:end], length=length or len(data))


def cut(end):
    """Close the connection once byte `end` has been sent."""

    def answer(handler, data):
        serve(handler, data, end=end)
        handler.close_connection = True

    return answer


def stall(end):
    """Send up to byte `end`, then nothing more, with the connection open."""

    def answer(handler, data):
        serve(handler, data, end=end)
        handler.wfile.flush()
        handler.server.owner.released.wait(20)
        handler.close_connection = True

    return answer


def status(code, **headers):
    """Answer with an error."""
    return lambda handler, data: reply(handler, code, b"busy", **headers)


def page(handler, data):
    """A web page, as a portal in between sends it."""
    reply(handler, 200, b"<!DOCTYPE html><html><body>Please log in</body></html>", kind="text/html; charset=utf-8")


def disguised_page(handler, data):
    """A web page that does not say that it is one."""
    reply(handler, 200, b"\n<html><body>Please log in</body></html>" + bytes(5000))


def ignore_range(handler, data):
    """All of it, whatever was asked for."""
    reply(handler, 200, data)


def wrong_range(handler, data):
    """From another place than was asked for."""
    reply(handler, 206, data[10:], Content_Range=f"bytes 10-{len(data) - 1}/{len(data)}")


def shorter(handler, data):
    """Say that it is a thousand bytes shorter than it is."""
    start = wanted(handler)
    headers = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
    reply(handler, 206 if start else 200, data[start:-1000], **headers)


def longer(handler, data):
    """Say that there is more than there is."""
    serve(handler, data, length=len(data) - wanted(handler) + 1000)
    handler.close_connection = True
