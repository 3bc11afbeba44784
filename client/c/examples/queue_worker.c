/* A worker of a queue: acks what it can do, gives back what it cannot do yet, and rejects what nobody can do.
 *
 * usage: queue_worker DIRECTORY */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ringway.h"

#define SECOND_NS UINT64_C(1000000000)

static void check(ringway_code code) {
    if (code < 0) {
        fprintf(stderr, "error %d: %s\n", code, ringway_error_message());
        exit(1);
    }
}

static bool is(const ringway_message *job, const char *text) {
    return job->payload_bytes == strlen(text) && memcmp(job->payload, text, strlen(text)) == 0;
}

int main(int argc, char **argv) {
    ringway_connection *connection;
    check(ringway_connection_open(argc > 1 ? argv[1] : NULL, &connection));
    check(ringway_connection_declare_stream(connection, "jobs.dead", NULL));
    ringway_shared_settings shared = ringway_shared_settings_default();
    shared.attempts_max = 5;
    shared.dead_letter = "jobs.dead";
    check(ringway_connection_declare_queue(connection, "jobs", NULL, &shared));

    ringway_producer *producer;
    check(ringway_producer_open(connection, "jobs", NULL, &producer));
    const char *jobs[] = {"resize", "nonsense", "later"};
    for (size_t job = 0; job < 3; job++) {
        check(ringway_producer_send(producer, jobs[job], strlen(jobs[job]), NULL));
    }

    ringway_shared_consumer *worker;
    check(ringway_shared_consumer_open(connection, "jobs", NULL, NULL, &worker));
    for (;;) {
        const ringway_message *job;
        ringway_code code = ringway_shared_consumer_recv_timeout(worker, SECOND_NS / 2, &job);
        check(code);
        if (code == RINGWAY_EMPTY) {
            break;
        }
        printf("%.*s, attempt %u\n", (int)job->payload_bytes, (const char *)job->payload, job->attempt);
        if (is(job, "nonsense")) {
            check(ringway_shared_consumer_reject(worker, job));
        } else if (is(job, "later") && job->failed < 2) {
            check(ringway_shared_consumer_nack_after(worker, job, 20));
        } else {
            check(ringway_shared_consumer_extend(worker, job, 60000));
            check(ringway_shared_consumer_ack(worker, job));
        }
    }
    check(ringway_shared_consumer_confirm_settled(worker, SECOND_NS));

    ringway_subscription_info info;
    check(ringway_connection_subscription(connection, "jobs", "jobs", &info));
    printf("%llu left, %llu dead\n", (unsigned long long)info.lag, (unsigned long long)info.dead_total);

    check(ringway_shared_consumer_close(worker));
    check(ringway_producer_close(producer));
    check(ringway_connection_close(connection));
    return 0;
}
