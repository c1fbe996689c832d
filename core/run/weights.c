/* weights.c - decides which parameters a config may load.
 *
 * Parameters fit a model if their shapes do, but mean the same only in the model that they were
 * trained in: with a different position base or norm they still load, and silently score badly. So
 * the checkpoint's own config is compared key by key.
 */
#include "run/weights.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/arrange.h"
#include "model/checkpoint.h"
#include "run/locate.h"

/* ---- what is allowed ------------------------------------------------------------------------- */

enum { WATCHED = 64 }; /* bits of allow_used: the number of allowed keys whose use is tracked */

/* The k-th allowed key, those of the session's options first; NULL after the last. */
static const char *allowed_key(const td_session *s, size_t k)
{
    const td_strings *list = &s->x->train.allow;
    size_t            own = 0;
    while (s->allow[own])
        own++;
    if (k < own)
        return s->allow[k];
    return k - own < list->count ? list->at[k - own] : NULL;
}

bool td_session_allows(td_session *s, const char *key)
{
    const char *pattern;
    bool        allowed = false;
    /* no early exit: every key that matches counts as used */
    for (size_t k = 0; (pattern = allowed_key(s, k)) != NULL; k++)
        if (td_match(pattern, key)) {
            allowed = true;
            s->allow_used |= k < WATCHED ? (uint64_t)1 << k : 0;
        }
    return allowed;
}

void td_session_warn_of_idle_allows(const td_session *s)
{
    const char *pattern;
    for (size_t k = 0; k < WATCHED && (pattern = allowed_key(s, k)) != NULL; k++)
        if (!(s->allow_used >> k & 1))
            td_log_line(s->log, TD_LOG_WARN,
                        "'%s' is allowed to differ, but no key of that name does", pattern);
}

/* ---- differences ----------------------------------------------------------------------------- */

td_text td_refused_differences(td_text *differences,
                               bool (*accept)(void *arg, const char *key, const char *line),
                               void *arg)
{
    td_text refused = { 0 };
    char   *rest = NULL, key[300];
    if (!differences->size) /* equal configs; strtok_r would go on with another text */
        return refused;
    for (char *line = strtok_r(differences->data, "\n", &rest); line;
         line = strtok_r(NULL, "\n", &rest)) {
        /* values may contain colons, but keys cannot */
        snprintf(key, sizeof key, "%.*s", (int)strcspn(line, ":"), line);
        if (!accept(arg, key, line))
            td_text_print(&refused, "\n  %s", line);
    }
    return refused;
}

/* An architecture may be able to use another one's parameters, and declares this itself. */
static bool takes(const td_session *s, const char *before)
{
    const td_architecture *now = (const void *)s->x->model.plugin;
    for (const char *const *name = now->takes; name && *name; name++)
        if (!strcmp(*name, before))
            return true;
    return false;
}

typedef struct comparison {
    td_session *session;
    const char *before; /* the architecture that the parameters were trained in */
} comparison;

static bool accept(void *arg, const char *key, const char *line)
{
    const comparison *c = arg;
    td_journal       *log = c->session->log;
    /* loss, data and optimizer do not change the meaning of a parameter */
    if (strncmp(key, "model.", 6))
        return true;
    if (!strcmp(key, "model.plugin") && takes(c->session, c->before)) {
        td_log_line(log, TD_LOG_INFO, "the parameters are from a different %s", line);
        return true;
    }
    if (!td_session_allows(c->session, key))
        return false;
    td_log_line(log, TD_LOG_WARN, "the parameters are from a different %s: allowed", line);
    return true;
}

static int judge(td_session *s, const char *before, td_text *differences, const char *weights,
                 td_error *error)
{
    td_text refused = td_refused_differences(differences, accept, &(comparison){ s, before });
    int     code = 0;
    if (refused.size)
        code =
            td_fail(error, TD_ECONFIG,
                    "the parameters of '%s' were trained with a different model:%.1500s\nuse that "
                    "model, or allow the difference if it is intended (--allow KEY)",
                    weights, td_text_get(&refused));
    td_text_free(&refused);
    return code;
}

/* ---- what a checkpoint records --------------------------------------------------------------- */

static const char *word(const json_t *j, const char *key)
{
    const char *text = json_string_value(json_object_get(j, key));
    return text ? text : "";
}

/* With another tokenizer, the rows of the embedding stand for different pieces. */
static int check_tokenizer(td_session *s, const json_t *about, const char *weights, td_error *error)
{
    const char *was = word(about, "tokenizer");
    if (!*was || !s->tokenizer_opened || !strcmp(was, s->tokenizer_id) ||
        td_session_allows(s, "tokenizer"))
        return 0;
    return td_fail(
        error, TD_ECONFIG,
        "'%s' was trained with another tokenizer (%s; the config's is %s): use that one, "
        "or allow the difference if their ids mean the same (--allow tokenizer)",
        weights, was, s->tokenizer_id);
}

/* As text: a checkpoint may be a stranger's, and binding would look for the plugins that it names. */
static td_config *read_config(const char *text, td_errors *errors)
{
    td_config_sources sources = { .texts = &text, .n_texts = 1, .n_kept = 1 };
    td_config        *c = td_config_read(&sources, errors);
    if (c)
        td_config_take_text(c);
    return c;
}

