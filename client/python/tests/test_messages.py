"""Sending and receiving in order."""

import array
import gc
import threading
import time

import pytest

import ringway


@pytest.fixture
def stream(connection):
    connection.declare_stream("orders", slots=1024)
    connection.declare_subscription("orders", "billing", start="first")
    return connection


def test_what_is_sent_is_received_in_order(stream):
    with stream.producer("orders") as producer, stream.consumer("orders", "billing") as consumer:
        assert producer.send(b"one") == ringway.Position(0, 0)
        assert producer.try_send(bytearray(b"two")) > ringway.Position(0, 0)
        assert producer.send(memoryview(b"xthree")[1:], timeout=1.0).position == 2
        assert producer.send(b"") == ringway.Position(0, 3)
        numbers = array.array("d", [1.5, 2.5])
        producer.send_many([numbers, memoryview(b"")])
        received = [consumer.recv() for _ in range(6)]
        assert [message.payload for message in received] == [b"one", b"two", b"three", b"", numbers.tobytes(), b""]
        assert [message.position for message in received] == [0, 1, 2, 3, 4, 5]
        assert consumer.try_recv() is None and consumer.recv(timeout=0.01) is None
        assert consumer.positions() == [ringway.Position(0, 6)] and consumer.missed == 0
        assert not received[0].is_in_place and bytes(received[0]) == b"one" and len(received[2]) == 5
        assert received[0].key is None and received[0].attributes == {}


def test_what_a_message_says_of_itself_arrives(stream):
    with stream.producer("orders", name="importer") as producer, stream.consumer("orders", "billing") as consumer:
        said = dict(urgent=True, count=-3, share=0.25, kind="café", raw=b"\0\xff")
        outgoing = ringway.Outgoing(
            b"text", key=b"k", correlation=b"c", reply_to="answers", attributes=said, timestamp_ns=5, sequence=11
        )
        producer.send(outgoing)
        producer.send(b"plain", key=b"other")
        message = consumer.recv()
        assert (message.payload, message.key, message.correlation, message.reply_to) == (b"text", b"k", b"c", "answers")
        assert (message.timestamp_ns, message.sequence, message.attributes) == (5, 11, said)
        assert consumer.recv().key == b"other"
        assert producer.next_sequence == 13 and producer.sent() == [(12, 1)]
        with pytest.raises(ringway.SendError) as raised:
            producer.send(outgoing)
        assert raised.value.code == "already_sent" and not raised.value.retryable
        with pytest.raises(ringway.SendError):
            ringway.Outgoing(b"", attributes={"": 1})
        with pytest.raises(TypeError):
            ringway.Outgoing(b"", attributes={"list": []})
        with pytest.raises(TypeError):
            producer.send("text")
        with pytest.raises(BufferError):
            producer.send(memoryview(b"every second")[::2])


def test_a_full_stream_names_who_holds_it_and_a_wait_ends_with_its_timeout(stream):
    with stream.producer("orders") as producer:
        assert producer.send_many([b"x"] * 1024).position == 1023
        for send in producer.try_send, lambda message: producer.send(message, timeout=0.25):
            with pytest.raises(ringway.SendError) as raised:
                send(b"y")
            assert raised.value.code == "full" and raised.value.retryable
            assert "held by subscription billing" in str(raised.value)
        with stream.consumer("orders", "billing") as consumer:
            consumer.recv_many(100)
            consumer.commit()
            with pytest.raises(ringway.SendBatchError) as raised:
                producer.send_many([b"z"] * 200, timeout=0.2)
            assert raised.value.sent == 100 and isinstance(raised.value, ringway.SendError)
            # Somebody who waits goes on when there is room.
            sender = threading.Thread(target=producer.send, args=(bytearray(b"waited"),))
            sender.start()
            time.sleep(0.3)
            got = []
            while not got or got[-1] != b"waited":
                got += [message.payload for message in consumer.recv_many(timeout=5.0)]
            sender.join()
            assert len(got) == 1025 - 100 + 100


def test_batches_are_what_single_messages_are(stream):
    with stream.producer("orders") as producer, stream.consumer("orders", "billing") as consumer:
        assert producer.send_many([]) is None
        mixed = [b"one", bytearray(b"two"), ringway.Outgoing(b"three", key=b"k"), b"x" * 5000, b"five"]
        assert producer.send_many(iter(mixed)).position == 4
        first = consumer.recv_many()
        # A batch ends behind a message that did not fit a slot: to go on would consume it.
        assert [bytes(message) for message in first] == [b"one", b"two", b"three", b"x" * 5000]
        assert first[2].key == b"k" and first[3].is_in_place
        assert [message.payload for message in consumer.recv_many(10, timeout=1.0)] == [b"five"]
        assert consumer.recv_many(10, timeout=0.01) == [] and consumer.recv_many(0) == []
        producer.send_many([b"many"] * 500)
        # Nor is more taken than what the client returns before it commits.
        assert [len(consumer.recv_many()) for _ in range(4)] == [128, 128, 128, 116]


