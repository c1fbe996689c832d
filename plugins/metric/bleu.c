/* bleu.c - BLEU over a corpus, equal to sacreBLEU's to the last digit. Papers: Papineni et al.
 * 2002; the variant that results are comparable in: Post 2018.
 *
 * sacreBLEU's signature: case:mixed|eff:no|tok:13a|smooth:exp, orders 1 to 4. */
#include <math.h>

#include "text.h"

struct bleu {
    bool lowercase;
};

static const td_option options[] = {
    TD_OPTION_BOOL(struct bleu, lowercase, false, "compare in lower case"), TD_OPTION_END
};

enum { ORDERS = 4 };

/* The statistics, in sacreBLEU's order. */
enum { LENGTH, REFERENCE_LENGTH, CORRECT, TOTAL = CORRECT + ORDERS, STATISTICS = TOTAL + ORDERS };

/* ---- tokens as mteval-v13a cuts them ------------------------------------------------------------ */

/* A buffer that grows by single characters. */
struct buffer {
    char  *at;
    size_t size;
};

static void put(struct buffer *b, char c) { b->at[b->size++] = c; }

/* In place: every occurrence of `from` becomes `to`, which is not longer. */
static void replace(char *text, const char *from, const char *to)
{
    size_t n = strlen(from), m = strlen(to);
    char  *out = text;
    while (*text)
        if (!strncmp(text, from, n)) {
            memcpy(out, to, m);
            out += m;
            text += n;
        } else
            *out++ = *text++;
    *out = 0;
}

static void restore_entities(char *line)
{
    replace(line, "<skipped>", "");
    replace(line, "-\n", "");
    replace(line, "\n", " ");
    replace(line, "&quot;", "\"");
    replace(line, "&amp;", "&");
    replace(line, "&lt;", "<");
    replace(line, "&gt;", ">");
}

