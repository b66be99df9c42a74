#!/usr/bin/env python3
# labels: http
# timeout: 300
"""Servers with options of their own: limits, keys, TLS, a pipeline as a string, wrong options; and how servers end."""
import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
from http_replies import ENDLESS, error_of, first_text, openai_events, QUESTION, true  # noqa: E402
from http_server import BUILD, PATIENCE_S, Server, environment, equal, run_cases  # noqa: E402

folder = Path()
DRAFT = ("--model", "demo-draft", "--model-names", "demo")


def queue_is_bounded():
    with Server("--max-batch", 1, "--max-queued", 1, "--quiet") as small:
        first = small.stream("/v1/completions", {"X-Request-Id": "first"}, **ENDLESS)
        first_text(first)
        small.wait_until(lambda: [small.runtime()[name] for name in ("running", "queued")] == [1, 0], "one runs")
        second = small.stream("/v1/completions", **{**ENDLESS, "max_tokens": 3})
        small.wait_until(lambda: small.runtime()["queued"] == 1, "a request waits")
        refused = small.post("/v1/completions", ENDLESS)
        error = error_of(refused, 429, "queue_full")
        equal(error["type"], "rate_limit_error")
        true(int(refused.headers["retry-after"]) >= 1, "Retry-After")
        third = small.stream("/v1/completions", **ENDLESS)
        equal(third.status, 429, "a stream that is refused")
        third.close()
        equal(small.request("DELETE", "/v1/requests/first").status, 200)
        equal(openai_events(first)[-1]["choices"][0]["finish_reason"], "cancelled")
        equal(openai_events(second)[-1]["choices"][0]["finish_reason"], "length", "who waited")


def silence_is_broken():
    """A stream that waits gets comments, or pings where the dialect has them, and ends like any other."""
    with Server("--max-batch", 1, "--quiet") as small:
        running = small.stream("/v1/completions", {"X-Request-Id": "running"}, **ENDLESS)
        first_text(running)
        chat = small.stream("/v1/chat/completions", messages=QUESTION, max_tokens=2)
        messages = small.stream("/v1/messages", messages=QUESTION, max_tokens=2)
        equal(json.loads(chat.next_data())["choices"][0]["delta"]["role"], "assistant", "a stream that waits has begun")
        equal(chat.response.readline(), b": keep-alive\n", "the first line in the silence")
        equal(chat.response.readline(), b"\n")
        events = iter(messages)
        equal(next(events)[0], "message_start")
        equal(next(events)[0], "ping")
        late = small.post("/v1/completions", {"prompt": "x", "max_tokens": 1, "timeout_ms": 100})
        error_of(late, 408, "timeout", "timeout_ms")
        equal(small.request("DELETE", "/v1/requests/running").status, 200)
        equal(openai_events(chat)[-1]["choices"][0]["finish_reason"], "length", "the stream that waited")
        equal([name for name, _ in events][-1], "message_stop")
        running.close()
        messages.close()


def keys_and_limits():
    key_file = folder / "keys"
    key_file.write_text("# comment\nthird\n")
    with Server("--api-key", "first,second", "--api-key-file", key_file, "--max-concurrent", 1,
                "--quiet") as guarded:
        bearer = lambda key: {"Authorization": f"Bearer {key}"}  # noqa: E731
        ask = {"prompt": "x", "max_tokens": 1}
        for headers in ({}, bearer("wrong"), bearer(""), {"X-Api-Key": "firs"}, {"Authorization": "Basic first"}):
            reply = guarded.post("/v1/completions", ask, headers)
            error_of(reply, 401, "invalid_api_key", prefix=f"{headers}: ")
            equal(reply.headers["www-authenticate"], "Bearer")
        for path in ("/v1/models", "/v1/runtime", "/metrics", "/api/tags"):
            equal(guarded.get(path).status, 401, path)
        for path in ("/health", "/ready", "/openapi.yaml"):
            equal(guarded.get(path).status, 200, path)
        equal(guarded.post("/v1/messages", {}).json()["type"], "error", "in Anthropic's shape")
        for headers in (bearer("first"), bearer("second"), bearer("third"), {"X-Api-Key": "second"},
                        {"authorization": "bearer first"}):
            equal(guarded.post("/v1/completions", ask, headers).status, 200, f"{headers}")
        # One caller's requests are nobody else's business, and one may have so many.
        stream = guarded.stream("/v1/completions", {**bearer("first"), "X-Request-Id": "mine"}, **ENDLESS)
        first_text(stream)
        equal(guarded.request("DELETE", "/v1/requests/mine", headers=bearer("second")).status, 404)
        reply = guarded.post("/v1/completions", ask, bearer("first"))
        error_of(reply, 429, "too_many_concurrent_requests")
        true("retry-after" in reply.headers, "Retry-After")
        equal(guarded.post("/v1/completions", ask, bearer("second")).status, 200, "another caller")
        equal(guarded.request("DELETE", "/v1/requests/mine", headers=bearer("first")).status, 200)
        equal(openai_events(stream)[-1]["choices"][0]["finish_reason"], "cancelled")
        reply = guarded.request("OPTIONS", "/v1/models", headers={"Origin": "http://app.example"})
        true("access-control-allow-origin" not in reply.headers, "no origin is allowed by default")


