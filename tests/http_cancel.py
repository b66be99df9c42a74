#!/usr/bin/env python3
# labels: http
# timeout: 240
# soak: ROUNDS=10000
"""Clients that leave while their request waits, is computed or is answered, and DELETE /v1/requests/ID: all of it ends.

ROUNDS cancellations at random moments (default 1000); whenever all is quiet no request and no KV block is left, and
greedy answers are what they were. Says how long it takes from closing a socket until the KV is free.
"""
import asyncio
import os
import random
import statistics
import sys
import time
from collections import Counter

sys.dont_write_bytecode = True
from http_harness import SEED, SLOWER, AsyncClient, Client, Events, Failures, Response, Server, request_bytes

ROUNDS = int(os.environ.get("ROUNDS") or 1000)
MODEL = os.environ.get("MODEL") or "demo-draft"
WORKERS, MAX_BATCH = 16, 4
HUNG_S = 60 * SLOWER
FREED_S = 5 * SLOWER  # ceiling from close to free KV
SAMPLES = 15          # of that, in each state

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
STATES = ("queued", "prefill", "decode", "whole", "delete")

failures = Failures()
random.seed(SEED)
counts = Counter()


def long_prompt():
    """Nothing of it is in the prefix cache."""
    return [random.randrange(300, 4000) for _ in range(random.randint(1400, 1600))]


def some_request(state):
    long = state == "prefill" or random.random() < 0.1
    body = {"max_tokens": random.randint(100, 400), "ignore_eos": True, "stream": state != "whole"}
    if state == "delete":
        body["stream"] = random.random() < 0.7
    if random.random() < 0.2:
        body["n"] = 2
    if random.random() < 0.5:
        body.update(temperature=1, seed=random.randrange(1 << 30))
    if not long and random.random() < 0.3:
        return CHAT, dict(body, messages=[{"role": "user", "content": f"print {random.random()}"}])
    return COMPLETION, dict(body, prompt=long_prompt() if long else f"def f{random.randrange(1 << 30)}(x):\n")


def has_text(response, events):
    events.take(response.body)
    return any(events.text.values())


async def read_until(client, response, holds):
    while not holds() and await client.receive(response):
        pass


async def leave(name, client, response):
    """In one of the ways in which a client can."""
    way = random.random()
    if way < 0.2:
        client.socket.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER: a reset
    elif way < 0.3:
        client.socket.shutdown(1)
        counts["half-closed"] += 1
        while await client.receive(response):
            pass
        failures.check(response.closed or response.complete, f"{name}: after the end of sending neither answer nor end")
    client.close()


async def delete(name, port, client, response, body, id):
    """Deletes it from another connection; its answer must come to an end."""
    whole = asyncio.ensure_future(read_until(client, response, lambda: False))
    await asyncio.sleep(random.choice((0, random.uniform(0, 0.2))))
    status, prefix = 0, random.choice(("", "", "cmpl-", "chatcmpl-"))
    while status != 200 and not whole.done():
        async with AsyncClient(port) as other:
            answer = await other.ask("DELETE", f"/v1/requests/{prefix}{id}", None, [("Connection", "close")])
            status = answer.status
            if not failures.check(status in (200, 404), f"{name}: DELETE answers {status} {bytes(answer.body[:200])}"):
                break
            counts[f"DELETE {status}"] += 1
        if status == 404:  # it has not arrived yet, or has ended
            await asyncio.sleep(0.01)
    await whole
    if not failures.check(response.status == 200 and response.complete,
                          f"{name}: status {response.status}, {response.broken}: {bytes(response.body[:300])!r}"):
        return
    n = body.get("n", 1)
    if body["stream"]:
        events = Events()
        events.take(response.body)
        problem = events.ended_well(n)
        failures.check(not problem, f"{name}: the stream {problem}")
        finish = list(events.finish.values())
    else:
        finish = [choice["finish_reason"] for choice in response.json()["choices"]]
    counts.update(finish)
    failures.check(len(finish) == n and all(reason in ("cancelled", "length") for reason in finish), f"{name}: {finish}")


async def one_round(port, number, state):
    name = f"round {number}, {state}"
    path, body = some_request(state)
    id = f"round-{number}"
    response, events = Response(), Events()
    async with AsyncClient(port) as client:
        await client.send(request_bytes("POST", path, body, [("X-Request-Id", id), ("Connection", "close")]))
        if state == "delete":
            return await delete(name, port, client, response, body, id)
        if state == "queued":
            if random.random() < 0.8:
                await read_until(client, response, lambda: response.status)
        elif state == "prefill":
            await read_until(client, response, lambda: response.status)
            await asyncio.sleep(random.uniform(0, 0.15))
        elif state == "whole":
            await asyncio.sleep(random.uniform(0, 0.2))
        else:
            pieces = random.randint(1, 20)
            await read_until(client, response, lambda: has_text(response, events) and response.body.count(b"data: ") > pieces)
            counts["with text"] += 1
        if response.status not in (0, 200):
            failures.add(f"{name}: status {response.status}: {bytes(response.body[:300])!r}")
        if response.complete:
            counts["ended before"] += 1
        await leave(name, client, response)


