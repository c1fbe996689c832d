/* plugins.c - `tandem plugins`: lists the available plugins and their options. */
#include <jansson.h>
#include <string.h>

#include "command.h"
#include "manual/reference.h"
#include "plugin/options.h"
#include "plugins/check.h"
#include "plugins/matrix.h"
#include "plugins/new.h"
#include "tandem/kind/op.h"

static const char *file_of(const td_registry *r, const td_plugin *p)
{
    const char *path = td_registry_module(r, p)->path;
    return path ? path : "built in";
}

/* ---- list ------------------------------------------------------------------------------------ */

/* `kind`: NULL for every kind. */
static bool is_of_kind(const td_plugin *p, const td_kind *kind)
{
    return !kind || !strcmp(p->kind, kind->id);
}

static void list_json(const td_registry *r, const td_kind *kind)
{
    json_t *list = json_array();
    for (size_t i = 0; i < td_registry_count(r); i++) {
        const td_plugin *p = td_registry_plugin(r, i);
        if (is_of_kind(p, kind))
            json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "kind", p->kind, "name",
                                                  p->name, "brief", p->brief ? p->brief : "",
                                                  "file", file_of(r, p)));
    }
    json_dumpf(list, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(list);
}

static void list_text(const td_registry *r, const td_kind *kind)
{
    const char *last = "";
    for (size_t i = 0; i < td_registry_count(r); i++) {
        const td_plugin *p = td_registry_plugin(r, i);
        /* The hundred ops, which no config names, are listed only on request. */
        if (!is_of_kind(p, kind) || (!kind && !strcmp(p->kind, TD_OP_KIND)))
            continue;
        if (strcmp(last, p->kind))
            printf("%s%.*s\n", *last ? "\n" : "", td_tool_kind_length(p->kind), p->kind);
        printf("  %-18s %s\n", p->name, p->brief ? p->brief : "");
        last = p->kind;
    }
}

/* `name`: of a kind, or NULL. */
static int list(td_tool *t, const td_registry *r, const char *name)
{
    td_error       e = { 0 };
    const td_kind *kind = name ? td_tool_kind(name, &e) : NULL;
    if (e.code)
        return td_tool_fail(t, &e);
    if (t->json)
        list_json(r, kind);
    else
        list_text(r, kind);
    /* Tells a user who misses a plugin in the list why it is missing. */
    for (size_t i = 0; i < td_registry_refusals(r); i++)
        td_log_line(t->log, TD_LOG_WARN, "refused: %s", td_registry_refusal(r, i));
    return TD_EXIT_OK;
}

/* ---- show ------------------------------------------------------------------------------------ */

static void show_options(const td_option *table, size_t size, int indent)
{
    td_option row;
    for (size_t i = 0; td_option_row(table, size, i, &row); i++) {
        /* Prints two lines, so that types and ranges are aligned whatever the length of the doc. */
        td_text text = { 0 };
        td_option_describe(&row, &text);
        printf("%*s%-20s %s\n%*s%s\n", indent, "", row.name, td_text_get(&text), indent + 21, "",
               row.doc ? row.doc : "");
        if (row.type == TD_TYPE_LIST && row.fields)
            show_options(row.fields, size, indent + 4);
        td_text_free(&text);
    }
}

static void show_plugin(const td_registry *r, const td_plugin *p)
{
    const td_loaded *loaded = td_registry_module(r, p);
    printf("%.*s '%s': %s\n", td_tool_kind_length(p->kind), p->kind, p->name,
           p->brief ? p->brief : "");
    if (p->doc)
        printf("\n%s\n", p->doc);
    if (p->paper)
        printf("\npaper:  %s\n", p->paper);
    /* Names the file, because several may have a plugin of that name. */
    printf("\nfile:   %s\n", file_of(r, p));
    if (loaded->path)
        printf("module: %s %s, %s, %s\n", loaded->module->name, loaded->module->version,
               loaded->module->author, loaded->module->licence);
    printf("\noptions%s\n", p->options ? "" : ": none");
    show_options(p->options, p->option_size, 2);
}

static int show(td_tool *t, td_registry *r, const char *kind_name, const char *name)
{
    td_error         e = { 0 };
    const td_kind   *kind = td_tool_kind(kind_name, &e);
    const td_plugin *p = kind ? td_registry_find(r, kind->id, name, &e) : NULL;
    if (!p)
        return td_tool_fail(t, &e);
    show_plugin(r, p);
    return TD_EXIT_OK;
}

/* ---- the command ----------------------------------------------------------------------------- */

static const td_word words[] = {
    { "list", "[KIND]", "list plugins of one kind, or of all kinds but ops", 0, 0 },
    { "show", "KIND NAME", "show what a plugin is, where it comes from, and its options", 0, 0 },
    { "matrix", 0, "show how each op runs on each backend", 0, 0 },
    { "check", "FILE.so ..", "run the conformance suite on modules", &td_usage_plugins_check,
      td_plugins_check },
    { "new", "KIND NAME", "create a plugin project with working code to change",
      &td_usage_plugins_new, td_plugins_new },
    { "reference", 0, "write docs/reference, one page per kind", &td_usage_plugins_reference,
      td_plugins_reference },
    { 0, 0, 0, 0, 0 },
};

const td_usage td_usage_plugins = {
    .name = "plugins",
    .brief =
        "List the available plugins, show the options of one, and show how each op runs; create "
        "a new plugin, and check it.",
    .example = "tandem plugins show attention softmax",
    .words = words,
    .json = true,
    .plain = 3,
};

/* Handles the words without their own function. Each names an unexpected argument. */
static int run(td_tool *t, td_registry *r, const char *what)
{
    if (!strcmp(what, "list"))
        return t->n_plain <= 2
                   ? list(t, r, t->n_plain > 1 ? t->plain[1] : NULL)
                   : td_tool_usage_error(t, "list takes at most one kind: unexpected '%s'",
                                         t->plain[2]);
    if (!strcmp(what, "show"))
        return t->n_plain == 3 ? show(t, r, t->plain[1], t->plain[2])
                               : td_tool_usage_error(t, "show needs a kind and a name");
    if (strcmp(what, "matrix"))
        return td_tool_no_word(t, what);
    if (t->n_plain != 1)
        return td_tool_usage_error(t, "matrix takes no argument: unexpected '%s'", t->plain[1]);
    td_plugins_matrix(r);
    return TD_EXIT_OK;
}

int td_command_plugins(td_tool *t, int argc, char **argv)
{
    const char *what;
    int         code;

    /* These words have their own tables, so they are looked up before any parsing. */
    for (const td_word *w = words; argc && w->name; w++)
        if (w->run && !strcmp(argv[0], w->name)) {
            t->command = w->usage->name;
            return w->run(t, argc - 1, argv + 1);
        }
    if (!td_tool_parse(t, &td_usage_plugins, argc, argv, &code))
        return code;
    what = t->n_plain ? t->plain[0] : "list";
    if (!td_tool_registry(t))
        return TD_EXIT_USAGE;
    if (t->json && strcmp(what, "list"))
        return td_tool_usage_error(t, "--json is for list only");
    td_registry_scan(t->registry);
    return run(t, t->registry, what);
}
