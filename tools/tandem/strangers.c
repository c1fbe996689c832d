/* strangers.c - loading modules in child processes, to see whether they survive it. */
#include "strangers.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "command.h"
#include "guard.h"
#include "plugin/module.h"
#include "plugins/child.h"

/* ---- the child ------------------------------------------------------------------------------- */

int td_strangers_load(int argc, char **argv)
{
    td_arena *arena = td_arena_new();
    int       out = dup(1); /* a constructor may print, and close any descriptor */
    for (int k = 0; arena && k < argc; k++) {
        td_error e = { 0 };
        /* the parent tries again and reports the reason */
        td_module_load(argv[k], arena, &e);
        if (write(out, ".", 1) != 1)
            break;
    }
    td_arena_free(arena);
    return TD_EXIT_OK;
}

/* ---- the parent ------------------------------------------------------------------------------ */

enum { SECONDS = 10, BATCH = 500 }; /* for each child; files of a child, which bounds its argv */

static long seconds(void)
{
    long patience = td_guard_patience();
    return patience > 0 && patience < SECONDS ? patience : SECONDS;
}

/* The last line of the child's stderr that has the guard's prefix, without the prefix; free()
 * it. */
static char *last_words(const char *path)
{
    static const char begin[] = "tandem: ";
    char             *text = td_file_read(path, NULL, NULL), *found = NULL, *rest = text;
    for (char *line; rest && (line = strsep(&rest, "\n")) != NULL;)
        if (!strncmp(line, begin, strlen(begin)))
            found = line + strlen(begin);
    found = found ? strdup(found) : NULL;
    if (found)
        td_make_utf8(found);
    free(text);
    return found;
}

/* Why the file, at which the child ended, must not be loaded; free() it. */
static char *reason(const td_child *c, const char *path)
{
    td_text text = { 0 };
    char   *words = last_words(c->error), *copy;
    if (words && strstr(words, path)) /* the guard's message is complete */
        return words;
    td_text_print(&text, "'%s' cannot be loaded: ", path);
    if (c->end == TD_CHILD_LATE)
        td_text_print(&text, "its constructor has not returned after %ld s", seconds());
    else if (c->end == TD_CHILD_CRASHED)
        td_text_print(&text, "its constructor ends the process: %s", strsignal(c->code));
    else
        td_text_print(&text, "its constructor ends the process with exit code %d", c->code);
    copy = strdup(td_text_get(&text));
    td_text_free(&text);
    free(words);
    return copy;
}

static void await(td_child *c, const td_child_limits *l)
{
    static const struct timespec pause = { .tv_nsec = 2000000 };
    while (!td_child_poll(c, l))
        nanosleep(&pause, NULL);
}

/* Loads files in a child. Returns the number loaded; if not all, `why` is set for the next. */
static size_t load_some(const char *directory, const char *const *paths, size_t count, char **why)
{
    /* no limit of memory: a device's driver may reserve more addresses than the machine has
     * memory */
    const td_child_limits limits = { .seconds = (double)seconds(), .bytes = (size_t)1 << 46 };
    const char           *argv[BATCH + 3] = { "tandem", TD_STRANGERS };
    td_child              c;
    td_error              e = { 0 };
    size_t                done;
    if (count > BATCH)
        count = BATCH;
    memcpy(argv + 2, paths, count * sizeof *paths);
    if (td_child_start(&c, (char *const *)(uintptr_t)argv, directory, 0, &limits, &e)) {
        *why = strdup(e.text);
        td_child_free(&c);
        return 0;
    }
    await(&c, &limits);
    done = (size_t)(td_file_size(c.out) > 0 ? td_file_size(c.out) : 0);
    if (done > count) /* a plugin also wrote there */
        done = count;
    if (done < count)
        why[done] = reason(&c, paths[done]);
    td_child_free(&c);
    return done;
}

void td_strangers_screen(void *argument, const char *const *paths, size_t count, char **why)
{
    td_error e = { 0 };
    char    *directory = td_temporary_directory("tandem-modules", &e);
    (void)argument;
    for (size_t k = 0; directory && k < count;) {
        size_t done = load_some(directory, paths + k, count - k, why + k);
        k += done + (k + done < count && why[k + done]);
    }
    if (directory)
        td_remove_tree(directory, NULL);
    free(directory);
}
