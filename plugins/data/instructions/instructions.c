/* instructions.c - data 'instructions': pairs of inputs and targets, and chats, several sources
 * mixed by rate or, as in FLAN, by size up to a limit. Papers: Raffel et al. 2020 (section 3.5.2),
 * Wei et al. 2022.
 *
 * An example is a document of a token shard, with a piece for its inputs, its targets, and each
 * further turn of a chat. Shards hold complete examples, which are cut to max_inputs and
 * max_targets when they are read, so that a limit can change without tokenizing again. The order of
 * examples is a function of the seed and the record's number (common/order.h). */
#include "instructions.h"

#include <stdlib.h>
#include <string.h>

static const td_option source_options[] = {
    MIXED_SOURCE_OPTIONS(".jsonl"),
    TD_OPTION_INT(instructions_source, max_examples, 0, 0, 1e12,
                  "train only on the first N examples; 0: all"),
    TD_OPTION_END
};

_Static_assert(offsetof(instructions_source, from) == 0,
               "MIXED_SOURCE_OPTIONS: mixed_source first");

static const td_option role_options[] = {
    TD_OPTION_NEED_STRING(td_chat_role, role, "the role in a message"),
    TD_OPTION_STRING(td_chat_role, prefix, "", "text before a turn"),
    TD_OPTION_STRING(td_chat_role, suffix, "",
                     "text after a turn; after an answer it is given, not predicted"),
    TD_OPTION_BOOL(td_chat_role, answers, false, "train on this role's turns"), TD_OPTION_END
};

static const char *const turns[] = { "together", "each", "last", NULL };
static const char *const ends[] = { "both", "targets", "none", NULL };
static const char *const sides[] = { "right", "left", NULL };

static const td_option options[] = {
    TD_OPTION_LIST(instructions_config, sources, instructions_source, source_options,
                   "sources to read"),
    TD_OPTION_STRING(instructions_config, inputs, "",
                     "key of the inputs in a JSON line; empty: inputs, prompt, or instruction "
                     "with input"),
    TD_OPTION_STRING(instructions_config, targets, "",
                     "key of the targets; empty: targets, completion or output"),
    TD_OPTION_STRING(instructions_config, messages, "",
                     "key of a chat's list of messages; empty: messages"),
    TD_OPTION_STRING(instructions_config, role, "role", "key of the role in a message"),
    TD_OPTION_STRING(instructions_config, content, "content", "key of the text in a message"),
    TD_OPTION_LIST(instructions_config, roles, td_chat_role, role_options,
                   "template of chats; empty: \"User: ..\\n\", \"Assistant: ..\\n\", and system "
                   "text followed by an empty line"),
    TD_OPTION_CHOICE(
        instructions_config, turns, TURNS_TOGETHER, turns,
        "how a chat becomes examples: together, one example with all answers; each, one example "
        "per answer, with everything before it as inputs; last, only the last answer"),
    TD_OPTION_CHOICE(
        instructions_config, eos, EOS_BOTH, ends,
        "where the end-of-text token is appended: both (inputs and targets), targets, or none"),
    TD_OPTION_INT(instructions_config, max_inputs, 2048, 2, 1 << 24,
                  "maximum number of tokens of inputs"),
    TD_OPTION_INT(instructions_config, max_targets, 512, 1, 1 << 24,
                  "maximum number of tokens of targets; longer ones are cut at the end"),
    TD_OPTION_CHOICE(
        instructions_config, truncation_side, CUT_RIGHT, sides,
        "the side on which inputs that are too long are cut; a final end-of-text token "
        "stays"),
    TD_OPTION_INT(
        instructions_config, rate_limit, 0, 0, 1e12,
        "without rates, the maximum number of examples that a source counts for; 0: no limit"),
    TD_OPTION_INT(instructions_config, max_bad_lines, 0, 0, 1e12,
                  "number of bad lines that may be skipped in each source"),
    TD_OPTION_BOOL(instructions_config, shuffle, true,
                   "a new order in every epoch; false: the order of the files"),
    TD_OPTION_END
};

