/* series.c - reads results: heldout.json with its sequences, and the results of tasks with their
 * samples.
 *
 * The files may have been written by another version or edited: unknown entries are skipped if that
 * is harmless, and are errors if skipping them would change a number.
 */
#include "run/series.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "evaluate/answers.h"
#include "run/results.h"
#include "run/seal.h"
#include "tandem/random.h"

/* ---- JSON ------------------------------------------------------------------------------------ */

static double number(const json_t *j, const char *key)
{
    const json_t *x = json_object_get(j, key);
    return json_is_number(x) ? json_number_value(x) : (double)NAN;
}

static const char *word(const json_t *j, const char *key)
{
    const char *text = json_string_value(json_object_get(j, key));
    return text ? text : "";
}

static int64_t integer(const json_t *j, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(j, key));
}

static json_t *load(const char *path, td_error *error)
{
    size_t       size;
    char        *text = td_file_read(path, &size, error);
    json_error_t why;
    json_t      *j = text ? json_loadb(text, size, 0, &why) : NULL;
    if (text && !j)
        td_fail(error, TD_EFORMAT, "'%s' is not JSON: line %d: %s", path, why.line, why.text);
    free(text);
    if (!j || !td_seal_check(j, path, error))
        return j;
    json_decref(j);
    return NULL;
}

/* The objects of a .jsonl file as a list; NULL with `error`. `summary` has the file's hash. */
static json_t *load_lines(const char *path, const json_t *summary, td_error *error)
{
    char        *text = td_file_read(path, NULL, error), *rest = text;
    json_t      *all = json_array();
    json_error_t why;
    int          code = text && all ? 0 : td_failed(error, TD_ENOMEM), line_number = 0;
    if (!code)
        code = td_seal_check_file(summary, path, error);
    for (char *line; !code && (line = strsep(&rest, "\n")) != NULL;) {
        json_t *j = *line ? json_loads(line, 0, &why) : NULL;
        line_number++;
        if (*line && !json_is_object(j))
            code = td_fail(error, TD_EFORMAT, "'%s', line %d, is not a JSON object: %s", path,
                           line_number, j ? "it is another value" : why.text);
        if (j && json_array_append_new(all, j))
            code = td_fail(error, TD_ENOMEM, "out of memory while reading '%s'", path);
    }
    free(text);
    if (!code)
        return all;
    json_decref(all);
    return NULL;
}

/* ---- series ---------------------------------------------------------------------------------- */

static int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory while reading results");
}

/* NULL when out of memory. */
static td_series *append(td_series_list *l)
{
    if (l->count == l->room) {
        size_t     room = 2 * l->room + 16;
        td_series *larger = realloc(l->at, room * sizeof *larger);
        if (!larger)
            return NULL;
        l->at = larger;
        l->room = room;
    }
    l->at[l->count] = (td_series){ 0 };
    return &l->at[l->count++];
}

/* The items of one source, which are adjacent in the list, or all of them. */
static int add_heldout(td_series_list *l, td_arena *arena, const json_t *scores, const char *source,
                       const td_series_item *items, int64_t n, td_error *error)
{
    td_series *s = append(l);
    int64_t    first = 0, end = n;
    if (!s)
        return out_of_memory(error);
    if (source) {
        while (first < n && strcmp(items[first].stratum, source))
            first++;
        for (end = first; end < n && !strcmp(items[end].stratum, source);)
            end++;
    }
    s->name = source ? td_arena_print(arena, "heldout %s", source) : "heldout";
    s->key = s->name;
    s->lower_is_better = true;
    s->total = (td_measured){ .score = number(scores, "nll"),
                              .error = number(scores, "nll_error"),
                              .items = end - first };
    /* a view: the sources share one list of items */
    s->items = items + first;
    s->n = end - first;
    return s->name ? 0 : out_of_memory(error);
}

/* Another measure of the same text, without items of its own: the test of NLL says all that can be
 * said of it. */
static int add_number(td_series_list *l, td_arena *arena, const json_t *scores, const char *source,
                      const char *key, double error_of_it, td_error *error)
{
    bool       perplexity = !strcmp(key, "perplexity");
    td_series *s = isfinite(number(scores, key)) ? append(l) : NULL;
    if (!s)
        return isfinite(number(scores, key)) ? out_of_memory(error) : 0;
    s->name = td_arena_print(arena, "heldout%s%s %s", source ? " " : "", source ? source : "",
                             perplexity ? "perplexity" : "bits/byte");
    s->key = s->name;
    s->lower_is_better = true;
    s->detail = source != NULL;
    s->total = (td_measured){ .score = number(scores, key), .error = error_of_it };
    return s->name ? 0 : out_of_memory(error);
}