def rate_and_size_limits():
    with Server(*DRAFT, "--requests-per-minute", 3, "--max-body-size", 1000,
                MILLRACE_API_KEY="from-environment") as limited:
        key = {"Authorization": "Bearer from-environment"}
        equal(limited.post("/v1/completions", {"prompt": "x", "max_tokens": 1}).status, 401, "$MILLRACE_API_KEY")
        statuses = [limited.post("/v1/completions", {"prompt": "x", "max_tokens": 1}, key) for _ in range(4)]
        equal([reply.status for reply in statuses], [200, 200, 200, 429])
        error_of(statuses[-1], 429, "rate_limit_exceeded")
        true(1 <= int(statuses[-1].headers["retry-after"]) <= 60, "Retry-After")
        error_of(limited.post("/tokenize", {"content": "x" * 1000}, key), 413, "request_too_large")
        # A line for each request, without prompts.
        line = json.loads(limited.wait_for_line(lambda text: '"status":413' in text))
        for name in "time id client method path status bytes ms".split():
            true(name in line, f"the log has no {name}")
        done = json.loads(limited.wait_for_line(lambda text: '"status":200' in text and "completions" in text))
        for name in "prompt_tokens completion_tokens cached_tokens first_token_ms finish".split():
            true(name in done, f"the log has no {name}")
        true("from-environment" not in limited.output(), "the key is in the log")
        true('"body"' not in limited.output(), "bodies are in the log")


def any_model_name():
    with Server("--model", "demo-draft", "--model-names", "*", "--log-bodies") as free:
        body = free.ask("/v1/completions", model="gpt-4o", prompt="said-in-the-log", max_tokens=1)
        equal(body["model"], "gpt-4o")
        equal(free.get("/v1/models").json()["data"][0]["id"], "demo-draft")
        free.wait_for_line(lambda text: "said-in-the-log" in text)


def a_term_signal_drains():
    with Server("--quiet", "--drain-timeout", 3600) as draining:
        stream = draining.stream("/v1/completions", **{**ENDLESS, "max_tokens": 250})
        first_text(stream)
        equal(draining.get("/health").json(), {"status": "ok"})
        draining.signal()
        # On a connection that was there before.
        draining.wait_until(lambda: draining.get("/health").json() == {"status": "draining"}, "it drains")
        error_of(draining.get("/ready"), 503, "draining")
        events = openai_events(stream)
        equal(events[-1]["choices"][0]["finish_reason"], "length", "a request that ran comes to its end")
        equal(draining.wait(), 0, "exit code")


def a_second_signal_ends_at_once():
    with Server("--quiet") as stopped:
        stream = stopped.stream("/v1/completions", **ENDLESS)
        first_text(stream)
        stopped.signal()
        # Two signals that come at once may be one.
        stopped.wait_until(lambda: stopped.get("/health").json() == {"status": "draining"}, "it drains")
        stopped.signal()
        data = [data for _, data in stream]
        equal(data[-1], "[DONE]", "the last event")
        equal(json.loads(data[-2])["error"]["code"], "server_stopped")
        true(stopped.wait() not in (0, -signal.SIGSEGV, -signal.SIGABRT), "exit code")
        stream.close()


def draining_has_an_end():
    with Server("--quiet", "--drain-timeout", 0) as impatient:
        stream = impatient.stream("/v1/completions", **ENDLESS)
        first_text(stream)
        impatient.signal()
        data = [data for _, data in stream]
        equal(data[-1], "[DONE]", "the last event")
        equal(json.loads(data[-2])["error"]["code"], "server_stopped")
        impatient.wait()
        stream.close()


def failed_requests_do_not_fail_the_server():
    with Server(*DRAFT, "--quiet") as asked:
        equal(asked.post("/v1/completions", {"prompt": ""}).status, 400)
        equal(asked.post("/v1/completions", {"prompt": "a b " * 2000}).status, 400)
        equal(asked.stop(), 0, "exit code")


@contextlib.contextmanager
def without_leak_check():
    """LeakSanitizer's own tracer crashes in a process that has used GnuTLS."""
    before = os.environ.get("ASAN_OPTIONS")
    os.environ["ASAN_OPTIONS"] = "detect_leaks=0"
    try:
        yield
    finally:
        os.environ.pop("ASAN_OPTIONS")
        if before is not None:
            os.environ["ASAN_OPTIONS"] = before


