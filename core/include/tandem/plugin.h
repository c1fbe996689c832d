/* plugin.h - modules, and how a plugin describes itself and its options.
 *
 * A module is one shared object that exports one symbol, `tandem_module`: constant data. The host
 * checks it (magic, ABI version, sizes) before any code of the module runs. It lists plugins. A
 * plugin is one variant of one kind: the attention 'softmax', the optimizer 'adamw'. A part is a
 * plugin with its options filled in; one plugin may be several parts of a run.
 *
 * A plugin needs a struct of options; a table of rows that describes it; the hooks of the kind
 * (kind/KIND.h); the plugin itself, whose first field is a td_plugin; and TD_MODULE, once per
 * module. The host parses the config, checks types and ranges against the rows, fills in defaults,
 * and hands the struct to every hook as `config`. It owns the struct, which never changes. A hook
 * keeps nothing in static variables; a plugin with state receives it from its own `open`.
 *
 * Each hook's comment carries a thread tag, which says when it may be called:
 *
 *     [main]     by the main thread, one call at a time
 *     [build]    while a graph is built: it emits nodes; one thread at a time per graph
 *     [worker]   by the thread that reads ahead, or by threads of the pool
 *     [any]      by any thread, at any time, also concurrently
 *
 * The build is `cc -shared -fPIC mine.c -o attention-mine.so $(pkg-config --cflags tandem)`; no
 * tandem library is linked. `tandem plugins new KIND NAME` writes a project that works.
 *
 * Example, a complete module:
 *
 *     #include "tandem/kind/norm.h"
 *
 *     struct l1_config {
 *         double eps;
 *     };
 *
 *     static const td_option options[] = {
 *         TD_OPTION_FLOAT(struct l1_config, eps, 1e-6, 0, 1, "added to the mean"), TD_OPTION_END
 *     };
 *
 *     // x / (mean |x| + eps)
 *     static td_tensor *build(const void *config, td_tensor *x)
 *     {
 *         const struct l1_config *c = config;
 *         return td_div(x, td_affine(td_mean(td_abs(x), -1), 1, c->eps));
 *     }
 *
 *     static const td_norm l1 = {
 *         .plugin = TD_PLUGIN(td_norm, TD_NORM_KIND, "l1", options, struct l1_config,
 *                             .brief = "division by the mean absolute value"),
 *         .build = build,
 *     };
 *
 *     TD_MODULE("l1", "1.0", "you", "MIT", &l1.plugin)
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
#define TD_ABI_MINOR 1       /* one of a newer minor too and, while the ABI is a draft, of an older */

/* ---- options --------------------------------------------------------------------------------- */

/* The type of an option, and with it the C type of the field that it is stored in. */
typedef enum td_option_type {
    TD_TYPE_END = 0, /* ends a table */
    TD_TYPE_BOOL,    /* bool */
    TD_TYPE_INT,     /* int64_t */
    TD_TYPE_FLOAT,   /* double */
    TD_TYPE_STRING,  /* const char *, owned by the host; never NULL, "" where nothing is set */
    TD_TYPE_CHOICE,  /* int64_t: index into `choices` */
    TD_TYPE_INTS,    /* td_ints */
    TD_TYPE_FLOATS,  /* td_floats */
    TD_TYPE_STRINGS, /* td_strings */
    TD_TYPE_PART,    /* td_part: a group that names a plugin of kind `choices[0]` */
    TD_TYPE_LIST,    /* td_list: a list of groups, each described by `fields` */
    TD_TYPE_PARTS    /* td_parts: plugins of kind `choices[0]`, each a name or a group */
} td_option_type;

/* Arrays that the host fills in and owns; `at` may be NULL if `count` is 0. */
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
/* `at` points to `count` item structs, whose size the option's row gives. */
typedef struct td_list {
    const void *at;
    size_t      count;
} td_list;

struct td_plugin;

/* A plugin with its options filled in. `plugin` is NULL if an optional part was not named. */
typedef struct td_part {
    const struct td_plugin *plugin;
    const void             *config; /* the plugin's config struct, owned by the host */
} td_part;

/* Several parts, in the order of the config. */
typedef struct td_parts {
    const td_part *at;
    size_t         count;
} td_parts;

/* Flags of an option.
 *
 * REQUIRED: the config must set it; there is no default.
 * IN_STEPS, of an INT that counts steps: a number between 0 and 1, in a config or as the default, is a
 * fraction of the table's WHOLE_RUN option, or of train.steps if that is not set. The field gets steps.
 * WHOLE_RUN: the default is train.steps; the row's own default is for parts outside of a run.
 * NAMES_FILE, of a STRING or STRINGS: paths or patterns of files, relative to the working directory or
 * else to the shipped files. In the config that a run keeps, they are absolute. */
