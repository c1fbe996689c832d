/* plugin.h - what a module is, and how a plugin describes itself and its options.
 *
 * A module is one shared object that exports one symbol, `tandem_module`: constant data, which the
 * host checks (magic, ABI version, size) before any code of the module runs. It lists plugins. A
 * plugin is one variant of one kind: the attention 'softmax', the optimizer 'adamw'. A part is a
 * plugin with its options filled in.
 *
 *     struct softmax { int64_t heads; bool qkv_norm; };
 *
 *     static const td_option options[] = {
 *         TD_OPTION_INT(struct softmax, heads, 8, 1, 4096, "attention heads"),
 *         TD_OPTION_BOOL(struct softmax, qkv_norm, true, "RMS-normalize Q, K and V per head"),
 *         TD_OPTION_END
 *     };
 *
 *     static const td_attention softmax = {
 *         .plugin = TD_PLUGIN(td_attention, TD_ATTENTION_KIND, "softmax", options, struct softmax,
 *                             .brief = "multi-head softmax attention"),
 *         .roles = TD_ATTENTION_SELF | TD_ATTENTION_CROSS,
 *         .build = build,
 *     };
 *
 *     TD_MODULE("softmax", "1.0", "you", "MIT", &softmax.plugin)
 *
 * The build is `cc -shared -fPIC mine.c -o attention-mine.so $(pkg-config --cflags tandem)`: no
 * tandem symbol is needed.
 */
#ifndef TANDEM_PLUGIN_H
#define TANDEM_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_MAGIC 0x4D444E54u /* "TNDM" in memory */
#define TD_ABI_MAJOR 1       /* a module of another major is refused */
#define TD_ABI_MINOR 0       /* a module of a newer minor is refused, of an older one it runs */

/* ---- options --------------------------------------------------------------------------------- */

typedef enum td_option_type {
    TD_TYPE_END = 0, /* closes a table */
    TD_TYPE_BOOL,    /* bool */
    TD_TYPE_INT,     /* int64_t */
    TD_TYPE_FLOAT,   /* double */
    TD_TYPE_STRING,  /* const char *, owned by the host, never NULL ("" by default) */
    TD_TYPE_CHOICE,  /* int64_t: index into `choices` */
    TD_TYPE_INTS,    /* td_ints */
    TD_TYPE_FLOATS,  /* td_floats */
    TD_TYPE_STRINGS, /* td_strings */
    TD_TYPE_PART,    /* td_part: a group that names a plugin of kind `choices[0]` */
    TD_TYPE_LIST,    /* td_list: a list of groups, each described by `fields` */
    TD_TYPE_PARTS    /* td_parts: plugins of kind `choices[0]`, each a name or a group */
} td_option_type;

typedef struct td_ints {
    const int64_t *at;
    size_t         count;
} td_ints;
typedef struct td_floats {
    const double *at;
    size_t        count;
} td_floats;
typedef struct td_strings {
    const char *const *at;
    size_t             count;
} td_strings;
/* at: array of the item struct */
typedef struct td_list {
    const void *at;
    size_t      count;
} td_list;

struct td_plugin;

/* A plugin with its options filled in. `plugin` is NULL when an optional part was not named. */
typedef struct td_part {
    const struct td_plugin *plugin;
    const void             *config; /* the plugin's config struct, owned by the host */
} td_part;

typedef struct td_parts {
    const td_part *at;
    size_t         count;
} td_parts;

enum { TD_OPTION_REQUIRED = 1 }; /* the config must say it; there is no default */

typedef struct td_option {
    const char             *name;   /* as in the config; unique in its table */
    const char             *doc;    /* one sentence: meaning, unit, source */
    int64_t                 type;   /* td_option_type */
    size_t                  offset; /* of the field in the config struct */
    double                  number; /* default of BOOL (0, 1), INT, FLOAT, CHOICE */
    /* default of STRING; default plugin name of PART (NULL: none) */
    const char             *text;
    /* inclusive range of INT and FLOAT, and of each INTS and FLOATS item */
    double                  min, max;
    /* CHOICE: names, NULL at the end; PART, PARTS: the kind with its revision */
    const char *const      *choices;
    const struct td_option *fields;    /* LIST: the table of one item */
    size_t                  item_size; /* LIST: sizeof the item struct */
    uint64_t                flags;     /* TD_OPTION_REQUIRED */
} td_option;

