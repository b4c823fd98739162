// The official packages from npm, unchanged: openai, @anthropic-ai/sdk, ollama.

import assert from "node:assert/strict";
import test from "node:test";

import Anthropic from "@anthropic-ai/sdk";
import { Ollama } from "ollama";
import OpenAI from "openai";

const url = process.env.WOOTZ_URL;
const key = "test-key-1234";
const call = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>';
const messages = (content) => [{ role: "user", content }];

const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const tools = [{ type: "function", function: { name: "add", parameters: { type: "object" } } }];

test("openai: chat, stream, tools", async () => {
  const answer = await openai.chat.completions.create({ model: "scripted", messages: messages("Hello") });
  assert.equal(answer.choices[0].message.content, "Hello");
  const stream = openai.chat.completions.stream({ model: "scripted", messages: messages("Sure." + call), tools });
  const final = await stream.finalMessage();
  assert.equal(final.content, "Sure.");
  assert.deepEqual(JSON.parse(final.tool_calls[0].function.arguments), { a: 1 });
});

test("openai: responses and embeddings", async () => {
  const answer = await openai.responses.create({ model: "scripted", input: "Hello" });
  assert.equal(answer.output_text, "Hello");
  const vectors = await openai.embeddings.create({ model: "vectors", input: ["red fox"] });
  assert.equal(vectors.data[0].embedding.length, 8);
});

test("openai: errors", async () => {
  const request = openai.chat.completions.create({ model: "scripted", messages: messages("x"), colour: 1 });
  await assert.rejects(request, (error) => error.status === 400 && error.param === "colour");
});

test("anthropic: message and stream", async () => {
  const anthropic = new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0 });
  const request = { model: "scripted", max_tokens: 100, messages: messages("Hello") };
  assert.equal((await anthropic.messages.create(request)).content[0].text, "Hello");
  const final = await anthropic.messages.stream(request).finalMessage();
  assert.equal(final.content[0].text, "Hello");
});

test("ollama: chat and stream", async () => {
  const ollama = new Ollama({ host: url, headers: { authorization: `Bearer ${key}` } });
  const answer = await ollama.chat({ model: "scripted", messages: messages("Hello") });
  assert.equal(answer.message.content, "Hello");
  let text = "";
  for await (const piece of await ollama.chat({ model: "scripted", messages: messages("abc"), stream: true })) {
    text += piece.message.content;
  }
  assert.equal(text, "abc");
});
