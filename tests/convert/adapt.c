/* adapt.c - encoder-decoders that are made from decoder-only models: every parameter is one of theirs,
 * what does not fit together is refused, and training and studies start there. */
#include "convert/scratch.h"
#include "golden/safetensors.h"

TestSuite(adapt, .init = scratch_open, .fini = scratch_close);

/* A decoder-only model of `layers` layers, with every parameter that one can have. */
#define TRAIN_DEEP(name, layers, more)                                                       \
    "$T train -c quickstart/decllm.cfg run.dir=. run.name=" name " model.layers=" layers     \
    " model.d_model=12 model.attention.heads=3 model.attention.head_dim=4 model.ffn.d_ff=7 " \
    "model.attention.kv_heads=1 model.attention.bias=true model.ffn.bias=true "              \
    "model.attention.qk_norm_scale=true model.post_norm=true model.tie_embeddings=false "    \
    "model.post_ffn_norm=true "                                                              \
    "train.steps=2 train.length=32 train.batch=2 train.micro_batch=2 evaluate.sequences=1 " more

#define ADAPT(layers)                                                              \
    "$T convert a out --adapt model.plugin=encoder-decoder loss.plugin=prefix-lm " \
    "model.encoder_layers=" layers " model.decoder_layers=3 run.name=out "

/* ---- parameters ------------------------------------------------------------------------------ */

/* A parameter's name, without "model." and the stack: in our layer, and in the layer that it was
 * made from. */
static const struct {
    const char *ours, *theirs;
} names[] = {
    { "pre_self_attn_layernorm.weight", "input_layernorm.weight" },
    { "pre_cross_attn_layernorm.weight", "input_layernorm.weight" },
    { "post_self_attn_layernorm.weight", "post_self_attn_layernorm.weight" },
    { "post_cross_attn_layernorm.weight", "post_self_attn_layernorm.weight" },
    { "pre_feedforward_layernorm.weight", "post_attention_layernorm.weight" },
    { "post_feedforward_layernorm.weight", "post_feedforward_layernorm.weight" },
    { "self_attn.q_proj.weight", "self_attn.q_proj.weight" },
    { "self_attn.k_proj.bias", "self_attn.k_proj.bias" },
    { "self_attn.v_proj.weight", "self_attn.v_proj.weight" },
    { "self_attn.o_proj.weight", "self_attn.o_proj.weight" },
    { "self_attn.q_norm.weight", "self_attn.q_norm.weight" },
    { "cross_attn.q_proj.weight", "self_attn.q_proj.weight" },
    { "cross_attn.k_proj.weight", "self_attn.k_proj.weight" },
    { "cross_attn.v_proj.bias", "self_attn.v_proj.bias" },
    { "cross_attn.o_proj.weight", "self_attn.o_proj.weight" },
    { "cross_attn.k_norm.weight", "self_attn.k_norm.weight" },
    { "mlp.gate_proj.weight", "mlp.gate_proj.weight" },
    { "mlp.up_proj.bias", "mlp.up_proj.bias" },
    { "mlp.down_proj.weight", "mlp.down_proj.weight" },
};

static void open_run(struct tensors *t, const char *run, const char *step)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s/checkpoints/step-%s/model.safetensors", scratch, run, step);
    cr_assert(tensors_open(t, path), "%s", path);
}

static void expect_same(const struct tensors *a, const char *name, const struct tensors *b,
                        const char *other)
{
    struct values x = tensors_get(a, name), y = tensors_get(b, other);
    cr_assert(x.at && y.at, "%s or %s is missing", name, other);
    cr_assert_eq(x.count, y.count, "%s and %s", name, other);
    cr_expect(!memcmp(x.at, y.at, x.count * sizeof *x.at), "%s is not %s", name, other);
    free(x.at);
    free(y.at);
}

static void expect_stack(const struct tensors *out, const char *stack, const struct tensors *from,
                         int layers)
{
    char ours[200], theirs[200];
    for (int k = 0; k < layers; k++)
        for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
            snprintf(ours, sizeof ours, "model.%s.layers.%d.%s", stack, k, names[n].ours);
            snprintf(theirs, sizeof theirs, "model.layers.%d.%s", k, names[n].theirs);
            if (strcmp(stack, "encoder") || !strstr(ours, "cross_attn"))
                expect_same(out, ours, from, theirs);
        }
    snprintf(ours, sizeof ours, "model.%s.norm.weight", stack);
    expect_same(out, ours, from, "model.norm.weight");
}

