/* man.c - `tandem man`: the manual as roff, generated from the tables by which the command parses
 * its arguments and configs.
 *
 * The macros of man(7) that it uses: .TH title, .SH section, .SS subsection, .TP an entry of a list
 * whose term is the next line, .B bold, .BR bold followed by roman, .PP paragraph, .RS and .RE
 * indented, .nf and .fi unfilled, .br line break; within a line \fI italics, \fR back to roman.
 *
 * A page holds nothing that changes between two runs of the same build on the same day, and
 * nothing that only one formatter understands: `mandoc -T lint` and `groff -ww` report nothing,
 * which a test checks. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "command.h"
#include "plugin/options.h"
#include "run/experiment.h"

/* Columns of a line of source. Formatters fill lines themselves; this is for readers of the
 * source, and mandoc warns of lines above 80 bytes, to which escapes can lengthen these. */
enum { WIDTH = 64 };

typedef struct manual {
    const td_registry *registry;
    char               date[32]; /* 2026-11-28 */
} manual;

/* ---- roff ------------------------------------------------------------------------------------ */

/* Text within a line, with the characters escaped that roff would interpret or typeset as others: a
 * plain - becomes a hyphen, which nobody can paste into a shell. */
static void put(td_text *out, const char *text)
{
    for (; *text; text++) {
        static const char        special[] = "\\-'`^~";
        static const char *const instead[] = { "\\e", "\\-", "\\(aq", "\\(ga", "\\(ha", "\\(ti" };
        const char              *at = strchr(special, *text);
        if (at)
            td_text_print(out, "%s", instead[at - special]);
        else
            td_text_print(out, "%c", *text == '\n' ? ' ' : *text);
    }
}

/* Text filled into lines. A line must not begin with a dot: that would be a request. */
static void put_line(td_text *out, const char *text)
{
    size_t column = 0;
    char   word[256];
    while (*text) {
        size_t n = strcspn(text, " \n");
        if (n) {
            snprintf(word, sizeof word, "%.*s", (int)n, text);
            if (column)
                td_text_print(out, column + n > WIDTH ? "\n" : " ");
            column = column + n > WIDTH ? 0 : column;
            /* \& is nothing, of no width: the dot is no longer the first thing in its line. */
            td_text_print(out, !column && *word == '.' ? "\\&" : "");
            put(out, word);
            column += n + 1;
        }
        text += n + (text[n] != 0);
    }
    td_text_print(out, "\n");
}

static void section(td_text *out, const char *name) { td_text_print(out, ".SH %s\n", name); }

/* The title line and the NAME section, from which `apropos` builds its index. */
static void head(const manual *m, const char *page, const char *number, const char *brief,
                 td_text *out)
{
    td_text_print(out, ".\\\" Written by `tandem man`.\n.TH ");
    for (const char *p = page; *p; p++)
        td_text_print(out, "%c", *p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p);
    td_text_print(out, " %s %s \"tandem %s\" \"tandem manual\"\n", number, m->date, TANDEM_VERSION);
    section(out, "NAME");
    put(out, page);
    td_text_print(out, " \\-\n");
    put_line(out, brief);
}

/* ---- options of commands --------------------------------------------------------------------- */

/* An entry of a list: a bold name, an argument in italics (or NULL), and a text below. */
static void entry(const char *name, const char *argument, const char *text, td_text *out)
{
    td_text_print(out, ".TP\n.B ");
    put(out, name);
    if (argument) {
        td_text_print(out, " \\fI");
        put(out, argument);
        td_text_print(out, "\\fR");
    }
    td_text_print(out, "\n");
    put_line(out, text);
}

static void flags(const td_usage *u, td_text *out)
{
    for (const td_flag *f = u->flags; f && f->name; f++)
        entry(f->name, f->value, f->help, out);
    for (const td_flag *f = td_tool_common(); f->name; f++)
        if (td_tool_takes(u, f))
            entry(f->name, f->value, f->help, out);
}

