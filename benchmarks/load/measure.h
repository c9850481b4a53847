/* Clock, latency histogram, and what /proc says about a process. */
#ifndef MEASURE_H
#define MEASURE_H

#include <stdint.h>

#define MS 1000000LL
#define SECOND (1000 * MS)

int64_t clock_ns(void); /* CLOCK_MONOTONIC: comparable between processes of one machine */

/* Buckets of at most 3 %: exact below 32 us, then 32 steps for each power of two. */
enum { BUCKETS = 1024 };
struct histogram {
    uint32_t counts[BUCKETS];
};
void histogram_add(struct histogram *h, int64_t us);
double histogram_ms(const struct histogram *h, double quantile);

/* From schedstat, sum over the tasks of a process: time on a core, and time ready to run while somebody else had it. */
struct cpu {
    double ran_s, waited_s;
};
struct cpu process_cpu(int pid); /* 0 for pid 0 */
int process_rss_kib(int pid);

#endif
