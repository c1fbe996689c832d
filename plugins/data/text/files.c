/* files.c - the files that a source's patterns name, and that none is both trained on and held
 * out. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "text.h"

/* Files that match, here or, if there are none, among the shipped ones. */
static bool match(const char *pattern, const td_services *services, int flags, glob_t *found)
{
    char shipped[4096];
    if (!glob(pattern, flags, NULL, found))
        return true;
    return *pattern != '/' && services->shipped &&
           (size_t)snprintf(shipped, sizeof shipped, "%s/%s", services->shipped, pattern) <
               sizeof shipped &&
           !glob(shipped, flags, NULL, found);
}

static int expand(const text_source *s, td_strings patterns, const td_services *services,
                  glob_t *found, td_error *error)
{
    char here[4096];
    *found = (glob_t){ 0 };
    for (size_t i = 0; i < patterns.count; i++)
        if (!match(patterns.at[i], services, i ? GLOB_APPEND : 0, found))
            return td_fail(error, TD_ECONFIG,
                           "data source '%s': no file matches '%s'; it was looked for from '%s'",
                           s->name, patterns.at[i],
                           getcwd(here, sizeof here) ? here : "the working directory");
    return 0;
}

/* Held-out text is in files of its own, or it is every n-th document of the training files. */
int text_files(const text_source *s, int part, const td_services *services, glob_t *found,
               td_error *error)
{
    bool own = part == PART_HELD_OUT && s->held_out.count;
    return expand(s, own ? s->held_out : s->files, services, found, error);
}

/* ---- what is named twice --------------------------------------------------------------------- */

/* A file, and who named it. */
typedef struct named {
    const text_source *source;
    const char        *pattern;
    char              *path;
    int                part;
    dev_t              device;
    ino_t              inode;
    size_t             order;
} named;

typedef struct list {
    named *at;
    size_t count, room;
} list;

static int add_path(list *l, const text_source *s, int part, const char *pattern, const char *path,
                    td_error *error)
{
    struct stat st;
    if (stat(path, &st))
        return td_fail(error, TD_EIO, "cannot read '%s': %s", path, strerror(errno));
    if (l->count == l->room) {
        size_t room = l->room * 2 + 64;
        named *grown = realloc(l->at, room * sizeof *grown);
        if (!grown)
            return td_fail(error, TD_ENOMEM, "no memory for the names of %zu files", room);
        l->at = grown;
        l->room = room;
    }
    l->at[l->count] = (named){ s, pattern, strdup(path), part, st.st_dev, st.st_ino, l->count };
    return l->at[l->count++].path
               ? 0
               : td_fail(error, TD_ENOMEM, "no memory for the name of '%s'", path);
}

static int add_part(list *l, const text_source *s, int part, td_strings patterns,
                    const td_services *services, td_error *error)
{
    int code = 0;
    for (size_t i = 0; i < patterns.count && !code; i++) {
        glob_t found;
        code = expand(s, (td_strings){ &patterns.at[i], 1 }, services, &found, error);
        for (size_t k = 0; k < found.gl_pathc && !code; k++)
            code = add_path(l, s, part, patterns.at[i], found.gl_pathv[k], error);
        globfree(&found);
    }
    return code;
}

/* By file, then in the order of the config. */
static int compare(const void *a_, const void *b_)
{
    const named *a = a_, *b = b_;
    if (a->device != b->device)
        return a->device < b->device ? -1 : 1;
    if (a->inode != b->inode)
        return a->inode < b->inode ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

static bool trains(const named *n) { return n->part == PART_TRAIN; }

static bool holds_out(const named *n) { return !trains(n) || n->source->held_out_every; }

/* One file named by both: whether that is a mistake. */
static int check_pair(const named *a, const named *b, td_error *error)
{
    const named *held = trains(b) && holds_out(a) ? a : b, *trained = held == a ? b : a;
    if (a->source == b->source && a->part == b->part)
        return td_fail(error, TD_ECONFIG,
                       "data source '%s' names one file twice: %s \"%s\" gives '%s', and \"%s\" "
                       "gives '%s'; name it once",
                       a->source->name, trains(a) ? "files" : "held_out", a->pattern, a->path,
                       b->pattern, b->path);
    if (holds_out(held) && trains(trained))
        return td_fail(error, TD_ECONFIG,
                       "'%s' is held out by %s \"%s\" of data source '%s', and trained on by files "
                       "\"%s\" of '%s': take it out of one of them",
                       held->path, trains(held) ? "held_out_every, of files" : "held_out",
                       held->pattern, held->source->name, trained->pattern, trained->source->name);
    return 0;
}

static int check_list(const list *l, td_error *error)
{
    for (size_t i = 0; i < l->count; i++)
        for (size_t k = i + 1;
             k < l->count && l->at[k].inode == l->at[i].inode && l->at[k].device == l->at[i].device;
             k++)
            if (check_pair(&l->at[i], &l->at[k], error))
                return TD_ECONFIG;
    return 0;
}

int text_check_files(const text_config *c, const td_services *services, td_error *error)
{
    const text_source *sources = c->sources.at;
    list               l = { 0 };
    int                code = 0;
    for (size_t i = 0; i < c->sources.count && !code; i++) {
        code = add_part(&l, &sources[i], PART_TRAIN, sources[i].files, services, error);
        if (!code)
            code = add_part(&l, &sources[i], PART_HELD_OUT, sources[i].held_out, services, error);
    }
    if (l.count)
        qsort(l.at, l.count, sizeof *l.at, compare);
    if (!code)
        code = check_list(&l, error);
    for (size_t i = 0; i < l.count; i++)
        free(l.at[i].path);
    free(l.at);
    return code;
}
