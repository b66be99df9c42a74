"""What the HTTP tests share: a server of their own, and clients that see every byte.

A folder, so that tests/CMakeLists.txt does not take it for a test. MILLRACE_BUILD is the build folder (default:
build/release); the server gets what env.sh and the test environment would give it.
"""
import asyncio
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("MILLRACE_BUILD") or SOURCE / "build" / "release").resolve()


def _sanitizer():
    if "MILLRACE_SANITIZE" in os.environ:
        return os.environ["MILLRACE_SANITIZE"]
    found = re.search(r"^MILLRACE_SANITIZE:\w+=(.*)$", (BUILD / "CMakeCache.txt").read_text(), re.M)
    return found[1] if found else ""


SANITIZE = _sanitizer()
SLOWER = 8 if SANITIZE else 1  # as tests/CMakeLists.txt has it
TOLERATED_EXIT = 0  # of a server after requests that failed in the pipeline; 0 when that is mended
SEED = int(os.environ.get("MILLRACE_SEED") or random.SystemRandom().randrange(1 << 31))


def environment(of_millrace=True):
    """The environment of a server. What Python preloads for the sake of other programs is not for ours."""
    data = SOURCE / "tests" / "data"
    out = dict(os.environ)
    out.setdefault("G_DEBUG", "fatal-criticals")
    out.update(GST_PLUGIN_PATH_1_0=str(BUILD / "plugins"), MILLRACE_MODEL_PATH=str(SOURCE / "models"),
               LD_LIBRARY_PATH=str(BUILD / "lib") + (":" + out["LD_LIBRARY_PATH"] if out.get("LD_LIBRARY_PATH") else ""))
    out.setdefault("GST_REGISTRY_1_0", str(BUILD / "http_tests.registry"))
    out.pop("MILLRACE_API_KEY", None)
    if SANITIZE:
        out.update(GST_REGISTRY_FORK="no", G_SLICE="always-malloc",
                   UBSAN_OPTIONS="print_stacktrace=1", LSAN_OPTIONS=f"suppressions={data / 'lsan.supp'}",
                   TSAN_OPTIONS=f"suppressions={data / 'tsan.supp'}:ignore_noninstrumented_modules=1:"
                                "halt_on_error=1:second_deadlock_stack=1")
    if SANITIZE and of_millrace:
        out.pop("LD_PRELOAD", None)
        # A suppression needs stacks that go through libraries without frame pointers.
        unwind = "fast_unwind_on_malloc=0:malloc_context_size=8:" if "malformed" in sys.argv[0] else ""
        out["ASAN_OPTIONS"] = f"{unwind}detect_leaks=1:allocator_may_return_null=1"
    elif "address" in SANITIZE:  # gst-launch-1.0 itself is not instrumented
        out["ASAN_OPTIONS"] = "detect_leaks=0:allocator_may_return_null=1"
        if "LD_PRELOAD" not in out:
            out["LD_PRELOAD"] = ":".join(subprocess.run(["g++", f"-print-file-name={name}.so"], capture_output=True,
                                                        text=True, timeout=20).stdout.strip()
                                         for name in ("libasan", "libstdc++"))
    return out


class Failures:
    """Collects what is wrong, says it as it comes, and ends the test."""

    def __init__(self, most=40):
        self.count, self.most = 0, most

    def add(self, text):
        self.count += 1
        if self.count <= self.most:
            print("FAILED", text, flush=True)

    def check(self, true, text):
        if not true:
            self.add(text)
        return true

    def finish(self, summary):
        print(f"{summary}; {self.count} failed (MILLRACE_SEED={SEED})")
        sys.exit(1 if self.count else 0)


# --- responses ----------------------------------------------------------------------------------


