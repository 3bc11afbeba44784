/* Ringway's client for C and C++.
 *
 * Generated from client/c/src: do not edit. README.md beside it says how to link, and has a table of all functions.
 *
 * 1. A function that can fail returns a ringway_code: RINGWAY_OK, RINGWAY_EMPTY (there is nothing; not an error), or a negative
 *    one, of which ringway_error_message() and ringway_error_is_retryable() say more, in the same thread.
 * 2. Out-parameters that are handles are null after an error. Handles are freed by the _close or _free of their sort.
 * 3. Each handle says which threads may use it. None may be used in a signal handler, or by a forked child
 *    (RINGWAY_FORKED).
 * 4. Structures that you make are made by their _default or _none function, or all zero where they have none.
 */


#ifndef RINGWAY_H
#define RINGWAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RINGWAY_VERSION "0.1.0"

/**
 * A time that never ends, wherever nanoseconds are to be said.
 */
#define RINGWAY_FOREVER UINT64_MAX

/**
 * Where a change says nothing: it stays as it is.
 */
#define RINGWAY_UNCHANGED UINT32_MAX

/**
 * How a call has ended. Negative: an error, of which `ringway_error_message` says more.
 */
typedef enum ringway_code {
    /**
     * Done.
     */
    RINGWAY_OK = 0,
    /**
     * There is no message now, or none has come in time. Not an error.
     */
    RINGWAY_EMPTY = 1,
    /**
     * An argument that cannot be: null, a handle of another sort or one that is over, text that is not UTF-8, a number
     * out of its range.
     */
    RINGWAY_ARGUMENT = -1,
    /**
     * A defect in this library. The handle may be in no state to be used: close it.
     */
    RINGWAY_DEFECT = -2,
    /**
     * Nobody answers there: start a broker.
     */
    RINGWAY_NO_BROKER = -3,
    /**
     * This user may not do this.
     */
    RINGWAY_DENIED = -4,
    /**
     * The broker is there and says nothing: it hangs or is stopped.
     */
    RINGWAY_NO_ANSWER = -5,
    /**
     * The broker is gone, and there was no other one for as long as the connection may look for one; or it was replaced, and it is not
     * known what was confirmed or settled before: send that again.
     */
    RINGWAY_DISCONNECTED = -6,
    /**
     * Another version, or no Ringway broker.
     */
    RINGWAY_PROTOCOL = -7,
    /**
     * The kernel refused.
     */
    RINGWAY_SYSTEM = -8,
    /**
     * The handle was opened before `fork`: open a new connection in the child.
     */
    RINGWAY_FORKED = -9,
    /**
     * A name, a number or settings that cannot be.
     */
    RINGWAY_INVALID = -10,
    /**
     * No such stream or subscription.
     */
    RINGWAY_NOT_FOUND = -11,
    /**
     * It exists with other settings.
     */
    RINGWAY_CONFLICT = -12,
    /**
     * Somebody has it open.
     */
    RINGWAY_IN_USE = -13,
    /**
     * A limit was reached: subscriptions, descriptors, memory.
     */
    RINGWAY_LIMIT = -14,
    /**
     * The broker is ending.
     */
    RINGWAY_STOPPING = -15,
    /**
     * The subscription gives its messages out in another way than this call expects.
     */
    RINGWAY_OTHER_MODE = -16,
    /**
     * The stream is full: a subscription holds it.
     */
    RINGWAY_FULL = -17,
    /**
     * Another producer is stopped in the middle of a message.
     */
    RINGWAY_STALLED = -18,
    /**
     * The payload is larger than the stream allows.
     */
    RINGWAY_TOO_LARGE = -19,
    /**
     * Attributes that cannot be sent.
     */
    RINGWAY_ATTRIBUTES = -20,
    /**
     * The journal has no room.
     */
    RINGWAY_NO_ROOM = -21,
    /**
     * The journal has stopped: restart the broker when the disk is in order.
     */
    RINGWAY_JOURNAL_FAILED = -22,
    /**
     * A message says which one it is, and its producer has no name.
     */
    RINGWAY_NO_NAME = -23,
    /**
     * The stream has this message of the producer's already.
     */
    RINGWAY_ALREADY_SENT = -24,
    /**
     * A durability that the stream does not have.
     */
    RINGWAY_DURABILITY = -25,
    /**
     * The stream has used up its positions.
     */
    RINGWAY_EXHAUSTED = -26,
    /**
     * All memory that this producer may have for payloads beyond a slot is in use.
     */
    RINGWAY_NO_MEMORY = -27,
    /**
     * The loan is another producer's, or another partition's.
     */
    RINGWAY_LOAN = -28,
    /**
     * It takes longer than was to be waited.
     */
    RINGWAY_TIMEOUT = -29,
    /**
     * The subscription was given to another consumer.
     */
    RINGWAY_LOST = -30,
    /**
     * What came cannot be: its producer is broken.
     */
    RINGWAY_CORRUPT = -31,
    /**
     * Settled when the lease was over: the message is delivered again.
     */
    RINGWAY_LATE = -32,
    /**
     * The message is another consumer's.
     */
    RINGWAY_FOREIGN = -33,
    /**
     * The consumer holds as many messages as it may.
     */
    RINGWAY_HELD = -34,
    /**
     * The broker refused, and says why.
     */
    RINGWAY_REFUSED = -35,
} ringway_code;

/**
 * What a stream's messages survive once they are confirmed.
 */
typedef enum ringway_durability {
    /**
     * The death of any process, the broker's too; not the host's.
     */
    RINGWAY_DURABILITY_MEMORY = 0,
    /**
     * The same; the host's death may take what was handed to the kernel within the flush interval.
     */
    RINGWAY_DURABILITY_WRITTEN = 1,
    /**
     * The host's death too: confirmed when the device has it.
     */
    RINGWAY_DURABILITY_SYNCED = 2,
} ringway_durability;

/**
 * What happens when the ring is full.
 */
