/* metrics.c - fuzz target: any bytes as metrics.jsonl, and as a picture of gnuplot. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "report/figure.h"
#include "report/history.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Steps rise, whatever order the lines are in. */
static void check_order(const td_history_point *p, size_t n)
{
    for (size_t k = 1; k < n; k++)
        if (p[k].step <= p[k - 1].step)
            abort();
}

static void read_metrics(char *text, size_t size)
{
    td_history h;
    td_error   error = { 0 };
    if (td_history_parse(text, size, "metrics.jsonl", &h, &error))
        abort(); /* a damaged line is no error */
    check_order(h.training, h.n_training);
    check_order(h.evaluations, h.n_evaluations);
    td_history_free(&h);
}

static void adapt_picture(const char *text)
{
    td_doc_figure f = { .name = "name", .title = "a < b", .alt = "\xff" };
    char         *svg = td_svg_adapt(text, &f, ".picture{}");
    if (svg && !strstr(text, "<svg"))
        abort();
    free(svg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (!text)
        abort();
    memcpy(text, data, size);
    text[size] = 0;
    adapt_picture(text);
    read_metrics(text, size);
    free(text);
    return 0;
}
