/* What a program does wrong is told, and nothing of it is undefined where it can be seen.
 *
 * usage: abi DIRECTORY; compiled as C11, and once more as C++ */

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ringway.h"

#define ASSERT(holds)                                                                                \
    do {                                                                                             \
        if (!(holds)) {                                                                              \
            fprintf(stderr, "%s:%d: %s; the last error: %s\n", __FILE__, __LINE__, #holds,           \
                    ringway_error_message());                                                        \
            exit(1);                                                                                 \
        }                                                                                            \
    } while (0)

static ringway_connection *connection;

static void streams_are_altered_and_purged(void) {
    ringway_shared_settings shared = ringway_shared_settings_default();
    shared.lease_ms = 9000;
    ASSERT(ringway_connection_declare_queue(connection, "altered", NULL, NULL) == RINGWAY_OK);
    ringway_stream_changes none = ringway_stream_changes_none(), changes = none;
    ringway_subscription_changes shorter = ringway_subscription_changes_none();
    shorter.lease_ms = 9000;
    ASSERT(ringway_connection_alter_queue(connection, "altered", &none, &shorter) == RINGWAY_OK);
    ASSERT(ringway_connection_declare_queue(connection, "altered", NULL, NULL) == RINGWAY_CONFLICT);
    ASSERT(ringway_connection_declare_queue(connection, "altered", NULL, &shared) == RINGWAY_OK);
    shorter.dead_letter = "altered.dead";
    shorter.changes_dead_letter = true;
    shorter.single_active = 1;
    ASSERT(ringway_connection_alter_subscription(connection, "altered", "altered", &shorter) == RINGWAY_OK);
    shared.dead_letter = "altered.dead";
    shared.single_active = true;
    ASSERT(ringway_connection_declare_queue(connection, "altered", NULL, &shared) == RINGWAY_OK);
    shorter.single_active = 2;
    ASSERT(ringway_connection_alter_subscription(connection, "altered", "altered", &shorter) == RINGWAY_ARGUMENT);

    changes.overflow = RINGWAY_OVERFLOW_REJECT;
    ASSERT(ringway_connection_alter_stream(connection, "altered", &changes) == RINGWAY_OK);
    changes.overflow = RINGWAY_OVERFLOW_DROP_OLDEST;
    ASSERT(ringway_connection_alter_stream(connection, "altered", &changes) == RINGWAY_INVALID);
    changes.overflow = 99;
    ASSERT(ringway_connection_alter_stream(connection, "altered", &changes) == RINGWAY_ARGUMENT);
    ASSERT(ringway_connection_alter_stream(connection, "altered", NULL) == RINGWAY_ARGUMENT);
    ASSERT(ringway_connection_alter_stream(connection, "none", &none) == RINGWAY_NOT_FOUND);

    ringway_producer *producer;
    ASSERT(ringway_producer_open(connection, "altered", NULL, &producer) == RINGWAY_OK);
    ringway_position position;
    for (int number = 0; number < 3; number++)
        ASSERT(ringway_producer_send(producer, "x", 1, &position) == RINGWAY_OK);
    uint64_t messages = 9;
    ASSERT(ringway_connection_purge(connection, "altered", NULL, &messages) == RINGWAY_OK && messages == 3);
    ASSERT(ringway_connection_purge(connection, "altered", "altered", NULL) == RINGWAY_OK);
    ASSERT(ringway_connection_purge(connection, "none", NULL, &messages) == RINGWAY_NOT_FOUND && messages == 0);
    ASSERT(ringway_producer_close(producer) == RINGWAY_OK);
    ASSERT(ringway_connection_delete_stream(connection, "altered") == RINGWAY_OK);
}

