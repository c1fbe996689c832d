/* links.c - no dead links in the documentation: every relative link of a Markdown page leads to a
 * file, and its #anchor to a heading there, in the source tree and as installed; every file of the
 * project that a page or a source names exists. */
#include <ctype.h>
#include <fnmatch.h>
#include <ftw.h>
#include <unistd.h>

#include "base/text.h"
#include "tools/prefix.h"

/* ---- walking --------------------------------------------------------------------------------- */

typedef struct names {
    char **at;
    size_t count;
} names;

static names       found;
static const char *wanted; /* patterns separated by '|'; nftw passes nothing to `visit` */

static bool is_wanted(const char *path)
{
    char *list = strdup(wanted), *rest = list;
    bool  is = false;
    for (char *pattern; (pattern = strsep(&rest, "|")) != NULL;)
        is = is || !fnmatch(pattern, path, 0);
    free(list);
    return is;
}

static int visit(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status;
    (void)place;
    if (type == FTW_F && is_wanted(path)) {
        found.at = realloc(found.at, (found.count + 1) * sizeof *found.at);
        found.at[found.count++] = strdup(path);
    }
    return 0;
}

/* Adds the files below `root` that match one of the patterns, or `root` itself. */
static void collect(const char *root, const char *patterns)
{
    wanted = patterns;
    cr_assert_eq(nftw(root, visit, 16, FTW_PHYS), 0, "cannot walk '%s'", root);
}

static void forget_found(void)
{
    for (size_t i = 0; i < found.count; i++)
        free(found.at[i]);
    free(found.at);
    found = (names){ 0 };
}

static char *read_file(const char *path)
{
    td_error e = { 0 };
    char    *text = td_file_read(path, NULL, &e);
    cr_assert(text, "%s", e.text);
    return text;
}

/* ---- anchors --------------------------------------------------------------------------------- */

/* As on GitHub: lower case, blanks become dashes; letters, digits, '-' and '_' are kept. */
static bool is_anchor_of(const char *heading, const char *anchor)
{
    for (; *heading && *heading != '\n'; heading++) {
        char c = (char)tolower((unsigned char)*heading);
        if (c == ' ')
            c = '-';
        if (isalnum((unsigned char)c) || c == '-' || c == '_') {
            if (*anchor++ != c)
                return false;
        }
    }
    return !*anchor;
}

static bool has_anchor(const char *path, const char *anchor)
{
    char *text = read_file(path);
    bool  has = false;
    for (const char *line = text; line && !has; line = strchr(line, '\n')) {
        line += *line == '\n';
        size_t level = strspn(line, "#");
        has = level && line[level] == ' ' && is_anchor_of(line + level + 1, anchor);
        if (!*line)
            break;
    }
    free(text);
    return has;
}

/* ---- links ----------------------------------------------------------------------------------- */

static int links;

/* `target` is the text between a link's brackets. */
static void follow(const char *page, const char *target)
{
    char *file = strndup(target, strcspn(target, "#")), *directory_of = td_path_directory(page);
    char *path = *file ? td_path_join(directory_of, file) : strdup(page);
    const char *anchor = strchr(target, '#');

    links++;
    cr_expect(td_file_exists(path), "%s links to '%s', which does not exist", page, target);
    if (anchor && td_file_exists(path))
        cr_expect(has_anchor(path, anchor + 1), "%s links to '%s': no such heading", page, target);
    free(path);
    free(directory_of);
    free(file);
}

/* Indented by four blanks: a block of code, not text. */
static bool in_code(const char *text, const char *at)
{
    while (at > text && at[-1] != '\n')
        at--;
    return !strncmp(at, "    ", 4);
}

static void see_links(const char *page)
{
    char *text = read_file(page);
    for (const char *at = text; (at = strstr(at, "](")) != NULL; at += 2) {
        size_t n = strcspn(at + 2, ")\n ");
        char  *target = strndup(at + 2, n);
        if (at[2 + n] == ')' && !in_code(text, at) && !strstr(target, "://"))
            follow(page, target);
        free(target);
    }
    free(text);
}

/* ---- names of files -------------------------------------------------------------------------- */

static int named;

