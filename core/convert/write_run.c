/* write_run.c - a run that was not trained: its config, where it was made, and one checkpoint. */
#include <jansson.h>
#include <stdlib.h>

#include "base/file.h"
#include "convert/convert.h"
#include "model/checkpoint.h"
#include "run/keep.h"
#include "run/provenance.h"

static int no_memory(const char *run, td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory while writing '%s'", run);
}

/* What loading compares later: the model that the parameters belong to, and its tokenizer. */
static char *about_of(const td_session *s, const char *config)
{
    json_t *j = json_pack("{s:s, s:s, s:b, s:[], s:s}", "tandem", TANDEM_VERSION, "config", config,
                          "inputs_end", 0, "plugins", "tokenizer", s->tokenizer_id);
    char   *text = j ? json_dumps(j, 0) : NULL;
    json_decref(j);
    return text;
}

static int write_checkpoint(const td_session *s, const td_stored *parameters, size_t n,
                            const char *run, const char *config, td_error *error)
{
    td_progress start = { .best_step = -1, .evaluated = -1, .scored = -1 };
    char       *directory = td_path_join(run, "checkpoints"), *about = about_of(s, config);
    td_saved    saved = {
           .parameters = parameters, .n_parameters = n, .progress = &start, .about = about
    };
    int code = directory && about ? td_make_directories(directory, error) : no_memory(run, error);
    if (!code)
        code = td_checkpoint_write(directory, &saved, error);
    free(directory);
    free(about);
    return code;
}

static int write_files(td_session *s, const td_stored *parameters, size_t n, const char *run,
                       td_error *error)
{
    td_text config = { 0 };
    char   *path = td_path_join(run, "config.cfg");
    int     code = td_run_keep(s, run, error);
    td_config_print_moved(s->x->config, &config);
    if (!code)
        code = path && !config.failed ? td_file_write(path, config.data, config.size, error)
                                      : no_memory(run, error);
    if (!code)
        code = td_run_describe_converted(run, error);
    if (!code)
        code = write_checkpoint(s, parameters, n, run, td_text_get(&config), error);
    td_text_free(&config);
    free(path);
    return code;
}

int td_convert_write_run(td_session *s, const td_stored *parameters, size_t n, const char *run,
                         td_error *error)
{
    char *temporary = td_convert_begin(run, error);
    if (!temporary)
        return td_failed(error, TD_EIO);
    return td_convert_end(temporary, run, write_files(s, parameters, n, temporary, error), error);
}