static const char *architecture_of(const td_config *c)
{
    const td_setting *v = td_config_get(c, "model.plugin");
    return v && v->type == TD_SETTING_STRING ? v->text : "";
}

static int refuse_unreadable(td_session *s, const td_errors *errors, const char *weights,
                             td_error *error)
{
    if (!td_session_allows(s, "model"))
        return td_fail(error, TD_ECONFIG,
                       "the config that '%s' was trained with can no longer be read: %.1200s\n"
                       "to load its parameters anyway, use --allow model",
                       weights, td_text_get(&errors->text));
    /* it was damaged; whether it mattered only the user can know */
    td_log_line(
        s->log, TD_LOG_WARN,
        "the config that '%s' was trained with can no longer be read: allowed, only names and "
        "shapes are checked",
        weights);
    return 0;
}

static int compare_model(td_session *s, const char *text, const char *weights, td_error *error)
{
    td_errors  errors = { 0 };
    td_text    differences = { 0 };
    td_config *before = read_config(text, &errors);
    int        code = 0;
    if (!before)
        code = refuse_unreadable(s, &errors, weights, error);
    else if (td_config_diff(before, s->x->config, &differences))
        code = judge(s, architecture_of(before), &differences, weights, error);
    td_config_free(before);
    td_errors_free(&errors);
    td_text_free(&differences);
    return code;
}

/* Checkpoints of older versions have no config. */
static int check_model(td_session *s, const json_t *about, const char *weights, td_error *error)
{
    const char *text = word(about, "config");
    if (*text)
        return compare_model(s, text, weights, error);
    td_log_line(s->log, TD_LOG_WARN,
                "the checkpoint of '%s' records no config: only names and shapes are checked",
                weights);
    return 0;
}

/* The hash of a module from outside the installation; "": it came with tandem, or is not there. */
static void hash_of_foreign(const td_session *s, const char *kind, const char *name, char hash[33])
{
    const td_plugin *p = NULL;
    const td_loaded *m;
    *hash = 0;
    for (size_t i = 0; (p = td_config_plugin(s->x->config, i)) != NULL; i++)
        if (!strcmp(p->kind, kind) && !strcmp(p->name, name))
            break;
    m = p ? td_registry_module(s->registry, p) : NULL;
    if (m && m->path && !td_registry_is_own(s->registry, m->path))
        td_file_hash(m->path, hash, NULL);
}

/* A module of the same name from the user's own path may compute something else. */
static void warn_of_modules(const td_session *s, const json_t *about)
{
    json_t *p;
    size_t  i;
    json_array_foreach(json_object_get(about, "plugins"), i, p)
    {
        char        hash[33];
        const char *was = word(p, "hash");
        hash_of_foreign(s, word(p, "kind"), word(p, "name"), hash);
        if (*hash && *was && strcmp(hash, was))
            td_log_line(s->log, TD_LOG_WARN,
                        "the parameters were trained with another build of %s '%s' (%.12s, found "
                        "%.12s): if that build computes something different, the parameters mean "
                        "something different",
                        word(p, "kind"), word(p, "name"), was, hash);
    }
}

/* The state.json next to a file, after following a link to it. NULL without error: there is
 * none. */
static json_t *about_of(const char *weights, td_error *error)
{
    char   *target = realpath(weights, NULL);
    char   *directory = td_path_directory(target ? target : weights);
    char   *state = directory ? td_path_join(directory, "state.json") : NULL;
    char   *about = state && td_file_exists(state) ? td_checkpoint_about(directory, error) : NULL;
    json_t *j = about ? json_loads(about, 0, NULL) : NULL;
    if (!state)
        td_fail(error, TD_ENOMEM, "out of memory while looking at '%s'", weights);
    free(target);
    free(directory);
    free(state);
    free(about);
    return j;
}

char *td_session_start(const td_session *s, td_error *error)
{
    const char *path = s->x->train.weights;
    td_error    why = { 0 };
    char       *found = NULL;
    if (!td_file_exists(path))
        td_fail(&why, TD_ECONFIG, "there is no file, checkpoint or run '%s'", path);
    else
        found = td_weights_locate(path, TD_STEP_NEWEST, &why);
    if (!found)
        td_fail(error, why.code, "train.weights: %s", why.text);
    return found;
}

int td_session_check_tokenizer(td_session *s, const char *weights, td_error *error)
{
    td_error why = { 0 };
    json_t  *j = about_of(weights, &why);
    int      code = why.code ? td_fail(error, why.code, "%s", why.text) : 0;
    if (j)
        code = check_tokenizer(s, j, weights, error);
    json_decref(j);
    return code;
}

int td_session_check_weights(td_session *s, const char *weights, td_error *error)
{
    /* a separate error: both "no record" and "cannot be read" return NULL, but only the second
     * fails */
    td_error why = { 0 };
    json_t  *j = about_of(weights, &why);
    int      code = why.code ? td_fail(error, why.code, "%s", why.text) : 0;
    /* without a record, assume the setting of the config's own data */
    s->inputs_end = j ? json_is_true(json_object_get(j, "inputs_end"))
                      : td_arrange_pair(&s->x->data).inputs_end;
    if (!code && j)
        code = check_tokenizer(s, j, weights, error);
    if (!code && j)
        code = check_model(s, j, weights, error);
    if (!code && j)
        warn_of_modules(s, j);
    json_decref(j);
    return code;
}
