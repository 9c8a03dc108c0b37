"""Memory on: its embeddings and its analysis calls are billed too."""

import os

from common import URL, agent, crew, openai_llm, task

os.environ["OPENAI_BASE_URL"] = os.environ["OPENAI_API_BASE"] = f"{URL}/v1"
EMBEDDER = {"provider": "openai", "config": {"api_key": "sk-standin", "model_name": "text-embedding-3-small", "api_base": f"{URL}/v1"}}


def main():
    llm = openai_llm()
    crew(task(agent("Keeper", llm), "Remember that the sky is blue."), memory=True, embedder=EMBEDDER, name="keepers").kickoff()
