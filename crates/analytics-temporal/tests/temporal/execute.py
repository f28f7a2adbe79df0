"""Executes workflows, [[name, input], ...] on stdin; their outputs on stdout."""

import asyncio
import json
import os
import sys
import uuid

from temporalio.client import Client


async def main(address: str, task_queue: str) -> None:
    client = await Client.connect(address)
    outputs = {}
    for name, input in json.load(sys.stdin):
        outputs[name] = await client.execute_workflow(
            name, input, id=f"python-{uuid.uuid4()}", task_queue=task_queue
        )
    json.dump(outputs, sys.stdout)


asyncio.run(main(*sys.argv[1:]))
# The SDK's own threads sometimes abort the interpreter while it ends.
sys.stdout.flush()
os._exit(0)
