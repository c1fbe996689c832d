/* place.c - runs and checkpoints by their directories. */
#include "run/place.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "run/locate.h"

/* Removes trailing slashes, with which the parent would be the same directory. */
static char *trimmed(const char *name)
{
    char  *path = strdup(name);
    size_t n = path ? strlen(path) : 0;
    while (n > 1 && path[n - 1] == '/')
        path[--n] = 0;
    return path;
}

static bool contains(const char *directory, const char *name)
{
    char *path = td_path_join(directory, name);
    bool  there = path && td_file_exists(path);
    free(path);
    return there;
}

/* RUN of RUN/checkpoints/step-N. Links and "." are resolved first, because the given name need not
 * contain two parent directories. */
static char *run_above(const char *checkpoint)
{
    char *full = realpath(checkpoint, NULL);
    char *above = full ? td_path_directory(full) : NULL;
    char *run = above ? td_path_directory(above) : NULL;
    free(full);
    free(above);
    return run;
}

bool td_run_place_find(td_run_place *p, const char *name)
{
    char *path = trimmed(name);
    *p = (td_run_place){ 0 };
    /* a run has its config, a checkpoint its state */
    if (path && contains(path, "config.cfg")) {
        p->run = path;
    } else if (path && contains(path, "state.json")) {
        p->checkpoint = path;
        p->run = run_above(path);
    } else
        free(path);
    if (p->run && contains(p->run, "config.cfg"))
        p->config = td_path_join(p->run, "config.cfg");
    if (p->config)
        return true;
    td_run_place_free(p);
    return false;
}

void td_run_place_free(td_run_place *p)
{
    free(p->run);
    free(p->config);
    free(p->checkpoint);
    *p = (td_run_place){ 0 };
}

td_config *td_run_place_config(const td_run_place *p, td_errors *errors)
{
    const char       *file = p->config;
    td_config_sources sources = { .files = &file, .n_files = 1, .n_kept = 1 };
    td_config        *c = td_config_read(&sources, errors);
    if (c)
        td_config_take_text(c);
    return c;
}

int td_run_place_enter(const td_run_place *p, td_session *s, td_error *error)
{
    free(s->directory);
    s->directory = strdup(p->run);
    s->entered = true;
    return s->directory ? 0 : td_fail(error, TD_ENOMEM, "out of memory while opening a run");
}

char *td_run_place_weights(const td_run_place *p, td_session *s, int64_t step, td_error *error)
{
    return p->checkpoint ? td_weights_locate(p->checkpoint, step, error)
                         : td_run_locate(td_session_directory(s), step, error);
}
