/* convert.c - `tandem convert`: a run in the format of another program, a folder of another program as
 * a run, and a run of another architecture from a run. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "convert/convert.h"
#include "io/safetensors.h"
#include "run/locate.h"
#include "work.h"

static const td_flag flags[] = {
    { "--to", "FORMAT", "write the run in this format: `tandem plugins list format` lists them" },
    { "--adapt", 0, "make the model that key=value describes from RUN's parameters, as a run" },
    { "--encoder", "RUN", "with --adapt: the run that supplies the encoder's layers (RUN)" },
    { "--from", "FORMAT", "read FOLDER as this format (default: by its \"model_type\")" },
    { "--dtype", "f32|bf16|q8_0",
      "with --to: the type of the tensors (f32); q8_0 is for formats whose file is GGUF" },
    { "--weights", "PATH",
      "with --to: parameters: a safetensors file, a checkpoint or a run's directory" },
    { "--best", 0, "with --to or --adapt: RUN's best checkpoint (train.best), not the newest" },
    { "--step", "N", "with --to or --adapt: RUN's checkpoint of this step" },
    { "--allow", "KEY ..", "a key that may differ from the parameters' model: model.position.*" },
    { 0, 0, 0 },
};

const td_usage td_usage_convert = {
    .name = "convert",
    .arguments = "RUN OUT --to FORMAT [--dtype f32|bf16|q8_0] [--best | --step N] | FOLDER OUT "
                 "[--from FORMAT] | RUN OUT --adapt [--encoder RUN] key=value ..",
    .brief = "Write a run's model as a folder or file that other programs read, or read such a "
             "folder or file as a run.",
    .example = "tandem convert runs/first exported --to qwen3",
    .flags = flags,
    .config = true,
    .optional = true,
    .run = true,
    .plain = 2,
    .notes =
        "RUN is the directory of a run, or one of its checkpoints. OUT must not exist. A model "
        "that "
        "a format cannot represent exactly is refused, with the option that stands in the way and "
        "the formats that can.\n\n"
        "FOLDER has config.json and model.safetensors, or several files with an index, and perhaps "
        "a tokenizer; or it is a GGUF file. OUT becomes a run: `tandem generate OUT`, "
        "train.weights=OUT. Other commands "
        "take "
        "FOLDER itself where they take a run.\n\n"
        "--adapt makes an encoder-decoder from a decoder-only model: key=value states what "
        "differs "
        "from RUN's config, such as model.plugin=encoder-decoder model.encoder_layers=4 "
        "model.decoder_layers=4. Train it with `tandem train` (train.weights=OUT).",
};

/* ---- writing --------------------------------------------------------------------------------- */

static bool take_dtype(td_tool *t, int *type)
{
    static const struct {
        const char *name;
        int         type;
    } dtypes[] = { { "f32", TD_STORED_F32 },
                   { "bf16", TD_STORED_BF16 },
                   { "q8_0", TD_STORED_Q8_0 } };
    const char *dtype = td_tool_option(t, "--dtype");
    for (size_t k = 0; k < sizeof dtypes / sizeof *dtypes; k++)
        if (!strcmp(dtype ? dtype : "f32", dtypes[k].name)) {
            *type = dtypes[k].type;
            return true;
        }
    td_tool_usage_error(t, "--dtype takes f32, bf16 or q8_0, not '%s'", dtype);
    return false;
}

static int write_run(td_tool *t, const td_run_place *place, td_session *s, const char *out,
                     int64_t step, int type)
{
    td_error       e = { 0 };
    char          *weights = td_work_weights(t, place, s, step, &e);
    td_convert_out how = {
        .format = td_tool_option(t, "--to"), .weights = weights, .folder = out, .type = type
    };
    int code = weights ? td_convert_write(s, &how, &e) : td_failed(&e, TD_EIO);
    if (!code)
        td_log_line(t->log, TD_LOG_INFO, "wrote '%s' to '%s' in the format '%s'", weights, out,
                    how.format);
    free(weights);
    return code ? td_tool_fail(t, &e) : TD_EXIT_OK;
}

/* OUT follows RUN; with -c there is no RUN. Options of the other directions would be ignored. */
static int write_out(td_tool *t)
{
    td_run_place place;
    td_session  *s = NULL;
    int64_t      step;
    int          type, code = TD_EXIT_USAGE;
    size_t       words;

    td_work_take_run(t, &place);
    words = place.run ? 2 : 1;
    if (td_tool_option(t, "--from"))
        td_tool_usage_error(t, "--to writes a run, --from reads a folder: use one");
    else if (td_tool_option(t, "--encoder"))
        td_tool_usage_error(t, "--encoder has no effect with --to: it belongs to --adapt");
    else if (!t->n_files && t->n_plain)
        td_tool_usage_error(t, "'%s' is neither a run nor a checkpoint: it has no config.cfg",
                            t->plain[0]);
    else if (t->n_plain != words || !t->n_files)
        td_tool_usage_error(t, "--to takes the directory of a run, and a folder to create");
    else if (take_dtype(t, &type) && td_work_step(t, &step))
        s = td_work_open_run(t, &place, TD_NEED_MODEL, &code);
    if (s)
        code = write_run(t, &place, s, t->plain[words - 1], step, type);
    td_session_close(s);
    td_run_place_free(&place);
    return code;
}

/* ---- from a model of another architecture ---------------------------------------------------- */

/* A run that parameters come from. */
typedef struct origin {
    td_run_place  place;
    td_adapt_from from;
    td_config    *config;
    char         *weights;
} origin;