typedef enum ringway_overflow {
    /**
     * The producer waits, for as long as it likes.
     */
    RINGWAY_OVERFLOW_BLOCK = 0,
    /**
     * Publishing fails at once.
     */
    RINGWAY_OVERFLOW_REJECT = 1,
    /**
     * The oldest message is overwritten; subscriptions that had not consumed it miss it, and learn how many.
     */
    RINGWAY_OVERFLOW_DROP_OLDEST = 2,
    /**
     * A subscription that holds the ring full for `detach_after_ms` is detached.
     */
    RINGWAY_OVERFLOW_DETACH = 3,
} ringway_overflow;

/**
 * Where a new subscription starts.
 */
typedef enum ringway_start {
    /**
     * At the oldest message that is still there.
     */
    RINGWAY_START_FIRST = 0,
    /**
     * Behind the newest message.
     */
    RINGWAY_START_NEXT = 1,
} ringway_start;

/**
 * What sort of value an attribute has.
 */
typedef enum ringway_value_kind {
    /**
     * `boolean`.
     */
    RINGWAY_VALUE_KIND_BOOLEAN = 0,
    /**
     * `integer`.
     */
    RINGWAY_VALUE_KIND_INTEGER = 1,
    /**
     * `number`.
     */
    RINGWAY_VALUE_KIND_NUMBER = 2,
    /**
     * UTF-8 at `bytes`, not ended by a zero.
     */
    RINGWAY_VALUE_KIND_TEXT = 3,
    /**
     * `bytes`.
     */
    RINGWAY_VALUE_KIND_BYTES = 4,
} ringway_value_kind;

/**
 * Typed attributes of messages, by name: encoded once, and used for any number of messages. Any threads may send with it at
 * the same time while nobody inserts.
 */
typedef struct ringway_attributes ringway_attributes;

/**
 * A session with the broker. Any threads may use it at the same time.
 */
typedef struct ringway_connection ringway_connection;

/**
 * The consumer of an ordered subscription. One thread at a time uses it, and the message that it has returned.
 */
typedef struct ringway_consumer ringway_consumer;

/**
 * A producer of a stream. One thread at a time uses it.
 */
typedef struct ringway_producer ringway_producer;

/**
 * One of the consumers of a shared subscription, or of a queue. One thread at a time uses it, and the message that it has
 * delivered.
 */
typedef struct ringway_shared_consumer ringway_shared_consumer;

/**
 * The settings of a stream. Made by `ringway_stream_settings_default`.
 */
typedef struct ringway_stream_settings {
    /**
     * Slots of each ring: a power of two.
     */
    uint64_t slots;
    /**
     * Partitions: each has a ring of its own, and is in order by itself. 1 to 64.
     */
    uint32_t partitions;
    /**
     * Bytes of a slot: a power of two from 64 to 4096.
     */
    uint32_t slot_bytes;
    /**
     * Largest payload, in bytes.
     */
    uint32_t payload_bytes_max;
    /**
     * A `ringway_overflow`.
     */
    uint32_t overflow;
    /**
     * Of `RINGWAY_OVERFLOW_DETACH`: how long a subscription may hold a producer up, in milliseconds.
     */
    uint32_t detach_after_ms;
    /**
     * A `ringway_durability`.
     */
    uint32_t durability;
    /**
     * Only one producer at a time: publishing is a little cheaper.
     */
    bool exclusive_producer;
    /**
     * Zero.
     */
    uint64_t reserved[4];
} ringway_stream_settings;

/**
 * The settings of a shared subscription. Made by `ringway_shared_settings_default`.
 */
typedef struct ringway_shared_settings {
    /**
     * How long a consumer may keep a message before it is delivered to another, in milliseconds.
     */
    uint32_t lease_ms;
    /**
     * A message that has failed so often is dead; 0: never.
     */
    uint32_t attempts_max;
    /**
     * How long a message waits after its first failure, in milliseconds.
     */
    uint32_t backoff_initial_ms;
    /**
     * What each further failure multiplies that by, in percent: 200 doubles it.
     */
    uint32_t backoff_multiplier_percent;
    /**
     * The longest that it waits, in milliseconds.
     */
    uint32_t backoff_max_ms;
    /**
     * Each wait is shortened by up to so many percent.
     */
    uint32_t backoff_jitter_percent;
    /**
     * Where dead messages go: the name of a stream. Null: they are dropped, and counted.
     */
    const char *dead_letter;
    /**
     * Only one consumer at a time gets messages; when it ends, the next one takes over.
     */
    bool single_active;
    /**
     * Only what is on the device is delivered.
     */
    bool durable_only;
    /**
     * Zero.
     */
    uint64_t reserved[4];
} ringway_shared_settings;

/**
 * A stream as it stands.
 */
typedef struct ringway_stream_info {
    /**
     * What it was declared with.
     */
    struct ringway_stream_settings settings;
    /**
     * Whether it is a queue.
     */
    bool is_queue;
    /**
     * Number of subscriptions.
     */
    uint32_t subscriptions;
    /**
     * How many producers have it open.
     */
    uint32_t producers;
    /**
     * Messages between the subscription that is furthest behind in a partition and that partition's end.
     */
    uint64_t lag_max;
    /**
     * Zero.
     */
    uint64_t reserved[4];
} ringway_stream_info;

/**
 * A subscription as it stands, in all partitions.
 */
typedef struct ringway_subscription_info {
    /**
     * Messages that it has not consumed.
     */
    uint64_t lag;
    /**
     * Of a shared one: messages that wait for a consumer.
     */
    uint64_t ready;
    /**
     * Of a shared one: messages that consumers have and have not settled.
     */
    uint64_t leased;
    /**
     * Of a shared one: messages that wait for their time.
     */
    uint64_t delayed;
    /**
     * Of a shared one: dead messages that wait for room in the dead-letter stream.
     */
    uint64_t dead;
    /**
     * Of a shared one: messages that have died so far.
     */
    uint64_t dead_total;
    /**
     * Of a shared one: how many consumers it has.
     */
    uint32_t consumers;
    /**
     * Whether it was detached in some partition because it lagged.
     */
    bool is_detached;
    /**
     * Whether it is shared: to be opened by `ringway_shared_consumer_open`.
     */
    bool is_shared;
    /**
     * Zero.
     */
    uint64_t reserved[4];
} ringway_subscription_info;

