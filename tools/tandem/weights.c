/* weights.c - which parameters a config may take. */
#include "weights.h"

#include <errno.h>
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
        if (td_match(pattern, key)) {
            allowed = true;
            ((td_work *)(uintptr_t)w)->allowed |= k < 64 ? (uint64_t)1 << k : 0;
        }
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
static bool takes(const td_work *w, const td_part *before)
{
    const td_architecture *now = (const void *)w->x->model.plugin;
    for (const char *const *name = now->takes; name && *name; name++)
        if (before->plugin && !strcmp(*name, before->plugin->name))
            return true;
    return false;
}

static void judge(const td_work *w, const td_part *before, const char *line, td_text *refused)
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

static int judge_all(const td_work *w, const td_part *before, td_text *differences,
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
    if (!*was || !w->tokenizer_opened || !strcmp(was, w->tokenizer_id) ||
        td_work_allows(w, "tokenizer"))
        return 0;
    return td_fail(error, TD_ECONFIG,
                   "'%s' was trained with another tokenizer (%s; the config's is %s): take that "
                   "one, or say --allow tokenizer if ids mean the same",
                   weights, was, w->tokenizer_id);
}

/* The config that a checkpoint keeps, as a file in memory; its descriptor, or -1. */
static int config_file(const char *text, char path[64], td_error *error)
{
    size_t size = strlen(text);
    int    fd = memfd_create("config", MFD_CLOEXEC);
    if (fd < 0 || write(fd, text, size) != (ssize_t)size) {
        td_fail(error, TD_EIO, "cannot keep a config of %zu bytes in memory: %s", size,
                strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

/* Its model alone: plugins of its data or loggers may be gone. */
static td_config *model_of(const td_work *w, const char *path, td_part *model, td_errors *errors)
{
    char      *configs = td_tool_configs();
    td_config *c = td_config_load(&path, 1, NULL, 0, configs, errors);
    free(configs);
    if (c && !td_config_bind_top(c, w->x->registry, errors) &&
        !td_config_bind(c, w->x->registry, "model", TD_ARCHITECTURE_KIND, NULL, model, errors))
        return c;
    td_config_free(c);
    return NULL;
}

static int compare_model(const td_work *w, const char *path, const char *weights, td_error *error)
{
    td_errors  errors = { 0 };
    td_text    differences = { 0 };
    td_part    model = { NULL, NULL };
    td_config *before = model_of(w, path, &model, &errors);
    int        code = 0;
    if (before && td_config_diff(before, w->x->config, &differences))
        code = judge_all(w, &model, &differences, weights, error);
    else if (!before && td_work_allows(w, "model"))
        td_log_line(w->tool->log, TD_LOG_WARN,
                    "'%s' keeps a config that cannot be read any more: allowed, only names and "
                    "shapes are checked",
                    weights);
    else if (!before)
        code =
            td_fail(error, TD_ECONFIG,
                    "'%s' keeps a config that cannot be read any more: %.1200s\nsay --allow model "
                    "to take its parameters all the same",
                    weights, td_text_get(&errors.text));
    td_config_free(before);
    td_errors_free(&errors);
    td_text_free(&differences);
    return code;
}

static int check_model(const td_work *w, const json_t *about, const char *weights, td_error *error)
{
    const char *text = word(about, "config");
    char        path[64];
    int         fd, code;
    if (!*text) {
        td_log_line(w->tool->log, TD_LOG_WARN,
                    "the checkpoint of '%s' keeps no config: only names and shapes are checked",
                    weights);
        return 0;
    }
    fd = config_file(text, path, error);
    if (fd < 0)
        return error->code;
    code = compare_model(w, path, weights, error);
    close(fd);
    return code;
}

/* The state.json beside a file, where a link leads to it; NULL without error: there is none. */
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

int td_work_check_weights(const td_work *w, const char *weights, td_error *error)
{
    json_t *j = about_of(weights, error);
    int     code = j ? check_tokenizer(w, j, weights, error) : error->code;
    if (!code && j)
        code = check_model(w, j, weights, error);
    json_decref(j);
    return code;
}
