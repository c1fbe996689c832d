/* folders.c - tokenizers travel with models, and folders of other programs are used as they are. */
#include "convert/scratch.h"

TestSuite(folders, .init = scratch_open, .fini = scratch_close);

/* Folders are converted into a cache of the test's own. */
#define OWN_CACHE "export XDG_CACHE_HOME=$PWD/cache && "

/* The ids that follow a text are the same for a run and for what it comes back as. The scale of the
 * logits, which is part of the last norm then, rounds differently. */
#define GO_AND_RETURN                                                   \
    "&& $T convert a there --to llama && $T convert there b && "        \
    "for run in a b; do $T generate $run 'The ferry </s> from' --json " \
    "| sed 's/,\"logprob\".*//' >$run.said; done && grep -q ids a.said && cmp a.said b.said"

Test(folders, bytes_come_back)
{
    MUST(TRAIN GO_AND_RETURN);
    /* it has a tokenizer of its own */
    MUST("rm -r there && mv b moved && $T generate moved 'The' >/dev/null");
}

Test(folders, sentencepiece_comes_back)
{
    MUST(TRAIN PIECES "pieces-bpe.model " GO_AND_RETURN);
    MUST("cmp there/tokenizer.model $C/../plugins/tokenizer/cases/pieces-bpe.model && "
         "grep -q TemplateProcessing there/tokenizer.json && "
         "grep -q '\"bos_token\": \"<s>\"' there/tokenizer_config.json && "
         "grep -q 'tokenizer/.*-tokenizer.json' b/config.cfg");
}

/* An encoder reads its input without an id for beginnings. */
Test(folders, an_encoder_gets_no_template)
{
    MUST("$T train -c quickstart/redllm.cfg run.dir=. run.name=a train.steps=1 train.length=32 "
         "train.batch=2 train.micro_batch=2 evaluate.sequences=1 && "
         "$T convert a there --to huggingface && "
         "grep -q '\"post_processor\": null' there/tokenizer.json && "
         "! grep -q bos_token there/tokenizer_config.json");
}

/* A tokenizer that cannot be read is no reason to refuse the model, which has ids. */
Test(folders, a_tokenizer_that_is_not_known_is_left_out)
{
    MUST(TRAIN
         "&& $T convert a there --to llama && "
         "sed -i 's/\"decoder\": .*/\"decoder\": {\"type\": \"Odd\"},/' there/tokenizer.json");
    scratch_expect(0, "the decoder 'Odd' cannot be read", "$T convert there b");
    MUST("! grep -q '^tokenizer' b/config.cfg && $T generate b --ids '70 71' >/dev/null");
}

Test(folders, a_folder_is_used_as_it_is)
{
    MUST(TRAIN "&& $T convert a there --to llama && $T generate a 'The ferry' >a.said");
    scratch_expect(0, "is a model of another program: converted to",
                   OWN_CACHE "$T generate there 'The ferry' >there.said");
    MUST("cmp a.said there.said");
    MUST(OWN_CACHE "$T generate there 'The ferry' 2>said && ! grep converted said");
    MUST(OWN_CACHE "$T describe there && test $(ls cache/tandem/folders | wc -l) = 1");
    /* changed files are another model */
    MUST("touch -d '2001-01-01' there/config.json");
    scratch_expect(0, "converted to", OWN_CACHE "$T generate there --ids '70 71'");
    MUST(OWN_CACHE "for how in 'train.weights=there run.name=c' '--weights there run.name=d'; do "
                   "$T train -c a/config.cfg $how run.dir=. train.steps=1 --allow tokenizer "
                   "model.logit_scale model.attention.* || exit 1; done");
}

/* With another module a tokenizer may be read that could not be read before. */
Test(folders, other_modules_convert_again)
{
    MUST(TRAIN "&& $T convert a there --to llama && mkdir p && "
               "cp '" TANDEM_PLUGINS "/tokenizer-huggingface.so' p/");
    MUST(OWN_CACHE "for k in 1 2; do $T describe there || exit 1; "
                   "$T describe there --plugin-path p || exit 1; done && "
                   "test $(ls cache/tandem/folders | wc -l) = 2");
    MUST(OWN_CACHE "touch -d 2001-01-01 p/*.so && $T describe there --plugin-path p && "
                   "$T describe there && test $(ls cache/tandem/folders | wc -l) = 3");
    /* for our own, the version stands: building them again changes nothing */
    MUST(OWN_CACHE "touch '" TANDEM_PLUGINS "/format-llama.so' && $T describe there && "
                   "test $(ls cache/tandem/folders | wc -l) = 3");
}

/* A model and a tokenizer that Hugging Face's own code has made: in, finetuned, and out again. Its
 * factors are powers of two, so that nothing is rounded on the way. */
Test(folders, a_model_is_finetuned_and_goes_back)
{
    MUST("$T convert $C/t5gemma-text/theirs run && "
         "$T train -c run/config.cfg -c base/finetune.cfg -c $C/t5gemma-text/pairs.cfg "
         "train.weights=run run.name=tuned run.dir=. train.steps=3 train.length=128 train.batch=2 "
         "train.micro_batch=2 evaluate.sequences=1 && $T convert tuned there --to t5gemma && "
         "$T convert there again");
    MUST("! cmp run/checkpoints/*/model.safetensors again/checkpoints/*/model.safetensors && "
         "cmp tuned/checkpoints/*/model.safetensors again/checkpoints/*/model.safetensors");
    MUST("for run in tuned again; do $T generate $run --ids '280 287 69 304 177' --json | "
         "sed 's/,\"logprob\".*//' >$run.said; done && grep -q ids tuned.said && "
         "cmp tuned.said again.said");
    MUST("grep -q '^converted: 20.*, from another model' run/environment.txt");
    /* an encoder's tokenizer adds no <bos>, but has one, with which the decoder begins */
    MUST("grep -q '\"bos_token\": \"<bos>\"' there/tokenizer_config.json && "
         "grep -q '\"post_processor\": null' there/tokenizer.json");
    MUST("$T convert run back --to t5gemma && $T convert back same && for run in run same; do "
         "$T generate $run 'What is 12  plus \303\251?' --json >$run.said; done && cmp run.said "
         "same.said");
}

Test(folders, without_a_cache_a_folder_is_refused)
{
    MUST(TRAIN "&& $T convert a there --to llama");
    scratch_expect(1, "set XDG_CACHE_HOME to a directory that can be written",
                   "XDG_CACHE_HOME=/dev/null $T generate there 'The'");
    /* others can make files in a place for temporary ones: theirs are not used */
    scratch_expect(1, "set XDG_CACHE_HOME to a directory that can be written",
                   "mkdir -p tmp && mkdir -m 777 tmp/tandem-$(id -u) && export TMPDIR=$PWD/tmp && "
                   "env -u HOME -u XDG_CACHE_HOME $T generate there 'The'");
    MUST("rmdir tmp/* && export TMPDIR=$PWD/tmp && env -u HOME -u XDG_CACHE_HOME $T generate there "
         "'The' && test $(stat -c %a tmp/tandem-$(id -u)) = 700 && ls tmp/tandem-*/folders/*/*");
    scratch_expect(1, "no format reads models of type 'odd'",
                   "sed -i 's/\"llama\"/\"odd\"/' there/config.json && " OWN_CACHE
                   "$T describe there");
    MUST("! ls cache/tandem/folders/*");
}
