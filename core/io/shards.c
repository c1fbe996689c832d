/* shards.c - the tensors of several safetensors files as one set. */
#include "io/shards.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/map.h"

enum { MOST_FILES = 4096 };

struct td_shards {
    td_map  *files;   /* by name: td_safetensors */
    td_gguf *gguf;    /* instead of files */
    td_map  *tensors; /* by name: td_stored of an open file */
};

static int no_memory(const char *path, td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory while opening '%s'", path);
}

/* The file `path`, called `name` in the index, with all its tensors. */
static int add_file(td_shards *s, const char *name, const char *path, td_error *error)
{
    td_safetensors *file = td_safetensors_open(path, error);
    if (!file)
        return td_failed(error, TD_EIO);
    if (td_map_set(s->files, name, file)) {
        td_safetensors_close(file);
        return no_memory(path, error);
    }
    for (size_t i = 0; i < td_safetensors_count(file); i++) {
        td_stored *t = (td_stored *)(uintptr_t)td_safetensors_at(file, i);
        /* of two, readers disagree on which counts */
        if (td_map_get(s->tensors, t->name))
            return td_fail(error, TD_EFORMAT, "'%s': tensor '%s' is in another file, too", path,
                           t->name);
        if (td_map_set(s->tensors, t->name, t))
            return no_memory(path, error);
    }
    return 0;
}

static int add_gguf(td_shards *s, const char *path, td_error *error)
{
    s->gguf = td_gguf_open(path, error);
    if (!s->gguf)
        return td_failed(error, TD_EIO);
    for (size_t i = 0; i < td_gguf_count(s->gguf); i++) {
        td_stored *t = (td_stored *)(uintptr_t)td_gguf_tensor(s->gguf, i);
        if (td_map_set(s->tensors, t->name, t))
            return no_memory(path, error);
    }
    return 0;
}

/* ---- the index ------------------------------------------------------------------------------- */

/* A file of the folder itself: an index may be a stranger's, and must not reach other places. */
static bool is_plain_name(const char *name) { return *name && *name != '.' && !strchr(name, '/'); }

static int add_indexed(td_shards *s, const char *folder, const char *name, td_error *error)
{
    char *path;
    int   code;
    /* the first of its tensors opened it */
    if (td_map_get(s->files, name))
        return 0;
    if (!is_plain_name(name) || td_map_count(s->files) == MOST_FILES)
        return td_fail(error, TD_EFORMAT,
                       "the index of '%s' names '%.200s': it may name up to %d files in its folder",
                       folder, name, MOST_FILES);
    path = td_path_join(folder, name);
    code = path ? add_file(s, name, path, error) : no_memory(folder, error);
    free(path);
    return code;
}

/* Every tensor is where the index says; files and index are written by different steps of a
 * conversion, and may not belong together. */
static int check_place(const td_shards *s, const char *folder, const char *tensor, const char *name,
                       td_error *error)
{
    const td_safetensors *file = td_map_get(s->files, name);
    if (file && td_safetensors_find(file, tensor))
        return 0;
    return td_fail(error, TD_EFORMAT,
                   "'%s/%s' has no tensor '%.200s', which the index says is in it", folder, name,
                   tensor);
}

static int add_all(td_shards *s, const char *folder, const json_t *map, td_error *error)
{
    void *at = json_object_iter((json_t *)(uintptr_t)map);
    int   code = 0;
    if (!json_is_object(map))
        return td_fail(error, TD_EFORMAT, "the index of '%s' has no object \"weight_map\"", folder);
    for (; !code && at; at = json_object_iter_next((json_t *)(uintptr_t)map, at)) {
        const char *name = json_string_value(json_object_iter_value(at));
        code = name ? add_indexed(s, folder, name, error)
                    : td_fail(error, TD_EFORMAT, "the index of '%s' names no file for '%.200s'",
                              folder, json_object_iter_key(at));
        if (!code)
            code = check_place(s, folder, json_object_iter_key(at), name, error);
    }
    /* every tensor of the index was found; files may still have some that it does not list */
    if (!code && json_object_size(map) != td_map_count(s->tensors))
        code = td_fail(error, TD_EFORMAT,
                       "the files of '%s' have %zu tensors, but their index lists %zu", folder,
                       td_map_count(s->tensors), json_object_size(map));
    return code;
}

static int add_index(td_shards *s, const char *folder, const char *path, td_error *error)
{
    json_error_t problem;
    size_t       size;
    char        *text = td_file_read(path, &size, error);
    /* of two entries for one tensor, readers disagree on which counts */
    json_t      *j = text ? json_loadb(text, size, JSON_REJECT_DUPLICATES, &problem) : NULL;
    int          code;
    if (!text)
        code = td_failed(error, TD_EIO);
    else if (!j)
        code = td_fail(error, TD_EFORMAT, "'%s' is not valid JSON: %s (line %d)", path,
                       problem.text, problem.line);
    else
        code = add_all(s, folder, json_object_get(j, "weight_map"), error);
    json_decref(j);
    free(text);
    return code;
}

/* ---- opening --------------------------------------------------------------------------------- */

static bool is_directory(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

/* A folder without safetensors: pickles, most often. */
static int refuse(const char *folder, bool pickle, td_error *error)
{
    if (pickle)
        return td_fail(error, TD_EFORMAT,
                       "'%s' has pytorch_model.bin, but no model.safetensors: pickles are not "
                       "read, because reading one can run arbitrary code; save the model as "
                       "safetensors (save_pretrained does)",
                       folder);
    return td_fail(error, TD_EFORMAT,
                   "'%s' has neither model.safetensors nor model.safetensors.index.json", folder);
}

static int add_folder(td_shards *s, const char *folder, td_error *error)
{
    char *one = td_path_join(folder, "model.safetensors");
    char *index = td_path_join(folder, "model.safetensors.index.json");
    char *pickle = td_path_join(folder, "pytorch_model.bin");
    int   code;
    if (!one || !index || !pickle)
        code = no_memory(folder, error);
    else if (td_file_exists(one)) /* what other readers prefer, too */
        code = add_file(s, "model.safetensors", one, error);
    else if (td_file_exists(index))
        code = add_index(s, folder, index, error);
    else
        code = refuse(folder, td_file_exists(pickle), error);
    free(one);
    free(index);
    free(pickle);
    return code;
}

td_shards *td_shards_open(const char *path, td_error *error)
{
    td_shards *s = calloc(1, sizeof *s);
    int        code;
    if (s) {
        s->files = td_map_new();
        s->tensors = td_map_new();
    }
    if (!s || !s->files || !s->tensors)
        code = no_memory(path, error);
    else if (is_directory(path))
        code = add_folder(s, path, error);
    else
        code = td_gguf_is(path) ? add_gguf(s, path, error) : add_file(s, path, path, error);
    if (!code)
        return s;
    td_shards_close(s);
    return NULL;
}

void td_shards_close(td_shards *s)
{
    if (!s)
        return;
    for (size_t i = 0; s->files && i < td_map_count(s->files); i++)
        td_safetensors_close(td_map_value(s->files, i));
    td_gguf_close(s->gguf);
    td_map_free(s->files);
    td_map_free(s->tensors);
    free(s);
}

const td_gguf *td_shards_gguf(const td_shards *s) { return s->gguf; }

size_t td_shards_count(const td_shards *s) { return td_map_count(s->tensors); }

const td_stored *td_shards_at(const td_shards *s, size_t i) { return td_map_value(s->tensors, i); }

const td_stored *td_shards_find(const td_shards *s, const char *name)
{
    return td_map_get(s->tensors, name);
}
