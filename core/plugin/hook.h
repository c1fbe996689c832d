/* hook.h - calls of plugins' code, through which the host knows which code runs, and what it has
 * changed.
 *
 *     code = TD_HOOK(backend, open, config, services, &state, error);
 *
 * calls backend->open(config, ..). While it runs, the thread's innermost hook is known, so that a
 * crash, an exit or a hang can be attributed to a plugin; when it returns, the process is as before
 * (see process.h), and the plugin's changes are reported. Hooks may call hooks.
 */
#ifndef TD_PLUGIN_HOOK_H
#define TD_PLUGIN_HOOK_H

#include "base/log.h"
#include "plugin/process.h"
#include "tandem/plugin.h"

/* A call in progress, on the stack of its thread. */
typedef struct td_hook {
    const td_plugin *plugin; /* NULL: a module is being loaded */
    const char      *name;   /* "open" */
    const char      *path;   /* of the module; NULL: that of the plugin .. */
    const void      *where; /* .. or of the module that this address lies in; NULL: of the plugin */
    const char      *what;  /* is called; NULL: a "hook" */
    bool             quick; /* only the floating-point mode is restored */
    uint32_t         mode;  /* when it began */
    struct td_hook  *outer;
} td_hook;

/* Begin and end a call on this thread; end them in the opposite order. [any] */
void td_hook_enter(td_hook *);
void td_hook_leave(td_hook *);

/* The same for a call whose caller has no place for a td_hook: a plugin that calls another. */
void td_hook_push(const td_plugin *, const char *hook);
void td_hook_pop(void);

/* clang-format off */
#define TD_HOOK_AS(p, its_plugin, hook, is_quick, ...)                                         \
    __extension__({                                                                            \
        __attribute__((cleanup(td_hook_leave))) td_hook td_hook_now = {                        \
            .plugin = (its_plugin), .name = #hook, .quick = (is_quick) };                      \
        td_hook_enter(&td_hook_now);                                                           \
        (p)->hook(__VA_ARGS__);                                                                \
    })
/* clang-format on */

/* p->hook(arguments): the value of the hook. `p` is evaluated several times. */
#define TD_HOOK(p, hook, ...) TD_HOOK_AS(p, &(p)->plugin, hook, false, __VA_ARGS__)
/* The same for hooks that run thousands of times in a step. */
#define TD_HOOK_QUICK(p, hook, ...) TD_HOOK_AS(p, &(p)->plugin, hook, true, __VA_ARGS__)
/* The same where `p` is the td_plugin itself. */
#define TD_HOOK_OF(p, hook, ...) TD_HOOK_AS(p, p, hook, false, __VA_ARGS__)

/* After a jump out of hooks: end this one, the outermost, and all that were called in it. */
void td_hook_unwind(td_hook *);

/* ---- who is running -------------------------------------------------------------------------- */

/* Texts live as long as the process: modules are never unloaded. */
typedef struct td_hook_running {
    const char *kind, *plugin; /* NULL: a module is being loaded */
    const char *hook, *path;   /* `path`: NULL if it is not known */
    const char *what;          /* "hook" */
    double      since;         /* td_now */
    uint64_t    number;        /* differs from call to call */
} td_hook_running;

enum { TD_HOOK_THREADS = 64 /* that are watched */ };

/* The innermost hook of this thread, else of any thread: a pool's workers compute for a hook that
 * another thread called. False: none. [any, signal handlers too] */
bool td_hook_current(td_hook_running *);
/* Whether this very thread is in a hook. [any, signal handlers too] */
bool td_hook_inside(void);
/* The innermost hook of thread `k` of TD_HOOK_THREADS; false: none. [any] */
bool td_hook_of_thread(int k, td_hook_running *);
/* "hook 'build' of attention 'mine' ('/path/attention-mine.so')"; cut to fit. [any, signal handlers
 * too] */
void td_hook_describe(const td_hook_running *, char *out, size_t size);

/* Call `stray` when a hook returns in a process that it has forked: two processes would then
 * continue the same work, so one has to end. [main] */
void td_hook_watch_forks(void (*stray)(const td_hook_running *));

/* ---- what they changed ----------------------------------------------------------------------- */

/* The receiver of reports, one sentence for each change of each hook. There is one for the process:
 * the last call counts. NULL: none. */
typedef void td_hook_listener(void *argument, const char *text);
void         td_hook_listen(td_hook_listener *, void *argument);
/* Stop reporting to this receiver. */
void         td_hook_listen_no_more(const void *argument);

/* ---- what is safe ---------------------------------------------------------------------------- */

/* Work that a crash from now on does not destroy, for the message about it: "checkpoint 'DIR'".
 * Copied, and cut to fit; NULL: nothing. [main] */
void        td_hook_saved(const char *what);
/* "": no such work was named. [any, signal handlers too] */
const char *td_hook_what_is_saved(void);

#endif
