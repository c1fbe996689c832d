/* config.c - `tandem config`: show the resolved config, explain a key, compare two configs, check
 * one without running it. */
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "run/experiment.h"

/* The groups that a config must have, judged by those it has: a part to be extended, of data alone,
 * say, needs nothing else. */
static unsigned needs_of(const td_tool *t, const char *const *files, size_t n, const char *configs)
{
    td_errors  errors = { 0 }; /* reported when it is opened */
    td_config *c = td_config_load(files, n, t->overrides, t->n_overrides, configs, &errors);
    unsigned   needs = 0;
    if (c && td_config_get(c, "model"))
        needs = TD_NEED_MODEL | TD_NEED_LOSS |
                (td_config_get(c, "data") ? TD_NEED_DATA | TD_NEED_TOKENIZER : 0);
    td_config_free(c);
    td_errors_free(&errors);
    return needs;
}

/* NULL after the errors were printed, one a line. */
static td_experiment *open_files(td_tool *t, const char *const *files, size_t n)
{
    td_errors      errors = { 0 };
    td_registry   *r = td_tool_registry(t);
    char          *configs = td_tool_configs();
    td_experiment *x = NULL;
    if (r)
        x = td_experiment_open(r, files, n, t->overrides, t->n_overrides, configs,
                               needs_of(t, files, n, configs), &errors);
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
    /* both are bound: what differs is what they mean, defaults included, not how they are
     * written */
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
    fprintf(found ? stdout : stderr, "%s%s", td_text_get(&text), found ? "" : "\n");
    td_text_free(&text);
    return found ? TD_EXIT_OK : TD_EXIT_USAGE;
}

/* A group that a config leaves to others is no error, but nobody should think that it was
 * checked. */
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

static int run(td_tool *t, const char *what, bool origins)
{
    td_experiment *x = open_files(t, t->files, t->n_files);
    td_text        text = { 0 };
    int            code = TD_EXIT_OK;
    if (!x)
        return TD_EXIT_USAGE;
    if (!strcmp(what, "show")) { /* itself a config: it can be saved and used */
        td_config_print(x->config, origins, &text);
        fputs(td_text_get(&text), stdout);
    } else if (!strcmp(what, "check")) {
        puts("all is well");
        print_missing(x);
    } else
        code = explain(t, x, t->plain[1]);
    td_text_free(&text);
    td_experiment_close(x);
    return code;
}

static const td_flag flags[] = { { "--origins", 0, "show: also where each value comes from" },
                                 { 0, 0, 0 } };

static const td_word words[] = {
    { "show", "[--origins]", "every key with its value (the default)", 0, 0 },
    { "explain", "KEY",
      "value, meaning, range and origin of a key; for a group, its plugin and all its keys", 0, 0 },
    { "diff", 0, "the differences of two configs: tandem config diff A.cfg B.cfg", 0, 0 },
    { "check", 0, "report all errors together, with exit code 2, or that all is well", 0, 0 },
    { 0, 0, 0, 0, 0 },
};

const td_usage td_usage_config = {
    .name = "config",
    .brief =
        "The config with every default filled in; one key; the difference of two configs; a check.",
    .example = "tandem config explain model.attention.heads -c paper/redllm-150m.cfg",
    .flags = flags,
    .words = words,
    .config = true,
    .plain = 2,
};

int td_command_config(td_tool *t, int argc, char **argv)
{
    const char *what;
    bool        origins;
    int         code;

    if (!td_tool_parse(t, &td_usage_config, argc, argv, &code))
        return code;
    what = t->n_plain ? t->plain[0] : "show";
    origins = td_tool_option(t, "--origins");
    /* an option or argument that a word does not take must not be ignored */
    if (origins && strcmp(what, "show"))
        return td_tool_usage_error(t, "only show takes --origins");
    if (!strcmp(what, "diff") && t->n_plain == 1)
        return diff(t);
    if (!strcmp(what, "explain") && t->n_plain != 2)
        return td_tool_usage_error(t, "explain takes one key");
    if (strcmp(what, "show") && strcmp(what, "check") && strcmp(what, "explain") &&
        strcmp(what, "diff"))
        return td_tool_no_word(t, what);
    if (t->n_plain > 1 && strcmp(what, "explain"))
        return td_tool_usage_error(t, "%s takes no argument: what is '%s'?", what, t->plain[1]);
    return run(t, what, origins);
}
