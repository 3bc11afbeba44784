"""Administration, confirms, and what becomes of a program whose broker ends."""

import os
import signal
import subprocess
import sys
import time

import pytest

import ringway


def test_streams_and_subscriptions_are_what_they_were_declared_as(connection, broker):
    assert connection.directory == broker.directory and connection.broker_pid > 0 and connection.is_open
    declared = connection.declare_stream(
        "a", partitions=2, slots=64, slot_bytes=256, payload_bytes_max=1000, exclusive_producer=True, overflow="detach", detach_after=1.5
    )
    assert (declared.name, declared.kind, declared.partitions, declared.slots) == ("a", "topic", 2, 64)
    assert (declared.slot_bytes, declared.payload_bytes_max, declared.exclusive_producer) == (256, 1000, True)
    assert (declared.overflow, declared.detach_after, declared.durability) == ("detach", 1.5, "memory")
    connection.declare_queue("q", lease=5.0, backoff=0.1, backoff_multiplier=1.5, durability="written")
    assert [(stream.name, stream.kind) for stream in connection.streams()] == [("a", "topic"), ("q", "queue")]
    subscription = connection.declare_subscription("a", "s", start="next")
    assert (subscription.stream, subscription.name, subscription.mode, subscription.lag) == ("a", "s", "cursor", 0)
    assert connection.subscription("q", "q").mode == "shared"
    connection.delete_subscription("a", "s")
    assert connection.subscriptions("a") == []
    connection.delete_stream("a")
    with pytest.raises(ringway.AdminError) as raised:
        connection.stream("a")
    assert raised.value.code == "not_found" and not raised.value.retryable
    with pytest.raises(ringway.AdminError) as raised:
        connection.declare_queue("q", lease=6.0, durability="written")
    assert raised.value.code == "conflict"
    for wrong in dict(overflow="none"), dict(overflow="block", detach_after=1.0), dict(durability="x"):
        with pytest.raises(ValueError):
            connection.declare_stream("b", **wrong)


def test_no_broker_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(ringway.ConnectError, match="ringway serve") as raised:
        ringway.Connection(tmp_path)
    assert raised.value.code == "no_broker" and raised.value.retryable
    assert issubclass(ringway.ConnectError, ringway.RingwayError)


def test_confirms_tell_the_durability_reached(connection):
    connection.declare_stream("payments", durability="synced")
    connection.declare_subscription("payments", "ledger", start="first", visibility="durable")
    with connection.producer("payments") as producer:
        position = producer.send(b"42 EUR")
        assert producer.confirm(position, timeout=10.0) == "synced" and producer.is_confirmed(position)
        producer.send_many([b"1 EUR"] * 100)
        assert producer.confirm_all() == "synced"
    with connection.consumer("payments", "ledger") as consumer:
        assert len(consumer.recv_many(timeout=5.0)) == 101
        consumer.confirm_commit(timeout=10.0)


def test_a_killed_broker_is_succeeded(connection):
    connection.declare_stream("kept")
    connection.declare_subscription("kept", "s", start="first")
    with connection.producer("kept") as producer, connection.consumer("kept", "s") as consumer:
        producer.send(b"before")
        os.kill(connection.broker_pid, signal.SIGKILL)
        producer.send(b"after")
        assert [consumer.recv(timeout=5.0).payload for _ in range(2)] == [b"before", b"after"]
        deadline = time.monotonic() + 10
        while connection.stream("kept").producers != 1:
            assert time.monotonic() < deadline


def test_streams_are_altered_and_purged(connection):
    connection.declare_queue("q")
    assert connection.alter_queue("q", lease=9.0, backoff_multiplier=1.5, dead_letter="q.dead").name == "q"
    connection.declare_queue("q", lease=9.0, backoff_multiplier=1.5, dead_letter="q.dead")
    connection.alter_subscription("q", "q", attempts_max=3, dead_letter=None)
    connection.declare_queue("q", lease=9.0, backoff_multiplier=1.5, attempts_max=3)
    assert connection.alter_stream("q", overflow="reject").overflow == "reject"
    for refused in ({"detach_after": 1.0}, {"overflow": "sideways"}):
        with pytest.raises(ValueError):
            connection.alter_stream("q", **refused)
    with connection.producer("q") as producer:
        producer.send_many([b"x"] * 3)
    assert (connection.purge_stream("q"), connection.purge_subscription("q", "q")) == (3, 0)


def test_who_waits_learns_that_the_broker_is_gone(broker):
    connection = ringway.Connection(broker.directory, reconnect_within=0)
    connection.declare_stream("gone")
    connection.declare_subscription("gone", "s")
    consumer = connection.consumer("gone", "s")
    broker.stop()
    with pytest.raises(ringway.RecvError) as raised:
        consumer.recv(timeout=5.0)
    assert raised.value.code == "disconnected"


def test_who_waits_goes_on_at_the_next_broker(broker):
    with pytest.raises(ValueError):
        ringway.Connection(broker.directory, reconnect_within=-1)
    connection = ringway.Connection(broker.directory, reconnect_within=60)
    connection.declare_queue("jobs", durability="synced")
    producer, worker = connection.producer("jobs"), connection.queue_consumer("jobs")
    producer.send(b"before")
    producer.confirm_all()
    kept = worker.recv(timeout=5.0)
    broker.stop()
    broker.serve()
    again = worker.recv(timeout=20.0)
    assert again.payload == kept.payload == b"before"
    with pytest.raises(ringway.SettleError):
        kept.ack()
    again.ack()
    producer.send(b"after")
    producer.confirm_all()
    worker.recv(timeout=20.0).ack()
    connection.close()


def test_ctrl_c_ends_a_wait(connection, broker):
    connection.declare_stream("quiet")
    connection.declare_subscription("quiet", "s")
    program = (
        "import ringway, sys\n"
        "consumer = ringway.Connection(sys.argv[1]).consumer('quiet', 's')\n"
        "print('waits', flush=True)\n"
        "consumer.recv()\n"
    )
    waiting = subprocess.Popen([sys.executable, "-c", program, str(broker.directory)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert waiting.stdout.readline() == b"waits\n"
    time.sleep(0.2)
    waiting.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in waiting.communicate(timeout=10)[1]


def test_what_a_process_that_died_had_not_consumed_comes_again(connection, broker):
    connection.declare_stream("lives", slots=1024)
    connection.declare_subscription("lives", "s", start="first")
    with connection.producer("lives") as producer:
        producer.send_many([b"%d" % number for number in range(500)])
    program = (
        "import os, ringway, signal, sys\n"
        "consumer = ringway.Connection(sys.argv[1]).consumer('lives', 's')\n"
        "consumer.recv_many(), consumer.recv_many()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    died = subprocess.run([sys.executable, "-c", program, str(broker.directory)])
    assert died.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while True:
        try:
            consumer = connection.consumer("lives", "s")
            break
        except ringway.OpenError as error:
            assert error.retryable and time.monotonic() < deadline
    with consumer:
        # The first batch was consumed by asking for the second; the second was not.
        assert consumer.recv().position == 128


def test_a_forked_child_is_told_so(connection):
    connection.declare_stream("forked")
    with connection.producer("forked") as producer:
        child = os.fork()
        if child == 0:
            try:
                producer.send(b"x")
            except ringway.SendError as error:
                os._exit(0 if error.code == "forked" else 1)
            os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
