/* kind/format.h - models as other programs store them: which models a format can represent, and
 * what their settings and tensors are called there. Stateless.
 *
 * A format translates names and numbers; it opens no file. To write a model, the host gives it the
 * model's config. The format sets the other program's settings, which the host writes as
 * config.json, and says which parameter each tensor there holds. To read a model, the format reads
 * the settings in config.json, and sets a config's. The host then moves the numbers, whatever their
 * dtype and number of files, and checks that each parameter occurs once, with the right shape.
 *
 * With the container TD_CONTAINER_GGUF, all of that is in one file, and the settings are its keys:
 * "llama.attention.head_count". Integers become U32, other numbers F32. When reading, the host
 * leaves out the tokenizer's keys, which it converts, and all of "general." but the architecture; a
 * list has the type OTHER, and its length as `integer`.
 *
 * Nothing is dropped: a model is refused if the format has not asked for one of its settings, so
 * that an option that a plugin gains later is not overlooked. The first refusal or error sticks,
 * and later calls do nothing, so a hook needs no checks of its own.
 *
 * Settings are named by their path: "model.attention.heads" in a config, "rope_scaling.factor" in
 * config.json; items of a list are numbered, "architectures.0". Besides the model's settings, a
 * format can ask for "train.length", for the tokenizer's options ("tokenizer.plugin"), and for its
 * ids, -1 where it has none ("special.bos", "special.eos", "special.pad"); without a tokenizer, the
 * settings of tokenizer and ids are absent.
 *
 * Example:
 *
 *     // Models of embeddings alone: without layers there is nothing else to name.
 *     static void write_words(const void *config, td_translation *t)
 *     {
 *         (void)config;
 *         td_require(t, "model.plugin", "words");
 *         td_put_text(t, "model_type", "words");
 *         td_put_int(t, "size", td_ask_int(t, "model.vocab_size"));
 *         td_put_tensor(t, "words.table", "model.embed_tokens.weight", 1);
 *     }
 *
 *     static void read_words(const void *config, td_translation *t)
 *     {
 *         (void)config;
 *         td_put_text(t, "model.plugin", "words");
 *         td_put_int(t, "model.vocab_size", td_ask_int(t, "size"));
 *         td_put_tensor(t, "words.table", "model.embed_tokens.weight", 1);
 *     }
 *
 *     static const char *const types[] = { "words", NULL };
 *
 *     static const td_format words = {
 *         .plugin = TD_PLUGIN(td_format, TD_FORMAT_KIND, "words", NULL, char,
 *                             .brief = "models of embeddings alone"),
 *         .model_types = types,
 *         .write = write_words,
 *         .read = read_words,
 *     };
 */
#ifndef TANDEM_KIND_FORMAT_H
#define TANDEM_KIND_FORMAT_H

#include <string.h>

#include "../graph.h"
#include "../plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_FORMAT_KIND "format/1"

/* A setting. */
typedef enum td_format_value_type {
    TD_VALUE_NULL, /* JSON's null; a part that the config leaves out */
    TD_VALUE_BOOL,
    TD_VALUE_INT,
    TD_VALUE_FLOAT,
    TD_VALUE_TEXT, /* also choices and the names of plugins */
    TD_VALUE_OTHER /* what a format cannot interpret: a list of parts, say */
} td_format_value_type;

typedef struct td_format_value {
    int         type;    /* td_format_value_type */
    int64_t     integer; /* of BOOL (0 or 1) and INT; of a list in GGUF, its length */
    double      number;  /* the same, and of FLOAT */
    const char *text;    /* as it is written: "8", "true", "silu"; never NULL */
} td_format_value;

/* A tensor of the other program. */
typedef struct td_format_tensor {
    const char *name;
    /* The model's parameter that it holds. NULL: none; its elements are then all `fill` when
     * writing, and it may be missing when reading. */
    const char *parameter;
    double      scale; /* elements are multiplied by it, in either direction */
    double      fill;
    int64_t     dim[TD_MAX_RANK]; /* of a tensor without a parameter, when writing */
    int32_t     rank;
} td_format_tensor;

/* One translation, which the host carries out after the hook. New members are added only at the end.
 * Texts that are passed in are copied. */
typedef struct td_translation td_translation;
struct td_translation {
    size_t      size;
    const char *dtype; /* of the tensors when writing: "float32", "bfloat16" or, in GGUF, "q8_0" */
    /* The setting at a path, which counts as understood from now on. NULL: there is none. */
    const td_format_value *(*ask)(td_translation *, const char *path);
    void (*put)(td_translation *, const char *path, const td_format_value *);
    void (*tensor)(td_translation *, const td_format_tensor *);
    /* Another file of the folder: `size` bytes of text. */
    void (*file)(td_translation *, const char *name, const char *text, size_t size);
    /* Refuse the model, or report wrong settings; the message names the setting. Only the first
     * call counts. */
    void (*refuse)(td_translation *, const char *format, ...) TD_PRINTF(2, 3);
    void *host; /* private to the host */
    /* As `tensor`, with rows in another order: in each `rows` rows of the parameter, the first half
     * are the tensor's even rows, and the second half its odd rows. */
    void (*interleaved)(td_translation *, const td_format_tensor *, int64_t rows);
    /* When reading, whether the model has a tensor of this name. */
    bool (*has)(td_translation *, const char *tensor);
    /* As `tensor`, for one that holds what is left after `shift` has been subtracted: Gemma's norms
     * hold what they add to 1. */
    void (*shifted)(td_translation *, const td_format_tensor *, double shift);
};

