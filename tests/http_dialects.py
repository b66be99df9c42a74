#!/usr/bin/env python3
# labels: http
# timeout: 300
"""Every route and dialect of `millrace serve`, whole and as a stream, with nothing but Python's standard library.

Shapes, identity, framing, errors, limits, cancellation, draining, TLS. tests/http_clients.py lets the official clients
do the talking; tests/http_openapi.py compares docs/openapi.yaml with the server.
"""
import base64
import contextlib
import http.client
import json
import math
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
from http_server import BUILD, PATIENCE_S, Server, environment, equal, keys, run_cases  # noqa: E402

QUESTION = [{"role": "user", "content": "Write a Python function to check whether a number is prime."}]
server = None  # the one that most cases share
folder = Path()


def true(condition, what):
    if not condition:
        raise AssertionError(what)


def error_of(reply, status, code, param=None, prefix=""):
    """OpenAI's error object, in the words of docs/http-api.md."""
    equal(reply.status, status, f"{prefix}status of {reply.text[:300]}")
    equal(reply.headers["content-type"], "application/json", f"{prefix}content type")
    body = reply.json()
    keys(body, "error")
    keys(body["error"], "message type param code")
    equal(body["error"]["code"], code, f"{prefix}code of {reply.text[:300]}")
    equal(body["error"]["param"], param, f"{prefix}param of {reply.text[:300]}")
    true(body["error"]["message"], f"{prefix}no message")
    return body["error"]


def openai_events(stream):
    """The objects of a stream that must end with [DONE]."""
    equal(stream.status, 200, "status of a stream")
    equal(stream.headers["content-type"], "text/event-stream", "content type")
    texts = [data for event, data in stream if equal(event, None, "an event's name") is None]
    equal(texts[-1], "[DONE]", "the last event")
    equal(texts.count("[DONE]"), 1, "[DONE]")
    stream.close()
    return [json.loads(text) for text in texts[:-1]]


def named_events(stream):
    """Anthropic's and Responses' events: the name is the type."""
    equal(stream.status, 200, "status of a stream")
    equal(stream.headers["content-type"], "text/event-stream", "content type")
    events = []
    for name, data in stream:
        events.append(json.loads(data))
        equal(events[-1]["type"], name, "an event's name")
    stream.close()
    return events


def usage_of(value, prompt=None, completion=None):
    keys(value, "prompt_tokens completion_tokens total_tokens prompt_tokens_details", "completion_tokens_details")
    keys(value["prompt_tokens_details"], "cached_tokens")
    if "completion_tokens_details" in value:
        keys(value["completion_tokens_details"], "accepted_prediction_tokens rejected_prediction_tokens", "reasoning_tokens")
    equal(value["total_tokens"], value["prompt_tokens"] + value["completion_tokens"], "total_tokens")
    if prompt is not None:
        equal(value["prompt_tokens"], prompt, "prompt_tokens")
    if completion is not None:
        equal(value["completion_tokens"], completion, "completion_tokens")


def count_tokens(text):
    return server.ask("/tokenize", content=text)["count"]


def prompt_of(messages):
    return server.ask("/apply-template", messages=messages)["prompt"]


# --- about the server ---------------------------------------------------------------------------


def models_and_tags():
    models = server.get("/v1/models").json()
    keys(models, "object data")
    equal(models["object"], "list")
    equal(len(models["data"]), 1, "models")
    keys(models["data"][0], "id object created owned_by max_model_len")
    equal(models["data"][0]["id"], "demo")
    equal(server.get("/v1/models/demo").json(), models["data"][0])
    equal(server.get("/v1/models/other").json(), models["data"][0], "another of its names")
    error_of(server.get("/v1/models/none"), 404, "model_not_found", "model")
    tags = server.get("/api/tags").json()
    keys(tags, "models")
    keys(tags["models"][0], "name model size details", "modified_at digest")
    equal(tags["models"][0]["name"], "demo")
    head = server.request("HEAD", "/v1/models")
    equal((head.status, head.body), (200, b""), "HEAD")


def health_and_runtime():
    equal(server.get("/health").json(), {"status": "ok"})
    equal(server.get("/ready").json(), {"status": "ready"})
    runtime = server.runtime()
    for name in "model architecture layers vocab_size weight_bytes backend cpu kv running queued limits".split():
        true(name in runtime, f"/v1/runtime does not tell {name}")
    equal(runtime["kv"]["used"] + runtime["kv"]["free"] + runtime["kv"]["cached"], runtime["kv"]["blocks"], "KV blocks")
    equal(runtime["limits"]["context_tokens"], 2048)
    reply = server.get("/openapi.yaml")
    equal((reply.status, reply.headers["content-type"]), (200, "application/yaml"))
    true("\nopenapi: 3.1." in reply.text, "not an OpenAPI document")


