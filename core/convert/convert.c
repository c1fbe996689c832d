/* convert.c - what writing and reading share: finding formats, and folders that appear whole. */
#include "convert/convert.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "plugin/defaults.h"

int td_convert_format(td_registry *r, const char *name, td_arena *arena, td_part *out,
                      td_error *error)
{
    return td_part_defaults(r, TD_FORMAT_KIND, name, arena, out, error);
}

/* ---- settings -------------------------------------------------------------------------------- */

static int put_int(td_record *r, const char *path, int64_t x, td_error *error)
{
    td_format_value v = { TD_VALUE_INT, x, (double)x, "" };
    return td_record_put(r, path, &v, error);
}

/* The ids by which the other program begins and ends texts. */
static int put_special(td_record *r, const td_special *s, td_error *error)
{
    int code = put_int(r, "special.bos", s->bos, error);
    if (!code)
        code = put_int(r, "special.eos", s->eos, error);
    return code ? code : put_int(r, "special.pad", s->pad, error);
}

static int put_all(td_session *s, td_record *r, td_error *error)
{
    int code = td_record_put_part(r, "model", &s->x->model, error);
    if (!code)
        code = put_int(r, "train.length", s->x->train.length, error);
    if (code || !s->x->tokenizer.plugin)
        return code;
    code = td_record_put_part(r, "tokenizer", &s->x->tokenizer, error);
    if (!code)
        code = td_session_open_special(s, error);
    return code ? code : put_special(r, &s->special, error);
}

td_record *td_convert_settings(td_session *s, td_error *error)
{
    td_record *r = td_record_new();
    if (!r)
        td_fail(error, TD_ENOMEM, "out of memory for the settings of a model");
    else if (!put_all(s, r, error))
        return r;
    td_record_free(r);
    return NULL;
}

/* ---- folders --------------------------------------------------------------------------------- */

/* Create it from a name that ends in XXXXXX, with the permissions that mkdir would have given it.
 */
static int make_new(char *name, td_error *error)
{
    mode_t mask = umask(077);
    umask(mask);
    if (!mkdtemp(name))
        return td_io_error(error, "create the directory", name);
    if (!chmod(name, 0777 & ~mask))
        return 0;
    td_io_error(error, "set the permissions of", name);
    rmdir(name);
    return TD_EIO;
}

/* A new directory beside `path`; whatever else has a similar name is not ours to remove. */
static int make_beside(const char *path, char *name, td_error *error)
{
    char *parent = td_path_directory(name);
    int   code = parent ? td_make_directories(parent, error)
                        : td_fail(error, TD_ENOMEM, "out of memory while making '%s'", path);
    free(parent);
    return code ? code : make_new(name, error);
}

char *td_convert_begin(const char *path, td_error *error)
{
    size_t n = strlen(path), room = n + sizeof ".XXXXXX";
    char  *temporary = malloc(room);
    if (!temporary) {
        td_fail(error, TD_ENOMEM, "out of memory for the name of a folder");
        return NULL;
    }
    while (n > 1 && path[n - 1] == '/') /* a name after the slash would be inside */
        n--;
    snprintf(temporary, room, "%.*s.XXXXXX", (int)n, path);
    if (td_file_exists(path) || errno != ENOENT)
        td_fail(error, TD_EIO, "'%s' exists: choose another name, or remove it", path);
    else if (!make_beside(path, temporary, error))
        return temporary;
    free(temporary);
    return NULL;
}

int td_convert_end(char *temporary, const char *path, int code, td_error *error)
{
    if (!code)
        code = td_sync_directory(temporary, error);
    if (!code && rename(temporary, path))
        code = td_io_error(error, "make", path);
    if (code)
        td_remove_tree(temporary, NULL);
    free(temporary);
    return code;
}
