"""The official `ollama` package from PyPI, unchanged."""

import os
import unittest

import ollama

CALL = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'


def add(a: int) -> int:
    """Adds.

    Args:
        a: The number.
    """
    return a


class Ollama(unittest.TestCase):
    def setUp(self):
        self.client = ollama.Client(host=os.environ["WOOTZ_URL"], headers={"authorization": "Bearer test-key-1234"})

    def test_chat(self):
        answer = self.client.chat("scripted", [{"role": "user", "content": "Hello"}], options={"temperature": 0, "seed": 1, "num_ctx": 99})
        self.assertEqual((answer.message.content, answer.done_reason, answer.eval_count), ("Hello", "stop", 5))
        self.assertGreater(answer.total_duration, 0)

    def test_stream(self):
        pieces = list(self.client.chat("scripted", [{"role": "user", "content": "Héllo"}], stream=True, keep_alive="5m"))
        self.assertEqual("".join(piece.message.content for piece in pieces), "Héllo")
        self.assertTrue(pieces[-1].done)

    def test_tools(self):
        for stream in (False, True):
            answer = self.client.chat("scripted", [{"role": "user", "content": CALL}], tools=[add], stream=stream)
            messages = [piece.message for piece in answer] if stream else [answer.message]
            calls = [call for message in messages for call in message.tool_calls or []]
            self.assertEqual((calls[0].function.name, dict(calls[0].function.arguments)), ("add", {"a": 1}))

    def test_thinking_and_format(self):
        answer = self.client.chat("scripted", [{"role": "user", "content": "<think>Hm.</think>Yes."}], think=True)
        self.assertEqual((answer.message.thinking, answer.message.content), ("Hm.", "Yes."))
        self.assertEqual(self.client.chat("scripted", [{"role": "user", "content": "{}"}], format="json").message.content, "{}")

    def test_generate(self):
        self.assertEqual(self.client.generate("scripted:latest", "Hello").response, "Hello")
        self.assertEqual(self.client.generate("scripted", "raw text", raw=True).response, "raw text")
        self.assertEqual("".join(p.response for p in self.client.generate("scripted", "abc", stream=True)), "abc")

    def test_embed(self):
        self.assertEqual(len(self.client.embed("vectors", ["red fox", "blue"]).embeddings[1]), 8)
        self.assertEqual(len(self.client.embeddings("vectors", "red fox").embedding), 8)

    def test_models(self):
        self.assertEqual([model.model for model in self.client.list().models], ["scripted", "vectors", "ranker"])
        self.assertEqual(len(self.client.ps().models), 3)
        self.assertIn("tools", self.client.show("scripted").capabilities)

    def test_errors(self):
        with self.assertRaises(ollama.ResponseError) as raised:
            self.client.chat("none", [{"role": "user", "content": "x"}])
        self.assertEqual(raised.exception.status_code, 404)
        with self.assertRaises(ollama.ResponseError) as raised:
            self.client.chat("scripted", [{"role": "user", "content": "x"}], options={"colour": 1})
        self.assertIn("options.colour", str(raised.exception))
        with self.assertRaises(ollama.ResponseError):
            self.client.pull("llama3")


if __name__ == "__main__":
    unittest.main()