/**
 * What is to be altered of a stream. Made by `ringway_stream_changes_none`.
 */
typedef struct ringway_stream_changes {
    /**
     * Largest payload, in bytes.
     */
    uint32_t payload_bytes_max;
    /**
     * A `ringway_overflow`.
     */
    uint32_t overflow;
    /**
     * Of `RINGWAY_OVERFLOW_DETACH`: how long a subscription may hold a producer up, in milliseconds.
     */
    uint32_t detach_after_ms;
    /**
     * Zero.
     */
    uint64_t reserved[4];
} ringway_stream_changes;

/**
 * What is to be altered of a shared subscription. Made by `ringway_subscription_changes_none`.
 */
typedef struct ringway_subscription_changes {
    /**
     * How long a consumer may keep a message, in milliseconds. What is leased keeps the lease it has.
     */
    uint32_t lease_ms;
    /**
     * A message that has failed so often is dead; 0: never.
     */
    uint32_t attempts_max;
    /**
     * How long a message waits after its first failure, in milliseconds.
     */
    uint32_t backoff_initial_ms;
    /**
     * What each further failure multiplies that by, in percent.
     */
    uint32_t backoff_multiplier_percent;
    /**
     * The longest that it waits, in milliseconds.
     */
    uint32_t backoff_max_ms;
    /**
     * Each wait is shortened by up to so many percent.
     */
    uint32_t backoff_jitter_percent;
    /**
     * 1: only one consumer at a time gets messages; 0: all do.
     */
    uint32_t single_active;
    /**
     * Dead messages go elsewhere from now on: to `dead_letter`.
     */
    bool changes_dead_letter;
    /**
     * The name of a stream. Null: they are dropped, and counted.
     */
    const char *dead_letter;
    /**
     * Zero.
     */
    uint64_t reserved[4];
} ringway_subscription_changes;

/**
 * The value of an attribute: of these the one that `kind` names.
 */
typedef struct ringway_value {
    /**
     * A `ringway_value_kind`.
     */
    uint32_t kind;
    /**
     * Of `RINGWAY_VALUE_KIND_BOOLEAN`.
     */
    bool boolean;
    /**
     * Of `RINGWAY_VALUE_KIND_INTEGER`.
     */
    int64_t integer;
    /**
     * Of `RINGWAY_VALUE_KIND_NUMBER`.
     */
    double number;
    /**
     * Of `RINGWAY_VALUE_KIND_TEXT` and `RINGWAY_VALUE_KIND_BYTES`.
     */
    const void *bytes;
    /**
     * How many there are.
     */
    size_t bytes_count;
} ringway_value;

/**
 * What a producer will be like. Made by `ringway_producer_settings_default`.
 */
typedef struct ringway_producer_settings {
    /**
     * A name, by which whoever opens the stream next under it learns which of its messages are there. Null: none.
     */
    const char *name;
    /**
     * How long to look before sleeping, in nanoseconds, while the stream is full; `RINGWAY_FOREVER`: never sleep.
     */
    uint64_t spin_ns;
    /**
     * Whether each message that has no timestamp gets the time at which it is sent.
     */
    bool timestamps;
    /**
     * Zero.
     */
    uint64_t reserved[4];
} ringway_producer_settings;

/**
 * Where a message is in its stream.
 */
typedef struct ringway_position {
    /**
     * The message's number in its partition.
     */
    uint64_t position;
    /**
     * The partition's number.
     */
    uint32_t partition;
} ringway_position;

/**
 * A message to be sent. All zero but the payload, it is a message without attributes:
 * `ringway_outgoing message = {.payload = text, .payload_bytes = 5};`
 */
typedef struct ringway_outgoing {
    /**
     * The payload; null: none.
     */
    const void *payload;
    /**
     * How many bytes there are.
     */
    size_t payload_bytes;
    /**
     * The key: messages of one key are in order, at most 1024 bytes. Null: none.
     */
    const void *key;
    /**
     * How many bytes there are.
     */
    size_t key_bytes;
    /**
     * What a reply has to name, at most 255 bytes. Null: none.
     */
    const void *correlation;
    /**
     * How many bytes there are.
     */
    size_t correlation_bytes;
    /**
     * The stream where a reply is expected. Null: none.
     */
    const char *reply_to;
    /**
     * Typed attributes. Null: none.
     */
    const struct ringway_attributes *attributes;
    /**
     * When the message came about, in nanoseconds since 1970; counts if `has_timestamp`.
     */
    uint64_t timestamp_ns;
    /**
     * Which message it is in the count of its producer, which has a name; counts if `has_sequence`.
     */
    uint64_t sequence;
    /**
     * At least this `ringway_durability`, where the stream's is lower.
     */
    uint32_t durability;
    /**
     * Whether `timestamp_ns` says something.
     */
    bool has_timestamp;
    /**
     * Whether `sequence` says something.
     */
    bool has_sequence;
    /**
     * Zero.
     */
    uint64_t reserved[4];
} ringway_outgoing;

/**
 * Memory for one payload, to be written where its readers will read it. Any one thread at a time uses it; it may be kept for
 * any time, and holds nobody up.
 */
typedef struct ringway_loan {
    /**
     * The library's.
     */
    uint64_t word;
    /**
     * Where to write the payload. Left over from earlier payloads of the producer until it is written.
     */
    uint8_t *payload;
    /**
     * Bytes of the payload.
     */
    size_t payload_bytes;
} ringway_loan;

/**
 * A message, or the delivery of one. Only the library makes one; a program reads its members.
 */
typedef struct ringway_message {
    /**
     * The library's.
     */
    uint64_t word;
    /**
     * The payload: valid until the next call that receives from the same consumer, or closes it; of a message that was
     * held or kept, until it is freed, or settled.
     */
    const uint8_t *payload;
    /**
     * Bytes of the payload.
     */
    size_t payload_bytes;
    /**
     * The message's number in its partition.
     */
    uint64_t position;
    /**
     * The partition that it came from.
     */
    uint32_t partition;
    /**
     * Of a shared subscription: which delivery this is, 1 for the first. Otherwise 0.
     */
    uint32_t attempt;
    /**
     * Of a shared subscription: how many of the deliveries before have failed.
     */
    uint32_t failed;
    /**
     * Whether the payload is where its producer wrote it, not a copy.
     */
    bool is_in_place;
} ringway_message;

