#!/usr/bin/env python3
# labels: http
# timeout: 180
"""Clients that read slowly or not at all: their generation pauses, the others go on, and nothing is lost or kept.

One that resumes has the same text as one that reads at once; one that never does is let go after slow-client-timeout.
A stream whose generation waits for its turn is not silent.
"""
import sys
import time

sys.dont_write_bytecode = True
from http_harness import SANITIZE, SLOWER, Client, Events, Failures, Response, Server, completion_text, request_bytes

COMPLETION = "/v1/completions"
# The alternatives make some kB of each token: much more than the buffers of both sockets hold.
TOKENS = 1500
LONG = {"prompt": "def fibonacci(n):\n", "max_tokens": TOKENS, "ignore_eos": True, "temperature": 0, "logprobs": 20,
        "stream": True}
SHORT = {"prompt": "import os\n", "max_tokens": 40, "ignore_eos": True, "temperature": 0}
RECEIVE_BUFFER = 65536  # a smaller one makes TCP wait for many seconds before it goes on
CLIENT_BUFFER = 16384
SILENCE_S = 4 * SLOWER  # ceiling of what should be 1.5

failures = Failures()


def launch(slow_client_timeout, more=""):
    """gst-launch-1.0 is not instrumented and ThreadSanitizer cannot be preloaded: `millrace serve` must do there."""
    if "thread" in SANITIZE:
        return Server("--model", "demo-draft", "--slow-client-timeout", str(slow_client_timeout), *more.split())
    return Server(source=f"model=demo-draft client-buffer={CLIENT_BUFFER} slow-client-timeout={slow_client_timeout}",
                  bin=more.replace("--max-batch ", "scheduler::max-batch=") or "scheduler::max-batch=8")


def begin_stream(server, body=LONG, buffer=RECEIVE_BUFFER):
    client = Client(server.port, 120, buffer)
    client.send(request_bytes("POST", COMPLETION, body, [("Connection", "close")]))
    return client


def finish_stream(name, client, response=None, events=None):
    """Reads it to its end: its text and what ended it."""
    response, events = response or Response(), events or Events()
    begin = time.monotonic()
    while not (response.complete or response.closed or response.broken):
        client.socket.settimeout(max(0.01, begin + 60 * SLOWER - time.monotonic()))
        try:
            data = client.socket.recv(65536)
        except TimeoutError:
            failures.add(f"{name}: the stream hangs after {len(response.body)} bytes")
            return None
        except ConnectionResetError:
            data = b""
        if data:
            response.feed(data)
        else:
            response.eof()
    client.close()
    events.take(response.body)
    problem = response.broken or events.ended_well(1)
    if not failures.check(response.status == 200 and not problem, f"{name}: status {response.status}, the stream {problem}"):
        return None
    return events.text[0], events.finish[0]


def generated(server):
    """How far the scheduler has come: steps, and blocks that running requests hold."""
    return server.metrics()["millrace:steps_total"], server.runtime()["kv"]["used"]


def wait_paused(server, name):
    """Until the only request makes no more steps though it has not ended; what it holds, or 0."""
    limit, before, since = time.monotonic() + 60 * SLOWER, None, time.monotonic()
    while time.monotonic() < limit:
        now = generated(server)
        if now != before:
            before, since = now, time.monotonic()
        elif now[1] > 0 and time.monotonic() - since > 0.5 * SLOWER:
            return now[1]
        elif now[1] == 0 and time.monotonic() - since > 2 * SLOWER:
            break
        time.sleep(0.02)
    failures.add(f"{name}: its generation does not pause: {before}")
    return 0


def others_go_on(server, name, want):
    """Streams of others, whole and in pieces, while somebody holds its own."""
    begin = time.monotonic()
    clients = [begin_stream(server, dict(SHORT, stream=True), 0) for _ in range(4)]
    whole = server.ask("POST", COMPLETION, SHORT, timeout=60)
    failures.check(whole.status == 200 and completion_text(whole)[0] == want,
                   f"{name}: another's answer is {bytes(whole.body[:300])!r}, not {want}")
    for client in clients:
        got = finish_stream(f"{name}: another", client)
        failures.check(got == want, f"{name}: another's text is {got}, not {want}")
    return time.monotonic() - begin