/*     tandem data show -c FILE.cfg [key=value ..] [--index N] [--count K] */
static void synopsis(const td_usage *u, td_text *out)
{
    td_text arguments = { 0 };
    td_tool_arguments(u, &arguments);
    td_text_print(out, ".B tandem ");
    put(out, u->name);
    td_text_print(out, "\n");
    if (u->config)
        td_text_print(out, "%s\\-c \\fIFILE.cfg\\fR%s [\\fIkey\\fR=\\fIvalue\\fR ..]\n",
                      u->optional ? "[" : "", u->optional ? "]" : "");
    if (arguments.size)
        put_line(out, td_text_get(&arguments));
    td_text_free(&arguments);
}

/* Unfilled, so that it can be pasted. */
static void example(const td_usage *u, td_text *out)
{
    if (!u->example)
        return;
    td_text_print(out, ".PP\nExample:\n.PP\n.RS 4\n.nf\n");
    put(out, u->example);
    td_text_print(out, "\n.fi\n.RE\n");
}

static void notes(const td_usage *u, td_text *out)
{
    for (const char *p = u->notes ? u->notes : ""; *p; p += strspn(p, "\n")) {
        const char *end = strstr(p, "\n\n");
        size_t      n = end ? (size_t)(end - p) : strlen(p);
        char       *paragraph = strndup(p, n);
        td_text_print(out, ".PP\n");
        put_line(out, paragraph ? paragraph : "");
        free(paragraph);
        p += n;
    }
}

/* A word with its own options has a subsection. */
static void own_command(const td_word *w, td_text *out)
{
    td_text_print(out, ".SS ");
    put_line(out, w->name);
    synopsis(w->usage, out);
    td_text_print(out, ".PP\n");
    put_line(out, w->usage->brief);
    notes(w->usage, out);
    example(w->usage, out);
    flags(w->usage, out);
}

static void command_page(const manual *m, const td_command *c, td_text *out)
{
    char            page[64];
    const td_usage *u = c->usage;
    snprintf(page, sizeof page, "tandem-%s", c->name);
    head(m, page, "1", c->brief, out);
    section(out, "SYNOPSIS");
    synopsis(u, out);
    section(out, "DESCRIPTION");
    put_line(out, u->brief);
    notes(u, out);
    for (const td_word *w = u->words; w && w->name; w++)
        entry(w->name, w->arguments, w->brief, out);
    example(u, out);
    section(out, "OPTIONS");
    flags(u, out);
    /* An empty section would be a warning of mandoc, so the heading waits for the first entry. */
    for (const td_word *w = u->words, *first = NULL; w && w->name; w++) {
        if (!w->usage)
            continue;
        if (!first)
            section(out, "COMMANDS");
        first = first ? first : w;
        own_command(w, out);
    }
    section(out, "SEE ALSO");
    td_text_print(out, ".BR tandem (1),\n.BR tandem.cfg (5)\n");
}

/* ---- tandem(1) ------------------------------------------------------------------------------- */

static void main_options(td_text *out)
{
    section(out, "OPTIONS");
    put_line(out, "Most commands accept these:");
    for (const td_flag *f = td_tool_common(); f->name; f++)
        entry(f->name, f->value, f->help, out);
    /* main.c handles this one before any command. */
    entry("--version", NULL,
          "print the versions of tandem and of the plugin ABI; without a command", out);
    section(out, "ENVIRONMENT");
    entry(
        "TANDEM_PLUGIN_PATH", NULL,
        "directories with plugins, separated by colons; searched after those of --plugin-path and "
        "of the config",
        out);
}

static void exit_status(td_text *out)
{
    section(out, "EXIT STATUS");
    entry("0", NULL, "success", out);
    entry("1", NULL, "failed while running", out);
    entry("2", NULL, "an error in the arguments, the config, a plugin or the model", out);
    entry("3", NULL, "training diverged", out);
    entry("75", NULL, "saved after SIGTERM, SIGUSR1, SIGUSR2 or SIGXCPU; continue with --resume",
          out);
    entry("129", NULL, "saved after SIGHUP; continue with --resume", out);
    entry("130", NULL, "saved after SIGINT; continue with --resume", out);
    entry("141", NULL, "saved because nothing reads the output; continue with --resume", out);
}

