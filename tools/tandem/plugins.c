/* plugins.c - `tandem plugins`: what there is, and what one takes. */
#include <jansson.h>
#include <string.h>

#include "command.h"
#include "plugin/module.h"
#include "plugin/options.h"
#include "plugins_check.h"
#include "plugins_new.h"
#include "manual/reference.h"
#include "tandem/kind/backend.h"
#include "tandem/kind/kernels.h"
#include "tandem/kind/op.h"

static int kind_length(const char *kind) { return (int)strcspn(kind, "/"); }

static const char *file_of(const td_registry *r, const td_plugin *p)
{
    const char *path = td_registry_module(r, p)->path;
    return path ? path : "built in";
}

/* ---- list ------------------------------------------------------------------------------------ */

static bool of_kind(const td_plugin *p, const char *kind)
{
    return !kind ||
           (strlen(kind) == (size_t)kind_length(p->kind) && !strncmp(kind, p->kind, strlen(kind)));
}

static void list_json(const td_registry *r, const char *kind)
{
    json_t *list = json_array();
    for (size_t i = 0; i < td_registry_count(r); i++) {
        const td_plugin *p = td_registry_plugin(r, i);
        if (of_kind(p, kind))
            json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "kind", p->kind, "name",
                                                  p->name, "brief", p->brief ? p->brief : "",
                                                  "file", file_of(r, p)));
    }
    json_dumpf(list, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(list);
}

static int list(td_tool *t, const td_registry *r, const char *kind)
{
    const char *last = "";
    size_t      shown = 0;
    if (t->json)
        list_json(r, kind);
    for (size_t i = 0; i < td_registry_count(r); i++) {
        const td_plugin *p = td_registry_plugin(r, i);
        if (!of_kind(p, kind) || (!kind && !strcmp(p->kind, TD_OP_KIND)))
            continue;
        shown++;
        if (t->json)
            continue;
        if (strcmp(last, p->kind))
            printf("%s%.*s\n", *last ? "\n" : "", kind_length(p->kind), p->kind);
        printf("  %-18s %s\n", p->name, p->brief ? p->brief : "");
        last = p->kind;
    }
    for (size_t i = 0; i < td_registry_refusals(r); i++)
        td_log_line(t->log, TD_LOG_WARN, "refused: %s", td_registry_refusal(r, i));
    return shown || !kind ? TD_EXIT_OK
                          : td_tool_usage_error(t, "there is no plugin of a kind '%s'", kind);
}

/* ---- show ------------------------------------------------------------------------------------ */

static void show_options(const td_option *table, size_t size, int indent)
{
    td_option row;
    for (size_t i = 0; td_option_row(table, size, i, &row); i++) {
        td_text text = { 0 };
        td_option_describe(&row, &text);
        printf("%*s%-20s %s\n%*s%s\n", indent, "", row.name, td_text_get(&text), indent + 21, "",
               row.doc ? row.doc : "");
        if (row.type == TD_TYPE_LIST && row.fields)
            show_options(row.fields, size, indent + 4);
        td_text_free(&text);
    }
}

static int show(td_tool *t, td_registry *r, const char *kind, const char *name)
{
    const td_plugin *p = NULL;
    td_error         e = { 0 };
    for (const td_kind *k = td_kinds(); k->id; k++)
        if (!strcmp(k->name, kind) || !strcmp(k->id, kind))
            p = td_registry_find(r, k->id, name, &e);
    if (!p)
        return e.code ? td_tool_fail(t, &e) : td_tool_usage_error(t, "there is no kind '%s'", kind);
    printf("%.*s '%s': %s\n", kind_length(p->kind), p->kind, p->name, p->brief ? p->brief : "");
    if (p->doc)
        printf("\n%s\n", p->doc);
    if (p->paper)
        printf("\npaper:  %s\n", p->paper);
    printf("\nfile:   %s\n", file_of(r, p));
    if (td_registry_module(r, p)->path) {
        const td_module *m = td_registry_module(r, p)->module;
        printf("module: %s %s, %s, %s\n", m->name, m->version, m->author, m->licence);
    }
    printf("\noptions%s\n", p->options ? "" : ": none");
    show_options(p->options, p->option_size, 2);
    return TD_EXIT_OK;
}

/* ---- matrix ---------------------------------------------------------------------------------- */