/* The field must have the C type that the option stores into: a wrong one does not compile. */
#ifdef __cplusplus
} /* extern "C" */
#include <type_traits>
template <class Want, class Have> constexpr size_t td_field_offset(size_t offset)
{
    static_assert(std::is_same<Want, Have>::value, "the option's field has another C type");
    return offset;
}
extern "C" {
#define TD_FIELD(S, f, type) td_field_offset<type, decltype(((S *)nullptr)->f)>(offsetof(S, f))
#else
#define TD_FIELD(S, f, type) \
    (offsetof(S, f) + 0 * sizeof(char[_Generic(((S *)0)->f, type : 1, default : -1)]))
#endif

/* clang-format off */
#define TD_OPTION_END { 0, 0, TD_TYPE_END, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
#define TD_OPTION_BOOL(S, f, value, doc) \
    { #f, doc, TD_TYPE_BOOL, TD_FIELD(S, f, bool), value, 0, 0, 1, 0, 0, 0, 0 }
#define TD_OPTION_INT(S, f, value, lo, hi, doc) \
    { #f, doc, TD_TYPE_INT, TD_FIELD(S, f, int64_t), value, 0, lo, hi, 0, 0, 0, 0 }
#define TD_OPTION_FLOAT(S, f, value, lo, hi, doc) \
    { #f, doc, TD_TYPE_FLOAT, TD_FIELD(S, f, double), value, 0, lo, hi, 0, 0, 0, 0 }
#define TD_OPTION_STRING(S, f, value, doc) \
    { #f, doc, TD_TYPE_STRING, TD_FIELD(S, f, const char *), 0, value, 0, 0, 0, 0, 0, 0 }
#define TD_OPTION_CHOICE(S, f, value, names, doc) \
    { #f, doc, TD_TYPE_CHOICE, TD_FIELD(S, f, int64_t), value, 0, 0, 0, names, 0, 0, 0 }
#define TD_OPTION_INTS(S, f, lo, hi, doc) \
    { #f, doc, TD_TYPE_INTS, TD_FIELD(S, f, td_ints), 0, 0, lo, hi, 0, 0, 0, 0 }
#define TD_OPTION_FLOATS(S, f, lo, hi, doc) \
    { #f, doc, TD_TYPE_FLOATS, TD_FIELD(S, f, td_floats), 0, 0, lo, hi, 0, 0, 0, 0 }
#define TD_OPTION_STRINGS(S, f, doc) \
    { #f, doc, TD_TYPE_STRINGS, TD_FIELD(S, f, td_strings), 0, 0, 0, 0, 0, 0, 0, 0 }
/* kind: a `static const char *const k[] = { "norm/1", 0 }` */
#define TD_OPTION_PART(S, f, kind, name, doc) \
    { #f, doc, TD_TYPE_PART, TD_FIELD(S, f, td_part), 0, name, 0, 0, kind, 0, 0, 0 }
#define TD_OPTION_PARTS(S, f, kind, doc) \
    { #f, doc, TD_TYPE_PARTS, TD_FIELD(S, f, td_parts), 0, 0, 0, 0, kind, 0, 0, 0 }
#define TD_OPTION_LIST(S, f, Item, table, doc) \
    { #f, doc, TD_TYPE_LIST, TD_FIELD(S, f, td_list), 0, 0, 0, 0, 0, table, sizeof(Item), 0 }
/* The same rows, but the config must give a value. */
#define TD_OPTION_NEED_INT(S, f, lo, hi, doc) \
    { #f, doc, TD_TYPE_INT, TD_FIELD(S, f, int64_t), 0, 0, lo, hi, 0, 0, 0, TD_OPTION_REQUIRED }
#define TD_OPTION_NEED_FLOAT(S, f, lo, hi, doc) \
    { #f, doc, TD_TYPE_FLOAT, TD_FIELD(S, f, double), 0, 0, lo, hi, 0, 0, 0, TD_OPTION_REQUIRED }
#define TD_OPTION_NEED_STRING(S, f, doc) \
    { #f, doc, TD_TYPE_STRING, TD_FIELD(S, f, const char *), 0, "", 0, 0, 0, 0, 0, \
      TD_OPTION_REQUIRED }
/* clang-format on */

/* ---- plugins --------------------------------------------------------------------------------- */

/* Every kind's struct begins with this and goes on with typed hooks. */
typedef struct td_plugin {
    size_t           size;        /* of the whole kind struct: TD_PLUGIN fills it */
    const char      *kind;        /* with its revision: "attention/1" */
    const char      *name;        /* as configs name it; the file is <kind>-<name>.so */
    const td_option *options;     /* NULL: none */
    size_t           option_size; /* sizeof(td_option) when it was compiled */
    size_t           config_size; /* sizeof the config struct */
    const char      *brief;       /* one line */
    const char      *doc;         /* more, or NULL */
    const char      *paper;       /* where it is from, or NULL */
    /* Rules across options; NULL: none. Says what is wrong in `error` and returns its code.
     * [main] */
    int (*check)(const void *config, td_error *error);
} td_plugin;

/* At least `.brief = ".."` follows. In C++ this needs C++20 (designated initializers). */
#define TD_PLUGIN(type, kind_, name_, options_, config_type, ...)                         \
    {                                                                                     \
        .size = sizeof(type), .kind = kind_, .name = name_, .options = options_,          \
        .option_size = sizeof(td_option), .config_size = sizeof(config_type), __VA_ARGS__ \
    }

/* ---- modules --------------------------------------------------------------------------------- */

typedef struct td_module {
    uint32_t                magic;     /* TD_MAGIC */
    uint16_t                abi_major; /* of the headers it was compiled with */
    uint16_t                abi_minor;
    uint64_t                size; /* sizeof(td_module) */
    const char             *name, *version, *author, *licence;
    const td_plugin *const *plugins; /* NULL at the end */
} td_module;

#if defined(__GNUC__)
#define TD_EXPORT __attribute__((visibility("default")))
#else
#define TD_EXPORT
#endif

#define TD_MODULE_SYMBOL "tandem_module"

#ifdef __cplusplus
#define TD_LINKAGE extern "C"
#else
#define TD_LINKAGE extern
#endif

#define TD_MODULE(name_, version_, author_, licence_, ...)                           \
    static const td_plugin *const        td_module_plugins[] = { __VA_ARGS__, 0 };   \
    TD_LINKAGE TD_EXPORT const td_module tandem_module;                              \
    const td_module tandem_module = { TD_MAGIC,          TD_ABI_MAJOR, TD_ABI_MINOR, \
                                      sizeof(td_module), name_,        version_,     \
                                      author_,           licence_,     td_module_plugins };

#ifdef __cplusplus
}
#endif
#endif
