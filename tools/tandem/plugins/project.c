/* project.c - the project of a new plugin, made from templates. */
#include "plugins/project.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

/* The values of a template's words. */
typedef struct values {
    const td_project *project;
    char              identifier[TD_PROJECT_NAME + 1]; /* the name, with _ for - */
    td_text           author, licence;                 /* escaped for a C string */
    td_text           about;                           /* the kind's part of the README */
    char             *templates;
} values;

/* ---- values ---------------------------------------------------------------------------------- */

/* Appends the inside of a C string literal. */
static int quote(const char *option, const char *text, td_text *out, td_error *error)
{
    for (const char *c = text; *c; c++) {
        if ((unsigned char)*c < 32 || *c == 127)
            return td_fail(error, TD_ECONFIG,
                           "%s contains the control character 0x%02X; it is used in a C string, so "
                           "remove it",
                           option, (unsigned char)*c);
        if (*c == '"' || *c == '\\')
            td_text_append(out, "\\", 1);
        td_text_append(out, c, 1);
    }
    return 0;
}

static const char *value_of(const values *v, const char *word, size_t length)
{
    const struct {
        const char *word, *value;
    } all[] = {
        { "KIND", v->project->kind->name },
        { "NAME", v->project->name },
        { "IDENT", v->identifier },
        { "AUTHOR", td_text_get(&v->author) },
        { "LICENCE", td_text_get(&v->licence) },
        { "ABOUT", td_text_get(&v->about) },
        { "VERSION", TANDEM_VERSION },
    };
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        if (strlen(all[k].word) == length && !strncmp(all[k].word, word, length))
            return all[k].value;
    return NULL;
}

/* ---- templates ------------------------------------------------------------------------------- */

/* free() it. */
static char *find_templates(const char *shipped, td_error *error)
{
    /* as installed, and as in the source tree */
    static const char *const places[] = { "templates", "tools/templates" };
    for (size_t k = 0; k < sizeof places / sizeof *places; k++) {
        char *path = td_path_join(shipped, places[k]);
        if (path && td_file_exists(path))
            return path;
        free(path);
    }
    td_fail(error, TD_EIO,
            "cannot find the plugin templates: '%s' has no directory 'templates'; install tandem "
            "again",
            shipped);
    return NULL;
}

/* Appends the text with each @WORD@ replaced. An @ that begins none of the words stays, so an
 * author's name may contain one; values are not expanded again. */