/* The error of exp(x) is exp(x) times that of x, as long as it is small. */
static int add_numbers(td_series_list *l, td_arena *arena, const json_t *scores, const char *source,
                       td_error *error)
{
    double spread = number(scores, "perplexity") * number(scores, "nll_error");
    return add_number(l, arena, scores, source, "perplexity", spread, error)
               ? TD_ENOMEM
               : add_number(l, arena, scores, source, "bits_per_byte", (double)NAN, error);
}

/* A mean over items must be a mean: no weight may be negative, and no score NaN. */
static int check_sequence(const char *path, size_t k, const json_t *j, td_error *error)
{
    double weight = number(j, "weight"), nll = number(j, "nll");
    if (isfinite(nll) && isfinite(weight) && weight >= 0)
        return 0;
    return td_fail(
        error, TD_EFORMAT,
        "'%s', sequence %zu, has \"nll\" %g and \"weight\" %g: it is damaged, or another "
        "program wrote it; run `tandem evaluate` again",
        path, k + 1, nll, weight);
}

/* By the hash of the tokens: the same sequence may stand elsewhere in another run's data. NULL with
 * `error`. */
static td_series_item *sequences_of(const char *path, const json_t *lines, td_arena *arena,
                                    td_error *error)
{
    td_series_item *items = td_arena_alloc(arena, (json_array_size(lines) + 1) * sizeof *items);
    const json_t   *j;
    size_t          k;
    json_array_foreach(lines, k, j)
    {
        if (!items || check_sequence(path, k, j, error))
            return NULL;
        items[k].stratum = td_arena_copy(arena, word(j, "source"));
        items[k].id = td_arena_print(arena, "%s/%s", word(j, "source"), word(j, "hash"));
        items[k].weight = number(j, "weight");
        items[k].sum = number(j, "nll") * items[k].weight;
        if (!items[k].stratum || !items[k].id)
            return NULL;
    }
    return items;
}

static int read_heldout(const char *path, const json_t *summary, td_arena *arena,
                        td_series_list *out, td_error *error)
{
    char           *file = td_arena_print(arena, "%sl", path); /* .json, .jsonl */
    json_t         *lines = file ? load_lines(file, summary, error) : NULL;
    int64_t         n = (int64_t)json_array_size(lines);
    td_series_item *items = lines ? sequences_of(file, lines, arena, error) : NULL;
    const json_t   *source;
    size_t          k;
    int             code = items ? 0 : td_failed(error, out_of_memory(error));
    if (!code)
        code = add_heldout(out, arena, summary, NULL, items, n, error);
    if (!code)
        code = add_numbers(out, arena, summary, NULL, error);
    json_array_foreach(json_object_get(summary, "sources"), k, source)
    {
        char *name = td_arena_copy(arena, word(source, "source"));
        if (!code)
            code = name ? add_heldout(out, arena, source, name, items, n, error)
                        : out_of_memory(error);
        if (!code)
            code = add_numbers(out, arena, source, name, error);
    }
    json_decref(lines);
    return code;
}

/* ---- tasks ----------------------------------------------------------------------------------- */

/* Identified by a hash of the question, because two data sets may give different items the same
 * number. */