static void main_page(const manual *m, td_text *out)
{
    head(m, "tandem", "1", "which language-model architecture is better, and why?", out);
    section(out, "SYNOPSIS");
    td_text_print(out,
                  ".B tandem\n\\fICOMMAND\\fR [\\-c \\fIFILE.cfg\\fR] [\\fIkey\\fR=\\fIvalue\\fR "
                  "..] [\\fIoptions\\fR]\n");
    section(out, "DESCRIPTION");
    put_line(out, "A toolkit for comparing language-model architectures, in which every part of an "
                  "experiment is a plugin. A config names the parts; commands train, evaluate, "
                  "describe and compare the models built from them.");
    section(out, "COMMANDS");
    /* As references to pages, which a pager can follow. */
    for (const td_command *c = td_commands(); c->name; c++) {
        td_text_print(out, ".TP\n.BR tandem\\-%s (1)\n", c->name);
        put_line(out, c->brief);
    }
    main_options(out);
    exit_status(out);
    section(out, "SEE ALSO");
    for (const td_command *c = td_commands(); c->name; c++)
        td_text_print(out, ".BR tandem\\-%s (1),\n", c->name);
    td_text_print(out, ".BR tandem.cfg (5)\n");
}

/* ---- tandem.cfg(5) --------------------------------------------------------------------------- */

enum { DEEPEST = 8 }; /* levels of lists within lists */

/* The options of a table; `depth` lists are around it. */
static void options(const td_option *table, size_t size, int depth, td_text *out)
{
    td_option row;
    for (size_t i = 0; td_option_row(table, size, i, &row); i++) {
        td_text kind = { 0 };
        td_option_describe(&row, &kind);
        td_text_print(out, ".TP\n.B ");
        put(out, row.name);
        td_text_print(out, "\n");
        put_line(out, td_text_get(&kind));
        td_text_free(&kind);
        if (row.doc && *row.doc) {
            td_text_print(out, ".br\n");
            put_line(out, row.doc);
        }
        /* The options of a list's items, indented under the list. */
        if (row.type == TD_TYPE_LIST && depth < DEEPEST) {
            td_text_print(out, ".RS\n");
            options(row.fields, size, depth + 1, out);
            td_text_print(out, ".RE\n");
        }
    }
}

/* A subsection; in quotes, since its title is two words. */
static void plugin(const td_plugin *p, td_text *out)
{
    td_text_print(out, ".SS \"%.*s ", td_tool_kind_length(p->kind), p->kind);
    put(out, p->name);
    td_text_print(out, "\"\n");
    put_line(out, p->brief && *p->brief ? p->brief : p->name);
    options(p->options, p->option_size, 0, out);
}

static const char composition[] =
    "A config is a file of groups in libconfig syntax. A group for a plugin names it with the key "
    "plugin and sets its options. extends = \"a.cfg\" (or a list of files) merges other files "
    "first, "
    "group by group; later values override earlier ones. A group whose plugin changes keeps only "
    "the options that both plugins declare in the same way. key=value arguments override all "
    "files. plugin_path lists directories "
    "with plugins, relative to the file that names them.";

static void config_page(const manual *m, td_text *out)
{
    head(m, "tandem.cfg", "5", "tandem configs: groups, plugins and their options", out);
    section(out, "DESCRIPTION");
    put_line(out, composition);
    section(out, "GROUPS");
    for (const td_group *g = td_experiment_groups(); g->name; g++) {
        td_text_print(out, ".SS ");
        put_line(out, g->name);
        put(out, g->brief);
        if (g->kind)
            td_text_print(out, "; a plugin of kind %.*s", td_tool_kind_length(g->kind), g->kind);
        if (g->plugin)
            td_text_print(out, ", %s by default", g->plugin);
        td_text_print(out, "\n");
        options(g->table, sizeof(td_option), 0, out);
    }
    /* Ops and kernels have no options, and no config names them. */
    section(out, "PLUGINS");
    for (size_t i = 0; i < td_registry_count(m->registry); i++) {
        const td_plugin *p = td_registry_plugin(m->registry, i);
        if (p->options)
            plugin(p, out);
    }
    section(out, "SEE ALSO");
    td_text_print(out, ".BR tandem (1),\n.BR tandem\\-config (1),\n.BR tandem\\-plugins (1)\n");
}

