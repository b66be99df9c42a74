#!/usr/bin/env python3
# labels: http
# timeout: 240
"""Whatever a client sends, it gets the status that the table says and a body {"error": {...}}, and the server goes on.

Raw sockets, so that nothing is corrected on the way. Where libsoup answers by itself a 4xx, a 5xx or a clean end of the
connection will do. After each case /health must answer; at the end no generation, file descriptor or memory is left.
"""
import json
import random
import re
import sys
import time

sys.dont_write_bytecode = True
from http_harness import SANITIZE, SEED, SLOWER, Client, Events, Failures, Response, Server, request_bytes

CHAT, COMPLETION, EMBEDDING = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
RESPONSES, MESSAGES, TOKENIZE, DETOKENIZE = "/v1/responses", "/v1/messages", "/tokenize", "/detokenize"
TEMPLATE, OLLAMA_CHAT, OLLAMA = "/apply-template", "/api/chat", "/api/generate"
POSTS = (CHAT, COMPLETION, EMBEDDING, RESPONSES, MESSAGES, TOKENIZE, DETOKENIZE, TEMPLATE, OLLAMA_CHAT, OLLAMA)
MAX_BODY = 1 << 20

failures = Failures()
random.seed(SEED)
count = 0


def check_error(name, response, route=""):
    """The body of an error is {"error": {"message", "type", "param", "code"}} with the right types."""
    try:
        body = response.json()
    except ValueError as error:
        return failures.add(f"{name}: the body is no JSON ({error}): {bytes(response.body[:200])!r}")
    failures.check(response.header("content-type").startswith("application/json"),
                   f"{name}: content type {response.header('content-type')!r}")
    anthropic = route == MESSAGES and body.get("type") == "error"
    error = body.get("error")
    right = isinstance(error, dict) and set(error) == {"message", "type", "param", "code"} and (
        set(body) == ({"type", "error"} if anthropic else {"error"})) and (
        isinstance(error["message"], str) and error["message"] and isinstance(error["type"], str) and error["type"]
        and isinstance(error["param"], (str, type(None))) and isinstance(error["code"], (str, type(None))))
    failures.check(right, f"{name}: not an error as it should be: {bytes(response.body[:300])!r}")


def check_health(server, name):
    try:
        response = server.ask("GET", "/health")
        failures.check(response.status == 200, f"after {name}: /health answers {response.status}")
    except OSError as error:
        failures.add(f"after {name}: /health does not answer: {error!r}")
        if not server.alive():
            server.stop(failures)
            failures.finish(f"{count} cases, the last was {name}")


def expect(server, name, response, statuses, route="", param=None):
    global count
    count += 1
    statuses = statuses if isinstance(statuses, tuple) else (statuses,)
    if response.broken:
        failures.add(f"{name}: {response.broken}")
    elif response.status not in statuses:
        failures.add(f"{name}: status {response.status}, not {' or '.join(map(str, statuses))}: "
                     f"{bytes(response.body[:300])!r}")
    elif response.status >= 400 and not response.to_head:
        check_error(name, response, route)
        if param is not None and response.status == 400:
            got = response.json().get("error", {}).get("param")
            failures.check(got == param, f"{name}: param {got!r}, not {param!r}")
    check_health(server, name)


# --- bodies -------------------------------------------------------------------------------------

GOOD = {
    CHAT: {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2},
    COMPLETION: {"prompt": "import", "max_tokens": 2},
    EMBEDDING: {"input": "import"},
    RESPONSES: {"input": "hi", "max_output_tokens": 2},
    MESSAGES: {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2},
    TOKENIZE: {"content": "import os"},
    DETOKENIZE: {"tokens": [1, 2]},
    TEMPLATE: {"messages": [{"role": "user", "content": "hi"}]},
    OLLAMA_CHAT: {"messages": [{"role": "user", "content": "hi"}], "stream": False, "options": {"num_predict": 2}},
    OLLAMA: {"prompt": "hi", "stream": False, "options": {"num_predict": 2}},
}


def members(text):
    """The chat request with these members more, as they are written."""
    return json.dumps(GOOD[CHAT])[:-1].encode() + b"," + (text if isinstance(text, bytes) else text.encode()) + b"}"


def changed(path, **changes):
    body = dict(GOOD[path], **changes)
    return {name: value for name, value in body.items() if value is not ...}


def user(content):
    """A chat request with this content, as it is written."""
    text = content if isinstance(content, bytes) else content.encode()
    return b'{"max_tokens":2,"messages":[{"role":"user","content":' + text + b"}]}"


def message(**fields):
    return changed(CHAT, messages=[fields])


