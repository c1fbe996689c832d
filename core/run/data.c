/* data.c - a session's tokenizer and data source.
 *
 * Both are opened by the first call that reads text, once. Opening the data may prepare token
 * shards, which takes long the first time; they are kept in run.dir/cache.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "model/arrange.h"
#include "plugin/hook.h"
#include "run/cache.h"
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
    return TD_HOOK(a, vocab_size, s->x->model.config);
}

/* ---- whether it keeps text ------------------------------------------------------------------- */

/* Whether a text is the same after encoding and decoding. One that cannot be encoded is not. */
static bool keeps(const td_session *s, const char *text)
{
    const td_tokenizer *t = tokenizer_of(s);
    enum { IDS = 256, BYTES = 1024 };
    int32_t  ids[IDS];
    char     back[BYTES];
    td_error e = { 0 };
    int64_t  size = (int64_t)strlen(text);
    int64_t  n = TD_HOOK(t, encode, s->tokenizer, text, (size_t)size, ids, IDS, &e);
    return n >= 0 && n <= IDS &&
           TD_HOOK(t, decode, s->tokenizer, ids, n, back, BYTES, &e) == size &&
           !memcmp(back, text, (size_t)size);
}

/* Bits per byte divide by the bytes of the text. A model whose tokenizer normalizes predicts less
 * than that: spaces that are always single, say, cost nothing. */
static void look_for_loss(td_session *s)
{
    static const char
        *const texts[] = { "two words", "two  spaces", " around ", "lines\n\nand\ttabs",
                           "\xEF\xAC\x81 \xE2\x91\xA0 A\xCC\x8A" /* fi, (1), A ring */ };
    s->lossy = false;
    for (size_t k = 0; k < sizeof texts / sizeof *texts && !s->lossy; k++)
        s->lossy = !keeps(s, texts[k]);
    if (s->lossy)
        td_log_line(s->log, TD_LOG_WARN,
                    "tokenizer '%s' does not keep text as it is (it normalizes spaces or "
                    "characters, or lacks some): bits per byte are left out, as they would count "
                    "text that the model never sees",
                    tokenizer_of(s)->plugin.name);
}

/* ---- opening it ------------------------------------------------------------------------------ */

/* A config that says where the text is now may also name a tokenizer, whose file only the run
 * has. */
static int add_hint(const td_session *s, td_error *error)
{
    size_t n = strlen(error->text);
    if (s->entered)
        snprintf(error->text + n, sizeof error->text - n,
                 "; a run keeps its own: leave the group 'tokenizer' out of the configs that "
                 "change it");
    return td_failed(error, TD_EIO);
}

/* If it fails after opening, td_session_close_data closes it. */
static int open_tokenizer(td_session *s, td_error *error)
{
    const td_tokenizer *t = tokenizer_of(s);
    if (s->tokenizer_opened)
        return 0;
    if (TD_HOOK(t, open, s->x->tokenizer.config, s->services, &s->tokenizer, error))
        return add_hint(s, error);
    s->tokenizer_opened = true;
    s->special = (td_special){ .pad = -1, .bos = -1, .eos = -1, .unk = -1, .mode = { -1, -1, -1 } };
    TD_HOOK(t, special, s->tokenizer, &s->special);
    look_for_loss(s);
    /* more rows than ids are fine: they pad the table */
    if (s->x->model.plugin && s->special.vocab_size > td_session_vocabulary(s))
        return td_fail(error, TD_ECONFIG,
                       "tokenizer '%s' has %d ids, more than model.vocab_size = %lld: set "
                       "model.vocab_size = %d, or train a smaller tokenizer",
                       t->plugin.name, s->special.vocab_size, (long long)td_session_vocabulary(s),
                       s->special.vocab_size);
    return 0;
}

/* ---- which tokenizer it is ------------------------------------------------------------------- */

/* Mixes the meaning of an id into `h`: its piece, or the text that it decodes to. */
static int hash_id(const td_session *s, int32_t id, uint64_t *h, td_error *error)
{
    const td_tokenizer *t = tokenizer_of(s);
    const char         *piece = t->piece ? TD_HOOK(t, piece, s->tokenizer, id) : NULL;
    int64_t             n = piece ? (int64_t)strlen(piece)
                                  : TD_HOOK(t, decode, s->tokenizer, &id, 1, NULL, 0, NULL);
    char               *text = !piece && n > 0 ? malloc((size_t)n) : NULL;
    uint64_t            own;
    if (!piece && n > 0 && !text)
        return td_fail(error, TD_ENOMEM, "out of memory for the %lld bytes of token %d",
                       (long long)n, (int)id);
    if (text)
        n = TD_HOOK(t, decode, s->tokenizer, &id, 1, text, n, NULL);
    /* includes the id: the same pieces in a different order make a different tokenizer */
    own = td_hash(td_random_stream(""), piece ? piece : text, n > 0 ? (size_t)n : 0);
    *h = td_random_bits(*h, own, (uint64_t)id);
    free(text);
    return 0;
}

