/* mixture.c - shares of sources, rounded to whole records of a block. */
#include "mixture.h"

#include <stdlib.h>
#include <string.h>

const mixed_source *mixture_at(td_list sources, size_t stride, size_t i)
{
    return (const void *)((const char *)sources.at + i * stride);
}

/* Checks one source, also against those before it. */
static int check_one(td_list sources, size_t stride, size_t i, td_error *error)
{
    const mixed_source *s = mixture_at(sources, stride, i), *first = mixture_at(sources, stride, 0);
    const char         *name = s->from.name;
    if (source_check(&s->from, i, error))
        return TD_ECONFIG;
    /* a rate and a size cannot be compared */
    if ((s->rate > 0) != (first->rate > 0))
        return td_fail(error, TD_ECONFIG,
                       "'%s' and '%s': either all sources must have a rate above 0 or none",
                       first->from.name, name);
    /* quadratic, but sources are few */
    for (size_t k = 0; k < i; k++)
        if (!strcmp(name, mixture_at(sources, stride, k)->from.name))
            return td_fail(error, TD_ECONFIG,
                           "two sources are named '%s'; metrics and shards need different names",
                           name);
    return 0;
}

int mixture_check(td_list sources, size_t stride, td_error *error)
{
    if (!sources.count)
        return td_fail(error, TD_ECONFIG,
                       "there is no source: add at least one group to 'sources'");
    for (size_t i = 0; i < sources.count; i++)
        if (check_one(sources, stride, i, error))
            return TD_ECONFIG;
    return 0;
}

/* Either all sources have rates or none has: check_one has ensured it. */
static double weight_of(td_list sources, size_t stride, const double *sizes, size_t i)
{
    double rate = mixture_at(sources, stride, i)->rate;
    return rate > 0 ? rate : sizes[i];
}

static int64_t largest_share(const mixture *m)
{
    int64_t largest = 0;
    for (int64_t i = 1; i < m->count; i++)
        if (m->counts[i] > m->counts[largest])
            largest = i;
    return largest;
}

/* Mixed by size, a source that is too small for a share takes one record from the largest share: a
 * rate is a wish that can be changed, a size is not. */
static void lift(mixture *m, td_list sources, size_t stride, const td_services *services)
{
    for (int64_t i = 0; i < m->count; i++)
        m->counts[i] = m->ends[i] - (i ? m->ends[i - 1] : 0);
    for (int64_t i = 0; i < m->count; i++) {
        int64_t from = largest_share(m);
        if (m->counts[i] > 0 || m->counts[from] < 2)
            continue;
        m->counts[i]++;
        m->counts[from]--;
        services->log(services, TD_LOG_WARN,
                      "data source '%s' is so small compared with the others that its share by "
                      "size is less than 1 record in %d: it is read as 1 in %d, with many "
                      "repetitions; set rates to change that",
                      mixture_at(sources, stride, (size_t)i)->from.name, ORDER_BLOCK, ORDER_BLOCK);
    }
    for (int64_t i = 0; i < m->count; i++) {
        m->ends[i] = (i ? m->ends[i - 1] : 0) + m->counts[i];
        m->counts[i] = 0; /* order_fill counts again */
    }
}

/* Round the sources' shares to whole records of a block. Their ends are rounded, not their sizes,
 * so they always add up to the block; the last end is exact whatever the sum's rounding. */
static int set_shares(mixture *m, td_list sources, size_t stride, const double *sizes,
                      const td_services *services, td_error *error)
{
    double total = 0, sum = 0;
    for (size_t i = 0; i < sources.count; i++)
        total += weight_of(sources, stride, sizes, i);
    for (size_t i = 0; i < sources.count; i++) {
        sum += weight_of(sources, stride, sizes, i);
        /* the last ends at the block's end, whatever rounding made of the sum */
        m->ends[i] = i + 1 == sources.count ? ORDER_BLOCK
                                            : (int64_t)(sum / total * ORDER_BLOCK + 0.5);
    }
    if (mixture_at(sources, stride, 0)->rate <= 0)
        lift(m, sources, stride, services);
    for (size_t i = 0; i < sources.count; i++)
        if (m->ends[i] <= (i ? m->ends[i - 1] : 0))
            return td_fail(error, TD_ECONFIG,
                           "data source '%s': its share is less than 1 record in %d: raise its "
                           "rate or remove it",
                           mixture_at(sources, stride, i)->from.name, ORDER_BLOCK);
    return 0;
}

int mixture_open(mixture *m, td_list sources, size_t stride, const double *sizes, uint64_t seed,
                 const td_services *services, td_error *error)
{
    m->count = (int64_t)sources.count;
    m->ends = calloc(sources.count, sizeof *m->ends);
    m->counts = calloc(sources.count, sizeof *m->counts);
    if (!m->ends || !m->counts)
        return td_fail(error, TD_ENOMEM, "out of memory for the shares of %zu data sources",
                       sources.count);
    int code = set_shares(m, sources, stride, sizes, services, error);
    if (!code)
        order_fill(&m->pattern, seed, m->ends, m->counts);
    return code;
}

void mixture_close(mixture *m)
{
    free(m->ends);
    free(m->counts);
    m->ends = m->counts = NULL;
}
