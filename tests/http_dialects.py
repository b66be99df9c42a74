#!/usr/bin/env python3
# labels: http
# timeout: 300
"""Every route and dialect of `millrace serve`, whole and as a stream, with nothing but Python's standard library.

Beside it: http_connections.py, what lies below; http_servers.py, options and endings; http_clients.py, the official clients;
http_openapi.py, docs/openapi.yaml.
"""
import base64
import json
import math
import re
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
from http_replies import error_of, named_events, openai_events, QUESTION, stops_cleanly, true, usage_of  # noqa: E402
from http_server import BUILD, Server, environment, equal, keys, run_cases  # noqa: E402

server = None  # the one that all cases share
folder = Path()


def count_tokens(text):
    return server.ask("/tokenize", content=text)["count"]


def prompt_of(messages):
    return server.ask("/apply-template", messages=messages)["prompt"]


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


CASES = [models_and_tags, health_and_runtime, metrics_have_vllm_names, chat_whole, chat_prediction,
         chat_stream_equals_whole, chat_logprobs, chat_n_equals_seeds, seeds, chat_content_parts,
         chat_equals_its_prompt, completion_whole, completion_equals_millrace_run, completion_stream_and_echo,
         completion_logprobs, stop_strings, sampling_fields_change_text, embeddings, tokens_and_back, templates,
         messages_whole_and_stream, messages_stop_sequence, messages_errors, responses_whole_and_stream, ollama,
         errors_say_what_is_wrong, context_is_never_cut, paths_and_methods]


def ends_cleanly():
    stops_cleanly(server)


if __name__ == "__main__":
    chosen = [case for case in CASES if not sys.argv[1:] or case.__name__ in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as name, \
         Server("--model-names", "demo,other", "--cors-origins", "http://app.example") as server:
        folder = Path(name)
        (folder / "empty").write_text("# nothing\n")
        sys.exit(run_cases([*chosen, ends_cleanly]))
