"""A knowledge source: embedded once when loaded, once when queried."""

from common import URL, agent, crew, task
from crewai.knowledge.source.string_knowledge_source import StringKnowledgeSource

EMBEDDER = {
    "provider": "openai",
    "config": {
        "api_key": "sk-fake",
        "model_name": "text-embedding-3-small",
        "api_base": f"{URL}/v1",
    },
}


def main():
    source = StringKnowledgeSource(content="The meter counts every token once.")
    crew(
        task(agent("Reader"), "What does the meter count?"),
        knowledge_sources=[source],
        embedder=EMBEDDER,
        name="readers",
    ).kickoff()