Test(adapt, both_stacks_are_those_of_one_run)
{
    struct tensors a, out;
    MUST(TRAIN_DEEP("a", "3", "") "&& " ADAPT("3"));
    open_run(&a, "a", "00000002");
    open_run(&out, "out", "00000000");
    expect_stack(&out, "encoder", &a, 3);
    expect_stack(&out, "decoder", &a, 3);
    expect_same(&out, "model.decoder.embed_tokens.weight", &a, "model.embed_tokens.weight");
    expect_same(&out, "lm_head.weight", &a, "lm_head.weight");
    tensors_close(&a);
    tensors_close(&out);
}

/* The encoder has b's 2 layers, the decoder a's 3, and of the tables outside of layers, one is a's. */
static void expect_parts(const char *name, const char *of_a)
{
    struct tensors a, b, out;
    open_run(&a, "a", "00000002");
    open_run(&b, "b", "00000002");
    open_run(&out, "out", "00000000");
    expect_stack(&out, "encoder", &b, 2);
    expect_stack(&out, "decoder", &a, 3);
    expect_same(&out, name, &a, of_a);
    tensors_close(&a);
    tensors_close(&b);
    tensors_close(&out);
}

/* Of another depth; its embeddings are not used, and a warning says so. */
Test(adapt, the_encoder_can_be_that_of_another_run)
{
    MUST(TRAIN_DEEP("a", "3", "") "&& " TRAIN_DEEP("b", "2", "train.seed=5"));
    scratch_expect(0, "read 'model.embed_tokens.weight' from 'a', which differs",
                   ADAPT("2") "--encoder b");
    expect_parts("model.decoder.embed_tokens.weight", "model.embed_tokens.weight");
}

/* Tables outside of the layers are one run's, of tokens and of positions; what an encoder's run has for
 * its logits is not used. */
#define TABLES "model.position.plugin=learned %s"
static void expect_tables(const char *decoder, const char *encoder)
{
    static const char position[] = "model.position_embeddings.weight";
    static const char train[] = TRAIN_DEEP("a", "3",
                                           TABLES) "&& " TRAIN_DEEP("b", "2",
                                                                    "train.seed=5 " TABLES) "&& ";
    char              command[2500];
    snprintf(command, sizeof command, train, decoder, encoder);
    strcat(command, ADAPT("2") "--encoder b");
    scratch_expect(0, "read 'model.position_embeddings.weight' from 'a', which differs", command);
    expect_parts(position, position);
}

Test(adapt, an_encoder_does_not_bring_tables_or_logits)
{
    expect_tables("model.tie_embeddings=true", "model.tie_embeddings=false");
    MUST("rm -r a b out");
    expect_tables("model.tie_embeddings=false", "model.tie_embeddings=true");
    MUST("rm -r a b out");
    expect_tables("model.logit_cap=0", "model.logit_cap=7.5");
}

/* ---- refusals -------------------------------------------------------------------------------- */

Test(adapt, what_does_not_fit_together_is_refused)
{
    MUST(TRAIN_DEEP("a", "3", "") "&& " TRAIN_DEEP("b", "2", "model.ffn.d_ff=5"));
    scratch_expect(2, "model.plugin is decoder-only, which cannot be made from other models",
                   "$T convert a out --adapt");
    scratch_expect(2, "no parameter is made from 'model.layers.2.input_layernorm.weight' of 'a'",
                   ADAPT("2"));
    scratch_expect(2, "'a' has no parameter 'model.layers.3.input_layernorm.weight'", ADAPT("4"));
    scratch_expect(2, "model.attention.output_norm: false -> true",
                   ADAPT("3") "model.attention.output_norm=true");
    scratch_expect(2, "model.ffn.d_ff: 5 -> 7", ADAPT("2") "--encoder b");
    scratch_expect(2, "'b' has 'model.layers.0.mlp.gate_proj.weight' with shape [5, 12]",
                   ADAPT("2") "--encoder b --allow model.ffn.d_ff");
    MUST("! ls -d out*");
    MUST(ADAPT("3") "model.attention.output_norm=true --allow model.attention.output_norm");
    scratch_expect(2, "'out' has the architecture 'encoder-decoder', from which",
                   "$T convert out again --adapt");
}

/* Options outside of the layers count as well, if both architectures have them; of the encoder's run,
 * those of its logits do not. */
Test(adapt, options_of_the_whole_model_are_compared)
{
    MUST(TRAIN_DEEP("a", "3", "") "&& " TRAIN_DEEP("b", "2", "model.logit_scale=none"));
    scratch_expect(2, "model.logit_scale: \"rsqrt\" -> \"none\"",
                   ADAPT("3") "model.logit_scale=none");
    scratch_expect(2, "model.logit_cap: 0.0 -> 7.5", ADAPT("3") "model.logit_cap=7.5");
    MUST("! ls -d out*");
    MUST(ADAPT("2") "--encoder b");
}