typedef struct opened {
    const char *name;
    shard       train, held_out;
    int64_t     examples; /* examples of `train` that are used */
    uint64_t    stream;   /* random stream for their order */
} opened;

typedef struct state {
    instructions_config config;
    int32_t             eos;
    uint64_t            seed;
    int64_t             count;
    bool                held_out_only; /* no training text is open */
    opened             *sources;
    mixture             mixture;
} state;

static const instructions_source *source_at(const instructions_config *c, size_t i)
{
    return (const instructions_source *)c->sources.at + i;
}

/* ---- options --------------------------------------------------------------------------------- */

static int check_roles(const instructions_config *c, td_error *error)
{
    const td_chat_role *r = c->roles.at;
    bool                answers = !c->roles.count;
    for (size_t k = 0; k < c->roles.count; k++) {
        answers |= r[k].answers;
        /* the second would be silently ignored; quadratic, but there are few roles */
        for (size_t i = 0; i < k; i++)
            if (!strcmp(r[i].role, r[k].role))
                return td_fail(error, TD_ECONFIG, "roles: '%s' is listed twice", r[k].role);
    }
    return answers
               ? 0
               : td_fail(error, TD_ECONFIG,
                         "roles: no role has answers = true, so there would be nothing to train "
                         "on");
}

/* Checks that keys are set in pairs, and refuses contradictory options. */
static int check_keys(const instructions_config *c, td_error *error)
{
    if (!*c->inputs != !*c->targets)
        return td_fail(error, TD_ECONFIG,
                       "%s = \"%s\" without %s: set both keys, or neither to use the known ones",
                       *c->inputs ? "inputs" : "targets", *c->inputs ? c->inputs : c->targets,
                       *c->inputs ? "targets" : "inputs");
    if (*c->inputs && *c->messages)
        return td_fail(error, TD_ECONFIG,
                       "inputs = \"%s\" and messages = \"%s\": a line is a pair or a chat; set one",
                       c->inputs, c->messages);
    /* rates fix the shares, so the limit would have no effect */
    for (size_t i = 0; c->rate_limit && i < c->sources.count; i++)
        if (source_at(c, i)->from.rate > 0)
            return td_fail(error, TD_ECONFIG,
                           "rate_limit = %lld has no effect with rates: remove one of the two",
                           (long long)c->rate_limit);
    return 0;
}

static int check(const void *config, td_error *error)
{
    const instructions_config *c = config;
    if (mixture_check(c->sources, sizeof(instructions_source), error) || check_keys(c, error))
        return TD_ECONFIG;
    return check_roles(c, error);
}

static td_pair pair(const void *config)
{
    const instructions_config *c = config;
    return (td_pair){ .inputs = c->max_inputs,
                      .targets = c->max_targets,
                      .inputs_end = c->eos == EOS_BOTH };
}

/* ---- shards ---------------------------------------------------------------------------------- */

static int check_files(const void *config, const td_services *services, td_error *error)
{
    const instructions_config *c = config;
    return source_check_files(c->sources.at, c->sources.count, sizeof(instructions_source), false,
                              (source_reads){ 0 }, services, error);
}

static int prepare(const void *config, const td_data_in *in, td_error *error)
{
    const instructions_config *c = config;
    char                       path[4096];
    int                        code = check_files(c, in->services, error);
    for (size_t i = 0; i < c->sources.count && !code; i++) {
        const data_source *s = &source_at(c, i)->from.from;
        code = instructions_prepare(c, s, PART_TRAIN, in, path, error);
        if (!code && source_holds_out(s))
            code = instructions_prepare(c, s, PART_HELD_OUT, in, path, error);
    }
    return code;
}

/* ---- open and close -------------------------------------------------------------------------- */

