#!/usr/bin/env python3
# labels: http
# timeout: 300
"""What lies below the dialects of `millrace serve`: framing, live streams, cancellation, deadlines, request ids, CORS."""
import json
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
from http_replies import ENDLESS, error_of, first_text, openai_events, QUESTION, stops_cleanly, true  # noqa: E402
from http_server import PATIENCE_S, Server, equal, run_cases  # noqa: E402

server = None  # the one that all cases share


def raw(port, data):
    """Bytes in, bytes out: everything until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.sendall(data)
        out = b""
        while chunk := connection.recv(65536):
            out += chunk
        return out


def post_bytes(path, body, version="1.1", *headers):
    body = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/{version}", "Host: x", "Content-Type: application/json",
             f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def raw_http():
    """What curl, old proxies and broken clients send."""
    body = {"prompt": "import os", "max_tokens": 2, "temperature": 0, "stream": True}
    old = raw(server.port, post_bytes("/v1/completions", body, "1.0"))
    head, _, rest = old.partition(b"\r\n\r\n")
    true(b"chunked" not in head.lower(), "HTTP/1.0 knows no chunks")
    true(rest.startswith(b"data: {") and rest.endswith(b"data: [DONE]\n\n"), f"HTTP/1.0 stream: {rest!r}")
    new = raw(server.port, post_bytes("/v1/completions", body, "1.1", "Connection: close"))
    true(b"transfer-encoding: chunked" in new.lower() and new.endswith(b"0\r\n\r\n"), "HTTP/1.1 stream")
    waiting = post_bytes("/v1/completions", {**body, "stream": False}, "1.1", "Expect: 100-continue", "Connection: close")
    head, _, content = waiting.partition(b"\r\n\r\n")
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as connection:
        connection.sendall(head + b"\r\n\r\n")
        true(connection.recv(1000).startswith(b"HTTP/1.1 100 "), "Expect: 100-continue")
        connection.sendall(content)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        true(answer.startswith(b"HTTP/1.1 200 "), f"after 100: {answer[:100]!r}")
    chunked = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n" \
              b"Transfer-Encoding: chunked\r\n\r\n"
    content = json.dumps({**body, "stream": False}).encode()
    for at in range(0, len(content), 7):
        piece = content[at:at + 7]
        chunked += b"%x\r\n%s\r\n" % (len(piece), piece)
    true(raw(server.port, chunked + b"0\r\n\r\n").startswith(b"HTTP/1.1 200 "), "a body in chunks")
    broken = raw(server.port, b"NONSENSE\r\n\r\n")
    true(re.match(rb"HTTP/1\.[01] 400 ", broken) and b"invalid_request_error" in broken, f"no HTTP: {broken[:300]!r}")
    equal(server.get("/health").status, 200, "after all that")


def one_connection_many_requests():
    connection = server.connect()
    for _ in range(3):
        response = server.send(connection, "POST", "/v1/completions", {"prompt": "import os", "max_tokens": 1})
        equal(response.status, 200)
        response.read()
        response = server.send(connection, "POST", "/v1/completions", {"prompt": 1})
        equal(response.status, 400)
        response.read()
        response = server.send(connection, "POST", "/v1/completions",
                               {"prompt": "import os", "max_tokens": 1, "stream": True})
        true(response.read().endswith(b"data: [DONE]\n\n"), "a stream on a connection that was used")
    connection.close()


def idle():
    runtime = server.runtime()
    return runtime["running"] == 0 and runtime["queued"] == 0


def running():
    return server.runtime()["running"] == 1


def streams_are_live():
    """Text arrives while its request still runs."""
    for path, more in (("/v1/completions", {}), ("/v1/chat/completions", {"messages": QUESTION})):
        fields = {**ENDLESS, **more}
        if more:
            fields.pop("prompt")
        stream = server.stream(path, {"X-Request-Id": "live"}, **fields)
        first_text(stream)
        server.wait_until(running, "a request runs whose text has begun")
        first_text(stream)
        equal(server.request("DELETE", "/v1/requests/live").status, 200)
        equal(openai_events(stream)[-1]["choices"][0]["finish_reason"], "cancelled")


def curl_shows_live_events():
    """curl -N prints the first events while the request runs."""
    process = subprocess.Popen(["curl", "-sN", "--max-time", "120", server.url + "/v1/completions", "-H",
                                "Content-Type: application/json", "-H", "X-Request-Id: from-curl", "-d",
                                json.dumps({**ENDLESS, "stream": True})], stdout=subprocess.PIPE)
    try:
        equal(process.stdout.readline()[:7], b"data: {")
        equal(process.stdout.readline(), b"\n")
        equal(process.stdout.readline()[:7], b"data: {")
        server.wait_until(running, "the request runs whose text curl prints")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    server.wait_until(idle, "a request is gone whose curl was killed")


def delete_cancels():
    for prefix, path in (("", "/v1/completions"), ("cmpl-", "/v1/completions")):
        stream = server.stream(path, {"X-Request-Id": "to-be-cancelled"}, **ENDLESS)
        first_text(stream)
        reply = server.request("DELETE", f"/v1/requests/{prefix}to-be-cancelled")
        equal((reply.status, reply.json()), (200, {"cancelled": True}))
        events = openai_events(stream)
        equal(events[-1]["choices"][0]["finish_reason"], "cancelled")
        server.wait_until(idle, "a cancelled request is gone")
        error_of(server.request("DELETE", "/v1/requests/to-be-cancelled"), 404, "request_not_found")
    # A whole answer has the text so far.
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(
        server.post("/v1/completions", ENDLESS, {"X-Request-Id": "whole"})))
    thread.start()
    server.wait_until(running, "a request runs")
    server.wait_until(lambda: server.request("DELETE", "/v1/requests/whole").status == 200, "it is cancelled")
    thread.join()
    equal((outcome[0].status, outcome[0].json()["choices"][0]["finish_reason"]), (200, "cancelled"))


def leaving_cancels():
    name = 'vllm:request_success_total{finished_reason="cancelled",model_name="demo"}'
    before = server.metrics()[name]
    stream = server.stream("/v1/completions", **ENDLESS)
    first_text(stream)
    stream.close()
    server.wait_until(idle, "a request is gone whose client left its stream")
    connection = server.connect()
    connection.request("POST", "/v1/completions", json.dumps(ENDLESS), {"Content-Type": "application/json"})
    server.wait_until(running, "a request runs")
    connection.close()
    server.wait_until(idle, "a request is gone whose client does not wait for the answer")
    server.wait_until(lambda: server.metrics()[name] == before + 2, "both are counted")


def connections_are_let_go():
    """A connection whose client has closed it is closed here too."""
    for _ in range(20):
        connection = server.connect()
        equal(server.send(connection, "GET", "/health").read(), b'{"status":"ok"}')
        connection.close()
    name = 'millrace:http_connections{model_name="demo"}'
    for _ in range(50):
        count = server.metrics()[name]
        if count < 10:
            return
        time.sleep(0.05)
    raise AssertionError(f"{count} connections, of which all but a few are closed at the other side")


def time_is_up():
    limit = 7 * PATIENCE_S  # enough for some text, not for all of it
    body = server.ask("/v1/completions", **ENDLESS, timeout_ms=limit)
    equal(body["choices"][0]["finish_reason"], "timeout")
    true(body["choices"][0]["text"] and body["usage"]["completion_tokens"] < 1900, "no text so far")
    events = openai_events(server.stream("/v1/completions", **ENDLESS, timeout_ms=limit))
    equal(events[-1]["choices"][0]["finish_reason"], "timeout")


def request_ids():
    good = server.get("/health", {"X-Request-Id": "a.b-c_1"})
    equal(good.headers["x-request-id"], "a.b-c_1")
    for bad in ("has space", "x" * 200, "é", '"'):
        reply = server.get("/health", {"X-Request-Id": bad.encode("latin-1")})
        true(re.fullmatch("[0-9a-f]{32}", reply.headers["x-request-id"]), f"an id for {bad!r}")
    reply = server.post("/v1/completions", {"prompt": 1}, {"X-Request-Id": "wrong-1"})
    equal((reply.status, reply.headers["x-request-id"]), (400, "wrong-1"), "errors have it too")
    stream = server.stream("/v1/completions", {"X-Request-Id": "stream-1"}, prompt="import os", max_tokens=1)
    equal(stream.headers["x-request-id"], "stream-1")
    equal(openai_events(stream)[0]["id"], "cmpl-stream-1")


def cors():
    origin = {"Origin": "http://app.example"}
    asked = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    reply = server.request("OPTIONS", "/v1/chat/completions", headers=asked)
    equal((reply.status, reply.body), (204, b""))
    equal(reply.headers["access-control-allow-origin"], "http://app.example")
    for word in ("POST", "DELETE"):
        true(word in reply.headers["access-control-allow-methods"], word)
    for word in ("authorization", "content-type"):
        true(word in reply.headers["access-control-allow-headers"].lower(), word)
    reply = server.get("/v1/models", origin)
    equal((reply.headers["access-control-allow-origin"], reply.headers["vary"]), ("http://app.example", "Origin"))
    other = {"Origin": "http://evil.example"}
    true("access-control-allow-origin" not in server.get("/v1/models", other).headers, "another origin")
    reply = server.request("OPTIONS", "/v1/chat/completions", headers={**asked, **other})
    true("access-control-allow-origin" not in reply.headers, "another origin's preflight")
    equal(server.post("/api/generate", '{"prompt": "x"}', {**other, "Content-Type": "text/plain"}).status, 415,
          "a form of another page")


CASES = [raw_http, one_connection_many_requests, streams_are_live, curl_shows_live_events, delete_cancels,
         leaving_cancels, time_is_up, request_ids, cors, connections_are_let_go]


def ends_cleanly():
    stops_cleanly(server)


if __name__ == "__main__":
    chosen = [case for case in CASES if not sys.argv[1:] or case.__name__ in sys.argv[1:]]
    with Server("--model-names", "demo,other", "--cors-origins", "http://app.example") as server:
        sys.exit(run_cases([*chosen, ends_cleanly]))