/* NAME.c, KIND/, `..` and patterns stand for something; README.md and CMakeLists.txt do not. */
static bool is_placeholder(const char *path)
{
    char *copy = strdup(path), *rest = copy;
    bool  is = strpbrk(path, "*<>%$@[{") || strstr(path, "..");
    for (char *part; !is && (part = strsep(&rest, "/")) != NULL;) {
        size_t n = strspn(part, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        is = n > 1 && (!part[n] || part[n] == '.' || part[n] == '-') && strncmp(part, "README", 6);
    }
    free(copy);
    return is;
}

static void expect_named(const char *where, const char *at, size_t n)
{
    char *name = strndup(at, n), *path;
    while (n && strchr(".:,/", name[n - 1]))
        name[--n] = 0;
    path = td_path_join(TANDEM_SOURCE, name);
    if (!is_placeholder(name)) {
        named++;
        cr_expect(!access(path, F_OK), "%s names '%s', which does not exist", where, name);
    }
    free(path);
    free(name);
}

/* Paths from the project's root in `text`: they begin with one of its folders. */
static void see_names(const char *where, const char *const *folders)
{
    char *text = read_file(where);
    for (; *folders; folders++) {
        size_t length = strlen(*folders);
        for (const char *at = text; (at = strstr(at, *folders)) != NULL; at += length) {
            bool starts = at == text || strchr(" `(\n'\"", at[-1]);
            if (starts)
                expect_named(where, at, strcspn(at, " \n`'\")(,;:|\\"));
        }
    }
    free(text);
}

/* ---- tests ----------------------------------------------------------------------------------- */

#define PAGES "*.md"

static void collect_pages(void)
{
    collect(TANDEM_SOURCE "/docs", PAGES);
    collect(TANDEM_SOURCE "/data", PAGES);
    collect(TANDEM_SOURCE "/tools/templates", PAGES);
    collect(TANDEM_SOURCE "/README.md", PAGES);
    collect(TANDEM_SOURCE "/CHANGELOG.md", PAGES);
}

Test(docs_links, lead_somewhere)
{
    collect_pages();
    for (size_t i = 0; i < found.count; i++)
        see_links(found.at[i]);
    cr_expect(links > 100, "only %d links were found", links);
    forget_found();
}

Test(docs_links, lead_somewhere_as_installed)
{
    char root[400];
    prefix_open("docs");
    snprintf(root, sizeof root, "%s/prefix/share/doc/tandem", directory);
    collect(root, PAGES);
    for (size_t i = 0; i < found.count; i++)
        see_links(found.at[i]);
    cr_expect(links > 100, "only %d links were found", links);
    forget_found();
    prefix_close();
}

Test(docs_links, pages_name_files_that_exist)
{
    static const char *const folders[] = { "core/",    "plugins/", "tests/",      "tools/",
                                           "configs/", "docs/",    "data/corpus", NULL };
    collect_pages();
    for (size_t i = 0; i < found.count; i++)
        see_names(found.at[i], folders);
    cr_expect(named > 80, "only %d names were found", named);
    forget_found();
}

/* Comments and messages in the sources refer readers to pages. */
Test(docs_links, sources_name_pages_that_exist)
{
    static const char *const folders[] = { "docs/", NULL };
    collect(TANDEM_SOURCE "/core", "*.c|*.h");
    collect(TANDEM_SOURCE "/plugins", "*.c|*.cc|*.h");
    collect(TANDEM_SOURCE "/tools", "*.c|*.h|*/Makefile|*/CMakeLists.txt|*.md|*.cfg");
    collect(TANDEM_SOURCE "/configs", "*.cfg");
    for (size_t i = 0; i < found.count; i++)
        see_names(found.at[i], folders);
    cr_expect(named > 3, "only %d names were found", named);
    forget_found();
}

/* The checks above can fail. */
Test(docs_links, the_checks_themselves)
{
    cr_expect(has_anchor(TANDEM_SOURCE "/docs/config.md", "your-own-text"));
    cr_expect(!(has_anchor(TANDEM_SOURCE "/docs/config.md", "your-own-tex")));
    cr_expect(is_anchor_of("`td_op`: what it is, and why\nnext", "td_op-what-it-is-and-why"));
    cr_expect(is_placeholder("plugins/KIND/NAME.c"));
    cr_expect(is_placeholder("tests/errors/*.cfg"));
    cr_expect(!(is_placeholder("data/README.md")));
    cr_expect(!(is_placeholder("tools/templates/common/CMakeLists.txt")));
}