/* Reports once per run how much is read, and how much of it is cut. */
static void report(const state *s, const char *name, const char *what, const shard *from,
                   int64_t examples, const td_services *services)
{
    const instructions_config *c = &s->config;
    int64_t                    inputs = 0, targets = 0;
    /* uses only the index: no token is read */
    for (int64_t i = 0; i < examples; i++) {
        extent e = example_extent(c, from, i);
        inputs += e.kept_inputs < e.n_inputs;
        targets += e.kept_targets < e.n_targets;
    }
    services->log(services, TD_LOG_INFO, "'%s': %lld %s examples", name, (long long)examples, what);
    if (inputs)
        services->log(services, TD_LOG_WARN,
                      "'%s': inputs of %lld %s examples are cut on the %s: data.max_inputs = %lld",
                      name, (long long)inputs, what, sides[c->truncation_side],
                      (long long)c->max_inputs);
    if (targets)
        services->log(services, TD_LOG_WARN,
                      "'%s': targets of %lld %s examples are cut short: data.max_targets = %lld",
                      name, (long long)targets, what, (long long)c->max_targets);
}

/* Documents in this plugin's shards have at least two pieces; if not, another program made the
 * shard. */
static int check_pieces(const shard *from, const char *path, td_error *error)
{
    for (int64_t i = 0; i < from->documents; i++)
        if ((shard_first_piece(from, i + 1) - shard_first_piece(from, i)) % 2)
            return td_fail(error, TD_EFORMAT,
                           "token shard '%s.idx' is damaged: example %lld has inputs without "
                           "targets; remove it and prepare again",
                           path, (long long)i + 1);
    return 0;
}

/* Opens the shard of a part, after making it if necessary. */
static int open_part(const state *s, const data_source *from, int part, const td_data_in *in,
                     shard *out, td_error *error)
{
    char path[4096];
    int  code = instructions_prepare(&s->config, from, part, in, path, error);
    if (!code)
        code = shard_open(out, path, in->special.vocab_size, error);
    if (!code)
        code = check_pieces(out, path, error);
    if (!code && !out->documents)
        code = td_fail(error, TD_ECONFIG, "data source '%s': its %s files have no examples",
                       from->name, part == PART_TRAIN ? "training" : "held-out");
    return code;
}

static int open_source(state *s, size_t i, const td_data_in *in, td_error *error)
{
    const instructions_source *source = source_at(&s->config, i);
    const data_source         *from = &source->from.from;
    opened                    *to = &s->sources[i];
    to->name = from->name;
    to->stream = td_random_stream(from->name);
    int code = in->held_out_only ? 0 : open_part(s, from, PART_TRAIN, in, &to->train, error);
    if (!code && source_holds_out(from))
        code = open_part(s, from, PART_HELD_OUT, in, &to->held_out, error);
    if (code)
        return code;
    /* limits the examples that are read, not those prepared: raising it needs no new
     * tokenization */
    to->examples = to->train.documents;
    if (source->max_examples && source->max_examples < to->examples)
        to->examples = source->max_examples;
    if (to->examples)
        report(s, to->name, "training", &to->train, to->examples, in->services);
    if (to->held_out.documents)
        report(s, to->name, "held-out", &to->held_out, to->held_out.documents, in->services);
    return 0;
}

/* Without rates, sources are weighted by their number of examples, up to the limit: examples of a
 * large source are then read less often, but none is left out. */
static int mix(state *s, const td_services *services, td_error *error)
{
    int64_t limit = s->config.rate_limit;
    double *sizes = calloc((size_t)s->count, sizeof *sizes);
    if (!sizes)
        return td_fail(error, TD_ENOMEM, "out of memory for %lld data sources",
                       (long long)s->count);
    for (int64_t i = 0; i < s->count; i++) {
        int64_t n = s->sources[i].examples;
        sizes[i] = (double)(limit && limit < n ? limit : n);
    }
    int code = mixture_open(&s->mixture, s->config.sources, sizeof(instructions_source), sizes,
                            s->seed, services, error);
    free(sizes);
    return code;
}