/* ASCII symbols except ' , - . which have their own rules. */
static bool stands_alone(char c)
{
    return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') ||
           (c >= '(' && c <= '+') || (c >= ':' && c <= '@') || c == '/';
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_stop(char c) { return c == '.' || c == ','; }

/* First pass: symbols become separate tokens. */
static void split_symbols(const char *line, struct buffer *out)
{
    for (; *line; line++) {
        bool alone = stands_alone(*line);
        if (alone)
            put(out, ' ');
        put(out, *line);
        if (alone)
            put(out, ' ');
    }
    out->at[out->size] = 0;
}

/* Continuation bytes belong to the character before them, so that a rule for "a character, then a
 * stop" never looks into one. */
static bool continues(char c) { return ((unsigned char)c & 0xC0) == 0x80; }

/* Second pass: a stop after a non-digit. Matches of two characters do not overlap, as in the
 * regular expression ([^0-9])([.,]): in "..." the first two stops are one match. */
static void split_after_other(const char *line, struct buffer *out)
{
    while (*line) {
        const char *end = line + 1;
        while (continues(*end))
            end++;
        for (const char *p = line; p < end; p++)
            put(out, *p);
        if (!is_digit(*line) && is_stop(*end)) {
            put(out, ' ');
            put(out, *end++);
            put(out, ' ');
        }
        line = end;
    }
    out->at[out->size] = 0;
}

/* Third pass: a stop before a non-digit, ([.,])([^0-9]). */
static void split_before_other(const char *line, struct buffer *out)
{
    while (*line) {
        if (is_stop(*line) && line[1] && !is_digit(line[1])) {
            put(out, ' ');
            put(out, *line++);
            put(out, ' ');
            do /* the other character is part of the match, all of its bytes */
                put(out, *line++);
            while (continues(*line));
        } else
            put(out, *line++);
    }
    out->at[out->size] = 0;
}

/* Fourth pass: a dash after a digit, ([0-9])(-). */
static void split_dashes(const char *line, struct buffer *out)
{
    while (*line) {
        put(out, *line);
        if (is_digit(*line) && line[1] == '-') {
            put(out, ' ');
            put(out, '-');
            put(out, ' ');
            line++;
        }
        line++;
    }
    out->at[out->size] = 0;
}

/* The words of a line, whose characters are in `text`. */
struct words {
    char        *text;
    struct gram *at;
    size_t       count;
};

static void cut_words(struct words *w)
{
    const char *p = w->text;
    for (size_t bytes; *p;) {
        const char *word;
        while (*p && is_space(character_at(p, &bytes)))
            p += bytes;
        word = p;
        while (*p && !is_space(character_at(p, &bytes)))
            p += bytes;
        if (p > word)
            w->at[w->count++] = (struct gram){ word, (size_t)(p - word) };
    }
}

/* rstrip(): trailing white space is removed first. */
static void strip_end(char *text)
{
    size_t end = 0, at = 0, bytes;
    while (text[at]) {
        bool space = is_space(character_at(text + at, &bytes));
        at += bytes;
        end = space ? end : at;
    }
    text[end] = 0;
}

static bool open_words(const struct bleu *c, struct words *w, const char *text)
{
    char         *line = simplified(text, c->lowercase ? FORM_LOWER : 0);
    size_t        room = line ? 27 * (strlen(line) + 2) + 1 : 0; /* each pass at most triples it */
    struct buffer a = { malloc(room ? room : 1), 0 }, b = { malloc(room ? room : 1), 0 };
    bool          opened = line && a.at && b.at;

    *w = (struct words){ NULL, NULL, 0 };
    if (opened) {
        strip_end(line);
        restore_entities(line);
        put(&b, ' ');
        memcpy(b.at + 1, line, strlen(line));
        b.size += strlen(line);
        put(&b, ' ');
        b.at[b.size] = 0;
        split_symbols(b.at, &a);
        b.size = 0;
        split_after_other(a.at, &b);
        a.size = 0;
        split_before_other(b.at, &a);
        b.size = 0;
        split_dashes(a.at, &b);
        w->text = b.at;
        w->at = malloc((b.size + 1) * sizeof *w->at);
        opened = w->at != NULL;
        if (opened)
            cut_words(w);
    } else
        free(b.at);
    free(a.at);
    free(line);
    return opened;
}

static void close_words(struct words *w)
{
    free(w->text);
    free(w->at);
}

/* ---- n-grams of words ------------------------------------------------------------------------- */

/* An n-gram is the address of its first word. */
struct place {
    const struct words *of;
    size_t              at;
};

static int compare_places(const struct place *a, const struct place *b, size_t order)
{
    for (size_t k = 0; k < order; k++) {
        int c = compare_grams(&a->of->at[a->at + k], &b->of->at[b->at + k]);
        if (c)
            return c;
    }
    return 0;
}

static size_t grams_in(const struct words *w, size_t order)
{
    return w->count >= order ? w->count - order + 1 : 0;
}

/* How often the n-gram occurs in a line. Quadratic in the length, but sentences are short. */
static size_t occurrences(const struct place *gram, const struct words *in, size_t order)
{
    size_t n = 0;
    for (size_t i = 0; i < grams_in(in, order); i++)
        n += !compare_places(gram, &(struct place){ in, i }, order);
    return n;
}

static bool seen_before(const struct place *gram, size_t order)
{
    for (size_t i = 0; i < gram->at; i++)
        if (!compare_places(gram, &(struct place){ gram->of, i }, order))
            return true;
    return false;
}

/* Counts each n-gram as often as it occurs in the answer, but at most as often as in the reference
 * that has it most often. */
static double correct(const struct words *answer, const struct words *references, size_t n,
                      size_t order)
{
    size_t sum = 0;
    for (size_t i = 0; i < grams_in(answer, order); i++) {
        struct place gram = { answer, i };
        size_t       have, most = 0;
        if (seen_before(&gram, order))
            continue;
        have = occurrences(&gram, answer, order);
        for (size_t k = 0; k < n; k++) {
            size_t there = occurrences(&gram, &references[k], order);
            most = there > most ? there : most;
        }
        sum += have < most ? have : most;
    }
    return (double)sum;
}

/* The reference length closest to the answer's; the shorter of two equally close ones. */
static size_t nearest_length(size_t length, const struct words *references, size_t n)
{
    size_t best = n ? references[0].count : 0;
    for (size_t k = 1; k < n; k++) {
        size_t now = references[k].count;
        size_t far = now > length ? now - length : length - now;
        size_t least = best > length ? best - length : length - best;
        if (far < least || (far == least && now < best))
            best = now;
    }
    return best;
}

static int measure(const void *config, const td_answer *a, double *statistics, td_error *error)
{
    const struct bleu *c = config;
    struct words       answer, *references = calloc(a->n_references + 1, sizeof *references);
    bool               opened = references && open_words(c, &answer, a->text ? a->text : "");
    size_t             n = 0;

    if (!references)
        return out_of_memory(error);
    for (; opened && n < a->n_references; n++)
        opened = open_words(c, &references[n], a->references[n]);
    if (opened) {
        statistics[LENGTH] = (double)answer.count;
        statistics[REFERENCE_LENGTH] = (double)nearest_length(answer.count, references, n);
        for (size_t k = 0; k < ORDERS; k++) {
            /* counts, not ratios: corpus BLEU adds them up over items first */
            statistics[CORRECT + k] = correct(&answer, references, n, k + 1);
            statistics[TOTAL + k] = (double)grams_in(&answer, k + 1);
        }
    }
    close_words(&answer);
    for (size_t k = 0; k < n; k++)
        close_words(&references[k]);
    free(references);
    return opened ? 0 : out_of_memory(error);
}

/* ---- score ----------------------------------------------------------------------------------- */

/* An order that has n-grams but no match gets half the precision of the one before ("exp"). */
static double score(const void *config, const double *sums, int64_t items)
{
    double log_sum = 0, smooth = 1, brevity = 1;
    bool   any = false;
    (void)config;
    (void)items;
    for (int k = 0; k < ORDERS; k++)
        any |= sums[CORRECT + k] > 0;
    if (!any)
        return 0;
    if (sums[LENGTH] < sums[REFERENCE_LENGTH])
        brevity = sums[LENGTH] > 0 ? exp(1 - sums[REFERENCE_LENGTH] / sums[LENGTH]) : 0;
    for (int k = 0; k < ORDERS; k++) {
        double right = sums[CORRECT + k], all = sums[TOTAL + k], precision = 0;
        if (all > 0 && right == 0) {
            smooth *= 2;
            precision = 100 / (smooth * all);
        } else if (all > 0)
            precision = 100 * right / all;
        /* an order without n-grams makes the score 0, through sacreBLEU's substitute for log 0 */
        log_sum += precision > 0 ? log(precision) : -9999999999;
    }
    return brevity * exp(log_sum / ORDERS);
}

static const td_task_metric bleu = {
    .plugin = TD_PLUGIN(td_task_metric, TD_METRIC_KIND, "bleu", options, struct bleu,
                        .brief = "BLEU over all items, as sacreBLEU computes it",
                        .paper = "Papineni et al., BLEU, 2002; Post, A Call for Clarity, 2018"),
    .flags = TD_METRIC_PERCENT,
    .statistics = STATISTICS,
    .measure = measure,
    .score = score,
};

TD_MODULE("bleu", "1.0", "tandem", "MIT", &bleu.plugin)
