/* folder.c - folders of other programs among the arguments: each becomes a run in the user's cache.
 */
#include "folder.h"

#include <stdlib.h>
#include <string.h>

#include "convert/convert.h"

static char *keep(td_tool *t, char *text)
{
    if (text && t->n_owned < sizeof t->owned / sizeof *t->owned)
        return t->owned[t->n_owned++] = text;
    free(text);
    return NULL;
}

static int fail(td_tool *t, const char *folder, const td_errors *errors, const td_error *e)
{
    if (!errors->count)
        return td_tool_fail(t, e);
    td_tool_say("the config made from '%s' has errors:\n", folder);
    fprintf(stderr, "%s\n", td_text_get(&errors->text));
    return TD_EXIT_USAGE;
}

/* Put the run in place of the folder that `*argument` names, from byte `at` on. */
static bool resolve(td_tool *t, const char **argument, size_t at, int *code)
{
    td_convert_in how = { .registry = td_tool_registry(t),
                          .log = t->log,
                          .folder = *argument + at,
                          .plugin_paths = t->plugin_paths };
    td_errors     errors = { 0 };
    td_error      e = { 0 };
    char         *run = how.registry ? td_convert_folder(&how, &errors, &e) : NULL;
    td_text       text = { 0 };
    /* the key stays in front: "train.weights=" */
    if (run) {
        td_text_print(&text, "%.*s%s", (int)at, *argument, run);
        *argument = keep(t, strdup(td_text_get(&text)));
        if (!*argument)
            td_fail(&e, TD_ENOMEM, "out of memory for the arguments");
    }
    if (e.code || errors.count || !how.registry)
        *code = how.registry ? fail(t, how.folder, &errors, &e) : TD_EXIT_FAILED;
    td_text_free(&text);
    td_errors_free(&errors);
    free(run);
    return !e.code && how.registry && run;
}

static bool resolve_if_folder(td_tool *t, const char **argument, size_t at, int *code)
{
    return !td_convert_is_foreign(*argument + at) || resolve(t, argument, at, code);
}

bool td_folder_resolve(td_tool *t, int *code)
{
    static const char key[] = "train.weights=";
    for (size_t k = 0; k < t->n_plain && k < t->usage->folders; k++)
        if (!resolve_if_folder(t, &t->plain[k], 0, code))
            return false;
    for (size_t k = 0; k < t->n_overrides && t->usage->folders; k++)
        if (!strncmp(t->overrides[k], key, strlen(key)) &&
            !resolve_if_folder(t, &t->overrides[k], strlen(key), code))
            return false;
    for (size_t k = 0; k < t->n_given && t->usage->folders; k++)
        if (!strcmp(t->given[k]->name, "--weights") &&
            !resolve_if_folder(t, &t->values[k], 0, code))
            return false;
    return true;
}
