"""Consuming with others."""

import gc

import pytest

import ringway


@pytest.fixture
def queue(connection):
    connection.declare_stream("jobs.dead")
    connection.declare_queue("jobs", attempts_max=3, dead_letter="jobs.dead")
    return connection


def test_a_delivery_is_settled_once(queue):
    with queue.producer("jobs") as producer, queue.queue_consumer("jobs") as worker:
        producer.send(b"job", key=b"k")
        job = worker.recv()
        assert (job.payload, job.key, job.attempt, job.failed, job.position, job.partition) == (b"job", b"k", 1, 0, 0, 0)
        job.extend(60.0)
        job.ack()
        assert job.is_settled
        for again in job.ack, job.nack, job.reject, job.release, lambda: job.extend(1.0):
            with pytest.raises(ValueError, match="settled"):
                again()
        assert worker.recv(timeout=0.05) is None and worker.try_recv() is None
        assert queue.subscription("jobs", "jobs").lag == 0


def test_a_block_that_raises_nacks_and_what_fails_too_often_is_dead(queue):
    queue.declare_subscription("jobs.dead", "s", start="first")
    with queue.producer("jobs") as producer, queue.queue_consumer("jobs") as worker:
        producer.send(b"bad")
        for failed in range(3):
            with pytest.raises(ZeroDivisionError):
                with worker.recv(timeout=5.0) as job:
                    assert job.failed == failed
                    1 / 0
        producer.send(b"good")
        with worker.recv(timeout=5.0) as job:
            assert job.payload == b"good"
        assert job.is_settled and worker.confirm() == 0 and worker.late == 0
        producer.send(b"rejected")
        worker.recv(timeout=5.0).reject()
        worker.confirm_settled(timeout=5.0)
    with queue.consumer("jobs.dead", "s") as consumer:
        dead = [consumer.recv(timeout=5.0) for _ in range(2)]
        assert [letter.payload for letter in dead] == [b"bad", b"rejected"]
        assert [letter.attributes["dead.reason"] for letter in dead] == ["nacked", "rejected"]


def test_what_nobody_refers_to_any_more_comes_again(queue):
    with queue.producer("jobs") as producer, queue.queue_consumer("jobs") as worker:
        producer.send(b"job")
        for attempt in 1, 2:
            job = worker.recv(timeout=5.0)
            assert (job.attempt, job.failed) == (attempt, 0)
            del job
            gc.collect()
        worker.recv(timeout=5.0).release()
        kept = worker.recv(timeout=5.0)
        assert kept.attempt == 4
    # Closing gives it back, too.
    with queue.queue_consumer("jobs", prefetch=8) as worker:
        job = worker.recv(timeout=5.0)
        assert job.payload == b"job" and job.failed == 0
        job.nack(delay=0.01)
        assert worker.recv(timeout=5.0).failed == 1


def test_batches_of_deliveries(queue):
    with queue.producer("jobs") as producer, queue.queue_consumer("jobs", prefetch=64) as worker:
        producer.send_many([b"%d" % number for number in range(1000)])
        done = []
        while len(done) < 1000:
            jobs = worker.recv_many(timeout=5.0)
            done += [int(job.payload) for job in jobs]
            worker.ack_many(jobs)
        assert sorted(done) == list(range(1000))
        with pytest.raises(ValueError):
            worker.ack_many(jobs)
        assert queue.subscription("jobs", "jobs").lag == 0 and worker.recv_many(5, timeout=0.0) == []


def test_large_payloads_are_copied_once(queue):
    with queue.producer("jobs") as producer, queue.queue_consumer("jobs") as worker:
        producer.send(b"x" * 100_000)
        job = worker.recv(timeout=5.0)
        payload = job.payload
        assert isinstance(payload, memoryview) and payload.readonly
        job.ack()
        del job
        worker.try_recv()
        assert payload == b"x" * 100_000 and len(bytes(payload)) == 100_000


def test_a_message_is_settled_by_the_consumer_that_has_it(queue):
    queue.declare_queue("other")
    with queue.producer("jobs") as producer, queue.queue_consumer("jobs") as worker:
        producer.send(b"job")
        job = worker.recv(timeout=5.0)
        worker.close()
        with pytest.raises(ValueError, match="closed"):
            job.ack()
    with pytest.raises(ringway.OpenError) as raised:
        queue.consumer("jobs", "jobs")
    assert raised.value.code == "other_mode"


def test_a_shared_subscription_of_a_topic(connection):
    connection.declare_stream("events", partitions=2)
    connection.declare_shared_subscription("events", "workers", start="first", lease=5.0, single_active=True)
    with connection.producer("events") as producer, connection.shared_consumer("events", "workers", partitions=[0, 1]) as worker:
        producer.send_many([b"a", b"b", b"c"])
        got = set()
        for delivery in worker:
            with delivery:
                got.add(delivery.payload)
            if len(got) == 3:
                break
        assert got == {b"a", b"b", b"c"}
