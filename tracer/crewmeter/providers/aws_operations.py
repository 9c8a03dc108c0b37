"""API calls of AWS's services for models, free of charge or running models."""

from __future__ import annotations

__all__ = ["BILLED_JOBS", "FREE_OPERATIONS"]

FREE_OPERATIONS = frozenset(
    [
        "CountTokens",
        "GetAsyncInvoke",
        "ListAsyncInvokes",
        "CreateSession",
        "CreateInvocation",
        "DeleteSession",
        "EndSession",
        "GetSession",
        "GetInvocationStep",
        "ListInvocationSteps",
        "ListInvocations",
        "ListSessions",
        "PutInvocationStep",
        "UpdateSession",
        "DeleteAgentMemory",
        "GetAgentMemory",
        "GetDocumentContent",
        "GetExecutionFlowSnapshot",
        "GetFlowExecution",
        "ListFlowExecutionEvents",
        "ListFlowExecutions",
        "StopFlowExecution",
        "ListTagsForResource",
        "TagResource",
        "UntagResource",
    ]
)
"""API calls of the run-time services that cost nothing."""
BILLED_JOBS: dict[str, frozenset[str]] = {
    "bedrock": frozenset(
        [
            "CreateModelInvocationJob",
            "CreateModelCustomizationJob",
            "CreateProvisionedModelThroughput",
            "CreateEvaluationJob",
        ]
    ),
    "bedrock-agent": frozenset(["StartIngestionJob"]),
    "bedrock-data-automation-runtime": frozenset(
        ["InvokeDataAutomation", "InvokeDataAutomationAsync"]
    ),
}
"""Services that mostly administrate → their API calls that run models."""
