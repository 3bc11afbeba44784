"""Waiting in tasks: other tasks run meanwhile, and nothing is polled.

1. A task that is cancelled loses no message: what waits does not receive, or what it has received is returned by the next
   call that receives.
2. Each consumer that is waited for has one thread, which sleeps until there is a message. It is asked again several times a
   second whether somebody still waits, so that a program that ends does not wait for it.
3. Confirms need no thread of their own: the client has one for all of them.
"""

import asyncio
import concurrent.futures
import weakref

# How long a thread waits for a message before it is asked again.
_WAIT = 0.5
# Messages in a row before other tasks get their turn.
_TURN = 64


class _Waiting:
    """The thread of one consumer, and how many messages were there at once."""

    def __init__(self):
        self.thread = concurrent.futures.ThreadPoolExecutor(1, "ringway-wait")
        self.wait = None
        self.in_turn = 0

    def begin(self, consumer):
        if self.wait is None or self.wait.done():
            self.wait = self.thread.submit(consumer._wait, _WAIT)
        return self.wait


_waiting: weakref.WeakKeyDictionary[object, _Waiting] = weakref.WeakKeyDictionary()


def _of(consumer):
    waiting = _waiting.get(consumer)
    if waiting is None:
        waiting = _waiting[consumer] = _Waiting()
        # The thread ends with its consumer.
        weakref.finalize(consumer, waiting.thread.shutdown, wait=False)
    return waiting


async def receive(consumer):
    """The next message of a consumer of either sort."""
    waiting = _of(consumer)
    waiting.in_turn += 1
    if waiting.in_turn >= _TURN:
        waiting.in_turn = 0
        await asyncio.sleep(0)
    while (message := consumer.try_recv()) is None:
        waiting.in_turn = 0
        # Shielded: a task that is cancelled leaves the wait to the next one.
        await asyncio.shield(asyncio.wrap_future(waiting.begin(consumer)))
    return message


def _wake(woken):
    if not woken.done():
        woken.set_result(None)


async def confirmed(confirmation):
    """The durability reached by what a confirmation stands for."""
    loop = asyncio.get_running_loop()
    while True:
        woken = loop.create_future()
        level = confirmation.poll(lambda: loop.call_soon_threadsafe(_wake, woken))
        if level is not None:
            return level
        await woken
