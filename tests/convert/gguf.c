/* gguf.c - llama.cpp's files through `tandem convert`: what is refused, and tokenizers in the
 * file. */
#include "convert/scratch.h"

TestSuite(gguf, .init = scratch_open, .fini = scratch_close);

#define LLAMA                                                                                      \
    "$T convert -c $C/gguf-llama/ours.cfg out.gguf --weights $C/gguf-llama/ours.safetensors --to " \
    "gguf "
#define QWEN3                                                                                      \
    "$T convert -c $C/gguf-qwen3/ours.cfg out.gguf --weights $C/gguf-qwen3/ours.safetensors --to " \
    "gguf "

/* ---- models that are not written ------------------------------------------------------------- */

Test(gguf, has_fewer_models_than_transformers)
{
    scratch_expect(2, "model.ffn.plugin is geglu: it can only be swiglu; formats that can:",
                   LLAMA "model.ffn.plugin=geglu --allow 'model.ffn*'");
    scratch_expect(2, "model.attention.bias is true: it can only be false",
                   "$T convert -c $C/gguf-qwen3/ours.cfg out.gguf --to gguf --allow 'model*' "
                   "model.attention.bias=true --weights $C/gguf-qwen3/ours.safetensors");
    scratch_expect(2,
                   "llama.attention.layer_norm_rms_epsilon would be 1.2345678912e-06, which single "
                   "precision cannot hold exactly",
                   LLAMA "model.norm.eps=1.2345678912e-6");
    scratch_expect(2, "it can only be swiglu; no other format can either",
                   LLAMA "--dtype q8_0 model.ffn.plugin=geglu --allow 'model.ffn*'");
    scratch_expect(1, "format 'llama' has no tensors of type q8_0",
                   "$T convert -c $C/gguf-llama/ours.cfg out --weights "
                   "$C/gguf-llama/ours.safetensors --to llama --dtype q8_0 || exit 1");
    MUST("! ls out*");
    scratch_expect(1, "'out.gguf' exists: choose another name", LLAMA "&& " LLAMA);
}

/* A number that Q8_0 cannot represent. */
Test(gguf, has_no_bytes_for_what_is_infinite)
{
    MUST("$T convert $C/gguf-qwen3/theirs.gguf run && cp run/checkpoints/*/model.safetensors w && "
         "printf '\\0\\0\\200\\177' | dd of=w bs=1 seek=$(($(stat -c %s w) - 4)) conv=notrunc "
         "2>dd && tail -c 4 w | od -tx4 | grep -q 7f800000");
    scratch_expect(1, "an element is inf: Q8_0 takes numbers below 8e6",
                   "$T convert run out.gguf --to gguf --dtype q8_0 --weights w");
    MUST("! ls out*");
}

/* ---- files that are not read ----------------------------------------------------------------- */

/* A case's file, changed by sed to another of the same size. */
static void expect_changed(int code, const char *text, const char *change)
{
    char command[600];
    snprintf(command, sizeof command,
             "rm -rf out && LC_ALL=C sed '%s' $C/gguf-llama/theirs.gguf >f.gguf && "
             "test $(stat -c %%s f.gguf) = $(stat -c %%s $C/gguf-llama/theirs.gguf) && "
             "$T convert f.gguf out",
             change);
    scratch_expect(code, text, command);
}

Test(gguf, with_settings_that_would_change_the_model_is_refused)
{
    expect_changed(1, "does not know llama.rope.freq_bash, which is 700.0",
                   "s/rope.freq_base/rope.freq_bash/");
    expect_changed(1, "no format reads models of type 'lxama'; there are formats for: llama, qwen3",
                   "s/llama/lxama/");
    expect_changed(1, "llama.embedding_length is missing", "s/embedding_length/embedding_lingth/");
    expect_changed(1, "llama.rope.scaling.type is yern: default, linear and yarn can be read",
                   "s/yarn/yern/");
    expect_changed(1, "has no tensor 'blk.1.ffn_down.weight', which its metadata requires",
                   "s/blk.1.ffn_down.weight/blk.7.ffn_down.weight/");
    expect_changed(1, "has a tensor 'blk.0.attn_q.bios', which according to its metadata",
                   "s/blk.0.attn_q.bias/blk.0.attn_q.bios/");
    expect_changed(1, "cannot read 'f.gguf' as GGUF: the key 'tokenizer.ggml.eos_token_id'",
                   "s/ggml.bos_token/ggml.eos_token/");
    MUST("! ls -d out");
}

Test(gguf, from_another_container_is_refused)
{
    scratch_expect(1, "format 'llama' does not read files like",
                   "$T convert $C/gguf-llama/theirs.gguf out --from llama");
    scratch_expect(1, "format 'gguf' does not read folders like",
                   "$T convert $C/llama/theirs out --from gguf");
}

Test(gguf, that_is_truncated_is_refused)
{
    MUST("for n in 4 20 2000 13000 83359; do head -c $n $C/gguf-llama/theirs.gguf >f.gguf; "
         "$T convert f.gguf out 2>said && exit 1; "
         "grep -q \"cannot read 'f.gguf' as GGUF\" said || exit 1; done; ! ls -d out");
    scratch_expect(1, "f.gguf/config.json",
                   "head -c 3 $C/gguf-llama/theirs.gguf >f.gguf && $T convert f.gguf out");
}

