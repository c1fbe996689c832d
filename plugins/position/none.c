/* none.c - no positional scheme (NoPE): a causal mask alone reveals order. Paper: Kazemnejad et al.
 * 2023. An encoder, which has no such mask, then sees a bag of tokens. */
#include "tandem/kind/position.h"

struct none {
    bool unused;
};

static const td_position none = {
    .plugin = TD_PLUGIN(
        td_position, TD_POSITION_KIND, "none", NULL, struct none,
        .brief = "no positional scheme (NoPE)",
        .paper =
            "Kazemnejad et al., The Impact of Positional Encoding on Length Generalization, 2023"),
};

TD_MODULE("none", "1.0", "tandem", "MIT", &none.plugin)