class Response:
    """One response, from its bytes as they come."""

    def __init__(self, to_head=False):
        self.to_head = to_head
        self.status, self.version, self.headers = 0, "", {}
        self.body = bytearray()
        self.complete = self.closed = False
        self.broken = None   # what is wrong with its form
        self.informational = []  # 100 Continue
        self.rest = b""      # what came after it
        self._buffer = b""
        self._left = None    # of a length, or of a chunk
        self._state = "head"

    def feed(self, data):
        self._buffer += data
        while self._step():
            pass

    def eof(self):
        self.closed = True
        if self._state == "until-close":
            self.complete = True
        elif not self.complete and not self.broken and (self.status or self._buffer):
            self.broken = f"the connection ended in the middle ({self._state})"

    def header(self, name):
        return self.headers.get(name.lower(), "")

    def json(self):
        return json.loads(bytes(self.body).decode())

    def _take_line(self):
        line, found, rest = self._buffer.partition(b"\r\n")
        if not found:
            return None
        self._buffer = rest
        return line

    def _finish(self):
        self.complete = True
        self.rest, self._buffer = self._buffer, b""
        return False

    def _step(self):
        if self.complete or self.broken:
            self.rest += self._buffer if self.complete else b""
            self._buffer = b"" if self.complete else self._buffer
            return False
        return getattr(self, "_in_" + self._state.replace("-", "_"))()

    def _in_head(self):
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return False
        self._buffer = rest
        lines = head.decode("latin-1").split("\r\n")
        parts = lines[0].split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
            self.broken = f"bad status line {lines[0]!r}"
            return False
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        status = int(parts[1])
        if 100 <= status < 200:
            self.informational.append(status)
            return True
        self.version, self.status, self.headers = parts[0], status, headers
        if self.to_head or status in (204, 304):
            return self._finish()
        if headers.get("transfer-encoding", "").lower() == "chunked":
            self._state = "chunk-size"
        elif "content-length" in headers:
            self._left = int(headers["content-length"])
            self._state = "length"
            if self._left == 0:
                return self._finish()
        else:
            self._state = "until-close"
        return True

    def _take_body(self):
        part = self._buffer[:self._left]
        self.body += part
        self._buffer = self._buffer[len(part):]
        self._left -= len(part)
        return self._left == 0

    def _in_length(self):
        return self._finish() if self._take_body() else False

    def _in_until_close(self):
        self.body += self._buffer
        self._buffer = b""
        return False

    def _in_chunk_size(self):
        line = self._take_line()
        if line is None:
            return False
        try:
            self._left = int(line.split(b";")[0], 16)
        except ValueError:
            self.broken = f"bad chunk size {line!r}"
            return False
        self._state = "chunk" if self._left else "trailer"
        return True

    def _in_chunk(self):
        if not self._take_body():
            return False
        self._state = "chunk-end"
        return True

    def _in_chunk_end(self):
        if len(self._buffer) < 2:
            return False
        if self._buffer[:2] != b"\r\n":
            self.broken = "a chunk does not end where its size says"
            return False
        self._buffer = self._buffer[2:]
        self._state = "chunk-size"
        return True

    def _in_trailer(self):
        line = self._take_line()
        if line is None:
            return False
        return self._finish() if line == b"" else True


class Events:
    """The events of a stream, checked as far as every stream must be like it."""

    def __init__(self):
        self.done = 0
        self.comments = 0
        self.error = None
        self.problem = None
        self.text, self.finish = {}, {}
        self.id = ""
        self._buffer = b""
        self._seen = 0

    def take(self, body):
        """`body`: all that has come so far."""
        self._buffer += bytes(body[self._seen:])
        self._seen = len(body)
        while b"\n\n" in self._buffer:
            event, _, self._buffer = self._buffer.partition(b"\n\n")
            self._event(event)

    def _event(self, event):
        if event.startswith(b":"):
            self.comments += 1
            return
        if not event.startswith(b"data: "):
            self.problem = f"neither data nor comment: {event[:100]!r}"
            return
        if self.done:
            self.problem = "something comes after [DONE]" if event != b"data: [DONE]" else "[DONE] comes twice"
        if event == b"data: [DONE]":
            self.done += 1
            return
        try:
            value = json.loads(event[6:].decode())
        except ValueError as error:
            self.problem = f"bad event: {error}: {event[:100]!r}"
            return
        if "error" in value:
            self.error = value["error"]
            return
        self.id = value["id"]
        for choice in value["choices"]:
            index = choice["index"]
            text = choice["text"] if "text" in choice else (choice["delta"].get("reasoning_content") or "") + (
                choice["delta"].get("content") or "")
            if index in self.finish and (text or choice["finish_reason"]):
                self.problem = f"choice {index} goes on after its finish_reason"
            self.text[index] = self.text.get(index, "") + text
            if choice["finish_reason"]:
                self.finish[index] = choice["finish_reason"]

    def ended_well(self, choices):
        """What is wrong with a stream that was read to its end, or None."""
        if self.problem:
            return self.problem
        if self._buffer:
            return f"ends in the middle of an event: {self._buffer[:100]!r}"
        if self.error:
            return f"ends with the error {self.error}"
        if self.done != 1:
            return f"has [DONE] {self.done} times"
        if sorted(self.finish) != list(range(choices)):
            return f"has finish_reason for {sorted(self.finish)}, not for {choices} choices"
        return None