/* The width of a head follows from two sizes where the file does not say it. */
Test(gguf, with_heads_that_cannot_be_rotated_is_refused)
{
    expect_changed(1, "the width of a head is 7: it must be even",
                   "s/key_length\\x04\\x00\\x00\\x00\\x06/key_length\\x04\\x00\\x00\\x00\\x07/");
    expect_changed(1, "the width of a head is 5: it must be even",
                   "s/key_length/key_longth/; "
                   "s/head_count\\x04\\x00\\x00\\x00\\x03/head_count\\x04\\x00\\x00\\x00\\x06/");
    MUST("! ls -d out");
}

/* ---- tokenizers ------------------------------------------------------------------------------ */

#define WORDS                                                                 \
    "tokenizer.plugin=huggingface model.vocab_size=500 'tokenizer.eos=</s>' " \
    "tokenizer.file=$C/../plugins/tokenizer/cases/"

/* A run, and the same run written and read back, generate the same ids. */
#define GO_AND_RETURN                                                                              \
    "&& $T convert a a.gguf --to gguf && $T convert a.gguf b && "                                  \
    "for run in a b; do $T generate $run 'The ferry </s> from 12 \342\206\222\342\206\222 <tool> " \
    "x' "                                                                                          \
    "--json | sed 's/,\"logprob\".*//' >$run.said; done && grep -q ids a.said && "                 \
    "cmp a.said b.said"

Test(gguf, brings_bytes_back) { MUST(TRAIN GO_AND_RETURN); }

Test(gguf, brings_pieces_with_symbols_back)
{
    MUST(TRAIN PIECES "pieces-bpe.model " GO_AND_RETURN);
}

Test(gguf, brings_pieces_with_a_space_in_front_back)
{
    MUST(TRAIN PIECES "pieces-prefix.model " GO_AND_RETURN);
}

Test(gguf, brings_words_back) { MUST(TRAIN WORDS "words.json " GO_AND_RETURN); }

/* The model is written all the same, for programs that work with ids. */
static void expect_none(const char *tokenizer, const char *why)
{
    char command[2500];
    snprintf(command, sizeof command,
             TRAIN
             "%s 2>log && rm -f a.gguf && $T convert a a.gguf --to gguf && $T convert a.gguf b && "
             "! grep -q '^tokenizer' b/config.cfg && rm -rf a b",
             tokenizer);
    scratch_expect(0, why, command);
}

Test(gguf, leaves_tokenizers_out_that_llama_cpp_does_not_have)
{
    expect_none(PIECES "pieces-unigram.model", "it is not BPE");
    expect_none(WORDS "gpt.json", "it normalizes texts");
    expect_none(WORDS "llama.json", "would merge '\342\226\201th e' into a token, which no merge");
    expect_none(WORDS "odd.json", "it splits words in a way that has no name in GGUF");
}

Test(gguf, with_a_tokenizer_that_is_wrong_is_read_without)
{
    expect_changed(0, "cannot be used: words are not split as in gpt-2", "s/gpt-2/gpt-X/");
    expect_changed(0, "cannot be used: 'tokenizer.ggml.merges' is missing",
                   "s/ggml.merges/ggml.morges/");
    expect_changed(0, "cannot be used: two of its tokens are '<pad>'", "s/<unk>/<pad>/");
    MUST("! grep -q '^tokenizer' out/config.cfg && $T generate out --ids '70 71' >/dev/null");
}

Test(gguf, with_scores_that_are_no_numbers_is_read_without_a_tokenizer)
{
    MUST(TRAIN PIECES "pieces-bpe.model && $T convert a a.gguf --to gguf && $T convert a.gguf b && "
                      "grep -q '^tokenizer' b/config.cfg");
    scratch_expect(0, "its token 0 has the score nan: it must be finite",
                   "at=$(grep -abo tokenizer.ggml.scores a.gguf | cut -d: -f1) && printf "
                   "'\\0\\0\\300\\177' | dd of=a.gguf bs=1 seek=$((at + 37)) conv=notrunc && "
                   "$T convert a.gguf c");
    MUST("! grep -q '^tokenizer' c/config.cfg");
}

/* llama.cpp adds ids as the file says, tandem as its models are trained. */
Test(gguf, with_other_ends_of_texts_is_read_with_a_warning)
{
    MUST("$T convert $C/gguf-llama/theirs.gguf out 2>said && ! grep -q add_ said");
    expect_changed(0, "texts without a special id at the beginning (tokenizer.ggml.add_bos_token)",
                   "s/bos_token\\x07\\x00\\x00\\x00\\x01/bos_token\\x07\\x00\\x00\\x00\\x00/");
    expect_changed(0, "texts without a special id at the beginning (tokenizer.ggml.add_bos_token)",
                   "s/add_bos_token/add_bos_tokem/");
    expect_changed(0, "expects an end-of-text token after each text (tokenizer.ggml.add_eos_token)",
                   "s/eos_token\\x07\\x00\\x00\\x00\\x00/eos_token\\x07\\x00\\x00\\x00\\x01/");
}

/* ---- use ------------------------------------------------------------------------------------- */

Test(gguf, is_used_as_it_is)
{
    MUST(TRAIN
         "&& $T convert a a.gguf --to gguf && $T generate a 'The ferry' >a.said && "
         "export XDG_CACHE_HOME=$PWD/cache && $T generate a.gguf 'The ferry' >b.said 2>log && "
         "cmp a.said b.said && grep -q 'converted to' log && $T describe a.gguf 2>log && "
         "! grep -q 'converted to' log && test $(ls cache/tandem/folders | wc -l) = 1");
    MUST("export XDG_CACHE_HOME=$PWD/cache && touch -d 2001-01-01 a.gguf && $T describe a.gguf && "
         "test $(ls cache/tandem/folders | wc -l) = 2");
}
