/* kinds.c - the kinds of plugins that this host knows, and the hooks that each must set. */
#include "plugin/kinds.h"

#include <string.h>

#include "tandem/kind/architecture.h"
#include "tandem/kind/backend.h"
#include "tandem/kind/comm.h"
#include "tandem/kind/data.h"
#include "tandem/kind/format.h"
#include "tandem/kind/kernels.h"
#include "tandem/kind/logger.h"
#include "tandem/kind/loss.h"
#include "tandem/kind/metric.h"
#include "tandem/kind/op.h"
#include "tandem/kind/optimizer.h"
#include "tandem/kind/schedule.h"
#include "tandem/kind/tokenizer.h"

/* The only place that lists the kinds; everything else goes through this table. */
const td_kind *td_kinds(void)
{
    /* sorted by name: listings and reference pages keep this order */
    static const td_kind kinds[] = {
        { TD_ARCHITECTURE_KIND, "architecture", "how a model reads given and predicted tokens",
          sizeof(td_architecture) },
        { TD_ATTENTION_KIND, "attention", "how queries read other tokens", sizeof(td_attention) },
        { TD_BACKEND_KIND, "backend", "a compute device: memory, copies, a queue",
          sizeof(td_backend) },
        { TD_COMM_KIND, "comm", "communication between the processes of a run", sizeof(td_comm) },
        { TD_DATA_KIND, "data", "a source of training and held-out records", sizeof(td_data) },
        { TD_FFN_KIND, "ffn", "the feed-forward sublayer", sizeof(td_ffn) },
        { TD_FORMAT_KIND, "format", "models as other programs store them", sizeof(td_format) },
        { TD_KERNELS_KIND, "kernels", "how a backend computes ops", sizeof(td_kernels) },
        { TD_LOGGER_KIND, "logger", "receives metrics", sizeof(td_logger) },
        { TD_LOSS_KIND, "loss", "a training objective", sizeof(td_loss) },
        { TD_METRIC_KIND, "metric", "how answers to a task's items become a score",
          sizeof(td_task_metric) },
        { TD_NORM_KIND, "norm", "a normalization layer", sizeof(td_norm) },
        { TD_OP_KIND, "op", "an operation of the graph", sizeof(td_op) },
        { TD_OPTIMIZER_KIND, "optimizer", "the update of the parameters", sizeof(td_optimizer) },
        { TD_POSITION_KIND, "position", "a positional scheme", sizeof(td_position) },
        { TD_SCHEDULE_KIND, "schedule", "the learning rate as a function of the step",
          sizeof(td_schedule) },
        { TD_TOKENIZER_KIND, "tokenizer", "text to ids and back", sizeof(td_tokenizer) },
        { 0, 0, 0, 0 },
    };
    return kinds;
}

const td_kind *td_kind_find(const char *id)
{
    for (const td_kind *k = td_kinds(); k->id; k++)
        if (!strcmp(k->id, id))
            return k;
    return NULL;
}

/* ---- hooks that the host calls without testing them for NULL --------------------------------- */

typedef struct hook {
    const char *kind, *name;
    size_t      offset;
} hook;

/* clang-format off */
#define HOOK(type, KIND, hook) { KIND, #hook, offsetof(type, hook) }
/* clang-format on */

/* Optional hooks are left out: the host tests those, and their comments say what NULL means. */
static const hook needed[] = {
    HOOK(td_architecture, TD_ARCHITECTURE_KIND, extent),
    HOOK(td_architecture, TD_ARCHITECTURE_KIND, arrange),
    HOOK(td_architecture, TD_ARCHITECTURE_KIND, build),
    HOOK(td_architecture, TD_ARCHITECTURE_KIND, vocab_size),
    HOOK(td_attention, TD_ATTENTION_KIND, build),
    HOOK(td_backend, TD_BACKEND_KIND, open),
    HOOK(td_backend, TD_BACKEND_KIND, close),
    HOOK(td_backend, TD_BACKEND_KIND, allocate),
    HOOK(td_backend, TD_BACKEND_KIND, release),
    HOOK(td_comm, TD_COMM_KIND, open),
    HOOK(td_comm, TD_COMM_KIND, close),
    HOOK(td_comm, TD_COMM_KIND, rank),
    HOOK(td_comm, TD_COMM_KIND, size),
    HOOK(td_comm, TD_COMM_KIND, all_reduce),
    HOOK(td_comm, TD_COMM_KIND, all_to_all),
    HOOK(td_comm, TD_COMM_KIND, all_gather),
    HOOK(td_comm, TD_COMM_KIND, broadcast),
    HOOK(td_data, TD_DATA_KIND, open),
    HOOK(td_data, TD_DATA_KIND, close),
    HOOK(td_data, TD_DATA_KIND, sources),
    HOOK(td_data, TD_DATA_KIND, source_name),
    HOOK(td_data, TD_DATA_KIND, fetch),
    HOOK(td_data, TD_DATA_KIND, held_out),
    HOOK(td_data, TD_DATA_KIND, fetch_held_out),
    HOOK(td_ffn, TD_FFN_KIND, build),
    HOOK(td_format, TD_FORMAT_KIND, write),
    HOOK(td_kernels, TD_KERNELS_KIND, backend),
    HOOK(td_kernels, TD_KERNELS_KIND, rows),
    HOOK(td_logger, TD_LOGGER_KIND, open),
    HOOK(td_logger, TD_LOGGER_KIND, close),
    HOOK(td_logger, TD_LOGGER_KIND, write),
    HOOK(td_loss, TD_LOSS_KIND, split),
    HOOK(td_loss, TD_LOSS_KIND, bounds),
    HOOK(td_loss, TD_LOSS_KIND, build),
    HOOK(td_task_metric, TD_METRIC_KIND, measure),
    HOOK(td_norm, TD_NORM_KIND, build),
    HOOK(td_op, TD_OP_KIND, infer),
    HOOK(td_optimizer, TD_OPTIMIZER_KIND, build),
    HOOK(td_schedule, TD_SCHEDULE_KIND, rate),
    HOOK(td_tokenizer, TD_TOKENIZER_KIND, open),
    HOOK(td_tokenizer, TD_TOKENIZER_KIND, close),
    HOOK(td_tokenizer, TD_TOKENIZER_KIND, special),
    HOOK(td_tokenizer, TD_TOKENIZER_KIND, encode),
    HOOK(td_tokenizer, TD_TOKENIZER_KIND, decode),
};

const char *td_kind_missing_hook(const td_plugin *p)
{
    for (size_t k = 0; k < sizeof needed / sizeof *needed; k++) {
        void *value = NULL; /* stays so for a hook beyond the end */
        if (strcmp(needed[k].kind, p->kind))
            continue;
        /* an older module's struct may end before the hook; function pointers have their own
         * types, so look at the bits */
        if (needed[k].offset + sizeof value <= p->size)
            memcpy(&value, (const char *)p + needed[k].offset, sizeof value);
        if (!value)
            return needed[k].name;
    }
    return NULL;
}
