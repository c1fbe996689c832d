/* source.c - the files that match a source's patterns, and a check that none is both trained on and
 * held out. */
#include "source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tandem/files.h"
#include "utf8.h"

/* ---- options --------------------------------------------------------------------------------- */

bool source_holds_out(const data_source *s) { return s->held_out.count || s->held_out_every; }

bool source_has(const data_source *s, int part, int64_t number)
{
    /* each part has its own files, or there is no held-out part */
    if (s->held_out.count || !s->held_out_every)
        return part == PART_TRAIN || s->held_out.count;
    /* the last of every n documents, so that a file with fewer is used only for training */
    return (number % s->held_out_every == s->held_out_every - 1) == (part == PART_HELD_OUT);
}

/* A name becomes part of file names, and is printed. */
static int check_name(const char *name, size_t i, td_error *error)
{
    size_t size = strlen(name), at = 0;
    if (!size)
        return td_fail(error, TD_ECONFIG,
                       "source %zu has an empty name: set its 'name', which becomes part of file "
                       "names",
                       i + 1);
    for (size_t n; at < size; at += n) {
        /* 0 for any byte that is invalid in a file name, a log line or a JSON string */
        const unsigned char *p = (const unsigned char *)name + at;
        n = *p < 32 || *p == 127 || *p == '/' ? 0 : utf8_character(p, size - at);
        if (!n)
            return td_fail(error, TD_ECONFIG,
                           "source %zu: its name has byte 0x%02X after '%.*s'; it is part of file "
                           "names: it must be UTF-8 without '/' or control characters",
                           i + 1, *p, (int)at, name);
    }
    return 0;
}

int source_check(const data_source *s, size_t i, td_error *error)
{
    if (check_name(s->name, i, error))
        return TD_ECONFIG;
    if (!s->files.count)
        return td_fail(error, TD_ECONFIG, "source %zu, '%s', has no 'files' to train on", i + 1,
                       s->name);
    if (s->held_out.count && s->held_out_every)
        return td_fail(error, TD_ECONFIG,
                       "'%s' has held_out and held_out_every = %lld: hold out files, or "
                       "every n-th document, not both",
                       s->name, (long long)s->held_out_every);
    return 0;
}

/* ---- patterns -------------------------------------------------------------------------------- */

/* Appends the files that match, relative to the working directory or else among the shipped files.
 * False: none matches. */
static bool match(const char *pattern, const td_services *services, int flags, glob_t *found)
{
    char shipped[4096];
    if (!td_glob(pattern, flags, found))
        return true;
    return *pattern != '/' && services->shipped &&
           (size_t)snprintf(shipped, sizeof shipped, "%s/%s", services->shipped, pattern) <
               sizeof shipped &&
           !td_glob(shipped, flags, found);
}

static int no_match(const data_source *s, const char *pattern, td_error *error)
{
    char here[4096];
    return td_fail(error, TD_ECONFIG,
                   "data source '%s': no file matches '%s' (searched from '%s'): set data.sources "
                   "to where the text is, as in a config with the group 'data' alone (-c FILE)",
                   s->name, pattern, getcwd(here, sizeof here) ? here : "the working directory");
}

int source_files(const data_source *s, int part, const td_services *services, glob_t *found,
                 td_error *error)
{
    bool              own = part == PART_HELD_OUT && s->held_out.count;
    const td_strings *patterns = own ? &s->held_out : &s->files;
    *found = (glob_t){ 0 };
    for (size_t i = 0; i < patterns->count; i++)
        if (!match(patterns->at[i], services, i ? GLOB_APPEND : 0, found))
            return no_match(s, patterns->at[i], error);
    return 0;
}

/* ---- problems ----------------------------------------------------------------------------------
 *
 * Those of all sources are lines of one message, so that a config is corrected once. */

typedef struct problems {
    td_error all;
    size_t   missing, left_out;
} problems;

static void complain(problems *p, const td_error *e)
{
    size_t n = p->all.code ? strlen(p->all.text) : 0, size = sizeof p->all.text;
    if (!p->all.code)
        p->all.code = e->code;
    if (n + strlen(e->text) + 60 < size) /* and space for how many were left out */
        snprintf(p->all.text + n, size - n, "%s%s", n ? "\n" : "", e->text);
    else
        p->left_out++;
}

/* The advice is the same for all. */
static void complain_of_missing(problems *p, const data_source *s, const char *pattern)
{
    td_error e = { 0 };
    if (p->missing++)
        td_fail(&e, TD_ECONFIG, "data source '%s': no file matches '%s'", s->name, pattern);
    else
        no_match(s, pattern, &e);
    complain(p, &e);
}

static int report(problems *p, td_error *error)
{
    if (!p->all.code)
        return 0;
    if (!p->left_out)
        return td_fail(error, p->all.code, "%s", p->all.text);
    return td_fail(error, p->all.code, "%s\nand %zu more", p->all.text, p->left_out);
}

/* ---- files named twice -----------------------------------------------------------------------
 *
 * A file is known by device and inode, so that links and two spellings of one path count as one.
 */

