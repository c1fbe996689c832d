/* results.c - writes scores to files. Each file describes its run and parameters, because files are
 * moved and renamed. */
#include "run/results.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/arrange.h"
#include "plugin/hook.h"
#include "run/seal.h"

/* ---- as JSON --------------------------------------------------------------------------------- */

json_t *td_results_number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

json_t *td_results_lines(const td_text *t)
{
    json_t *all = json_array();
    for (const char *line = td_text_get(t); *line;) {
        size_t n = strcspn(line, "\n");
        json_array_append_new(all, json_stringn(line, n));
        line += n + (line[n] == '\n');
    }
    return all;
}

static json_t *json_of_numbers(double nll, double error, double bits_per_byte)
{
    return json_pack("{s:o, s:o, s:o, s:o}", "nll", td_results_number(nll), "nll_error",
                     td_results_number(error), "perplexity", td_results_number(exp(nll)),
                     "bits_per_byte",
                     td_results_number(bits_per_byte < 0 ? (double)NAN : bits_per_byte));
}

json_t *td_results_scores(const td_evaluation *e)
{
    json_t *all = json_of_numbers(e->nll, e->nll_error, e->bits_per_byte), *sources = json_array();
    for (int64_t i = 0; i < e->count; i++) {
        const td_score *s = &e->at[i];
        json_t         *j = json_of_numbers(s->nll, s->nll_error, s->bits_per_byte);
        json_object_set_new(j, "source", json_string(s->source));
        json_object_set_new(j, "sequences", json_integer(s->sequences));
        json_object_set_new(j, "targets", json_integer(s->targets));
        json_array_append_new(sources, j);
    }
    json_object_set_new(all, "sources", sources);
    return all;
}

/* N of .../step-N/model.safetensors; -1 if the file is not in a checkpoint. */
static int64_t step_of(const char *weights)
{
    char       *directory = td_path_directory(weights);
    const char *name = directory ? strrchr(directory, '/') : NULL;
    long long   step = -1;
    if (!name || sscanf(name, "/step-%lld", &step) != 1)
        step = -1;
    free(directory);
    return step;
}

/* The protocol: given and scored tokens of running text, or the limits of pairs. */
static json_t *protocol_of(const td_session *s)
{
    const td_evaluate_options *o = &s->x->evaluate;
    td_pair                    pair = td_arrange_pair(&s->x->data);
    int64_t                    prefix = o->prefix ? o->prefix : o->length / 2;
    return pair.inputs
               ? json_pack("{s:I, s:I, s:I}", "max_inputs", (json_int_t)pair.inputs, "max_targets",
                           (json_int_t)pair.targets, "sequences", (json_int_t)o->sequences)
               : json_pack("{s:I, s:I, s:I}", "length", (json_int_t)o->length, "prefix",
                           (json_int_t)prefix, "sequences", (json_int_t)o->sequences);
}

json_t *td_results_about(const td_session *s, const char *kind)
{
    const td_data *data = (const void *)s->x->data.plugin;
    char           records[32] = "";
    json_t        *j;

    /* tells whether two results are of the same text */
    if (s->data_opened && data->fingerprint)
        snprintf(records, sizeof records, "%016" PRIx64, TD_HOOK(data, fingerprint, s->data));
    j = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o}", "kind", kind, "tandem", TANDEM_VERSION, "run",
                  s->x->run.name, "tokenizer", s->tokenizer_id, "records", records, "protocol",
                  protocol_of(s));
    if (s->loaded)
        json_object_set_new(j, "weights", json_string(s->loaded));
    if (s->loaded && step_of(s->loaded) >= 0)
        json_object_set_new(j, "step", json_integer(step_of(s->loaded)));
    return j;
}

/* Per target token, like all scores. */
static json_t *json_of_sequence(const td_evaluation *e, const td_sequence_score *s)
{
    json_t *j = json_pack("{s:s, s:I, s:I}", "source", e->at[s->source].source, "index",
                          (json_int_t)s->index, "targets", (json_int_t)s->targets);
    json_object_set_new(j, "nll", td_results_number(s->nll / s->weight));
    json_object_set_new(j, "weight", json_real(s->weight));
    json_object_set_new(j, "text_bytes", s->bytes < 0 ? json_null() : json_real(s->bytes));
    json_object_set_new(j, "hash", json_sprintf("%016" PRIx64, s->hash));
    return j;
}

/* ---- as files -------------------------------------------------------------------------------- */

/* Both paths are resolved first, as the parameters may have been given by another path. */
bool td_results_lie_in(const char *file, const char *directory)
{
    char  *f = realpath(file, NULL), *d = realpath(directory, NULL);
    size_t n = d ? strlen(d) : 0;
    bool   inside = f && d && !strncmp(f, d, n) && f[n] == '/';
    free(f);
    free(d);
    return inside;
}