/**
 * What a consumer of either sort will be like. Made by `ringway_consumer_settings_default`.
 */
typedef struct ringway_consumer_settings {
    /**
     * The partitions to read; null: all.
     */
    const uint32_t *partitions;
    /**
     * How many there are.
     */
    size_t partitions_count;
    /**
     * How long to look before sleeping, in nanoseconds; `RINGWAY_FOREVER`: never sleep.
     */
    uint64_t spin_ns;
    /**
     * Of a shared consumer: how many messages to claim at a time.
     */
    uint32_t prefetch;
    /**
     * Of an ordered consumer: whether it may pause for some microseconds when it has caught up with a fast stream.
     */
    bool courtesy;
    /**
     * Zero.
     */
    uint64_t reserved[4];
} ringway_consumer_settings;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * What the last error of this thread was, as text for people: what happened, with figures, and what to do. Empty before
 * the first error. Valid until the next error of this thread, or its end.
 */
const char *ringway_error_message(void);

/**
 * Whether the call that was the last to fail in this thread may succeed later, without anything else being done.
 */
bool ringway_error_is_retryable(void);

/**
 * The library's version. The header's is `RINGWAY_VERSION`: the two must be the same.
 */
const char *ringway_version(void);

/**
 * The settings that a stream has when nothing else is said: one partition with 16,384 slots of 128 bytes, in memory, any
 * number of producers, which wait while it is full.
 */
struct ringway_stream_settings ringway_stream_settings_default(void);

/**
 * The settings that a shared subscription has when nothing else is said: leases of 30 s, 20 attempts, no delay, no
 * dead-letter stream, all consumers active.
 */
struct ringway_shared_settings ringway_shared_settings_default(void);

/**
 * Opens a session with the broker in `directory`; null: where a broker is looked for when nothing is said (`RINGWAY_DIR`,
 * else `ringway` in `XDG_RUNTIME_DIR`, else `/run/ringway` for root, else `/tmp/ringway-UID`). Waits at most ten seconds.
 *
 * What must hold: `directory` is null or ends with a zero; `connection` can be written.
 */
enum ringway_code ringway_connection_open(const char *directory,
                                          struct ringway_connection **connection);

/**
 * The same, for a connection that looks for another broker for `reconnect_within_ns` when its own is gone: 30 seconds where nothing
 * is said, never for 0. Everything that was opened through it goes on there by itself.
 *
 * What must hold: `directory` is null or ends with a zero; `connection` can be written.
 */
enum ringway_code ringway_connection_open_within(const char *directory,
                                                 uint64_t reconnect_within_ns,
                                                 struct ringway_connection **connection);

/**
 * Ends the use of a connection by this handle; null is allowed. The session ends with the last producer and consumer.
 *
 * What must hold: `connection` is null or a connection, which no thread uses any more.
 */
enum ringway_code ringway_connection_close(struct ringway_connection *connection);

/**
 * Whether the broker is still there: one system call, and it does not block.
 *
 * What must hold: `connection` is null or a connection.
 */
bool ringway_connection_is_open(const struct ringway_connection *connection);

/**
 * The broker's process id, as the broker sees it; 0 when this is no connection.
 *
 * What must hold: `connection` is null or a connection.
 */
uint32_t ringway_connection_broker_pid(const struct ringway_connection *connection);

/**
 * Makes a stream, or confirms that it exists with these settings (null: the default ones). `RINGWAY_CONFLICT`: it exists with
 * others.
 *
 * What must hold: `connection` is a connection, `name` ends with a zero, `settings` is null or can be read.
 */
enum ringway_code ringway_connection_declare_stream(const struct ringway_connection *connection,
                                                    const char *name,
                                                    const struct ringway_stream_settings *settings);

/**
 * Makes a queue: a stream that keeps every message until it is acked, with one shared subscription of the same name; or
 * confirms that it exists with these settings (null: the default ones).
 *
 * What must hold: `connection` is a connection, `name` ends with a zero, `settings` and `shared` are null or can be read.
 */
enum ringway_code ringway_connection_declare_queue(const struct ringway_connection *connection,
                                                   const char *name,
                                                   const struct ringway_stream_settings *settings,
                                                   const struct ringway_shared_settings *shared);

/**
 * Makes an ordered subscription that starts at `start` (a `ringway_start`), or confirms that it exists, wherever it
 * stands then. `durable_only`: it delivers only what is on the device.
 *
 * What must hold: `connection` is a connection, `stream` and `name` end with a zero.
 */
enum ringway_code ringway_connection_declare_subscription(const struct ringway_connection *connection,
                                                          const char *stream,
                                                          const char *name,
                                                          uint32_t start_at,
                                                          bool durable_only);

/**
 * Makes a shared subscription that starts at `start`, or confirms that it exists with these settings (null: the default
 * ones).
 *
 * What must hold: `connection` is a connection, `stream` and `name` end with a zero, `settings` is null or can be read.
 */
enum ringway_code ringway_connection_declare_shared_subscription(const struct ringway_connection *connection,
                                                                 const char *stream,
                                                                 const char *name,
                                                                 uint32_t start_at,
                                                                 const struct ringway_shared_settings *settings);

/**
 * Describes a stream.
 *
 * What must hold: `connection` is a connection, `name` ends with a zero, `info` can be written.
 */
enum ringway_code ringway_connection_stream(const struct ringway_connection *connection,
                                            const char *name,
                                            struct ringway_stream_info *info);

/**
 * Describes all streams, in order of their names: `each` is called for every one, with its name, which is over with the call, and
 * `context`. It may use the connection, and must return.
 *
 * What must hold: `connection` is a connection that `each` does not close; `each` is a function, or null.
 */
enum ringway_code ringway_connection_streams(const struct ringway_connection *connection,
                                             void (*each)(void *context,
                                                          const char *name,
                                                          const struct ringway_stream_info *info),
                                             void *context);

