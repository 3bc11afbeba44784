/* The C side of beside_rust.rs: prints the nanoseconds of this thread for a publish and for a receive, in the median of all laps.
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
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return 1e9 * (double)now.tv_sec + (double)now.tv_nsec;
}

static int in_order(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *of, size_t count) {
    qsort(of, count, sizeof *of, in_order);
    return of[count / 2];
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
    double *publishing = calloc((size_t)laps, sizeof *publishing), *receiving = calloc((size_t)laps, sizeof *receiving);
    if (publishing == NULL || receiving == NULL) {
        return 2;
    }
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
        publishing[lap] = (published - start) / (double)messages;
        receiving[lap] = (now_ns() - published) / (double)messages;
    }
    printf("%.3f %.3f %lu\n", median(publishing, (size_t)laps), median(receiving, (size_t)laps), sum);
    free(publishing);
    free(receiving);
    check(ringway_consumer_close(consumer));
    check(ringway_producer_close(producer));
    check(ringway_connection_close(connection));
    return 0;
}
