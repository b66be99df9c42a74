"""Clients for Python against a server of tests/http_clients.py: clients.py URL KEY MODEL"""
import asyncio
import sys
import time
import traceback

import anthropic
import ollama
import openai
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

URL, KEY, MODEL = sys.argv[1:]
QUESTION = "Write a Python function to check whether a number is prime."
MESSAGES = [{"role": "user", "content": QUESTION}]
PATIENCE_S = 300
client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0, timeout=PATIENCE_S)
chat = client.chat.completions
ENDLESS = {"model": MODEL, "messages": MESSAGES, "max_completion_tokens": 1900, "temperature": 2, "stream": True}


def wait_until_idle():
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        runtime = client.get("/runtime", cast_to=object)
        if runtime["running"] == 0 and runtime["queued"] == 0:
            return
        time.sleep(0.02)
    raise AssertionError("the request still runs")


def expect(kind, call, **members):
    try:
        call()
    except kind as error:
        for name, value in members.items():
            assert getattr(error, name) == value, f"{name} is {getattr(error, name)!r}, not {value!r}"
        return
    raise AssertionError(f"not refused with {kind.__name__}")


# --- openai -------------------------------------------------------------------------------------


def openai_models():
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL
    expect(openai.NotFoundError, lambda: client.models.retrieve("none"), code="model_not_found")


def openai_chat_and_usage():
    answer = chat.create(model=MODEL, messages=MESSAGES, max_completion_tokens=8, temperature=0)
    assert answer.object == "chat.completion" and answer.model == MODEL
    assert answer.choices[0].message.role == "assistant" and answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0
    assert answer.id == f"chatcmpl-{answer._request_id}"


def openai_streaming():
    fields = {"model": MODEL, "messages": MESSAGES, "max_completion_tokens": 16, "temperature": 0}
    whole = chat.create(**fields)
    text, usage, finish, chunks = "", None, None, 0
    for chunk in chat.create(**fields, stream=True, stream_options={"include_usage": True}):
        chunks += 1
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    assert text == whole.choices[0].message.content
    assert (finish, usage.total_tokens) == ("length", whole.usage.total_tokens)
    assert chunks > 3
    with chat.stream(**{**fields, "max_completion_tokens": 300}, stop="\n\n") as events:
        final = events.get_final_completion()
    assert final.choices[0].finish_reason == "stop" and final.choices[0].message.content


def openai_completion():
    fields = {"model": MODEL, "prompt": "import os", "max_tokens": 12, "temperature": 0}
    answer = client.completions.create(**fields)
    assert answer.object == "text_completion" and answer.usage.completion_tokens == 12
    text = "".join(chunk.choices[0].text for chunk in client.completions.create(**fields, stream=True))
    assert text == answer.choices[0].text
    both = client.completions.create(**{**fields, "prompt": ["import os", "def f("]}, echo=True)
    assert both.choices[0].text == "import os" + text and both.choices[1].text.startswith("def f(")


def openai_logprobs():
    answer = chat.create(model=MODEL, messages=MESSAGES, max_completion_tokens=4, temperature=0, logprobs=True,
                         top_logprobs=2)
    content = answer.choices[0].logprobs.content
    assert "".join(token.token for token in content) == answer.choices[0].message.content
    assert all(len(token.top_logprobs) == 2 and token.logprob == token.top_logprobs[0].logprob for token in content)
    old = client.completions.create(model=MODEL, prompt="import os", max_tokens=4, temperature=0, logprobs=2)
    assert "".join(old.choices[0].logprobs.tokens) == old.choices[0].text


def openai_n_and_seed():
    fields = {"model": MODEL, "messages": MESSAGES, "max_completion_tokens": 10, "temperature": 2}
    texts = [choice.message.content for choice in chat.create(**fields, seed=70, n=3).choices]
    alone = [chat.create(**fields, seed=70 + i).choices[0].message.content for i in range(3)]
    assert texts == alone, f"{texts} and {alone}"
    assert len(texts) == 3 and len(set(texts)) > 1


def openai_stop():
    fields = {"model": MODEL, "messages": MESSAGES, "max_completion_tokens": 24, "temperature": 0}
    text = chat.create(**fields).choices[0].message.content
    stop = text[6:9]
    for given in (stop, ["never there", stop]):
        choice = chat.create(**fields, stop=given).choices[0]
        assert (choice.message.content, choice.finish_reason) == (text[:text.index(stop)], "stop")


