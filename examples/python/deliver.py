"""Delivers events as workflows, and reads what is wrong with an event."""

import asyncio
import os
import sys
import uuid

from temporalio.client import Client, WorkflowFailureError
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError

ADDRESS = os.environ.get("TEMPORAL_ADDRESS", "localhost:7233")
TASK_QUEUE = os.environ.get("TEMPORAL_TASK_QUEUE", "analytics")


async def execute(client: Client, workflow: str, input: dict) -> dict:
    """Starts a workflow and waits for its output."""
    # With an id that the event has already, such as its order's, what is started
    # twice is sent once: the second start is an error, unless the first failed.
    return await client.execute_workflow(
        workflow,
        input,
        id=f"{workflow}/{uuid.uuid4()}",
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
        task_queue=TASK_QUEUE,
    )


def why(error: WorkflowFailureError) -> ApplicationError:
    """Why a workflow failed: its innermost cause."""
    cause = error.cause
    while not isinstance(cause, ApplicationError):
        if cause is None or cause.__cause__ is None:
            raise error
        cause = cause.__cause__
    return cause


async def main() -> None:
    client = await Client.connect(ADDRESS)

    output = await execute(
        client,
        "segment(analytics).Identify",
        {"identify": {"user_id": "u1", "traits": {"email": "ada@example.com"}}},
    )
    print("identify:", output["status"], output["response"]["status_code"])

    # What holds for all events, and the events; of any kinds. One that fails is
    # not the others' failure.
    batch = {
        "context": {"locale": "en-GB"},
        "inputs": [
            {"track": {"user_id": "u1", "event": "Order Completed", "properties": {"revenue": 42.5}}},
            {"track": {"user_id": "u1"}},
            {"page": {"user_id": "u2", "name": "Home"}},
        ],
    }
    output = await execute(client, "segment(analytics).Batch", batch)
    for outcome in output["outcomes"]:
        error = outcome.get("error")
        print("batch:", outcome["status"], error["message"] if error else "")

    try:
        await execute(client, "segment(analytics).Identify", {"identify": {"traits": {}}})
    except WorkflowFailureError as error:
        failure = why(error)
        # `ValidationError`, `RequestRejected`, `Timeout`, ...; see
        # docs/errors-and-retries.md. The first detail says everything.
        print("failure:", failure.type)
        for violation in failure.details[0]["violations"]:
            print("  ", violation["path"], violation["code"], "-", violation["message"])


asyncio.run(main())
# The SDK's own threads sometimes abort the interpreter while it ends.
sys.stdout.flush()
os._exit(0)
