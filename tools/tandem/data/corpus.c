/* corpus.c - documents of six domains from small grammars: facts with questions about them,
 * dialogue, lists, code, tables, arithmetic.
 *
 * A document is a function of (seed, domain, number) alone, and the text of all of them is frozen:
 * data/corpus and the results in docs depend on it byte for byte. So never add a word to a list
 * below, and never add, remove or reorder a draw. C leaves the order of arguments to the compiler,
 * so a call contains at most one draw. */
#include "data/corpus.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "tandem/random.h"

/* ---- random choices -------------------------------------------------------------------------- */

/* A position in a stream of random numbers: each draw takes the next one. */
typedef struct draw {
    uint64_t seed, stream, next;
} draw;

static uint64_t below(draw *d, uint64_t n)
{
    return td_random_below(d->seed, d->stream, d->next++, n);
}

#define PICK(d, list) ((list)[below((d), sizeof(list) / sizeof *(list))])

static const char *const onsets[] = { "b", "br", "c", "d", "dr", "f", "g",  "h", "k",
                                      "l", "m",  "n", "p", "r",  "s", "st", "t", "v" };
static const char *const vowels[] = { "a", "e", "i", "o", "u", "ai", "ea", "ou" };
static const char *const codas[] = { "", "l", "n", "r", "s", "th", "nd", "m" };
static const char *const places[] = { "town",   "village", "harbour", "island",
                                      "valley", "castle",  "market",  "monastery" };
static const char *const directions[] = { "north", "south", "east", "west" };
static const char *const goods[] = { "salt",    "wool",   "copper",  "glass", "paper",  "honey",
                                     "barley",  "timber", "silk",    "tin",   "olives", "pepper",
                                     "leather", "apples", "candles", "rope",  "bricks", "wine",
                                     "cheese",  "ink",    "pearls",  "coal" };
static const char *const jobs[] = { "weaver",   "doctor", "sailor", "teacher",  "baker",
                                    "painter",  "judge",  "farmer", "smith",    "printer",
                                    "merchant", "mason",  "singer", "gardener", "tailor",
                                    "miller",   "hunter", "scribe", "cook",     "potter" };
static const char *const traits[] = { "patient", "stubborn",   "cheerful", "careful",
                                      "quiet",   "generous",   "curious",  "proud",
                                      "honest",  "clever",     "gentle",   "nervous",
                                      "brave",   "thoughtful", "lazy",     "strict" };
static const char *const animals[] = { "horse", "dog",   "goat",  "falcon", "cat",
                                       "mule",  "raven", "goose", "sheep",  "ox" };
static const char *const colours[] = { "red",   "green",  "blue", "white",
                                       "black", "yellow", "grey", "brown" };
static const char *const weathers[] = { "rain",     "fog",  "snow",  "wind",
                                        "sunshine", "hail", "frost", "thunder" };

/* A capitalized name of two or three syllables. */
static void name(draw *d, char out[32])
{
    size_t n = 0;
    int    syllables = 2 + (int)below(d, 2);
    for (int i = 0; i < syllables; i++) {
        const char *vowel = PICK(d, vowels), *onset = PICK(d, onsets);
        n += (size_t)snprintf(out + n, 32 - n, "%s%s", onset, vowel);
    }
    snprintf(out + n, 32 - n, "%s", PICK(d, codas));
    out[0] = (char)(out[0] - 'a' + 'A');
}

/* ---- domains --------------------------------------------------------------------------------- */

/*     Kaistum is an island in the south, on the river Facidi. It was founded in 1632 by the miller
 *     Kopaim, who was known to be stubborn. ..
 *     Question: Who founded Kaistum? Answer: Kopaim.
 *
 * The answers lie some sentences back, so only a model that looks there can predict them. */
