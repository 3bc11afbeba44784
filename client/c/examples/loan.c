/* Large payloads without a copy: written where the consumer reads them, and held there.
 *
 * usage: loan DIRECTORY */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ringway.h"

static void check(ringway_code code) {
    if (code < 0) {
        fprintf(stderr, "error %d: %s\n", code, ringway_error_message());
        exit(1);
    }
}

int main(int argc, char **argv) {
    ringway_connection *connection;
    check(ringway_connection_open(argc > 1 ? argv[1] : NULL, &connection));
    check(ringway_connection_declare_stream(connection, "pictures", NULL));
    check(ringway_connection_declare_subscription(connection, "pictures", "gallery", RINGWAY_START_FIRST, false));

    ringway_producer *producer;
    ringway_consumer *consumer;
    check(ringway_producer_open(connection, "pictures", NULL, &producer));
    check(ringway_consumer_open(connection, "pictures", "gallery", NULL, &consumer));

    ringway_loan *picture;
    check(ringway_producer_loan(producer, 4 << 20, NULL, 0, &picture));
    memset(picture->payload, 7, picture->payload_bytes);
    check(ringway_loan_truncate(picture, 3 << 20));
    check(ringway_producer_send_loan(producer, &picture, NULL, NULL));

    const ringway_message *message, *held;
    check(ringway_consumer_recv(consumer, &message));
    printf("%zu bytes, %s\n", message->payload_bytes, message->is_in_place ? "in place" : "copied");

    /* Held, it stays where it is beyond the next call, for hours if need be. */
    check(ringway_message_hold(message, &held));
    check(ringway_consumer_commit(consumer));
    size_t sevens = 0;
    for (size_t at = 0; at < held->payload_bytes; at++) {
        sevens += held->payload[at] == 7;
    }
    printf("%zu sevens\n", sevens);
    check(ringway_message_free(held));

    check(ringway_consumer_close(consumer));
    check(ringway_producer_close(producer));
    check(ringway_connection_close(connection));
    return 0;
}
