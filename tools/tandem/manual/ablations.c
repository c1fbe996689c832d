/* ablations.c - the shipped configs/ablations. */
#include "manual/ablations.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

void td_ablations_open(td_ablations *a, const char *configs)
{
    char   *directory = td_path_join(configs, "ablations");
    char  **names = NULL;
    int64_t count = directory ? td_list_directory(directory, &names, NULL) : -1;
    for (int64_t k = 0; k < count && a->count < TD_ABLATIONS; k++) {
        char      *path = td_path_join(directory, names[k]), *file = strdup(names[k]);
        td_errors  errors = { 0 };
        td_config *c = path && file ? td_config_load((const char *const *)&path, 1, NULL, 0,
                                                     configs, &errors)
                                    : NULL;
        /* One that does not load is left out; tests/config loads all of them. */
        if (c)
            a->at[a->count++] = (td_ablation){ file, c };
        else
            free(file);
        td_errors_free(&errors);
        free(path);
    }
    if (count >= 0)
        td_free_names(names, count);
    free(directory);
}

void td_ablations_close(td_ablations *a)
{
    for (size_t k = 0; k < a->count; k++) {
        td_config_free(a->at[k].config);
        free(a->at[k].file);
    }
}

/* An ablation names nothing but what it changes. */
static bool names_it(const td_ablation *a, const td_places *where, const char *plugin)
{
    for (size_t k = 0; k < where->count; k++) {
        char              path[128];
        const td_setting *v;
        snprintf(path, sizeof path, "%s.plugin", where->at[k]);
        v = td_config_get(a->config, path);
        if (v && v->type == TD_SETTING_STRING && !strcmp(v->text, plugin))
            return true;
    }
    return false;
}

void td_ablations_put(const td_ablations *a, const td_places *where, const char *plugin,
                      td_text *out)
{
    size_t n = 0;
    for (size_t k = 0; k < a->count; k++)
        if (names_it(&a->at[k], where, plugin))
            td_text_print(out, "%s[%s](../../configs/ablations/%s)",
                          n++ ? ", " : "Ablation: ", a->at[k].file, a->at[k].file);
    if (n)
        td_text_print(out, "\n\n");
}
