"""Waiting in tasks: other tasks run meanwhile, and nothing is polled.

1. What waits does not receive: a task that is cancelled loses no message.
2. The loop waits for the consumer's descriptor, without a thread. When that is readable all tasks that wait for the consumer look,
   in turn; those that find nothing wait again.
"""

import asyncio
import itertools
import os

# Messages in a row before other tasks get their turn.
_TURN = 64

_received = itertools.count(1)


def _wake(woken):
    if not woken.done():
        woken.set_result(None)


async def _readable(consumer):
    loop = asyncio.get_running_loop()
    woken = loop.create_future()
    # Of its own: several tasks may wait for one consumer, and it may be closed meanwhile.
    with open(os.dup(consumer.fileno()), "rb", buffering=0) as descriptor:
        loop.add_reader(descriptor, _wake, woken)
        try:
            await woken
        finally:
            loop.remove_reader(descriptor)


async def receive(consumer):
    """The next message of a consumer of either sort."""
    if next(_received) % _TURN == 0:
        await asyncio.sleep(0)
    # In vain it arms the descriptor.
    while (message := consumer.try_recv()) is None:
        await _readable(consumer)
    return message


async def confirmed(confirmation):
    """The durability reached by what a confirmation stands for."""
    loop = asyncio.get_running_loop()
    while True:
        woken = loop.create_future()
        level = confirmation.poll(lambda: loop.call_soon_threadsafe(_wake, woken))
        if level is not None:
            return level
        await woken
