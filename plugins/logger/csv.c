/* csv.c - logger 'csv': metrics.csv in the run's directory, one line per metric (RFC 4180).
 *
 *     step,name,value
 *     12,train/loss,3.25
 *
 * Which metrics a run has becomes known only as they come, so a column for each would mean
 * rewriting the file. A table with columns is one step away: pandas' pivot("step", "name",
 * "value"), R's pivot_wider, a spreadsheet's pivot table. Clock readings come last within a step.
 */
#include <math.h>

#include "lines.h"

struct csv {
    const char *file;
};

static const td_option options[] = { TD_OPTION_STRING(struct csv, file, "metrics.csv",
                                                      "file name within the run's directory"),
                                     TD_OPTION_END };

static int check(const void *config, td_error *error)
{
    return check_place("file", ((const struct csv *)config)->file, error);
}

/* A quoted name begins with its quote: none of the groups that are asked for needs one, but the name
 * of a source may. */
static bool parse(const char *line, long long *step, const char **name)
{
    int end = 0;
    if (sscanf(line, "%lld,%n", step, &end) != 1 || !end)
        return false;
    *name = line + end + (line[end] == '"');
    return true;
}

static const line_form form = { .head = "step,name,value\n", .parse = parse };

static int open_csv(const void *config, const td_logger_in *in, void **state, td_error *error)
{
    return lines_open(&form, ((const struct csv *)config)->file, in, state, error);
}

/* Quoted where it has to be; a quote is doubled. When a run is resumed, this file is read
 * line by line, even within quotes, so line ends in names become blanks. */
static void put_name(FILE *f, const char *name)
{
    bool quoted = name[strcspn(name, ",\"\r\n")] != 0;
    if (quoted)
        putc('"', f);
    for (; *name; name++) {
        if (*name == '"')
            putc('"', f);
        putc(*name == '\n' || *name == '\r' ? ' ' : *name, f);
    }
    if (quoted)
        putc('"', f);
}

/* 17 digits restore a double exactly; nan and inf are spelled as most readers expect. */
static void put_metric(FILE *f, int64_t step, const td_metric *m)
{
    fprintf(f, "%lld,", (long long)step);
    put_name(f, m->name);
    if (isfinite(m->value))
        fprintf(f, ",%.17g\n", m->value);
    else
        fprintf(f, ",%s\n", isnan(m->value) ? "nan" : m->value > 0 ? "inf" : "-inf");
}

static int write_csv(void *state, int64_t step, const td_metric *metrics, size_t count,
                     td_error *error)
{
    lines *l = state;
    if (lines_begin(l, error))
        return TD_EIO;
    for (int time = 0; time < 2; time++)
        for (size_t i = 0; i < count; i++)
            if (metrics[i].time == (time != 0))
                put_metric(l->file, step, &metrics[i]);
    return lines_end(l, step, error);
}

static const td_logger csv = {
    .plugin = TD_PLUGIN(td_logger, TD_LOGGER_KIND, "csv", options, struct csv, .check = check,
                        .brief = "metrics.csv: one line per metric"),
    .open = open_csv,
    .close = lines_close,
    .write = write_csv,
    .flush = lines_flush,
};

TD_MODULE("csv", "1.0", "tandem", "MIT", &csv.plugin)