def openai_extra_fields():
    answer = chat.create(model=MODEL, messages=MESSAGES, max_completion_tokens=4, temperature=1.5,
                         extra_body={"top_k": 1, "repetition_penalty": 1.0, "priority": "high", "timeout_ms": 200000})
    greedy = chat.create(model=MODEL, messages=MESSAGES, max_completion_tokens=4, temperature=0)
    assert answer.choices[0].message.content == greedy.choices[0].message.content


def openai_embeddings():
    texts = ["import os", "def f():"]
    encoded = client.embeddings.create(model=MODEL, input=texts)  # the client asks for base64 by itself
    plain = client.embeddings.create(model=MODEL, input=texts, encoding_format="float")
    assert len(encoded.data) == 2 and encoded.usage.total_tokens == plain.usage.total_tokens
    for one, other in zip(encoded.data, plain.data):
        assert len(one.embedding) == len(other.embedding)
        assert all(abs(a - b) < 1e-6 for a, b in zip(one.embedding, other.embedding))
    assert len(client.embeddings.create(model=MODEL, input="x", dimensions=16).data[0].embedding) == 16


def openai_errors():
    expect(openai.BadRequestError, lambda: chat.create(model=MODEL, messages=MESSAGES, temperature=9),
           param="temperature", code="invalid_request", type="invalid_request_error", status_code=400)
    expect(openai.BadRequestError, lambda: chat.create(model=MODEL, messages=[]), param="messages")
    expect(openai.BadRequestError, lambda: chat.create(model=MODEL, messages=MESSAGES, extra_body={"no_such": 1}),
           param="no_such")
    expect(openai.NotFoundError, lambda: chat.create(model="none", messages=MESSAGES), code="model_not_found")
    expect(openai.BadRequestError, lambda: client.completions.create(model=MODEL, prompt="a b " * 2000),
           code="context_length_exceeded")
    wrong = openai.OpenAI(base_url=f"{URL}/v1", api_key="wrong", max_retries=0)
    expect(openai.AuthenticationError, lambda: wrong.models.list(), code="invalid_api_key")
    expect(openai.BadRequestError, lambda: chat.create(model=MODEL, messages=MESSAGES, stream=True, top_p=7))


def openai_cancellation():
    stream = chat.create(**ENDLESS)
    for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    stream.close()
    wait_until_idle()
    with chat.with_raw_response.create(**ENDLESS, extra_headers={"X-Request-Id": "from-python"}).parse() as stream:
        deleted = False
        for chunk in stream:
            if chunk.choices[0].delta.content and not deleted:
                deleted = client.delete("/requests/from-python", cast_to=object) == {"cancelled": True}
            last = chunk
    assert deleted
    assert last.choices[0].finish_reason == "cancelled"


def openai_many_at_once():
    async def run():
        many = openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0, timeout=PATIENCE_S)
        fields = {"model": MODEL, "messages": MESSAGES, "max_completion_tokens": 8, "temperature": 1}
        together = await asyncio.gather(*(many.chat.completions.create(**fields, seed=seed) for seed in range(8)))
        await many.close()
        return [answer.choices[0].message.content for answer in together]

    together = asyncio.run(run())
    alone = [chat.create(model=MODEL, messages=MESSAGES, max_completion_tokens=8, temperature=1,
                         seed=seed).choices[0].message.content for seed in range(8)]
    assert together == alone, f"{together} and {alone}"


