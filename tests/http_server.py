#!/usr/bin/env python3
# labels: http
# timeout: 120
"""`millrace serve` for the tests of the HTTP endpoint: starts it on a free port, talks to it, stops it.

Run as a test it starts the server, waits until it is ready and stops it.
"""
import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("MILLRACE_BUILD", SOURCE / "build" / "release"))
PATIENCE_S = 60 * (8 if os.environ.get("MILLRACE_SANITIZE") else 1)  # before something counts as hung
LISTENING = re.compile(r"^listening on (https?)://([^/]*):(\d+)/v1$", re.M)


def environment(**more):
    """What build/…/env.sh sets, for a test that is run by hand."""
    variables = dict(os.environ)
    if "MILLRACE_BUILD" not in variables:
        variables["GST_PLUGIN_PATH_1_0"] = str(BUILD / "plugins")
        variables["GST_REGISTRY_1_0"] = str(BUILD / "registry.bin")
        variables["MILLRACE_MODEL_PATH"] = str(SOURCE / "models")
        variables["LD_LIBRARY_PATH"] = str(BUILD / "lib")
    variables.pop("MILLRACE_API_KEY", None)
    variables.update(more)
    return variables


class Reply:
    """A whole response."""

    def __init__(self, response):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def text(self):
        return self.body.decode()

    def json(self):
        return json.loads(self.body)


class Stream:
    """A response that is read as it comes. Iterating gives (event, data) pairs and checks the framing of SSE."""

    def __init__(self, connection, response):
        self.connection = connection
        self.response = response
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.comments = []  # with how many events came before each
        self.count = 0

    def lines(self):
        while line := self.response.readline():
            if not line.endswith(b"\n"):
                raise AssertionError(f"the stream ends within a line: {line!r}")
            yield line[:-1].decode()

    def __iter__(self):
        event, data = None, None
        for line in self.lines():
            if not line:
                if data is not None:
                    self.count += 1
                    yield event, data
                elif event is not None:
                    raise AssertionError(f"the event {event} has no data")
                event, data = None, None
            elif line.startswith(": ") or line == ":":
                self.comments.append((self.count, line))
            elif line.startswith("event: ") and event is None and data is None:
                event = line[7:]
            elif line.startswith("data: ") and data is None:
                data = line[6:]
            else:
                raise AssertionError(f"this line has no place in an event: {line!r}")
        if event is not None or data is not None:
            raise AssertionError("the stream ends within an event")

    def next_data(self):
        """The next event's data."""
        for _, data in self:
            return data
        raise AssertionError("the stream has ended")

    def close(self):
        self.response.close()
        self.connection.close()


