/* commands.c - the documentation shows the real output of the commands: each `$ tandem ..` under a
 * marker in docs/commands.md is run, and its output compared with the lines that follow it.
 *
 * `<!-- exact -->`: line by line. `..` alone on a line stands for any number of lines; at the end
 * of a line, after a blank, for the rest of it. `<!-- shape -->`: every line shown occurs
 * somewhere, with any numbers in place of its numbers, because times, rates and losses differ
 * between machines.
 */
#include <ctype.h>

#include "base/text.h"
#include "tools/child.h"

#define PAGE TANDEM_SOURCE "/docs/commands.md"

/* A training run under sanitizers takes minutes, and shows nothing more about the page. */
#ifdef TANDEM_SANITIZED
enum { RUNS_TRAINING = 0 };
#else
enum { RUNS_TRAINING = 1 };
#endif

static char directory[64];

/* The directory looks like the project's after a build, so that the page's relative paths work, but
 * runs/ is its own. */
static void setup(void)
{
    char command[2000];
    snprintf(directory, sizeof directory, "/tmp/tandem-docs-XXXXXX");
    cr_assert(mkdtemp(directory));
    snprintf(command, sizeof command,
             "cd %s && mkdir build && ln -s '" TANDEM_SOURCE "/configs' '" TANDEM_SOURCE
             "/README.md' '" TANDEM_SOURCE "/data' . && ln -s \"$(dirname '" TANDEM_BINARY
             "')/..\" build/release",
             directory);
    cr_assert_eq(system(command), 0);
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(docs_commands, .init = setup, .fini = teardown);

/* ---- lines ----------------------------------------------------------------------------------- */

static void cut_end(char *line)
{
    size_t n = strlen(line);
    while (n && isspace((unsigned char)line[n - 1]))
        line[--n] = 0;
}

/* Every number becomes '#', with its suffix (34.6k), "1m 04s" becomes "#s", as 7.1s does; blanks
 * become one. */
static void to_shape(char *line)
{
    char *out = line;
    for (const char *in = line; *in;) {
        if (isdigit((unsigned char)*in)) {
            in += strspn(in, "0123456789.,");
            if (*in == 'e' && (in[1] == '-' || in[1] == '+'))
                in += 2 + strspn(in + 2, "0123456789");
            /* the k of 34.6k depends on the machine, as the digits do; GiB and KEY do not */
            if (*in && strchr("kMG", *in) && !isalpha((unsigned char)in[1]))
                in++;
            if (!strncmp(in, "m ", 2) && isdigit((unsigned char)in[2]))
                in += 2 + strspn(in + 2, "0123456789");
            *out++ = '#';
        } else if (*in == ' ') {
            in += strspn(in, " ");
            *out++ = ' ';
        } else {
            *out++ = *in++;
        }
    }
    *out = 0;
}

/* Whether a printed line is the one shown, whose end may be left out: "..", after a blank. */
static bool matches(const char *shown, const char *printed)
{
    size_t n = strlen(shown);
    if (n > 3 && !strcmp(shown + n - 3, " .."))
        return !strncmp(shown, printed, n - 3);
    return !strcmp(shown, printed);
}

static bool is_gap(const char *shown) { return !strcmp(shown + strspn(shown, " "), ".."); }

/* ---- output ---------------------------------------------------------------------------------- */

typedef struct output {
    char  *text, **line;
    size_t count;
} output;

/* Returns `text` with one name replaced by another; frees `text`. */
static char *replace(char *text, const char *name, const char *instead)
{
    td_text     out = { 0 };
    const char *from = text;
    for (const char *at; (at = strstr(from, name)) != NULL; from = at + strlen(name)) {
        td_text_append(&out, from, (size_t)(at - from));
        td_text_append(&out, instead, strlen(instead));
    }
    td_text_append(&out, from, strlen(from));
    free(text);
    return out.data ? out.data : strdup("");
}

static void split(output *o)
{
    char *rest = o->text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        o->line = realloc(o->line, (o->count + 1) * sizeof *o->line);
        cut_end(line);
        o->line[o->count++] = line;
    }
    while (o->count && !*o->line[o->count - 1])
        o->count--;
}

