/* The C side of beside_rust.rs: prints the nanoseconds of a publish and of a receive, on the average of all messages.
 *
 * usage: beside_rust DIRECTORY LAPS MESSAGES */

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "ringway.h"

static void check(ringway_code code) {
    if (code != RINGWAY_OK) {
        fprintf(stderr, "error %d: %s\n", code, ringway_error_message());
        exit(1);
    }
}

static double now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e9 * (double)now.tv_sec + (double)now.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        return 2;
    }
    const long laps = atol(argv[2]), messages = atol(argv[3]);
    ringway_connection *connection;
    ringway_producer *producer;
    ringway_consumer *consumer;
    check(ringway_connection_open(argv[1], &connection));
    check(ringway_producer_open(connection, "beside", NULL, &producer));
    check(ringway_consumer_open(connection, "beside", "s", NULL, &consumer));
    unsigned char payload[64] = {1};
    double publishing = 0, receiving = 0;
    unsigned long sum = 0;
    for (long lap = 0; lap < laps; lap++) {
        const double start = now_ns();
        for (long count = 0; count < messages; count++) {
            payload[1] = (unsigned char)count;
            check(ringway_producer_send(producer, payload, sizeof payload, NULL));
        }
        const double published = now_ns();
        for (long count = 0; count < messages; count++) {
            const ringway_message *message;
            check(ringway_consumer_recv(consumer, &message));
            sum += message->payload[1] + message->payload_bytes;
        }
        publishing += published - start;
        receiving += now_ns() - published;
    }
    const double all = (double)laps * (double)messages;
    printf("%.3f %.3f %lu\n", publishing / all, receiving / all, sum);
    check(ringway_consumer_close(consumer));
    check(ringway_producer_close(producer));
    check(ringway_connection_close(connection));
    return 0;
}
