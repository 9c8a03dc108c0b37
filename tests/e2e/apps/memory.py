"""Memory on: its embeddings and its analysis calls are billed too."""

from common import URL, agent, crew, openai_llm, task

EMBEDDER = {
    "provider": "openai",
    "config": {
        "api_key": "sk-fake",
        "model_name": "text-embedding-3-small",
        "api_base": f"{URL}/v1",
    },
}


def main():
    llm = openai_llm()
    crew(
        task(agent("Keeper", llm), "Remember that the sky is blue."),
        memory=True,
        embedder=EMBEDDER,
        name="keepers",
    ).kickoff()