/* A file, and the source and pattern that named it. */
typedef struct named {
    const data_source *source;
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

/* Whether the file is only a Git LFS pointer, which would be read as text. */
static bool is_pointer(const char *path)
{
    int  fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool is = fd >= 0 && td_is_pointer_file(fd);
    if (fd >= 0)
        close(fd);
    return is;
}

/* Append a file to the list. */
static int add_path(list *l, const data_source *s, int part, const char *pattern, const char *path,
                    td_error *error)
{
    struct stat st;
    if (stat(path, &st) || access(path, R_OK))
        return td_fail(error, TD_EIO, "data source '%s': cannot read '%s': %s", s->name, path,
                       strerror(errno));
    if (is_pointer(path))
        return td_fail(error, TD_ECONFIG, "data source '%s': cannot read '%s': " TD_POINTER_ADVICE,
                       s->name, path);
    if (l->count == l->room) {
        size_t room = l->room * 2 + 64;
        named *grown = realloc(l->at, room * sizeof *grown);
        if (!grown)
            return td_fail(error, TD_ENOMEM, "out of memory for the names of %zu files", room);
        l->at = grown;
        l->room = room;
    }
    /* copies `path`, because its glob is freed before the list is checked */
    l->at[l->count] = (named){ s, pattern, strdup(path), part, st.st_dev, st.st_ino, l->count };
    return l->at[l->count++].path
               ? 0
               : td_fail(error, TD_ENOMEM, "out of memory for the name of '%s'", path);
}

/* A long file is assumed to have text: to rule that out, all of it would have to be read. One that
 * cannot be read is a problem of another kind. */
static bool may_have_text(const char *path, source_reads reads, const td_services *services)
{
    enum { SHORT = 1 << 16 };
    struct stat st;
    if (stat(path, &st) || !S_ISREG(st.st_mode))
        return true;
    return st.st_size &&
           (st.st_size > SHORT || !reads.text || reads.text(reads.config, path, services));
}

/* One pattern at a time, so that a message can name the pattern that a file came from. */
static void add_part(list *l, const data_source *s, int part, td_strings patterns,
                     source_reads reads, const td_services *services, problems *p)
{
    bool     text = !patterns.count;
    td_error e = { 0 };
    for (size_t i = 0; i < patterns.count; i++) {
        glob_t found = { 0 };
        if (!match(patterns.at[i], services, 0, &found))
            complain_of_missing(p, s, patterns.at[i]);
        text |= !found.gl_pathc;
        for (size_t k = 0; k < found.gl_pathc; k++) {
            td_error unreadable = { 0 };
            text = text || may_have_text(found.gl_pathv[k], reads, services);
            if (add_path(l, s, part, patterns.at[i], found.gl_pathv[k], &unreadable))
                complain(p, &unreadable);
        }
        globfree(&found);
    }
    /* preparing it would come to the same, perhaps after hours with other sources */
    if (text)
        return;
    td_fail(&e, TD_ECONFIG,
            "data source '%s' has no text: there is none in '%s'; leave the source out, or correct "
            "its '%s'",
            s->name, patterns.at[0], part == PART_TRAIN ? "files" : "held_out");
    complain(p, &e);
}

/* By file, then in the order of the config, so that messages do not depend on inode numbers. */
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

/* With held_out_every, some documents of a training file are held out. */
static bool holds_out(const named *n) { return !trains(n) || n->source->held_out_every; }

/* Two sources may train on one file. Any other double use is an error. */
static int check_pair(const named *a, const named *b, td_error *error)
{
    const named *held = trains(b) && holds_out(a) ? a : b, *trained = held == a ? b : a;
    if (a->source == b->source && a->part == b->part)
        return td_fail(error, TD_ECONFIG,
                       "data source '%s' names one file twice: %s \"%s\" matches '%s', and \"%s\" "
                       "matches '%s'; name it once",
                       a->source->name, trains(a) ? "files" : "held_out", a->pattern, a->path,
                       b->pattern, b->path);
    if (holds_out(held) && trains(trained))
        return td_fail(error, TD_ECONFIG,
                       "'%s' is held out by %s \"%s\" of data source '%s' and trained on by files "
                       "\"%s\" of '%s': remove it from one of them",
                       held->path, trains(held) ? "held_out_every, of files" : "held_out",
                       held->pattern, held->source->name, trained->pattern, trained->source->name);
    return 0;
}

/* Sorted, all uses of a file are adjacent. */
static void check_list(const list *l, problems *p)
{
    for (size_t i = 0; i < l->count; i++)
        for (size_t k = i + 1;
             k < l->count && l->at[k].inode == l->at[i].inode && l->at[k].device == l->at[i].device;
             k++) {
            td_error e = { 0 };
            if (check_pair(&l->at[i], &l->at[k], &e))
                complain(p, &e);
        }
}

int source_check_files(const void *sources, size_t count, size_t stride, bool held_out_only,
                       source_reads reads, const td_services *services, td_error *error)
{
    list     l = { 0 };
    problems p = { 0 };
    for (size_t i = 0; i < count; i++) {
        const data_source *s = (const void *)((const char *)sources + i * stride);
        if (!held_out_only || s->held_out_every)
            add_part(&l, s, PART_TRAIN, s->files, reads, services, &p);
        add_part(&l, s, PART_HELD_OUT, s->held_out, reads, services, &p);
    }
    /* qsort must not get NULL, even for zero elements */
    if (l.count)
        qsort(l.at, l.count, sizeof *l.at, compare);
    check_list(&l, &p);
    for (size_t i = 0; i < l.count; i++)
        free(l.at[i].path);
    free(l.at);
    return report(&p, error);
}