def metrics_have_vllm_names():
    server.ask("/v1/completions", prompt="import os", max_tokens=3, temperature=0)
    reply = server.get("/metrics")
    equal(reply.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
    label = '{model_name="demo"}'
    metrics = server.metrics()
    for name in ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
                 "vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total", "vllm:prompt_tokens_total",
                 "vllm:generation_tokens_total", "vllm:num_preemptions_total", "vllm:spec_decode_num_draft_tokens_total",
                 "vllm:spec_decode_num_accepted_tokens_total", "millrace:steps_total", "millrace:http_connections",
                 "millrace:http_active_requests", "millrace:slow_clients_total"):
        true(name + label in metrics, f"/metrics has no {name}")
    for name in ("time_to_first_token_seconds", "inter_token_latency_seconds", "request_time_per_output_token_seconds",
                 "e2e_request_latency_seconds", "request_queue_time_seconds", "request_prefill_time_seconds",
                 "request_decode_time_seconds", "request_prompt_tokens", "request_generation_tokens"):
        true(metrics[f"vllm:{name}_count{label}"] > 0, f"vllm:{name} has counted nothing")
        true(f'vllm:{name}_bucket{{model_name="demo",le="+Inf"}}' in metrics, f"vllm:{name} has no last bucket")
    for reason in ("stop", "length", "cancelled", "timeout", "error"):
        true(f'vllm:request_success_total{{finished_reason="{reason}",model_name="demo"}}' in metrics, f"no {reason}")
    true(metrics['millrace:http_responses_total{code="200",model_name="demo",route="/v1/completions"}'] >= 1, "responses")
    true(metrics["vllm:generation_tokens_total" + label] >= 3, "tokens")


# --- chat ---------------------------------------------------------------------------------------


def chat_whole():
    request_id = "dialects-1.a_B"
    reply = server.post("/v1/chat/completions", {"model": "other", "messages": QUESTION, "max_tokens": 6, "seed": 5,
                                                 "ignore_eos": True}, {"X-Request-Id": request_id})
    equal(reply.status, 200)
    equal(reply.headers["x-request-id"], request_id)
    equal(reply.headers["content-type"], "application/json")
    body = reply.json()
    keys(body, "id object created model system_fingerprint choices usage")
    equal((body["id"], body["object"], body["model"]), ("chatcmpl-" + request_id, "chat.completion", "other"))
    true(abs(body["created"] - time.time()) < 3600, "created is not now")
    equal(len(body["choices"]), 1)
    choice = body["choices"][0]
    keys(choice, "index message logprobs finish_reason")
    equal((choice["index"], choice["logprobs"], choice["finish_reason"]), (0, None, "length"))
    keys(choice["message"], "role content refusal", "tool_calls reasoning_content")
    equal((choice["message"]["role"], choice["message"]["refusal"]), ("assistant", None))
    usage_of(body["usage"], count_tokens(prompt_of(QUESTION)), 6)


def chat_prediction():
    """What a client expects is drafted: the answer stays the same, and usage says how much of it was right."""
    fields = {"messages": QUESTION, "max_tokens": 40, "temperature": 0, "ignore_eos": True}
    plain = server.ask("/v1/chat/completions", **fields)
    text = plain["choices"][0]["message"]["content"]
    parts = [{"type": "text", "text": text[:20]}, {"type": "text", "text": text[20:]}]
    for content in (text, parts, "something else altogether", "", []):
        reply = server.ask("/v1/chat/completions", **fields, prediction={"type": "content", "content": content})
        equal(reply["choices"], plain["choices"], f"the answer to a prediction of {content!r}")
        details = reply["usage"]["completion_tokens_details"]
        # How much of it is verified is a matter of what the machine is doing.
        true(min(details.values()) >= 0 and details["accepted_prediction_tokens"] < 40, f"{details}")
    seeded = dict(fields, temperature=1.2, seed=7)
    equal(server.ask("/v1/chat/completions", **seeded, prediction={"type": "content", "content": text})["choices"],
          server.ask("/v1/chat/completions", **seeded)["choices"], "a sampled answer")


def chat_stream_equals_whole():
    fields = {"messages": QUESTION, "max_tokens": 24, "seed": 11, "temperature": 0.9}
    whole = server.ask("/v1/chat/completions", **fields)
    stream = server.stream("/v1/chat/completions", **fields, stream_options={"include_usage": True})
    equal(stream.headers["cache-control"], "no-cache")
    events = openai_events(stream)
    for event in events:
        keys(event, "id object created model system_fingerprint choices usage")
        equal((event["id"], event["object"]), (events[0]["id"], "chat.completion.chunk"))
    true(events[0]["id"].startswith("chatcmpl-"), "the id's prefix")
    equal(events[0]["choices"][0]["delta"], {"role": "assistant", "content": ""}, "first delta")
    *chunks, last = events
    equal(last["choices"], [], "the event with usage")
    usage_of(last["usage"], whole["usage"]["prompt_tokens"], whole["usage"]["completion_tokens"])
    for chunk in chunks:
        equal(chunk["usage"], None, "usage before the end")
        equal(len(chunk["choices"]), 1)
        keys(chunk["choices"][0], "index delta logprobs finish_reason")
    equal([chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]], [None] * (len(chunks) - 1))
    equal(chunks[-1]["choices"][0]["delta"], {}, "last delta")
    equal(chunks[-1]["choices"][0]["finish_reason"], whole["choices"][0]["finish_reason"])
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    equal(text, whole["choices"][0]["message"]["content"], "the stream's text")
    without = openai_events(server.stream("/v1/chat/completions", **fields))
    true(all("usage" not in event for event in without), "usage that nobody asked for")