static void close_origin(origin *o)
{
    td_run_place_free(&o->place);
    td_config_free(o->config);
    free(o->weights);
}

/* `step`: of a run that is not named by a checkpoint. */
static int open_origin(td_tool *t, origin *o, const char *name, int64_t step)
{
    td_errors errors = { 0 };
    td_error  e = { 0 };
    if (!td_run_place_find(&o->place, name))
        return td_tool_usage_error(t,
                                   "'%s' is neither a run nor a checkpoint: it has no config.cfg",
                                   name);
    o->config = td_run_place_config(&o->place, &errors);
    o->weights = o->config ? td_weights_locate(name, step, &e) : NULL;
    o->from = (td_adapt_from){ name, o->config, o->weights };
    if (errors.count)
        fprintf(stderr, "%s\n", td_text_get(&errors.text));
    else if (!o->weights)
        td_tool_fail(t, &e);
    td_errors_free(&errors);
    return o->weights ? TD_EXIT_OK : TD_EXIT_FAILED;
}

static int adapt_from(td_tool *t, const origin *decoder, const origin *encoder)
{
    td_run_place place;
    td_error     e = { 0 };
    td_session  *s;
    int          code = TD_EXIT_FAILED;
    td_work_take_run(t, &place);
    s = td_work_open_run(t, &place, TD_NEED_MODEL, &code);
    if (s) {
        code = td_convert_adapt(s, &decoder->from, encoder ? &encoder->from : NULL, t->plain[1],
                                &e);
        code = code ? td_tool_fail(t, &e) : TD_EXIT_OK;
        if (!code)
            td_log_line(t->log, TD_LOG_INFO, "made the run '%s' from '%s'%s%s, at step 0",
                        t->plain[1], decoder->from.run, encoder ? " and, as its encoder, " : "",
                        encoder ? encoder->from.run : "");
    }
    td_session_close(s);
    td_run_place_free(&place);
    return code;
}

/* --step is that of the first run: the encoder's may have other steps. */
static int adapt(td_tool *t)
{
    static const char *const others[] = { "--to", "--from", "--dtype", "--weights" };
    const char              *second = td_tool_option(t, "--encoder");
    origin                   decoder = { 0 }, encoder = { 0 };
    int64_t                  step;
    int                      code;
    for (size_t k = 0; k < sizeof others / sizeof *others; k++)
        if (td_tool_option(t, others[k]))
            return td_tool_usage_error(t, "%s has no effect with --adapt", others[k]);
    if (t->n_plain != 2)
        return td_tool_usage_error(t, "--adapt takes the directory of a run, and a run to create");
    if (!td_work_step(t, &step))
        return TD_EXIT_USAGE;
    code = open_origin(t, &decoder, t->plain[0], step);
    if (!code && second)
        code = open_origin(t, &encoder, second, TD_STEP_NEWEST);
    if (!code)
        code = adapt_from(t, &decoder, second ? &encoder : NULL);
    close_origin(&decoder);
    close_origin(&encoder);
    return code;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* What would be ignored. */
static const char *idle_option(const td_tool *t)
{
    static const char *const writing[] = { "--dtype", "--weights", "--best",
                                           "--step",  "--allow",   "--encoder" };
    for (size_t k = 0; k < sizeof writing / sizeof *writing; k++)
        if (td_tool_option(t, writing[k]))
            return writing[k];
    return t->n_files ? "-c" : t->n_overrides ? t->overrides[0] : NULL;
}

static bool is_run(const char *name)
{
    td_run_place place;
    bool         yes = td_run_place_find(&place, name);
    td_run_place_free(&place);
    return yes;
}

/* Errors of the config made from the folder are the file's, not the user's, but have the same form. */
static int read_folder(td_tool *t)
{
    td_convert_in how = { .registry = td_tool_registry(t),
                          .log = t->log,
                          .folder = t->plain[0],
                          .format = td_tool_option(t, "--from"),
                          .run = t->plain[1],
                          .plugin_paths = t->plugin_paths };
    td_errors     errors = { 0 };
    td_error      e = { 0 };
    int           code = how.registry ? td_convert_read(&how, &errors, &e) : TD_EPLUGIN;
    if (errors.count) {
        td_tool_say("the config made from '%s' has errors:\n", how.folder);
        fprintf(stderr, "%s\n", td_text_get(&errors.text));
        code = TD_EXIT_USAGE;
    } else if (code)
        code = how.registry ? td_tool_fail(t, &e) : TD_EXIT_FAILED;
    else
        td_log_line(t->log, TD_LOG_INFO, "read '%s' as the run '%s', at step 0", how.folder,
                    how.run);
    td_errors_free(&errors);
    return code;
}

static int read_in(td_tool *t)
{
    const char *idle = idle_option(t);
    if (t->n_plain && is_run(t->plain[0]))
        return td_tool_usage_error(t, "'%s' is a run: --to says in which format to write it",
                                   t->plain[0]);
    if (t->n_plain != 2)
        return td_tool_usage_error(t, "name a run and a folder to create, with --to FORMAT; or a "
                                      "folder to read and a run to create");
    if (idle)
        return td_tool_usage_error(t, "%s has no effect when a folder is read", idle);
    return read_folder(t);
}

int td_command_convert(td_tool *t, int argc, char **argv)
{
    int code;
    if (!td_tool_parse(t, &td_usage_convert, argc, argv, &code))
        return code;
    if (td_tool_option(t, "--adapt"))
        return adapt(t);
    return td_tool_option(t, "--to") ? write_out(t) : read_in(t);
}