static void facts(draw *d, td_text *t)
{
    char town[32], river[32], person[32];
    /* names are made up, so that no answer can be known beforehand */
    name(d, town);
    name(d, river);
    name(d, person);
    const char *kind = PICK(d, places), *way = PICK(d, directions), *good = PICK(d, goods),
               *job = PICK(d, jobs);
    int year = 1100 + (int)below(d, 800), people = 100 * (2 + (int)below(d, 400));

    td_text_print(t, "%s is %s %s in the %s, on the river %s. It was founded in %d by the %s %s",
                  town, *kind == 'i' ? "an" : "a", kind, way, river, year, job, person);
    td_text_print(t, ", who was known to be %s. About %d people live there. ", PICK(d, traits),
                  people);
    td_text_print(t, "The %s of %s is famous for its %s, which is carried down the %s by boat. ",
                  kind, town, good, river);
    /* no question is about this sentence: it moves the answers further back */
    const char *animal = PICK(d, animals), *colour = PICK(d, colours);
    const char *who = below(d, 2) ? "families" : "traders", *weather = PICK(d, weathers);
    td_text_print(t, "In winter there is often %s, and the %s keep a %s %s in every yard.\n",
                  weather, who, colour, animal);
    td_text_print(t, "Question: Who founded %s? Answer: %s.\n", town, person);
    /* some questions are left out, so that their order does not tell which comes next */
    if (below(d, 2))
        td_text_print(t, "Question: What is %s famous for? Answer: %s.\n", town, good);
    if (below(d, 2))
        td_text_print(t, "Question: When was %s founded? Answer: %d.\n", town, year);
    td_text_print(t, "Question: On which river is %s? Answer: the %s.\n", town, river);
}

/*     Stouma: I need 3 measures of ink. How much is one?
 *     Radihil: One measure of ink is 9 coins.
 *     Stouma: Then 3 measures are 27 coins. Here they are, thank you.
 *
 * Products of numbers mentioned before, and two names that alternate. */
static void dialogue(draw *d, td_text *t)
{
    char a[32], b[32];
    name(d, a);
    name(d, b);
    int         turns = 2 + (int)below(d, 4);
    const char *job_b = PICK(d, jobs), *job_a = PICK(d, jobs);
    td_text_print(t, "%s, a %s, meets %s, a %s, at the market.\n", a, job_a, b, job_b);
    for (int i = 0; i < turns; i++) {
        const char *good = PICK(d, goods);
        int         count = 2 + (int)below(d, 18), price = 2 + (int)below(d, 9);
        td_text_print(
            t,
            "%s: I need %d measures of %s. How much is one?\n%s: One measure of %s is %d coins.\n",
            a, count, good, b, good, price);
        td_text_print(t, "%s: Then %d measures are %d coins. %s\n", a, count, count * price,
                      /* the answer to the price depends on the product, not on either number */
                      count * price > 60 ? "That is too much for me."
                                         : "Here they are, thank you.");
    }
    td_text_print(t, "%s: Goodbye, %s. May the %s spare you.\n%s: Goodbye, %s.\n", b, a,
                  PICK(d, weathers), a, b);
}

/*     1. glass
 *     2. honey
 *     The first is glass, the last is honey. In reverse: honey, glass.
 *
 * Copying over a distance, in order and in reverse. */
static void lists(draw *d, td_text *t)
{
    char owner[32];
    int  order[5], n = 3 + (int)below(d, 3), first = (int)below(d, 12);
    name(d, owner);
    td_text_print(t, "Things that %s the %s has to buy:\n", owner, PICK(d, jobs));
    for (int i = 0; i < n; i++) {
        order[i] = (first + i * (1 + (int)below(d, 2)) * 2) % 22; /* 22 goods; frozen, as above */
        td_text_print(t, "%d. %s\n", i + 1, goods[order[i]]);
    }
    td_text_print(t, "The first is %s, the last is %s. In reverse:", goods[order[0]],
                  goods[order[n - 1]]);
    for (int i = n - 1; i >= 0; i--)
        td_text_print(t, " %s%s", goods[order[i]], i ? "," : ".\n");
}

/*     def salt_ox(ox):
 *         """Return ox - 6."""
 *         return ox - 6
 *
 *     assert salt_ox(3) == -3
 *
 * Names that must be repeated exactly, and a result that follows from the definition. */