def chat_logprobs():
    fields = {"messages": QUESTION, "max_tokens": 5, "temperature": 0, "logprobs": True, "top_logprobs": 3}
    choice = server.ask("/v1/chat/completions", **fields)["choices"][0]
    content = choice["logprobs"]["content"]
    equal(len(content), 5, "tokens")
    equal(b"".join(bytes(token["bytes"]) for token in content).decode(), choice["message"]["content"])
    for token in content:
        keys(token, "token logprob bytes top_logprobs")
        equal(len(token["top_logprobs"]), 3)
        values = [top["logprob"] for top in token["top_logprobs"]]
        equal(values, sorted(values, reverse=True), "the order of top_logprobs")
        equal((token["token"], token["logprob"]), (token["top_logprobs"][0]["token"], values[0]), "greedy takes the best")
        true(sum(map(math.exp, values)) <= 1.0001, "probabilities come to more than 1")
        equal(bytes(token["bytes"]).decode(), token["token"])
    streamed = []
    for event in openai_events(server.stream("/v1/chat/completions", **fields)):
        streamed += (event["choices"][0]["logprobs"] or {}).get("content", [])
    equal(streamed, content, "log-probabilities of the stream")
    bare = server.ask("/v1/chat/completions", **{**fields, "top_logprobs": 0})["choices"][0]["logprobs"]["content"]
    equal([token["top_logprobs"] for token in bare], [[]] * 5)


def chat_n_equals_seeds():
    fields = {"messages": QUESTION, "max_tokens": 12, "temperature": 1.2}
    together = server.ask("/v1/chat/completions", **fields, seed=40, n=3)
    alone = [server.ask("/v1/chat/completions", **fields, seed=40 + i) for i in range(3)]
    texts = [choice["message"]["content"] for choice in together["choices"]]
    equal([choice["index"] for choice in together["choices"]], [0, 1, 2])
    equal(texts, [one["choices"][0]["message"]["content"] for one in alone], "n=3 and three seeds")
    true(len(set(texts)) > 1, "three seeds gave one text")
    usage_of(together["usage"], alone[0]["usage"]["prompt_tokens"],
             sum(one["usage"]["completion_tokens"] for one in alone))
    parts = ["", "", ""]
    for event in openai_events(server.stream("/v1/chat/completions", **fields, seed=40, n=3)):
        choice = event["choices"][0]
        parts[choice["index"]] += choice["delta"].get("content", "")
    equal(parts, texts, "n=3 as a stream")


def seeds():
    fields = {"prompt": "import ", "max_tokens": 16, "temperature": 2}
    text = lambda **more: server.ask("/v1/completions", **fields, **more)["choices"][0]["text"]  # noqa: E731
    equal(text(seed=9), text(seed=9), "the same seed")
    true(len({text(seed=seed) for seed in range(4)}) > 1, "four seeds gave one text")
    true(len({text() for _ in range(4)}) > 1, "without a seed four requests gave one text")
    equal(text(seed=-1), text(seed=2**64 - 1), "a negative seed is its 64 bits")


def chat_content_parts():
    parts = [{"role": "user", "content": [{"type": "text", "text": QUESTION[0]["content"][:20]},
                                          {"type": "text", "text": QUESTION[0]["content"][20:]}]}]
    fields = {"max_tokens": 8, "temperature": 0}
    equal(server.ask("/v1/chat/completions", messages=parts, **fields)["choices"],
          server.ask("/v1/chat/completions", messages=QUESTION, **fields)["choices"], "parts of text")
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    error_of(server.post("/v1/chat/completions", {"messages": image}), 400, "invalid_request",
             "messages[0].content[0].type")


def chat_equals_its_prompt():
    """The template, its tokens and a completion of either give the text of a chat."""
    prompt = prompt_of(QUESTION)
    tokens = server.ask("/tokenize", content=prompt)["tokens"]
    fields = {"max_tokens": 16, "temperature": 0}
    chat = server.ask("/v1/chat/completions", messages=QUESTION, **fields)["choices"][0]["message"]["content"]
    equal(server.ask("/v1/completions", prompt=prompt, **fields)["choices"][0]["text"], chat, "the prompt's text")
    equal(server.ask("/v1/completions", prompt=tokens, **fields)["choices"][0]["text"], chat, "the prompt's tokens")


# --- completions --------------------------------------------------------------------------------