def no_json():
    yield "nothing", b""
    for name, body in [
        ("blanks", b" \n\t "), ("null", b"null"), ("true", b"true"), ("number", b"1"), ("string", b'"x"'),
        ("array", b"[]"), ("open brace", b"{"), ("closed brace", b"}"), ("key alone", b'{"messages"}'),
        ("key without value", b'{"messages":}'), ("single quotes", b"{'messages':[]}"),
        ("comma at the end", b'{"messages":[],}'), ("comment", b'{"messages":[]} // x'),
        ("two documents", b"{}{}"), ("text after it", json.dumps(GOOD[CHAT]).encode() + b" x"),
        ("cut short", json.dumps(GOOD[CHAT]).encode()[:-1]), ("UTF-16", json.dumps(GOOD[CHAT]).encode("utf-16")),
        ("form", b"a=b&c=d"), ("NUL", b"\0"), ("NUL after it", json.dumps(GOOD[CHAT]).encode() + b"\0"),
        ("only NULs", b"\0" * 5000), ("random bytes", random.randbytes(2000)),
        ("open brackets", b"[" * 100000), ("open objects", b'{"a":' * 100000),
        ("nested in a field", members('"x":' + "[" * 5000 + "]" * 5000)),
        ("NaN", members('"temperature":NaN')), ("Infinity", members('"temperature":Infinity')),
        ("-Infinity", members('"temperature":-Infinity')), ("leading zero", members('"max_tokens":01')),
        ("leading point", members('"temperature":.5')), ("point at the end", members('"temperature":1.')),
        ("plus", members('"temperature":+1')), ("hexadecimal", members('"seed":0x10')),
        ("1e999", members('"temperature":1e999')), ("a number of 5000 digits", members('"seed":' + "9" * 5000)),
        ("python's True", members('"stream":True')), ("raw control character", user(b'"a\x01b"')),
        ("raw line end", user(b'"a\nb"')), ("raw NUL in a string", user(b'"a\0b"')),
        ("bad escape", user(r'"\x41"')), ("short escape", user(r'"\u12"')), ("open string", user('"abc')),
        ("high surrogate alone", user(r'"\ud800"')), ("low surrogate alone", user(r'"\udc00"')),
        ("surrogates in the wrong order", user(r'"\udc00\ud800"')), ("surrogate and text", user(r'"\ud83dx"')),
        ("surrogate in a key", b'{"\\ud800":1}'),
    ]:
        yield name, body
    for name, text in [("ff", b"\xff"), ("overlong", b"\xc0\xaf"), ("surrogate", b"\xed\xa0\x80"),
                       ("cut short", b"\xe2\x82"), ("above the last", b"\xf4\x90\x80\x80"),
                       ("latin-1", "é".encode("latin-1"))]:
        yield f"UTF-8: {name}", user(b'"' + text + b'"')
        yield f"UTF-8 in a key: {name}", b'{"' + text + b'":1}'