static void handles_that_are_null_or_of_another_sort_are_errors(void) {
    ringway_position position = {0, 0};
    ASSERT(ringway_producer_send(NULL, "x", 1, &position) == RINGWAY_ARGUMENT);
    ASSERT(strstr(ringway_error_message(), "producer is null") != NULL);
    ASSERT(!ringway_error_is_retryable());
    ASSERT(ringway_producer_send((ringway_producer *)connection, "x", 1, &position) == RINGWAY_ARGUMENT);
    ASSERT(strstr(ringway_error_message(), "this is no producer") != NULL);
    ASSERT(ringway_connection_open("/nowhere", NULL) == RINGWAY_ARGUMENT);
    ASSERT(ringway_connection_declare_stream(connection, NULL, NULL) == RINGWAY_ARGUMENT);
    ASSERT(ringway_connection_declare_stream(connection, "\xff", NULL) == RINGWAY_ARGUMENT);
    ASSERT(ringway_connection_close(NULL) == RINGWAY_OK && ringway_producer_close(NULL) == RINGWAY_OK);
    ASSERT(ringway_message_free(NULL) == RINGWAY_OK && ringway_loan_free(NULL) == RINGWAY_OK);
    ASSERT(!ringway_connection_is_open(NULL) && ringway_connection_is_open(connection));
    ASSERT(ringway_connection_broker_pid(connection) > 0);
    ASSERT(strcmp(ringway_version(), RINGWAY_VERSION) == 0);
}

