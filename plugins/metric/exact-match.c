/* exact-match.c - whether the answer is one of the references, exactly or after normalization. */
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
                   "ignore white space around the answer, and its amount between words"),
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
    int      code;

    statistics[0] = 0;
    /* no answer is a wrong one */
    if (!a->text)
        return 0;
    if (!have)
        return out_of_memory(error);
    code = equals_one(have, a, form, statistics, error);
    free(have);
    return code;
}

static const td_task_metric exact_match = {
    .plugin = TD_PLUGIN(td_task_metric, TD_METRIC_KIND, "exact-match", options, struct exact_match,
                        .brief = "whether the answer equals a reference"),
    .statistics = 1,
    .measure = measure,
};

TD_MODULE("exact-match", "1.0", "tandem", "MIT", &exact_match.plugin)
