/* exact-match.c - whether the answer is one of the references, letter by letter or in a simpler
 * form. */
#include "text.h"

struct exact_match {
    bool ignore_case, ignore_punctuation, ignore_numbers, ignore_articles, ignore_spaces;
};

static const td_option options[] = {
    TD_OPTION_BOOL(struct exact_match, ignore_case, false, "compare in lower case"),
    TD_OPTION_BOOL(struct exact_match, ignore_punctuation, false,
                   "compare without ASCII punctuation"),
    TD_OPTION_BOOL(struct exact_match, ignore_numbers, false, "compare without digits"),
    TD_OPTION_BOOL(struct exact_match, ignore_articles, false, "compare without a, an and the"),
    TD_OPTION_BOOL(struct exact_match, ignore_spaces, false,
                   "white space around the answer, and how much of it is between words, does not "
                   "count"),
    TD_OPTION_END
};

static unsigned form_of(const struct exact_match *c)
{
    return (c->ignore_case ? FORM_LOWER : 0u) | (c->ignore_punctuation ? FORM_PUNCTUATION : 0u) |
           (c->ignore_numbers ? FORM_DIGITS : 0u) | (c->ignore_articles ? FORM_ARTICLES : 0u) |
           (c->ignore_spaces ? FORM_SPACES : 0u);
}

static int measure(const void *config, const td_answer *a, double *statistics, td_error *error)
{
    unsigned form = form_of(config);
    char    *have = a->text ? simplified(a->text, form) : NULL;

    statistics[0] = 0;
    if (!a->text)
        return 0;
    if (!have)
        return out_of_memory(error);
    for (size_t k = 0; k < a->n_references && !statistics[0]; k++) {
        char *want = simplified(a->references[k], form);
        if (!want) {
            free(have);
            return out_of_memory(error);
        }
        statistics[0] = !strcmp(have, want);
        free(want);
    }
    free(have);
    return 0;
}

static const td_metric exact_match = {
    .plugin = TD_PLUGIN(td_metric, TD_METRIC_KIND, "exact-match", options, struct exact_match,
                        .brief = "the answer equals a reference"),
    .statistics = 1,
    .measure = measure,
};

TD_MODULE("exact-match", "1.0", "tandem", "MIT", &exact_match.plugin)