def completion_whole():
    body = server.ask("/v1/completions", prompt="import os", max_tokens=4, temperature=0)
    keys(body, "id object created model system_fingerprint choices usage")
    equal((body["id"][:5], body["object"], body["model"]), ("cmpl-", "text_completion", "demo"))
    choice = body["choices"][0]
    keys(choice, "index text logprobs finish_reason")
    equal((choice["index"], choice["logprobs"], choice["finish_reason"]), (0, None, "length"))
    usage_of(body["usage"], 2, 4)
    equal(server.ask("/v1/completions", prompt="import os", ignore_eos=True)["usage"]["completion_tokens"], 16,
          "tokens when max_tokens is not given")


def completion_equals_millrace_run():
    for prompt in ("import os", "def fibonacci(n):", "# Grüße, 漢字"):
        # gst_parse_launch () of GStreamer 1.22 leaks a child for each child::property, and run has some.
        run = subprocess.run([BUILD / "bin" / "millrace", "run", "--max-tokens", "24", prompt],
                             env=dict(environment(), ASAN_OPTIONS="detect_leaks=0"),
                             capture_output=True, timeout=240, check=True, stdin=subprocess.DEVNULL)
        text = server.ask("/v1/completions", prompt=prompt, max_tokens=24, temperature=0)["choices"][0]["text"]
        true(text, "no text")
        equal(text.rstrip("\n"), run.stdout.decode().rstrip("\n"), f"millrace run {prompt!r}")


def completion_stream_and_echo():
    fields = {"prompt": ["import os", "def f("], "max_tokens": 6, "temperature": 0, "n": 2, "echo": True}
    whole = server.ask("/v1/completions", **fields)
    texts = [choice["text"] for choice in whole["choices"]]
    equal([choice["index"] for choice in whole["choices"]], [0, 1, 2, 3])
    equal([texts[0], texts[2]], [texts[1], texts[3]], "greedy choices")
    true(texts[0].startswith("import os") and texts[2].startswith("def f("), "echo")
    parts = [""] * 4
    events = openai_events(server.stream("/v1/completions", **fields, stream_options={"include_usage": True}))
    for event in events[:-1]:
        keys(event, "id object created model system_fingerprint choices usage")
        equal(event["object"], "text_completion")
        keys(event["choices"][0], "index text logprobs finish_reason")
        parts[event["choices"][0]["index"]] += event["choices"][0]["text"]
    equal(parts, texts, "the stream's texts")
    usage_of(events[-1]["usage"], 2 + count_tokens("def f("), 24)


def completion_logprobs():
    fields = {"prompt": "import os", "max_tokens": 6, "temperature": 0, "logprobs": 2}
    choice = server.ask("/v1/completions", **fields)["choices"][0]
    logprobs = choice["logprobs"]
    keys(logprobs, "tokens token_logprobs top_logprobs text_offset")
    equal("".join(logprobs["tokens"]), choice["text"])
    offset = 0
    for token, value, top, at in zip(*(logprobs[name] for name in ("tokens", "token_logprobs", "top_logprobs",
                                                                    "text_offset"))):
        equal((top[token], at), (value, offset), f"of {token!r}")
        equal(len(top), 2)
        offset += len(token)
    chat = server.ask("/v1/completions", **{**fields, "logprobs": 0})["choices"][0]["logprobs"]
    equal([len(top) for top in chat["top_logprobs"]], [1] * 6, "the chosen token alone")


def stop_strings():
    fields = {"prompt": "import os", "max_tokens": 24, "temperature": 0}
    text = server.ask("/v1/completions", **fields)["choices"][0]["text"]
    stop = text[7:10]
    wanted = text[:text.index(stop)]
    for given in (stop, [stop], ["never there", stop]):
        choice = server.ask("/v1/completions", **fields, stop=given)["choices"][0]
        equal((choice["text"], choice["finish_reason"]), (wanted, "stop"), f"stop={given!r}")
    events = openai_events(server.stream("/v1/completions", **fields, stop=stop))
    equal("".join(event["choices"][0]["text"] for event in events), wanted, "as a stream, nothing is said that must be taken back")
    token = server.ask("/tokenize", content=text)["tokens"][2]
    choice = server.ask("/v1/completions", **fields, stop_token_ids=[token])["choices"][0]
    equal(choice["finish_reason"], "stop", "stop_token_ids")
    error_of(server.post("/v1/completions", {**fields, "stop": ""}), 400, "invalid_request", "stop")


def sampling_fields_change_text():
    fields = {"prompt": "import os\nimport os\nimport", "max_tokens": 8, "temperature": 0}
    plain = server.ask("/v1/completions", **fields)["choices"][0]["text"]
    first = server.ask("/tokenize", content=plain)["tokens"][0]
    banned = server.ask("/v1/completions", **fields, logit_bias={str(first): -100})["choices"][0]["text"]
    true(banned != plain, "a banned token came all the same")
    penalized = server.ask("/v1/completions", **fields, repetition_penalty=5.0)["choices"][0]["text"]
    true(penalized != plain, "repetition_penalty changed nothing")
    for more in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}):
        equal(server.ask("/v1/completions", **{**fields, "temperature": 1.5}, **more)["choices"][0]["text"], plain,
              f"{more} is greedy")
    equal(server.ask("/v1/completions", **{**fields, "max_tokens": 3}, min_tokens=3)["usage"]["completion_tokens"], 3)