static void errors_are_those_of_the_crate(void) {
    ringway_connection *none = connection;
    ASSERT(ringway_connection_open("/nowhere", &none) == RINGWAY_NO_BROKER && none == NULL);
    ASSERT(ringway_connection_open_within("/nowhere", 0, &none) == RINGWAY_NO_BROKER && none == NULL);
    ASSERT(strstr(ringway_error_message(), "ringway serve --dir /nowhere") != NULL && ringway_error_is_retryable());
    ringway_producer *producer;
    ASSERT(ringway_producer_open(connection, "none", NULL, &producer) == RINGWAY_NOT_FOUND && producer == NULL);

    ringway_stream_settings settings = ringway_stream_settings_default();
    settings.slots = 64;
    settings.overflow = RINGWAY_OVERFLOW_REJECT;
    ASSERT(ringway_connection_declare_stream(connection, "small", &settings) == RINGWAY_OK);
    ASSERT(ringway_connection_declare_stream(connection, "small", NULL) == RINGWAY_CONFLICT);
    settings.overflow = 99;
    ASSERT(ringway_connection_declare_stream(connection, "other", &settings) == RINGWAY_ARGUMENT);
    settings.overflow = RINGWAY_OVERFLOW_BLOCK;
    settings.reserved[2] = 1;
    ASSERT(ringway_connection_declare_stream(connection, "other", &settings) == RINGWAY_ARGUMENT);

    ASSERT(ringway_connection_declare_subscription(connection, "small", "s", RINGWAY_START_FIRST, false) == RINGWAY_OK);
    ASSERT(ringway_connection_declare_subscription(connection, "small", "t", 7, false) == RINGWAY_ARGUMENT);
    ringway_shared_consumer *shared;
    ASSERT(ringway_shared_consumer_open(connection, "small", "s", NULL, &shared) == RINGWAY_OTHER_MODE);
    ASSERT(ringway_producer_open(connection, "small", NULL, &producer) == RINGWAY_OK);
    for (int count = 0; count < 64; count++) {
        ASSERT(ringway_producer_try_send(producer, "x", 1, NULL) == RINGWAY_OK);
    }
    ASSERT(ringway_producer_send(producer, "x", 1, NULL) == RINGWAY_FULL && ringway_error_is_retryable());
    ASSERT(strstr(ringway_error_message(), "held by subscription s") != NULL);
    ASSERT(ringway_producer_send_timeout(producer, "x", 1, 1000, NULL) == RINGWAY_FULL);
    ASSERT(ringway_producer_send(producer, NULL, 1, NULL) == RINGWAY_ARGUMENT);

    ringway_outgoing messages[2];
    memset(messages, 0, sizeof messages);
    size_t sent = 9;
    ASSERT(ringway_producer_send_batch(producer, messages, 2, &sent, NULL) == RINGWAY_FULL && sent == 0);
    messages[1].durability = 9;
    ASSERT(ringway_producer_send_batch(producer, messages, 2, &sent, NULL) == RINGWAY_ARGUMENT && sent == 0);
    messages[0].has_sequence = true;
    ASSERT(ringway_producer_send_message(producer, messages, 0, NULL) == RINGWAY_NO_NAME);
    uint64_t sequence;
    ASSERT(ringway_producer_next_sequence(producer, &sequence) == RINGWAY_EMPTY);
    ASSERT(ringway_producer_inline_bytes_max(producer) == 112 && ringway_producer_payload_bytes_max(producer) == 16 << 20);

    ringway_consumer *consumer, *second;
    ASSERT(ringway_consumer_open(connection, "small", "s", NULL, &consumer) == RINGWAY_OK);
    ASSERT(ringway_consumer_open(connection, "small", "s", NULL, &second) == RINGWAY_IN_USE && second == NULL);
    const ringway_message *message, *held;
    for (int count = 0; count < 64; count++) {
        ASSERT(ringway_consumer_try_recv(consumer, &message) == RINGWAY_OK && message->payload_bytes == 1);
        ASSERT(message->position == (uint64_t)count && !message->is_in_place && message->attempt == 0);
    }
    const void *key;
    size_t bytes;
    ASSERT(ringway_message_key(message, &key, &bytes) == RINGWAY_EMPTY && key == NULL && bytes == 0);
    char copy[1];
    ASSERT(ringway_message_read(message, 0, copy, 1) == RINGWAY_OK && copy[0] == 'x');
    ASSERT(ringway_message_read(message, 1, copy, 1) == RINGWAY_ARGUMENT);
    ASSERT(ringway_message_free(message) == RINGWAY_ARGUMENT);
    ASSERT(ringway_message_hold(message, &held) == RINGWAY_OK);
    ASSERT(ringway_consumer_try_recv(consumer, &message) == RINGWAY_EMPTY && message == NULL);
    ASSERT(ringway_consumer_recv_timeout(consumer, 1000, &message) == RINGWAY_EMPTY && message == NULL);
    ringway_position position;
    ASSERT(ringway_consumer_position(consumer, 0, &position) == RINGWAY_OK && position.position == 64);
    ASSERT(ringway_consumer_position(consumer, 1, &position) == RINGWAY_EMPTY);
    ASSERT(ringway_consumer_confirm_commit(consumer, RINGWAY_FOREVER) == RINGWAY_OK);
    ASSERT(ringway_consumer_missed(consumer) == 0 && ringway_consumer_close(consumer) == RINGWAY_OK);
    ASSERT(held->payload[0] == 'x' && ringway_message_free(held) == RINGWAY_OK);
    ASSERT(ringway_producer_close(producer) == RINGWAY_OK);
}

