/*
 * Durations counted in fixed classes, exact to two decimal digits: from which percentiles and Prometheus buckets are
 * read. Any thread; a struct histogram belongs to whoever fills it.
 */
#ifndef TOKENTLS_BASE_HISTOGRAM_H
#define TOKENTLS_BASE_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

/* 0 to 9 us one by one, then 90 classes for each power of ten up to 1000 s; what is longer is in the last one. */
#define HISTOGRAM_CLASSES 730

struct histogram {
    uint64_t count, sum_us;
    uint64_t classes[HISTOGRAM_CLASSES];
};

/* The class of a duration. */
size_t histogram_class(uint64_t us);

/* The first duration, in us, that is beyond this class. */
uint64_t histogram_end(size_t class_number);

/* How many of the durations counted are below `us`, which should be the end of a class; else it is rounded up to one.
 */
uint64_t histogram_below(const struct histogram *histogram, uint64_t us);

/*
 * The duration in us that `percent` (0 to 100) of what was counted do not exceed: the last of its class, so the answer
 * may be up to 10 % too long and is never too short. 0 when nothing was counted.
 */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);

/* Count `from` too in `to`. */
void histogram_add(struct histogram *to, const struct histogram *from);

#endif
