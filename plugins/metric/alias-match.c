/* alias-match.c - whether the answer is one of several accepted names. Paper: Joshi et al.
 * 2017 (TriviaQA). */
#include "text.h"

struct alias_match {
    bool first_line;
};

static const td_option options[] = { TD_OPTION_BOOL(struct alias_match, first_line, true,
                                                    "compare only the answer's first line"),
                                     TD_OPTION_END };

/* TriviaQA compares in lower case, without punctuation and articles. */
#define FORM (FORM_LOWER | FORM_PUNCTUATION | FORM_ARTICLES | FORM_SPACES)

static char *answer_of(const struct alias_match *c, const char *text)
{
    char *line = strdup(text), *simple;
    if (line && c->first_line)
        line[strcspn(line, "\n")] = 0;
    simple = line ? simplified(line, FORM) : NULL;
    free(line);
    return simple;
}

static int measure(const void *config, const td_answer *a, double *statistics, td_error *error)
{
    char *have = a->text ? answer_of(config, a->text) : NULL;
    int   code;

    statistics[0] = 0;
    if (!a->text)
        return 0;
    if (!have)
        return out_of_memory(error);
    code = equals_one(have, a, FORM, statistics, error);
    free(have);
    return code;
}

static const td_task_metric alias_match = {
    .plugin = TD_PLUGIN(td_task_metric, TD_METRIC_KIND, "alias-match", options, struct alias_match,
                        .brief = "whether the answer is one of several accepted names",
                        .paper = "Joshi et al., TriviaQA, 2017"),
    .statistics = 1,
    .measure = measure,
};

TD_MODULE("alias-match", "1.0", "tandem", "MIT", &alias_match.plugin)