static uint64_t hash_of_sample(const json_t *sample)
{
    uint64_t h = td_random_stream("sample");
    char    *doc = json_dumps(json_object_get(sample, "doc"),
                              JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    h = td_hash(h, doc ? doc : "", doc ? strlen(doc) : 0);
    free(doc);
    return td_hash(h, word(sample, "target"), strlen(word(sample, "target")));
}

/* "acc" with one filter, "exact_match,strict" with several. */
static double score_of_sample(const json_t *sample, const char *key)
{
    char short_key[160];
    snprintf(short_key, sizeof short_key, "%.*s", (int)strcspn(key, ","), key);
    return json_object_get(sample, key) ? number(sample, key) : number(sample, short_key);
}

/* Leaves out items without a score: two runs are compared on those that both have. */
static int add_items(td_series *s, const json_t *samples, const char *metric, td_arena *arena,
                     td_error *error)
{
    td_series_item *items = td_arena_alloc(arena, (json_array_size(samples) + 1) * sizeof *items);
    const json_t   *sample;
    size_t          k;
    s->items = items;
    json_array_foreach(samples, k, sample)
    {
        double score = score_of_sample(sample, metric);
        if (!items)
            break;
        if (!isfinite(score))
            continue;
        /* number and content, so that items of two runs match only if the question is the same */
        items[s->n] = (td_series_item){ td_arena_print(arena, "%" PRId64 "/%016" PRIx64,
                                                       integer(sample, "doc_id"),
                                                       hash_of_sample(sample)),
                                        "", score, 1 };
        if (!items[s->n++].id)
            return out_of_memory(error);
    }
    return items ? 0 : out_of_memory(error);
}

/* The standard error of "acc,none" is "acc_stderr,none". */
static double error_of(const json_t *results, const char *metric)
{
    char key[300];
    int  name = (int)strcspn(metric, ",");
    snprintf(key, sizeof key, "%.*s_stderr%s", name, metric, metric + name);
    return number(results, key);
}

static bool is_metric(const char *key, const json_t *value)
{
    return strchr(key, ',') && !strstr(key, "_stderr,") && json_is_number(value);
}

/* The form used in file names: any other character becomes a dash. */
static void append_plain(const char *task, td_text *out)
{
    for (const char *c = task; *c; c++)
        td_text_print(out, "%c", isalnum((unsigned char)*c) || strchr("-_.", *c) ? *c : '-');
}

/* Where "-step-00000300", perhaps followed by .json, begins in a file's name; the name's end if it
 * contains no step. */
static size_t before_step(const char *name)
{
    static const char mark[] = "-step-";
    for (const char *at = name; (at = strstr(at, mark)) != NULL; at++) {
        const char *digits = at + strlen(mark), *end = digits + strspn(digits, "0123456789");
        if (end - digits == 8 && (!*end || !strcmp(end, ".json")))
            return (size_t)(at - name);
    }
    return strlen(name);
}

static bool ends_at(const char *text, int n, const char *mark)
{
    int m = (int)strlen(mark);
    return n >= m && !strncmp(text + n - m, mark, (size_t)m);
}

static int before_digits(const char *text, int n)
{
    while (n > 0 && isdigit((unsigned char)text[n - 1]))
        n--;
    return n;
}

/* Where the setting that the first `n` bytes of a name end in begins: "-5-shot", "-generated",
 * "-chat" or "-first-100"; n: they end in none. */
static int before_setting(const char *name, int n)
{
    int number = before_digits(name, n), shots = n - (int)strlen("-shot");
    if (ends_at(name, n, "-generated"))
        return n - (int)strlen("-generated");
    if (ends_at(name, n, "-chat"))
        return n - (int)strlen("-chat");
    if (number < n && ends_at(name, number, "-first-"))
        return number - (int)strlen("-first-");
    if (!ends_at(name, n, "-shot"))
        return n;
    number = before_digits(name, shots);
    return number < shots && ends_at(name, number, "-") ? number - 1 : n;
}

/* Where all of them begin. */
static int before_settings(const char *name, int n)
{
    for (int at; (at = before_setting(name, n)) < n;)
        n = at;
    return n;
}

/* "boolq acc", "boolq acc (5-shot)": by task, metric and settings. A file that names its tasks, or
 * has a name of its own, adds nothing that a reader needs, unless it alone tells two apart. */
static int name_series(td_series *s, const char *file, const char *task, const char *metric,
                       td_arena *arena)
{
    /* that of a named checkpoint ends in its step, which does not say what was measured */
    int    length = (int)before_step(file), settings = before_settings(file, length);
    size_t n = strcspn(metric, ",");
    char   shown[160];
    snprintf(shown, sizeof shown, "%.*s", strcmp(metric + n, ",none") ? 159 : (int)n, metric);
    s->key = td_arena_print(arena, "%s %s (%.*s)", task, shown, length, file);
    s->name = settings < length ? td_arena_print(arena, "%s %s (%.*s)", task, shown,
                                                 length - settings - 1, file + settings + 1)
                                : td_arena_print(arena, "%s %s", task, shown);
    return s->key && s->name ? 0 : TD_ENOMEM;
}

static int add_metric(td_series_list *l, td_arena *arena, const char *file, const char *task,
                      const char *metric, const json_t *results, const json_t *samples,
                      td_error *error)
{
    td_series *s = append(l);
    if (!s || name_series(s, file, task, metric, arena))
        return out_of_memory(error);
    s->lower_is_better = td_answers_lower_is_better(metric);
    s->total = (td_measured){ .score = number(results, metric),
                              .error = error_of(results, metric),
                              .items = (int64_t)json_array_size(samples) };
    return samples ? add_items(s, samples, metric, arena, error) : 0;
}

/* The samples of a task; NULL without an error if it has none, like a part of a task. */
static json_t *samples_of(const char *directory, const char *file, const json_t *summary,
                          const char *task, td_error *error)
{
    td_text path = { 0 };
    json_t *samples = NULL;
    td_text_print(&path, "%s/%s.samples_", directory, file);
    append_plain(task, &path);
    td_text_print(&path, ".jsonl");
    if (td_file_exists(td_text_get(&path)))
        samples = load_lines(td_text_get(&path), summary, error);
    td_text_free(&path);
    return samples;
}

/* "mmlu:law" is a part of the task "mmlu". */
static bool is_part(const json_t *results, const char *task)
{
    char whole[160];
    snprintf(whole, sizeof whole, "%.*s", (int)strcspn(task, ":"), task);
    return strchr(task, ':') && json_object_get(results, whole);
}

static int read_tasks(const char *directory, const char *file, const json_t *summary,
                      td_arena *arena, td_series_list *out, td_error *error)
{
    const char *task, *metric;
    json_t     *all = json_object_get(summary, "results"), *results, *value;
    int         code = 0;
    json_object_foreach(all, task, results)
    {
        td_error why = { 0 };
        size_t   before = out->count;
        json_t  *samples = code ? NULL : samples_of(directory, file, summary, task, &why);
        if (!code && why.code)
            code = td_fail(error, why.code, "%s", why.text);
        json_object_foreach(results, metric, value)
        {
            if (!code && is_metric(metric, value))
                code = add_metric(out, arena, file, task, metric, results, samples, error);
        }
        /* a benchmark of 57 parts would bury everything else in a table */
        for (size_t k = before; k < out->count; k++)
            out->at[k].detail = is_part(all, task);
        json_decref(samples);
    }
    return code;
}

/* ---- a run ----------------------------------------------------------------------------------- */

/* Reads one file of RUN/eval; other kinds of results have no items. */
static int read_file(const char *directory, const char *name, td_arena *arena, td_series_list *out,
                     td_error *error)
{
    char       *path = td_path_join(directory, name);
    char       *file = td_arena_print(arena, "%.*s", (int)(strlen(name) - 5), name); /* .json */
    json_t     *summary = path && file ? load(path, error) : NULL;
    const char *kind = word(summary, "kind");
    size_t      before = out->count;
    int         code = summary ? 0 : td_failed(error, TD_ENOMEM);
    if (!strcmp(kind, "heldout"))
        code = read_heldout(path, summary, arena, out, error);
    else if (!strcmp(kind, "tasks"))
        code = read_tasks(directory, file, summary, arena, out, error);
    for (size_t k = before; k < out->count; k++)
        out->at[k].step = json_object_get(summary, "step") ? integer(summary, "step") : -1;
    json_decref(summary);
    free(path);
    return code;
}

static bool ends_in(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n > m && !strcmp(name + n - m, end);
}

/* For the newest checkpoint, all results except those of named ones; for a named one, its own. */
static bool is_wanted(const char *name, const char *checkpoint)
{
    const char *slash = checkpoint ? strrchr(checkpoint, '/') : NULL;
    char        ending[300];
    if (!checkpoint)
        return ends_in(name, ".json") && before_step(name) == strlen(name);
    snprintf(ending, sizeof ending, "-%.280s.json", slash ? slash + 1 : checkpoint);
    return ends_in(name, ending);
}

int td_series_read(const char *run, const char *checkpoint, td_arena *arena, td_series_list *out,
                   td_error *error)
{
    char   *directory = td_path_join(run, "eval");
    char  **names = NULL;
    /* a run that was never evaluated has no eval */
    int64_t n = directory && td_file_exists(directory) ? td_list_directory(directory, &names, error)
                                                       : 0;
    int     code = n < 0 ? (int)n : 0;
    for (int64_t k = 0; k < n && !code; k++)
        if (is_wanted(names[k], checkpoint))
            code = read_file(directory, names[k], arena, out, error);
    if (!code && !out->count)
        code = td_fail(error, TD_ECONFIG,
                       "'%s' has no results in eval: run `tandem evaluate %s` first",
                       checkpoint ? checkpoint : run, checkpoint ? checkpoint : run);
    if (n >= 0)
        td_free_names(names, n);
    free(directory);
    return code;
}
