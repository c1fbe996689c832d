/* suggest.c - names of plugins like one that does not exist, and modules that are not built.
 *
 * People bring other programs' names: "rmsnorm", "adam", "rotary". A table of them would not know
 * the plugins of strangers, so what is searched is what each plugin says about itself: its name and
 * brief.
 */
#include "plugin/suggest.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/file.h"

/* ---- names ----------------------------------------------------------------------------------- */

enum {
    SHORTEST = 3, /* bytes: shorter words begin, and are parts of, too many names */
    MOST = 3      /* names suggested at once: more are not a suggestion but a list */
};

/* A word that was asked for, in upper or lower case. */
typedef struct word {
    const char *at;
    size_t      size;
} word;

/* "rms" of "rms_norm", "adamw" of "adamw_torch"; the whole of a short one. */
static word first_word(const char *name)
{
    size_t n = strcspn(name, "-_. ");
    return (word){ name, n >= SHORTEST ? n : strlen(name) };
}

typedef bool test(const td_plugin *, word);

static bool is_name(const td_plugin *p, word w)
{
    return strlen(p->name) == w.size && !strncasecmp(p->name, w.at, w.size);
}

/* Whether one of the two begins with the other: "rmsnorm" and 'rms', "adam" and 'adamw'. */
static bool is_begun(const td_plugin *p, word w)
{
    size_t n = strlen(p->name) < w.size ? strlen(p->name) : w.size;
    return n >= SHORTEST && !strncasecmp(p->name, w.at, n);
}

/* Whether the brief has the word: "rotary positions, with .." has "rotary". */
static bool is_described(const td_plugin *p, word w)
{
    for (const char *at = p->brief; at && *at && w.size >= SHORTEST;) {
        size_t n = 0;
        while (isalnum((unsigned char)at[n]))
            n++;
        if (n == w.size && !strncasecmp(at, w.at, n))
            return true;
        at += n + (at[n] != 0);
    }
    return false;
}

static bool is_like(const td_plugin *p, word w) { return is_begun(p, w) || is_described(p, w); }

/* The names of a kind that the test accepts, to `names`; NULL: all. Returns how many. */
static size_t collect(const td_registry *r, const char *kind, test *accepts, word w,
                      const char **names)
{
    size_t n = 0;
    for (size_t i = 0; i < td_registry_count(r); i++) {
        const td_plugin *p = td_registry_plugin(r, i);
        if (!strcmp(p->kind, kind) && (!accepts || accepts(p, w)))
            names[n++] = p->name;
    }
    return n;
}

/* Words come before typing errors: "nope", by which 'none' is described, is one letter from 'rope'. */
static size_t find_like(const td_registry *r, const char *kind, const char *name,
                        const char **names)
{
    word        w = first_word(name);
    size_t      n = collect(r, kind, is_name, w, names);
    const char *nearest;
    if (!n)
        n = collect(r, kind, is_like, w, names);
    if (n && n <= MOST)
        return n;
    nearest = td_nearest(name, names, collect(r, kind, NULL, w, names));
    names[0] = nearest;
    return nearest != NULL;
}

const char *td_suggest_plugin(const td_registry *r, const char *kind, const char *name,
                              td_text *out)
{
    const char **names = calloc(td_registry_count(r) + 1, sizeof *names);
    size_t       n = names ? find_like(r, kind, name, names) : 0;
    int          length = (int)strcspn(kind, "/");
    const char  *first = n ? names[0] : NULL;
    td_text_print(out, "there is no %.*s '%s'; ", length, kind, name);
    for (size_t k = 0; k < n; k++)
        td_text_print(out, "%s'%s'%s", k ? " or " : "did you mean ", names[k],
                      k + 1 < n ? "" : "?");
    if (!n)
        td_text_print(out, "`tandem plugins list %.*s` lists the available ones", length, kind);
    free(names);
    return first;
}

/* ---- modules that are not built -------------------------------------------------------------- */

/* X.c of X.so, if there is such a file; free() it. */
static char *source_of(const char *module)
{
    size_t n = strlen(module);
    char  *source = n > 3 && !strcmp(module + n - 3, ".so") ? strdup(module) : NULL;
    if (!source)
        return NULL;
    strcpy(source + n - 2, "c");
    if (td_file_exists(source))
        return source;
    free(source);
    return NULL;
}

void td_suggest_build(const char *module, td_text *out)
{
    char *source = td_file_exists(module) ? NULL : source_of(module);
    char *directory = td_path_directory(module);
    if (source && directory)
        td_text_print(out,
                      "; its source '%s' is not built: `make -C '%s'` builds it, or says why it "
                      "cannot",
                      source, directory);
    free(source);
    free(directory);
}

static bool is_newer(struct timespec a, struct timespec b)
{
    return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

void td_warn_of_source(td_journal *log, const char *module)
{
    char       *source = source_of(module);
    struct stat of_module, of_source;
    if (source && !stat(module, &of_module) && !stat(source, &of_source) &&
        is_newer(of_source.st_mtim, of_module.st_mtim))
        td_log_line(log, TD_LOG_WARN,
                    "module '%s' is older than its source '%s': build it again, or it computes "
                    "what the source said before",
                    module, source);
    free(source);
}
