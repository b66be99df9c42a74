#!/usr/bin/env python3
# labels: http
# timeout: 240
# soak: SECONDS=60
"""64 clients at once, of all sorts: whoever reads to the end gets a whole answer, and nothing is left afterwards.

Most ask properly, some leave at a random point, some read slowly, some send rubbish. SECONDS: how long, after a warm-up;
memory must not grow from its end on. MODEL: which (default: demo-draft, whose tokens cost little).
"""
import asyncio
import json
import os
import random
import statistics
import sys
import time
from collections import Counter

sys.dont_write_bytecode = True
from http_harness import SANITIZE, SEED, SLOWER, AsyncClient, Events, Failures, Response, Server, request_bytes

SECONDS = float(os.environ.get("SECONDS") or 8)
MODEL = os.environ.get("MODEL") or "demo-draft"
SOAK = SECONDS >= 60
CLIENTS = 64
WARM_UP = 10000 if SOAK else 2000  # until the allocator's pieces lie as they will
HUNG_S = 60 * SLOWER
MEASURED = 10000      # requests that say something about memory
GROWTH = 1 << 20      # bytes for so many
PARTS = 6             # of the measurement
QUEUE_FULL_IN_STREAM = False  # one of several choices may find the queue full after the stream has begun

failures = Failures()
random.seed(SEED)
counts = Counter()
greedy = {}  # what greedy requests got: the same each time
slowest = 0.0

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
SHARED = [" ".join(f"value_{(i * k) % 97} = {i}\n" for i in range(length)) for k, length in ((3, 8), (5, 16), (7, 32))]
WORDS = "import def class return for while if else print open read write list dict set int str self None True".split()


def some_request():
    """Path, body."""
    prompt = " ".join(random.choices(WORDS, k=random.randint(1, 12)))
    if random.random() < 0.3:
        prompt = random.choice(SHARED) + prompt
    body = {"max_tokens": 1 + int(63 * random.random() ** 5), "stream": random.random() < 0.75,
            "n": random.choices((1, 2, 3), (8, 2, 1))[0]}
    if random.random() < 0.5:
        body.update(temperature=round(random.uniform(0.1, 1.5), 2), seed=random.randrange(1 << 32))
        if random.random() < 0.3:
            body.update(top_p=0.9, top_k=40)
    else:
        body["temperature"] = 0
        if random.random() < 0.3:
            prompt = random.choice(WORDS)
    if random.random() < 0.1:
        body["stop"] = ["\n\n", "self"]
    if random.random() < 0.1:
        body["ignore_eos"] = True
    if body["stream"] and random.random() < 0.2:
        body["stream_options"] = {"include_usage": True}
    if random.random() < 0.5:
        body["prompt"] = prompt
        if random.random() < 0.1:
            body["logprobs"] = 3
        return COMPLETION, body
    body["messages"] = [{"role": "user", "content": prompt}]
    if random.random() < 0.1:
        body.update(logprobs=True, top_logprobs=3)
    return CHAT, body


def rubbish():
    """Headers and body that must be refused."""
    path, body = some_request()
    text = json.dumps(body).encode()
    bad = random.randrange(8)
    if bad == 0:
        text = text[:random.randrange(len(text))]
    elif bad == 1:
        text = random.randbytes(random.randint(1, 3000))
    elif bad == 2:
        text = json.dumps(dict(body, temperature=random.choice(("hot", -1, 1e9, [])))).encode()
    elif bad == 3:
        text = json.dumps(dict(body, unknown_field=1)).encode()
    elif bad == 4:
        text = json.dumps(dict(body, n=random.choice((0, -1, "x", 1000)))).encode()
    elif bad == 5:
        text = b"[" * random.randint(1, 100000)
    elif bad == 6:
        text = json.dumps({"messages": [{"role": "robot", "content": "x"}]} if path == CHAT else {"prompt": {}}).encode()
    else:
        return request_bytes("POST", path, text, [("Content-Type", "text/plain")])
    return request_bytes("POST", path, text)