# --- embeddings and text ------------------------------------------------------------------------


def embeddings():
    texts = ["import os", "def f(x):\n    return x"]
    body = server.ask("/v1/embeddings", input=texts)
    keys(body, "object data model usage")
    equal((body["object"], body["model"]), ("list", "demo"))
    equal(body["usage"], {"prompt_tokens": sum(map(count_tokens, texts)),
                          "total_tokens": sum(map(count_tokens, texts))})
    equal([(entry["object"], entry["index"]) for entry in body["data"]], [("embedding", 0), ("embedding", 1)])
    for entry in body["data"]:
        keys(entry, "object index embedding")
        equal(len(entry["embedding"]), 512, "numbers")
        true(abs(math.fsum(x * x for x in entry["embedding"]) - 1) < 1e-4, "not of length 1")
    encoded = server.ask("/v1/embeddings", input=texts, encoding_format="base64")
    for entry, other in zip(body["data"], encoded["data"]):
        raw = base64.b64decode(other["embedding"], validate=True)
        decoded = struct.unpack(f"<{len(raw) // 4}f", raw)
        kind = f"<{len(entry['embedding'])}f"
        shown = struct.unpack(kind, struct.pack(kind, *entry["embedding"]))
        equal(decoded, shown, "base64 and numbers")
    one = lambda **fields: server.ask("/v1/embeddings", **fields)["data"][0]["embedding"]  # noqa: E731
    first = body["data"][0]["embedding"]
    equal(one(input=texts[0]), first, "alone")
    tokens = server.ask("/tokenize", content=texts[0])["tokens"]
    equal(one(input=tokens), first, "as tokens")
    equal(one(input=[tokens]), first, "as an array of tokens")
    short = one(input=texts[0], dimensions=8)
    equal(len(short), 8)
    true(abs(short[0] / short[1] - first[0] / first[1]) < 1e-3 * abs(first[0] / first[1]) + 1e-5, "other dimensions")
    true(one(input=texts[0], pooling="mean") != first, "pooling changed nothing")
    true(abs(math.hypot(*one(input=texts[0], normalize=False)) - 1) > 1e-3, "normalize=false")
    error_of(server.post("/v1/embeddings", {"input": ""}), 400, "invalid_request", "input")


def tokens_and_back():
    text = "import os  # Grüße, 漢字 🎈\n"
    body = server.ask("/tokenize", content=text)
    keys(body, "tokens count max_model_len")
    equal(body["count"], len(body["tokens"]))
    equal(server.ask("/tokenize", text=text), body)
    equal(server.ask("/tokenize", prompt=text), body)
    back = server.ask("/detokenize", tokens=body["tokens"])
    equal(back["content"], text)
    pieces = server.ask("/tokenize", content=text, with_pieces=True)["tokens"]
    equal([piece["id"] for piece in pieces], body["tokens"])
    joined = b"".join(bytes(p["piece"]) if isinstance(p["piece"], list) else p["piece"].encode() for p in pieces)
    equal(joined.decode(), text, "pieces")
    error_of(server.post("/detokenize", {"tokens": [8192]}), 400, "invalid_request", "tokens")
    error_of(server.post("/tokenize", {}), 400, "invalid_request", "content")


