/* config.c - `tandem config`: show the resolved config, explain a key, compare two configs, check
 * one without running it. */
#include <stdlib.h>
#include <string.h>

#include "run/keep.h"
#include "run/review.h"
#include "work.h"

/* The config may come from a stranger, so it does not choose what is loaded. */
static td_config *load(const td_tool *t, const char *const *files, size_t n, const char *configs,
                       td_errors *errors)
{
    td_config_sources s = { .files = files,
                            .n_files = n,
                            .overrides = t->overrides,
                            .n_overrides = t->n_overrides,
                            .search = configs,
                            .untrusted = !t->trust };
    return td_config_read(&s, errors);
}

/* The groups that a config must have, which depend on those present: a config with only data, for
 * example, which others extend, needs nothing else. */
static unsigned needs_of(const td_tool *t, const char *const *files, size_t n, const char *configs)
{
    td_errors  errors = { 0 }; /* reported when it is opened */
    td_config *c = load(t, files, n, configs, &errors);
    unsigned   needs = 0;
    if (c && td_config_get(c, "model"))
        needs = TD_NEED_MODEL | TD_NEED_LOSS |
                (td_config_get(c, "data") ? TD_NEED_DATA | TD_NEED_TOKENIZER : 0);
    td_config_free(c);
    td_errors_free(&errors);
    return needs;
}

/* Returns NULL after printing the errors, one per line. */
static td_experiment *open_files(td_tool *t, const char *const *files, size_t n)
{
    td_errors      errors = { 0 };
    td_registry   *r = td_tool_registry(t);
    char          *configs = td_tool_configs();
    td_config     *c = r ? load(t, files, n, configs, &errors) : NULL;
    td_experiment *x = NULL;
    /* read twice: the first reading shows what it must have */
    if (c)
        x = td_experiment_bind(r, c, needs_of(t, files, n, configs), &errors);
    fputs(x ? td_config_notes(x->config) : "", stderr);
    free(configs);
    if (errors.count)
        fprintf(stderr, "%s\n", td_text_get(&errors.text));
    td_errors_free(&errors);
    return x;
}

static int diff(td_tool *t)
{
    td_experiment *a, *b = NULL;
    td_text        text = { 0 };
    if (t->n_files != 2)
        return td_tool_usage_error(t, "diff compares two configs: tandem config diff A.cfg B.cfg");
    /* both are bound, so that values are compared, defaults included, not spellings */
    a = open_files(t, t->files, 1);
    b = a ? open_files(t, t->files + 1, 1) : NULL;
    if (b)
        td_config_diff(a->config, b->config, &text);
    fputs(td_text_get(&text), stdout);
    td_text_free(&text);
    td_experiment_close(a);
    td_experiment_close(b);
    return b ? TD_EXIT_OK : TD_EXIT_USAGE;
}

static int explain(td_tool *t, const td_experiment *x, const char *key)
{
    td_text text = { 0 };
    bool    found = td_config_explain(x->config, key, &text);
    /* only the host's groups have defaults; a model has no default plugin */
    if (!found && !t->n_files)
        td_text_print(&text, "; with -c FILE.cfg the keys of its plugins exist as well");
    fprintf(found ? stdout : stderr, "%s%s", td_text_get(&text), found ? "" : "\n");
    td_text_free(&text);
    return found ? TD_EXIT_OK : TD_EXIT_USAGE;
}

/* A config may leave groups to other files, but the user should know that they were not checked. */
static void print_missing(const td_experiment *x)
{
    const char      *names[] = { "model", "loss", "optimizer", "schedule", "tokenizer", "data" };
    const td_plugin *plugins[] = { x->model.plugin,    x->loss.plugin,      x->optimizer.plugin,
                                   x->schedule.plugin, x->tokenizer.plugin, x->data.plugin };
    int              n = 0;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        if (!plugins[k])
            printf("%s%s", n++ ? ", " : "missing, so not checked, but needed to train: ", names[k]);
    if (n)
        putchar('\n');
}

