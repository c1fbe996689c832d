/* keep.c - copies of the files that a run is made with. */
#include "run/keep.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

enum { LARGEST_COPY = 1 << 28 }; /* bytes: tokenizers and modules have a few million */

static int no_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory while copying the files of a run");
}

static const char *last_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* A copy that is there already is not written again: it may be what is read. */
static int copy(const char *from, const char *to, td_error *error)
{
    char   before[33], after[33] = "", *data;
    size_t size;
    int    code;
    if (td_file_hash(from, before, error))
        return td_failed(error, TD_EIO);
    if (td_file_exists(to) && !td_file_hash(to, after, error) && !strcmp(before, after))
        return 0;
    data = td_file_read(from, &size, error);
    code = data ? td_file_write(to, data, size, error) : td_failed(error, TD_EIO);
    free(data);
    return code;
}

static bool is_small_file(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISREG(st.st_mode) && st.st_size <= LARGEST_COPY;
}

/* ---- the tokenizer ----------------------------------------------------------------------------- */

/* Named by its content too, since the tokenizers of two runs may have the same name. A name with a
 * hash belongs to a copy already. */
static void name_copy(const char *path, const char *hash, td_text *out)
{
    const char *name = last_name(path);
    bool        again = !strncmp(name, hash, 8) && name[8] == '-';
    td_text_print(out, "tokenizer/%.8s-%s", hash, again ? name + 9 : name);
}

static int keep_file(td_session *s, const char *directory, size_t i, const char *path,
                     td_error *error)
{
    td_text name = { 0 };
    char    hash[33], *to = NULL;
    int     code = td_file_hash(path, hash, error);
    if (!code) {
        name_copy(path, hash, &name);
        to = td_path_join(directory, td_text_get(&name));
        code = to ? copy(path, to, error) : no_memory(error);
    }
    /* the run's config names the copy, so that the run can be moved */
    if (!code)
        td_config_move_file(s->x->config, "tokenizer", i, td_text_get(&name));
    td_text_free(&name);
    free(to);
    return code;
}

static int keep_tokenizer(td_session *s, const char *directory, td_error *error)
{
    char       *folder = td_path_join(directory, "tokenizer");
    const char *path;
    int         code = folder ? 0 : no_memory(error);
    for (size_t i = 0; !code && (path = td_config_file(s->x->config, "tokenizer", i)); i++) {
        /* an option may name a directory, or what a run should not multiply */
        if (!is_small_file(path))
            continue;
        code = td_make_directories(folder, error);
        if (!code)
            code = keep_file(s, directory, i, path, error);
    }
    free(folder);
    return code;
}

/* ---- modules ----------------------------------------------------------------------------------- */

/* Whether the plugin is the first of its module, which is copied only once. */
static bool is_first(const td_registry *r, size_t i, const char *path)
{
    for (size_t k = 0; k < i; k++) {
        const td_loaded *m = td_registry_module(r, td_registry_plugin(r, k));
        if (m->path && !strcmp(m->path, path))
            return false;
    }
    return true;
}

static int keep_module(const char *folder, const char *path, td_text *list, td_error *error)
{
    char *to = td_path_join(folder, last_name(path));
    char  hash[33], *real = realpath(path, NULL);
    int   code = to ? td_make_directories(folder, error) : no_memory(error);
    if (!code)
        code = copy(path, to, error);
    if (!code)
        code = td_file_hash(path, hash, error);
    if (!code)
        /* for a reader: where it came from, and a hash that tells whether that file has
         * changed since */
        td_text_print(list, "%s %s %s\n", hash, last_name(path), real ? real : path);
    free(to);
    free(real);
    return code;
}

static int write_list(const char *folder, td_text *list, td_error *error)
{
    char *path = td_path_join(folder, "modules.txt");
    int code = path ? td_file_write(path, td_text_get(list), list->size, error) : no_memory(error);
    free(path);
    return code;
}

/* All that were loaded, not only those that the config names: an op or a kernel may have come with
 * another module. */
int td_run_keep_modules(td_session *s, const char *directory, td_error *error)
{
    char   *folder = td_path_join(directory, "modules");
    td_text list = { 0 };
    int     code = folder ? 0 : no_memory(error);
    for (size_t i = 0; i < td_registry_count(s->registry) && !code; i++) {
        const td_loaded *m = td_registry_module(s->registry, td_registry_plugin(s->registry, i));
        if (m->path && !td_registry_is_own(s->registry, m->path) &&
            is_first(s->registry, i, m->path))
            code = keep_module(folder, m->path, &list, error);
    }
    if (!code && list.size)
        code = write_list(folder, &list, error);
    td_text_free(&list);
    free(folder);
    return code;
}

int td_run_keep(td_session *s, const char *directory, td_error *error)
{
    int code = keep_tokenizer(s, directory, error);
    return code ? code : td_run_keep_modules(s, directory, error);
}

char *td_run_modules(const char *directory)
{
    char *path = td_path_join(directory, "modules");
    if (path && td_file_exists(path))
        return path;
    free(path);
    return NULL;
}
