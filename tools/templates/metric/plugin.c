/* metric-@NAME@.c - how much of an answer is right: 1 minus the fraction of characters to edit.
 * Paper: Levenshtein, Binary Codes Capable of Correcting Deletions, Insertions, and Reversals, 1966.
 *
 * The contract: tandem/kind/metric.h. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "tandem/kind/metric.h"

struct @IDENT@_config {
    bool ignore_case;
};

static const td_option options[] = {
    TD_OPTION_BOOL(struct @IDENT@_config, ignore_case, true,
                   "A and a are the same character (ASCII letters only)"),
    TD_OPTION_END
};

static bool same(const struct @IDENT@_config *c, char a, char b)
{
    return a == b || (c->ignore_case && tolower((unsigned char)a) == tolower((unsigned char)b));
}

/* The number of bytes to insert, remove or replace to turn `a` into `b`. `row` holds strlen(b) +
 * 1 numbers: the distances of one prefix of `a` to every prefix of `b`. */
static size_t distance(const struct @IDENT@_config *c, const char *a, const char *b, size_t *row)
{
    size_t n = strlen(b);
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (; *a; a++) {
        size_t diagonal = row[0]++;
        for (size_t j = 1; j <= n; j++) {
            size_t replaced = diagonal + !same(c, *a, b[j - 1]);
            size_t shorter = row[j] < row[j - 1] ? row[j] : row[j - 1];
            diagonal = row[j];
            row[j] = shorter + 1 < replaced ? shorter + 1 : replaced;
        }
    }
    return row[n];
}

/* Negative: out of memory. */
static double similarity(const struct @IDENT@_config *c, const char *answer, const char *reference)
{
    size_t  n = strlen(answer), m = strlen(reference), longer = n > m ? n : m, edits;
    size_t *row = malloc((m + 1) * sizeof *row);
    if (!row)
        return -1;
    edits = distance(c, answer, reference, row);
    free(row);
    return longer ? 1 - (double)edits / (double)longer : 1;
}

/* [worker]: called once per item, several at the same time. The best of all references counts. */
static int measure(const void *config, const td_answer *a, double *statistics, td_error *error)
{
    statistics[0] = 0;
    for (size_t k = 0; a->text && k < a->n_references; k++) {
        double s = similarity(config, a->text, a->references[k]);
        if (s < 0)
            return td_fail(error, TD_ENOMEM, "out of memory while comparing an answer");
        if (s > statistics[0])
            statistics[0] = s;
    }
    return 0;
}

static const td_task_metric @IDENT@_plugin = {
    .plugin = TD_PLUGIN(td_task_metric, TD_METRIC_KIND, "@NAME@", options, struct @IDENT@_config,
                        .brief = "similarity by edit distance",
                        .paper = "Levenshtein, Binary Codes Capable of Correcting Deletions, "
                                 "Insertions, and Reversals, 1966"),
    .statistics = 1,
    .measure = measure,
};

TD_MODULE("@NAME@", "0.1.0", "@AUTHOR@", "@LICENCE@", &@IDENT@_plugin.plugin)