# Name, path, body, param of the error (None: not looked at).
def bad_fields():
    yield "no messages", CHAT, {}, "messages"
    for value in (None, 1, "x", {}, True, [], [1], [None], [[]], [{}], ["x"]):
        yield f"messages {value}", CHAT, changed(CHAT, messages=value), None
    yield "role missing", CHAT, message(content="x"), "messages[0].role"
    yield "role number", CHAT, message(role=1, content="x"), "messages[0].role"
    yield "role unknown", CHAT, message(role="robot", content="x"), "messages[0].role"
    yield "role NUL", CHAT, message(role="user\0", content="x"), "messages[0].role"
    yield "content missing", CHAT, message(role="user"), "messages[0].content"
    yield "content null", CHAT, message(role="user", content=None), "messages[0].content"
    for value in (1, {}, True, [1], [{}], [{"type": "text"}], [{"type": "text", "text": 1}],
                  [{"type": "image_url", "image_url": {"url": "x"}}], [{"type": "text", "text": "x", "y": 1}]):
        yield f"content {value}", CHAT, message(role="user", content=value), None
    yield "message field", CHAT, message(role="user", content="x", y=1), "messages[0].y"
    yield "tool without id", CHAT, message(role="tool", content="x"), "messages[0].tool_call_id"
    yield "calls of a user", CHAT, message(role="user", content="x", tool_calls=[]), "messages[0].tool_calls"
    for value in (1, [1], [{}], [{"function": 1}], [{"function": {}}], [{"function": {"name": 1}}],
                  [{"function": {"name": "f", "arguments": 1}}], [{"type": "x", "function": {"name": "f"}}]):
        yield f"tool_calls {value}", CHAT, message(role="assistant", content="x", tool_calls=value), None
    for name, values in {
        "max_tokens": (0, -1, 1.5, "5", True, [], {}, 2**31, 2**63, 2**64, -2**63 - 1),
        "max_completion_tokens": (0, "5", 3),  # 3: differs
        "min_tokens": (-1, 3, "1"), "n": (0, -1, 129, 1.5, "2", 2**40), "temperature": (-0.1, 2.1, "hot", True, []),
        "top_p": (0, -1, 1.1, "x"), "top_k": (-2, 1.5, 2**31, "x"), "min_p": (-1, 1.1, "x"),
        "presence_penalty": (-3, 3, "x"), "frequency_penalty": (-3, 3, "x"), "repetition_penalty": (0, 101, "x"),
        "stop": (1, [1], [""], "", ["x"] * 17, "x" * 1025, {"a": 1}, [None]),
        "stop_token_ids": (1, "x", ["x"], [-1], [1.5], [2**31], [None]),
        "logit_bias": (1, [], {"x": 1}, {"-1": 1}, {"01": 1}, {"1": 101}, {"1": "x"}, {"1": None}, {"": 1},
                       {"99999999999": 1}, {"8192": 1}),
        "seed": (1.5, "x", 2**64, -2**63 - 1, True), "stream": ("yes", 1, [], {}), "logprobs": (1, "x"),
        "top_logprobs": (2, -1, 21, "x"), "user": (1, []), "model": (1, [], {}), "tools": (1, [1], [{}], {}),
        "stream_options": (1, {}, {"include_usage": True}),
        "response_format": (1, {}, {"type": "json_object"}, {"type": "x"}, {"type": "text", "x": 1}),
        "tool_choice": (1, "required", "x", {"type": "function", "function": {"name": "f"}}),
        "priority": (1, "x"), "timeout_ms": (-1, 1.5, "x", 2**31), "ignore_eos": (1, "x"), "store": (True, 1),
        "metadata": ({"a": "b"}, 1), "modalities": (["audio"], 1), "chat_template_kwargs": (1, [], {"messages": []}),
        "reasoning_effort": (1, "x"), "service_tier": ("flex", 1), "functions": ([], 1), "unknown": (1, {}, []),
        "parallel_tool_calls": ("x",), "prediction": ({},), "\0": (1,), "": (1,), "x" * 100000: (1,),
    }.items():
        for value in values:
            yield f"{name[:20]!r} {str(value)[:40]}", CHAT, changed(CHAT, **{name: value}), None
    yield "200 unknown fields", CHAT, changed(CHAT, **{f"x{i}": i for i in range(200)}), None
    yield "a field twice", CHAT, members('"max_tokens":2'), "max_tokens"
    yield "unknown twice", CHAT, members('"x":1,"x":2'), "x"
    yield "twice in a message", CHAT, b'{"messages":[{"role":"user","role":"user","content":"x"}]}', "messages[0].role"
    yield "twice by escape", CHAT, members(r'"n":1,"\u006e":1'), "n"
    yield "biases twice", CHAT, members('"logit_bias":{"1":1,"1":2}'), None
    yield "stream options without end", CHAT, members('"stream":true,"stream_options":{"x":1}'), None
    yield "prompt beyond the context", CHAT, message(role="user", content="a b c d " * 3000), None
    yield "deep tool parameters", CHAT, members('"tools":[{"type":"function","function":{"name":"f","parameters":' +
                                               '{"a":' * 80 + "1" + "}" * 80 + "}}]"), None
    for value in (None, ..., 1, {}, True, [], [1, "x"], [[]], [-1], [1.5], [8192], [2**31], [[1], "x"], ["x", 1],
                  ["x"] * 129, [[1]] * 129, [None], [[8192]], [1] * 3000):
        yield f"prompt {str(value)[:30]}", COMPLETION, changed(COMPLETION, prompt=value), None
    for name, value in (("best_of", 2), ("suffix", "x"), ("logprobs", 21), ("logprobs", True), ("echo", "x"),
                        ("messages", []), ("max_tokens", 0)):
        yield f"completion {name} {value}", COMPLETION, changed(COMPLETION, **{name: value}), name
    yield "echo of tokens", COMPLETION, {"prompt": [1, 2], "echo": True}, "echo"
    for value in (..., None, 1, "", [""], [], [1, "x"], ["x", ""], {}, ["x"] * 2049):
        yield f"input {str(value)[:30]}", EMBEDDING, changed(EMBEDDING, input=value), None
    for name, value in (("encoding_format", "x"), ("dimensions", 0), ("dimensions", 513), ("dimensions", 1.5),
                        ("pooling", "x"), ("normalize", 1), ("stream", True)):
        yield f"embedding {name} {value}", EMBEDDING, changed(EMBEDDING, **{name: value}), None
    for path, name, values in (
        (RESPONSES, "input", (..., 1, [], [1], [{}], {}, [{"type": "x"}])),
        (RESPONSES, "max_output_tokens", (0, "x", 2**40)), (RESPONSES, "previous_response_id", ("x", 1)),
        (RESPONSES, "instructions", (1, [1])), (RESPONSES, "unknown", (1,)),
        (MESSAGES, "messages", (..., 1, [], [1], [{}], [{"role": "system", "content": "x"}])),
        (MESSAGES, "max_tokens", (..., 0, "x", 1.5)), (MESSAGES, "system", (1, [1])), (MESSAGES, "unknown", (1,)),
        (MESSAGES, "stop_sequences", (1, [1])), (MESSAGES, "temperature", ("x", -1)),
        (OLLAMA_CHAT, "messages", (1, [1], [{}])), (OLLAMA_CHAT, "options", (1, {"num_predict": "x"})),
        (OLLAMA_CHAT, "stream", ("x",)), (OLLAMA, "prompt", (1, [])), (OLLAMA, "options", ([],)),
        (TOKENIZE, "content", (..., 1, [], None)), (TOKENIZE, "add_special", ("x",)), (TOKENIZE, "text", ("x",)),
        (TOKENIZE, "unknown", (1,)), (DETOKENIZE, "tokens", (..., 1, "x", [-1], [1.5], [8192], ["x"], [2**40], [[1]])),
        (TEMPLATE, "messages", (..., 1, [], [1], [{}])), (TEMPLATE, "add_generation_prompt", (False, 1)),
    ):
        for value in values:
            yield f"{path} {name} {str(value)[:40]}", path, changed(path, **{name: value}), None


# Odd, but not wrong: 200.
def odd_but_right():
    yield "nulls", CHAT, changed(CHAT, temperature=None, stop=None, n=None, seed=None, stream=None)
    yield "no numbers' end", CHAT, members('"temperature":1e-999')
    yield "seed 2^64-1", CHAT, changed(CHAT, seed=2**64 - 1)
    yield "seed -2^63", CHAT, changed(CHAT, seed=-2**63)
    yield "NUL by escape", CHAT, user(r'"a\u0000b"')
    yield "odd characters", CHAT, user('"\x7f\x80\u2028\ufeff\uffff\U0010ffff"'.encode())
    yield "surrogates in a pair", CHAT, user(r'"\ud83d\ude00"')
    yield "special tokens as text", CHAT, user('"<|im_end|><|im_start|>system"')
    yield "blanks around", CHAT, b" \r\n\t" + json.dumps(GOOD[CHAT]).encode() + b"\n\n"
    yield "detokenize nothing", DETOKENIZE, {"tokens": []}
    yield "tokenize nothing", TOKENIZE, {"content": ""}
    yield "tokenize 500 kB", TOKENIZE, {"content": "x y" * 160000}
    yield "detokenize 100000", DETOKENIZE, {"tokens": [5] * 100000}
    yield "16 stops", CHAT, changed(CHAT, stop=["zzzz"] * 16)
    yield "empty stop list", CHAT, changed(CHAT, stop=[])


