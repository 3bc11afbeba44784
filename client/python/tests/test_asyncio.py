"""In tasks."""

import asyncio
import concurrent.futures
import resource
import selectors
import threading
import time

import pytest

import ringway


@pytest.fixture
def stream(connection):
    connection.declare_stream("orders")
    connection.declare_subscription("orders", "billing", start="first")
    connection.declare_queue("jobs")
    return connection


@pytest.mark.parametrize("open", [lambda c: c.consumer("orders", "billing"), lambda c: c.queue_consumer("jobs")])
def test_messages_come_to_a_task_while_others_run(stream, open):
    async def main():
        with open(stream) as consumer, stream.producer(consumer.stream) as producer:
            turns = 0

            async def other():
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0.01)

            async def send():
                for number in range(10):
                    await asyncio.sleep(0.02)
                    producer.send(b"%d" % number)
                producer.send_many([b"%d" % number for number in range(10, 500)])

            tasks = [asyncio.create_task(other()), asyncio.create_task(send())]
            got = []
            async for message in consumer:
                got.append(int(message.payload))
                if isinstance(message, ringway.Delivery):
                    message.ack()
                if len(got) == 500:
                    break
            assert sorted(got) == list(range(500)) and turns >= 10
            tasks[0].cancel()
            await tasks[1]

    asyncio.run(main())


@pytest.mark.parametrize("open", [lambda c: c.consumer("orders", "billing"), lambda c: c.queue_consumer("jobs")])
def test_a_task_that_is_cancelled_loses_no_message(stream, open):
    async def main():
        with open(stream) as consumer, stream.producer(consumer.stream) as producer:
            for _ in range(20):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(consumer), 0.01)
            producer.send(b"first")
            message = await asyncio.wait_for(anext(consumer), 5.0)
            assert message.payload == b"first"
            waiting = asyncio.create_task(anext(consumer))
            await asyncio.sleep(0.05)
            waiting.cancel()
            producer.send(b"second")
            await asyncio.sleep(0.2)
            assert consumer.recv(timeout=1.0).payload == b"second"

    asyncio.run(main())


def test_what_was_not_returned_to_a_task_is_not_consumed(stream):
    async def main():
        with stream.consumer("orders", "billing") as consumer, stream.producer("orders") as producer:
            waiting = asyncio.create_task(anext(consumer))
            await asyncio.sleep(0.05)
            waiting.cancel()
            producer.send(b"only")
            await asyncio.sleep(0.2)

    asyncio.run(main())
    with stream.consumer("orders", "billing") as consumer:
        assert consumer.recv(timeout=1.0).payload == b"only"


@pytest.mark.parametrize("open", [lambda c: c.consumer("orders", "billing"), lambda c: c.queue_consumer("jobs")])
def test_several_tasks_that_wait_for_one_consumer_all_get_messages_and_no_thread(stream, open):
    async def main():
        with open(stream) as consumer, stream.producer(consumer.stream) as producer:
            waiting = [asyncio.create_task(anext(consumer)) for _ in range(10)]
            await asyncio.sleep(0.05)
            assert threading.active_count() == 1
            waiting[3].cancel()
            for number in range(9):
                producer.send(b"%d" % number)
                await asyncio.sleep(0)
            got = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 20.0)
            assert isinstance(got.pop(3), asyncio.CancelledError)
            assert sorted(int(message.payload) for message in got) == list(range(9))

    asyncio.run(main())


@pytest.mark.parametrize("open", [lambda c: c.consumer("orders", "billing"), lambda c: c.queue_consumer("jobs")])
def test_a_consumer_is_waited_for_by_loops_of_several_threads_and_by_its_descriptor(stream, open):
    async def first(consumer):
        message = await anext(consumer)
        if isinstance(message, ringway.Delivery):
            message.ack()
        return int(message.payload)

    with open(stream) as consumer, stream.producer(consumer.stream) as producer:
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            waiting = [threads.submit(asyncio.run, first(consumer)) for _ in range(4)]
            for number in range(4):
                producer.send(b"%d" % number)
            assert sorted(future.result(20.0) for future in waiting) == list(range(4))
        with selectors.DefaultSelector() as selector:
            selector.register(consumer, selectors.EVENT_READ)
            # Once a second it is readable without a message.
            while selector.select(0):
                assert consumer.try_recv() is None
            producer.send(b"last")
            while (message := consumer.try_recv()) is None:
                assert selector.select(20)
            assert message.payload == b"last"


def test_confirms_are_awaited(stream):
    stream.declare_stream("payments", durability="synced")

    async def main():
        with stream.producer("payments") as producer, stream.producer("orders") as quick:
            quick.send(b"x")
            assert await quick.confirmed() == "memory"
            positions = [producer.send(b"42 EUR") for _ in range(10)]
            levels = await asyncio.gather(*(producer.confirmed(position) for position in positions))
            assert levels == ["synced"] * 10
            producer.send_many([b"1 EUR"] * 1000)
            assert await asyncio.wait_for(producer.confirmed(), 10.0) == "synced"

    asyncio.run(main())


def test_who_waits_learns_that_the_consumer_was_closed(stream):
    async def main():
        consumer = stream.consumer("orders", "billing")
        waiting = asyncio.create_task(anext(consumer))
        await asyncio.sleep(0.05)
        consumer.close()
        with pytest.raises(ValueError, match="closed"):
            await asyncio.wait_for(waiting, 20.0)

    asyncio.run(main())


def test_a_sleeping_task_takes_no_processor(stream):
    async def main():
        with stream.consumer("orders", "billing") as consumer, stream.queue_consumer("jobs") as worker:
            waiting = [asyncio.create_task(anext(consumer)), asyncio.create_task(anext(worker))]
            await asyncio.sleep(0.2)
            before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
            await asyncio.sleep(2.0)
            after = resource.getrusage(resource.RUSAGE_SELF)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            # A task that polled would take all of it; how little it is, bench.py prints.
            assert used < 0.5 * (time.monotonic() - began)
            for task in waiting:
                task.cancel()

    asyncio.run(main())
