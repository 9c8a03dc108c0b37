"""The newest bare SDKs, without CrewAI: each way of calling a model once.

    python newest_sdks.py WAY     with PROVIDER_URL, and CREWMETER_LEDGER for the meter

Standard library, crewmeter and the SDKs only.
"""

import asyncio
import os
import sys

URL = os.environ["PROVIDER_URL"]
USAGE = "[[usage:in=1000 read=400 out=300 reasoning=120]]"
PLAIN = "[[usage:in=1000 read=400 out=300]]"
WRITTEN = "[[usage:in=1000 read=400 w5m=200 w1h=50 out=300]]"
MODEL = "gpt-4o-mini"
MESSAGES = [{"role": "user", "content": f"Hello {USAGE}"}]
CLAUDE = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 900,
    "messages": [{"role": "user", "content": f"Hello {WRITTEN}"}],
}
GEMINI = {"model": "gemini-2.5-flash", "contents": f"Hello {USAGE}"}
MISTRAL = {
    "model": "mistral-large-latest",
    "messages": [{"role": "user", "content": f"Hello {PLAIN}"}],
}
STREAMED = {"stream": True, "stream_options": {"include_usage": True}}


def openai_sync():
    import openai

    client = openai.OpenAI(base_url=f"{URL}/v1", api_key="sk-fake")
    client.chat.completions.create(model=MODEL, messages=MESSAGES)
    for _ in client.chat.completions.create(model=MODEL, messages=MESSAGES, **STREAMED):
        pass
    client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES).parse()
    client.responses.create(model=MODEL, input=f"Hello {USAGE}")
    with client.responses.stream(model=MODEL, input=f"Hello {USAGE}") as stream:
        stream.get_final_response()
    client.embeddings.create(model="text-embedding-3-small", input=["Hello", "you"])


def openai_async():
    import openai

    async def main():
        async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key="sk-fake") as client:
            await asyncio.gather(
                *(client.chat.completions.create(model=MODEL, messages=MESSAGES) for _ in range(3))
            )
            stream = await client.chat.completions.create(
                model=MODEL, messages=MESSAGES, **STREAMED
            )
            async for _ in stream:
                pass
            await client.responses.create(model=MODEL, input=f"Hello {USAGE}")
            await client.embeddings.create(model="text-embedding-3-small", input="Hello")

    asyncio.run(main())


def openai_background():
    import openai

    client = openai.OpenAI(base_url=f"{URL}/v1", api_key="sk-fake")
    response = client.responses.create(model=MODEL, input=f"Hello {USAGE}", background=True)
    while response.status in ("queued", "in_progress"):
        response = client.responses.retrieve(response.id)


def openai_bedrock():
    """botocore signs these requests, and its urllib3 fetches credentials; httpx2 sends them."""
    from openai import BedrockOpenAI

    client = BedrockOpenAI(
        base_url=f"{URL}/v1",
        aws_region="us-east-1",
        aws_access_key_id="fake",
        aws_secret_access_key="fake",
    )
    client.responses.create(model=MODEL, input=f"Hello {USAGE}")
    client.chat.completions.create(model=MODEL, messages=MESSAGES)


def anthropic_sync():
    import anthropic

    client = anthropic.Anthropic(base_url=URL, api_key="fake")
    client.messages.create(**CLAUDE)
    with client.messages.stream(**CLAUDE) as stream:
        stream.get_final_message()
    for _ in client.messages.create(**CLAUDE, stream=True):
        pass


def anthropic_async():
    import anthropic

    async def main():
        async with anthropic.AsyncAnthropic(base_url=URL, api_key="fake") as client:
            await client.messages.create(**CLAUDE)
            async with client.messages.stream(**CLAUDE) as stream:
                await stream.get_final_message()

    asyncio.run(main())


def _gemini():
    from google import genai

    return genai.Client(api_key="fake", http_options={"base_url": URL})


def gemini_sync():
    client = _gemini()
    client.models.generate_content(**GEMINI)
    for _ in client.models.generate_content_stream(**GEMINI):
        pass


def gemini_async():
    async def main():
        client = _gemini()
        await client.aio.models.generate_content(**GEMINI)
        async for _ in await client.aio.models.generate_content_stream(**GEMINI):
            pass

    asyncio.run(main())


def _mistral():
    from mistralai.client import Mistral

    return Mistral(api_key="fake", server_url=f"{URL}/at/mistral_ai")


def mistral_sync():
    client = _mistral()
    client.chat.complete(**MISTRAL)
    with client.chat.stream(**MISTRAL) as stream:
        for _ in stream:
            pass


def mistral_async():
    async def main():
        client = _mistral()
        await client.chat.complete_async(**MISTRAL)
        async with await client.chat.stream_async(**MISTRAL) as stream:
            async for _ in stream:
                pass

    asyncio.run(main())


def mcp_tool():
    """An MCP tool over HTTP, then an embedding: MCP's own requests are no calls of a model."""
    import socket
    import threading

    import openai
    import uvicorn
    from mcp import Client
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("files")

    @server.tool()
    def lookup(q: str) -> str:
        """Look something up."""
        return f"found {q}"

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        web = uvicorn.Server(
            uvicorn.Config(server.streamable_http_app(), log_level="error", ws="none")
        )
        thread = threading.Thread(target=web.run, args=([listening],), daemon=True)
        thread.start()

        async def main():
            async with Client(f"http://127.0.0.1:{port}/mcp") as client:
                await client.call_tool("lookup", {"q": "why"})

        asyncio.run(main())
        openai.OpenAI(base_url=f"{URL}/v1", api_key="sk-fake").embeddings.create(
            model="text-embedding-3-small", input="Hello"
        )
        web.should_exit = True
        thread.join(10)


def aliased():
    """A migrating app: whatever imports httpx gets httpx2."""
    import httpx2

    httpx2.alias_httpx()
    import httpx

    assert httpx is httpx2
    openai_sync()


if __name__ == "__main__":
    import crewmeter

    handle = crewmeter.instrument(summary=False)
    # Without CrewAI an app says what is to be booked: a call outside such a block is nobody's.
    with crewmeter.attribute(user="ada"):
        globals()[sys.argv[1]]()
    assert handle.flush(60)
