// The official OpenAI client for JavaScript against a server of tests/http_clients.py: node clients.mjs URL KEY MODEL
import assert from "node:assert/strict";
import OpenAI from "openai";

const [url, apiKey, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0, timeout: 300_000 });
const messages = [{ role: "user", content: "Write a Python function to check whether a number is prime." }];
const endless = { model, messages, max_completion_tokens: 1900, temperature: 2, stream: true };

async function collect(stream) {
  let text = "", finish = null, usage = null, chunks = 0;
  for await (const chunk of stream) {
    chunks++;
    text += chunk.choices[0]?.delta?.content ?? chunk.choices[0]?.text ?? "";
    finish = chunk.choices[0]?.finish_reason ?? finish;
    usage = chunk.usage ?? usage;
  }
  return { text, finish, usage, chunks };
}

async function untilIdle() {
  for (let i = 0; i < 3000; i++) {
    const runtime = await client.get("/runtime");
    if (runtime.running === 0 && runtime.queued === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.fail("the request still runs");
}

const cases = {
  async models() {
    const ids = [];
    for await (const one of client.models.list()) ids.push(one.id);
    assert.deepEqual(ids, [model]);
    assert.equal((await client.models.retrieve(model)).id, model);
  },

  async chat_and_usage() {
    const answer = await client.chat.completions.create({ model, messages, max_completion_tokens: 8, temperature: 0 });
    assert.equal(answer.object, "chat.completion");
    assert.equal(answer.choices[0].message.role, "assistant");
    assert.ok(answer.choices[0].message.content);
    assert.equal(answer.choices[0].finish_reason, "length");
    assert.equal(answer.usage.completion_tokens, 8);
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + 8);
    assert.equal(answer.id, `chatcmpl-${answer._request_id}`);
  },

  async streaming() {
    const fields = { model, messages, max_completion_tokens: 16, temperature: 0 };
    const whole = await client.chat.completions.create(fields);
    const got = await collect(
      await client.chat.completions.create({ ...fields, stream: true, stream_options: { include_usage: true } }));
    assert.equal(got.text, whole.choices[0].message.content);
    assert.equal(got.finish, "length");
    assert.equal(got.usage.total_tokens, whole.usage.total_tokens);
    assert.ok(got.chunks > 3);
    const runner = client.chat.completions.stream(fields);
    let said = "";
    runner.on("content", (delta) => (said += delta));
    assert.equal(await runner.finalContent(), said);
    assert.equal(said, got.text);
  },

  async completion_logprobs_stop() {
    const fields = { model, prompt: "import os", max_tokens: 12, temperature: 0 };
    const plain = await client.completions.create({ ...fields, logprobs: 2 });
    const { text, logprobs } = plain.choices[0];
    assert.equal(logprobs.tokens.join(""), text);
    assert.equal(logprobs.top_logprobs.length, logprobs.tokens.length);
    const stop = text.slice(4, 7);
    const stopped = await client.completions.create({ ...fields, stop });
    assert.equal(stopped.choices[0].text, text.slice(0, text.indexOf(stop)));
    assert.equal(stopped.choices[0].finish_reason, "stop");
    const chat = await client.chat.completions.create(
      { model, messages, max_completion_tokens: 4, temperature: 0, logprobs: true, top_logprobs: 2 });
    const content = chat.choices[0].logprobs.content;
    assert.equal(content.length, 4);
    assert.ok(content.every((token) => token.top_logprobs.length === 2 && token.logprob <= 0));
  },

  async n_and_seed() {
    const fields = { model, messages, max_completion_tokens: 10, temperature: 2 };
    const three = await client.chat.completions.create({ ...fields, seed: 70, n: 3 });
    const texts = three.choices.map((choice) => choice.message.content);
    assert.ok(new Set(texts).size > 1);
    for (let i = 0; i < 3; i++) {
      const one = await client.chat.completions.create({ ...fields, seed: 70 + i });
      assert.equal(one.choices[0].message.content, texts[i]);
    }
  },

  async embeddings() {
    // The client asks for base64 by itself.
    const input = ["import os", "def f():"];
    const encoded = await client.embeddings.create({ model, input });
    const plain = await client.embeddings.create({ model, input, encoding_format: "float" });
    assert.equal(encoded.data.length, 2);
    for (let i = 0; i < 2; i++)
      assert.deepEqual(Array.from(encoded.data[i].embedding), Array.from(plain.data[i].embedding, Math.fround));
  },

  async errors() {
    const refuse = async (type, wanted, promise) => {
      const error = await promise.then(() => assert.fail("not refused"), (reason) => reason);
      assert.ok(error instanceof type, `${error}`);
      for (const [name, value] of Object.entries(wanted)) assert.equal(error[name], value);
    };
    const create = (fields, options) => client.chat.completions.create({ model, messages, ...fields }, options);
    await refuse(OpenAI.BadRequestError, { status: 400, param: "temperature", code: "invalid_request" },
      create({ temperature: 9 }));
    await refuse(OpenAI.BadRequestError, { param: "no_such_field" }, create({ no_such_field: 1 }));
    await refuse(OpenAI.NotFoundError, { status: 404, code: "model_not_found" }, create({ model: "none" }));
    await refuse(OpenAI.BadRequestError, { code: "context_length_exceeded" },
      client.completions.create({ model, prompt: "a b ".repeat(2000) }));
    await refuse(OpenAI.AuthenticationError, { status: 401, code: "invalid_api_key" },
      new OpenAI({ baseURL: `${url}/v1`, apiKey: "wrong", maxRetries: 0 }).models.list());
  },

  async cancellation() {
    const left = await client.chat.completions.create(endless);
    for await (const chunk of left) if (chunk.choices[0].delta.content) break;
    await untilIdle();
    const aborted = await client.chat.completions.create(endless);
    for await (const chunk of aborted) if (chunk.choices[0].delta.content) aborted.controller.abort();
    await untilIdle();
  },

  async responses() {
    const fields = { model, input: messages[0].content, max_output_tokens: 8, temperature: 0 };
    const whole = await client.responses.create(fields);
    assert.equal(whole.status, "incomplete");
    assert.ok(whole.output_text);
    let text = "", last = null;
    for await (const event of await client.responses.create({ ...fields, stream: true })) {
      if (event.type === "response.output_text.delta") text += event.delta;
      last = event;
    }
    assert.equal(last.type, "response.incomplete");
    assert.equal(text, whole.output_text);
  },
};

let failed = 0;
for (const [name, run] of Object.entries(cases)) {
  try {
    await run();
    console.log(`ok     openai (JavaScript) ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAILED openai (JavaScript) ${name}: ${error.stack}`);
  }
}
process.exit(failed ? 1 : 0);