/* Also frees a state that open_instructions left incomplete. */
static void close_instructions(void *state_)
{
    state *s = state_;
    if (!s)
        return;
    for (int64_t i = 0; s->sources && i < s->count; i++) {
        shard_close(&s->sources[i].train);
        shard_close(&s->sources[i].held_out);
    }
    mixture_close(&s->mixture);
    free(s->sources);
    free(s);
}

static int open_instructions(const void *config, const td_data_in *in, void **out, td_error *error)
{
    const instructions_config *c = config;
    state                     *s = calloc(1, sizeof *s);
    int                        code;

    if (s)
        *s = (state){ .config = *c,
                      .eos = in->special.eos,
                      .seed = in->seed,
                      .count = (int64_t)c->sources.count,
                      .held_out_only = in->held_out_only,
                      .sources = calloc(c->sources.count, sizeof *s->sources) };
    /* checked before any shard is made, which may take hours */
    code = s && s->sources
               ? source_check_files(c->sources.at, c->sources.count, sizeof(instructions_source),
                                    in->held_out_only, (source_reads){ 0 }, in->services, error)
               : td_fail(error, TD_ENOMEM, "out of memory for %zu data sources", c->sources.count);
    for (size_t i = 0; !code && i < c->sources.count; i++)
        code = open_source(s, i, in, error);
    if (!code && !in->held_out_only)
        code = mix(s, in->services, error);
    if (!code)
        *out = s;
    else
        close_instructions(s);
    return code;
}

/* ---- hooks ----------------------------------------------------------------------------------- */

/* Record `index`: its source by the block's pattern, then that source's next example, in an order
 * that each epoch permutes anew. */
static int fetch(void *state_, uint64_t index, const td_split_in *in, td_record *out,
                 td_error *error)
{
    const state *s = state_;
    uint64_t     ordinal;
    int64_t      source;
    if (s->held_out_only)
        return td_fail(error, TD_ECONFIG, "the data was opened for its held-out records only");
    source = mixture_source(&s->mixture, index, &ordinal);
    opened  *from = &s->sources[source];
    uint64_t n = (uint64_t)from->examples, epoch = ordinal / n, example = ordinal % n;

    if (s->config.shuffle)
        example = order_permute(s->seed, from->stream + epoch, example, n);
    *out = (td_record){ .source = (int32_t)source, .id = index };
    return example_read(&s->config, s->eos, &from->train, (int64_t)example, in, out, error);
}

static int64_t held_out(void *state_, int64_t source)
{
    return ((const state *)state_)->sources[source].held_out.documents;
}

static bool has_held_out(const state *s, int64_t source, int64_t index)
{
    return source >= 0 && source < s->count && index >= 0 &&
           index < s->sources[source].held_out.documents;
}

/* Held-out examples are never shuffled: an evaluation is the same every time. */
static int fetch_held_out(void *state_, int64_t source, int64_t index, const td_split_in *in,
                          td_record *out, td_error *error)
{
    const state *s = state_;
    if (!has_held_out(s, source, index))
        return td_fail(error, TD_EEND, "held-out record %lld of source %lld does not exist",
                       (long long)index, (long long)source);
    *out = (td_record){ .source = (int32_t)source, .id = (uint64_t)index };
    return example_read(&s->config, s->eos, &s->sources[source].held_out, index, in, out, error);
}

static int64_t held_out_bytes(void *state_, int64_t source, int64_t index, int64_t from_token)
{
    const state *s = state_;
    return has_held_out(s, source, index) && from_token >= 0 &&
                   !shard_unchanged(&s->sources[source].held_out, NULL)
               ? example_bytes(&s->config, &s->sources[source].held_out, index, from_token)
               : -1;
}

static int64_t sources(void *state_) { return ((const state *)state_)->count; }

static const char *source_name(void *state_, int64_t source)
{
    return ((const state *)state_)->sources[source].name;
}

static int64_t records(void *state_)
{
    const state *s = state_;
    int64_t      sum = 0;
    for (int64_t i = 0; i < s->count; i++)
        sum += s->sources[i].examples;
    return sum;
}

