"""A worker with a workflow of its own, which delivers events on the way.

The integrations are on another worker and another task queue, and in another
language: their names and JSON are all that this one knows of them.
"""

import asyncio
import os
import sys
import uuid
from dataclasses import dataclass
from datetime import timedelta

from temporalio import workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy, WorkflowIDReusePolicy
from temporalio.worker import Worker

ADDRESS = os.environ.get("TEMPORAL_ADDRESS", "localhost:7233")
# Where the integrations are.
ANALYTICS = os.environ.get("TEMPORAL_TASK_QUEUE", "analytics")


@dataclass
class Order:
    id: str
    user_id: str
    revenue: float
    # A workflow reads nothing of its environment: it would not replay.
    analytics: str


@workflow.defn
class Checkout:
    @workflow.run
    async def run(self, order: Order) -> str:
        # ... the payment and the parcel, and then:
        completed = {
            "context": {"message_id": order.id},
            "track": {
                "user_id": order.user_id,
                "event": "Order Completed",
                "properties": {"revenue": order.revenue},
            },
        }
        # As a child, with the time-outs and retries that the integration is
        # configured with.
        output = await workflow.execute_child_workflow(
            "segment(analytics).Track",
            completed,
            id=f"segment(analytics).Track/{order.id}",
            task_queue=order.analytics,
            # An order that is checked out twice is one event, unless the first
            # has failed. A child that has succeeded is then an error here.
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
        )
        # Or as an activity, which costs one workflow less; the time-out and the
        # retries are then this workflow's. The activity validates by itself. It is
        # on the integration's own task queue, where it waits for its turn.
        await workflow.execute_activity(
            "segment(analytics).Identify.Request",
            {"identify": {"user_id": order.user_id, "traits": {"customer": True}}},
            task_queue=f"{order.analytics}/segment",
            start_to_close_timeout=timedelta(minutes=1),
            # How often a worker has to say that it lives.
            heartbeat_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(maximum_attempts=10),
        )
        return output["status"]


async def main() -> None:
    client = await Client.connect(ADDRESS)
    # Nobody else's: two runs of this example do not meet.
    task_queue = f"checkout-{uuid.uuid4()}"
    async with Worker(client, task_queue=task_queue, workflows=[Checkout]):
        order = Order(f"order-{uuid.uuid4()}", "u1", 42.5, ANALYTICS)
        status = await client.execute_workflow(
            Checkout.run, order, id=f"checkout/{order.id}", task_queue=task_queue
        )
    print("checkout:", status)


if __name__ == "__main__":
    asyncio.run(main())
    # The SDK's own threads sometimes abort the interpreter while it ends.
    sys.stdout.flush()
    os._exit(0)
