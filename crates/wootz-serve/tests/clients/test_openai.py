"""The official `openai` package from PyPI, unchanged. The scripted model says again what the user said last."""

import json
import os
import unittest

import openai
from pydantic import BaseModel

CALL = '<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>'
TOOLS = [{"type": "function", "function": {
    "name": "add", "description": "Adds.",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}}}]


def user(text):
    return [{"role": "user", "content": text}]


class Person(BaseModel):
    name: str
    age: int


class OpenAI(unittest.TestCase):
    def setUp(self):
        self.client = openai.OpenAI(base_url=os.environ["WOOTZ_URL"] + "/v1", api_key="test-key-1234", max_retries=0)
        self.addCleanup(self.client.close)

    def test_chat(self):
        answer = self.client.chat.completions.create(
            model="scripted", messages=user("Hello"), temperature=0, seed=1, user="me", metadata={"a": "b"}, store=False)
        self.assertEqual(answer.choices[0].message.content, "Hello")
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        self.assertEqual(answer.usage.completion_tokens, 5)

    def test_stream(self):
        stream = self.client.chat.completions.create(
            model="scripted", messages=user("Héllo ∑"), stream=True, stream_options={"include_usage": True})
        chunks = list(stream)
        self.assertEqual("".join(c.choices[0].delta.content or "" for c in chunks if c.choices), "Héllo ∑")
        self.assertEqual(chunks[-1].usage.completion_tokens, 7)

    def test_stream_helper(self):
        with self.client.chat.completions.stream(model="scripted", messages=user(CALL), tools=TOOLS) as stream:
            kinds = {event.type for event in stream}
            final = stream.get_final_completion()
        self.assertIn("tool_calls.function.arguments.done", kinds)
        self.assertEqual(json.loads(final.choices[0].message.tool_calls[0].function.arguments), {"a": 1, "b": 2})

    def test_tools_there_and_back(self):
        messages = user("Sure." + CALL + CALL)
        answer = self.client.chat.completions.create(model="scripted", messages=messages, tools=TOOLS)
        message = answer.choices[0].message
        self.assertEqual(answer.choices[0].finish_reason, "tool_calls")
        self.assertEqual((message.content, len(message.tool_calls)), ("Sure.", 2))
        messages.append(message)
        for call in message.tool_calls:
            messages.append({"role": "tool", "tool_call_id": call.id, "content": "3"})
        messages += user("Thanks")
        answer = self.client.chat.completions.create(model="scripted", messages=messages, tools=TOOLS)
        self.assertEqual(answer.choices[0].message.content, "Thanks")

    def test_named_tool(self):
        answer = self.client.chat.completions.create(
            model="scripted", messages=user('{"name": "add", "parameters": {"a": 1}}'), tools=TOOLS,
            tool_choice={"type": "function", "function": {"name": "add"}})
        self.assertEqual(answer.choices[0].message.tool_calls[0].function.name, "add")

    def test_strict_tools(self):
        class Add(BaseModel):
            a: int
            b: int

        call = '<tool_call>{"name": "Add", "arguments": {"a": 1, "b": 2}}</tool_call>'
        answer = self.client.chat.completions.parse(
            model="scripted", messages=user("Sure." + call), tools=[openai.pydantic_function_tool(Add)],
            parallel_tool_calls=False)
        message = answer.choices[0].message
        self.assertEqual((message.content, message.tool_calls[0].function.parsed_arguments), ("Sure.", Add(a=1, b=2)))

    def test_structured_output_with_pydantic(self):
        answer = self.client.chat.completions.parse(
            model="scripted", messages=user('{"name": "Ada", "age": 36}'), response_format=Person)
        self.assertEqual(answer.choices[0].message.parsed, Person(name="Ada", age=36))

    def test_reasoning(self):
        answer = self.client.chat.completions.create(model="scripted", messages=user("<think>Hm.</think>Yes."))
        self.assertEqual(answer.choices[0].message.content, "Yes.")
        self.assertEqual(answer.choices[0].message.reasoning_content, "Hm.")

    def test_logprobs(self):
        answer = self.client.chat.completions.create(model="scripted", messages=user("ab"), logprobs=True, top_logprobs=2)
        self.assertEqual([t.token for t in answer.choices[0].logprobs.content], ["a", "b"])

    def test_completions(self):
        answer = self.client.completions.create(model="scripted", prompt=["one", "two"], max_tokens=10, echo=True)
        self.assertEqual([c.text for c in answer.choices], ["oneone", "twotwo"])
        stream = self.client.completions.create(model="scripted", prompt="abc", stream=True)
        self.assertEqual("".join(c.choices[0].text for c in stream), "abc")

    def test_embeddings(self):
        answer = self.client.embeddings.create(model="vectors", input=["red fox", "blue"])  # base64 by default
        self.assertEqual(len(answer.data[1].embedding), 8)
        plain = self.client.embeddings.create(model="vectors", input="red fox", encoding_format="float", dimensions=4)
        self.assertEqual(len(plain.data[0].embedding), 4)

    def test_models(self):
        self.assertEqual([m.id for m in self.client.models.list()], ["scripted", "vectors", "ranker"])
        self.assertEqual(self.client.models.retrieve("vectors").id, "vectors")

    def test_errors(self):
        with self.assertRaises(openai.NotFoundError):
            self.client.chat.completions.create(model="none", messages=user("x"))
        with self.assertRaises(openai.BadRequestError) as raised:
            self.client.chat.completions.create(model="scripted", messages=user("x"), extra_body={"colour": 1})
        self.assertEqual(raised.exception.param, "colour")
        with self.assertRaises(openai.AuthenticationError):
            self.client.with_options(api_key="wrong").models.list()

    def test_responses(self):
        answer = self.client.responses.create(model="scripted", input="Hello", instructions="Be brief.")
        self.assertEqual(answer.output_text, "Hello")
        self.assertEqual(answer.status, "completed")
        with self.client.responses.stream(model="scripted", input=user("Streamed")) as stream:
            text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
            self.assertEqual(text, stream.get_final_response().output_text)
        self.assertEqual(text, "Streamed")

    def test_responses_with_tools(self):
        tools = [{"type": "function", "name": "add", "parameters": TOOLS[0]["function"]["parameters"], "strict": True}]
        answer = self.client.responses.create(model="scripted", input=CALL, tools=tools, parallel_tool_calls=False)
        call = answer.output[0]
        self.assertEqual((call.type, call.name, json.loads(call.arguments)), ("function_call", "add", {"a": 1, "b": 2}))
        following = [*answer.output, {"type": "function_call_output", "call_id": call.call_id, "output": "3"},
                     {"role": "user", "content": "Thanks"}]
        self.assertEqual(self.client.responses.create(model="scripted", input=following, tools=tools).output_text, "Thanks")

    def test_responses_parsed(self):
        answer = self.client.responses.parse(model="scripted", input='{"name": "Ada", "age": 36}', text_format=Person)
        self.assertEqual(answer.output_parsed, Person(name="Ada", age=36))

    def test_batches(self):
        lines = [{"custom_id": str(i), "method": "POST", "url": "/v1/chat/completions",
                  "body": {"model": "scripted", "messages": user(f"say {i}")}} for i in range(5)]
        lines[3]["body"]["colour"] = 1
        content = "\n".join(json.dumps(line) for line in lines).encode()
        file = self.client.files.create(file=("batch.jsonl", content), purpose="batch")
        batch = self.client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"who": "me"})
        import time
        for _ in range(200):
            batch = self.client.batches.retrieve(batch.id)
            if batch.status == "completed":
                break
            time.sleep(0.05)
        self.assertEqual((batch.status, batch.request_counts.completed, batch.request_counts.failed), ("completed", 4, 1))
        done = [json.loads(line) for line in self.client.files.content(batch.output_file_id).text.splitlines()]
        said = {line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"] for line in done}
        self.assertEqual(said, {str(i): f"say {i}" for i in (0, 1, 2, 4)})
        failed = json.loads(self.client.files.content(batch.error_file_id).text)
        self.assertEqual(failed["custom_id"], "3")
        self.assertIn(batch.id, [b.id for b in self.client.batches.list()])
        self.assertTrue(self.client.files.delete(file.id).deleted)


if __name__ == "__main__":
    unittest.main()