static bool has_kernel(const td_registry *r, const char *backend, const char *op, int32_t dtype)
{
    for (size_t i = 0; i < td_registry_count(r); i++) {
        const td_kernels *k = (const void *)td_registry_plugin(r, i);
        if (strcmp(k->plugin.kind, TD_KERNELS_KIND) || strcmp(k->backend, backend))
            continue;
        for (size_t j = 0; j < k->count; j++)
            if (k->rows[j].dtype == dtype && !strcmp(k->rows[j].op, op))
                return true;
    }
    return false;
}

const char *td_plugins_how(const td_registry *r, const td_backend *b, const td_op *op)
{
    if (op->flags & TD_OP_VIEW)
        return "view";
    if (has_kernel(r, b->plugin.name, op->plugin.name, b->real))
        return has_kernel(r, b->plugin.name, op->plugin.name, TD_I32) ? "kernel +i32" : "kernel";
    return op->lower ? "lowered" : "-";
}

static int matrix(td_registry *r)
{
    const td_backend *backends[16];
    size_t            n = 0;
    for (size_t i = 0; i < td_registry_count(r) && n < 16; i++)
        if (!strcmp(td_registry_plugin(r, i)->kind, TD_BACKEND_KIND))
            backends[n++] = (const void *)td_registry_plugin(r, i);
    printf("%-18s", "op");
    for (size_t b = 0; b < n; b++)
        printf("%-14s", backends[b]->plugin.name);
    putchar('\n');
    for (size_t i = 0; i < td_registry_count(r); i++) {
        const td_plugin *p = td_registry_plugin(r, i);
        if (strcmp(p->kind, TD_OP_KIND))
            continue;
        printf("%-18s", p->name);
        for (size_t b = 0; b < n; b++)
            printf("%-14s", td_plugins_how(r, backends[b], (const td_op *)(const void *)p));
        putchar('\n');
    }
    return TD_EXIT_OK;
}

static const td_word words[] = {
    { "list", "[KIND]", "names and briefs, of one kind or of all but ops", 0, 0 },
    { "show", "KIND NAME", "what one is, where it is from, and its options", 0, 0 },
    { "matrix", 0, "which op runs how on each backend", 0, 0 },
    { "check", "FILE.so ..", "run the conformance suite on modules", &td_usage_plugins_check,
      td_plugins_check },
    { "new", "KIND NAME", "begin a plugin: a project with code that works, to be changed",
      &td_usage_plugins_new, td_plugins_new },
    { "reference", 0, "write docs/reference: a page per kind", &td_usage_plugins_reference,
      td_plugins_reference },
    { 0, 0, 0, 0, 0 },
};

const td_usage td_usage_plugins = {
    .name = "plugins",
    .brief = "What plugins there are, what one takes and which op runs how; begin one of your own, "
             "and check it.",
    .example = "tandem plugins show attention softmax",
    .words = words,
    .json = true,
    .plain = 3,
};

int td_command_plugins(td_tool *t, int argc, char **argv)
{
    td_registry *r;
    const char  *what;
    int          code;

    for (const td_word *w = words; argc && w->name; w++)
        if (w->run && !strcmp(argv[0], w->name))
            return w->run(t, argc - 1, argv + 1);
    if (!td_tool_parse(t, &td_usage_plugins, argc, argv, &code))
        return code;
    r = td_tool_registry(t);
    if (!r)
        return TD_EXIT_USAGE;
    what = t->n_plain ? t->plain[0] : "list";
    if (t->json && strcmp(what, "list"))
        return td_tool_usage_error(t, "only list gives JSON");
    td_registry_scan(r);
    if (!strcmp(what, "list"))
        return t->n_plain <= 2
                   ? list(t, r, t->n_plain > 1 ? t->plain[1] : NULL)
                   : td_tool_usage_error(t, "list takes one kind, or none: what is '%s'?",
                                         t->plain[2]);
    if (!strcmp(what, "show"))
        return t->n_plain == 3 ? show(t, r, t->plain[1], t->plain[2])
                               : td_tool_usage_error(t, "show takes a kind and a name");
    if (!strcmp(what, "matrix"))
        return t->n_plain == 1
                   ? matrix(r)
                   : td_tool_usage_error(t, "matrix takes no argument: what is '%s'?", t->plain[1]);
    return td_tool_no_word(t, what);
}
