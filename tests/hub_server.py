"""A hub for the tests of `millrace download`: repositories of bytes in memory, and misbehaviour by the request.

A Hub serves on a free port of 127.0.0.1. `trouble` maps a path of a file, or an API's name ("revision", "tree"), to a list of
functions; each request for it takes the first off and calls it with the handler, and is over when that returns True.
"""
import hashlib
import json
import re
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
LARGE = 1000  # bytes from which a file is in large file storage


def blob_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Request:
    def __init__(self, handler):
        self.path = unquote(urlsplit(handler.path).path)
        self.range = handler.headers.get("Range")
        self.if_range = handler.headers.get("If-Range")
        self.authorization = handler.headers.get("Authorization")
        self.served = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        hub = self.server.hub
        self.request_seen = Request(self)
        with hub.lock:
            hub.requests.append(self.request_seen)
        path = self.request_seen.path
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/(.+)", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        name = api[2] if api else file[3] if file else path
        with hub.lock:
            queue = hub.trouble.get(name, [])
            action = queue.pop(0) if queue else None
        try:
            if action and action(self):
                return
            if path in hub.plain:
                self.send_file(hub.plain[path])
            elif api and api[1] in hub.repositories:
                self.send_list(api[1], api[2])
            elif file and file[3] in hub.repositories.get(file[1], {}):
                data = hub.repositories[file[1]][file[3]]
                linked = {"X-Linked-Etag": f'"{sha256(data)}"'} if len(data) >= LARGE else {}
                self.send_file(data, linked)
            else:
                self.send_status(404)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def send_list(self, repository, kind):
        hub = self.server.hub
        files = hub.repositories[repository]
        if kind == "revision":
            siblings = []
            for path, data in files.items():
                entry = {"rfilename": path}
                if hub.has_sizes:
                    entry |= {"size": hub.sizes.get(path, len(data)), "blobId": blob_sha1(data)}
                    if len(data) >= LARGE:
                        entry["lfs"] = {"sha256": sha256(data), "size": hub.sizes.get(path, len(data)), "pointerSize": 134}
                siblings.append(entry)
            return self.send_body(json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode())
        if not hub.has_tree:
            return self.send_status(404)
        paths = sorted(files)
        start = int(parse_qs(urlsplit(self.path).query).get("cursor", ["0"])[0])
        entries = [{"type": "directory", "path": "sub", "oid": "0" * 40}] if start == 0 else []
        for path in paths[start : start + 2]:
            data = files[path]
            entry = {"type": "file", "path": path, "size": len(data), "oid": blob_sha1(data)}
            if len(data) >= LARGE:
                entry["lfs"] = {"oid": sha256(data), "size": len(data)}
            entries.append(entry)
        headers = {}
        if start + 2 < len(paths):
            headers["Link"] = f'<{hub.url}{urlsplit(self.path).path}?recursive=true&cursor={start + 2}>; rel="next"'
        return self.send_body(json.dumps(entries).encode(), headers)

    def send_body(self, body, headers=None, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.request_seen.served += len(body)

    def send_status(self, status, headers=None):
        self.send_body(b"", headers, status)

    def send_file(self, data, headers=None):
        headers = {"ETag": f'"{blob_sha1(data)}"', **(headers or {})}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.request_seen.range or "")
        condition = self.request_seen.if_range
        if not wanted or (condition and condition != headers["ETag"]):
            return self.send_body(data, headers)
        begin, end = int(wanted[1]), int(wanted[2]) + 1
        if begin >= len(data):
            return self.send_status(416, {"Content-Range": f"bytes */{len(data)}"})
        part = data[begin:end]
        headers["Content-Range"] = f"bytes {begin}-{begin + len(part) - 1}/{len(data)}"
        return self.send_body(part, headers, 206)

    def reset(self):
        """Ends the connection as a crash does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, address):
        """Clients that go away are part of the tests."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, address)


class Hub:
    def __init__(self, repositories=None):
        self.repositories = repositories or {}
        self.plain = {}  # path → bytes, of servers to which is redirected
        self.sizes = {}  # path → what the list says instead
        self.has_sizes = self.has_tree = True
        self.trouble = {}
        self.requests = []
        self.lock = threading.Lock()
        self.released = threading.Event()  # set when the hub is over: nothing waits longer
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.hub = self
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.released.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def of(self, path):
        """The requests for a file."""
        with self.lock:
            return [r for r in self.requests if r.path.endswith("/" + path) and "/resolve/" in r.path or r.path == path]


# Troubles: functions that make one.


def status(code, **headers):
    def act(handler):
        handler.send_status(code, {name.replace("_", "-"): value for name, value in headers.items()})
        return True

    return act


def redirect(location, code=302, linked=None):
    def act(handler):
        headers = {"Location": location}
        if linked:
            headers["X-Linked-Etag"] = f'"{linked}"'
        handler.send_status(code, headers)
        return True

    return act


def body(data, **headers):
    def act(handler):
        handler.send_body(data, {name.replace("_", "-"): value for name, value in headers.items()})
        return True

    return act


def cut(data, length, ranged=True):
    """The headers of a good answer, `length` bytes of it, and a reset."""

    def act(handler):
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.request_seen.range or "") if ranged else None
        begin, end = (int(wanted[1]), int(wanted[2]) + 1) if wanted else (0, len(data))
        handler.send_response(206 if wanted else 200)
        handler.send_header("ETag", f'"{blob_sha1(data)}"')
        handler.send_header("Content-Length", str(end - begin))
        if wanted:
            handler.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
        handler.end_headers()
        part = data[begin : min(end, begin + length)]
        handler.wfile.write(part)
        handler.wfile.flush()
        handler.request_seen.served += len(part)
        wait_until_sent(handler.connection)
        handler.reset()
        return True

    return act


def wait_until_sent(connection):
    """A reset throws away what has not been sent: until the other side has acknowledged all of it (SIOCOUTQ)."""
    import fcntl
    import termios

    while struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0" * 4))[0] > 0:
        time.sleep(0.001)


def hang(data, length, reached):
    """`length` bytes of the file, then nothing; `reached` is set."""

    def act(handler):
        handler.send_response(200)
        handler.send_header("ETag", f'"{blob_sha1(data)}"')
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:length])
        handler.wfile.flush()
        handler.request_seen.served += length
        reached.set()
        handler.server.hub.released.wait()
        handler.close_connection = True
        return True

    return act


def trickle(data):
    """A byte now and then, for ever."""

    def act(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        for i in range(len(data)):
            handler.wfile.write(data[i : i + 1])
            handler.wfile.flush()
            if handler.server.hub.released.wait(0.05):
                break
        handler.close_connection = True
        return True

    return act
