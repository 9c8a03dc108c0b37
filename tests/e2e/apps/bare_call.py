"""`LLM.call` on its own.

Plain, streamed, asynchronous, and with functions that CrewAI runs itself.
"""

import asyncio

from common import openai_llm

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
        },
    }
]


def main():
    openai_llm().call("Hello. [[usage:in=1000 read=400 out=300]]")
    openai_llm(stream=True).call("Hello, stream. [[usage:in=900 out=200]]")
    asyncio.run(openai_llm().acall("Hello, async. [[usage:in=800 out=100]]"))
    message = [{"role": "user", "content": 'Add. [[tool:add {"a": 1}]] [[usage:in=700 out=50]]'}]
    openai_llm().call(message, tools=TOOLS, available_functions={"add": lambda a: a + 1})