static void what_a_message_says_of_itself_arrives(void) {
    ASSERT(ringway_connection_declare_stream(connection, "said", NULL) == RINGWAY_OK);
    ASSERT(ringway_connection_declare_subscription(connection, "said", "s", RINGWAY_START_FIRST, false) == RINGWAY_OK);
    ringway_producer_settings settings = ringway_producer_settings_default();
    settings.name = "importer";
    ringway_producer *producer;
    ASSERT(ringway_producer_open(connection, "said", &settings, &producer) == RINGWAY_OK);
    ringway_attributes *attributes;
    ASSERT(ringway_attributes_new(&attributes) == RINGWAY_OK);
    ringway_value value;
    memset(&value, 0, sizeof value);
    value.kind = RINGWAY_VALUE_KIND_INTEGER, value.integer = -3;
    ASSERT(ringway_attributes_insert(attributes, "count", &value) == RINGWAY_OK);
    ASSERT(ringway_attributes_insert(attributes, "count", &value) == RINGWAY_ATTRIBUTES);
    value.kind = RINGWAY_VALUE_KIND_TEXT, value.bytes = "caf\xc3\xa9", value.bytes_count = 5;
    ASSERT(ringway_attributes_insert(attributes, "kind", &value) == RINGWAY_OK);
    value.bytes_count = 4;
    ASSERT(ringway_attributes_insert(attributes, "cut", &value) == RINGWAY_ARGUMENT);
    value.kind = RINGWAY_VALUE_KIND_NUMBER, value.number = 0.25;
    ASSERT(ringway_attributes_insert(attributes, "share", &value) == RINGWAY_OK);
    value.kind = 9;
    ASSERT(ringway_attributes_insert(attributes, "bad", &value) == RINGWAY_ARGUMENT);

    ringway_outgoing outgoing;
    memset(&outgoing, 0, sizeof outgoing);
    outgoing.key = "k", outgoing.key_bytes = 1, outgoing.correlation = "c", outgoing.correlation_bytes = 1;
    outgoing.reply_to = "answers", outgoing.attributes = attributes;
    outgoing.timestamp_ns = 5, outgoing.has_timestamp = true, outgoing.sequence = 11, outgoing.has_sequence = true;
    ringway_position position;
    ASSERT(ringway_producer_send_message(producer, &outgoing, RINGWAY_FOREVER, &position) == RINGWAY_OK);
    ASSERT(ringway_producer_send_message(producer, &outgoing, 1000, &position) == RINGWAY_ALREADY_SENT);
    ASSERT(ringway_attributes_free(attributes) == RINGWAY_OK);
    uint64_t number;
    ASSERT(ringway_producer_next_sequence(producer, &number) == RINGWAY_OK && number == 12);
    uint32_t reached;
    ASSERT(ringway_producer_confirm(producer, position, 0, &reached) == RINGWAY_OK);
    ASSERT(reached == RINGWAY_DURABILITY_MEMORY && ringway_producer_is_confirmed(producer, position));

    ringway_consumer *consumer;
    const ringway_message *message;
    const void *part;
    size_t bytes;
    ASSERT(ringway_consumer_open(connection, "said", "s", NULL, &consumer) == RINGWAY_OK);
    ASSERT(ringway_consumer_recv(consumer, &message) == RINGWAY_OK && message->payload_bytes == 0);
    ASSERT(ringway_message_key(message, &part, &bytes) == RINGWAY_OK && bytes == 1 && *(const char *)part == 'k');
    ASSERT(ringway_message_correlation(message, &part, &bytes) == RINGWAY_OK && *(const char *)part == 'c');
    ASSERT(ringway_message_reply_to(message, &part, &bytes) == RINGWAY_OK && memcmp(part, "answers", bytes) == 0);
    ASSERT(ringway_message_timestamp_ns(message, &number) == RINGWAY_OK && number == 5);
    ASSERT(ringway_message_sequence(message, &number) == RINGWAY_OK && number == 11);
    ASSERT(ringway_message_attribute(message, "count", &value) == RINGWAY_OK && value.integer == -3);
    ASSERT(ringway_message_attribute(message, "none", &value) == RINGWAY_EMPTY);
    ASSERT(ringway_message_attribute_at(message, 1, &part, &bytes, &value) == RINGWAY_OK);
    ASSERT(bytes == 4 && memcmp(part, "kind", 4) == 0 && memcmp(value.bytes, "caf\xc3\xa9", 5) == 0);
    ASSERT(ringway_message_attribute_at(message, 3, &part, &bytes, &value) == RINGWAY_EMPTY);
    ASSERT(ringway_consumer_close(consumer) == RINGWAY_OK && ringway_producer_close(producer) == RINGWAY_OK);
}