/**
 * Describes all subscriptions of a stream, as `ringway_connection_streams` does streams.
 *
 * What must hold: As `ringway_connection_streams`; `stream` ends with a zero.
 */
enum ringway_code ringway_connection_subscriptions(const struct ringway_connection *connection,
                                                   const char *stream,
                                                   void (*each)(void *context,
                                                                const char *name,
                                                                const struct ringway_subscription_info *info),
                                                   void *context);

/**
 * Describes a subscription.
 *
 * What must hold: `connection` is a connection, `stream` and `name` end with a zero, `info` can be written.
 */
enum ringway_code ringway_connection_subscription(const struct ringway_connection *connection,
                                                  const char *stream,
                                                  const char *name,
                                                  struct ringway_subscription_info *info);

/**
 * Removes a stream with its subscriptions. `RINGWAY_IN_USE` while somebody has it open.
 *
 * What must hold: `connection` is a connection, `name` ends with a zero.
 */
enum ringway_code ringway_connection_delete_stream(const struct ringway_connection *connection, const char *name);

/**
 * Removes a subscription. `RINGWAY_IN_USE` while a consumer has it open.
 *
 * What must hold: `connection` is a connection, `stream` and `name` end with a zero.
 */
enum ringway_code ringway_connection_delete_subscription(const struct ringway_connection *connection,
                                                         const char *stream,
                                                         const char *name);

/**
 * Tells the broker to end and waits until its process and its keeper's are gone, at most `timeout_ns`; then
 * `RINGWAY_NO_ANSWER`.
 *
 * What must hold: `connection` is a connection.
 */
enum ringway_code ringway_connection_stop_broker(const struct ringway_connection *connection, uint64_t timeout_ns);

/**
 * Nothing is altered.
 */
struct ringway_stream_changes ringway_stream_changes_none(void);

/**
 * Nothing is altered.
 */
struct ringway_subscription_changes ringway_subscription_changes_none(void);

/**
 * Alters a stream that is there, as a whole or not at all. `RINGWAY_IN_USE`: that changes only while nobody publishes.
 *
 * What must hold: `connection` is a connection, `name` ends with a zero, `changes` can be read.
 */
enum ringway_code ringway_connection_alter_stream(const struct ringway_connection *connection,
                                                  const char *name,
                                                  const struct ringway_stream_changes *changes);

/**
 * Alters a queue and its subscription, in one: all of it or nothing.
 *
 * What must hold: `connection` is a connection, `name` and the name in `shared` end with a zero, `changes` and `shared` can be read.
 */
enum ringway_code ringway_connection_alter_queue(const struct ringway_connection *connection,
                                                 const char *name,
                                                 const struct ringway_stream_changes *changes,
                                                 const struct ringway_subscription_changes *shared);

/**
 * Alters a shared subscription that is there; of a queue, the one of its name. `RINGWAY_IN_USE`: that changes only while nobody
 * consumes.
 *
 * What must hold: `connection` is a connection, `stream`, `name` and the name in `changes` end with a zero, `changes` can be read.
 */
enum ringway_code ringway_connection_alter_subscription(const struct ringway_connection *connection,
                                                        const char *stream,
                                                        const char *name,
                                                        const struct ringway_subscription_changes *changes);

/**
 * Gives up the messages of a stream that are there and that nobody has, for `subscription`, or for all (null); `messages` (null: it
 * does not matter) becomes how many. `RINGWAY_IN_USE`: an ordered subscription of it is being read.
 *
 * What must hold: `connection` is a connection, `stream` ends with a zero, `subscription` is null or ends with a zero, `messages` is null or can be
 * written.
 */
enum ringway_code ringway_connection_purge(const struct ringway_connection *connection,
                                           const char *stream,
                                           const char *subscription,
                                           uint64_t *messages);

/**
 * Makes attributes, none yet.
 *
 * What must hold: `attributes` can be written.
 */
enum ringway_code ringway_attributes_new(struct ringway_attributes **attributes);

/**
 * Adds an attribute. Fails, without a change, when the name is impossible or there already, or the attributes become too
 * large.
 *
 * What must hold: `attributes` are attributes that no other thread uses, `name` ends with a zero, `value` can be read and has as many bytes
 * as it says.
 */
enum ringway_code ringway_attributes_insert(struct ringway_attributes *attributes,
                                            const char *name,
                                            const struct ringway_value *value);

/**
 * Frees attributes; null is allowed. Messages that were sent with them keep theirs.
 *
 * What must hold: `attributes` is null or attributes, which no thread uses any more.
 */
enum ringway_code ringway_attributes_free(struct ringway_attributes *attributes);

/**
 * The settings that a producer has when nothing else is said: no name, no timestamps, 20 µs of looking.
 */
struct ringway_producer_settings ringway_producer_settings_default(void);

/**
 * Opens all partitions of a stream to publish. `settings` null: the default ones.
 *
 * What must hold: `connection` is a connection, `stream` ends with a zero, `settings` is null or can be read, `producer` can be written.
 */
enum ringway_code ringway_producer_open(const struct ringway_connection *connection,
                                        const char *stream,
                                        const struct ringway_producer_settings *settings,
                                        struct ringway_producer **producer);

/**
 * Gives the stream back and frees the producer, whatever it returns; null is allowed.
 *
 * What must hold: `producer` is null or a producer, which is not used any more.
 */
enum ringway_code ringway_producer_close(struct ringway_producer *producer);

/**
 * Publishes one message; waits while its partition is full, for as long as the broker is there. `position`, if it is not
 * null, is where the message is.
 *
 * What must hold: `producer` is a producer that no other thread uses, there are `payload_bytes` at `payload`, `position` is null or can be
 * written.
 */
enum ringway_code ringway_producer_send(struct ringway_producer *producer,
                                        const void *payload,
                                        size_t payload_bytes,
                                        struct ringway_position *position);

/**
 * Publishes one message, or says at once that its partition is full (`RINGWAY_FULL`).
 *
 * What must hold: As `ringway_producer_send`.
 */
enum ringway_code ringway_producer_try_send(struct ringway_producer *producer,
                                            const void *payload,
                                            size_t payload_bytes,
                                            struct ringway_position *position);

