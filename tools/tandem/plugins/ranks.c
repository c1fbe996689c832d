/* ranks.c - starts a test as several processes, and collects what they found. */
#include "plugins/ranks.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

/* ---- starting them --------------------------------------------------------------------------- */

/* Open MPI refuses to start more processes than processors, and to be started by root, unless told
 * otherwise: both are harmless for a test of seconds. Its files go to `place`: in the directory that all
 * launchers of a user share, one that ends can remove what another is about to use. */
static void allow(const char *place)
{
    setenv("OMPI_MCA_orte_tmpdir_base", place, 1);
    setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
}

int td_ranks_prepare(td_ranks_start *s, int n, const char *directory, size_t test, td_error *error)
{
    char    name[32], self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    *s = (td_ranks_start){ .mpirun = td_program_find("mpirun") };
    snprintf(s->number, sizeof s->number, "%d", n);
    snprintf(name, sizeof name, "%zu.rank", test);
    s->out = td_path_join(directory, name);
    s->program = length > 0 ? strndup(self, (size_t)length) : NULL;
    allow(s->out ? s->out : directory);
    return s->out && s->program ? 0
                                : td_fail(error, TD_EIO, "cannot start the processes of a test");
}

void td_ranks_words(const td_ranks_start *s, const char **argv)
{
    /* Open MPI's launcher sets the first, those of other MPIs the second */
    static const char script[] = "exec \"$@\" >\"$0.${OMPI_COMM_WORLD_RANK:-$PMI_RANK}\"";
    const char       *words[TD_RANKS_WORDS] = { s->mpirun, "-np",  s->number, "sh",
                                                "-c",      script, s->out,    s->program };
    memcpy(argv, words, sizeof words);
}

void td_ranks_free(td_ranks_start *s)
{
    free(s->mpirun);
    free(s->program);
    free(s->out);
}

/* ---- what they found ------------------------------------------------------------------------- */

static bool has(const json_t *findings, const char *text)
{
    for (size_t k = 0; k < json_array_size(findings); k++)
        if (strstr(json_string_value(json_array_get(findings, k)), text))
            return true;
    return false;
}

/* Each sentence once, with the first rank that says it. */
static void add(json_t *findings, int rank, const json_t *more)
{
    for (size_t k = 0; k < json_array_size(more); k++) {
        const char *text = json_string_value(json_array_get(more, k));
        /* the process that wrote it ran a stranger's code */
        if (text && !has(findings, text))
            json_array_append_new(findings, json_sprintf("rank %d: %s", rank, text));
    }
}

json_t *td_ranks_result(const char *out, int n)
{
    json_t *findings = json_array(), *skipped = json_string("");
    int     results = 0;
    for (int r = 0; r < n; r++) {
        char    path[PATH_MAX];
        json_t *one;
        snprintf(path, sizeof path, "%s.%d", out, r);
        one = json_load_file(path, 0, NULL);
        results += one != NULL;
        add(findings, r, json_object_get(one, "findings"));
        if (one && !r) {
            json_decref(skipped);
            skipped = json_incref(json_object_get(one, "skipped"));
        }
        json_decref(one);
    }
    /* A rank that died wrote no file. If the others found something, that may be why; otherwise
     * there is no result. */
    if (results == n || json_array_size(findings))
        return json_pack("{s:o, s:o}", "findings", findings, "skipped", skipped);
    json_decref(findings);
    json_decref(skipped);
    return NULL;
}