enum {
    TD_OPTION_REQUIRED = 1,
    TD_OPTION_IN_STEPS = 2,
    TD_OPTION_WHOLE_RUN = 4,
    TD_OPTION_NAMES_FILE = 8
};

/* One row of an option table. Write it with the macros below, not by hand: they check the field's
 * type and leave unused fields zero. */
typedef struct td_option {
    const char             *name;   /* as in the config; unique in its table */
    const char             *doc;    /* one sentence for users: meaning, unit, source */
    int64_t                 type;   /* td_option_type */
    size_t                  offset; /* offset of the field in the config struct */
    double                  number; /* default of BOOL (0, 1), INT, FLOAT, CHOICE (its index) */
    /* default of STRING; default plugin of PART, NULL for an optional part */
    const char             *text;
    /* range, both ends included, of INT and FLOAT and of each item of INTS and FLOATS */
    double                  min, max;
    /* CHOICE: the names, then NULL. PART and PARTS: the kind, { "norm/1", NULL } */
    const char *const      *choices;
    const struct td_option *fields;    /* LIST: the table of one item */
    size_t                  item_size; /* LIST: sizeof the item struct */
    uint64_t                flags;     /* TD_OPTION_REQUIRED and others, or-ed */
} td_option;

/* The offset of a field whose C type is exactly the one that the option is stored as. Any other
 * type is a compile error: an int where the host writes an int64_t would corrupt its neighbour. */