/**
 * Publishes one message; waits at most `timeout_ns` while its partition is full, then `RINGWAY_FULL`.
 *
 * What must hold: As `ringway_producer_send`.
 */
enum ringway_code ringway_producer_send_timeout(struct ringway_producer *producer,
                                                const void *payload,
                                                size_t payload_bytes,
                                                uint64_t timeout_ns,
                                                struct ringway_position *position);

/**
 * Publishes a message with its key and other attributes; waits at most `timeout_ns` while its partition is full: 0 not at all,
 * `RINGWAY_FOREVER` as long as the broker is there.
 *
 * What must hold: `producer` is a producer that no other thread uses, `message` can be read and everything in it is as it says, `position` is
 * null or can be written.
 */
enum ringway_code ringway_producer_send_message(struct ringway_producer *producer,
                                                const struct ringway_outgoing *message,
                                                uint64_t timeout_ns,
                                                struct ringway_position *position);

/**
 * Publishes messages in order; waits while a partition is full. Looks for sleepers once for all of them. `sent`, if it is not
 * null, is how many were published before the one that could not be; `last` is where the last of them is, if there was one
 * and all were sent. A message that cannot be (`RINGWAY_ARGUMENT`) is found before anything is published.
 *
 * What must hold: `producer` is a producer that no other thread uses, there are `count` messages and everything in them is as they say; `sent`
 * and `last` are null or can be written.
 */
enum ringway_code ringway_producer_send_batch(struct ringway_producer *producer,
                                              const struct ringway_outgoing *messages,
                                              size_t count,
                                              size_t *sent,
                                              struct ringway_position *last);

/**
 * Takes memory for a payload of `payload_bytes`, to be sent by `ringway_producer_send_loan`; waits while all memory that this
 * producer may have is in messages that are not consumed. `key`, if it is not null, is the key that its message will have.
 *
 * What must hold: `producer` is a producer that no other thread uses, there are `key_bytes` at `key`, `loan` can be written.
 */
enum ringway_code ringway_producer_loan(struct ringway_producer *producer,
                                        size_t payload_bytes,
                                        const void *key,
                                        size_t key_bytes,
                                        struct ringway_loan **loan);

/**
 * Keeps the first `payload_bytes` of a loan only.
 *
 * What must hold: `loan` is a loan that no other thread uses.
 */
enum ringway_code ringway_loan_truncate(struct ringway_loan *loan, size_t payload_bytes);

/**
 * Gives a loan back that is not to be sent; null is allowed.
 *
 * What must hold: `loan` is null or a loan, which is not used any more.
 */
enum ringway_code ringway_loan_free(struct ringway_loan *loan);

/**
 * Publishes a loan of this producer; waits while its partition is full. `attributes`, if it is not null, is a message whose
 * payload does not count; its key must be the one that the loan was taken for. On success the loan is over, and `*loan` is
 * null; after an error it is as it was.
 *
 * What must hold: `producer` is a producer and `*loan` a loan, which no other thread uses; `attributes` is null or everything in it is as it
 * says; `position` is null or can be written.
 */
enum ringway_code ringway_producer_send_loan(struct ringway_producer *producer,
                                             struct ringway_loan **loan,
                                             const struct ringway_outgoing *attributes,
                                             struct ringway_position *position);

/**
 * Waits until the message at `position`, and everything before it in its partition, is confirmed, at most `timeout_ns`, then
 * `RINGWAY_TIMEOUT`. `reached`, if it is not null, is the `ringway_durability` that it has.
 *
 * What must hold: `producer` is a producer that no other thread uses, `reached` is null or can be written.
 */
enum ringway_code ringway_producer_confirm(struct ringway_producer *producer,
                                           struct ringway_position position,
                                           uint64_t timeout_ns,
                                           uint32_t *reached);

/**
 * Waits until everything that this producer has sent so far is confirmed, as `ringway_producer_confirm` does.
 *
 * What must hold: As `ringway_producer_confirm`.
 */
enum ringway_code ringway_producer_confirm_all(struct ringway_producer *producer,
                                               uint64_t timeout_ns,
                                               uint32_t *reached);

/**
 * Whether the message at `position` is confirmed. Does not wait.
 *
 * What must hold: `producer` is a producer that no other thread uses.
 */
bool ringway_producer_is_confirmed(struct ringway_producer *producer, struct ringway_position position);

/**
 * Which message the next one is, if it says nothing else; `RINGWAY_EMPTY` when the producer has no name.
 *
 * What must hold: `producer` is a producer that no other thread uses, `sequence` can be written.
 */
enum ringway_code ringway_producer_next_sequence(struct ringway_producer *producer, uint64_t *sequence);

/**
 * Most bytes of a payload that fits a slot; larger ones take memory beside it. 0 when this is no producer.
 *
 * What must hold: `producer` is a producer that no other thread uses.
 */
size_t ringway_producer_inline_bytes_max(struct ringway_producer *producer);

/**
 * Most bytes of a payload. 0 when this is no producer.
 *
 * What must hold: `producer` is a producer that no other thread uses.
 */
size_t ringway_producer_payload_bytes_max(struct ringway_producer *producer);

/**
 * The key of a message, for as long as its payload is valid; `RINGWAY_EMPTY`: it has none.
 *
 * What must hold: `message` is a message, which no other thread uses, nor its consumer; the rest can be written.
 */
enum ringway_code ringway_message_key(const struct ringway_message *message, const void **key, size_t *key_bytes);

/**
 * The correlation id of a message, as `ringway_message_key`.
 *
 * What must hold: As `ringway_message_key`.
 */
enum ringway_code ringway_message_correlation(const struct ringway_message *message,
                                              const void **correlation,
                                              size_t *correlation_bytes);

/**
 * The stream where a reply to a message is expected, not ended by a zero, as `ringway_message_key`.
 *
 * What must hold: As `ringway_message_key`.
 */
enum ringway_code ringway_message_reply_to(const struct ringway_message *message,
                                           const void **stream,
                                           size_t *stream_bytes);

/**
 * When a message came about, in nanoseconds since 1970; `RINGWAY_EMPTY`: it does not say.
 *
 * What must hold: As `ringway_message_key`.
 */
