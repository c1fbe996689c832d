/* write_tokenizer.c - a run's tokenizer beside its model, in the files of other programs. */
#include <stdlib.h>

#include "base/file.h"
#include "convert/convert.h"
#include "plugin/hook.h"

static int put(const td_tokenizer_out *out, const char *name, const void *data, size_t size,
               td_error *error)
{
    /* the plugin may be a stranger's */
    if (strchr(name, '/') || !*name || *name == '.')
        return td_fail(error, TD_EPLUGIN,
                       "the tokenizer is wrong: '%.100s' is not the name of a file in a folder",
                       name);
    return td_file_write_in(out->host, name, data, size, error);
}

/* The id that the other program has to put before a text. An encoder reads its input without one,
 * and a decoder's is added by the program. */
static int32_t begin_of(const td_record *settings)
{
    const td_format_value *begin = td_record_get(settings, "bos_token_id");
    const td_format_value *encoder = td_record_get(settings, "is_encoder_decoder");
    return begin && !(encoder && encoder->integer) ? (int32_t)begin->integer : -1;
}

int td_convert_put_tokenizer(td_session *s, const td_tokenizer_out *out, td_error *error)
{
    const td_tokenizer *t = (const void *)s->x->tokenizer.plugin;
    if (!t->write_files)
        return td_fail(error, TD_EUNSUPPORTED, "its plugin cannot write files");
    return TD_HOOK(t, write_files, s->tokenizer, out, error);
}

/* A tokenizer that cannot be converted is no reason to refuse the model, which works with ids. */
int td_convert_write_tokenizer(td_session *s, const td_record *settings, const char *folder,
                               td_error *error)
{
    td_tokenizer_out out = { .size = sizeof out,
                             .begin = begin_of(settings),
                             .put = put,
                             .host = (void *)(uintptr_t)folder };
    td_error         why = { 0 };
    int              code = s->x->tokenizer.plugin ? td_convert_put_tokenizer(s, &out, &why) : 0;
    /* a model is useful with ids alone, so this is worth a warning, not a failure */
    if (code == TD_EUNSUPPORTED) {
        td_log_line(s->log, TD_LOG_WARN, "the tokenizer '%s' is not written for other programs: %s",
                    s->x->tokenizer.plugin->name, why.text);
        return 0;
    }
    return code ? td_fail(error, code, "%s", why.text) : 0;
}
