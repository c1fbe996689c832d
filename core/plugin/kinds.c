/* kinds.c - the kinds of plugins that this host knows. */
#include "plugin/registry.h"
#include "tandem/kind/architecture.h"
#include "tandem/kind/backend.h"
#include "tandem/kind/comm.h"
#include "tandem/kind/data.h"
#include "tandem/kind/kernels.h"
#include "tandem/kind/logger.h"
#include "tandem/kind/loss.h"
#include "tandem/kind/op.h"
#include "tandem/kind/optimizer.h"
#include "tandem/kind/schedule.h"
#include "tandem/kind/tokenizer.h"

const td_kind *td_kinds(void)
{
    static const td_kind kinds[] = {
        { TD_ARCHITECTURE_KIND, "architecture", "how a model reads given and predicted tokens", sizeof(td_architecture) },
        { TD_ATTENTION_KIND, "attention", "queries and the tokens they read", sizeof(td_attention) },
        { TD_BACKEND_KIND, "backend", "a compute device: memory, copies, a queue", sizeof(td_backend) },
        { TD_COMM_KIND, "comm", "communication between the processes of a run", sizeof(td_comm) },
        { TD_DATA_KIND, "data", "a source of training and held-out records", sizeof(td_data) },
        { TD_FFN_KIND, "ffn", "the feed-forward sublayer", sizeof(td_ffn) },
        { TD_KERNELS_KIND, "kernels", "how ops are computed on a backend", sizeof(td_kernels) },
        { TD_LOGGER_KIND, "logger", "where metrics go", sizeof(td_logger) },
        { TD_LOSS_KIND, "loss", "a training objective", sizeof(td_loss) },
        { TD_NORM_KIND, "norm", "a normalisation layer", sizeof(td_norm) },
        { TD_OP_KIND, "op", "what a node of the graph may be", sizeof(td_op) },
        { TD_OPTIMIZER_KIND, "optimizer", "the update of the parameters", sizeof(td_optimizer) },
        { TD_POSITION_KIND, "position", "a positional scheme", sizeof(td_position) },
        { TD_SCHEDULE_KIND, "schedule", "the learning rate as a function of the step", sizeof(td_schedule) },
        { TD_TOKENIZER_KIND, "tokenizer", "text to ids and back", sizeof(td_tokenizer) },
        { 0, 0, 0, 0 },
    };
    return kinds;
}