/* An id of another tokenizer would stand for another text. */
Test(adapt, tokenizers_are_compared)
{
#define OTHER PIECES "pieces-bpe.model "
    MUST(TRAIN_DEEP("a", "3", "model.vocab_size=500") "&& " TRAIN_DEEP("b", "2", OTHER));
    scratch_expect(2, "was trained with another tokenizer", ADAPT("3") OTHER);
    scratch_expect(2, "'b/checkpoints/step-00000002/model.safetensors' was trained with another",
                   ADAPT("2") "--encoder b");
    MUST("! ls -d out*");
    MUST(ADAPT("2") "--encoder b --allow tokenizer");
}

/* Half of an encoder's buckets are for what follows, all of a decoder's for what comes before. */
Test(adapt, biases_of_a_decoder_are_refused_for_an_encoder)
{
    MUST(TRAIN_DEEP("a", "3", "model.position.plugin=t5-relative"));
    scratch_expect(2, "the parameters of position 't5-relative' mean something else in an encoder",
                   ADAPT("3"));
    MUST("! ls -d out*");
    scratch_expect(0, "mean something else in an encoder: allowed",
                   ADAPT("3") "--allow model.position.plugin");
}

Test(adapt, arguments_that_do_not_fit_together_are_refused)
{
    MUST(TRAIN_DEEP("a", "1", ""));
    scratch_expect(2, "--to has no effect with --adapt", "$T convert a out --adapt --to llama");
    scratch_expect(2, "--adapt takes the directory of a run, and a run to create",
                   "$T convert a --adapt");
    scratch_expect(2, "'b' is neither a run nor a checkpoint",
                   "$T convert a out --adapt --encoder b");
    scratch_expect(2, "--encoder has no effect when a folder is read",
                   "$T convert $C/llama/theirs out --encoder a");
}

/* An encoder with a table of its own has its own model's, and nothing is said to differ. */
Test(adapt, each_stack_can_keep_its_table)
{
    struct tensors a, b, out;
    MUST(TRAIN_DEEP("a", "3", "") "&& " TRAIN_DEEP("b", "2", "train.seed=5") "&& " ADAPT(
        "2") "--encoder b model.share_embeddings=false 2>log && ! grep 'embed_tokens.*differs' "
             "log");
    open_run(&a, "a", "00000002");
    open_run(&b, "b", "00000002");
    open_run(&out, "out", "00000000");
    expect_same(&out, "model.decoder.embed_tokens.weight", &a, "model.embed_tokens.weight");
    expect_same(&out, "model.encoder.embed_tokens.weight", &b, "model.embed_tokens.weight");
    tensors_close(&a);
    tensors_close(&b);
    tensors_close(&out);
}

/* ---- use ------------------------------------------------------------------------------------- */

#define STUDY                                                                                      \
    "study = { base = [ \"quickstart/decllm.cfg\" ];\n"                                            \
    " variants = { plain = { }; adapted = { pretrain = { keys = {\n"                               \
    "  model = { plugin = \"encoder-decoder\"; encoder_layers = 3; decoder_layers = 3; };\n"       \
    "  loss = { plugin = \"prefix-lm\"; }; train = { weights = \"out\"; }; }; }; }; };\n"          \
    " phases = { pretrain = { keys = { train = { steps = 2; batch = 2; micro_batch = 2; length = " \
    "32; }; evaluate = { sequences = 1; }; }; }; }; };\n"

Test(adapt, training_and_a_study_start_there)
{
    char command[3000];
    MUST(TRAIN_DEEP("a", "3", "") "&& " ADAPT("3"));
    MUST("$T generate out 'The ferry' >/dev/null && "
         "$T train -c out/config.cfg train.weights=out run.name=c run.dir=. train.steps=1");
    snprintf(command, sizeof command,
             "cat >s.cfg <<'END'\n%sEND\n"
             "$T study run s.cfg run.dir=. model.d_model=12 model.attention.heads=3 "
             "model.attention.head_dim=4 model.ffn.d_ff=7 model.attention.kv_heads=1 "
             "model.attention.bias=true model.ffn.bias=true model.attention.qk_norm_scale=true "
             "model.post_norm=true model.post_ffn_norm=true model.tie_embeddings=false",
             STUDY);
    MUST(command);
    MUST("grep -q 'out/checkpoints/step-00000000' runs/s/cells/adapted-s1-pretrain/log.txt && "
         "! grep -q 'out/checkpoints' runs/s/cells/plain-s1-pretrain/log.txt");
}
