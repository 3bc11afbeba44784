"""What messages of 64 bytes cost in Python: client/python/test --bench.

In one process, so that nothing waits: 2,048 messages are published and then received, again and again, in processor time, so
that a busy machine disturbs little; and between two processes, by the clock. Printed are the medians of all turns, with the
lowest and the highest; and what a task takes that sleeps.
"""

import asyncio
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import ringway

PAYLOAD = bytes(64)
MESSAGES = 2048
LAPS = 20
TURNS = 15


def laps(publish, receive):
    """Messages in a second of processor time, published and received, in the median lap."""
    publishing, receiving = [], []
    for _ in range(LAPS):
        began = time.thread_time()
        publish()
        published = time.thread_time()
        receive()
        publishing.append(MESSAGES / (published - began))
        receiving.append(MESSAGES / (time.thread_time() - published))
    return statistics.median(publishing), statistics.median(receiving)


def cases(connection):
    producer, consumer = connection.producer("bench"), connection.consumer("bench", "s")
    jobs, worker = connection.producer("jobs"), connection.queue_consumer("jobs", prefetch=64)
    batch = [PAYLOAD] * 256

    def send():
        for _ in range(MESSAGES):
            producer.send(PAYLOAD)

    def recv():
        for _ in range(MESSAGES):
            consumer.recv().payload

    def send_many():
        for _ in range(MESSAGES // 256):
            producer.send_many(batch)

    def recv_many():
        count = 0
        while count < MESSAGES:
            count += len([message.payload for message in consumer.recv_many()])

    def queue():
        for _ in range(MESSAGES // 256):
            jobs.send_many(batch)

    def work():
        for _ in range(MESSAGES):
            worker.recv().ack()

    def work_many():
        count = 0
        while count < MESSAGES:
            got = worker.recv_many()
            worker.ack_many(got)
            count += len(got)

    yield "single: send", "single: recv", lambda: laps(send, recv)
    yield "batches: send_many", "batches: recv_many", lambda: laps(send_many, recv_many)
    yield None, "queue, single: recv and ack", lambda: laps(queue, work)
    yield None, "queue, batches: recv_many and ack_many", lambda: laps(queue, work_many)


def other_side(directory, count):
    with ringway.Connection(directory) as connection, connection.producer("across") as producer:
        batch = [PAYLOAD] * 256
        for _ in range(count // 256):
            producer.send_many(batch)


def across(connection, directory):
    """Messages in a second, from a process that publishes batches to one that receives batches."""
    count = 256 * 2000
    process = multiprocessing.get_context("spawn").Process(target=other_side, args=(directory, count))
    with connection.consumer("across", "s") as consumer:
        process.start()
        got = len(consumer.recv_many())
        began = time.perf_counter()
        first = got
        while got < count:
            got += len(consumer.recv_many())
        taken = time.perf_counter() - began
        process.join()
    return (count - first) / taken


def asleep(connection):
    """The share of a processor that a task takes which waits for a message."""

    async def main():
        with connection.consumer("asleep", "s") as consumer:
            waiting = asyncio.create_task(anext(consumer))
            await asyncio.sleep(0.5)
            began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
            await asyncio.sleep(5.0)
            after = resource.getrusage(resource.RUSAGE_SELF)
            waiting.cancel()
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            return used / (time.perf_counter() - began)

    return asyncio.run(main())


def show(name, rates):
    median = statistics.median(rates)
    print(f"{name:42} {median / 1e3:9,.0f} thousand/s ({min(rates) / 1e3:,.0f} to {max(rates) / 1e3:,.0f})")


def main():
    with tempfile.TemporaryDirectory() as directory:
        command = [os.environ["RINGWAY"], "serve", "--dir", directory]
        broker = subprocess.Popen(command, stdout=subprocess.PIPE)
        broker.stdout.readline()
        with ringway.Connection(directory) as connection:
            for name in "bench", "across", "asleep":
                connection.declare_stream(name)
                connection.declare_subscription(name, "s", start="first")
            connection.declare_queue("jobs")
            print(f"messages of 64 bytes, Python {sys.version.split()[0]}, {TURNS} turns: median (lowest to highest)")
            for publishing, receiving, measure in cases(connection):
                turns = [measure() for _ in range(TURNS)]
                if publishing:
                    show(publishing, [turn[0] for turn in turns])
                show(receiving, [turn[1] for turn in turns])
            show("between two processes, in batches", [across(connection, directory) for _ in range(3)])
            print(f"a task that waits takes {100 * asleep(connection):.2f} % of a processor")
            connection.stop_broker()
        broker.wait()


if __name__ == "__main__":
    main()
