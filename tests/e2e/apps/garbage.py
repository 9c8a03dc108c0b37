"""A billed answer (HTTP 200) that fails validation here."""

from common import openai_llm
from pydantic import BaseModel


class Verdict(BaseModel):
    title: str
    score: int


def main():
    try:
        openai_llm().call("Judge. [[garbage]] [[usage:in=500 out=40]]", response_model=Verdict)
    # What it raises differs between versions; the books are the point.
    except Exception:  # noqa: BLE001
        return