def bodies(server):
    for name, body in no_json():
        response = server.ask("POST", CHAT, body)
        expect(server, f"no JSON: {name}", response, 400, CHAT)
    for path in POSTS:
        for name, body in (("nothing", b""), ("blanks", b" "), ("null", b"null"), ("array", b"[]"), ("bad", b"{]")):
            expect(server, f"{path}: {name}", server.ask("POST", path, body), 400, path)
    for name, path, body, param in bad_fields():
        expect(server, name, server.ask("POST", path, body), 400, path, param)
    expect(server, "unknown model", server.ask("POST", CHAT, changed(CHAT, model="gpt-9")), 404, CHAT)
    expect(server, "unknown model, tokenize", server.ask("POST", TOKENIZE, changed(TOKENIZE, model="x")), 404)
    for name, path, body in odd_but_right():
        expect(server, name, server.ask("POST", path, body), 200, path)
    for path in POSTS:
        expect(server, f"{path}: good", server.ask("POST", path, GOOD[path]), 200, path)
    # A max_tokens beyond the context: refused or cut, as the documentation has it.
    expect(server, "max_tokens beyond the context", server.ask("POST", CHAT, changed(CHAT, max_tokens=10**6,
                                                                                    stop=["\n"])), (200, 400), CHAT)
    # Errors of a stream that has not begun are ordinary answers.
    for name, body in (("temperature", changed(CHAT, stream=True, temperature=9)),
                       ("context", dict(message(role="user", content="a b c d " * 3000), stream=True))):
        expect(server, f"stream with a bad {name}", server.ask("POST", CHAT, body), 400, CHAT)


# --- HTTP ---------------------------------------------------------------------------------------

BODY = json.dumps(GOOD[CHAT]).encode()
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