static output run(const char *command)
{
    char   shell[2000];
    output o = { 0 };
    child  c;

    snprintf(shell, sizeof shell,
             "cd %s && unset TANDEM_PLUGIN_PATH && PATH=\"$(dirname '" TANDEM_BINARY
             "'):$PATH\" && { %s; } 2>&1 | tr '\\r' '\\n'",
             directory, command);
    c = child_run((const char *[]){ "sh", "-c", shell, NULL });
    /* the page does not contain the paths of this build and its sources */
    o.text = replace(strdup(c.out), TANDEM_PLUGINS, "build/release/lib/tandem/plugins");
    o.text = replace(o.text, TANDEM_SOURCE "/", "");
    child_free(&c);
    split(&o);
    return o;
}

static void output_free(output *o)
{
    free(o->text);
    free(o->line);
}

/* ---- comparing ------------------------------------------------------------------------------- */

/* The first printed line from `at` on that matches, or `count`. */
static size_t find(const output *o, size_t at, const char *shown)
{
    while (at < o->count && !matches(shown, o->line[at]))
        at++;
    return at;
}

static void expect_exact(const char *command, const output *o, char **shown, size_t count)
{
    size_t at = 0;
    bool   gap = false;
    for (size_t k = 0; k < count; k++) {
        if (is_gap(shown[k])) {
            gap = true;
            continue;
        }
        size_t found = gap ? find(o, at, shown[k]) : at;
        if (found >= o->count || !matches(shown[k], o->line[found])) {
            cr_expect(false, "%s: the page shows\n%s\nbut it prints\n%s", command, shown[k],
                      at < o->count ? o->line[at] : "(nothing more)");
            return; /* all later lines are out of step and would be reported as well */
        }
        at = found + 1;
        gap = false;
    }
    cr_expect(gap || at == o->count, "%s: it also prints\n%s", command,
              at < o->count ? o->line[at] : "");
}

static void expect_shape(const char *command, const output *o, char **shown, size_t count)
{
    for (size_t i = 0; i < o->count; i++)
        to_shape(o->line[i]);
    for (size_t k = 0; k < count; k++) {
        to_shape(shown[k]);
        cr_expect(is_gap(shown[k]) || find(o, 0, shown[k]) < o->count,
                  "%s: it does not print a line such as\n%s", command, shown[k]);
    }
}

/* ---- the page -------------------------------------------------------------------------------- */

enum { SHOWN = 200 };

typedef struct block {
    bool   exact;
    char  *command, *shown[SHOWN];
    size_t count;
} block;

static int blocks;

static void see(block *b)
{
    output o;
    while (b->count && !*b->shown[b->count - 1])
        b->count--;
    if (b->command && (RUNS_TRAINING || b->exact)) {
        o = run(b->command);
        (b->exact ? expect_exact : expect_shape)(b->command, &o, b->shown, b->count);
        output_free(&o);
        blocks++;
    }
    b->command = NULL;
    b->count = 0;
}

Test(docs_commands, print_what_the_page_shows)
{
    td_error e = { 0 };
    char    *page = td_file_read(PAGE, NULL, &e), *rest = page;
    block    b = { 0 };
    bool     inside = false;
    cr_assert(page, "%s", e.text);
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        cut_end(line);
        if (!strcmp(line, "<!-- exact -->") || !strcmp(line, "<!-- shape -->")) {
            b.exact = !strcmp(line, "<!-- exact -->");
            inside = true;
        } else if (*line && strncmp(line, "    ", 4)) {
            see(&b);
            inside = false;
        } else if (inside && !strncmp(line, "    $ ", 6)) {
            see(&b);
            b.command = line + 6;
        } else if (inside && b.command) {
            cr_assert(b.count < SHOWN);
            b.shown[b.count++] = *line ? line + 4 : line;
        }
    }
    see(&b);
    cr_expect(blocks >= (RUNS_TRAINING ? 20 : 10), "only %d commands of the page were run", blocks);
    free(page);
}
