/* data.c - a session's tokenizer and data source.
 *
 * Both are opened by the first call that reads text, once. Opening the data may prepare token
 * shards, which takes long the first time; they are kept in run.dir/cache.
 */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "run/session.h"
#include "tandem/kind/tokenizer.h"
#include "tandem/random.h"

static const td_tokenizer *tokenizer_of(const td_session *s)
{
    return (const void *)s->x->tokenizer.plugin;
}

int64_t td_session_vocabulary(const td_session *s)
{
    const td_architecture *a = (const void *)s->x->model.plugin;
    return a->vocab_size(s->x->model.config);
}

/* Opened though it then fails: td_session_close_data closes it. */
static int open_tokenizer(td_session *s, td_error *error)
{
    const td_tokenizer *t = tokenizer_of(s);
    if (s->tokenizer_opened)
        return 0;
    if (t->open(s->x->tokenizer.config, s->services, &s->tokenizer, error))
        return td_failed(error, TD_EIO);
    s->tokenizer_opened = true;
    s->special = (td_special){ .pad = -1, .bos = -1, .eos = -1, .unk = -1, .mode = { -1, -1, -1 } };
    t->special(s->tokenizer, &s->special);
    /* more rows than ids are fine: they are padding of the table */
    if (s->x->model.plugin && s->special.vocab_size > td_session_vocabulary(s))
        return td_fail(error, TD_ECONFIG,
                       "tokenizer '%s' has %d ids, more than model.vocab_size = %lld: raise it",
                       t->plugin.name, s->special.vocab_size, (long long)td_session_vocabulary(s));
    return 0;
}

/* ---- which tokenizer it is ------------------------------------------------------------------- */

/* Mix what an id means into `h`: its piece, or the text that it decodes to. */
static int hash_id(const td_session *s, int32_t id, uint64_t *h, td_error *error)
{
    const td_tokenizer *t = tokenizer_of(s);
    const char         *piece = t->piece ? t->piece(s->tokenizer, id) : NULL;
    int64_t  n = piece ? (int64_t)strlen(piece) : t->decode(s->tokenizer, &id, 1, NULL, 0, NULL);
    char    *text = !piece && n > 0 ? malloc((size_t)n) : NULL;
    uint64_t own;
    if (!piece && n > 0 && !text)
        return td_fail(error, TD_ENOMEM, "no memory for the %lld bytes of token %d", (long long)n,
                       (int)id);
    if (text)
        n = t->decode(s->tokenizer, &id, 1, text, n, NULL);
    /* with the id: the same pieces in another order are another tokenizer */
    own = td_hash(td_random_stream(""), piece ? piece : text, n > 0 ? (size_t)n : 0);
    *h = td_random_bits(*h, own, (uint64_t)id);
    free(text);
    return 0;
}

/* Token shards and checkpoints carry this name, so that those of another tokenizer are not taken
 * for ours: the plugin's name, and its fingerprint or what every id means. */
static int identify(const td_session *s, char out[64], td_error *error)
{
    const td_tokenizer *t = tokenizer_of(s);
    uint64_t            h = 0;
    int                 code = t->fingerprint ? t->fingerprint(s->tokenizer, &h, error) : 0;
    for (int32_t id = 0; !t->fingerprint && !code && id < s->special.vocab_size; id++)
        code = hash_id(s, id, &h, error);
    snprintf(out, 64, "%.40s-%016llx", t->plugin.name, (unsigned long long)h);
    return code;
}

int td_session_open_tokenizer(td_session *s, td_error *error)
{
    int code = open_tokenizer(s, error);
    return code ? code : identify(s, s->tokenizer_id, error);
}

/* ---- the data -------------------------------------------------------------------------------- */

/* Without a loss (`tandem data prepare` needs none) a record is as long as a sequence. */
static td_data_in data_in(const td_session *s, const char *cache)
{
    const td_loss *l = (const void *)s->x->loss.plugin;
    return (td_data_in){ .services = s->services,
                         .tokenizer = tokenizer_of(s),
                         .tokenizer_state = s->tokenizer,
                         .special = s->special,
                         .tokenizer_id = s->tokenizer_id,
                         .cache = cache,
                         .seed = (uint64_t)s->x->train.seed_data,
                         /* a loss that takes spans out reads more than it leaves */
                         .length = l ? l->bounds(s->x->loss.config, s->x->train.length).raw
                                     : s->x->train.length,
                         .held_out_length = s->x->evaluate.length };
}

/* Prepared shards are shared by the runs of run.dir: models that are compared read the same
 * text. */
static int with_data(td_session *s, bool open, td_error *error)
{
    const td_data *d = (const void *)s->x->data.plugin;
    char          *cache = td_path_join(s->x->run.dir, "cache");
    td_data_in     in;
    int            code = cache ? td_session_open_tokenizer(s, error)
                                : td_fail(error, TD_ENOMEM, "out of memory while opening the data");

    /* the shards' names contain the tokenizer's, so it is known by now */
    if (!code)
        code = td_make_directories(cache, error);
    in = data_in(s, cache);
    if (!code && open) {
        code = d->open(s->x->data.config, &in, &s->data, error);
        s->data_opened = !code;
    } else if (!code && d->prepare)
        code = d->prepare(s->x->data.config, &in, error);
    free(cache);
    return code;
}

int td_session_open_data(td_session *s, td_error *error)
{
    return s->data_opened ? 0 : with_data(s, true, error);
}

int td_session_prepare_data(td_session *s, td_error *error) { return with_data(s, false, error); }

void td_session_close_data(td_session *s)
{
    if (s->data_opened)
        ((const td_data *)(const void *)s->x->data.plugin)->close(s->data);
    if (s->tokenizer_opened)
        tokenizer_of(s)->close(s->tokenizer);
    s->data_opened = s->tokenizer_opened = false;
}