static void loans_come_back_from_an_error(void) {
    ringway_producer *producer, *other;
    ASSERT(ringway_producer_open(connection, "said", NULL, &producer) == RINGWAY_OK);
    ASSERT(ringway_producer_open(connection, "said", NULL, &other) == RINGWAY_OK);
    ringway_loan *loan;
    ASSERT(ringway_producer_loan(producer, 1000, "k", 1, &loan) == RINGWAY_OK && loan->payload_bytes == 1000);
    memset(loan->payload, 1, 1000);
    ASSERT(ringway_loan_truncate(loan, 1001) == RINGWAY_ARGUMENT);
    ASSERT(ringway_producer_send_loan(other, &loan, NULL, NULL) == RINGWAY_LOAN && loan != NULL && loan->payload[999] == 1);
    ASSERT(ringway_producer_send_loan(producer, &loan, NULL, NULL) == RINGWAY_OK && loan == NULL);
    ASSERT(ringway_producer_send_loan(producer, &loan, NULL, NULL) == RINGWAY_ARGUMENT);
    ASSERT(ringway_producer_loan(producer, 17 << 20, NULL, 0, &loan) == RINGWAY_TOO_LARGE && loan == NULL);
    ASSERT(ringway_producer_loan(producer, 1000, NULL, 0, &loan) == RINGWAY_OK);
    /* Freed behind its producer. */
    ASSERT(ringway_producer_close(producer) == RINGWAY_OK && ringway_producer_close(other) == RINGWAY_OK);
    ASSERT(ringway_loan_free(loan) == RINGWAY_OK);
}

static void deliveries_are_settled_once_and_come_back_when_they_are_not(void) {
    ASSERT(ringway_connection_declare_queue(connection, "q", NULL, NULL) == RINGWAY_OK);
    ringway_producer *producer;
    ASSERT(ringway_producer_open(connection, "q", NULL, &producer) == RINGWAY_OK);
    ringway_consumer_settings settings = ringway_consumer_settings_default();
    const uint32_t partitions[] = {0};
    settings.partitions = partitions, settings.partitions_count = 1, settings.prefetch = 2;
    ringway_shared_consumer *worker, *second;
    ASSERT(ringway_shared_consumer_open(connection, "q", "q", &settings, &worker) == RINGWAY_OK);
    ASSERT(ringway_shared_consumer_open(connection, "q", NULL, NULL, &second) == RINGWAY_OK);

    const ringway_message *message, *kept, *again;
    ASSERT(ringway_shared_consumer_try_recv(worker, &message) == RINGWAY_EMPTY);
    ASSERT(ringway_producer_send(producer, "a", 1, NULL) == RINGWAY_OK);
    ASSERT(ringway_shared_consumer_recv(worker, &message) == RINGWAY_OK && message->attempt == 1);
    ASSERT(ringway_shared_consumer_ack(second, message) == RINGWAY_FOREIGN);
    ASSERT(ringway_message_hold(message, &kept) == RINGWAY_ARGUMENT);
    /* Used beside a delivery, the consumer keeps it. */
    ASSERT(ringway_shared_consumer_late(worker) == 0 && ringway_shared_consumer_confirm(worker, NULL) == RINGWAY_OK);
    ASSERT(message->payload[0] == 'a');
    ASSERT(ringway_shared_consumer_extend(worker, message, 1000) == RINGWAY_OK);
    ASSERT(ringway_shared_consumer_ack(worker, message) == RINGWAY_OK);
    ASSERT(ringway_shared_consumer_ack(worker, message) == RINGWAY_ARGUMENT);
    ASSERT(strstr(ringway_error_message(), "over") != NULL);

    /* Not settled: it comes again, as if nothing had happened. */
    ASSERT(ringway_producer_send(producer, "b", 1, NULL) == RINGWAY_OK);
    ASSERT(ringway_shared_consumer_recv(worker, &message) == RINGWAY_OK);
    ASSERT(ringway_shared_consumer_recv(worker, &message) == RINGWAY_OK);
    ASSERT(message->payload[0] == 'b' && message->attempt == 2 && message->failed == 0);
    ASSERT(ringway_shared_consumer_late(worker) == 0);
    ASSERT(ringway_shared_consumer_recv(worker, &message) == RINGWAY_OK && message->attempt == 3);

    /* Kept: settled beside another. */
    ASSERT(ringway_shared_consumer_keep(worker, message, &kept) == RINGWAY_OK);
    ASSERT(ringway_shared_consumer_ack(worker, message) == RINGWAY_ARGUMENT);
    ASSERT(ringway_producer_send(producer, "c", 1, NULL) == RINGWAY_OK);
    ASSERT(ringway_shared_consumer_recv(worker, &again) == RINGWAY_OK && again->payload[0] == 'c');
    ASSERT(kept->payload[0] == 'b' && ringway_shared_consumer_extend(worker, kept, 1000) == RINGWAY_OK);
    ASSERT(ringway_shared_consumer_ack(worker, kept) == RINGWAY_OK);
    ASSERT(again->payload[0] == 'c' && ringway_shared_consumer_nack(worker, again) == RINGWAY_OK);
    ASSERT(ringway_shared_consumer_recv(worker, &message) == RINGWAY_OK && message->failed == 1);
    ASSERT(ringway_shared_consumer_release(worker, message) == RINGWAY_OK);
    ASSERT(ringway_shared_consumer_recv(worker, &message) == RINGWAY_OK);
    ASSERT(ringway_shared_consumer_keep(worker, message, &kept) == RINGWAY_OK);
    ASSERT(ringway_shared_consumer_confirm_settled(worker, RINGWAY_FOREVER) == RINGWAY_OK);
    ASSERT(ringway_shared_consumer_close(worker) == RINGWAY_OK && ringway_message_free(kept) == RINGWAY_OK);
    ASSERT(ringway_shared_consumer_recv(second, &message) == RINGWAY_OK && message->payload[0] == 'c');
    ASSERT(ringway_shared_consumer_close(second) == RINGWAY_OK && ringway_producer_close(producer) == RINGWAY_OK);
}