/* Counts the examples as they are read, with limits and cuts. */
static int64_t tokens(void *state_)
{
    const state *s = state_;
    int64_t      sum = 0;
    for (int64_t i = 0; i < s->count; i++)
        for (int64_t k = 0; k < s->sources[i].examples; k++) {
            extent e = example_extent(&s->config, &s->sources[i].train, k);
            sum += e.kept_inputs + e.kept_targets;
        }
    return sum;
}

/* A resumed run must find the same tokens under the same names, cut in the same way. */
static uint64_t fingerprint(void *state_)
{
    const state *s = state_;
    int64_t  limits[] = { s->config.max_inputs, s->config.max_targets, s->config.truncation_side };
    uint64_t h = td_hash(td_random_stream("instructions"), limits, sizeof limits);
    for (int64_t i = 0; i < s->count; i++) {
        const opened *o = &s->sources[i];
        uint64_t      hashes[] = { o->stream, (uint64_t)o->examples,
                              o->examples ? shard_hash(&o->train) : 0,
                              o->held_out.documents ? shard_hash(&o->held_out) : 0 };
        h = td_hash(h, hashes, sizeof hashes);
    }
    return h;
}

/* The whole text of an example, for training a tokenizer. */
typedef struct text_visit {
    int (*document)(void *arg, const char *text, size_t size);
    void *arg;
} text_visit;

static int visit_texts(void *arg, const piece *pieces, size_t count)
{
    const text_visit *v = arg;
    int               code = 0;
    for (size_t k = 0; k < count && !code; k++)
        code = pieces[k].size ? v->document(v->arg, pieces[k].text, pieces[k].size) : 0;
    return code;
}

/* Only training text: a tokenizer must not be trained on held-out text. */
static int each_document(const void *config, const td_services                           *services,
                         int (*document)(void *arg, const char *text, size_t size), void *arg,
                         td_error *error)
{
    const instructions_config *c = config;
    text_visit                 v = { document, arg };
    int                        code = check_files(c, services, error);
    for (size_t i = 0; i < c->sources.count && !code; i++) {
        int64_t bad = c->max_bad_lines;
        code = instructions_each(c, &source_at(c, i)->from.from, PART_TRAIN, services, &bad,
                                 visit_texts, &v, error);
    }
    return code;
}

static bool chat_role(const void *config, int64_t index, td_chat_role *out)
{
    td_list roles = chat_roles(config);
    if (index < 0 || (size_t)index >= roles.count)
        return false;
    *out = ((const td_chat_role *)roles.at)[index];
    return true;
}

static const td_data instructions = {
    .plugin = TD_PLUGIN(
        td_data, TD_DATA_KIND, "instructions", options, instructions_config, .check = check,
        .brief = "pairs of inputs and targets, or chats, from .jsonl files, tokenized once",
        .doc =
            "A line is an object with the keys inputs and targets; prompt and completion; "
            "instruction, input (optional) and output; or messages, a list of { role, content }. "
            "In a chat only the answers are predicted; text after the last one is left out. "
            "Inputs longer than max_inputs are cut on truncation_side and targets longer than "
            "max_targets at their end; the numbers of cut examples are logged when the data is "
            "opened.",
        .paper = "Wei et al., Finetuned Language Models Are Zero-Shot Learners, 2022"),
    .open = open_instructions,
    .close = close_instructions,
    .sources = sources,
    .fingerprint = fingerprint,
    .source_name = source_name,
    .fetch = fetch,
    .held_out = held_out,
    .fetch_held_out = fetch_held_out,
    .held_out_bytes = held_out_bytes,
    .tokens = tokens,
    .prepare = prepare,
    .each_document = each_document,
    .chat_role = chat_role,
    .pair = pair,
    .records = records,
    .check_files = check_files,
};

TD_MODULE("instructions", "1.0", "tandem", "MIT", &instructions.plugin)
