/* tasks_name.c - what the results of tasks are called. */
#include "run/tasks_name.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/file.h"

enum { LONGEST = 100 }; /* of the names of tasks: the length of file names is limited */

bool td_tasks_is_file(const char *name)
{
    size_t n = strlen(name);
    return n > 4 && !strcmp(name + n - 4, ".cfg");
}

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Names become part of a file name. */
void td_tasks_append(td_text *out, const char *name)
{
    for (; *name; name++)
        td_text_append(out, isalnum((unsigned char)*name) || strchr("-_.", *name) ? name : "-", 1);
}

static bool is_same_file(const char *a, const char *b)
{
    char *x = realpath(a, NULL), *y = realpath(b, NULL);
    bool  same = x && y && !strcmp(x, y);
    free(x);
    free(y);
    return same;
}

/* Results of one's own "boolq.cfg" must not replace those of the shipped task. */
static bool is_shadowed(const td_session *s, const char *file)
{
    td_text path = { 0 };
    bool    there;
    td_text_print(&path, "%s/tasks/%s", s->configs, base_of(file));
    there = td_tasks_is_file(file) && td_file_exists(td_text_get(&path)) &&
            !is_same_file(file, td_text_get(&path));
    td_text_free(&path);
    return there;
}

const char *td_tasks_shadowed(const td_session *s, const td_tasks_request *r)
{
    for (size_t k = 0; k < r->count; k++)
        if (is_shadowed(s, r->names[k]))
            return r->names[k];
    return NULL;
}

/* "x" of "dir/x.cfg"; of other names all. */
static void append_name(const td_session *s, const char *name, td_text *out)
{
    size_t before = out->size;
    td_tasks_append(out, td_tasks_is_file(name) ? base_of(name) : name);
    if (td_tasks_is_file(name) && !is_shadowed(s, name) && !out->failed && out->size - before > 4)
        out->data[out->size -= 4] = 0;
}

/* Ends after a whole name, and tells lists that begin alike apart. */
static void shorten(td_text *name)
{
    uint64_t hash = XXH3_64bits(name->data, name->size);
    size_t   end = LONGEST;
    while (end && name->data[end] != '+')
        end--;
    name->data[name->size = end ? end : LONGEST] = 0;
    td_text_print(name, "+more-%08" PRIx32, (uint32_t)hash);
}

char *td_tasks_name(const td_session *s, const td_tasks_request *r)
{
    td_text name = { 0 };
    char   *copy;
    for (size_t k = 0; k < r->count; k++) {
        if (k)
            td_text_append(&name, "+", 1);
        append_name(s, r->names[k], &name);
    }
    if (name.size > LONGEST)
        shorten(&name);
    if (r->shots >= 0)
        td_text_print(&name, "-%lld-shot", (long long)r->shots);
    /* scores of another kind, or of only some items, must not replace the others */
    if (r->generate)
        td_text_print(&name, "-generated");
    if (r->chat)
        td_text_print(&name, "-chat");
    if (r->limit)
        td_text_print(&name, "-first-%lld", (long long)r->limit);
    copy = name.failed ? NULL : strdup(td_text_get(&name));
    td_text_free(&name);
    return copy;
}
