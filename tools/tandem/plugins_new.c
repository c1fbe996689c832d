/* plugins_new.c - `tandem plugins new`: the project of a new plugin, made from a template.
 *
 * Templates are in tools/templates, installed as share/tandem/templates: `common` has the files of
 * every project, a folder for each kind the others. In a template @WORD@ stands for a value: see
 * `values`. */
#include "plugins_new.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/text.h"
#include "plugin/module.h"
#include "tandem/kind/ffn.h"
#include "tandem/kind/op.h"

enum { LONGEST_NAME = 64, KINDS = 32 };

typedef struct project {
    const td_kind *kind;
    const char    *name;
    char           identifier[LONGEST_NAME + 1]; /* the name, with _ for - */
    const char    *directory;
    td_text        author, licence; /* as C strings have them */
    td_text        about;           /* the kind's part of the README */
    char          *templates;
} project;

/* ---- kinds and names ------------------------------------------------------------------------- */

static int list_kinds(void)
{
    printf("kinds of plugins; `tandem plugins new KIND NAME` begins one:\n\n");
    for (const td_kind *k = td_kinds(); k->id; k++)
        printf("  %-14s %s\n", k->name, k->brief);
    return TD_EXIT_OK;
}

static const td_kind *find_kind(const char *name, td_error *error)
{
    const char *names[KINDS], *nearest;
    size_t      n = 0;
    for (const td_kind *k = td_kinds(); k->id && n < KINDS; k++) {
        if (!strcmp(k->name, name) || !strcmp(k->id, name))
            return k;
        names[n++] = k->name;
    }
    nearest = td_nearest(name, names, n);
    td_fail(error, TD_ECONFIG, "there is no kind '%s'%s%s%s; `tandem plugins new` lists them", name,
            nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
    return NULL;
}

/* Narrower than what a module may have: it is the name of files and of C identifiers too. No word of
 * C is in the way: identifiers go on behind it, as in `struct int_config`. */
static int check_name(const char *name, td_error *error)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    static const char more[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    size_t            length = strlen(name), good = strspn(name, more);

    if (!length)
        return td_fail(error, TD_ECONFIG, "the plugin's name is empty: give it one");
    if (length > LONGEST_NAME)
        return td_fail(error, TD_ECONFIG,
                       "the plugin's name '%.80s' has %zu bytes; it may have %d: take a shorter "
                       "one",
                       name, length, LONGEST_NAME);
    if (!strchr(letters, name[0]))
        return td_fail(error, TD_ECONFIG,
                       "the plugin's name '%s' begins with '%.1s'; it names files and C "
                       "identifiers: begin with a letter",
                       name, name);
    if (!strncmp(name, "td", 2) && (!name[2] || name[2] == '-' || name[2] == '_'))
        return td_fail(error, TD_ECONFIG,
                       "the plugin's name '%s' begins with 'td', as tandem's own C identifiers do: "
                       "take another",
                       name);
    return name[good] ? td_fail(error, TD_ECONFIG,
                                "the plugin's name '%s' has byte 0x%02X after '%.*s'; it names "
                                "files and C identifiers: take letters, digits, - and _",
                                name, (unsigned char)name[good], (int)good, name)
                      : 0;
}

/* A plugin of this kind and name that is there already would be shadowed, or (an op) be in the way.
 * The project of an op has a feed-forward layer too. */
static int check_free(td_registry *r, const project *p, td_error *error)
{
    const char *kinds[] = { p->kind->id, strcmp(p->kind->id, TD_OP_KIND) ? NULL : TD_FFN_KIND };
    for (size_t k = 0; k < 2 && kinds[k]; k++) {
        td_error         ignored = { 0 };
        const td_plugin *there = td_registry_find(r, kinds[k], p->name, &ignored);
        const char      *path = there ? td_registry_module(r, there)->path : NULL;
        if (there)
            return td_fail(error, TD_EPLUGIN,
                           "there is %.*s '%s' already (%s): choose another name",
                           (int)strcspn(kinds[k], "/"), kinds[k], p->name,
                           path ? path : "built in");
    }
    return 0;
}

/* ---- author and licence ---------------------------------------------------------------------- */

/* As the inside of a C string literal. */
static int quote(const char *option, const char *text, td_text *out, td_error *error)
{
    for (const char *c = text; *c; c++) {
        if ((unsigned char)*c < 32 || *c == 127)
            return td_fail(error, TD_ECONFIG,
                           "%s has the control character 0x%02X: take it out, it goes into a C "
                           "string",
                           option, (unsigned char)*c);
        if (*c == '"' || *c == '\\')
            td_text_append(out, "\\", 1);
        td_text_append(out, c, 1);
    }
    return 0;
}

/* What git says of the user, without the newline; free() it. NULL: nothing. */
static char *git_user(void)
{
    char  *line = NULL;
    size_t room = 0;
    FILE  *git = popen("git config --get user.name 2>/dev/null", "re");
    bool   there = git && getline(&line, &room, git) > 1;
    if (git)
        pclose(git);
    if (there) {
        line[strcspn(line, "\n")] = 0;
        return line;
    }
    free(line);
    return NULL;
}

static int set_author(project *p, const char *author, td_error *error)
{
    char       *git = author ? NULL : git_user();
    const char *user = getenv("USER");
    int         code;
    if (!author)
        author = git ? git : user && *user ? user : "unknown";
    code = quote("--author", author, &p->author, error);
    free(git);
    return code;
}

/* ---- templates ------------------------------------------------------------------------------- */

/* Where they are installed, or in the source tree; free() it. */
static char *find_templates(td_error *error)
{
    char *shipped = td_tool_shipped(), *path = NULL;
    for (int k = 0; shipped && k < 2; k++) {
        path = td_path_join(shipped, k ? "tools/templates" : "templates");
        if (path && td_file_exists(path))
            break;
        free(path);
        path = NULL;
    }
    if (!path)
        td_fail(error, TD_EIO,
                "cannot find the templates of plugins: there is no 'templates' in '%s': install "
                "tandem again",
                shipped ? shipped : "?");
    free(shipped);
    return path;
}

static const char *value_of(const project *p, const char *word, size_t length)
{
    const struct {
        const char *word, *value;
    } values[] = {
        { "KIND", p->kind->name },
        { "NAME", p->name },
        { "IDENT", p->identifier },
        { "AUTHOR", td_text_get(&p->author) },
        { "LICENCE", td_text_get(&p->licence) },
        { "ABOUT", td_text_get(&p->about) },
        { "VERSION", TANDEM_VERSION },
    };
    for (size_t k = 0; k < sizeof values / sizeof *values; k++)
        if (strlen(values[k].word) == length && !strncmp(values[k].word, word, length))
            return values[k].value;
    return NULL;
}

/* The text with @WORD@ replaced; an @ that begins none of the words stays. */
static void expand(const project *p, const char *text, td_text *out)
{
    while (*text) {
        size_t      plain = strcspn(text, "@"), word = 0;
        const char *value = NULL;
        td_text_append(out, text, plain);
        text += plain;
        if (!*text)
            break;
        word = strspn(text + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        if (text[1 + word] == '@')
            value = value_of(p, text + 1, word);
        td_text_append(out, value ? value : "@", value ? strlen(value) : 1);
        text += value ? word + 2 : 1;
    }
}

/* The expanded template `folder`/`file`. */
static int read_template(const project *p, const char *folder, const char *file, td_text *out,
                         td_error *error)
{
    td_text path = { 0 };
    char   *text;
    td_text_print(&path, "%s/%s/%s", p->templates, folder, file);
    text = td_file_read(td_text_get(&path), NULL, error);
    td_text_free(&path);
    if (!text)
        return td_failed(error, TD_EIO);
    expand(p, text, out);
    free(text);
    return out->failed ? td_fail(error, TD_ENOMEM, "out of memory while reading a template") : 0;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* A file that is there is never written to. */
static int write_new(const char *path, const td_text *text, td_error *error)
{
    FILE *f = fopen(path, "wxe");
    bool  ok = f && fwrite(td_text_get(text), 1, text->size, f) == text->size;
    int   why = errno;
    if (f && fclose(f) && ok) {
        ok = false;
        why = errno;
    }
    return ok ? 0 : td_fail(error, TD_EIO, "cannot write '%s': %s", path, strerror(why));
}

/* `file`: in the project, with @WORD@s; `template`: where it comes from. */
static int make_file(const project *p, const char *folder, const char *template, const char *file,
                     td_error *error)
{
    td_text text = { 0 }, path = { 0 };
    int     code = read_template(p, folder, template, &text, error);
    td_text_print(&path, "%s/", p->directory);
    expand(p, file, &path);
    if (!code && path.failed)
        code = td_fail(error, TD_ENOMEM, "out of memory while writing '%s'", p->directory);
    if (!code)
        code = write_new(td_text_get(&path), &text, error);
    td_text_free(&text);
    td_text_free(&path);
    return code;
}

static int make_files(const project *p, td_error *error)
{
    static const struct {
        bool common;
        const char *template, *file;
    } files[] = {
        { false, "plugin.c", "@KIND@-@NAME@.c" },     { false, "plugin.cfg", "@NAME@.cfg" },
        { true, "CMakeLists.txt", "CMakeLists.txt" }, { true, "Makefile", "Makefile" },
        { true, "README.md", "README.md" },
    };
    int code = 0;
    for (size_t k = 0; k < sizeof files / sizeof *files && !code; k++)
        code = make_file(p, files[k].common ? "common" : p->kind->name, files[k].template,
                         files[k].file, error);
    return code;
}

/* The directory itself must be new; those above it are made. */
static int make_directory(const char *path, td_error *error)
{
    char *above = td_path_directory(path);
    int   code = above ? td_make_directories(above, error)
                       : td_fail(error, TD_ENOMEM, "out of memory while making '%s'", path);
    free(above);
    if (code || !mkdir(path, 0777))
        return code;
    if (errno == EEXIST)
        return td_fail(error, TD_EIO,
                       "'%s' is there already, and nothing is overwritten: remove it, or say "
                       "another place with --dir",
                       path);
    return td_fail(error, TD_EIO, "cannot make the directory '%s': %s", path, strerror(errno));
}

/* All of it or nothing. */
static int make_project(project *p, td_error *error)
{
    int code;
    if (!(p->templates = find_templates(error)))
        return td_failed(error, TD_EIO);
    code = read_template(p, p->kind->name, "about.md", &p->about, error);
    if (p->about.size && p->about.data[p->about.size - 1] == '\n')
        p->about.data[--p->about.size] = 0;
    if (!code)
        code = make_directory(p->directory, error);
    if (code)
        return code;
    code = make_files(p, error);
    if (code)
        td_remove_tree(p->directory, NULL);
    return code;
}

/* ---- the command ----------------------------------------------------------------------------- */

static int begin(td_registry *r, project *p, td_error *error)
{
    size_t n = strlen(p->name);
    if (check_free(r, p, error))
        return TD_EPLUGIN;
    for (size_t k = 0; k <= n; k++)
        p->identifier[k] = p->name[k] == '-' ? '_' : p->name[k];
    return make_project(p, error);
}

static void say_what_is_next(const project *p)
{
    printf("%s has %s-%s.c, %s.cfg, CMakeLists.txt, Makefile and README.md\n\n", p->directory,
           p->kind->name, p->name, p->name);
    printf("    cd '%s'\n    make && make check\n    tandem train -c %s.cfg\n", p->directory,
           p->name);
}

/* Without slashes at its end. */
static void set_directory(project *p, const char *given, td_text *path)
{
    size_t n = given ? strlen(given) : 0;
    while (n > 1 && given[n - 1] == '/')
        n--;
    if (given)
        td_text_append(path, given, n);
    else
        td_text_print(path, "%s-%s", p->kind->name, p->name);
    p->directory = td_text_get(path);
}

static int new_plugin(td_tool *t, td_registry *r)
{
    const char *licence = td_tool_option(t, "--licence");
    td_error    e = { 0 };
    project     p = { .name = t->plain[1] };
    td_text     path = { 0 };
    const char *kind = t->plain[0];
    int         code;

    p.kind = find_kind(kind, &e);
    code = !p.kind || check_name(p.name, &e) ? TD_ECONFIG
                                             : set_author(&p, td_tool_option(t, "--author"), &e);
    if (!code)
        code = quote("--licence", licence ? licence : "MIT", &p.licence, &e);
    if (!code) {
        set_directory(&p, td_tool_option(t, "--dir"), &path);
        code = begin(r, &p, &e);
    }
    if (!code)
        say_what_is_next(&p);
    td_text_free(&path);
    td_text_free(&p.author);
    td_text_free(&p.licence);
    td_text_free(&p.about);
    free(p.templates);
    return code ? td_tool_fail(t, &e) : TD_EXIT_OK;
}

static const td_flag flags[] = {
    { "--dir", "DIR", "where to; it must not be there yet (KIND-NAME)" },
    { "--author", "TEXT", "who wrote it (git's user.name, or $USER)" },
    { "--licence", "TEXT", "of the module (MIT)" },
    { "--list", 0, "the kinds, a line each; so does no KIND at all" },
    { 0, 0, 0 },
};

const td_usage td_usage_plugins_new = {
    .name = "plugins new",
    .arguments = "KIND NAME",
    .brief = "Begin a plugin: a folder with code that works, to be changed, a config that trains "
             "with it, CMakeLists.txt, Makefile and README.md.",
    .example = "tandem plugins new attention mine",
    .flags = flags,
    .plain = 2,
    .notes = "docs/plugin-authors.md goes through it.\n",
};

int td_plugins_new(td_tool *t, int argc, char **argv)
{
    td_registry *r;
    int          code;

    t->command = td_usage_plugins_new.name;
    if (!td_tool_parse(t, &td_usage_plugins_new, argc, argv, &code))
        return code;
    if (td_tool_option(t, "--list"))
        return t->n_plain
                   ? td_tool_usage_error(t, "--list takes no argument: what is '%s'?", t->plain[0])
                   : list_kinds();
    if (!t->n_plain)
        return list_kinds();
    if (t->n_plain != 2)
        return td_tool_usage_error(t, "it takes a kind and a name: there is only '%s'",
                                   t->plain[0]);
    if (td_tool_option(t, "--dir") && !*td_tool_option(t, "--dir"))
        return td_tool_usage_error(t, "--dir takes the path of a directory; it is empty");
    r = td_tool_registry(t);
    return r ? new_plugin(t, r) : TD_EXIT_USAGE;
}