static bool is_readable(int descriptor, int wait_ms) {
    struct pollfd waited = {descriptor, POLLIN, 0};
    return poll(&waited, 1, wait_ms) == 1;
}

static void descriptors_tell_when_there_is_something(void) {
    ringway_producer *producer;
    ringway_consumer *consumer;
    ringway_shared_consumer *worker;
    const ringway_message *message;
    int of_consumer, of_worker, again;
    ASSERT(ringway_connection_declare_stream(connection, "waited", NULL) == RINGWAY_OK);
    ASSERT(ringway_connection_declare_subscription(connection, "waited", "s", RINGWAY_START_FIRST, false) == RINGWAY_OK);
    ASSERT(ringway_connection_declare_shared_subscription(connection, "waited", "t", RINGWAY_START_FIRST, NULL) == RINGWAY_OK);
    ASSERT(ringway_producer_open(connection, "waited", NULL, &producer) == RINGWAY_OK);
    ASSERT(ringway_consumer_open(connection, "waited", "s", NULL, &consumer) == RINGWAY_OK);
    ASSERT(ringway_shared_consumer_open(connection, "waited", "t", NULL, &worker) == RINGWAY_OK);
    ASSERT(ringway_consumer_readiness(NULL, &again) == RINGWAY_ARGUMENT);
    ASSERT(ringway_shared_consumer_readiness(worker, NULL) == RINGWAY_ARGUMENT);
    ASSERT(ringway_consumer_readiness(consumer, &of_consumer) == RINGWAY_OK && is_readable(of_consumer, 0));
    ASSERT(ringway_shared_consumer_readiness(worker, &of_worker) == RINGWAY_OK && is_readable(of_worker, 0));
    ASSERT(ringway_consumer_readiness(consumer, &again) == RINGWAY_OK && again == of_consumer);

    /* Once a second it is readable without a message: then once more. */
    do {
        ASSERT(ringway_consumer_try_recv(consumer, &message) == RINGWAY_EMPTY);
    } while (is_readable(of_consumer, 0));
    do {
        ASSERT(ringway_shared_consumer_try_recv(worker, &message) == RINGWAY_EMPTY);
    } while (is_readable(of_worker, 0));
    ASSERT(ringway_producer_send(producer, "x", 1, NULL) == RINGWAY_OK);
    ASSERT(is_readable(of_consumer, -1) && ringway_consumer_try_recv(consumer, &message) == RINGWAY_OK);
    ASSERT(is_readable(of_worker, -1) && ringway_shared_consumer_try_recv(worker, &message) == RINGWAY_OK);
    /* What was delivered stays beside it. */
    ASSERT(ringway_shared_consumer_readiness(worker, &again) == RINGWAY_OK && again == of_worker);
    ASSERT(ringway_shared_consumer_ack(worker, message) == RINGWAY_OK);
    ASSERT(ringway_consumer_close(consumer) == RINGWAY_OK && ringway_shared_consumer_close(worker) == RINGWAY_OK);
    ASSERT(ringway_producer_close(producer) == RINGWAY_OK);
}

