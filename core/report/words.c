/* words.c - numbers and names as a report writes them. */
#include <inttypes.h>
#include <math.h>

#include "report/sections.h"

const char *td_report_number(td_document *doc, double x, bool sign)
{
    double      size = fabs(x);
    const char *format = sign ? "%+.*f" : "%.*f";
    int         digits = size >= 100 ? 1 : size >= 10 ? 2 : size >= 0.01 || x == 0 ? 3 : 5;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    return td_document_print(doc, format, digits, x);
#pragma GCC diagnostic pop
}

const char *td_report_p_cell(td_document *doc, double p)
{
    if (isnan(p))
        return "";
    return p < 0.0001 ? "< 0.0001" : td_document_print(doc, "%.2g", p);
}

const char *td_report_p(td_document *doc, double p)
{
    if (isnan(p))
        return "p unknown";
    return td_document_print(doc, p < 0.0001 ? "p %s" : "p = %s", td_report_p_cell(doc, p));
}

const char *td_report_seeds(td_document *doc, int64_t n)
{
    return n == 1 ? "one seed" : td_document_print(doc, "%" PRId64 " seeds", n);
}

const char *td_report_with_sizes(const td_report_data *d, td_document *doc, const char *caption)
{
    const td_report_group *g = d->groups;
    for (size_t k = 1; k < d->comparison.n_groups; k++)
        if (g[k].width != g[0].width)
            return td_document_print(doc, "%s Thicker lines are larger sizes.", caption);
    return caption;
}

const char *td_report_flops(td_document *doc, double flops)
{
    static const char *const units[] = { "", "k", "M", "G", "T", "P", "E", "Z" };
    size_t                   k = 0;
    if (!isfinite(flops))
        return "";
    for (; flops >= 1000 && k + 1 < sizeof units / sizeof *units; k++)
        flops /= 1000;
    return td_document_print(doc, "%.3g %sFLOP", flops, units[k]);
}

const char *td_report_command(const td_report_data *d, td_document *doc, const char *command,
                              const char *options)
{
    if (d->count == 1)
        return td_document_print(doc, "tandem %s %s%s", command, d->directories[0], options);
    return td_document_print(doc, "tandem %s RUN%s, for each run (%s, ..)", command, options,
                             d->directories[0]);
}