def pauses_and_resumes():
    with launch(60000 * SLOWER) as server:
        want_short = finish_stream("short", begin_stream(server, dict(SHORT, stream=True), 0))
        want = finish_stream("fast client", begin_stream(server, buffer=0))
        left = server.wait_idle()
        failures.check(not left, f"fast client: something is left: {left}")
        for name, first in (("a client that reads nothing", 0), ("a client that stops in the middle", 100000)):
            client, response = begin_stream(server), Response()
            while len(response.body) < first:
                response.feed(client.socket.recv(4096))
            held = wait_paused(server, name)
            took = others_go_on(server, name, want_short)
            now = server.runtime()["kv"]["used"]
            failures.check(0 < now < (TOKENS + 20) // 16, f"{name}: it holds {now} blocks: not a part of its text")
            # Slowly for a while: it goes on and pauses again, more than once.
            for _ in range(200):
                response.feed(client.socket.recv(1000))
                time.sleep(0.002)
            got = finish_stream(name, client, response)
            failures.check(got == want, f"{name}: its text differs from a fast client's: {str(got)[-300:]} {str(want)[-300:]}")
            left = server.wait_idle()
            failures.check(not left, f"{name}: something is left: {left}")
            print(f"{name}: paused with {held} blocks, the others took {took:.2f} s; {len(response.body)} bytes in the end")
        # Two that pause at a time and leave: as if they had never been.
        clients = [begin_stream(server), begin_stream(server)]
        wait_paused(server, "two that leave")
        for client in clients:
            client.close()
        left = server.wait_idle()
        failures.check(not left, f"two that leave while they are paused: something is left: {left}")
        # One is cancelled by somebody else while it pauses: it still gets the end of its stream.
        client = Client(server.port, 120, RECEIVE_BUFFER)
        client.send(request_bytes("POST", COMPLETION, LONG, [("Connection", "close"), ("X-Request-Id", "paused")]))
        wait_paused(server, "one that is cancelled")
        answer = server.ask("DELETE", "/v1/requests/paused")
        failures.check(answer.status == 200, f"one that is cancelled: {answer.status} {bytes(answer.body)}")
        got = finish_stream("one that is cancelled while it pauses", client)
        failures.check(got and want and want[0].startswith(got[0]) and got[1] == "cancelled",
                       f"one that is cancelled while it pauses: {got}")
        left = server.wait_idle()
        failures.check(not left, f"one that is cancelled: something is left: {left}")
        failures.check(server.metrics()["millrace:slow_clients_total"] == 0, "somebody was let go who read in time")
        server.stop(failures)


def is_let_go():
    timeout_s = 1.0 * SLOWER
    with launch(int(timeout_s * 1000)) as server:
        want_short = finish_stream("short", begin_stream(server, dict(SHORT, stream=True), 0))
        begin = time.monotonic()
        client = begin_stream(server)
        steady = begin_stream(server, dict(LONG, max_tokens=300), 0)
        steady_response = Response()
        others_go_on(server, "beside one that never reads", want_short)
        while server.metrics()["millrace:slow_clients_total"] == 0 and time.monotonic() - begin < 30 * SLOWER:
            # Another that reads just enough to be alive.
            steady_response.feed(steady.socket.recv(3000))
            time.sleep(0.01)
        took = time.monotonic() - begin
        failures.check(server.metrics()["millrace:slow_clients_total"] == 1, f"not let go after {took:.1f} s")
        failures.check(took >= 0.9 * timeout_s, f"let go after {took:.2f} s, before its time")
        failures.check(finish_stream("beside one that is let go", steady, steady_response), "the other ended with it")
        left = server.wait_idle(5)
        failures.check(not left, f"let go: something is left: {left}")
        # What it had not taken is lost, and it can see that. The kernel may take long to send what it still has, and the
        # end behind it; the server has nothing to do with that any more.
        limit = time.monotonic() + 5 * SLOWER
        while (connections := server.metrics()["millrace:http_connections"]) > 1 and time.monotonic() < limit:
            time.sleep(0.02)
        failures.check(connections <= 1, f"let go: {connections:.0f} connections are open")
        response = client.read(timeout=1)
        events = Events()
        events.take(response.body)
        failures.check(not response.complete and events.done == 0,
                       f"let go: its answer looks whole: {bytes(response.body[-200:])!r}")
        client.close()
        failures.check(server.metrics()["millrace:slow_clients_total"] == 1, "counted more than once")
        cancelled = server.metrics()['vllm:request_success_total{finished_reason="cancelled",model_name="demo-draft"}']
        failures.check(cancelled == 1, f"{cancelled} generations were cancelled, not 1")
        print(f"let go after {took:.2f} s")
        # Reading now and then is enough, if it is so much that the kernels tell each other.
        client, response = begin_stream(server, dict(LONG, max_tokens=1000)), Response()
        for _ in range(8):
            time.sleep(0.4 * timeout_s)
            for _ in range(24):
                response.feed(client.socket.recv(4096))
        failures.check(finish_stream("one that reads now and then", client, response) is not None,
                       "one that reads now and then does not get its text")
        failures.check(server.metrics()["millrace:slow_clients_total"] == 1, "one that reads now and then is let go")
        server.stop(failures)


def is_not_silent():
    """While it waits for its turn a stream gets comments, and they do it no harm."""
    with Server("--max-batch", "1", "--max-connections", "15000") as server:  # the larger model: it takes its time
        want_short = finish_stream("short", begin_stream(server, dict(SHORT, stream=True), 0))
        # One that a client holds would make way; all of this one fits into the sockets' buffers.
        running = begin_stream(server, {"prompt": "import", "max_tokens": 1900, "ignore_eos": True, "temperature": 1.5,
                                        "stream": True}, 0)
        first = running.read(until=lambda r: len(r.body) > 1000)
        waiting = begin_stream(server, dict(SHORT, stream=True), 0)
        response, gaps, last = Response(), [], time.monotonic()
        end = last + 5 * SLOWER  # three comments come before the running one ends, however fast it is
        while time.monotonic() < end:
            waiting.socket.settimeout(SILENCE_S + 1)
            try:
                data = waiting.socket.recv(4096)
            except TimeoutError:
                data = b""
            gaps.append(time.monotonic() - last)
            last = time.monotonic()
            if not data:
                failures.add(f"a stream that waits: the connection is silent or ends after {gaps[-1]:.2f} s")
                break
            response.feed(data)
            events = Events()
            events.take(response.body)
            if response.complete or events.comments == 3:
                break
        events = Events()
        events.take(response.body)
        runtime = server.runtime()
        queued = (runtime["running"], runtime["queued"])
        if failures.check(queued == (1, 1) and not events.text.get(0), f"a stream that waits: running, queued {queued}, {events.text}"):
            failures.check(events.comments >= 2, f"a stream that waits: {events.comments} comments")
        failures.check(max(gaps) <= SILENCE_S, f"a stream that waits is silent for {max(gaps):.2f} s")
        print(f"a stream that waits: {events.comments} comments, at most {max(gaps):.2f} s without a byte")
        running.close()
        got = finish_stream("one that has waited", waiting, response, events)
        failures.check(got == want_short, f"one that has waited gets {got}, not {want_short}")
        failures.check(first.status == 200, f"the running one: status {first.status}")
        left = server.wait_idle()
        failures.check(not left, f"keep-alive: something is left: {left}")
        server.stop(failures)


def main():
    for part in (is_not_silent, pauses_and_resumes, is_let_go):
        begin = time.monotonic()
        part()
        print(f"{part.__name__}: {time.monotonic() - begin:.1f} s", flush=True)
    failures.finish("3 parts")


main()
