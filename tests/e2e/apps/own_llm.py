"""A model class of the user's own, which calls the provider's SDK itself."""

import openai
from common import URL, agent, crew, task
from crewai import BaseLLM


class Mine(BaseLLM):
    def call(self, messages, *args, **kwargs):
        text = (
            messages
            if isinstance(messages, str)
            else "\n".join(str(message["content"]) for message in messages)
        )
        with openai.OpenAI(base_url=f"{URL}/v1", api_key="sk-fake") as client:
            answer = client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": text}]
            )
        return answer.choices[0].message.content


def main():
    crew(
        task(agent(llm=Mine(model="mine")), "Say it your way. [[usage:in=610 read=128 out=61]]"),
        name="handmade",
    ).kickoff()