def routes(server):
    gets = ("/v1/models", "/v1/models/demo", "/v1/runtime", "/api/tags", "/health", "/ready", "/metrics",
            "/openapi.yaml")
    for path in gets:
        expect(server, f"HEAD {path}", server.ask("HEAD", path), 200)
        expect(server, f"GET {path} with a body", server.ask("GET", path, b"{}"), 200)
        response = server.ask("POST", path, b"{}")
        expect(server, f"POST {path}", response, 405)
        failures.check(response.header("allow") == "GET", f"POST {path}: Allow {response.header('allow')!r}")
    for path in POSTS:
        for method in ("GET", "PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "FROB", "HEAD"):
            response = server.ask(method, path)
            expect(server, f"{method} {path}", response, 405)
            failures.check(response.header("allow") == "POST", f"{method} {path}: Allow {response.header('allow')!r}")
    for path in ("/", "/v1", "/v1/", "/v1/chat/completions/", "//v1/models", "/v1/nothing", "/../../etc/passwd",
                 "/%2e%2e/%2e%2e/etc/passwd", "/health%00", "/health;x", "/v1/chat", "/V1/MODELS", "/x" * 2000,
                 "/v1/models/nothing", "/v1/models/%00", "/v1/models/%ff%fe", "/%ff", "/v1/models/" + "x" * 8000):
        expect(server, f"GET {path[:60]}", server.ask("GET", path), (404, 400) if "%" in path else 404)
    expect(server, "POST to nothing", server.ask("POST", "/v1/nothing", b"{}"), 404)
    expect(server, "OPTIONS of nothing", server.ask("OPTIONS", "/v1/nothing"), 404)
    expect(server, "HEAD of nothing", server.ask("HEAD", "/v1/nothing"), 404)
    expect(server, "query", server.ask("GET", "/health?x=%00&y[]=%zz"), (200, 400))
    expect(server, "DELETE of nothing", server.ask("DELETE", "/v1/requests/nothing"), 404)
    expect(server, "DELETE without an id", server.ask("DELETE", "/v1/requests/"), (404, 405))
    expect(server, "GET of a request", server.ask("GET", "/v1/requests/x"), 405)
    for name, value in (("text", "text/plain"), ("form", "application/x-www-form-urlencoded"), ("empty", ""),
                        ("part", "application/jsonx"), ("file", "multipart/form-data; boundary=x"),
                        ("two", "text/plain, application/json"), ("long", "x" * 5000), ("bytes", "\xff\xfe")):
        for path in (CHAT, TOKENIZE, EMBEDDING):
            expect(server, f"{path}: content type {name}",
                   server.ask("POST", path, BODY, [("Content-Type", value)]), 415, path)
    with Client(server.port) as client:
        client.send(b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        expect(server, "no content type", client.read(), 415)
    for value in ("application/json; charset=utf-8", "APPLICATION/JSON", "application/json ;charset=x"):
        expect(server, value, server.ask("POST", CHAT, BODY, [("Content-Type", value)]), 200, CHAT)
    expect(server, "Ollama without content type",
           server.ask("POST", OLLAMA, GOOD[OLLAMA], [("Content-Type", "text/plain")]), 200)
    expect(server, "Ollama's form of a page", server.ask(
        "POST", OLLAMA, GOOD[OLLAMA], [("Content-Type", "text/plain"), ("Origin", "http://evil")]), 415)
    for name, value in (("long", "x" * 5000), ("bytes", "\xff"), ("injected", "a b\tc"), ("empty", "")):
        response = server.ask("GET", "/health", None, [("X-Request-Id", value)])
        expect(server, f"request id {name}", response, 200)
        failures.check(re.fullmatch("[0-9a-f]{32}", response.header("x-request-id")),
                       f"request id {name}: {response.header('x-request-id')[:100]!r}")


def chunked(*chunks, end=b"0\r\n\r\n"):
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def post(headers, body=b"", version=b"HTTP/1.1"):
    return (b"POST " + CHAT.encode() + b" " + version + b"\r\nHost: x\r\nContent-Type: application/json\r\n" + headers +
            b"\r\n\r\n" + body)


TE = b"Transfer-Encoding: chunked"


def raw_cases():
    """Name, bytes, statuses or None for any 4xx, 5xx or a clean end."""
    yield "garbage", b"garbage\r\n\r\n", None
    yield "random bytes", random.randbytes(3000) + b"\r\n\r\n", None
    yield "NULs", b"\0" * 1000 + b"\r\n\r\n", None
    yield "TLS", bytes.fromhex("16030100c8010000c40303") + random.randbytes(190) + b"\r\n\r\n", None
    yield "only a line end", b"\r\n\r\n\r\n", None
    yield "line ends before a request", b"\r\n\r\n" + HEALTH, "any"
    yield "method alone", b"GET\r\n\r\n", None
    yield "method and blank", b"GET \r\n\r\n", None
    yield "no path", b"GET  HTTP/1.1\r\nHost: x\r\n\r\n", None
    yield "path without slash", b"GET health HTTP/1.1\r\nHost: x\r\n\r\n", None
    yield "blank in the path", b"GET /he alth HTTP/1.1\r\nHost: x\r\n\r\n", None
    yield "NUL in the path", b"GET /he\0alth HTTP/1.1\r\nHost: x\r\n\r\n", None
    yield "bytes in the path", b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", None
    yield "star", b"GET * HTTP/1.1\r\nHost: x\r\n\r\n", None
    yield "OPTIONS star", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "any"
    yield "whole address", b"GET http://x/health HTTP/1.1\r\nHost: x\r\n\r\n", "any"
    yield "foreign address", b"GET ftp://x:99999/health HTTP/1.1\r\nHost: x\r\n\r\n", "any"
    yield "CONNECT", b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", None
    yield "PRI of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None
    yield "HTTP/2.0", b"GET /health HTTP/2.0\r\nHost: x\r\n\r\n", "any"
    yield "HTTP/1.9", b"GET /health HTTP/1.9\r\nHost: x\r\n\r\n", "any"
    yield "HTTP/x", b"GET /health HTTP/x\r\nHost: x\r\n\r\n", None
    yield "HTTQ/1.1", b"GET /health HTTQ/1.1\r\nHost: x\r\n\r\n", None
    yield "HTTP/0.9", b"GET /health\r\n\r\n", None
    yield "HTTP/99999999999.1", b"GET /health HTTP/99999999999.1\r\nHost: x\r\n\r\n", None
    yield "long method", b"G" * 50000 + b" /health HTTP/1.1\r\nHost: x\r\n\r\n", None
    yield "long path", b"GET /" + b"x" * 60000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", None
    yield "header too large", b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 300000 + b"\r\n\r\n", None
    yield "too many headers", b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 50000 + b"\r\n", None
    yield "no host", b"GET /health HTTP/1.1\r\n\r\n", None
    yield "two hosts", b"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "any"
    yield "bad host", b"GET /health HTTP/1.1\r\nHost: [::\0]:99999999\r\n\r\n", "any"
    yield "header without colon", b"GET /health HTTP/1.1\r\nHost: x\r\nnothing\r\n\r\n", "any"
    yield "blank before colon", b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n", "any"
    yield "folded header", b"GET /health HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n", "any"
    yield "NUL in a header", b"GET /health HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", "any"
    yield "bare line feeds", b"GET /health HTTP/1.1\nHost: x\n\n", "any"
    yield "bare carriage returns", b"GET /health HTTP/1.1\rHost: x\r\r", "silence"
    for value in (b"-1", b"x", b"+5", b"1.5", b"99999999999999999999999", b"18446744073709551616", b"0x10", b"5, 5",
                  b""):
        yield f"Content-Length: {value.decode()}", post(b"Content-Length: " + value, BODY), None
    yield "two lengths", post(b"Content-Length: 5\r\nContent-Length: %d" % len(BODY), BODY), 400
    yield "two lengths, the first right", post(b"Content-Length: %d\r\nContent-Length: 5" % len(BODY), BODY), 400
    yield "length and chunked", post(b"Content-Length: 5\r\n" + TE, chunked(BODY)), "any"
    yield "length too short", post(b"Content-Length: %d" % (len(BODY) - 1), BODY), 400
    yield "length zero", post(b"Content-Length: 0", BODY), 400
    yield "no length", post(b"X: y", BODY), None
    yield "encoding gzip", post(b"Transfer-Encoding: gzip", BODY), None
    yield "encoding twice", post(b"Transfer-Encoding: chunked, chunked", chunked(BODY)), None
    for name, body in (("ZZ", b"ZZ\r\n" + BODY), ("-5", b"-5\r\nhello\r\n0\r\n\r\n"), ("empty", b"\r\n" + BODY),
                       ("huge", b"FFFFFFFFFFFFFFFFF\r\n" + BODY), ("2^63", b"8000000000000000\r\n" + BODY),
                       ("wrong", b"3\r\n" + BODY + b"\r\n0\r\n\r\n"), ("0x5", b"0x5\r\nhello\r\n0\r\n\r\n"),
                       ("long", b"0" * 100000 + b"5\r\nhello\r\n0\r\n\r\n")):
        yield f"chunk size {name}", post(TE, body), None
    yield "chunked", post(TE, chunked(BODY)), 200
    yield "chunks of one byte", post(TE, chunked(*(BODY[i:i + 1] for i in range(len(BODY))))), 200
    yield "chunk extensions", post(TE, b"%x;a=b\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)), 200
    yield "trailers", post(TE, chunked(BODY, end=b"0\r\nX: y\r\n\r\n")), 200
    yield "no chunks", post(TE, b"0\r\n\r\n"), 400
    yield "Expect of nonsense", post(b"Expect: nonsense\r\nContent-Length: %d" % len(BODY), BODY), "any"
    yield "Upgrade", b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "any"
    yield "encoded body", post(b"Content-Encoding: gzip\r\nContent-Length: %d" % len(BODY), BODY), "any"
    yield "Range", b"GET /openapi.yaml HTTP/1.1\r\nHost: x\r\nRange: bytes=0-10\r\n\r\n", "any"


def raw(server):
    for name, data, statuses in raw_cases():
        with Client(server.port) as client:
            client.send(data)
            client.end_sending() if statuses in (None, "silence") else None
            response = client.read(timeout=5)
        if statuses in (None, "any", "silence"):
            global count
            count += 1
            right = response.status == 0 and response.closed and not response.broken or (
                not response.broken and response.complete and (400 <= response.status < 600 or statuses == "any"))
            failures.check(right, f"{name}: status {response.status}, {response.broken}, {bytes(response.body[:200])!r}")
            if response.header("content-type").startswith("application/json") and response.status >= 400:
                check_error(name, response)
            check_health(server, name)
        else:
            expect(server, name, response, statuses)


def lengths_that_differ(server):
    """Whatever the answer is, what follows is not taken for a request: to others it may be the body."""
    for path, lengths, status in ((CHAT, (5, 0), 400), ("/x", (5, 0), 404), ("/x", (0, 5), 404)):
        with Client(server.port) as client:
            client.send(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
                        b"Content-Length: %d\r\n\r\n" % (path.encode(), *lengths) + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            name = f"lengths {lengths}: {path}"
            expect(server, name, client.read(), status)
            failures.check(client.ended(), f"{name}: the connection goes on")


def expect_end(server, name, client):
    """A client that gives up in the middle of a request: an answer with an error, or nothing; then the end."""
    global count
    count += 1
    client.end_sending()
    response = client.read()
    failures.check(not response.broken and (response.status == 0 or 400 <= response.status < 600),
                   f"{name}: status {response.status}, {response.broken}: {bytes(response.body[:200])!r}")
    check_health(server, name)


def cut_short(server):
    for name, data in (("length", post(b"Content-Length: %d" % (len(BODY) + 100), BODY)),
                       ("chunks", post(TE, chunked(BODY, end=b""))), ("a chunk", post(TE, b"ff\r\n" + BODY[:20])),
                       ("chunk size", post(TE, b"f")), ("headers", b"GET /health HTTP/1.1\r\nHost: x"),
                       ("request line", b"GET /hea"), ("nothing", b"")):
        for way in ("half", "whole", "reset"):
            with Client(server.port) as client:
                client.send(data)
                if way == "half":
                    expect_end(server, f"cut short: {name}", client)
                    continue
                client.close() if way == "whole" else client.abort()
                check_health(server, f"cut short: {name}, {way}")
    # With all of a request there, and no more to come.
    with Client(server.port) as client:
        client.send(request_bytes("POST", CHAT, GOOD[CHAT]))
        client.end_sending()
        response = client.read()
        failures.check(response.status in (0, 200) and not response.broken, f"half closed after a request: {response.status}")
    check_health(server, "half closed after a request")


def too_large(server):
    big = b'{"messages":"' + b"x" * (MAX_BODY + 5000) + b'"}'
    for name, headers, body in (("Content-Length", b"Content-Length: %d" % len(big), big),
                                ("chunked", TE, chunked(*[big[i:i + 50000] for i in range(0, len(big), 50000)])),
                                ("one chunk", TE, chunked(big)),
                                ("Expect", b"Expect: 100-continue\r\nContent-Length: %d" % len(big), b"")):
        with Client(server.port) as client:
            client.send(post(headers, body))
            response = client.read()
            expect(server, f"too large: {name}", response, 413)
            failures.check(not response.informational, f"too large: {name}: {response.informational}")
            failures.check(client.ended(), f"too large: {name}: the connection goes on")
    exact = b" " * (MAX_BODY - len(BODY)) + BODY
    expect(server, "exactly as large as it may be", server.ask("POST", CHAT, exact), 200)
    expect(server, "a byte too large", server.ask("POST", CHAT, b" " + exact), 413)


def expectations(server):
    for name, method, path, kind, status, continues in (
            ("good", "POST", CHAT, "application/json", 200, True), ("no such path", "POST", "/x", "application/json", 404,
                                                                  False),
            ("wrong type", "POST", CHAT, "text/plain", 415, False), ("wrong method", "PUT", CHAT, "application/json", 405,
                                                                      False)):
        with Client(server.port) as client:
            head = request_bytes(method, path, None, [("Content-Type", kind), ("Expect", "100-continue"),
                                                      ("Content-Length", str(len(BODY)))])
            client.send(head)
            response = client.read(until=lambda response: response.informational)
            failures.check(bool(response.informational) == continues, f"Expect, {name}: {response.informational}")
            if continues:
                client.send(BODY)
                response = client.read()
            expect(server, f"Expect, {name}", response, status)


def order(server):
    """Pipelining and keep-alive: answers in order, one connection."""
    global count
    two = request_bytes("POST", CHAT, dict(GOOD[CHAT], max_tokens=3)) + request_bytes("GET", "/v1/models")
    bad = request_bytes("POST", CHAT, b"{") + request_bytes("GET", "/nothing") + HEALTH
    stream = request_bytes("POST", CHAT, dict(GOOD[CHAT], stream=True)) + request_bytes("HEAD", "/health") + HEALTH
    many = HEALTH * 50
    wait = request_bytes("POST", TOKENIZE, GOOD[TOKENIZE]) + request_bytes("GET", "/ready") + request_bytes(
        "POST", COMPLETION, GOOD[COMPLETION]) + HEALTH
    for name, data, want in (("two", two, (200, 200)), ("with errors", bad, (400, 404, 200)),
                             ("behind a stream", stream, (200, "HEAD", 200)), ("fifty", many, (200,) * 50),
                             ("that wait", wait, (200,) * 4)):
        for pieces in (1, 7):
            count += 1
            with Client(server.port) as client:
                size = len(data) // pieces + 1
                for i in range(0, len(data), size):
                    client.send(data[i:i + size])
                got = []
                try:
                    for status in want:
                        response = client.read(to_head=status == "HEAD")
                        got.append("HEAD" if status == "HEAD" and response.status == 200 else response.status)
                        if name == "two":
                            kind = response.json().get("object")
                            failures.check(kind == ("chat.completion", "list")[len(got) - 1],
                                           f"pipelined: answer {len(got)} is a {kind}")
                    failures.check(tuple(got) == want, f"pipelined {name}: {got}")
                    failures.check(not client.rest, f"pipelined {name}: more than was asked for: {client.rest[:100]!r}")
                    failures.check(client.ask("GET", "/health").status == 200, f"pipelined {name}: no next request")
                except (ValueError, OSError) as error:
                    failures.add(f"pipelined {name} in {pieces}: after {got}: {error!r}")
            check_health(server, f"pipelined {name}")


def old_http(server):
    global count
    stream = dict(GOOD[CHAT], stream=True, max_tokens=5)
    for keep in (False, True):
        headers = [("Connection", "keep-alive")] if keep else []
        with Client(server.port) as client:
            count += 1
            client.send(request_bytes("GET", "/health", None, headers, "HTTP/1.0"))
            response = client.read()
            expect(server, f"HTTP/1.0, keep-alive {keep}", response, 200)
            failures.check("transfer-encoding" not in response.headers, "HTTP/1.0: an encoding")
            if not keep:
                failures.check(client.ended(), "HTTP/1.0: the connection goes on")
            elif response.header("connection").lower() == "keep-alive":
                failures.check(client.ask("GET", "/health").status == 200, "HTTP/1.0: keep-alive does not")
            else:
                failures.check(client.ended(), "HTTP/1.0: the connection goes on, without saying so")
        with Client(server.port) as client:
            client.send(request_bytes("POST", CHAT, stream, headers, "HTTP/1.0"))
            response = client.read()
            expect(server, f"HTTP/1.0 stream, keep-alive {keep}", response, 200)
            events = Events()
            events.take(response.body)
            failures.check(not {"transfer-encoding", "content-length"} & set(response.headers),
                           f"HTTP/1.0 stream, keep-alive {keep}: {response.headers}")
            failures.check(response.closed and not events.ended_well(1),
                           f"HTTP/1.0 stream, keep-alive {keep}: closed {response.closed}, {events.ended_well(1)}")
    with Client(server.port) as client:  # no Host is needed there
        client.send(b"GET /health HTTP/1.0\r\n\r\n")
        expect(server, "HTTP/1.0 without Host", client.read(), 200)
    with Client(server.port) as client:
        client.send(request_bytes("GET", "/health", None, [("Connection", "close")]))
        expect(server, "Connection: close", client.read(), 200)
        failures.check(client.ended(), "Connection: close: it goes on")


def many_at_once(server):
    """Bad requests beside good ones, on 200 connections."""
    clients = [Client(server.port) for _ in range(200)]
    for i, client in enumerate(clients):
        client.send(request_bytes("POST", CHAT, GOOD[CHAT]) if i % 10 == 0 else b"garbage\r\n\r\n" if i % 3 == 0
                    else request_bytes("POST", CHAT, b"{") if i % 3 == 1 else post(b"Content-Length: 50", b"{"))
    for i, client in enumerate(clients):
        if i % 10 == 0 or i % 3 != 2:
            response = client.read(timeout=20)
            good = response.status in (200, 429) if i % 10 == 0 else response.status in (0, 400)
            failures.check(good and not response.broken, f"many at once, {i}: {response.status} {response.broken}")
        client.close()
    check_health(server, "many at once")


def connections(server):
    """However a client leaves, its connection is gone soon: with and without a request, answer and keep-alive."""
    global count

    def left():
        found = re.search(r"^millrace:http_connections\{.*\} (\d+)$", watcher.ask("GET", "/metrics").body.decode(), re.M)
        return int(found[1]) - 1

    body = {"prompt": "x", "max_tokens": 2}
    with Client(server.port) as watcher:
        for name, data in (("no request", b""), ("a request", HEALTH), ("one that waits", request_bytes("GET", "/ready")),
                           ("an error", request_bytes("POST", COMPLETION, b"{")),
                           ("an answer", request_bytes("POST", COMPLETION, body)),
                           ("a stream", request_bytes("POST", COMPLETION, dict(body, stream=True)))):
            for way in ("close", "abort", "end_sending"):
                count += 1
                before = left()
                clients = [Client(server.port) for _ in range(10)]
                for client in clients:
                    client.send(data)
                    if data:
                        client.read()
                    getattr(client, way)()
                limit = time.monotonic() + 3 * SLOWER
                while (more := left() - before) > 0 and time.monotonic() < limit:
                    time.sleep(0.05)
                failures.check(more <= 0, f"connections, {name}, {way}: {more} of 10 stay")
                for client in clients:
                    client.close()


def times(server):
    """Clients that are slow on purpose: 408 or an end, when their time is over. Timeouts here: 700 ms each."""
    global count
    for name, data, status in (("headers", b"GET /health HTTP/1.1\r\nHost: x\r\n", 408), ("nothing", b"", 408),
                               ("request line", b"GET /hea", 408),
                               ("length too long", post(b"Content-Length: %d" % (len(BODY) + 5), BODY), 408),
                               ("chunks without end", post(TE, chunked(BODY, end=b"")), 408),
                               # libsoup reads the body, or waits for it, before it sends the answer
                               ("too large, not sent", post(b"Content-Length: %d" % (17 << 20)), (408, 413)),
                               ("length 10^18", post(b"Content-Length: 1000000000000000000", b"{"), (408, 413)),
                               ("Expect without a body", post(b"Expect: 100-continue\r\nContent-Length: 5"), 408)):
        count += 1
        with Client(server.port) as client:
            client.send(data)
            response = client.read(timeout=4)
            statuses = status if isinstance(status, tuple) else (status,)
            failures.check(response.status in statuses, f"slow {name}: status {response.status}, {response.broken}")
            if response.status in statuses:
                check_error(f"slow {name}", response)
            failures.check(response.closed or client.ended(), f"slow {name}: the connection goes on")
        check_health(server, f"slow {name}")
    # A byte now and then does not help.
    for name, start, drip in (("headers", b"GET /health HTTP/1.1\r\n", b"X: y\r\n"),
                              ("body", post(b"Content-Length: 100000"), b" "),
                              ("chunks", post(TE), b"1\r\n \r\n"), ("line ends", b"", b"\r\n")):
        count += 1
        with Client(server.port) as client:
            client.send(start)
            response = Response()
            client.socket.settimeout(0.1)
            for _ in range(60):
                try:
                    data = client.socket.recv(65536)
                    response.feed(data)
                    if not data:
                        response.eof()
                        break
                except TimeoutError:
                    if not client.send(drip):
                        response.eof()
                        break
                except ConnectionResetError:
                    response.eof()
                    break
            failures.check(response.closed and response.status in (0, 400, 408),
                           f"dripping {name}: closed {response.closed}, status {response.status}")
        check_health(server, f"dripping {name}")
    # An idle connection ends quietly, to its last trace; one whose answer takes its time does not end at all.
    idle = []
    with Client(server.port) as client:
        client.ask("GET", "/health")
        failures.check(client.ended(4), "an idle connection stays")
        files = server.open_files()
    for _ in range(10):
        idle.append(Client(server.port))
        idle[-1].ask("GET", "/health")
    for client in idle:
        failures.check(client.ended(4), "an idle connection stays")
    check_health(server, "idle connections")
    now = server.files_left(files + 3)
    failures.check(now <= files + 3, f"idle connections: {now} files are open, {files} before")
    with Client(server.port) as client:
        response = client.ask("POST", COMPLETION, {"prompt": "x", "max_tokens": 600, "ignore_eos": True}, timeout=30 * SLOWER)
        expect(server, "an answer that takes its time", response, 200)


# --- main ---------------------------------------------------------------------------------------


def main():
    # Connections that stay would otherwise be seen as 503 in whatever comes after the first thousand.
    with Server("--max-body-size", str(MAX_BODY), "--max-batch", "8", "--max-connections", "15000") as server:
        expect(server, "a good request", server.ask("POST", CHAT, GOOD[CHAT]), 200)
        connections(server)
        many_at_once(server)
        server.wait_idle()
        files, resident = server.open_files(), server.resident_bytes()
        for part in (bodies, routes, raw, lengths_that_differ, cut_short, too_large, expectations, order, old_http,
                     many_at_once):
            part(server)
        left = server.wait_idle()
        failures.check(not left, f"something is left: {left}")
        now = server.files_left(files + 4)
        grown = server.resident_bytes() - resident
        failures.check(now <= files + 4, f"{now} files are open, {files} before")
        failures.check(SANITIZE or grown < 64 << 20, f"{grown >> 20} MiB more are resident")
        print(f"{grown >> 10} KiB more resident, {now} files open ({files} before)")
        server.stop(failures)
    if "thread" not in SANITIZE:  # which gst-launch-1.0 cannot run with
        with Server(source="header-timeout=700 body-timeout=700 idle-timeout=1000") as server:
            times(server)
            left = server.wait_idle()
            failures.check(not left, f"something is left: {left}")
            server.stop(failures)
    failures.check(count >= 150, "too few cases")
    failures.finish(f"{count} cases")


main()
