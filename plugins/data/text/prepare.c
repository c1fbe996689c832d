/* prepare.c - reads the documents of a source, and prepares token shards of them. */
#include <string.h>

#include "common/prepare.h"
#include "common/reader.h"
#include "text.h"

int text_each(const text_config *c, const data_source *s, int part, const td_services *services,
              int64_t *bad, int (*document)(void *arg, const char *text, size_t size), void *arg,
              td_error *error)
{
    glob_t  files;
    int64_t number = 0;
    int     code = source_files(s, part, services, &files, error);

    /* documents are numbered across all files, for held_out_every */
    for (size_t i = 0; i < files.gl_pathc && !code; i++) {
        const char *text;
        size_t      size;
        reader     *r = reader_open(files.gl_pathv[i], c->text, bad, services, error);
        code = r ? 0 : TD_EIO;
        while (!code && (code = reader_next(r, &text, &size, error)) == 0)
            if (source_has(s, part, number++))
                code = document(arg, text, size);
        code = code == TD_EEND ? 0 : code;
        reader_close(r);
    }
    globfree(&files);
    return code;
}

/* A document is one piece. */
typedef struct visit {
    document_visitor *visitor;
    void             *arg;
} visit;

static int visit_document(void *arg, const char *text, size_t size)
{
    const visit *v = arg;
    return v->visitor(v->arg, &(piece){ text, size, true }, 1);
}

static int each(const void *config, const data_source *s, int part, const td_services *services,
                int64_t *bad, document_visitor *visitor, void *arg, td_error *error)
{
    visit v = { visitor, arg };
    return text_each(config, s, part, services, bad, visit_document, &v, error);
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
                      .each = each,
                      .config = c };
    return prepare_shard(&p, path, error);
}
