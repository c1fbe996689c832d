/* rates.c - many studies with a known effect and with none: how often the report supports one. */
#include "evaluate/statistics.h"
#include "report/data.h"
#include "report/document.h"
#include "report/made.h"
#include "report/sections.h"
#include "tandem/random.h"

TestSuite(rates, .init = made_begin, .fini = made_end);

enum { STUDIES = 200, SEEDS = 3 };
static const double SPREAD = 0.05; /* standard deviation over seeds */

/* A normal number, the same for the same numbers. */
static double normal(uint64_t study, uint64_t index)
{
    td_random4 r = td_philox(7, study, index);
    double     u = ((double)r.v[0] + 0.5) * 0x1p-32, w = ((double)r.v[1] + 0.5) * 0x1p-32;
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * w);
}

/* The first sentence of a study whose second variant is better by `gain`. */
static bool is_supported(uint64_t study, double gain)
{
    char          *runs[2 * SEEDS];
    td_report_data d;
    td_document   *doc = td_document_new("study");
    td_error       e = { 0 };
    bool           supported;
    for (int k = 0; k < 2 * SEEDS; k++) {
        char name[40];
        snprintf(name, sizeof name, "%s-%d", k < SEEDS ? "a" : "b", k % SEEDS + 1);
        made((made_run){ .name = name,
                         .schedule = k < SEEDS ? "cosine" : "wsd",
                         .seed = k % SEEDS + 1,
                         .nll = k < SEEDS ? 3 : 3 - gain,
                         .shift = SPREAD * normal(study, (uint64_t)k) });
        runs[k] = made_path(name);
    }
    cr_assert_eq(td_report_gather(&(td_report_options){ .runs = (const char *const *)runs,
                                                        .count = 2 * SEEDS },
                                  &d, &e),
                 0, "%s", e.text);
    td_report_answer(&d, doc);
    supported = strstr(doc->answer[0], " is better than ") != NULL;
    cr_assert(supported || strstr(doc->answer[0], "do not support a difference"), "%s",
              doc->answer[0]);
    td_document_free(doc);
    td_report_data_free(&d);
    for (int k = 0; k < 2 * SEEDS; k++) {
        td_remove_tree(runs[k], NULL);
        free(runs[k]);
    }
    return supported;
}

static int count_supported(double gain)
{
    int n = 0;
    for (uint64_t study = 0; study < STUDIES; study++)
        n += is_supported(study, gain);
    return n;
}

/* The sources' test repeats that of their mean, so Holm halves 0.05: at most 5 in 200, give or take
 * three standard deviations of 2.2. */
Test(rates, no_effect_is_rarely_supported, .timeout = 250)
{
    int n = count_supported(0);
    cr_expect(n <= 12, "%d of %d", n, STUDIES);
}

/* Two tests of one difference: the power lies between those at 0.05, here nearly 1, and at 0.025. */
Test(rates, a_large_effect_is_nearly_always_supported, .timeout = 250)
{
    double gain = 0.3;
    int    n = count_supported(gain);
    cr_assert(td_seeds_power(gain, SPREAD, 0, SEEDS) > 0.99);
    cr_expect(n >= 180, "%d of %d", n, STUDIES);
}
