#include "base/histogram.h"

#define DIGIT_CLASSES 10   /* 0 to 9 us */
#define DECADE_CLASSES 90U /* 10 to 99 of a unit */

size_t histogram_class(uint64_t us)
{
    size_t base = DIGIT_CLASSES;

    if (us < DIGIT_CLASSES)
        return (size_t)us;
    for (; base + DECADE_CLASSES <= HISTOGRAM_CLASSES; base += DECADE_CLASSES) {
        if (us < 100)
            return base + (size_t)us - 10;
        us /= 10;
    }
    return HISTOGRAM_CLASSES - 1;
}

uint64_t histogram_end(size_t class_number)
{
    size_t decade;
    uint64_t unit = 1;

    if (class_number < DIGIT_CLASSES)
        return class_number + 1;
    decade = (class_number - DIGIT_CLASSES) / DECADE_CLASSES;
    while (decade-- > 0)
        unit *= 10;
    return ((class_number - DIGIT_CLASSES) % DECADE_CLASSES + 11) * unit;
}

uint64_t histogram_below(const struct histogram *histogram, uint64_t us)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < HISTOGRAM_CLASSES && (i == 0 ? 0 : histogram_end(i - 1)) < us; i++)
        sum += histogram->classes[i];
    return sum;
}

uint64_t histogram_percentile(const struct histogram *histogram, double percent)
{
    double wanted = (double)histogram->count * percent / 100;
    uint64_t sum = 0;

    if (histogram->count == 0)
        return 0;
    for (size_t i = 0; i < HISTOGRAM_CLASSES; i++) {
        sum += histogram->classes[i];
        if (sum > 0 && (double)sum >= wanted)
            return histogram_end(i) - 1;
    }
    return histogram_end(HISTOGRAM_CLASSES - 1);
}

void histogram_add(struct histogram *to, const struct histogram *from)
{
    to->count += from->count;
    to->sum_us += from->sum_us;
    for (size_t i = 0; i < HISTOGRAM_CLASSES; i++)
        to->classes[i] += from->classes[i];
}