/* ---- the command ----------------------------------------------------------------------------- */

/* Distributions set SOURCE_DATE_EPOCH so that a build is reproducible
 * (reproducible-builds.org/specs/source-date-epoch); otherwise the date is today. */
static void set_date(manual *m)
{
    const char *epoch = getenv("SOURCE_DATE_EPOCH");
    time_t      now = epoch && *epoch ? (time_t)strtoll(epoch, NULL, 10) : time(NULL);
    struct tm   day;
    strftime(m->date, sizeof m->date, "%Y-%m-%d", gmtime_r(&now, &day));
}

/* False if there is no such page. */
static bool page(const manual *m, const char *name, td_text *out)
{
    if (!strcmp(name, "tandem"))
        main_page(m, out);
    else if (!strcmp(name, "tandem.cfg") || !strcmp(name, "cfg"))
        config_page(m, out);
    else {
        /* "train", as after `tandem`; the page is tandem-train(1) */
        const td_command *c = td_commands();
        while (c->name && strcmp(c->name, name) != 0)
            c++;
        if (c->name)
            command_page(m, c, out);
        return c->name != NULL;
    }
    return true;
}

static int write_page(const manual *m, const char *directory, const char *name, const char *file,
                      td_error *error)
{
    td_text text = { 0 };
    char   *path = td_path_join(directory, file), *above = path ? td_path_directory(path) : NULL;
    int     code = above ? td_make_directories(above, error)
                         : td_fail(error, TD_ENOMEM, "out of memory for the manual");
    page(m, name, &text); /* always found: `name` comes from our own tables */
    if (!code)
        code = td_file_write(path, td_text_get(&text), text.size, error);
    td_text_free(&text);
    free(path);
    free(above);
    return code;
}

static int write_all(const manual *m, const char *directory, td_error *error)
{
    int code = write_page(m, directory, "tandem", "man1/tandem.1", error);
    for (const td_command *c = td_commands(); c->name && !code; c++) {
        char file[80];
        snprintf(file, sizeof file, "man1/tandem-%s.1", c->name);
        code = write_page(m, directory, c->name, file, error);
    }
    return code ? code : write_page(m, directory, "tandem.cfg", "man5/tandem.cfg.5", error);
}

static const td_flag own_flags[] = {
    { "--dir", "DIR", "write all pages to DIR/man1 and DIR/man5" },
    { 0, 0, 0 },
};

const td_usage td_usage_man = {
    .name = "man",
    .arguments = "[COMMAND | cfg] | --dir DIR",
    .brief = "Print a page of the manual in roff: the page of tandem itself, of a command, or of "
             "configs (cfg), which has the options of all plugins.",
    .example = "tandem man train | man -l -",
    .flags = own_flags,
    .plain = 1,
    .notes =
        "An installed tandem includes the pages: man tandem, man tandem-train, man tandem.cfg.",
};

static int run(td_tool *t, const char *directory)
{
    manual      m = { .registry = t->registry };
    td_text     text = { 0 };
    td_error    e = { 0 };
    const char *name = t->n_plain ? t->plain[0] : "tandem";
    int         code = TD_EXIT_OK;
    set_date(&m);
    if (directory)
        code = write_all(&m, directory, &e) ? td_tool_fail(t, &e) : TD_EXIT_OK;
    else if (page(&m, name, &text))
        fputs(td_text_get(&text), stdout);
    else
        code = td_tool_usage_error(t, "there is no page '%s'; name a command, or cfg", name);
    td_text_free(&text);
    return code;
}

int td_command_man(td_tool *t, int argc, char **argv)
{
    const char *directory;
    int         code;
    if (!td_tool_parse(t, &td_usage_man, argc, argv, &code))
        return code;
    directory = td_tool_option(t, "--dir");
    if (directory && t->n_plain)
        return td_tool_usage_error(t, "--dir writes all pages; leave out '%s'", t->plain[0]);
    if (!td_tool_registry(t))
        return TD_EXIT_USAGE;
    td_registry_scan(t->registry); /* the page of configs has the options of all plugins */
    return run(t, directory);
}