enum ringway_code ringway_message_timestamp_ns(const struct ringway_message *message, uint64_t *timestamp_ns);

/**
 * Which message it is in the count of its producer; `RINGWAY_EMPTY`: that has no name.
 *
 * What must hold: As `ringway_message_key`.
 */
enum ringway_code ringway_message_sequence(const struct ringway_message *message, uint64_t *sequence);

/**
 * A typed attribute of a message, by its name; `RINGWAY_EMPTY`: it has none of this name.
 *
 * What must hold: As `ringway_message_key`; `name` ends with a zero.
 */
enum ringway_code ringway_message_attribute(const struct ringway_message *message,
                                            const char *name,
                                            struct ringway_value *value);

/**
 * The typed attribute at `index` with its name, which is not ended by a zero; `RINGWAY_EMPTY`: there are not so many.
 *
 * What must hold: As `ringway_message_key`.
 */
enum ringway_code ringway_message_attribute_at(const struct ringway_message *message,
                                               size_t index,
                                               const void **name,
                                               size_t *name_bytes,
                                               struct ringway_value *value);

/**
 * Copies `bytes` of a payload from `at` on into `into`. Of a payload in place this is right also when its producer, against
 * the protocol, writes there at the same time: what is copied is then any mixture.
 *
 * What must hold: As `ringway_message_key`; `bytes` can be written at `into`.
 */
enum ringway_code ringway_message_read(const struct ringway_message *message,
                                       size_t at,
                                       void *into,
                                       size_t bytes);

/**
 * Keeps a message of an ordered consumer beyond its next call, for any time: `held` is another one, to be freed by
 * `ringway_message_free`, by any thread. A payload in place stays there: `RINGWAY_HELD` when a consumer holds 64 such.
 *
 * What must hold: As `ringway_message_key`; `held` can be written.
 */
enum ringway_code ringway_message_hold(const struct ringway_message *message, const struct ringway_message **held);

/**
 * Frees a message that was held, or kept and is not to be settled (its lease ends by itself); null is allowed.
 *
 * What must hold: `message` is null or a message, which is not used any more.
 */
enum ringway_code ringway_message_free(const struct ringway_message *message);

/**
 * The settings that a consumer has when nothing else is said: all partitions, 20 µs of looking, one message claimed at a time,
 * courtesy.
 */
struct ringway_consumer_settings ringway_consumer_settings_default(void);

/**
 * Opens an ordered subscription, which goes on where it was last committed. `settings` null: the default ones.
 *
 * What must hold: `connection` is a connection, `stream` and `subscription` end with a zero, `settings` is null or can be read and has as many
 * partitions as it says, `consumer` can be written.
 */
enum ringway_code ringway_consumer_open(const struct ringway_connection *connection,
                                        const char *stream,
                                        const char *subscription,
                                        const struct ringway_consumer_settings *settings,
                                        struct ringway_consumer **consumer);

/**
 * Commits everything returned, gives the subscription back and frees the consumer, whatever it returns; null is allowed.
 * Messages that are held stay.
 *
 * What must hold: `consumer` is null or a consumer, which is not used any more, nor is what it has returned.
 */
enum ringway_code ringway_consumer_close(struct ringway_consumer *consumer);

/**
 * The next message; waits for it as long as the broker is there. What was returned before is over, and counts as consumed.
 *
 * What must hold: `consumer` is a consumer that no other thread uses, `message` can be written; what it has returned before is not used any
 * more.
 */
enum ringway_code ringway_consumer_recv(struct ringway_consumer *consumer,
                                        const struct ringway_message **message);

/**
 * The next message, if there is one now; otherwise `RINGWAY_EMPTY`, and `*message` is null.
 *
 * What must hold: As `ringway_consumer_recv`.
 */
enum ringway_code ringway_consumer_try_recv(struct ringway_consumer *consumer, const struct ringway_message **message);

/**
 * The next message; waits for it `timeout_ns` at the most, then `RINGWAY_EMPTY`.
 *
 * What must hold: As `ringway_consumer_recv`.
 */
enum ringway_code ringway_consumer_recv_timeout(struct ringway_consumer *consumer,
                                                uint64_t timeout_ns,
                                                const struct ringway_message **message);

/**
 * A descriptor to wait for with poll(2), epoll or select, among others. It is readable from the beginning, and becomes so again
 * when there may be something after `ringway_consumer_try_recv` has returned `RINGWAY_EMPTY`: so call that until it does, each
 * time the descriptor is readable. It is readable at least once a second, for that call to see whether the broker is there:
 * from now on it returns `RINGWAY_DISCONNECTED` when it is not.
 *
 * The descriptor is the consumer's, the same with each call, and closed with it: remove it from an epoll before. Only to be
 * waited for, not read. The message that was returned last is over.
 *
 * What must hold: As `ringway_consumer_recv`; `descriptor` can be written.
 */
enum ringway_code ringway_consumer_readiness(struct ringway_consumer *consumer,
                                             int *descriptor);

/**
 * Declares everything returned so far consumed, at once. The message that was returned last is over.
 *
 * What must hold: As `ringway_consumer_recv`.
 */
enum ringway_code ringway_consumer_commit(struct ringway_consumer *consumer);

/**
 * The same, and waits until that is as durable as the stream, at most `timeout_ns`, then `RINGWAY_TIMEOUT`.
 *
 * What must hold: As `ringway_consumer_recv`.
 */
enum ringway_code ringway_consumer_confirm_commit(struct ringway_consumer *consumer, uint64_t timeout_ns);

/**
 * How many messages were overwritten before this consumer could read them.
 *
 * What must hold: `consumer` is a consumer that no other thread uses.
 */
uint64_t ringway_consumer_missed(struct ringway_consumer *consumer);

/**
 * Where the next message of the partition at `index` (0 to how many it reads) will come from; `RINGWAY_EMPTY`: it reads not so
 * many.
 *
 * What must hold: `consumer` is a consumer that no other thread uses, `position` can be written.
 */
enum ringway_code ringway_consumer_position(struct ringway_consumer *consumer,
                                            size_t index,
                                            struct ringway_position *position);

