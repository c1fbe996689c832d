/* words.c - other tools' names for our config keys and for options of our commands. */
#include "config/words.h"

#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* One row per key. Names close to the key's own are found without this table. */
static const struct {
    const char *key, *words;
} table[] = {
    { "schedule.peak", "lr learning_rate max_lr peak_lr base_lr rate" },
    { "schedule.floor", "min_lr min_learning_rate lr_min" },
    { "schedule.warmup", "warmup warmup_steps warmup_ratio num_warmup_steps lr_warmup_iters" },
    { "schedule.plugin", "lr_scheduler scheduler lr_scheduler_type lr_decay_style" },
    { "optimizer.weight_decay", "weight_decay wd" },
    { "optimizer.beta1, optimizer.beta2", "betas adam_betas" },
    { "train.batch", "batch bs batch_size train_batch_size global_batch_size" },
    { "train.micro_batch",
      "micro_batch micro_batch_size per_device_train_batch_size device_batch_size" },
    /* these are numbers of micro-batches; our key is the size of one */
    { "train.micro_batch (train.batch / N)",
      "gradient_accumulation_steps gradient_accumulation accumulation_steps accumulate grad_accum "
      "accumulate_grad_batches" },
    { "train.steps",
      "steps step iters iterations max_steps max_iters n_steps num_steps train_iters" },
    /* a run is counted in steps: `tandem train` prints how often they read the text */
    { "train.steps, train.target_tokens",
      "epoch epochs num_epochs n_epochs max_epochs num_train_epochs" },
    { "train.target_tokens", "tokens max_tokens total_tokens train_tokens token_budget" },
    { "train.flops", "flops compute max_flops flop_budget" },
    { "train.length", "length seq_len seq_length sequence_length context context_length ctx "
                      "block_size max_seq_len max_length max_position_embeddings n_ctx" },
    { "train.dropout", "dropout resid_pdrop hidden_dropout" },
    { "train.clip", "clip grad_clip clip_grad max_grad_norm gradient_clipping clip_norm" },
    { "train.seed", "seed random_seed" },
    { "train.precision", "precision dtype fp16 mixed_precision torch_dtype" },
    { "train.precision (bf16)", "bf16" },
    { "train.log_every", "log_every log_interval logging_steps" },
    { "train.evaluate_every", "evaluate_every eval_every eval_interval eval_steps val_interval" },
    { "train.checkpoint_every", "checkpoint_every save_every save_steps save_interval ckpt_every" },
    { "train.weights", "weights checkpoint load init_from pretrained" },
    { "train.pack", "pack packing" },
    { "model.d_model", "d_model dim hidden hidden_size hidden_dim n_embd embed_dim width" },
    { "model.layers, model.encoder_layers, model.decoder_layers",
      "layers n_layers n_layer num_layers num_hidden_layers depth" },
    { "model.attention.heads", "heads n_heads n_head num_heads num_attention_heads nhead" },
    { "model.attention.kv_heads", "kv_heads n_kv_heads num_kv_heads num_key_value_heads" },
    { "model.attention.head_dim", "head_dim d_head d_kv head_size" },
    { "model.ffn.d_ff", "d_ff ffn_dim intermediate_size dim_feedforward mlp_dim ffn_hidden_size" },
    { "model.vocab_size", "vocab vocab_size n_vocab vocabulary padded_vocab_size" },
    { "model.plugin", "architecture arch model_type" },
    { "model.position.plugin", "position_embedding pos_emb position_embedding_type" },
    { "backend.threads", "threads num_threads n_threads" },
    { "backend.plugin", "device" },
    { "comm.timeout", "timeout ddp_timeout dist_timeout distributed_timeout "
                      "distributed_timeout_minutes nccl_timeout" },
    { "run.name", "name run_name exp_name experiment" },
    { "run.dir", "output_dir out_dir save_dir log_dir" },
    /* options of commands come last: where keys are written, a word that could be either, such as
     * max_length, means the key */
    { "--resume", "resume resume_from resume_from_checkpoint" },
    { "--max-new-tokens", "max_length max_tokens max_new_tokens num_predict" },
    { "--temperature", "do_sample sample sampling" },
};
enum { ROWS = sizeof table / sizeof *table };

/* The same for the keys of a task file. */
static const struct {
    const char *key, *words;
} of_tasks[] = {
    { "doc_to_text", "prompt question input inputs template prompt_template question_template" },
    { "doc_to_target", "answer target targets output completion answer_template" },
    { "gold", "label_field answer_index correct" },
    { "choices", "options candidates" },
    { "files", "file data dataset dataset_path data_files path" },
    { "split", "test_split dataset_split" },
    { "num_fewshot", "shots fewshot n_shots num_shots k" },
    { "output_type", "type task_type" },
    { "metrics", "metric metric_list" },
    { "filters", "filter filter_list" },
    { "max_gen_toks", "max_new_tokens max_tokens max_length" },
    { "until", "stop stop_sequences" },
    { "groups", "group tag tags" },
    { "name", "task" },
};

/* Whether the n bytes at `a` spell the word, in any of the usual ways. */
static bool is_same(const char *a, size_t n, const char *word)
{
    word += strspn(word, "-_");
    for (size_t k = 0; k < n; k++) {
        char c = word[k] == '-' ? '_' : (char)tolower((unsigned char)word[k]);
        if (a[k] != c)
            return false;
    }
    return !word[n];
}

static bool has_word(const char *words, const char *word)
{
    for (const char *at = words; *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");
        if (is_same(at, n, word))
            return true;
        at += n;
    }
    return false;
}

const char *td_config_word(const char *word)
{
    for (int k = 0; k < ROWS; k++)
        if (has_word(table[k].words, word))
            return table[k].key;
    return NULL;
}

const char *td_config_task_word(const char *word)
{
    for (size_t k = 0; k < sizeof of_tasks / sizeof *of_tasks; k++)
        if (has_word(of_tasks[k].words, word))
            return of_tasks[k].key;
    return NULL;
}

const char *td_config_option(const char *word)
{
    for (int k = 0; k < ROWS; k++)
        if (table[k].key[0] == '-' && has_word(table[k].words, word))
            return table[k].key;
    return NULL;
}

const char *td_config_word_verb(const char *keys)
{
    if (keys[0] == '-')
        return "it is an option of a command:";
    return strchr(keys, ',') ? "the keys for that are" : "the key for that is";
}

const char *td_config_word_at(int i, const char **keys)
{
    if (i >= ROWS)
        return NULL;
    *keys = table[i].key;
    return table[i].words;
}