def templates():
    prompt = prompt_of([{"role": "system", "content": "Brief."}, {"role": "user", "content": "Hi"}])
    equal(prompt, "<|im_start|>system\nBrief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    tool = {"type": "function", "function": {"name": "area", "parameters": {"type": "object"}}}
    with_tool = server.ask("/apply-template", messages=QUESTION, tools=[tool])["prompt"]
    true('"name": "area"' in with_tool, "the tool is not in the prompt")
    developer = prompt_of([{"role": "developer", "content": "Brief."}, {"role": "user", "content": "Hi"}])
    equal(developer, prompt, "developer is system")
    error_of(server.post("/apply-template", {"messages": []}), 400, "invalid_request", "messages")


# --- Anthropic ----------------------------------------------------------------------------------


def messages_whole_and_stream():
    fields = {"messages": QUESTION, "system": "Be brief.", "max_tokens": 12, "temperature": 0}
    body = server.ask("/v1/messages", model="demo", **fields)
    keys(body, "id type role model content stop_reason stop_sequence usage")
    equal((body["id"][:4], body["type"], body["role"], body["model"]), ("msg_", "message", "assistant", "demo"))
    equal((body["stop_reason"], body["stop_sequence"]), ("max_tokens", None))
    equal([block["type"] for block in body["content"]], ["text"])
    text = body["content"][0]["text"]
    chat = [{"role": "system", "content": "Be brief."}, *QUESTION]
    equal(text, server.ask("/v1/chat/completions", messages=chat, max_tokens=12,
                           temperature=0)["choices"][0]["message"]["content"], "as a chat")
    usage = body["usage"]
    keys(usage, "input_tokens cache_creation_input_tokens cache_read_input_tokens output_tokens", "output_tokens_details")
    equal(usage["input_tokens"] + usage["cache_read_input_tokens"], count_tokens(prompt_of(chat)), "input tokens")
    equal(usage["output_tokens"], 12)

    events = named_events(server.stream("/v1/messages", **fields))
    kinds = [event["type"] for event in events if event["type"] != "ping"]
    equal(kinds[:2], ["message_start", "content_block_start"])
    equal(kinds[-3:], ["content_block_stop", "message_delta", "message_stop"])
    equal(set(kinds[2:-3]), {"content_block_delta"})
    message = events[0]["message"]
    keys(message, "id type role model content stop_reason stop_sequence usage")
    equal((message["content"], message["stop_reason"]), ([], None))
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    equal({delta["type"] for delta in deltas}, {"text_delta"})
    equal("".join(delta["text"] for delta in deltas), text, "the stream's text")
    last = events[-2]
    keys(last, "type delta usage")
    equal(last["delta"], {"stop_reason": "max_tokens", "stop_sequence": None})
    equal(last["usage"]["output_tokens"], 12)


def messages_stop_sequence():
    fields = {"messages": QUESTION, "max_tokens": 24, "temperature": 0}
    text = server.ask("/v1/messages", **fields)["content"][0]["text"]
    stop = text[6:9]
    body = server.ask("/v1/messages", **fields, stop_sequences=[stop])
    equal(body["content"][0]["text"], text[:text.index(stop)])
    equal((body["stop_reason"], body["stop_sequence"]), ("stop_sequence", stop))
    delta = named_events(server.stream("/v1/messages", **fields, stop_sequences=[stop]))[-2]["delta"]
    equal(delta, {"stop_reason": "stop_sequence", "stop_sequence": stop})


def messages_errors():
    reply = server.post("/v1/messages", {"messages": QUESTION})
    equal(reply.status, 400)
    keys(reply.json(), "type error")
    equal((reply.json()["type"], reply.json()["error"]["type"], reply.json()["error"]["param"]),
          ("error", "invalid_request_error", "max_tokens"))
    reply = server.post("/v1/messages", {"model": "none", "messages": QUESTION, "max_tokens": 1})
    equal((reply.status, reply.json()["error"]["type"]), (404, "not_found_error"))


# --- Responses ----------------------------------------------------------------------------------


def responses_whole_and_stream():
    fields = {"input": QUESTION[0]["content"], "instructions": "Be brief.", "max_output_tokens": 10, "temperature": 0}
    body = server.ask("/v1/responses", **fields, metadata={"a": "b"})
    for name in "id object created_at status error incomplete_details model output usage instructions".split():
        true(name in body, f"no {name}")
    equal((body["id"][:5], body["object"], body["status"]), ("resp_", "response", "incomplete"))
    equal(body["incomplete_details"], {"reason": "max_output_tokens"})
    equal((body["instructions"], body["metadata"], body["store"]), ("Be brief.", {"a": "b"}, False))
    item = body["output"][0]
    keys(item, "id type role status content", "phase")
    part = item["content"][0]
    keys(part, "type text annotations logprobs")
    chat = [{"role": "system", "content": "Be brief."}, *QUESTION]
    equal(part["text"], server.ask("/v1/chat/completions", messages=chat, max_tokens=10,
                                   temperature=0)["choices"][0]["message"]["content"], "as a chat")
    equal(body["usage"]["output_tokens"], 10)
    equal(body["usage"]["input_tokens"], count_tokens(prompt_of(chat)))
    equal(body["usage"]["total_tokens"], body["usage"]["input_tokens"] + 10)

    events = named_events(server.stream("/v1/responses", **fields))
    equal([event["sequence_number"] for event in events], list(range(len(events))))
    kinds = [event["type"] for event in events]
    equal(kinds[:4], ["response.created", "response.in_progress", "response.output_item.added",
                      "response.content_part.added"])
    equal(kinds[-4:], ["response.output_text.done", "response.content_part.done", "response.output_item.done",
                       "response.incomplete"])
    equal(set(kinds[4:-4]), {"response.output_text.delta"})
    equal("".join(event["delta"] for event in events[4:-4]), part["text"], "the stream's text")
    equal(events[-4]["text"], part["text"])
    equal(events[-1]["response"]["output"][0]["content"], item["content"])
    equal({event["response"]["id"] for event in events if "response" in event}, {events[0]["response"]["id"]})

    short = server.ask("/v1/responses", **{**fields, "max_output_tokens": 4}, include=["message.output_text.logprobs"],
                       top_logprobs=2)["output"][0]["content"][0]
    equal("".join(token["token"] for token in short["logprobs"]), short["text"], "log-probabilities")
    equal([len(token["top_logprobs"]) for token in short["logprobs"]], [2] * 4)
    error_of(server.post("/v1/responses", {"input": "x", "store": True}), 400, "invalid_request", "store")
    error_of(server.post("/v1/responses", {"input": "x", "previous_response_id": "resp_1"}), 400, "invalid_request",
             "previous_response_id")


# --- Ollama -------------------------------------------------------------------------------------


def ollama_lines(path, **fields):
    connection = server.connect()
    response = server.send(connection, "POST", path, fields)
    equal((response.status, response.getheader("Content-Type")), (200, "application/x-ndjson"))
    raw = response.read()
    connection.close()
    true(raw.endswith(b"\n") and b"\n\n" not in raw, "lines")
    return [json.loads(line) for line in raw.splitlines()]


def ollama():
    options = {"num_predict": 8, "temperature": 0}
    whole = server.ask("/api/chat", messages=QUESTION, options=options, stream=False)
    numbers = "total_duration load_duration prompt_eval_count prompt_eval_duration eval_count eval_duration"
    keys(whole, "model created_at message done done_reason " + numbers)
    keys(whole["message"], "role content", "thinking tool_calls")
    equal((whole["done"], whole["done_reason"], whole["eval_count"]), (True, "length", 8))
    equal(whole["prompt_eval_count"], count_tokens(prompt_of(QUESTION)))
    true(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", whole["created_at"]), whole["created_at"])
    text = whole["message"]["content"]
    equal(text, server.ask("/v1/chat/completions", messages=QUESTION, max_tokens=8,
                           temperature=0)["choices"][0]["message"]["content"], "as a chat")
    lines = ollama_lines("/api/chat", messages=QUESTION, options=options)  # a stream unless it is told not to be one
    equal([line["done"] for line in lines], [False] * (len(lines) - 1) + [True])
    equal("".join(line["message"]["content"] for line in lines), text, "the lines' text")
    keys(lines[0], "model created_at message done")
    keys(lines[-1], "model created_at message done done_reason " + numbers)

    prompt = QUESTION[0]["content"]
    generated = server.ask("/api/generate", prompt=prompt, options=options, stream=False)
    keys(generated, "model created_at response done done_reason " + numbers, "thinking context")
    equal(generated["response"], text, "a prompt is a user's message")
    equal("".join(line["response"] for line in ollama_lines("/api/generate", prompt=prompt, options=options)), text)
    raw = server.ask("/api/generate", prompt="import os", raw=True, options=options, stream=False)
    equal(raw["response"], server.ask("/v1/completions", prompt="import os", max_tokens=8,
                                      temperature=0)["choices"][0]["text"], "raw")
    # As curl sends it by default, and as Ollama's own documentation does.
    form = server.post("/api/generate", json.dumps({"prompt": "x", "stream": False, "options": {"num_predict": 1}}),
                       {"Content-Type": "application/x-www-form-urlencoded"})
    equal(form.status, 200, "a body that calls itself a form")
    error_of(server.post("/api/chat", {"messages": QUESTION, "options": {"num_ctx": 4096}}), 400, "invalid_request",
             "options.num_ctx")
    error_of(server.post("/api/chat", {"messages": QUESTION, "format": "json"}), 400, "invalid_request", "format")


# --- errors -------------------------------------------------------------------------------------


def errors_say_what_is_wrong():
    chat, completion = "/v1/chat/completions", "/v1/completions"
    ask = {"messages": QUESTION}
    for path, body, param in (
        (chat, {**ask, "max_token": 1}, "max_token"),
        (chat, {**ask, "temperature": 3}, "temperature"),
        (chat, {**ask, "temperature": "1"}, "temperature"),
        (chat, {**ask, "top_p": 0}, "top_p"),
        (chat, {**ask, "n": 0}, "n"),
        (chat, {**ask, "n": 129}, "n"),
        (chat, {**ask, "max_tokens": 0}, "max_tokens"),
        (chat, {**ask, "max_tokens": 1.5}, "max_tokens"),
        (chat, {**ask, "max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
        (chat, {**ask, "top_logprobs": 2}, "top_logprobs"),
        (chat, {**ask, "logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        (chat, {**ask, "stream_options": {"include_usage": True}}, "stream_options"),
        (chat, {**ask, "response_format": {"type": "json_object"}}, "response_format.type"),
        (chat, {**ask, "tool_choice": "required"}, "tool_choice"),
        (chat, {**ask, "logit_bias": {"a": 1}}, "logit_bias"),
        (chat, {**ask, "logit_bias": {"8192": 1}}, "logit_bias"),
        (chat, {**ask, "store": True}, "store"),
        (chat, {**ask, "functions": []}, "functions"),
        (chat, {**ask, "priority": "urgent"}, "priority"),
        (chat, {**ask, "timeout_ms": -1}, "timeout_ms"),
        (chat, {}, "messages"),
        (chat, {"messages": []}, "messages"),
        (chat, {"messages": [{"role": "nobody", "content": "x"}]}, "messages[0].role"),
        (chat, {"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        (completion, {}, "prompt"),
        (completion, {"prompt": []}, "prompt"),
        (completion, {"prompt": "x", "best_of": 2}, "best_of"),
        (completion, {"prompt": "x", "suffix": "y"}, "suffix"),
        (completion, {"prompt": "x", "echo": True, "logprobs": 1}, "echo"),
    ):
        reply = server.post(path, body)
        error = error_of(reply, 400, "invalid_request", param, f"{json.dumps(body)}: ")
        equal(error["type"], "invalid_request_error")
    error_of(server.post(chat, '{"messages": [], "messages": []}'), 400, "invalid_request", "messages")
    error_of(server.post(chat, b""), 400, "invalid_request")
    error_of(server.post(chat, "{"), 400, "invalid_request")
    error_of(server.post(chat, "[]"), 400, "invalid_request")
    error_of(server.post(chat, b'{"messages": "\xff"}'), 400, "invalid_utf8")
    error_of(server.post(chat, "[" * 200 + "]" * 200), 400, "invalid_request")
    error_of(server.post(chat, {**ask, "model": "none"}), 404, "model_not_found", "model")
    error_of(server.post(completion, {"prompt": ""}), 400, "invalid_request", "prompt")


def context_is_never_cut():
    error = error_of(server.post("/v1/completions", {"prompt": "a b " * 2000}), 400, "context_length_exceeded", "prompt")
    equal(error["type"], "invalid_request_error")
    true("2048" in error["message"], f"the limit is not named: {error['message']}")
    stream = server.stream("/v1/completions", prompt="a b " * 2000)
    equal(stream.status, 400, "the status of a stream that cannot begin")
    stream.close()


def paths_and_methods():
    error_of(server.get("/v1/nothing"), 404, "not_found")
    reply = server.get("/v1/chat/completions")
    error_of(reply, 405, "method_not_allowed")
    equal(reply.headers["allow"], "POST")
    reply = server.post("/v1/models", {})
    error_of(reply, 405, "method_not_allowed")
    equal(reply.headers["allow"], "GET")
    error_of(server.post("/v1/completions", '{"prompt": "x"}', {"Content-Type": "text/plain"}), 415,
             "unsupported_media_type")
    reply = server.post("/v1/completions", '{"prompt": "x", "max_tokens": 1}',
                        {"Content-Type": "Application/JSON; charset=utf-8"})
    equal(reply.status, 200, "a content type with parameters")


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


# --- streams, cancellation ----------------------------------------------------------------------

# So random that no draft is right: many seconds of text, if nobody ends it.
ENDLESS = {"prompt": "import os\n", "max_tokens": 1900, "ignore_eos": True, "temperature": 2, "seed": 1}


def first_text(stream):
    """Reads on until there is text: the request runs then."""
    equal(stream.status, 200, "status of a stream")
    for _, data in stream:
        choice = json.loads(data)["choices"][0]
        if choice.get("text") or choice.get("delta", {}).get("content"):
            return choice
    raise AssertionError("the stream has no text")


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


# --- servers of their own -----------------------------------------------------------------------

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

    for options, code, words in (
        (("--nonsense",), 2, "nonsense"),
        (("text",), 2, "options only"),
        (("--address", "not-an-address"), 1, "IP address"),
        (("--model", "no-such-model"), 1, "no-such-model"),
        (("--tls-certificate", "/nonexistent.pem"), 1, "/nonexistent.pem"),
        (("--api-key-file", "/nonexistent"), 1, "/nonexistent"),
        (("--api-key-file", str(folder / "empty")), 1, "has no key"),
        (("--port", str(server.port)), 1, "cannot listen"),
    ):
        result = run("--model", "demo-draft", *options)
        equal(result.returncode, code, f"{options}: {result.stderr}")
        true(words in result.stderr, f"{options}: {result.stderr}")


SHARED = [models_and_tags, health_and_runtime, metrics_have_vllm_names, chat_whole, chat_prediction,
          chat_stream_equals_whole, chat_logprobs, chat_n_equals_seeds, seeds, chat_content_parts, chat_equals_its_prompt, completion_whole,
          completion_equals_millrace_run, completion_stream_and_echo, completion_logprobs, stop_strings,
          sampling_fields_change_text, embeddings, tokens_and_back, templates, messages_whole_and_stream,
          messages_stop_sequence, messages_errors, responses_whole_and_stream, ollama, errors_say_what_is_wrong,
          context_is_never_cut, paths_and_methods, raw_http, one_connection_many_requests, streams_are_live,
          curl_shows_live_events, delete_cancels, leaving_cancels, time_is_up, request_ids, cors,
          connections_are_let_go, wrong_options]
OWN = [queue_is_bounded, silence_is_broken, keys_and_limits, rate_and_size_limits, any_model_name,
       a_term_signal_drains, a_second_signal_ends_at_once, draining_has_an_end,
       failed_requests_do_not_fail_the_server, tls, a_pipeline_string_serves]


def stops_cleanly():
    code = server.stop()
    unexpected = [line for line in server.log if line and not line.startswith(("{", "listening on "))]
    equal(unexpected, [], "what it said besides its log")
    equal(code, 0, "exit code")


if __name__ == "__main__":
    chosen = [case for case in SHARED + OWN if not sys.argv[1:] or case.__name__ in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as name, \
         Server("--model-names", "demo,other", "--cors-origins", "http://app.example") as server:
        folder = Path(name)
        (folder / "empty").write_text("# nothing\n")
        sys.exit(run_cases([*chosen, stops_cleanly]))