# --- clients ------------------------------------------------------------------------------------


def request_bytes(method, path, body=None, headers=(), version="HTTP/1.1"):
    """`body`: bytes, or something that becomes JSON."""
    lines = [f"{method} {path} {version}", "Host: localhost"]
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    names = {name.lower() for name, _ in headers}
    if body is not None:
        if "content-type" not in names:
            lines.append("Content-Type: application/json")
        if not names & {"content-length", "transfer-encoding"}:
            lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


class Client:
    """A blocking connection."""

    def __init__(self, port, timeout=10, receive_buffer=0):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.timeout = timeout * SLOWER
        self.socket.settimeout(self.timeout)
        self.socket.connect(("127.0.0.1", port))
        self.rest = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def abort(self):
        """Closes with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def send(self, data):
        """False when the server has closed already."""
        try:
            self.socket.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def end_sending(self):
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def read(self, to_head=False, until=None, timeout=None):
        """Reads a response to its end, or until `until (response)` holds; `broken` when it does not come."""
        response = Response(to_head)
        limit = time.monotonic() + (timeout or self.timeout)
        response.feed(self.rest)
        self.rest = b""
        while not response.complete and not response.broken and not response.closed:
            if until and until(response):
                return response
            try:
                self.socket.settimeout(max(0.001, limit - time.monotonic()))
                data = self.socket.recv(65536)
            except TimeoutError:
                response.broken = "neither an answer nor an end in time"
                break
            except ConnectionResetError:
                data = b""
            if data:
                response.feed(data)
            else:
                response.eof()
        self.rest = response.rest
        return response

    def ended(self, timeout=5):
        """Whether the server ends the connection without another byte."""
        self.socket.settimeout(timeout * SLOWER)
        try:
            return not self.rest and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def ask(self, method, path, body=None, headers=(), timeout=None):
        self.send(request_bytes(method, path, body, headers))
        return self.read(to_head=method == "HEAD", timeout=timeout)


class AsyncClient:
    """A connection for many clients in one thread; it reads exactly when it is told to."""

    def __init__(self, port, receive_buffer=0):
        self.port = port
        self.socket = socket.socket()
        self.socket.setblocking(False)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.loop = asyncio.get_running_loop()

    async def __aenter__(self):
        await self.loop.sock_connect(self.socket, ("127.0.0.1", self.port))
        return self

    async def __aexit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    async def send(self, data):
        await self.loop.sock_sendall(self.socket, data)

    async def receive(self, response, size=65536):
        """Some bytes more; False at the end of the response or the connection."""
        if response.complete or response.broken or response.closed:
            return False
        try:
            data = await self.loop.sock_recv(self.socket, size)
        except ConnectionResetError:
            data = b""
        if data:
            response.feed(data)
        else:
            response.eof()
        return True

    async def ask(self, method, path, body=None, headers=()):
        await self.send(request_bytes(method, path, body, headers))
        response = Response(method == "HEAD")
        while await self.receive(response):
            pass
        return response


# --- servers ------------------------------------------------------------------------------------


class Server:
    """A server with a port of its own: `millrace serve OPTIONS`, or gst-launch-1.0 with a pipeline string.

    `source`: further properties of llmhttpsrc, `bin`: of llmbin; with either it is gst-launch-1.0.
    """

    PORT = re.compile(r"listening on http://127\.0\.0\.1:(\d+)/v1|bound-port = ([1-9]\d*)")

    def __init__(self, *options, source="", bin=""):
        self.launched = bool(source or bin)
        if self.launched:
            command = ["gst-launch-1.0", "-e", "-v", *(
                f"llmhttpsrc name=server port=0 {source} ! llmbin prompt::model-defaults=true prompt::max-tokens=0 "
                f"scheduler::when-full=reject {bin} ! queue max-size-buffers=0 max-size-bytes=0 max-size-time=0 ! "
                "llmhttpsink").split()]
        else:
            command = [str(BUILD / "bin" / "millrace"), "serve", "--port", "0", "--quiet", *options]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, env=environment(not self.launched),
                                        start_new_session=True)
        self.pid = self.process.pid
        self.port = 0
        self._lines = []
        self._listens = threading.Event()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        if not self._listens.wait(30 * SLOWER) or not self.port:
            self.process.kill()
            raise RuntimeError(f"the server does not start:\n{self.log()}")

    def _read_log(self):
        for line in self.process.stdout:
            self._lines.append(line.decode(errors="replace"))
            found = not self.port and self.PORT.search(self._lines[-1])
            if found:
                self.port = int(found[1] or found[2])
                self._listens.set()
        self._listens.set()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if kind:
            print(self.log()[-8000:])

    def log(self):
        return "".join(self._lines)

    def alive(self):
        return self.process.poll() is None

    def ask(self, method, path, body=None, headers=(), timeout=10):
        with Client(self.port, timeout) as client:
            return client.ask(method, path, body, headers)

    def metrics(self):
        """Sums over labels, by name; with the labels too."""
        out = {}
        for line in self.ask("GET", "/metrics").body.decode().splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                out[name] = float(value)
                short = name.partition("{")[0]
                out[short] = out.get(short, 0) + float(value) if short != name else float(value)
        return out

    def runtime(self):
        return self.ask("GET", "/v1/runtime").json()

    def busy(self):
        """What is still under way, or an empty string."""
        metrics, runtime = self.metrics(), self.runtime()
        names = ("millrace:http_active_requests", "vllm:num_requests_running", "vllm:num_requests_waiting")
        left = {name: metrics.get(name) for name in names if metrics.get(name) != 0}
        used = runtime.get("kv", {}).get("used")
        if used != 0:
            left["kv.used"] = used
        return str(left) if left else ""

    def wait_idle(self, timeout=15):
        """What is still under way after a while, or an empty string."""
        limit = time.monotonic() + timeout * SLOWER
        while True:
            left = self.busy()
            if not left or time.monotonic() > limit:
                return left
            time.sleep(0.05)

    def resident_bytes(self):
        found = re.search(r"^Rss:\s+(\d+) kB", Path(f"/proc/{self.pid}/smaps_rollup").read_text(), re.M)
        return int(found[1]) * 1024

    def open_files(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def files_left(self, most, timeout=15):
        """The files that are open, once they are at most `most` or their time is over: closed connections leave soon."""
        limit = time.monotonic() + timeout * SLOWER
        while (files := self.open_files()) > most and time.monotonic() < limit:
            time.sleep(0.05)
        return files

    def stop(self, failures, timeout=20):
        """SIGTERM: it must end by itself, with 0 and without a complaint. gst-launch-1.0 is asked with SIGINT."""
        if not self.alive():
            failures.add(f"the server is gone already, with {self.process.returncode}:\n{self.log()[-6000:]}")
            return
        self.process.send_signal(signal.SIGINT if self.launched else signal.SIGTERM)
        try:
            code = self.process.wait(timeout * SLOWER)
        except subprocess.TimeoutExpired:
            failures.add(f"the server does not end within {timeout * SLOWER} s:\n{self.log()[-3000:]}")
            self.process.kill()
            self.process.wait()
            return
        self._reader.join(10)
        log = self.log()
        if code not in (0, TOLERATED_EXIT):
            failures.add(f"the server's exit code is {code}:\n{log[-6000:]}")
        complaint = re.search(r"Sanitizer|runtime error:|CRITICAL|WARNING \*\*|terminate called", log)
        if complaint:
            failures.add(f"the server complains:\n{log[max(0, complaint.start() - 500):][:8000]}")


def completion_text(response):
    """All of a completion that a test compares: texts and ends."""
    return [(choice.get("text") or choice.get("message", {}).get("content"), choice["finish_reason"])
            for choice in response.json()["choices"]]