async def rounds(server, first, count):
    numbers = iter(range(first, first + count))
    most_waiting = 0
    done = False

    async def worker():
        for number in numbers:
            if failures.count > 20 or not server.alive():
                return
            state = random.choice(STATES)
            counts[state] += 1
            try:
                async with asyncio.timeout(HUNG_S):
                    await one_round(server.port, number, state)
            except TimeoutError:
                failures.add(f"round {number}, {state}: hung for {HUNG_S} s")
            except OSError as error:
                failures.add(f"round {number}, {state}: {error!r}")

    async def watch():
        nonlocal most_waiting
        while not done:
            async with AsyncClient(server.port) as client:
                runtime = (await client.ask("GET", "/v1/runtime", None, [("Connection", "close")])).json()
            most_waiting = max(most_waiting, runtime["queued"])
            failures.check(runtime["running"] <= MAX_BATCH, f"{runtime['running']} requests run")
            await asyncio.sleep(0.1)

    watcher = asyncio.ensure_future(watch())
    await asyncio.gather(*(worker() for _ in range(WORKERS)))
    done = True
    await watcher
    return most_waiting


def greedy(server):
    """What must not change: short, and with a long prompt whose prefix may be cached."""
    answers = []
    fixed = [300 + i * 37 % 3000 for i in range(700)]
    for path, body in ((COMPLETION, {"prompt": "def fibonacci(n):\n"}), (COMPLETION, {"prompt": fixed}),
                       (CHAT, {"messages": [{"role": "user", "content": "Write a loop."}]}), (COMPLETION, {"prompt": fixed[:333]})):
        response = server.ask("POST", path, dict(body, max_tokens=48, temperature=0), timeout=60)
        if not failures.check(response.status == 200, f"greedy: {response.status} {bytes(response.body[:300])!r}"):
            continue
        choice = response.json()["choices"][0]
        answers.append(choice.get("text") or choice.get("message"))
    return answers


def quiet(server, want, when):
    left = server.wait_idle(30)
    failures.check(not left, f"{when}: something is left: {left}")
    got = greedy(server)
    failures.check(got == want, f"{when}: greedy answers differ: {got} {want}")
    left = server.wait_idle(30)
    failures.check(not left, f"{when}: greedy answers leave something: {left}")


def time_to_free(server, state):
    """Seconds from closing the socket of the only request until its KV is free."""
    with Client(server.port) as watcher:
        client = Client(server.port, 30)
        body = {"prompt": long_prompt(), "max_tokens": 400, "ignore_eos": True, "stream": True}
        client.send(request_bytes("POST", COMPLETION, body))
        events = Events()
        client.read(until=lambda r: has_text(r, events) if state == "decode" else r.status)
        used, limit = 0, time.monotonic() + 2
        while not used and time.monotonic() < limit:
            used = watcher.ask("GET", "/v1/runtime").json()["kv"]["used"]
        if not used:
            return None  # on a busy machine it may have ended before anybody looked
        begin = time.monotonic()
        client.close()
        while watcher.ask("GET", "/v1/runtime").json()["kv"]["used"] > 0:
            if time.monotonic() - begin > FREED_S:
                failures.add(f"time to free, {state}: KV is in use {FREED_S} s after its client has left")
                return None
        return time.monotonic() - begin


def main():
    with Server("--model", MODEL, "--max-batch", str(MAX_BATCH), "--max-connections", "15000") as server:
        want = greedy(server)
        begin = time.monotonic()
        first, waiting = 0, 0
        while first < ROUNDS and failures.count <= 20 and server.alive():
            count = min(ROUNDS - first, max(250, ROUNDS // 10))
            waiting = max(waiting, asyncio.run(rounds(server, first, count)))
            first += count
            if server.alive():
                quiet(server, want, f"after {first} rounds")
        print(f"{first} rounds in {time.monotonic() - begin:.1f} s, at most {waiting} waited: {dict(sorted(counts.items()))}")
        if server.alive():
            for state in ("prefill", "decode"):
                times = [seconds for seconds in (time_to_free(server, state) for _ in range(SAMPLES)) if seconds is not None]
                server.wait_idle()
                failures.check(len(times) * 2 >= SAMPLES, f"only {len(times)} of {SAMPLES} requests in {state} were seen to use KV")
                if times:
                    print(f"from close to free KV in {state}: median {statistics.median(times) * 1e3:.1f} ms, "
                          f"at most {max(times) * 1e3:.1f} ms")
            cancelled = server.metrics()['vllm:request_success_total{finished_reason="cancelled",model_name="%s"}' % MODEL]
            failures.check(cancelled > first / 3, f"only {cancelled} generations were cancelled")
            print(f"{cancelled:.0f} generations cancelled, {server.open_files()} files open")
            quiet(server, want, "at the end")
        failures.check(waiting > 0 and counts["cancelled"] > 0 and counts["with text"] > 0, "not all states were met")
        server.stop(failures)
    failures.finish(f"{ROUNDS} rounds")


main()
