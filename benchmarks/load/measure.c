#include "measure.h"

#include <dirent.h>
#include <stdio.h>
#include <time.h>

int64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static int bucket_of(uint64_t us)
{
    if (us < 32)
        return (int)us;
    int shift = 58 - __builtin_clzll(us);
    int b = 32 * (shift + 1) + (int)(us >> shift) - 32;
    return b < BUCKETS ? b : BUCKETS - 1;
}

static double bucket_top_ms(int b)
{
    return b < 32 ? (b + 1) / 1e3 : (double)((uint64_t)(b % 32 + 33) << (b / 32 - 1)) / 1e3;
}

void histogram_add(struct histogram *h, int64_t us) { h->counts[bucket_of(us > 0 ? (uint64_t)us : 0)]++; }

double histogram_ms(const struct histogram *h, double quantile)
{
    uint64_t total = 0, seen = 0;
    int last = 0;
    for (int b = 0; b < BUCKETS; b++)
        total += h->counts[b];
    for (int b = 0; b < BUCKETS; b++) {
        if (!h->counts[b])
            continue;
        last = b;
        seen += h->counts[b];
        if ((double)seen >= quantile * (double)total)
            break;
    }
    return total ? bucket_top_ms(last) : 0;
}

struct cpu process_cpu(int pid)
{
    char path[300];
    struct cpu total = {0};
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *d = pid ? opendir(path) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        unsigned long long ran, waited;
        snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pid, e->d_name);
        FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "r");
        if (f && fscanf(f, "%llu %llu", &ran, &waited) == 2) {
            total.ran_s += (double)ran / 1e9;
            total.waited_s += (double)waited / 1e9;
        }
        if (f)
            fclose(f);
    }
    if (d)
        closedir(d);
    return total;
}

int process_rss_kib(int pid)
{
    char line[256];
    int kib = 0;
    snprintf(line, sizeof line, "/proc/%d/status", pid);
    FILE *f = pid ? fopen(line, "r") : NULL;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmRSS: %d", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib;
}