static void note_stream(void *context, const char *name, const ringway_stream_info *info) {
    strcat(strcat((char *)context, info->is_queue ? " queue " : " stream "), name);
}

static void note_subscription(void *context, const char *name, const ringway_subscription_info *info) {
    strcat(strcat((char *)context, info->is_shared ? " shared " : " ordered "), name);
}

static void streams_and_subscriptions_are_listed(void) {
    char names[200] = "";
    ASSERT(ringway_connection_streams(connection, note_stream, names) == RINGWAY_OK);
    ASSERT(strcmp(names, " queue q stream said stream small stream waited") == 0);
    names[0] = 0;
    ASSERT(ringway_connection_subscriptions(connection, "waited", note_subscription, names) == RINGWAY_OK);
    ASSERT(strcmp(names, " ordered s shared t") == 0);
    ASSERT(ringway_connection_subscriptions(connection, "none", note_subscription, names) == RINGWAY_NOT_FOUND);
    ASSERT(ringway_connection_streams(connection, NULL, names) == RINGWAY_ARGUMENT);
}

static void a_forked_child_is_told_so(void) {
    ringway_producer *producer;
    ASSERT(ringway_producer_open(connection, "said", NULL, &producer) == RINGWAY_OK);
    pid_t child = fork();
    if (child == 0) {
        _exit(ringway_producer_send(producer, "x", 1, NULL) == RINGWAY_FORKED ? 0 : 1);
    }
    int status;
    ASSERT(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ASSERT(ringway_producer_close(producer) == RINGWAY_OK);
}

int main(int argc, char **argv) {
    ASSERT(argc == 2 && ringway_connection_open(argv[1], &connection) == RINGWAY_OK);
    streams_are_altered_and_purged();
    handles_that_are_null_or_of_another_sort_are_errors();
    errors_are_those_of_the_crate();
    what_a_message_says_of_itself_arrives();
    loans_come_back_from_an_error();
    deliveries_are_settled_once_and_come_back_when_they_are_not();
    descriptors_tell_when_there_is_something();
    streams_and_subscriptions_are_listed();
    a_forked_child_is_told_so();
    ringway_stream_info info;
    ASSERT(ringway_connection_stream(connection, "small", &info) == RINGWAY_OK && info.settings.slots == 64);
    ASSERT(!info.is_queue && info.subscriptions == 1 && info.producers == 0);
    ASSERT(ringway_connection_delete_subscription(connection, "small", "s") == RINGWAY_OK);
    ASSERT(ringway_connection_delete_stream(connection, "small") == RINGWAY_OK);
    ASSERT(ringway_connection_close(connection) == RINGWAY_OK);
    return 0;
}
