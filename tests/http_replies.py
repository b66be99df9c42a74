"""What tests of HTTP expect of answers, and requests that several of them send."""
import json

from http_server import equal, keys

QUESTION = [{"role": "user", "content": "Write a Python function to check whether a number is prime."}]
# So random that no draft is right: many seconds of text, if nobody ends it.
ENDLESS = {"prompt": "import os\n", "max_tokens": 1900, "ignore_eos": True, "temperature": 2, "seed": 1}


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


def first_text(stream):
    """Reads on until there is text: the request runs then."""
    equal(stream.status, 200, "status of a stream")
    for _, data in stream:
        choice = json.loads(data)["choices"][0]
        if choice.get("text") or choice.get("delta", {}).get("content"):
            return choice
    raise AssertionError("the stream has no text")


def stops_cleanly(server):
    code = server.stop()
    unexpected = [line for line in server.log if line and not line.startswith(("{", "listening on "))]
    equal(unexpected, [], "what it said besides its log")
    equal(code, 0, "exit code")