static void code(draw *d, td_text *t)
{
    static const char *const operators[] = { "+", "-", "*" };
    const char              *f = PICK(d, goods), *x = PICK(d, animals), *op = PICK(d, operators);
    int                      k = 1 + (int)below(d, 9), at = (int)below(d, 20);
    int                      value = *op == '+' ? at + k : *op == '-' ? at - k : at * k;
    td_text_print(t, "def %s_%s(%s):\n    \"\"\"Return %s %s %d.\"\"\"\n    return %s %s %d\n\n", f,
                  x, x, x, op, k, x, op, k);
    td_text_print(t, "assert %s_%s(%d) == %d\n", f, x, at, value);
    td_text_print(t, "for %s in range(%d):\n    print(%s_%s(%s))\n", x, 2 + (int)below(d, 8), f, x,
                  x);
}

/*     | name | job | pepper |
 *     |---|---|---|
 *     | Pecath | scribe | 36 |
 *     Most pepper: Pecath with 36. In all: 36.
 *
 * A column has to be read as a whole. */
static void tables(draw *d, td_text *t)
{
    char        who[4][32];
    int         amount[4], n = 2 + (int)below(d, 3), total = 0, most = 0;
    const char *good = PICK(d, goods);
    td_text_print(t, "| name | job | %s |\n|---|---|---|\n", good);
    for (int i = 0; i < n; i++) {
        name(d, who[i]);
        amount[i] = 1 + (int)below(d, 60);
        /* if several are equal, the first counts */
        total += amount[i];
        most = amount[i] > amount[most] ? i : most;
        td_text_print(t, "| %s | %s | %d |\n", who[i], PICK(d, jobs), amount[i]);
    }
    td_text_print(t, "Most %s: %s with %d. In all: %d.\n", good, who[most], amount[most], total);
}

/*     168 - 82 = 86
 *
 * Unrelated lines: only the sums themselves can be learned. */
static void arithmetic(draw *d, td_text *t)
{
    int lines = 3 + (int)below(d, 6);
    for (int i = 0; i < lines; i++) {
        int a = (int)below(d, 100), b = (int)below(d, 100);
        switch (below(d, 3)) {
        case 0:
            td_text_print(t, "%d + %d = %d\n", a, b, a + b);
            break;
        case 1:
            td_text_print(t, "%d - %d = %d\n", a + b, a, b); /* never negative */
            break;
        default:
            td_text_print(t, "%d * %d = %d\n", a % 13, b % 13, a % 13 * (b % 13));
        }
    }
}

/* ---- files ----------------------------------------------------------------------------------- */

static const struct domain {
    const char *name;
    void (*make)(draw *, td_text *);
    int share; /* of 100 */
} domains[] = { { "facts", facts, 35 },   { "dialogue", dialogue, 25 },
                { "lists", lists, 10 },   { "code", code, 10 },
                { "tables", tables, 10 }, { "arithmetic", arithmetic, 10 } };

/* Writes one document as a line of JSON. Returns its bytes of text, or -1. */
static int64_t write_document(FILE *f, const struct domain *domain, draw d)
{
    td_text t = { 0 };
    domain->make(&d, &t);
    json_t *line = json_pack("{s:s, s:{s:s}}", "text", td_text_get(&t), "meta", "domain",
                             domain->name);
    int     bad = t.failed || !line || json_dumpf(line, f, JSON_COMPACT) || putc('\n', f) == EOF;
    int64_t size = (int64_t)t.size;
    json_decref(line);
    td_text_free(&t);
    return bad ? -1 : size;
}

enum { DOMAINS = sizeof domains / sizeof *domains };

/* Part 0 is for training, part 1 is held out. */
static char *file_name(char out[32], int domain, int part)
{
    snprintf(out, 32, "%s.%s.jsonl", domains[domain].name, part ? "valid" : "train");
    return out;
}

