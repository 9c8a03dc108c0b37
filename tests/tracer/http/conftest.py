"""One fake provider for the whole area, and its address where Bedrock's clients look for it."""

from __future__ import annotations

import os
import warnings

import pytest
from support.http_recording import recording

from crewmeter_cost.demo.fake_provider import FakeProvider


@pytest.fixture(scope="session", autouse=True)
def clients():
    """CrewAI and the provider SDKs, imported once.

    Their own import warnings are not ours to fix.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import aiobotocore.session
        import azure.ai.inference.aio
        import botocore.session
        import crewai
        import google.genai

        return aiobotocore, azure, botocore, crewai, google


@pytest.fixture(scope="session")
def provider_server():
    """The fake provider, started once.

    Bedrock's clients find it through their own environment variables.
    """
    with FakeProvider() as server:
        names = {
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": server.url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "LITELLM_LOCAL_MODEL_COST_MAP": "true",
        }
        os.environ.update(names)
        yield server
        for name in names:
            del os.environ[name]


@pytest.fixture
def server(provider_server):
    """The fake provider with an empty billing log."""
    provider_server.billing_log.clear()
    return provider_server


@pytest.fixture
def seen():
    """The seam installed, and what it records."""
    with recording() as recorder:
        yield recorder
