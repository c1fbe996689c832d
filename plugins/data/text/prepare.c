/* prepare.c - reads the documents of a source, and prepares token shards of them. */
#include <string.h>

#include "common/megatron.h"
#include "common/reader.h"
#include "text.h"

/* One walk through the documents of a part. They are numbered across all files, for held_out_every. */
typedef struct walk {
    const text_config *config;
    const data_source *source;
    int                part;
    const td_services *services;
    int64_t           *bad, number;
    document_visitor  *visitor;
    void              *arg;
} walk;

/* A document is one piece. */
static int visit(walk *w, const void *data, size_t size, bool encoded)
{
    piece p = { .text = data, .size = size, .end = true, .encoded = encoded };
    return source_has(w->source, w->part, w->number++) ? w->visitor(w->arg, &p, 1) : 0;
}

static int visit_text(walk *w, const char *path, td_error *error)
{
    const char *text;
    size_t      size;
    reader     *r = reader_open(path, w->config->text, w->bad, w->services, error);
    int         code = r ? 0 : TD_EIO;
    while (!code && (code = reader_next(r, &text, &size, error)) == 0)
        code = visit(w, text, size, false);
    reader_close(r);
    return code == TD_EEND ? 0 : code;
}

static int visit_tokens(walk *w, const char *path, td_error *error)
{
    const int32_t *ids;
    int64_t        n;
    megatron      *m = megatron_open(path, error);
    int            code = m ? 0 : td_failed(error, TD_EIO);
    while (!code && (code = megatron_next(m, &ids, &n, error)) == 0)
        code = visit(w, ids, (size_t)n * sizeof *ids, true);
    megatron_close(m);
    return code == TD_EEND ? 0 : code;
}

int text_each(const void *config, const data_source *s, int part, const td_services *services,
              int64_t *bad, document_visitor *visitor, void *arg, td_error *error)
{
    walk   w = { config, s, part, services, bad, 0, visitor, arg };
    glob_t files;
    int    code = source_files(s, part, services, &files, error);
    for (size_t i = 0; i < files.gl_pathc && !code; i++)
        code = megatron_is(files.gl_pathv[i]) ? visit_tokens(&w, files.gl_pathv[i], error)
                                              : visit_text(&w, files.gl_pathv[i], error);
    globfree(&files);
    return code;
}

int text_prepare(const text_config *c, const data_source *s, int part, const td_data_in *in,
                 char *path, td_error *error)
{
    preparation p = { .source = s,
                      .part = part,
                      .in = in,
                      .plugin = "text",
                      .content = c->text,
                      .content_size = strlen(c->text) + 1,
                      .max_bad_lines = c->max_bad_lines,
                      .each = text_each,
                      .config = c };
    return prepare_shard(&p, path, error);
}
