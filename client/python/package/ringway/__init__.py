"""Client of Ringway, the message broker for one host.

    import ringway

    with ringway.Connection() as connection:
        connection.declare_stream("orders")
        connection.declare_subscription("orders", "billing", start="first")
        with connection.producer("orders") as producer:
            producer.send(b"one espresso")
        with connection.consumer("orders", "billing") as consumer:
            for message in consumer:
                print(message.position, message.payload)

Times are seconds. A `timeout` of None waits for ever; Ctrl-C ends every wait. Any thread may use any handle; one at a time
uses a producer or consumer, the others wait. A forked child opens a connection of its own.
"""

from ._ringway import (
    AdminError,
    CloseError,
    ConfirmError,
    ConnectError,
    Connection,
    Consumer,
    Delivery,
    Loan,
    Message,
    OpenError,
    Outgoing,
    Position,
    Producer,
    RecvError,
    RingwayError,
    SendBatchError,
    SendError,
    SettleError,
    SharedConsumer,
    StreamInfo,
    SubscriptionInfo,
    __version__,
)

__all__ = [
    "AdminError",
    "CloseError",
    "ConfirmError",
    "ConnectError",
    "Connection",
    "Consumer",
    "Delivery",
    "Loan",
    "Message",
    "OpenError",
    "Outgoing",
    "Position",
    "Producer",
    "RecvError",
    "RingwayError",
    "SendBatchError",
    "SendError",
    "SettleError",
    "SharedConsumer",
    "StreamInfo",
    "SubscriptionInfo",
    "__version__",
]