def test_nothing_of_a_batch_is_consumed_before_the_next_call(stream):
    with stream.producer("orders") as producer:
        producer.send_many([b"%d" % number for number in range(300)])
    with stream.consumer("orders", "billing") as consumer:
        consumer.recv_many(100)
        second = consumer.recv_many()
        assert second[0].position == 100 and len(second) == 128
        assert stream.subscription("orders", "billing").lag == 200
        consumer.close(commit=False)
    with stream.consumer("orders", "billing") as consumer:
        assert consumer.recv().position == 100


def test_a_block_that_raises_consumes_nothing(stream):
    with stream.producer("orders") as producer:
        producer.send_many([b"one", b"two"])
    with pytest.raises(ZeroDivisionError):
        with stream.consumer("orders", "billing") as consumer:
            for _message in consumer:
                1 / 0
    with stream.consumer("orders", "billing") as consumer:
        assert consumer.recv().payload == b"one"
    with stream.consumer("orders", "billing") as consumer:
        assert consumer.recv().payload == b"two"


def test_large_payloads_are_read_where_they_were_written(stream):
    with stream.producer("orders") as producer, stream.consumer("orders", "billing") as consumer:
        with producer.loan(100_000) as loan:
            with memoryview(loan) as view:
                view[:] = bytes(range(250)) * 400
                with pytest.raises(BufferError):
                    producer.send_loan(loan)
            loan.truncate(50_000)
            assert len(loan) == 50_000
            with pytest.raises(ValueError):
                loan.truncate(50_001)
            producer.send_loan(loan, attributes=ringway.Outgoing(correlation=b"c"))
            with pytest.raises(ValueError):
                producer.send_loan(loan)
        message = consumer.recv()
        assert message.is_in_place and len(message) == 50_000 and message.correlation == b"c"
        payload = message.payload
        assert isinstance(payload, memoryview) and payload.readonly and payload == (bytes(range(250)) * 200)
        # It stays, whatever becomes of everything else.
        del message
        producer.send(b"next")
        assert consumer.recv().payload == b"next"
        gc.collect()
        assert payload[249] == 249
        payload.release()


def test_more_than_can_be_held_is_copied(stream):
    with stream.producer("orders") as producer, stream.consumer("orders", "billing") as consumer:
        large = [bytes([number]) * 1000 for number in range(70)]
        producer.send_many(large)
        messages = [consumer.recv() for _ in large]
        assert [message.is_in_place for message in messages] == [True] * 64 + [False] * 6
        assert [bytes(message) for message in messages] == large
        del messages
    with stream.producer("orders") as producer:
        producer.send(large[7])
    with stream.consumer("orders", "billing", in_place=False) as consumer:
        message = consumer.recv()
        assert not message.is_in_place and message.payload == large[7]
        assert len(consumer.recv_many(1, timeout=0.0)) == 0


def test_partitions_keep_the_order_of_keys(connection):
    connection.declare_stream("keyed", partitions=4)
    connection.declare_subscription("keyed", "all", start="first")
    with connection.producer("keyed") as producer, connection.consumer("keyed", "all", partitions=[0, 1, 2, 3]) as consumer:
        producer.send_many([ringway.Outgoing(b"%d" % number, key=b"%d" % (number % 7)) for number in range(200)])
        by_key = {}
        for _ in range(200):
            message = consumer.recv(timeout=5.0)
            by_key.setdefault(message.key, []).append(int(message.payload))
        assert all(numbers == sorted(numbers) for numbers in by_key.values()) and len(by_key) == 7
        assert len(producer.positions()) == 4


def test_handles_say_when_they_are_closed(stream):
    producer, consumer = stream.producer("orders"), stream.consumer("orders", "billing")
    with pytest.raises(ringway.OpenError) as raised:
        stream.consumer("orders", "billing")
    assert raised.value.code == "in_use" and raised.value.retryable
    for handle, use in (producer, lambda: producer.send(b"x")), (consumer, consumer.try_recv):
        handle.close()
        handle.close()
        with pytest.raises(ValueError, match="closed"):
            use()
    stream.close()
    assert not stream.is_open
    with pytest.raises(ValueError):
        stream.streams()


def test_threads_share_a_producer_and_a_consumer(stream):
    with stream.producer("orders") as producer, stream.consumer("orders", "billing") as consumer:
        got, lock = [], threading.Lock()

        def send(first):
            for number in range(first, first + 500):
                producer.send(b"%d" % number)

        def receive():
            while message := consumer.recv(timeout=2.0):
                with lock:
                    got.append(int(message.payload))

        threads = [threading.Thread(target=send, args=(first,)) for first in (0, 1000, 2000)]
        threads += [threading.Thread(target=receive) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(got) == [first + number for first in (0, 1000, 2000) for number in range(500)]
