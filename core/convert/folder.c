/* folder.c - a folder of another program as a run, wherever a run is named: converted once, into
 * the user's cache. */
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/file.h"
#include "convert/convert.h"
#include "io/gguf.h"
#include "run/cache.h"
#include "tandem/random.h"

static bool has(const char *folder, const char *name)
{
    char *path = td_path_join(folder, name);
    bool  there = path && td_file_exists(path);
    free(path);
    return there;
}

bool td_convert_is_foreign(const char *path)
{
    return *path && (td_gguf_is(path) || (has(path, "config.json") && !has(path, "config.cfg") &&
                                          !has(path, "state.json")));
}

/* ---- which run it is ------------------------------------------------------------------------- */

/* A file that was replaced is known by its time and size: comparing contents would mean reading
 * many gigabytes each time, which can take longer than what is done with the model. */
static void describe_file(const char *folder, const char *name, td_text *out)
{
    char       *path = td_path_join(folder, name);
    struct stat st;
    if (!path)
        out->failed = true;
    else if (!stat(path, &st))
        td_text_print(out, "%s %lld %lld.%09ld\n", name, (long long)st.st_size,
                      (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    free(path);
}

/* The files of a folder, or the file itself. */
static int describe_files(const char *full, td_text *out, td_error *error)
{
    struct stat st;
    char      **names;
    int64_t     n;
    if (!stat(full, &st) && !S_ISDIR(st.st_mode)) {
        describe_file("", full, out);
        return 0;
    }
    n = td_list_directory(full, &names, error);
    for (int64_t k = 0; k < n; k++)
        describe_file(full, names[k], out);
    if (n >= 0)
        td_free_names(names, n);
    return n < 0 ? (int)n : 0;
}

/* The modules from elsewhere that a conversion can use: with them it may make another run, with a
 * tokenizer that could not be read before. For our own, our version stands. */
static void describe_modules(td_registry *r, td_text *out)
{
    static const char *const kinds[] = { TD_FORMAT_KIND, TD_TOKENIZER_KIND };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        td_registry_scan_kind(r, kinds[k]);
        for (size_t i = 0; i < td_registry_count(r); i++) {
            const td_plugin *p = td_registry_plugin(r, i);
            const td_loaded *m = strcmp(p->kind, kinds[k]) ? NULL : td_registry_module(r, p);
            if (m && m->path && !td_registry_is_own(r, m->path))
                describe_file("", m->path, out);
        }
    }
}

static int describe(const td_convert_in *how, td_text *out, td_error *error)
{
    char *full = realpath(how->folder, NULL);
    int   code;
    if (!full)
        return td_io_error(error, "open", how->folder);
    td_text_print(out, "tandem %s\n%s\n", TANDEM_VERSION, full);
    describe_modules(how->registry, out);
    code = describe_files(full, out, error);
    free(full);
    if (!code && out->failed)
        code = td_fail(error, TD_ENOMEM, "out of memory for the files of '%s'", how->folder);
    return code;
}

/* CACHE/folders/HASH; free() it. NULL with `error`. */
static char *run_of(const td_convert_in *how, td_error *error)
{
    td_text files = { 0 }, path = { 0 };
    char   *cache = td_user_cache(), *run = NULL;
    int     code = cache ? describe(how, &files, error)
                         : td_fail(error, TD_EIO,
                                   "there is nowhere to convert '%s' to: set XDG_CACHE_HOME to a "
                                       "directory that can be written, or convert it yourself "
                                       "(tandem convert FOLDER RUN)",
                                   how->folder);
    /* a changed file gives another name, so what was converted before stays what it was */
    if (!code) {
        td_text_print(&path, "%s/folders/%016" PRIx64, cache,
                      td_hash(td_random_stream(""), files.data, files.size));
        run = path.failed ? NULL : strdup(td_text_get(&path));
        if (!run)
            td_fail(error, TD_ENOMEM, "out of memory for the name of a run");
    }
    td_text_free(&files);
    td_text_free(&path);
    free(cache);
    return run;
}

/* ---- conversion ------------------------------------------------------------------------------ */

char *td_convert_folder(const td_convert_in *how, td_errors *errors, td_error *error)
{
    td_convert_in own = *how;
    td_error      why = { 0 };
    char         *run = run_of(how, error);
    int           code = 0;
    if (!run || has(run, "config.cfg"))
        return run;
    own.run = run;
    code = td_convert_read(&own, errors, &why);
    /* another process may have converted it in the meantime */
    if (!code || has(run, "config.cfg")) {
        td_log_line(how->log, TD_LOG_INFO, "'%s' is a model of another program: converted to '%s'",
                    how->folder, run);
        return run;
    }
    if (*why.text)
        td_fail(error, why.code, "%s", why.text);
    free(run);
    return NULL;
}