/* Where a model's settings and tensors are. */
typedef enum td_format_container {
    TD_CONTAINER_FOLDER, /* config.json and safetensors */
    TD_CONTAINER_GGUF    /* one file */
} td_format_container;

typedef struct td_format {
    td_plugin          plugin;
    /* The values of "model_type" in config.json, or of "general.architecture" in GGUF, that `read`
     * takes, then NULL. */
    const char *const *model_types;
    /* From a config to the other program's settings and tensors. [main] */
    void (*write)(const void *config, td_translation *);
    /* From the other program's settings to a config. Its tensors have the names that `write` gives
     * them. NULL: the format can only be written. [main] */
    void (*read)(const void *config, td_translation *);
    int32_t container; /* td_format_container */
} td_format;

/* ---- asking ---------------------------------------------------------------------------------- */

/* The setting. If it is missing, the model is refused and NULL returned. */
static inline const td_format_value *td_ask(td_translation *t, const char *path)
{
    const td_format_value *v = t->ask(t, path);
    if (!v)
        t->refuse(t, "%s is missing", path);
    return v;
}

/* The setting as a number or a text. If it is missing or of another type, the model is refused and
 * 0 or "" returned. */
static inline int64_t td_ask_int(td_translation *t, const char *path)
{
    const td_format_value *v = td_ask(t, path);
    if (v && v->type != TD_VALUE_INT)
        t->refuse(t, "%s is %s: it must be an integer", path, v->text);
    return v ? v->integer : 0;
}

static inline double td_ask_float(td_translation *t, const char *path)
{
    const td_format_value *v = td_ask(t, path);
    if (v && v->type != TD_VALUE_INT && v->type != TD_VALUE_FLOAT)
        t->refuse(t, "%s is %s: it must be a number", path, v->text);
    return v ? v->number : 0;
}

static inline bool td_ask_bool(td_translation *t, const char *path)
{
    const td_format_value *v = td_ask(t, path);
    if (v && v->type != TD_VALUE_BOOL)
        t->refuse(t, "%s is %s: it must be true or false", path, v->text);
    return v && v->integer;
}

static inline const char *td_ask_text(td_translation *t, const char *path)
{
    const td_format_value *v = td_ask(t, path);
    return v ? v->text : "";
}

/* Whether there is a setting that is not null. */
static inline bool td_has(td_translation *t, const char *path)
{
    const td_format_value *v = t->ask(t, path);
    return v && v->type != TD_VALUE_NULL;
}

/* The same for a setting that may be missing or null: `otherwise` then. */
static inline int64_t td_ask_int_or(td_translation *t, const char *path, int64_t otherwise)
{
    return td_has(t, path) ? td_ask_int(t, path) : otherwise;
}

static inline double td_ask_float_or(td_translation *t, const char *path, double otherwise)
{
    return td_has(t, path) ? td_ask_float(t, path) : otherwise;
}

static inline bool td_ask_bool_or(td_translation *t, const char *path, bool otherwise)
{
    return td_has(t, path) ? td_ask_bool(t, path) : otherwise;
}

/* Refuse the model unless the setting has this value, as text. */
static inline void td_require(td_translation *t, const char *path, const char *value)
{
    const td_format_value *v = td_ask(t, path);
    if (v && strcmp(v->text, value))
        t->refuse(t, "%s is %s: it can only be %s", path, v->text, value);
}

/* ---- putting --------------------------------------------------------------------------------- */

static inline void td_put_int(td_translation *t, const char *path, int64_t x)
{
    td_format_value v = { TD_VALUE_INT, x, (double)x, "" };
    t->put(t, path, &v);
}

static inline void td_put_float(td_translation *t, const char *path, double x)
{
    td_format_value v = { TD_VALUE_FLOAT, 0, x, "" };
    t->put(t, path, &v);
}

static inline void td_put_bool(td_translation *t, const char *path, bool x)
{
    td_format_value v = { TD_VALUE_BOOL, x, (double)x, "" };
    t->put(t, path, &v);
}

static inline void td_put_text(td_translation *t, const char *path, const char *x)
{
    td_format_value v = { TD_VALUE_TEXT, 0, 0, x };
    t->put(t, path, &v);
}

static inline void td_put_null(td_translation *t, const char *path)
{
    td_format_value v = { TD_VALUE_NULL, 0, 0, "" };
    t->put(t, path, &v);
}

/* When writing, the tensor `name` is the parameter times `scale`; when reading, the parameter is
 * the tensor times `scale`. */
static inline void td_put_tensor(td_translation *t, const char *name, const char *parameter,
                                 double scale)
{
    td_format_tensor x;
    memset(&x, 0, sizeof x);
    x.name = name;
    x.parameter = parameter;
    x.scale = scale;
    t->tensor(t, &x);
}

/* The same, minus `shift` when writing; when reading, the tensor plus `shift`, times `scale`. */
static inline void td_put_shifted(td_translation *t, const char *name, const char *parameter,
                                  double scale, double shift)
{
    td_format_tensor x;
    memset(&x, 0, sizeof x);
    x.name = name;
    x.parameter = parameter;
    x.scale = scale;
    t->shifted(t, &x, shift);
}

/* A vector of `length` elements, all `fill`, for a norm without a scale. */
static inline void td_put_filled(td_translation *t, const char *name, int64_t length, double fill)
{
    td_format_tensor x;
    memset(&x, 0, sizeof x);
    x.name = name;
    x.fill = fill;
    x.rank = 1;
    x.dim[0] = length;
    t->tensor(t, &x);
}

#ifdef __cplusplus
}
#endif
#endif
