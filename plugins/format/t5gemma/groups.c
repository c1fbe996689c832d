/* groups.c - one setting for what the config has once for each stack. */
#include "t5gemma.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void put_both(td_translation *t, const char *path, const td_format_value *v)
{
    struct groups *g = t->host;
    char           full[200];
    if (g->reads) { /* a setting of ours */
        g->outer->put(g->outer, path, v);
        return;
    }
    snprintf(full, sizeof full, "encoder.%s", path);
    g->outer->put(g->outer, full, v);
    snprintf(full, sizeof full, "decoder.%s", path);
    g->outer->put(g->outer, full, v);
}

static const td_format_value *ask_group(struct groups *g, const char *group, const char *path)
{
    char                   full[200];
    const td_format_value *v;
    snprintf(full, sizeof full, "%s.%s", group, path);
    v = g->outer->ask(g->outer, full);
    return v && v->type != TD_VALUE_NULL ? v : NULL;
}

static const td_format_value *ask_either(td_translation *t, const char *path)
{
    const td_format_value *encoder = ask_group(t->host, "encoder", path),
                          *decoder = ask_group(t->host, "decoder", path);
    return encoder ? encoder : decoder;
}

static const td_format_value *ask_both(td_translation *t, const char *path)
{
    struct groups         *g = t->host;
    const td_format_value *encoder = ask_group(g, "encoder", path),
                          *decoder = ask_group(g, "decoder", path);
    if (encoder ? !decoder || strcmp(encoder->text, decoder->text) : decoder != NULL)
        g->outer->refuse(g->outer, "encoder.%s is %s, but decoder.%s is %s: they must be equal",
                         path, encoder ? encoder->text : "missing", path,
                         decoder ? decoder->text : "missing");
    return encoder;
}

static const td_format_value *ask_ours(td_translation *t, const char *path)
{
    struct groups *g = t->host;
    return g->outer->ask(g->outer, path);
}

static void refuse_both(td_translation *, const char *format, ...) TD_PRINTF(2, 3);

/* Messages begin with the name of a setting. */
static void refuse_both(td_translation *t, const char *format, ...)
{
    struct groups *g = t->host;
    char           text[600];
    va_list        args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    g->outer->refuse(g->outer, "%s%s", g->reads ? "encoder." : "", text);
}

void begin_groups(struct groups *g, td_translation *outer, bool reads)
{
    *g = (struct groups){ .outer = outer, .reads = reads };
    g->inner = (td_translation){ .size = sizeof g->inner,
                                 .dtype = outer->dtype,
                                 .ask = reads ? ask_both : ask_ours,
                                 .put = put_both,
                                 .refuse = refuse_both,
                                 .host = g };
}

void ask_of_either(struct groups *g) { g->inner.ask = ask_either; }