/* Token shards and checkpoints carry this name, so that those of another tokenizer are not taken
 * for ours. It consists of the plugin's name, and its fingerprint or a hash of the meaning of every
 * id. */
static int identify(const td_session *s, char out[64], td_error *error)
{
    const td_tokenizer *t = tokenizer_of(s);
    uint64_t            h = 0;
    int code = t->fingerprint ? TD_HOOK(t, fingerprint, s->tokenizer, &h, error) : 0;
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

/* Without a loss, as in `tandem data prepare`, a record is as long as a sequence. */
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
                         /* a loss that removes spans reads more tokens than it leaves */
                         .length = l ? TD_HOOK(l, bounds, s->x->loss.config, s->x->train.length).raw
                                     : s->x->train.length,
                         .held_out_length = s->held_out_length ? s->held_out_length
                                                               : s->x->evaluate.length,
                         .whole_documents = s->whole_documents,
                         .held_out_only = (s->needs & TD_NEED_HELD_OUT) == TD_NEED_HELD_OUT };
}

static int with_data(td_session *s, bool open, td_error *error)
{
    const td_data *d = (const void *)s->x->data.plugin;
    char          *cache = td_session_cache(s, error);
    td_data_in     in;
    /* the shards' names contain the tokenizer's */
    int            code = cache ? td_session_open_tokenizer(s, error) : td_failed(error, TD_EIO);

    in = data_in(s, cache);
    if (!code && open) {
        code = TD_HOOK(d, open, s->x->data.config, &in, &s->data, error);
        s->data_opened = !code;
    } else if (!code && d->prepare)
        code = TD_HOOK(d, prepare, s->x->data.config, &in, error);
    free(cache);
    return code;
}

int td_session_open_data(td_session *s, td_error *error)
{
    return s->data_opened ? 0 : with_data(s, true, error);
}

int td_session_open_data_together(td_session *s, td_error *error)
{
    int code;
    td_team_begin_solo(s->team);
    code = td_team_leads(s->team) ? td_session_open_data(s, error) : 0;
    code = td_team_end_solo(s->team, code, error);
    return code ? code : td_team_agree(s->team, td_session_open_data(s, error), error);
}

int td_session_prepare_data(td_session *s, td_error *error) { return with_data(s, false, error); }

static void close_data(td_session *s)
{
    if (s->data_opened)
        TD_HOOK(((const td_data *)(const void *)s->x->data.plugin), close, s->data);
    s->data_opened = false;
}

int td_session_long_data(td_session *s, int64_t length, bool whole_documents, td_own_data *own,
                         td_error *error)
{
    int code;
    if (td_arrange_pair(&s->x->data).inputs)
        return td_fail(error, TD_ECONFIG,
                       "data '%s' consists of pairs, whose lengths are fixed: sequences of a "
                       "given length need running text",
                       s->x->data.plugin->name);
    /* results of the session refer to sources of its own data, which therefore stays open */
    *own = (td_own_data){ s->data, s->data_opened };
    s->data_opened = false;
    s->held_out_length = length;
    s->whole_documents = whole_documents;
    code = td_session_open_data(s, error);
    s->held_out_length = 0;
    s->whole_documents = false;
    if (code)
        td_session_restore_data(s, own);
    return code;
}

void td_session_restore_data(td_session *s, const td_own_data *own)
{
    close_data(s);
    s->data = own->data;
    s->data_opened = own->opened;
}

static bool has_held_out(const td_session *s)
{
    const td_data *d = (const void *)s->x->data.plugin;
    for (int64_t i = 0; i < TD_HOOK(d, sources, s->data); i++)
        if (TD_HOOK(d, held_out, s->data, i) > 0)
            return true;
    return false;
}

int td_session_long_text(td_session *s, int64_t length, bool *documents, td_own_data *own,
                         td_error *error)
{
    td_error why = { 0 };
    int      code = td_session_long_data(s, length, true, own, &why);
    *documents = true;
    if (!code && !has_held_out(s)) {
        /* joined text is better than none, and reported as such */
        td_session_restore_data(s, own);
        *documents = false;
        td_log_line(s->log, TD_LOG_INFO,
                    "no held-out document has %" PRId64
                    " tokens: sequences are joined from shorter "
                    "ones",
                    length);
        code = td_session_long_data(s, length, false, own, &why);
    }
    return code ? td_fail(error, td_failed(&why, TD_EIO),
                          "cannot read sequences of %" PRId64 " tokens: %s", length, why.text)
                : 0;
}

void td_session_close_data(td_session *s)
{
    close_data(s);
    if (s->tokenizer_opened)
        TD_HOOK(tokenizer_of(s), close, s->tokenizer);
    s->tokenizer_opened = false;
}
