/* An event loop: one thread waits for an ordered consumer and for a queue's, by poll(2).
 *
 * usage: event_loop DIRECTORY */

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "ringway.h"

enum { ORDERS, JOBS, DESCRIPTORS };

#define EACH 3

static void check(ringway_code code) {
    if (code < 0) {
        fprintf(stderr, "error %d: %s\n", code, ringway_error_message());
        exit(1);
    }
}

static ringway_connection *connect_to(const char *directory) {
    ringway_connection *connection;
    check(ringway_connection_open(directory, &connection));
    check(ringway_connection_declare_stream(connection, "orders", NULL));
    check(ringway_connection_declare_subscription(connection, "orders", "kitchen", RINGWAY_START_FIRST, false));
    check(ringway_connection_declare_queue(connection, "jobs", NULL, NULL));
    return connection;
}

/* Another process: it publishes now and then. */
static void publish(const char *directory) {
    ringway_connection *connection = connect_to(directory);
    ringway_producer *orders, *jobs;
    check(ringway_producer_open(connection, "orders", NULL, &orders));
    check(ringway_producer_open(connection, "jobs", NULL, &jobs));
    for (int round = 0; round < EACH; round++) {
        const struct timespec pause = {.tv_nsec = 20000000};
        nanosleep(&pause, NULL);
        check(ringway_producer_send(orders, "espresso", 8, NULL));
        check(ringway_producer_send(jobs, "resize", 6, NULL));
    }
    check(ringway_producer_close(orders));
    check(ringway_producer_close(jobs));
    check(ringway_connection_close(connection));
}

/* Until there is none: only then does the descriptor become readable again. Returns how many there were. */
static int take_orders(ringway_consumer *kitchen) {
    const ringway_message *order;
    ringway_code code;
    int taken = 0;
    while ((code = ringway_consumer_try_recv(kitchen, &order)) == RINGWAY_OK) {
        printf("order: %.*s\n", (int)order->payload_bytes, (const char *)order->payload);
        taken++;
    }
    check(code);
    return taken;
}

static int do_jobs(ringway_shared_consumer *worker) {
    const ringway_message *job;
    ringway_code code;
    int done = 0;
    while ((code = ringway_shared_consumer_try_recv(worker, &job)) == RINGWAY_OK) {
        printf("job: %.*s\n", (int)job->payload_bytes, (const char *)job->payload);
        check(ringway_shared_consumer_ack(worker, job));
        done++;
    }
    check(code);
    return done;
}

int main(int argc, char **argv) {
    const char *directory = argc > 1 ? argv[1] : NULL;
    /* Whatever has not come by then does not come. */
    alarm(60);
    /* Before anything is opened: a forked child has connections of its own. */
    const pid_t child = fork();
    if (child < 0) {
        return 1;
    }
    if (child == 0) {
        publish(directory);
        return 0;
    }

    ringway_connection *connection = connect_to(directory);
    ringway_consumer *kitchen;
    ringway_shared_consumer *worker;
    check(ringway_consumer_open(connection, "orders", "kitchen", NULL, &kitchen));
    check(ringway_shared_consumer_open(connection, "jobs", NULL, NULL, &worker));

    /* Any other descriptor may stand beside them. */
    struct pollfd waited[DESCRIPTORS] = {[ORDERS] = {.events = POLLIN}, [JOBS] = {.events = POLLIN}};
    check(ringway_consumer_readiness(kitchen, &waited[ORDERS].fd));
    check(ringway_shared_consumer_readiness(worker, &waited[JOBS].fd));
    for (int left = 2 * EACH; left > 0;) {
        if (poll(waited, DESCRIPTORS, -1) < 0) {
            return 1;
        }
        if (waited[ORDERS].revents != 0) {
            left -= take_orders(kitchen);
        }
        if (waited[JOBS].revents != 0) {
            left -= do_jobs(worker);
        }
    }

    check(ringway_consumer_close(kitchen));
    check(ringway_shared_consumer_close(worker));
    check(ringway_connection_close(connection));
    return 0;
}
