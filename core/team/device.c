/* device.c - transfers between the devices of a team.
 *
 * Queueing may itself wait for the others, the first time that it needs a connection, so every call
 * is under the alarm.
 */
#include <string.h>

#include "plugin/hook.h"
#include "team/internal.h"

/* ---- connecting ------------------------------------------------------------------------------ */

bool td_team_reaches(const td_team *t, const td_device *d)
{
    const td_backend *b = d->backend;
    return td_team_size(t) > 1 && t->comm->backend && b->queue && b->copy && b->add &&
           !strcmp(t->comm->backend, b->plugin.name);
}

int td_team_attach(td_team *t, const td_device *d, td_error *error)
{
    void *queue;
    int   code;
    if (!td_team_reaches(t, d))
        return 0;
    queue = TD_HOOK(d->backend, queue, d->state);
    td_alarm_begin(t->alarm, "attach");
    code = TD_HOOK(t->comm, attach, t->state, queue, error);
    td_alarm_end(t->alarm);
    t->attached = !code;
    if (code)
        code = td_fail(error, td_team_failure(error, TD_EIO),
                       "comm '%s' cannot connect the devices of %d processes", t->comm->plugin.name,
                       t->size);
    code = td_team_agree(t, code, error);
    if (code)
        td_team_detach(t);
    return code;
}

void td_team_detach(td_team *t)
{
    if (td_team_is_attached(t))
        TD_HOOK(t->comm, detach, t->state);
    if (t)
        t->attached = false;
}

bool td_team_is_attached(const td_team *t) { return t && t->attached; }

/* ---- calls ----------------------------------------------------------------------------------- */

/* Quick: there may be hundreds in a step. */
#define CALL(t, hook, ...)              \
    (td_alarm_begin((t)->alarm, #hook), \
     td_team_end_call(t, TD_HOOK_QUICK((t)->comm, hook, (t)->state, __VA_ARGS__), error))

int td_team_device_begin(td_team *t, td_error *error) { return CALL(t, device_begin, error); }

int td_team_device_end(td_team *t, td_error *error) { return CALL(t, device_end, error); }

int td_team_device_all_reduce(td_team *t, void *data, int64_t count, int dtype, td_error *error)
{
    return CALL(t, device_all_reduce, data, count, dtype, error);
}

int td_team_device_all_to_all(td_team *t, const void *send, void *receive, size_t bytes,
                              td_error *error)
{
    return CALL(t, device_all_to_all, send, receive, bytes, error);
}

int td_team_device_all_gather(td_team *t, const void *send, void *receive, size_t bytes,
                              td_error *error)
{
    return CALL(t, device_all_gather, send, receive, bytes, error);
}

int td_team_device_broadcast(td_team *t, void *data, size_t bytes, int root, td_error *error)
{
    return CALL(t, device_broadcast, data, bytes, root, error);
}

/* A rank that fails alone reports it at once: the others may wait until comm.timeout for what it
 * has not sent, and it may wait for them. */
int td_team_device_wait(td_team *t, td_error *error)
{
    int code = CALL(t, device_wait, error);
    if (td_failed(error, 0) && !t->lost)
        t->spec.services->log(t->spec.services, TD_LOG_ERROR, "%s", error->text);
    return code;
}
