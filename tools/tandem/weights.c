/* weights.c - which parameters a config may take. */
#include "weights.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"

/* ---- what is allowed ------------------------------------------------------------------------- */

/* The k-th key that is allowed: of the command line, then of the config; NULL: there is no other. */
static const char *allowed_key(const td_work *w, size_t k)
{
    const td_strings *list = &w->x->train.allow;
    size_t            given = td_tool_count(w->tool, "--allow");
    if (k < given)
        return td_tool_option_at(w->tool, "--allow", k);
    return k - given < list->count ? list->at[k - given] : NULL;
}

bool td_work_allows(const td_work *w, const char *key)
{
    const char *pattern;
    bool        allowed = false;
    for (size_t k = 0; (pattern = allowed_key(w, k)) != NULL; k++)
        if (td_match(pattern, key))
            allowed = true, ((td_work *)(uintptr_t)w)->allowed |= k < 64 ? (uint64_t)1 << k : 0;
    return allowed;
}

void td_work_tell_idle_allows(const td_work *w)
{
    const char *pattern;
    for (size_t k = 0; k < 64 && (pattern = allowed_key(w, k)) != NULL; k++)
        if (!(w->allowed >> k & 1))
            td_log_line(w->tool->log, TD_LOG_WARN,
                        "'%s' is allowed to differ, but nothing of that name does", pattern);
}

/* ---- differences ----------------------------------------------------------------------------- */

td_experiment *td_work_differences(const td_work *w, const char *path, td_text *out,
                                   td_errors *errors)
{
    char          *configs = td_tool_configs();
    td_experiment *before = td_experiment_open(w->x->registry, &path, 1, NULL, 0, configs,
                                               TD_NEED_TRAINING, errors);
    if (before)
        td_config_diff(before->config, w->x->config, out);
    free(configs);
    return before;
}

/* An architecture may read what another one learnt: it says so itself. */
static bool takes(const td_work *w, const td_experiment *before)
{
    const td_architecture *now = (const void *)w->x->model.plugin;
    for (const char *const *name = now->takes; name && *name; name++)
        if (before->model.plugin && !strcmp(*name, before->model.plugin->name))
            return true;
    return false;
}

static void judge(const td_work *w, const td_experiment *before, const char *line, td_text *refused)
{
    char key[300];
    snprintf(key, sizeof key, "%.*s", (int)strcspn(line, ":"), line);
    if (strncmp(key, "model.", 6))
        return;
    if (!strcmp(key, "model.plugin") && takes(w, before))
        td_log_line(w->tool->log, TD_LOG_INFO, "taking parameters of another %s", line);
    else if (td_work_allows(w, key))
        td_log_line(w->tool->log, TD_LOG_WARN, "taking parameters of another %s: allowed", line);
    else
        td_text_print(refused, "\n  %s", line);
}

static int judge_all(const td_work *w, const td_experiment *before, td_text *differences,
                     const char *weights, td_error *error)
{
    td_text refused = { 0 };
    char   *rest = NULL;
    int     code = 0;
    for (char *line = strtok_r(differences->data, "\n", &rest); line;
         line = strtok_r(NULL, "\n", &rest))
        judge(w, before, line, &refused);
    if (refused.size)
        code = td_fail(error, TD_ECONFIG,
                       "the parameters of '%s' were trained as another model:%.1500s\ntake that "
                       "model, or say --allow KEY for a difference that is meant",
                       weights, td_text_get(&refused));
    td_text_free(&refused);
    return code;
}

/* ---- what a checkpoint says ------------------------------------------------------------------ */

static const char *word(const json_t *j, const char *key)
{
    const char *text = json_string_value(json_object_get(j, key));
    return text ? text : "";
}

/* Parameters mean nothing to another tokenizer. */
static int check_tokenizer(const td_work *w, const json_t *about, const char *weights,
                           td_error *error)
{
    const char *was = word(about, "tokenizer");
    if (!*was || !strcmp(was, w->tokenizer_id) || td_work_allows(w, "tokenizer"))
        return 0;
    return td_fail(error, TD_ECONFIG,
                   "'%s' was trained with another tokenizer (%s; the config's is %s): take that "
                   "one, or say --allow tokenizer if ids mean the same",
                   weights, was, w->tokenizer_id);
}

/* The config that a checkpoint keeps, as a file in memory; its descriptor, or -1. */
static int config_file(const json_t *about, char path[64])
{
    const char *text = word(about, "config");
    size_t      size = strlen(text);
    int         fd = size ? memfd_create("config", MFD_CLOEXEC) : -1;
    if (fd >= 0 && write(fd, text, size) != (ssize_t)size) {
        close(fd);
        return -1;
    }
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

static int check_model(const td_work *w, const json_t *about, const char *weights, td_error *error)
{
    td_errors      errors = { 0 };
    td_text        differences = { 0 };
    char           path[64];
    int            fd = config_file(about, path), code = 0;
    td_experiment *before = fd >= 0 ? td_work_differences(w, path, &differences, &errors) : NULL;
    if (before && differences.size)
        code = judge_all(w, before, &differences, weights, error);
    else if (fd >= 0 && !before && !td_work_allows(w, "model"))
        code =
            td_fail(error, TD_ECONFIG,
                    "'%s' keeps a config that cannot be read any more: %.1200s\nsay --allow model "
                    "to take its parameters all the same",
                    weights, td_text_get(&errors.text));
    td_experiment_close(before);
    td_errors_free(&errors), td_text_free(&differences);
    if (fd >= 0)
        close(fd);
    return code;
}

int td_work_check_weights(const td_work *w, const char *weights, td_error *error)
{
    char   *directory = td_path_directory(weights);
    char   *state = directory ? td_path_join(directory, "state.json") : NULL;
    char   *about = state && td_file_exists(state) ? td_checkpoint_about(directory, NULL) : NULL;
    json_t *j = about ? json_loads(about, 0, NULL) : NULL;
    int     code = j ? check_tokenizer(w, j, weights, error) : 0;
    if (!code && j)
        code = check_model(w, j, weights, error);
    json_decref(j);
    free(directory), free(state), free(about);
    return code;
}
