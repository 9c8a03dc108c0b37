"""A client that times out: the request may have been billed, and nobody here can know."""

from common import openai_llm


def main():
    try:
        openai_llm(timeout=0.3, max_retries=0).call("Take your time. [[slow:0.8]]")
    # What it raises differs between versions; the books are the point.
    except Exception:  # noqa: BLE001
        import time

        time.sleep(0.8)
