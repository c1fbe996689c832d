/* f1.c - overlap of the answer's words with a reference's. Paper: Rajpurkar et al. 2016 (SQuAD),
 * whose normalization it uses: lower case, no punctuation, no articles. */
#include "text.h"

static const td_option options[] = { TD_OPTION_END };

struct f1 {
    char unused;
};

/* The words of the normalized text, sorted; free() the list. */
static struct gram *words_of(const char *text, size_t *count)
{
    struct gram *words = malloc((strlen(text) / 2 + 1) * sizeof *words);
    size_t       n = 0;
    while (words && *text) {
        size_t bytes = strcspn(text, " ");
        words[n++] = (struct gram){ text, bytes };
        text += bytes + (text[bytes] == ' ');
    }
    if (words)
        qsort(words, n, sizeof *words, compare_grams);
    *count = n;
    return words;
}

/* 2 P R / (P + R) of two texts; negative: out of memory. */
static double overlap(const char *answer, const char *reference)
{
    const unsigned form = FORM_LOWER | FORM_PUNCTUATION | FORM_ARTICLES | FORM_SPACES;
    char          *have = simplified(answer, form), *want = simplified(reference, form);
    size_t         n_have = 0, n_want = 0, same;
    struct gram   *a = have ? words_of(have, &n_have) : NULL;
    struct gram   *b = want ? words_of(want, &n_want) : NULL;
    double         f = -1;

    if (a && b) {
        same = common_grams(a, n_have, b, n_want);
        /* if a side has no words: as SQuAD 2.0 scores questions without an answer */
        f = n_have + n_want == 0 ? 1 : 2.0 * (double)same / (double)(n_have + n_want);
    }
    free(a);
    free(b);
    free(have);
    free(want);
    return f;
}

static int measure(const void *config, const td_answer *a, double *statistics, td_error *error)
{
    statistics[0] = 0;
    for (size_t k = 0; a->text && k < a->n_references; k++) {
        double f = overlap(a->text, a->references[k]);
        if (f < 0)
            return out_of_memory(error);
        if (f > statistics[0])
            statistics[0] = f;
    }
    return 0;
}

static const td_task_metric f1 = {
    .plugin = TD_PLUGIN(td_task_metric, TD_METRIC_KIND, "f1", options, struct f1,
                        .brief = "F1 of the answer's words against the best reference",
                        .paper = "Rajpurkar et al., SQuAD, 2016"),
    .statistics = 1,
    .measure = measure,
};

TD_MODULE("f1", "1.0", "tandem", "MIT", &f1.plugin)
