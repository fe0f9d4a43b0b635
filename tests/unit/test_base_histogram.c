#include "base/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void each_class_begins_where_the_last_one_ends(void **state)
{
    (void)state;
    for (size_t i = 0; i < HISTOGRAM_CLASSES - 1; i++) {
        assert_int_equal(histogram_class(histogram_end(i) - 1), i);
        assert_int_equal(histogram_class(histogram_end(i)), i + 1);
    }
    assert_int_equal(histogram_class(0), 0);
    assert_int_equal(histogram_class(UINT64_MAX), HISTOGRAM_CLASSES - 1);
}

static void classes_are_a_tenth_wide_at_the_most(void **state)
{
    (void)state;
    for (size_t i = 10; i < HISTOGRAM_CLASSES; i++)
        assert_true((histogram_end(i) - histogram_end(i - 1)) * 10 <= histogram_end(i - 1));
}

static void percentiles(void **state)
{
    struct histogram histogram = {0};

    (void)state;
    assert_int_equal(histogram_percentile(&histogram, 50), 0);
    for (uint64_t us = 1; us <= 100; us++) {
        histogram.count++;
        histogram.classes[histogram_class(us * 1000)]++;
    }
    assert_int_equal(histogram_percentile(&histogram, 0), 1099);
    assert_int_equal(histogram_percentile(&histogram, 50), 50999);
    assert_int_equal(histogram_percentile(&histogram, 99), 99999);
    assert_int_equal(histogram_percentile(&histogram, 100), 109999);
}

static void below_counts_what_is_shorter(void **state)
{
    struct histogram histogram = {0}, sum = {0};
    static const uint64_t all[] = {4, 5, 4999, 5000, 5001, 2000000};

    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        histogram.count++;
        histogram.classes[histogram_class(all[i])]++;
    }
    assert_int_equal(histogram_below(&histogram, 5), 1);
    assert_int_equal(histogram_below(&histogram, 5000), 3);
    assert_int_equal(histogram_below(&histogram, 1000000), 5);
    assert_int_equal(histogram_below(&histogram, 10000000), 6);
    histogram_add(&sum, &histogram);
    histogram_add(&sum, &histogram);
    assert_int_equal(sum.count, 12);
    assert_int_equal(histogram_below(&sum, 5000), 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_class_begins_where_the_last_one_ends),
        cmocka_unit_test(classes_are_a_tenth_wide_at_the_most),
        cmocka_unit_test(percentiles),
        cmocka_unit_test(below_counts_what_is_shorter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
