/* find_tokenizer.c - the tokenizer of a folder of another program, as settings of a config. */
#include <stdlib.h>

#include "base/file.h"
#include "config/resolved.h"
#include "convert/convert.h"

/* A row of td_tokenizer.folder_files. */
typedef struct row {
    int         option; /* bytes of its name */
    const char *text;   /* which begins with it */
    const char *file;
} row;

/* False if there is no such row, or if it is malformed: the plugin may be a stranger's. */
static bool row_of(const td_tokenizer *t, size_t i, row *out)
{
    const char *text = t->folder_files ? t->folder_files[i] : NULL;
    const char *equals = text ? strchr(text, '=') : NULL;
    *out = (row){ equals ? (int)(equals - text) : 0, text, equals ? equals + 1 : NULL };
    return equals;
}

static bool same_option(const row *a, const row *b)
{
    return a->option == b->option && !strncmp(a->text, b->text, (size_t)a->option);
}

/* The first of the option's files that is there, from row `i` on; NULL: none. free() it. */
static char *find_file(const td_tokenizer *t, size_t i, const char *folder)
{
    row   wanted, other;
    char *path = NULL;
    row_of(t, i, &wanted);
    for (; !path && row_of(t, i, &other); i++) {
        path = same_option(&wanted, &other) ? td_path_join(folder, other.file) : NULL;
        if (path && !td_file_exists(path)) {
            free(path);
            path = NULL;
        }
    }
    return path;
}

static bool was_before(const td_tokenizer *t, size_t i, const row *r)
{
    row other;
    for (size_t k = 0; k < i && row_of(t, k, &other); k++)
        if (same_option(&other, r))
            return true;
    return false;
}

/* The settings of the tokenizer, if the folder has one. */
static bool print_settings(const td_tokenizer *t, const char *folder, td_text *out)
{
    row r;
    for (size_t i = 0; row_of(t, i, &r); i++) {
        char *path = was_before(t, i, &r) ? NULL : find_file(t, i, folder);
        if (!i && !path)
            return false;
        if (!i) {
            td_text_print(out, "tokenizer = { plugin = ");
            td_print_string(out, t->plugin.name);
        }
        if (path) {
            td_text_print(out, "; %.*s = ", r.option, r.text);
            td_print_string(out, path);
        }
        free(path);
    }
    if (out->size)
        td_text_print(out, "; };\n");
    return out->size;
}

int td_convert_find_tokenizer(td_registry *r, const char *folder, size_t *from, td_text *out,
                              td_error *error)
{
    char *full = realpath(folder, NULL); /* configs may have another directory */
    bool  found = false;
    if (!full)
        return td_io_error(error, "open the folder", folder);
    td_registry_scan_kind(r, TD_TOKENIZER_KIND);
    while (*from < td_registry_count(r) && !found) {
        const td_plugin *p = td_registry_plugin(r, (*from)++);
        found = !strcmp(p->kind, TD_TOKENIZER_KIND) && print_settings((const void *)p, full, out);
    }
    free(full);
    return out->failed
               ? td_fail(error, TD_ENOMEM, "out of memory for the tokenizer of '%s'", folder)
               : 0;
}
