/* completion.c - `tandem completion`: prints the script by which a shell completes commands,
 * options, files, config keys and names of plugins. */
#include "manual/completion.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

/* ---- what all scripts share ------------------------------------------------------------------ */

void td_completion_each(td_completion_see *see, void *argument)
{
    for (const td_command *c = td_commands(); c->name; c++) {
        see(c->usage, c, NULL, argument);
        for (const td_word *w = c->usage->words; w && w->name; w++)
            if (w->usage)
                see(w->usage, c, w, argument);
    }
}

void td_completion_flags(const td_usage *u, void (*see)(const td_usage *, const td_flag *, void *),
                         void           *argument)
{
    for (const td_flag *f = u->flags; f && f->name; f++)
        see(u, f, argument);
    for (const td_flag *f = td_tool_common(); f->name; f++)
        if (td_tool_takes(u, f) && *f->name == '-')
            see(u, f, argument);
}

void td_completion_list(td_text *out, const char *list, char separator)
{
    for (; *list; list++)
        td_text_print(out, "%c", *list == '|' ? separator : *list);
}

void td_completion_kinds(td_text *out)
{
    for (const td_kind *k = td_kinds(); k->id; k++)
        td_text_print(out, "%s%s", k == td_kinds() ? "" : " ", k->name);
}

/* ---- the command ----------------------------------------------------------------------------- */

/* Returns `list` with the configs of configs/`folder` added; NULL when out of memory. */
static const char *add_configs(td_arena *arena, const char *list, const char *configs,
                               const char *folder)
{
    char   *directory = td_path_join(configs, folder);
    char  **names = NULL;
    int64_t n = directory ? td_list_directory(directory, &names, NULL) : -1;
    for (int64_t k = 0; k < n && list; k++)
        if (strstr(names[k], ".cfg"))
            list = td_arena_print(arena, "%s%s%s/%s", list, *list ? " " : "", folder, names[k]);
    if (n >= 0)
        td_free_names(names, n);
    free(directory);
    return list;
}

/* "nano/redllm.cfg ..", the names by which -c finds them from any directory. A script without
 * them is still useful, so they are left out if they cannot be listed. */
static const char *shipped_configs(td_arena *arena)
{
    char       *configs = td_tool_configs();
    char      **folders = NULL;
    int64_t     n = configs ? td_list_directory(configs, &folders, NULL) : -1;
    const char *list = "";
    for (int64_t i = 0; i < n && list; i++)
        list = add_configs(arena, list, configs, folders[i]);
    if (n >= 0)
        td_free_names(folders, n);
    free(configs);
    return list ? list : "";
}

static const td_word words[] = {
    { "bash", 0, "source it, or save it as bash-completion/completions/tandem", 0, 0 },
    { "zsh", 0, "save it as _tandem in a directory of $fpath", 0, 0 },
    { "fish", 0, "save it as fish/completions/tandem.fish", 0, 0 },
    { 0, 0, 0, 0, 0 },
};

const td_usage td_usage_completion = {
    .name = "completion",
    .brief = "Print a script that lets a shell complete commands, options, configs, config keys "
             "and plugin names.",
    .example = "source <(tandem completion bash)",
    .words = words,
    .plain = 1,
    .notes =
        "An installed tandem includes the scripts. A script knows the plugins that existed when "
        "it was written; print it again to include yours.",
};

typedef void script(const td_completion *, td_text *out);

static script *script_of(const char *shell)
{
    if (!strcmp(shell, "bash"))
        return td_completion_bash;
    return strcmp(shell, "zsh") ? td_completion_fish : td_completion_zsh;
}

static int print(td_tool *t, const td_registry *r, const char *shell)
{
    td_completion x = { .registry = r, .arena = td_arena_new() };
    td_text       out = { 0 };
    td_error      e = { 0 };
    if (!x.arena)
        td_fail(&e, TD_ENOMEM, "out of memory for a completion script");
    else if (!td_keys_collect(r, x.arena, &x.keys, &e)) {
        x.configs = shipped_configs(x.arena);
        /* Written all at once: a shell would source even half a script. */
        script_of(shell)(&x, &out);
        fputs(td_text_get(&out), stdout);
    }
    td_text_free(&out);
    free(x.keys.at);
    td_arena_free(x.arena);
    return e.code ? td_tool_fail(t, &e) : TD_EXIT_OK;
}

int td_command_completion(td_tool *t, int argc, char **argv)
{
    int code;
    if (!td_tool_parse(t, &td_usage_completion, argc, argv, &code))
        return code;
    if (!t->n_plain)
        return td_tool_usage_error(t, "which shell? Choose bash, zsh or fish");
    for (const td_word *w = words; w->name; w++)
        if (!strcmp(w->name, t->plain[0])) {
            if (!td_tool_registry(t))
                return TD_EXIT_USAGE;
            td_registry_scan(t->registry); /* for the options and names of all plugins */
            return print(t, t->registry, w->name);
        }
    return td_tool_no_word(t, t->plain[0]);
}
