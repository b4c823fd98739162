"""Other people's clients from PyPI, unchanged: `cohere` (ranking), `litellm`, `langchain-openai`."""

import os
import unittest

URL = os.environ["WOOTZ_URL"]
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would ask the network for prices
KEY = "test-key-1234"
CALL = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'


class Cohere(unittest.TestCase):
    DOCUMENTS = ["a blue whale", "the red fox", "red"]

    def check(self, answer):
        self.assertEqual([result.index for result in answer.results], [1, 2])
        self.assertEqual(answer.results[0].relevance_score, 1.0)

    def test_rerank(self):
        import cohere
        self.check(cohere.ClientV2(api_key=KEY, base_url=URL).rerank(
            model="ranker", query="red fox", documents=self.DOCUMENTS, top_n=2))

    def test_rerank_v1(self):
        import cohere
        self.check(cohere.Client(api_key=KEY, base_url=URL).rerank(
            model="ranker", query="red fox", documents=self.DOCUMENTS, top_n=2))


class LiteLlm(unittest.TestCase):
    def test_chat(self):
        import litellm
        messages = [{"role": "user", "content": "Hello"}]
        answer = litellm.completion(model="openai/scripted", messages=messages, api_base=URL + "/v1", api_key=KEY)
        self.assertEqual(answer.choices[0].message.content, "Hello")
        stream = litellm.completion(
            model="openai/scripted", messages=messages, api_base=URL + "/v1", api_key=KEY, stream=True)
        self.assertEqual("".join(chunk.choices[0].delta.content or "" for chunk in stream), "Hello")

    def test_anthropic(self):
        import litellm
        answer = litellm.completion(
            model="anthropic/scripted", messages=[{"role": "user", "content": "Hello"}], api_base=URL, api_key=KEY)
        self.assertEqual(answer.choices[0].message.content, "Hello")

    def test_embeddings(self):
        import litellm
        answer = litellm.embedding(model="openai/vectors", input=["red fox"], api_base=URL + "/v1", api_key=KEY)
        self.assertEqual(len(answer.data[0]["embedding"]), 8)


class LangChain(unittest.TestCase):
    def chat(self):
        from langchain_openai import ChatOpenAI
        return ChatOpenAI(model="scripted", base_url=URL + "/v1", api_key=KEY, temperature=0)

    def test_chat(self):
        self.assertEqual(self.chat().invoke("Hello").content, "Hello")
        self.assertEqual("".join(chunk.content for chunk in self.chat().stream("Hello")), "Hello")

    def test_tools(self):
        from langchain_core.tools import tool

        @tool
        def add(a: int) -> int:
            """Adds."""
            return a

        for options in ({}, {"strict": True}, {"parallel_tool_calls": False}):
            message = self.chat().bind_tools([add], **options).invoke(CALL)
            self.assertEqual((message.tool_calls[0]["name"], message.tool_calls[0]["args"]), ("add", {"a": 1}))

    def test_structured_output(self):
        from pydantic import BaseModel

        class Person(BaseModel):
            name: str

        self.assertEqual(self.chat().with_structured_output(Person).invoke('{"name": "Ada"}').name, "Ada")

    def test_embeddings(self):
        from langchain_openai import OpenAIEmbeddings
        embeddings = OpenAIEmbeddings(model="vectors", base_url=URL + "/v1", api_key=KEY, check_embedding_ctx_length=False)
        self.assertEqual(len(embeddings.embed_query("red fox")), 8)


if __name__ == "__main__":
    unittest.main()
