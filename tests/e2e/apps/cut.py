"""A stream that breaks off: billed by the provider, its usage never seen here."""

from common import openai_llm


def main():
    try:
        openai_llm(stream=True, max_retries=0).call(
            "Tell a story. [[say:Once upon a time there was a meter that lost its way.]] [[cut:3]]"
        )
    # What it raises differs between versions; the books are the point.
    except Exception:  # noqa: BLE001
        return