/**
 * Opens a shared subscription as one of its consumers; for a queue, `subscription` is null, or the queue's name. `settings`
 * null: the default ones.
 *
 * What must hold: `connection` is a connection, `stream` ends with a zero, so does `subscription` or it is null, `settings` is null or can be
 * read and has as many partitions as it says, `consumer` can be written.
 */
enum ringway_code ringway_shared_consumer_open(const struct ringway_connection *connection,
                                               const char *stream,
                                               const char *subscription,
                                               const struct ringway_consumer_settings *settings,
                                               struct ringway_shared_consumer **consumer);

/**
 * Gives back what was not settled, stops consuming and frees the consumer, whatever it returns; null is allowed. Messages that
 * were kept cannot be settled any more; they are still to be freed.
 *
 * What must hold: `consumer` is null or a consumer, which is not used any more, nor is what it has delivered.
 */
enum ringway_code ringway_shared_consumer_close(struct ringway_shared_consumer *consumer);

/**
 * The next message; waits for it as long as the broker is there. The message that was delivered before is over; if it was
 * neither settled nor kept, it is given back, and comes again.
 *
 * What must hold: `consumer` is a consumer that no other thread uses, `message` can be written; what it has delivered before is not used any
 * more.
 */
enum ringway_code ringway_shared_consumer_recv(struct ringway_shared_consumer *consumer,
                                               const struct ringway_message **message);

/**
 * The next message, if there is one now; otherwise `RINGWAY_EMPTY`, and `*message` is null.
 *
 * What must hold: As `ringway_shared_consumer_recv`.
 */
enum ringway_code ringway_shared_consumer_try_recv(struct ringway_shared_consumer *consumer,
                                                   const struct ringway_message **message);

/**
 * The next message; waits for it `timeout_ns` at the most, then `RINGWAY_EMPTY`.
 *
 * What must hold: As `ringway_shared_consumer_recv`.
 */
enum ringway_code ringway_shared_consumer_recv_timeout(struct ringway_shared_consumer *consumer,
                                                       uint64_t timeout_ns,
                                                       const struct ringway_message **message);

/**
 * A descriptor to wait for, as `ringway_consumer_readiness`, with `ringway_shared_consumer_try_recv`. The message that was
 * delivered last may still be settled.
 *
 * What must hold: `consumer` is a consumer that no other thread uses, `descriptor` can be written.
 */
enum ringway_code ringway_shared_consumer_readiness(struct ringway_shared_consumer *consumer,
                                                    int *descriptor);

/**
 * Settles a message: it is never delivered again, and over for the program. `RINGWAY_LATE`: the lease was over, and the
 * message is, or was, delivered again.
 *
 * What must hold: `consumer` is a consumer that no other thread uses, `message` a message that it has delivered, which is not used any more
 * when this succeeds.
 */
enum ringway_code ringway_shared_consumer_ack(struct ringway_shared_consumer *consumer,
                                              const struct ringway_message *message);

/**
 * Says that handling a message has failed: it is delivered again after the subscription's backoff, or dead when it has failed
 * too often. It is over for the program.
 *
 * What must hold: As `ringway_shared_consumer_ack`.
 */
enum ringway_code ringway_shared_consumer_nack(struct ringway_shared_consumer *consumer,
                                               const struct ringway_message *message);

/**
 * The same, to be delivered again after `delay_ms`.
 *
 * What must hold: As `ringway_shared_consumer_ack`.
 */
enum ringway_code ringway_shared_consumer_nack_after(struct ringway_shared_consumer *consumer,
                                                     const struct ringway_message *message,
                                                     uint64_t delay_ms);

/**
 * Says that a message shall never be delivered again: it goes to the dead letters, and is over for the program.
 *
 * What must hold: As `ringway_shared_consumer_ack`.
 */
enum ringway_code ringway_shared_consumer_reject(struct ringway_shared_consumer *consumer,
                                                 const struct ringway_message *message);

/**
 * Gives a message back untouched, to be delivered again at once. It is over for the program.
 *
 * What must hold: As `ringway_shared_consumer_ack`.
 */
enum ringway_code ringway_shared_consumer_release(struct ringway_shared_consumer *consumer,
                                                  const struct ringway_message *message);

/**
 * Lets the lease of a message last for `lease_ms` from now on, twelve hours at most.
 *
 * What must hold: As `ringway_shared_consumer_ack`; the message may be used on.
 */
enum ringway_code ringway_shared_consumer_extend(struct ringway_shared_consumer *consumer,
                                                 const struct ringway_message *message,
                                                 uint64_t lease_ms);

/**
 * Keeps a message beyond the next call of its consumer, with a copy of it; the lease goes on. `kept` is another one, to be
 * settled by the same consumer, which frees it, or freed by `ringway_message_free`; `message` is over.
 *
 * What must hold: As `ringway_shared_consumer_ack`; `kept` can be written.
 */
enum ringway_code ringway_shared_consumer_keep(struct ringway_shared_consumer *consumer,
                                               const struct ringway_message *message,
                                               const struct ringway_message **kept);

/**
 * Waits until the broker has judged everything that was said, at most ten seconds. `late`, if it is not null, is how many of
 * these verdicts so far came too late. An ack needs no waiting: it is done when it returns.
 *
 * What must hold: `consumer` is a consumer that no other thread uses, `late` is null or can be written.
 */
enum ringway_code ringway_shared_consumer_confirm(struct ringway_shared_consumer *consumer,
                                                  uint64_t *late);

/**
 * Waits until everything that was acked, or said otherwise, is as durable as the stream, at most `timeout_ns`, then
 * `RINGWAY_TIMEOUT`: then none of it comes again, whatever dies.
 *
 * What must hold: `consumer` is a consumer that no other thread uses.
 */
enum ringway_code ringway_shared_consumer_confirm_settled(struct ringway_shared_consumer *consumer,
                                                          uint64_t timeout_ns);

/**
 * How many verdicts the broker has found to be too late.
 *
 * What must hold: `consumer` is a consumer that no other thread uses.
 */
uint64_t ringway_shared_consumer_late(struct ringway_shared_consumer *consumer);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* RINGWAY_H */