def tls():
    with without_leak_check():
        speaks_tls()


def speaks_tls():
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key,
                    "-out", certificate], check=True, capture_output=True, timeout=PATIENCE_S)
    with Server("--tls-certificate", certificate, "--tls-key", key, "--quiet",
                certificate=str(certificate)) as secure:
        equal(secure.scheme, "https")
        equal(secure.get("/health").json(), {"status": "ok"})
        fields = {"prompt": "import os", "max_tokens": 40, "temperature": 0, "ignore_eos": True}
        text = secure.ask("/v1/completions", **fields)["choices"][0]["text"]
        events = openai_events(secure.stream("/v1/completions", **fields))
        equal("".join(event["choices"][0]["text"] for event in events), text)
        stream = secure.stream("/v1/completions", **ENDLESS)
        first_text(stream)
        stream.close()
        secure.wait_until(lambda: secure.runtime()["running"] == 0, "a request is gone whose client left, under TLS")
        plain = http.client.HTTPConnection("127.0.0.1", secure.port, timeout=PATIENCE_S)
        try:
            plain.request("GET", "/health")
            plain.getresponse()
            raise AssertionError("plain HTTP is answered")
        except (http.client.HTTPException, OSError):
            pass
        try:
            with socket.create_connection(("127.0.0.1", secure.port), timeout=PATIENCE_S) as connection:
                ssl.create_default_context().wrap_socket(connection, server_hostname="127.0.0.1")
            raise AssertionError("a certificate is taken that nobody vouches for")
        except ssl.SSLError:
            pass
        equal(secure.get("/health").json(), {"status": "ok"}, "after those")
        equal(secure.stop(), 0, "exit code")


def a_pipeline_string_serves():
    """What --print-pipeline prints is the server."""
    if os.environ.get("MILLRACE_SANITIZE"):
        return  # gst-launch-1.0 is not instrumented and cannot load what is
    printed = subprocess.run([BUILD / "bin" / "millrace", "serve", *DRAFT, "--print-pipeline", "--quiet"],
                             env=environment(), capture_output=True, text=True, timeout=120, check=True).stdout.strip()
    true(printed.startswith("llmhttpsrc ") and printed.endswith("! llmhttpsink"), printed)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pipeline = printed.replace("llmhttpsrc ", f"llmhttpsrc port={port} ", 1)
    launch = subprocess.Popen(f"exec gst-launch-1.0 -q -e {pipeline}", shell=True, env=environment(),
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        for _ in range(6000):
            try:
                reply = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
                reply.request("POST", "/v1/completions", '{"prompt": "import os", "max_tokens": 4}',
                              {"Content-Type": "application/json"})
                response = reply.getresponse()
                equal(response.status, 200)
                equal(json.loads(response.read())["usage"]["completion_tokens"], 4)
                reply.close()
                break
            except ConnectionRefusedError:
                true(launch.poll() is None, "gst-launch-1.0 has ended")
                time.sleep(0.02)
        launch.send_signal(signal.SIGINT)
        launch.wait(timeout=120)
    finally:
        launch.kill()
        launch.wait()
        launch.stderr.close()


def wrong_options():
    def run(*options):
        return subprocess.run([BUILD / "bin" / "millrace", "serve", *options], env=environment(), capture_output=True,
                              text=True, timeout=120, stdin=subprocess.DEVNULL)

    with Server(*DRAFT, "--quiet") as other:
        for options, code, words in (
            (("--nonsense",), 2, "nonsense"),
            (("text",), 2, "options only"),
            (("--address", "not-an-address"), 1, "IP address"),
            (("--model", "no-such-model"), 1, "no-such-model"),
            (("--tls-certificate", "/nonexistent.pem"), 1, "/nonexistent.pem"),
            (("--api-key-file", "/nonexistent"), 1, "/nonexistent"),
            (("--api-key-file", str(folder / "empty")), 1, "has no key"),
            (("--port", str(other.port)), 1, "cannot listen"),
        ):
            result = run("--model", "demo-draft", *options)
            equal(result.returncode, code, f"{options}: {result.stderr}")
            true(words in result.stderr, f"{options}: {result.stderr}")


CASES = [wrong_options, queue_is_bounded, silence_is_broken, keys_and_limits, rate_and_size_limits, any_model_name,
         a_term_signal_drains, a_second_signal_ends_at_once, draining_has_an_end,
         failed_requests_do_not_fail_the_server, tls, a_pipeline_string_serves]


if __name__ == "__main__":
    chosen = [case for case in CASES if not sys.argv[1:] or case.__name__ in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "empty").write_text("# nothing\n")
        sys.exit(run_cases(chosen))
