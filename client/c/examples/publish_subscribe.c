/* Publishes messages to a topic, and reads them as a subscription.
 *
 * usage: publish_subscribe DIRECTORY */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ringway.h"

/* Ends the program when a call has failed. */
static void check(ringway_code code) {
    if (code < 0) {
        fprintf(stderr, "error %d%s: %s\n", code, ringway_error_is_retryable() ? " (may be tried again)" : "",
                ringway_error_message());
        exit(1);
    }
}

int main(int argc, char **argv) {
    ringway_connection *connection;
    check(ringway_connection_open(argc > 1 ? argv[1] : NULL, &connection));
    ringway_stream_settings settings = ringway_stream_settings_default();
    settings.partitions = 2;
    check(ringway_connection_declare_stream(connection, "orders", &settings));
    check(ringway_connection_declare_subscription(connection, "orders", "billing", RINGWAY_START_FIRST, false));

    ringway_producer *producer;
    check(ringway_producer_open(connection, "orders", NULL, &producer));
    ringway_position position;
    check(ringway_producer_send(producer, "one espresso", 12, &position));

    /* With a key, so that the messages of one customer stay in order, and with attributes. */
    ringway_attributes *attributes;
    ringway_value urgent = {.kind = RINGWAY_VALUE_KIND_BOOLEAN, .boolean = true};
    check(ringway_attributes_new(&attributes));
    check(ringway_attributes_insert(attributes, "urgent", &urgent));
    ringway_outgoing messages[] = {
        {.payload = "two teas", .payload_bytes = 8, .key = "customer 7", .key_bytes = 10, .attributes = attributes},
        {.payload = "three cakes", .payload_bytes = 11, .key = "customer 7", .key_bytes = 10},
    };
    size_t sent;
    check(ringway_producer_send_batch(producer, messages, 2, &sent, &position));
    check(ringway_producer_confirm_all(producer, RINGWAY_FOREVER, NULL));
    check(ringway_attributes_free(attributes));

    ringway_consumer *consumer;
    check(ringway_consumer_open(connection, "orders", "billing", NULL, &consumer));
    for (size_t count = 0; count < 1 + sent; count++) {
        const ringway_message *message;
        check(ringway_consumer_recv(consumer, &message));
        printf("%" PRIu32 ":%" PRIu64 " %.*s", message->partition, message->position, (int)message->payload_bytes,
               (const char *)message->payload);
        const void *key;
        size_t key_bytes;
        if (ringway_message_key(message, &key, &key_bytes) == RINGWAY_OK) {
            printf(", for %.*s", (int)key_bytes, (const char *)key);
        }
        ringway_value value;
        if (ringway_message_attribute(message, "urgent", &value) == RINGWAY_OK && value.boolean) {
            printf(", urgent");
        }
        printf("\n");
    }

    check(ringway_consumer_close(consumer));
    check(ringway_producer_close(producer));
    check(ringway_connection_close(connection));
    return 0;
}
