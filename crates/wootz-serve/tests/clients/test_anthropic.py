"""The official `anthropic` package from PyPI, unchanged."""

import os
import unittest

import anthropic

CALL = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
TOOLS = [{"name": "add", "description": "Adds.", "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}]


def user(text):
    return [{"role": "user", "content": text}]


class Anthropic(unittest.TestCase):
    def setUp(self):
        self.client = anthropic.Anthropic(base_url=os.environ["WOOTZ_URL"], api_key="test-key-1234", max_retries=0)
        self.addCleanup(self.client.close)

    def ask(self, text, **more):
        return self.client.messages.create(model="scripted", max_tokens=200, messages=user(text), **more)

    def test_message(self):
        message = self.ask("Hello", system="Be brief.", metadata={"user_id": "me"}, extra_body={"temperature": 0.5})
        self.assertEqual((message.content[0].text, message.stop_reason), ("Hello", "end_turn"))
        self.assertEqual(message.usage.output_tokens, 5)

    def test_ends(self):
        message = self.ask("one two three", stop_sequences=["two"])
        self.assertEqual((message.content[0].text, message.stop_reason, message.stop_sequence), ("one ", "stop_sequence", "two"))
        message = self.client.messages.create(model="scripted", max_tokens=3, messages=user("abcdef"))
        self.assertEqual((message.content[0].text, message.stop_reason), ("abc", "max_tokens"))

    def test_tools_there_and_back(self):
        message = self.ask("Sure." + CALL, tools=TOOLS)
        self.assertEqual([b.type for b in message.content], ["text", "tool_use"])
        self.assertEqual((message.content[1].input, message.stop_reason), ({"a": 1}, "tool_use"))
        messages = user("x") + [{"role": "assistant", "content": message.content}, {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": message.content[1].id, "content": "2"},
            {"type": "text", "text": "Thanks", "cache_control": {"type": "ephemeral"}}]}]
        answer = self.client.messages.create(model="scripted", max_tokens=99, messages=messages, tools=TOOLS)
        self.assertEqual(answer.content[0].text, "Thanks")

    def test_forced_tool(self):
        message = self.ask('{"name": "add", "parameters": {"a": 1}}', tools=TOOLS, tool_choice={"type": "tool", "name": "add"})
        self.assertEqual(message.content[0].input, {"a": 1})

    def test_strict_tool(self):
        message = self.ask("Sure." + CALL, tools=[{**TOOLS[0], "strict": True}],
                           tool_choice={"type": "auto", "disable_parallel_tool_use": True})
        self.assertEqual((message.content[0].text, message.content[1].input), ("Sure.", {"a": 1}))

    def test_stream(self):
        with self.client.messages.stream(
                model="scripted", max_tokens=200, tools=TOOLS, messages=user("<think>Hm.</think>Sure." + CALL)) as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_message()
        self.assertEqual([b.type for b in final.content], ["thinking", "text", "tool_use"])
        self.assertEqual((final.content[0].thinking, final.content[1].text, final.content[2].input), ("Hm.", "Sure.", {"a": 1}))
        self.assertEqual((final.stop_reason, kinds[0], kinds[-1]), ("tool_use", "message_start", "message_stop"))
        self.assertGreater(final.usage.input_tokens, 10)

    def test_count_tokens(self):
        self.assertEqual(self.client.messages.count_tokens(model="scripted", messages=user("Hello")).input_tokens, 5)

    def test_errors(self):
        with self.assertRaises(anthropic.BadRequestError) as raised:
            self.ask("x", extra_body={"colour": 1})
        self.assertIn("colour", raised.exception.body["error"]["message"])
        with self.assertRaises(anthropic.NotFoundError):
            self.client.messages.create(model="none", max_tokens=9, messages=user("x"))
        with self.assertRaises(anthropic.AuthenticationError):
            self.client.with_options(api_key="wrong").messages.create(model="scripted", max_tokens=9, messages=user("x"))


if __name__ == "__main__":
    unittest.main()