class Connection:
    """For some requests one after another; the last one says so."""

    def __init__(self, port, slow=False):
        self.client = AsyncClient(port, receive_buffer=2048 if slow else 0)
        self.left = 1 if slow else random.choice((1, 1, 2, 5))

    async def open(self):
        await self.client.__aenter__()

    def headers(self):
        self.left -= 1
        return [] if self.left > 0 else [("Connection", "close")]


def body_text(body):
    return [(choice.get("text") if "text" in choice else (choice["message"].get("reasoning_content") or "") +
             (choice["message"].get("content") or ""), choice["finish_reason"]) for choice in body["choices"]]


def check_answer(name, path, body, response):
    """Returns seconds to wait before the request is sent again, or 0 when it is done."""
    if response.broken or not response.status:
        failures.add(f"{name}: {response.broken or 'no answer'}: {json.dumps(body)[:300]}")
        return 0
    counts[response.status] += 1
    if response.status == 429:
        wait = response.header("retry-after")
        if not failures.check(wait.isdigit() and 1 <= int(wait) <= 60, f"{name}: 429 with Retry-After {wait!r}"):
            return 1
        return int(wait)
    if response.status != 200:
        failures.add(f"{name}: status {response.status}: {bytes(response.body[:300])!r} for {json.dumps(body)[:300]}")
        return 0
    if body["stream"]:
        events = Events()
        events.take(response.body)
        if QUEUE_FULL_IN_STREAM and body["n"] > 1 and events.error and events.error.get("code") == "queue_full":
            counts["queue full in a stream"] += 1
            return 1
        problem = events.ended_well(body["n"])
        if problem:
            failures.add(f"{name}: the stream {problem}: {json.dumps(body)[:300]}: ...{bytes(response.body[-300:])!r}")
            return 0
        texts = [(events.text.get(i, ""), events.finish[i]) for i in range(body["n"])]
        counts["streams"] += 1
    else:
        answer = response.json()
        texts = body_text(answer)
        failures.check(sorted(choice["index"] for choice in answer["choices"]) == list(range(body["n"])),
                       f"{name}: choices {[choice['index'] for choice in answer['choices']]}")
    failures.check(all(finish in ("stop", "length") for _, finish in texts), f"{name}: finish_reason {texts}")
    if body["temperature"] == 0:
        key = json.dumps([path, {field: value for field, value in body.items()
                                 if field not in ("stream", "stream_options", "n", "logprobs", "top_logprobs")}])
        counts["greedy compared"] += key in greedy
        want = greedy.setdefault(key, texts[0])
        failures.check(all(text == want for text in texts), f"{name}: not the same as before: {key}: {texts} {want}")
    return 0


async def read(client, response, slow):
    reads = 0
    while await client.receive(response, random.randint(100, 1000) if slow and reads < 300 else 65536):
        reads += 1
        if slow and reads < 300:
            await asyncio.sleep(random.uniform(0.001, 0.02))


async def leave(connection, path, body):
    """Closes at a random point: within the request, before the answer, within it."""
    client = connection.client
    data = request_bytes("POST", path, body)
    point = random.random()
    if point < 0.2:
        await client.send(data[:random.randrange(len(data))])
    else:
        await client.send(data)
        if point < 0.4:
            await asyncio.sleep(random.uniform(0, 0.1))
        elif point > 0.5:
            response, most = Response(), random.randint(1, 4000)
            while len(response.body) < most and await client.receive(response, random.randint(50, 500)):
                pass
    if random.random() < 0.3:  # with a reset
        client.socket.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")


