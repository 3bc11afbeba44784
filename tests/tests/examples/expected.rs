//! The essential of what each example prints, in order.

/// `None`: nobody has said what it prints.
pub(crate) fn texts(example: &str) -> Option<&'static [&'static str]> {
    Some(match example {
        "administration" => &[
            "declared otherwise: stream example.admin exists with slots 1024, not 2048",
            "example.admin: 1024 slots, next position 3",
            "audit: 3 behind, Cursor(",
            "workers: 3 behind, Shared(",
            "not yet: ",
            "(retryable: true)",
            "gone: true",
        ],
        "attributes" => &[
            "key customer 7, sent at a known time: true",
            "urgent = Bool(true)",
            "retries = Integer(3)",
            "content-type = Text(\"text/plain\")",
            "reply to request 1: 42",
        ],
        "bare_executor" => &["100 messages through 8 slots, sum 4950"],
        "batches" => &["the last of 1000 is at 0:999", "sum 499500, 0 not acked", "0 unsettled"],
        "confirms" => &[
            "1000 messages are synced, by one wait",
            "the first of them, too: true",
            "1000 consumed, and that is synced",
            "a note is at least written: true",
            "an important note is synced",
        ],
        "durable_visibility" => {
            &["the quick reader has it", "and it is confirmed: true", "within 10 s: true"]
        }
        "epoll" => &["20 orders received and 20 jobs acked by one loop"],
        "handover" => &[
            "the first has a",
            "the first has e",
            "the first has ended: exit status: 1",
            "the second has d",
            "the second has g",
            "the second has ended: exit status: 0",
        ],
        "keys_and_partitions" => &["anna belongs to partition", "low ", "high "],
        "large_payloads" => &[
            "last frame: 2097152 bytes, sum Some(209715200)",
            "first frame, still in place: sum Some(2097152)",
            "100 frames of 2 MiB went through ",
        ],
        "long_work" => &[
            "delivery 2 after 1 failed",
            "late: delivery 1 of 0:0",
            "acked in time after 800 ms",
            "0 unsettled",
        ],
        "named_producer" => &[
            "the importer begins with line 0",
            "the importer begins with line 3",
            "1 is there, 4 is the last",
            "one two three four five",
        ],
        "overflow" => &[
            "block: 4 sent, then: stream example.small is full: held by subscription slow",
            "waited 5",
            "retryable: true",
            "received 4, missed 0",
            "reject: 4 sent, then: ",
            "received 4, missed 0",
            "drop-oldest: 6 sent",
            "missed 2",
            "detach: 6 sent",
            "missed 2",
        ],
        "publish_subscribe" => &[
            "kitchen 0: one espresso",
            "kitchen 2: three cakes",
            "billing 0: one espresso",
            "billing 1: two teas",
            "billing is 1 behind",
        ],
        "queue_worker" => &[
            "resize 7.png, attempt 1: acked",
            "no such job, attempt 1: rejected",
            "attempt 2: ",
            "dead: no such job, Some(Text(\"rejected\"))",
            "dead: fail always, Some(Text(\"nacked\")) after Some(Integer(2))",
        ],
        "tokio_tasks" => &["1000 ticks, sum 499500, all confirmed", "10 jobs done"],
        "typed_plain" => &["0: 300 at 99.5", "0:1: the payload has 7 bytes instead of 16", "2: 20 at 99.75"],
        "typed_serde" => &[
            "New { items: [(\"espresso\", 2)], note: None }",
            "Cancelled(7)",
            "0:2 is no order",
            "0 unsettled, 1 dead",
        ],
        "wait_set" => {
            &["200 consumers in one set", "20 of them had something, Some(\"example.sensor.0\") first"]
        }
        _ => return None,
    })
}
