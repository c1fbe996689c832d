/* weights.c - which parameters a config may take.
 *
 * Parameters fit a model if their shapes do, but mean the same only in the model that they were
 * trained in: with another position base or norm they still load, and score badly without a word.
 * So the checkpoint's own config is compared, key by key.
 */
#include "run/weights.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/checkpoint.h"

/* ---- what is allowed ------------------------------------------------------------------------- */

enum { WATCHED = 64 }; /* allowed keys whose use is known: the bits of allow_used */

/* The k-th allowed key, those of the session's options first; NULL: there is no other. */
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
    /* all of them, not up to the first: each that matches is in use */
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

void td_difference_key(const char *line, char key[300])
{
    snprintf(key, 300, "%.*s", (int)strcspn(line, ":"), line);
}

/* An architecture may be able to read what another one learnt; it declares that itself. */
static bool takes(const td_session *s, const td_part *before)
{
    const td_architecture *now = (const void *)s->x->model.plugin;
    for (const char *const *name = now->takes; name && *name; name++)
        if (before->plugin && !strcmp(*name, before->plugin->name))
            return true;
    return false;
}

static void judge(td_session *s, const td_part *before, const char *line, td_text *refused)
{
    char key[300];
    td_difference_key(line, key);
    /* loss, data and optimizer do not change what a parameter means */
    if (strncmp(key, "model.", 6))
        return;
    if (!strcmp(key, "model.plugin") && takes(s, before))
        td_log_line(s->log, TD_LOG_INFO, "the parameters are from a different %s", line);
    else if (td_session_allows(s, key))
        td_log_line(s->log, TD_LOG_WARN, "the parameters are from a different %s: allowed", line);
    else
        td_text_print(refused, "\n  %s", line);
}

static int judge_all(td_session *s, const td_part *before, td_text *differences,
                     const char *weights, td_error *error)
{
    td_text refused = { 0 };
    char   *rest = NULL;
    int     code = 0;
    /* all of them before refusing, so that one message names every key */
    for (char *line = strtok_r(differences->data, "\n", &rest); line;
         line = strtok_r(NULL, "\n", &rest))
        judge(s, before, line, &refused);
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

/* To another tokenizer the rows of the embedding are other pieces. */
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

/* Of the recorded config the model alone: plugins of its data or loggers may be gone. */
static td_config *read_model(const td_session *s, const char *text, td_part *model,
                             td_errors *errors)
{
    td_config_sources sources = { .texts = &text, .n_texts = 1, .search = s->configs };
    td_config        *c = td_config_read(&sources, errors);
    if (c && !td_config_bind_top(c, s->registry, errors) &&
        !td_config_bind(c, s->registry, "model", TD_ARCHITECTURE_KIND, NULL, model, errors))
        return c;
    td_config_free(c);
    return NULL;
}

static int refuse_unreadable(td_session *s, const td_errors *errors, const char *weights,
                             td_error *error)
{
    if (!td_session_allows(s, "model"))
        return td_fail(error, TD_ECONFIG,
                       "the config that '%s' was trained with cannot be read any more: %.1200s\n"
                       "--allow model takes its parameters all the same",
                       weights, td_text_get(&errors->text));
    /* an option was removed or renamed since; whether it mattered only the user can know */
    td_log_line(
        s->log, TD_LOG_WARN,
        "the config that '%s' was trained with cannot be read any more: allowed, only names "
        "and shapes are checked",
        weights);
    return 0;
}

static int compare_model(td_session *s, const char *text, const char *weights, td_error *error)
{
    td_errors  errors = { 0 };
    td_text    differences = { 0 };
    td_part    model = { NULL, NULL };
    td_config *before = read_model(s, text, &model, &errors);
    int        code = 0;
    /* of `before` only the model is bound, so only keys of model.* have something to differ from */
    if (!before)
        code = refuse_unreadable(s, &errors, weights, error);
    else if (td_config_diff(before, s->x->config, &differences))
        code = judge_all(s, &model, &differences, weights, error);
    td_config_free(before);
    td_errors_free(&errors);
    td_text_free(&differences);
    return code;
}

/* An older tandem kept no config. */
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

/* The state.json beside a file; a link is followed first, so that it hides nothing. NULL without
 * error: there is none. */
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

int td_session_check_weights(td_session *s, const char *weights, td_error *error)
{
    /* of its own: "no record" and "cannot be read" both give NULL, and only the second fails */
    td_error why = { 0 };
    json_t  *j = about_of(weights, &why);
    int      code = why.code ? td_fail(error, why.code, "%s", why.text) : 0;
    if (!code && j)
        code = check_tokenizer(s, j, weights, error);
    if (!code && j)
        code = check_model(s, j, weights, error);
    json_decref(j);
    return code;
}
