/* seal.c - hashes in a file of results. */
#include "run/seal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tandem/random.h"

static int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory while hashing results");
}

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Of the values, not of the bytes: spaces and the order of keys carry no meaning. */
static int hash_of(const json_t *results, char hex[17], td_error *error)
{
    json_t *rest = json_copy((json_t *)results);
    char   *text;
    int     code;
    json_object_del(rest, "hash");
    text = json_dumps(rest, JSON_COMPACT | JSON_SORT_KEYS);
    code = text ? 0 : out_of_memory(error);
    if (!code)
        snprintf(hex, 17, "%016" PRIx64, td_hash(td_random_stream("results"), text, strlen(text)));
    free(text);
    json_decref(rest);
    return code;
}

int td_seal_file(json_t *results, const char *path, td_error *error)
{
    json_t *files = json_object_get(results, "files");
    char    hex[33];
    int     code = td_file_hash(path, hex, error);
    if (!code && !files) {
        files = json_object();
        if (json_object_set_new(results, "files", files))
            code = out_of_memory(error);
    }
    if (!code && json_object_set_new(files, name_of(path), json_string(hex)))
        code = out_of_memory(error);
    return code;
}

int td_seal(json_t *results, td_error *error)
{
    char hex[17];
    int  code = hash_of(results, hex, error);
    if (!code && json_object_set_new(results, "hash", json_string(hex)))
        code = out_of_memory(error);
    return code;
}

int td_seal_check(const json_t *results, const char *path, td_error *error)
{
    const json_t *hash = json_object_get(results, "hash");
    const char   *was = json_string_value(hash);
    char          hex[17];
    int           code = hash ? hash_of(results, hex, error) : 0;
    if (code || !hash || (was && !strcmp(was, hex)))
        return code;
    return td_fail(
        error, TD_EFORMAT,
        "'%s' is damaged, or was edited: the hash of its content is %s, which is not the "
        "one that it states (\"hash\"); run `tandem evaluate` again",
        path, hex);
}

int td_seal_check_file(const json_t *results, const char *path, td_error *error)
{
    const json_t *files = json_object_get(results, "files");
    const char   *was = json_string_value(json_object_get(files, name_of(path)));
    char          hex[33];
    if (!json_object_get(results, "hash"))
        return 0;
    if (td_file_hash(path, hex, error))
        return td_failed(error, TD_EIO);
    return was && !strcmp(was, hex)
               ? 0
               : td_fail(error, TD_EFORMAT,
                         "'%s' is damaged, was edited, or is from an evaluation that was "
                         "interrupted: its hash is %s, which is not the one in its summary "
                         "(\"files\"); run `tandem evaluate` again",
                         path, hex);
}