#ifdef __cplusplus
} /* extern "C" */
#include <type_traits>
template <class Want, class Have> constexpr size_t td_field_offset(size_t offset)
{
    static_assert(std::is_same<Want, Have>::value, "wrong C type of the field for this option");
    return offset;
}
extern "C" {
#define TD_FIELD(S, f, type) td_field_offset<type, decltype(((S *)nullptr)->f)>(offsetof(S, f))
#else
#define TD_FIELD(S, f, type)                                                                    \
    (offsetof(S, f) + 0 * sizeof(struct {                                                       \
                          _Static_assert(_Generic(((S *)0)->f, type : 1, default : 0),          \
                                         "the field '" #f                                       \
                                         "' of an option of this type must be: " #type " " #f); \
                          char one;                                                             \
                      }))
#endif

/* The rows of a table. S: the config struct; f: its field, whose name is the option's name in
 * configs; value: the default; lo, hi: the range. TD_OPTION_END comes last. */
/* clang-format off */
#define TD_OPTION_END { 0, 0, TD_TYPE_END, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
#define TD_OPTION_BOOL(S, f, value, doc) \
    { #f, doc, TD_TYPE_BOOL, TD_FIELD(S, f, bool), value, 0, 0, 1, 0, 0, 0, 0 }
#define TD_OPTION_INT(S, f, value, lo, hi, doc) \
    { #f, doc, TD_TYPE_INT, TD_FIELD(S, f, int64_t), value, 0, lo, hi, 0, 0, 0, 0 }
/* An INT that counts steps, and one that is by default the last step of the run. */
#define TD_OPTION_STEPS(S, f, value, lo, hi, doc) \
    { #f, doc, TD_TYPE_INT, TD_FIELD(S, f, int64_t), value, 0, lo, hi, 0, 0, 0, TD_OPTION_IN_STEPS }
#define TD_OPTION_LAST_STEP(S, f, value, lo, hi, doc) \
    { #f, doc, TD_TYPE_INT, TD_FIELD(S, f, int64_t), value, 0, lo, hi, 0, 0, 0, \
      TD_OPTION_IN_STEPS | TD_OPTION_WHOLE_RUN }
#define TD_OPTION_FLOAT(S, f, value, lo, hi, doc) \
    { #f, doc, TD_TYPE_FLOAT, TD_FIELD(S, f, double), value, 0, lo, hi, 0, 0, 0, 0 }
#define TD_OPTION_STRING(S, f, value, doc) \
    { #f, doc, TD_TYPE_STRING, TD_FIELD(S, f, const char *), 0, value, 0, 0, 0, 0, 0, 0 }
#define TD_OPTION_FILE(S, f, value, doc) \
    { #f, doc, TD_TYPE_STRING, TD_FIELD(S, f, const char *), 0, value, 0, 0, 0, 0, 0, \
      TD_OPTION_NAMES_FILE }
#define TD_OPTION_CHOICE(S, f, value, names, doc) \
    { #f, doc, TD_TYPE_CHOICE, TD_FIELD(S, f, int64_t), value, 0, 0, 0, names, 0, 0, 0 }
#define TD_OPTION_INTS(S, f, lo, hi, doc) \
    { #f, doc, TD_TYPE_INTS, TD_FIELD(S, f, td_ints), 0, 0, lo, hi, 0, 0, 0, 0 }
#define TD_OPTION_FLOATS(S, f, lo, hi, doc) \
    { #f, doc, TD_TYPE_FLOATS, TD_FIELD(S, f, td_floats), 0, 0, lo, hi, 0, 0, 0, 0 }
#define TD_OPTION_STRINGS(S, f, doc) \
    { #f, doc, TD_TYPE_STRINGS, TD_FIELD(S, f, td_strings), 0, 0, 0, 0, 0, 0, 0, 0 }
#define TD_OPTION_FILES(S, f, doc) \
    { #f, doc, TD_TYPE_STRINGS, TD_FIELD(S, f, td_strings), 0, 0, 0, 0, 0, 0, 0, \
      TD_OPTION_NAMES_FILE }
/* kind: a `static const char *const norm_kind[] = { TD_NORM_KIND, 0 }` */
#define TD_OPTION_PART(S, f, kind, name, doc) \
    { #f, doc, TD_TYPE_PART, TD_FIELD(S, f, td_part), 0, name, 0, 0, kind, 0, 0, 0 }
#define TD_OPTION_PARTS(S, f, kind, doc) \
    { #f, doc, TD_TYPE_PARTS, TD_FIELD(S, f, td_parts), 0, 0, 0, 0, kind, 0, 0, 0 }
#define TD_OPTION_LIST(S, f, Item, table, doc) \
    { #f, doc, TD_TYPE_LIST, TD_FIELD(S, f, td_list), 0, 0, 0, 0, 0, table, sizeof(Item), 0 }
/* Options without a default: the config must set them. */
#define TD_OPTION_NEED_INT(S, f, lo, hi, doc) \
    { #f, doc, TD_TYPE_INT, TD_FIELD(S, f, int64_t), 0, 0, lo, hi, 0, 0, 0, TD_OPTION_REQUIRED }
#define TD_OPTION_NEED_FLOAT(S, f, lo, hi, doc) \
    { #f, doc, TD_TYPE_FLOAT, TD_FIELD(S, f, double), 0, 0, lo, hi, 0, 0, 0, TD_OPTION_REQUIRED }
#define TD_OPTION_NEED_STRING(S, f, doc) \
    { #f, doc, TD_TYPE_STRING, TD_FIELD(S, f, const char *), 0, "", 0, 0, 0, 0, 0, \
      TD_OPTION_REQUIRED }
/* clang-format on */

/* ---- plugins --------------------------------------------------------------------------------- */

/* The part that all plugins have in common. The struct of each kind begins with it and continues
 * with typed hooks, so that a hook of the wrong signature does not compile. A hook that a plugin
 * leaves NULL is optional where its comment says so; otherwise the module is refused. */
typedef struct td_plugin {
    size_t           size;        /* size of the whole kind struct; set by TD_PLUGIN */
    const char      *kind;        /* the kind with its revision: "attention/1" */
    const char      *name;        /* its name in configs; it loads fastest from a file called
                                   * KIND-NAME.so */
    const td_option *options;     /* NULL: none */
    size_t           option_size; /* sizeof(td_option) when the module was compiled */
    size_t           config_size; /* size of the config struct, in bytes */
    const char      *brief;       /* one line, for lists */
    const char      *doc;         /* a paragraph for its page in the reference, or NULL */
    const char      *paper;       /* author, title and year of its paper, or NULL */
    /* Rules that involve several options: 0, or td_fail's code with a message that names them.
     * Types and ranges have been checked by then. May be NULL. [main] */
    int (*check)(const void *config, td_error *error);
} td_plugin;

/* Initializes the td_plugin of a kind's struct. The further arguments are designated initializers,
 * at least `.brief = ".."`; in C++ that takes C++20. */
#define TD_PLUGIN(type, kind_, name_, options_, config_type, ...)                         \
    {                                                                                     \
        .size = sizeof(type), .kind = kind_, .name = name_, .options = options_,          \
        .option_size = sizeof(td_option), .config_size = sizeof(config_type), __VA_ARGS__ \
    }

/* ---- modules --------------------------------------------------------------------------------- */

/* The type of the symbol `tandem_module`. TD_MODULE fills it in. */
typedef struct td_module {
    uint32_t                magic;     /* TD_MAGIC */
    uint16_t                abi_major; /* ABI version of the headers it was compiled with */
    uint16_t                abi_minor;
    uint64_t                size; /* sizeof(td_module) */
    const char             *name, *version, *author, *licence;
    const td_plugin *const *plugins; /* then NULL */
} td_module;

/* The one symbol that stays visible under -fvisibility=hidden. */
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

/* Defines the module: its name, version, author and licence, then the address of each plugin's
 * td_plugin. Once per shared object, at file scope. */
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