char *td_results_directory(td_session *s)
{
    const char *run = td_session_directory(s);
    char *path = s->loaded && td_results_lie_in(s->loaded, run) ? td_path_join(run, "eval") : NULL;
    td_error e = { 0 };
    if (!path || !td_make_writable(path, &e))
        return path;
    /* known before anything is computed: a run of another user can still be scored */
    td_log_line(s->log, TD_LOG_WARN,
                "results are not saved (use --out DIR to save them elsewhere): %s", e.text);
    free(path);
    return NULL;
}

char *td_results_name(const char *kind, const char *checkpoint)
{
    const char *slash = checkpoint ? strrchr(checkpoint, '/') : NULL;
    td_text     name = { 0 };
    char       *copy;
    td_text_print(&name, "%s", kind);
    if (checkpoint)
        td_text_print(&name, "-%s", slash ? slash + 1 : checkpoint);
    copy = strdup(td_text_get(&name));
    td_text_free(&name);
    return copy;
}

/* DIRECTORY/NAME and a suffix; creates the directory. NULL with `error`. */
static char *path_of(const char *directory, const char *name, const char *ending, td_error *error)
{
    td_text file = { 0 };
    char   *path = NULL;
    td_text_print(&file, "%s%s", name, ending);
    if (!td_make_directories(directory, error) &&
        !(path = td_path_join(directory, td_text_get(&file))))
        td_fail(error, TD_ENOMEM, "out of memory while writing results");
    td_text_free(&file);
    return path;
}

int td_results_save(json_t *j, const char *directory, const char *name, td_error *error)
{
    char          *path = j ? path_of(directory, name, ".json", error) : NULL;
    td_atomic_file f;
    int            code = path ? td_seal(j, error) : td_failed(error, TD_ENOMEM);
    if (!code)
        code = td_atomic_open(&f, path, error);
    if (!code) {
        json_dumpf(j, f.file, JSON_INDENT(2));
        fputc('\n', f.file);
        code = td_atomic_commit(&f, error); /* reports a failed write */
    }
    free(path);
    return code;
}

void td_results_cell(td_text *t, double x)
{
    if (isfinite(x))
        td_text_print(t, ",%.9g", x);
    else
        td_text_print(t, ",NaN");
}

int td_results_text(td_text *t, const char *directory, const char *name, const char *ending,
                    td_error *error)
{
    char *path = path_of(directory, name, ending, error);
    int   code = path ? 0 : td_failed(error, TD_EIO);
    if (!code)
        code = t->failed ? td_fail(error, TD_ENOMEM, "out of memory while writing '%s'", path)
                         : td_file_write(path, td_text_get(t), t->size, error);
    free(path);
    td_text_free(t);
    *t = (td_text){ 0 };
    return code;
}

/* Their hash goes into `summary`. */
static int write_sequences(const td_evaluation *e, const char *directory, const char *name,
                           json_t *summary, td_error *error)
{
    char          *path = path_of(directory, name, ".jsonl", error);
    td_atomic_file f;
    int            code = path ? td_atomic_open(&f, path, error) : td_failed(error, TD_ENOMEM);
    for (int64_t i = 0; !code && i < e->n_sequences; i++) {
        json_t *j = json_of_sequence(e, &e->sequences[i]);
        json_dumpf(j, f.file, JSON_COMPACT);
        fputc('\n', f.file);
        json_decref(j);
    }
    if (!code)
        code = td_atomic_commit(&f, error);
    if (!code)
        code = td_seal_file(summary, path, error);
    free(path);
    return code;
}

int td_results_write(const td_session *s, const td_evaluation *e, const char *directory,
                     const char *name, td_error *error)
{
    json_t *all = td_results_about(s, "heldout"), *scores = td_results_scores(e);
    int     code = all && scores ? 0 : td_fail(error, TD_ENOMEM, "out of memory for the results");
    if (!code)
        json_object_update(all, scores);
    /* the summary is written second: if it exists, so do the sequences that it sums up */
    if (!code)
        code = write_sequences(e, directory, name, all, error);
    if (!code)
        code = td_results_save(all, directory, name, error);
    json_decref(all);
    json_decref(scores);
    return code;
}

int td_results_finish(int code, json_t *about, json_t *numbers, const char *directory,
                      const char *name, td_error *error)
{
    if (!code && about && numbers)
        json_object_update(about, numbers);
    if (!code)
        code = td_results_save(numbers ? about : NULL, directory, name, error);
    json_decref(about);
    json_decref(numbers);
    return code;
}