/* `part` goes into the top bit of the stream, so the two files of a domain share no document. */
static int write_file(const char *path, const struct domain *domain, uint64_t seed, int part,
                      int64_t bytes, td_error *error)
{
    td_atomic_file out;
    uint64_t       stream = td_random_stream(domain->name) ^ (uint64_t)part << 63;
    int            code = td_atomic_open(&out, path, error);
    if (code)
        return code;
    /* Each document has 2^32 numbers of the stream to itself: more than it can draw. */
    int64_t n = 0, done = 0;
    for (uint64_t i = 0; n >= 0 && done < bytes; i++) {
        n = write_document(out.file, domain, (draw){ seed, stream, i << 32 });
        done += n;
    }
    if (n >= 0)
        return td_atomic_commit(&out, error);
    td_atomic_abandon(&out);
    return td_fail(error, TD_EIO,
                   "cannot write the corpus to '%s': out of memory, or the disk is full", path);
}

/* The process that wrote a temporary file of ours, "facts.train.jsonl.4711.tmp"; 0 for any other
 * name. */
static long writer_of(const char *name)
{
    char own[32], *end;
    for (int i = 0; i < 2 * DOMAINS; i++) {
        size_t n = strlen(file_name(own, i / 2, i % 2));
        if (strncmp(name, own, n) || name[n] != '.')
            continue;
        long pid = strtol(name + n + 1, &end, 10);
        return pid > 0 && !strcmp(end, ".tmp") ? pid : 0;
    }
    return 0;
}

/* Removes the temporary files of runs that were killed. Those of a running process stay: somebody
 * else may be writing a corpus here. */
static int remove_leftovers(const char *directory, td_error *error)
{
    char  **names;
    int64_t count = td_list_directory(directory, &names, error);
    if (count < 0)
        return TD_EIO;
    for (int64_t i = 0; i < count; i++) {
        long pid = writer_of(names[i]);
        /* Signal 0 sends nothing; ESRCH means that there is no such process. */
        if (!pid || !kill((pid_t)pid, 0) || errno != ESRCH)
            continue;
        char *path = td_path_join(directory, names[i]);
        if (path)
            unlink(path);
        free(path);
    }
    td_free_names(names, count);
    return 0;
}

typedef struct corpus {
    const char *directory;
    uint64_t    seed;
    int64_t     bytes;
} corpus;

static int refuse_old(const corpus *c, int domain, int part, const char *path, td_error *error)
{
    return td_file_exists(path)
               ? td_fail(error, TD_ECONFIG,
                         "cannot make a corpus in '%s': '%s' already exists; choose another --out, "
                         "or replace it with --force",
                         c->directory, path)
               : 0;
}

static int write_new(const corpus *c, int domain, int part, const char *path, td_error *error)
{
    int64_t share = c->bytes / 100 * domains[domain].share;
    return write_file(path, &domains[domain], c->seed, part, part ? share / 20 : share, error);
}

/* Calls `file` for all files of the corpus until one fails. */
static int each_file(const corpus *c,
                     int (*file)(const corpus *, int domain, int part, const char *path,
                                 td_error *error),
                     td_error *error)
{
    int code = 0;
    for (int i = 0; i < 2 * DOMAINS && !code; i++) {
        char  name[32];
        char *path = td_path_join(c->directory, file_name(name, i / 2, i % 2));
        code = path ? file(c, i / 2, i % 2, path, error)
                    : td_fail(error, TD_ENOMEM, "out of memory for the path of '%s'", name);
        free(path);
    }
    return code;
}

int td_corpus_write(const char *directory, uint64_t seed, int64_t bytes, bool force,
                    td_error *error)
{
    const corpus c = { directory, seed, bytes };
    /* All are checked before one is written, so a refusal leaves the directory unchanged. */
    int          code = force ? 0 : each_file(&c, refuse_old, error);
    if (!code)
        code = td_make_directories(directory, error);
    if (!code)
        code = remove_leftovers(directory, error);
    return code ? code : each_file(&c, write_new, error);
}