async def worker(server, number, until):
    global slowest
    connection = None
    try:
        while not until():
            kind = random.choices(("ask", "leave", "slow", "rubbish"), (85, 5, 5, 5))[0]
            name = f"client {number}, {kind}"
            if connection and (connection.left <= 0 or kind in ("leave", "slow")):
                connection.client.close()
                connection = None
            begin = time.monotonic()
            try:
                async with asyncio.timeout(HUNG_S):
                    path, body = some_request()
                    wait = 1
                    while wait:
                        if not connection:
                            connection = Connection(server.port, kind == "slow")
                            await connection.open()
                        if kind == "leave":
                            await leave(connection, path, body)
                            connection.left = 0
                            break
                        if kind == "rubbish":
                            await connection.client.send(rubbish())
                        else:
                            await connection.client.send(request_bytes("POST", path, body, connection.headers()))
                        response = Response()
                        await read(connection.client, response, kind == "slow")
                        if kind == "rubbish":
                            failures.check(400 <= response.status < 500 and response.status != 429 and response.complete,
                                           f"{name}: status {response.status} {response.broken or ''}")
                            wait = 0
                        else:
                            wait = check_answer(name, path, body, response)
                        if response.closed or response.header("connection").lower() == "close" or connection.left <= 0:
                            connection.client.close()
                            connection = None
                        if wait:
                            counts["retried"] += 1
                            await asyncio.sleep(wait)
            except TimeoutError:
                failures.add(f"{name}: hung for {HUNG_S} s: {path} {json.dumps(body)[:300]}")
                connection.left = 0
            except OSError as error:  # of a server that goes on, only one that refuses a body may reset
                if kind not in ("leave", "rubbish"):
                    failures.add(f"{name}: {error!r}")
                connection.left = 0
            slowest = max(slowest, time.monotonic() - begin)
            counts["requests"] += 1
            counts[kind] += 1
    finally:
        if connection:
            connection.client.close()


def phase(server, least, seconds, most_seconds):
    """At least so many requests in at least so many seconds, but not much longer than `most_seconds`."""
    begin, first = time.monotonic(), counts["requests"]

    def until():
        taken = time.monotonic() - begin
        return failures.count >= 20 or not server.alive() or taken >= most_seconds or (
            taken >= seconds and counts["requests"] - first >= least)

    async def all_workers():
        await asyncio.gather(*(worker(server, i, until) for i in range(CLIENTS)))

    asyncio.run(all_workers())
    if server.alive():
        left = server.wait_idle()
        failures.check(not left, f"something is left: {left}")
    taken = time.monotonic() - begin
    return counts["requests"] - first, taken


def main():
    # The pool of keys and values is full, and so all of it is resident, before the measurement begins.
    with Server("--model", MODEL, "--max-connections", "15000", "--kv-memory", str(32 << 20)) as server:
        server.ask("POST", COMPLETION, {"prompt": "x", "max_tokens": 1})
        warm, warm_seconds = phase(server, WARM_UP, 0, 120 if SOAK else 12)
        resident, files = [server.resident_bytes()], server.open_files()
        measured, seconds = 0, 0.0
        for _ in range(PARTS):  # with a quiet moment after each
            more, taken = phase(server, MEASURED // PARTS + 1 if SOAK else 0, SECONDS / PARTS,
                                SECONDS / PARTS * (3 if SOAK else 1))
            measured, seconds = measured + more, seconds + taken
            resident.append(server.resident_bytes() if server.alive() else 0)
        if server.alive():
            # What leaks does so in each part; the heap's own steps are few and large.
            parts = [b - a for a, b in zip(resident, resident[1:])]
            grown = statistics.median(parts) * PARTS
            metrics = server.metrics()
            enough = not SANITIZE and warm >= WARM_UP and measured >= MEASURED
            failures.check(not enough or grown <= GROWTH * measured / MEASURED,
                           f"more and more memory is resident: {parts} bytes in {measured} requests")
            print(f"{measured} requests in {seconds:.1f} s after {warm} in {warm_seconds:.1f} s; "
                  f"{', '.join(f'{part >> 10:+}' for part in parts)} KiB resident "
                  f"({sum(parts) / max(measured, 1):+.0f} bytes each{'' if enough else ', not judged'}), "
                  f"{server.open_files()} files open ({files} before), "
                  f"{metrics['millrace:http_connections']:.0f} connections, the slowest took {slowest:.1f} s")
        print(dict(sorted(counts.items(), key=str)))
        server.stop(failures)
    for kind in ("ask", "leave", "slow", "rubbish", "streams"):
        failures.check(counts[kind] > 0, f"there was no {kind}")
    failures.finish(f"{counts['requests']} requests")


main()