static void expand(const values *v, const char *text, td_text *out)
{
    /* Each turn copies up to the next @, then replaces the word that it begins, or copies it. */
    while (*text) {
        size_t      plain = strcspn(text, "@"), word = 0;
        const char *value = NULL;
        td_text_append(out, text, plain);
        text += plain;
        if (!*text)
            break;
        word = strspn(text + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        if (text[1 + word] == '@')
            value = value_of(v, text + 1, word);
        td_text_append(out, value ? value : "@", value ? strlen(value) : 1);
        text += value ? word + 2 : 1;
    }
}

/* Appends the expanded template `folder`/`file`. */
static int read_template(const values *v, const char *folder, const char *file, td_text *out,
                         td_error *error)
{
    td_text path = { 0 };
    char   *text;
    td_text_print(&path, "%s/%s/%s", v->templates, folder, file);
    text = td_file_read(td_text_get(&path), NULL, error);
    td_text_free(&path);
    if (!text)
        return td_failed(error, TD_EIO);
    expand(v, text, out);
    free(text);
    return out->failed ? td_fail(error, TD_ENOMEM, "out of memory while reading a template") : 0;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* Never writes to an existing file, not even to one that appeared just now. */
static int write_new(const char *path, const td_text *text, td_error *error)
{
    FILE *f = fopen(path, "wxe");
    bool  ok = f && fwrite(td_text_get(text), 1, text->size, f) == text->size;
    int   why = errno;
    /* A full disk may show up only when the buffer is written out. */
    if (f && fclose(f) && ok) {
        ok = false;
        why = errno;
    }
    return ok ? 0 : td_fail(error, TD_EIO, "cannot write '%s': %s", path, strerror(why));
}

/* `template` is read from `folder`; `file`, its name in the project, may have words in it too. */
static int make_file(const values *v, const char *folder, const char *template, const char *file,
                     td_error *error)
{
    td_text text = { 0 }, path = { 0 };
    int     code = read_template(v, folder, template, &text, error);
    td_text_print(&path, "%s/", v->project->directory);
    expand(v, file, &path);
    if (!code && path.failed)
        code = td_fail(error, TD_ENOMEM, "out of memory while writing '%s'", v->project->directory);
    if (!code)
        code = write_new(td_text_get(&path), &text, error);
    td_text_free(&text);
    td_text_free(&path);
    return code;
}

/* Extra files of some kinds: a metric cannot be tried without a task. */
static bool has_template(const values *v, const char *file)
{
    td_text path = { 0 };
    bool    there;
    td_text_print(&path, "%s/%s/%s", v->templates, v->project->kind->name, file);
    there = td_file_exists(td_text_get(&path));
    td_text_free(&path);
    return there;
}

static int make_files(const values *v, td_error *error)
{
    enum { OF_KIND, OF_ALL, OF_SOME };
    static const struct {
        int whose;
        const char *template, *file;
    } files[] = {
        { OF_KIND, "plugin.c", "@KIND@-@NAME@.c" },     { OF_KIND, "plugin.cfg", "@NAME@.cfg" },
        { OF_ALL, "CMakeLists.txt", "CMakeLists.txt" }, { OF_ALL, "Makefile", "Makefile" },
        { OF_ALL, "README.md", "README.md" },           { OF_SOME, "task.cfg", "task.cfg" },
        { OF_SOME, "items.jsonl", "items.jsonl" },
    };
    int code = 0;
    for (size_t k = 0; k < sizeof files / sizeof *files && !code; k++)
        /* some kinds need more files, such as a metric a task to score */
        if (files[k].whose != OF_SOME || has_template(v, files[k].template))
            code = make_file(v, files[k].whose == OF_ALL ? "common" : v->project->kind->name,
                             files[k].template, files[k].file, error);
    return code;
}

/* The directory itself must be new; those above it are created as needed. */
static int make_directory(const char *path, td_error *error)
{
    char *above = td_path_directory(path);
    int   code = above ? td_make_directories(above, error)
                       : td_fail(error, TD_ENOMEM, "out of memory while creating '%s'", path);
    free(above);
    /* mkdir itself finds out whether it exists: an earlier check could be outdated by now. */
    if (code || !mkdir(path, 0777))
        return code;
    if (errno == EEXIST)
        return td_fail(error, TD_EIO,
                       "'%s' already exists, and nothing is overwritten: remove it, or choose "
                       "another place with --dir",
                       path);
    return td_fail(error, TD_EIO, "cannot create the directory '%s': %s", path, strerror(errno));
}

/* ---- the project ----------------------------------------------------------------------------- */

static void set_identifier(values *v)
{
    size_t n = strlen(v->project->name);
    for (size_t k = 0; k <= n; k++)
        v->identifier[k] = v->project->name[k] == '-' ? '_' : v->project->name[k];
}

/* Everything that can fail without a trace comes before the directory is created. */
static int make(values *v, td_error *error)
{
    const td_project *p = v->project;
    int               code;
    set_identifier(v);
    if (quote("--author", p->author, &v->author, error) ||
        quote("--licence", p->licence, &v->licence, error))
        return error->code;
    if (!(v->templates = find_templates(p->shipped, error)))
        return td_failed(error, TD_EIO);
    code = read_template(v, p->kind->name, "about.md", &v->about, error);
    /* Its place in the README has a newline already. */
    if (v->about.size && v->about.data[v->about.size - 1] == '\n')
        v->about.data[--v->about.size] = 0;
    if (!code)
        code = make_directory(p->directory, error);
    if (code)
        return code;
    code = make_files(v, error);
    if (code)
        td_remove_tree(p->directory, NULL);
    return code;
}

int td_project_make(const td_project *p, td_error *error)
{
    values v = { .project = p };
    int    code = make(&v, error);
    td_text_free(&v.author);
    td_text_free(&v.licence);
    td_text_free(&v.about);
    free(v.templates);
    return code;
}
