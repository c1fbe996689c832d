/* times.c - keeps the measured times of steps. */
#include "study/times.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/threads.h"

void td_text_key(const char *text, char key[17])
{
    snprintf(key, 17, "%016" PRIx64, (uint64_t)XXH3_64bits(text, strlen(text)));
}

int td_times_open(td_times *t, const char *directory, double seconds, int64_t threads,
                  td_error *error)
{
    char *text;
    *t = (td_times){ .path = td_path_join(directory, "times.json"), .seconds = seconds };
    t->each = threads > 0;
    t->threads = threads > 0 ? threads : td_processors();
    if (!t->path)
        return td_fail(error, TD_ENOMEM, "out of memory for the times of a study");
    text = td_file_exists(t->path) ? td_file_read(t->path, NULL, &(td_error){ 0 }) : NULL;
    t->all = text ? json_loads(text, 0, NULL) : NULL;
    /* a damaged file costs no more than measuring again */
    if (!json_is_object(t->all)) {
        json_decref(t->all);
        t->all = json_object();
    }
    free(text);
    return 0;
}

int td_times_save(td_times *t, td_error *error)
{
    char *text = t->changed ? json_dumps(t->all, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
    int   code = text ? td_file_write(t->path, text, strlen(text), error) : 0;
    free(text);
    t->changed = t->changed && code;
    return code;
}

void td_times_close(td_times *t)
{
    json_decref(t->all);
    free(t->path);
    *t = (td_times){ 0 };
}

int td_times_step(td_times *t, const td_composer *c, const td_point *p, const char *text,
                  const char *name, double *out, td_error *error)
{
    int64_t processes = td_point_processes(c->design, p), threads = t->threads;
    char    hash[17], key[100];
    int     code;
    if (!t->each)
        threads = threads > processes ? threads / processes : 1;
    td_text_key(text, hash);
    /* by the config's text: with any option changed a step is measured again */
    snprintf(key, sizeof key, "%s on %" PRId64 " threads", hash, threads);
    if (processes > 1)
        snprintf(key + strlen(key), sizeof key - strlen(key), " of %" PRId64 " processes",
                 processes);
    *out = json_number_value(json_object_get(t->all, key));
    if (*out > 0 || !(t->seconds > 0))
        return 0;
    if (t->begin)
        t->begin(t->arg, name);
    code = td_figures_measure(c, text, processes, t->seconds, threads, out, error);
    if (!code)
        t->changed = !json_object_set_new(t->all, key, json_real(*out));
    return code;
}
