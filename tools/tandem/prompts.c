/* prompts.c - lists of prompts; see prompts.h. */
#include "prompts.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

void td_prompts_free(td_prompts *p)
{
    for (int64_t k = 0; k < p->count; k++) {
        free((void *)(uintptr_t)p->at[k].text);
        free((void *)(uintptr_t)p->at[k].ids);
    }
    free(p->at);
    *p = (td_prompts){ 0 };
}

static int add(td_prompts *p, td_given given, td_error *error)
{
    if (p->count == p->room) {
        int64_t   room = p->room ? 2 * p->room : 16;
        td_given *larger = realloc(p->at, (size_t)room * sizeof *larger);
        if (!larger)
            return td_fail(error, TD_ENOMEM, "out of memory for %" PRId64 " prompts", room);
        p->at = larger;
        p->room = room;
    }
    p->at[p->count++] = given;
    return 0;
}

int td_prompts_add_text(td_prompts *p, const char *text, size_t size, td_error *error)
{
    char *copy;
    /* a C string would end there, and the rest would be silently lost */
    if (memchr(text, 0, size))
        return td_fail(error, TD_EFORMAT, "prompt %" PRId64 " contains a zero byte: remove it",
                       p->count + 1);
    copy = strndup(text, size);
    if (copy && !td_is_utf8(copy)) {
        free(copy);
        return td_fail(error, TD_EFORMAT,
                       "prompt %" PRId64 " is not UTF-8: convert it, for example with iconv",
                       p->count + 1);
    }
    if (copy && !add(p, (td_given){ .text = copy }, error))
        return 0;
    free(copy);
    return copy ? td_failed(error, TD_ENOMEM)
                : td_fail(error, TD_ENOMEM, "out of memory for a prompt");
}

static int read_ids(const char *list, int32_t *ids, int64_t *n, td_error *error)
{
    for (const char *at = list + strspn(list, " ,\t\n"); *at; at += strspn(at, " ,\t\n")) {
        char *end;
        long  id;
        /* strtol reports overflow only there */
        errno = 0;
        id = strtol(at, &end, 10);
        if (end == at || errno || id < 0 || id > INT32_MAX)
            return td_fail(error, TD_ECONFIG,
                           "--ids '%.200s': '%.20s' is not a token id, an integer from 0 on", list,
                           at);
        ids[(*n)++] = (int32_t)id;
        at = end;
    }
    return 0;
}

int td_prompts_add_ids(td_prompts *p, const char *list, td_error *error)
{
    /* an id needs at least a digit and a separator */
    int32_t *ids = malloc((strlen(list) / 2 + 1) * sizeof *ids);
    int64_t  n = 0;
    int      code = ids ? read_ids(list, ids, &n, error)
                        : td_fail(error, TD_ENOMEM, "out of memory for a prompt");
    if (!code)
        code = add(p, (td_given){ .ids = ids, .n = n }, error);
    if (code)
        free(ids);
    return code;
}

static int add_object(td_prompts *p, const char *file, int64_t line, const char *text, size_t size,
                      td_error *error)
{
    json_error_t why;
    json_t      *object = json_loadb(text, size, 0, &why);
    const char  *prompt;
    int          code;
    if (!object)
        return td_fail(error, TD_EFORMAT, "%s:%" PRId64 ": not JSON: %s", file, line, why.text);
    prompt = json_string_value(json_object_get(object, "prompt"));
    /* a file of inputs and targets can be asked as it is */
    if (!prompt)
        prompt = json_string_value(json_object_get(object, "inputs"));
    code = prompt ? td_prompts_add_text(p, prompt, strlen(prompt), error)
                  : td_fail(error, TD_EFORMAT,
                            "%s:%" PRId64 ": the object has no text under 'prompt' or 'inputs'",
                            file, line);
    json_decref(object);
    return code;
}

/* getline, but of a line that does not end, as /dev/zero has, only so much is read. */
static ssize_t read_line(char **line, size_t *room, FILE *f)
{
    enum { LONGEST = 1 << 28 };
    size_t n = 0;
    for (int c; n < LONGEST && (c = getc_unlocked(f)) != EOF;) {
        if (n + 2 > *room) {
            size_t more = 2 * *room + 256;
            char  *larger = realloc(*line, more);
            if (!larger)
                return -2;
            *line = larger;
            *room = more;
        }
        (*line)[n++] = (char)c;
        (*line)[n] = 0;
        if (c == '\n')
            break;
    }
    return n == LONGEST ? -2 : n ? (ssize_t)n : -1;
}

static int add_lines(td_prompts *p, FILE *f, const char *name, bool standard, bool json,
                     td_error *error)
{
    char   *line = NULL;
    size_t  room = 0;
    ssize_t size = 0;
    int64_t number = 0;
    int     code = 0;
    while (!code && (size = read_line(&line, &room, f)) >= 0) {
        size -= size && line[size - 1] == '\n';
        if (!number++ && standard)
            json = *line == '{';
        if (json && size)
            code = add_object(p, name, number, line, (size_t)size, error);
        else if (!json) /* an empty line of text is an empty prompt */
            code = td_prompts_add_text(p, line, (size_t)size, error);
    }
    free(line);
    if (size == -2)
        code = td_fail(error, TD_EFORMAT,
                       "%s:%" PRId64
                       ": this prompt is longer than 256 MiB, or does not fit in memory",
                       name, number + 1);
    if (!code && ferror(f))
        code = td_fail(error, TD_EIO, "cannot read prompts from %s: %s", name, strerror(errno));
    return code;
}

int td_prompts_add_file(td_prompts *p, const char *path, td_error *error)
{
    bool    standard = !strcmp(path, "-");
    size_t  n = strlen(path);
    int64_t before = p->count;
    FILE   *f = standard ? stdin : fopen(path, "re");
    int     code;
    if (!f)
        return td_fail(error, TD_EIO, "cannot open prompts '%s': %s", path, strerror(errno));
    code = add_lines(p, f, standard ? "standard input" : path, standard,
                     n > 6 && !strcmp(path + n - 6, ".jsonl"), error);
    if (!standard)
        fclose(f);
    /* an empty file is a mistake; a command before a pipe may have nothing to ask */
    if (!code && !standard && p->count == before)
        code = td_fail(error, TD_ECONFIG, "'%s' has no prompts: it takes one per line", path);
    return code;
}