/* All that training would refuse before its first step. */
static int check(td_tool *t)
{
    td_errors   errors = { 0 };
    td_text     notes = { 0 };
    char       *configs = td_tool_configs();
    int         code;
    td_session *s = td_work_open(t, needs_of(t, t->files, t->n_files, configs), &code);
    if (s && !td_session_review(s, &errors, &notes)) {
        puts("all is well");
        print_missing(s->x);
    }
    if (s)
        code = errors.count ? TD_EXIT_USAGE : TD_EXIT_OK;
    if (errors.count)
        fprintf(stderr, "%s\n", td_text_get(&errors.text));
    /* notes are not errors: they do not change the exit code */
    fputs(td_text_get(&notes), stderr);
    td_session_close(s);
    td_errors_free(&errors);
    td_text_free(&notes);
    free(configs);
    return code;
}

static int run(td_tool *t, const char *what, bool origins)
{
    td_experiment *x = open_files(t, t->files, t->n_files);
    td_text        text = { 0 };
    int            code = TD_EXIT_OK;
    if (!x)
        return TD_EXIT_USAGE;
    if (!strcmp(what, "show")) { /* the output is itself a config, which can be saved and used */
        td_config_print(x->config, origins, &text);
        fputs(td_text_get(&text), stdout);
    } else if (!strcmp(what, "check")) { /* --quick */
        puts("all is well");
        print_missing(x);
    } else
        code = explain(t, x, t->plain[1]);
    td_text_free(&text);
    td_experiment_close(x);
    return code;
}

static int act(td_tool *t, const char *what, bool origins)
{
    if (!strcmp(what, "diff"))
        return diff(t);
    return !strcmp(what, "check") && !td_tool_option(t, "--quick") ? check(t)
                                                                   : run(t, what, origins);
}

/* The copies of modules of the first run among the configs: RUN, or RUN/config.cfg. free() it. */
static char *modules_of(const td_tool *t)
{
    char *modules = NULL;
    for (size_t k = 0; k < t->n_files && !modules; k++) {
        const char *slash = strrchr(t->files[k], '/');
        char       *run = slash && !strcmp(slash, "/config.cfg")
                              ? strndup(t->files[k], (size_t)(slash - t->files[k]))
                              : strdup(t->files[k]);
        modules = run ? td_run_modules(run) : NULL;
        free(run);
    }
    return modules;
}

static const td_flag flags[] = {
    { "--origins", 0, "with show: also where each value comes from" },
    { "--quick", 0, "with check: check only the text of the config, not the files that it names" },
    { 0, 0, 0 }
};

static const td_word words[] = {
    { "show", "[--origins]", "every key with its value (the default)", 0, 0 },
    { "explain", "KEY",
      "value, meaning, range and origin of a key; for a group, its plugin and all its keys; "
      "without "
      "-c, of the defaults",
      0, 0 },
    { "diff", 0, "the differences of two configs: tandem config diff A.cfg B.cfg", 0, 0 },
    { "check", "[--quick]",
      "report everything that train would refuse; exit code 2 if there is anything; writes nothing",
      0, 0 },
    { 0, 0, 0, 0, 0 },
};

const td_usage td_usage_config = {
    .name = "config",
    .brief = "Show the config with every default filled in, explain a key, compare two configs, or "
             "check one.",
    .example = "tandem config explain model.attention.heads -c paper/redllm-150m.cfg",
    .flags = flags,
    .words = words,
    .config = true,
    .bare = "explain",
    .plain = 2,
};

int td_command_config(td_tool *t, int argc, char **argv)
{
    const char *what;
    char       *modules;
    bool        origins;
    int         code;

    if (!td_tool_parse(t, &td_usage_config, argc, argv, &code))
        return code;
    t->looks = true;
    what = t->n_plain ? t->plain[0] : "show";
    origins = td_tool_option(t, "--origins");
    /* options and arguments that a word does not take must not be ignored */
    if (origins && strcmp(what, "show"))
        return td_tool_usage_error(t, "only show takes --origins");
    if (td_tool_option(t, "--quick") && strcmp(what, "check"))
        return td_tool_usage_error(t, "only check takes --quick");
    if (!strcmp(what, "explain") && t->n_plain != 2)
        return td_tool_usage_error(t, "explain takes one key");
    if (strcmp(what, "show") && strcmp(what, "check") && strcmp(what, "explain") &&
        strcmp(what, "diff"))
        return td_tool_no_word(t, what);
    if (t->n_plain > 1 && strcmp(what, "explain"))
        return td_tool_usage_error(t, "%s takes no argument: unexpected '%s'", what, t->plain[1]);
    modules = modules_of(t);
    td_work_trust(t, modules);
    code = act(t, what, origins);
    if (code)
        td_work_advise(t, modules);
    free(modules);
    return code;
}