def openai_responses():
    fields = {"model": MODEL, "input": QUESTION, "max_output_tokens": 8, "temperature": 0}
    whole = client.responses.create(**fields)
    assert (whole.status, whole.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert whole.output_text and whole.usage.output_tokens == 8
    text, last = "", None
    for event in client.responses.create(**fields, stream=True):
        text += event.delta if event.type == "response.output_text.delta" else ""
        last = event
    assert (last.type, text) == ("response.incomplete", whole.output_text)
    talk = [{"role": "user", "content": QUESTION}, *[item.model_dump(exclude_none=True) for item in whole.output],
            {"role": "user", "content": "Go on."}]
    assert client.responses.create(**{**fields, "input": talk}).output_text is not None


# --- LangChain ----------------------------------------------------------------------------------


def langchain(**more):
    return ChatOpenAI(model=MODEL, base_url=f"{URL}/v1", api_key=KEY, temperature=0, max_tokens=12, max_retries=0,
                      timeout=PATIENCE_S, **more)


def langchain_invoke_and_stream():
    model = langchain()
    answer = model.invoke([("system", "Be brief."), ("human", QUESTION)])
    assert answer.content and answer.usage_metadata["output_tokens"] == 12
    assert answer.response_metadata["finish_reason"] == "length"
    chunks = list(model.stream([("system", "Be brief."), ("human", QUESTION)]))
    assert "".join(chunk.content for chunk in chunks) == answer.content
    assert len(chunks) > 3
    streamed = list(langchain(stream_usage=True).stream(QUESTION))
    assert sum(chunk.usage_metadata["output_tokens"] for chunk in streamed if chunk.usage_metadata) == 12
    assert [message.content for message in model.batch([QUESTION, QUESTION])] == [model.invoke(QUESTION).content] * 2


def langchain_with_tools_and_logprobs():
    def area(radius: float) -> float:
        """The area of a circle."""
        return 3 * radius * radius

    assert langchain().bind_tools([area]).invoke("What is the area of a circle of radius 2?") is not None
    answer = langchain(logprobs=True, top_logprobs=1).invoke(QUESTION)
    assert len(answer.response_metadata["logprobs"]["content"]) == 12


def langchain_embeddings():
    model = OpenAIEmbeddings(model=MODEL, base_url=f"{URL}/v1", api_key=KEY, check_embedding_ctx_length=False)
    assert [len(vector) for vector in model.embed_documents(["import os", "def f():"])] == [512, 512]


# --- anthropic ----------------------------------------------------------------------------------


def anthropic_messages():
    claude = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0, timeout=PATIENCE_S)
    # Some versions of the client have no temperature.
    greedy, random = {"extra_body": {"temperature": 0}}, {"extra_body": {"temperature": 1}}
    fields = {"model": MODEL, "max_tokens": 12, "system": "Be brief.", "messages": MESSAGES, **greedy}
    whole = claude.messages.create(**fields)
    assert (whole.type, whole.role, whole.stop_reason) == ("message", "assistant", "max_tokens")
    assert whole.content[0].type == "text" and whole.usage.output_tokens == 12
    with claude.messages.stream(**fields) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text == final.content[0].text
    assert (final.stop_reason, final.usage.output_tokens) == ("max_tokens", 12)
    expect(anthropic.BadRequestError, lambda: claude.messages.create(**{**fields, "max_tokens": 0}), status_code=400)
    expect(anthropic.NotFoundError, lambda: claude.messages.create(**{**fields, "model": "none"}), status_code=404)
    wrong = anthropic.Anthropic(base_url=URL, api_key="wrong", max_retries=0)
    expect(anthropic.AuthenticationError, lambda: wrong.messages.create(**fields), status_code=401)
    with claude.messages.stream(**{**fields, "max_tokens": 1900, **random}) as stream:
        for _ in stream.text_stream:
            break
    wait_until_idle()


# --- ollama -------------------------------------------------------------------------------------


def ollama_chat_and_generate():
    llama = ollama.Client(host=URL, headers={"Authorization": f"Bearer {KEY}"}, timeout=PATIENCE_S)
    assert [model.model for model in llama.list().models] == [MODEL]
    options = {"num_predict": 8, "temperature": 0}
    whole = llama.chat(model=MODEL, messages=MESSAGES, options=options)
    assert whole.done and whole.done_reason == "length" and whole.eval_count == 8
    fields = {"model": MODEL, "options": options}
    parts = llama.chat(**fields, messages=MESSAGES, stream=True)
    text = "".join(part.message.content for part in parts)
    assert text == whole.message.content
    assert llama.generate(**fields, prompt=QUESTION).response == text
    assert "".join(part.response for part in llama.generate(**fields, prompt=QUESTION, stream=True)) == text
    expect(ollama.ResponseError, lambda: llama.chat(model="none", messages=MESSAGES), status_code=404)
    expect(ollama.ResponseError, lambda: llama.chat(model=MODEL, messages=MESSAGES, options={"num_ctx": 1}),
           status_code=400)
    for _ in llama.chat(model=MODEL, messages=MESSAGES, options={"num_predict": 1900, "temperature": 2}, stream=True):
        break
    wait_until_idle()


def main():
    failed = 0
    for name, case in list(globals().items()):
        if not name.startswith(("openai_", "langchain_", "anthropic_", "ollama_")) or not callable(case):
            continue
        try:
            case()
            print(f"ok     {name}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED {name}: {traceback.format_exc(limit=-3)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
