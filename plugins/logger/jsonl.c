/* jsonl.c - logger 'jsonl': metrics.jsonl in the run's directory, one JSON object per line.
 *
 *     {"step": 12, "loss": 3.25, .., "time/seconds": 1.5}
 *
 * Clock readings come last, so that two runs can be compared by cutting the ends of their lines:
 * everything before must be the same, bit for bit. A resumed run continues the file after its
 * checkpoint's step. */
#include <math.h>

#include "lines.h"

struct jsonl {
    const char *file;
};

static const td_option options[] = { TD_OPTION_STRING(struct jsonl, file, "metrics.jsonl",
                                                      "file name within the run's directory"),
                                     TD_OPTION_END };

static int check(const void *config, td_error *error)
{
    return check_place("file", ((const struct jsonl *)config)->file, error);
}

static bool parse(const char *line, long long *step, const char **name)
{
    int end = 0;
    if (sscanf(line, "{\"step\": %lld%n", step, &end) != 1)
        return false;
    *name = line + end;
    if (!strncmp(*name, ", \"", 3))
        *name += 3;
    return true;
}

static const line_form form = { .head = "", .parse = parse };

static int open_jsonl(const void *config, const td_logger_in *in, void **state, td_error *error)
{
    return lines_open(&form, ((const struct jsonl *)config)->file, in, state, error);
}

/* A JSON string. Bytes from 128 on are UTF-8 and need no escape. */
static void put_text(FILE *f, const char *text)
{
    putc('"', f);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(f, "\\%c", c);
        else if (c < 32)
            fprintf(f, "\\u%04x", c);
        else
            putc(c, f);
    }
    putc('"', f);
}

/* JSON has neither NaN nor infinity: they become null. 17 digits restore a double exactly. */
static void put_metric(FILE *f, const td_metric *m)
{
    fputs(", ", f);
    put_text(f, m->name);
    if (isfinite(m->value))
        fprintf(f, ": %.17g", m->value);
    else
        fputs(": null", f);
}

static int write_jsonl(void *state, int64_t step, const td_metric *metrics, size_t count,
                       td_error *error)
{
    lines *l = state;
    if (lines_begin(l, error))
        return TD_EIO;
    fprintf(l->file, "{\"step\": %lld", (long long)step);
    for (int time = 0; time < 2; time++)
        for (size_t i = 0; i < count; i++)
            if (metrics[i].time == (time != 0))
                put_metric(l->file, &metrics[i]);
    fputs("}\n", l->file);
    return lines_end(l, step, error);
}

static const td_logger jsonl = {
    .plugin = TD_PLUGIN(td_logger, TD_LOGGER_KIND, "jsonl", options, struct jsonl, .check = check,
                        .brief = "metrics.jsonl: one JSON object per step"),
    .open = open_jsonl,
    .close = lines_close,
    .write = write_jsonl,
    .flush = lines_flush,
};

TD_MODULE("jsonl", "1.0", "tandem", "MIT", &jsonl.plugin)