class Server:
    """A running `millrace serve`."""

    def __init__(self, *options, command=None, certificate=None, **more):
        arguments = command or [str(BUILD / "bin" / "millrace"), "serve", "--port", "0", *map(str, options)]
        self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True, errors="replace", cwd=SOURCE,
                                        env=environment(**more))
        self.certificate = certificate
        self.log = []
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self._read_log, daemon=True)
        self.reader.start()
        self.port = 0
        self.mine = threading.local()

    def _read_log(self):
        for line in self.process.stderr:
            with self.changed:
                self.log.append(line.rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.log.append(None)  # the end
            self.changed.notify_all()

    def wait_for_line(self, fits, patience_s=PATIENCE_S):
        """The first line of standard error that fits."""
        deadline = time.monotonic() + patience_s
        with self.changed:
            while True:
                for line in self.log:
                    if line is not None and fits(line):
                        return line
                if self.log and self.log[-1] is None:
                    raise AssertionError(f"the server has ended: {self.output()}")
                if not self.changed.wait(timeout=max(0, deadline - time.monotonic())):
                    raise AssertionError(f"the line was not written: {self.output()}")

    def output(self):
        return "\n".join(line for line in self.log if line is not None)

    def __enter__(self):
        try:
            line = self.wait_for_line(LISTENING.match)
        except BaseException:
            self.process.kill()
            raise
        self.scheme, self.host, port = LISTENING.match(line).groups()
        self.port = int(port)
        return self

    def __exit__(self, *_):
        if getattr(self.mine, "connection", None):
            self.mine.connection.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stderr.close()

    @property
    def url(self):
        return f"{self.scheme}://{self.host}:{self.port}"

    def connect(self):
        if self.scheme == "https":
            context = ssl.create_default_context(cafile=self.certificate)
            return http.client.HTTPSConnection(self.host, self.port, timeout=PATIENCE_S, context=context)
        return http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE_S)

    def send(self, connection, method, path, body=None, headers=None):
        headers = dict(headers or {})
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        if body is not None and not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = "application/json"
        connection.request(method, path, body=body, headers=headers)
        return connection.getresponse()

    def request(self, method, path, body=None, headers=None):
        """On this thread's own connection, which stays open."""
        for attempt in range(2):
            if not getattr(self.mine, "connection", None):
                self.mine.connection = self.connect()
            try:
                reply = Reply(self.send(self.mine.connection, method, path, body, headers))
            except (http.client.HTTPException, OSError):
                self.mine.connection.close()
                self.mine.connection = None
                if attempt:
                    raise
                continue  # the server may have closed it in the meantime
            return reply

    def get(self, path, headers=None):
        return self.request("GET", path, headers=headers)

    def post(self, path, body, headers=None):
        return self.request("POST", path, body, headers)

    def ask(self, path, **body):
        """The JSON of an answer that must be 200."""
        reply = self.post(path, body)
        if reply.status != 200:
            raise AssertionError(f"POST {path} {json.dumps(body)[:300]}: {reply.status} {reply.text[:500]}")
        return reply.json()

    def stream(self, path, headers=None, **body):
        """An answer to be read as it comes."""
        connection = self.connect()
        return Stream(connection, self.send(connection, "POST", path, {**body, "stream": True}, headers))

    def runtime(self, headers=None):
        return self.get("/v1/runtime", headers).json()

    def metrics(self, headers=None):
        """{name and labels: value}"""
        lines = self.get("/metrics", headers).text.splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line and line[0] != "#"}

    def wait_until(self, fits, what):
        deadline = time.monotonic() + PATIENCE_S
        while not fits():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited in vain until {what}; the server says: {self.output()[-2000:]}")
            time.sleep(0.02)

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait(self):
        """Its exit code."""
        try:
            return self.process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server does not end: {self.output()[-2000:]}") from None

    def stop(self):
        self.signal()
        return self.wait()


def run_cases(cases):
    """Runs functions, all of them whatever fails; the exit code of the test."""
    failures = []
    for case in cases:
        begin = time.monotonic()
        try:
            case()
            outcome = "ok"
        except Exception as error:  # a test goes on
            trace = error.__traceback__
            while trace.tb_next and (trace.tb_frame.f_code.co_filename == __file__ or
                                     trace.tb_next.tb_frame.f_code.co_filename == trace.tb_frame.f_code.co_filename):
                trace = trace.tb_next
            place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
            failures.append(f"{case.__name__} ({place}): {type(error).__name__}: {error}")
            outcome = "FAILED"
        print(f"{outcome:6} {time.monotonic() - begin:6.2f} s  {case.__name__}", flush=True)
    print(f"{len(cases)} cases, {len(failures)} failed")
    for failure in failures:
        print("FAILED", failure)
    return 1 if failures else 0


def equal(got, wanted, what=""):
    if got != wanted:
        raise AssertionError(f"{what}: got {got!r}, not {wanted!r}" if what else f"got {got!r}, not {wanted!r}")


def keys(value, needed, more=""):
    """An object has these members and no others; `more` may be there."""
    needed, more = set(needed.split()), set(more.split())
    got = set(value)
    if not needed <= got <= needed | more:
        raise AssertionError(f"members are missing: {sorted(needed - got)}, or new: {sorted(got - needed - more)}")


if __name__ == "__main__":
    with Server("--model", "demo-draft", "--quiet") as started:
        equal(started.get("/ready").json(), {"status": "ready"})
        equal(started.stop(), 0, "exit code")
    print("starts, is ready, stops")
    sys.exit(0)
