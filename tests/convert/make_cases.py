"""Makes the cases beside this file, with Hugging Face's own classes: python make_cases.py TANDEM

TANDEM is the command. It needs torch and transformers (these cases: 2.9.1 and 5.24.0), which the tests do not.

  NAME/theirs/        a random model as save_pretrained stores it
  NAME/ours.cfg       or a model of ours, with
  NAME/ours.safetensors
  NAME/theirs/        and what `tandem convert` made of it
  NAME/batch.safetensors, NAME/expect.safetensors
                      tokens, and the logits that the class of Hugging Face computes from theirs/
"""

import os
import shutil
import subprocess
import sys

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))


def place(name):
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    return folder


def keep(folder, model, vocab, shape, seed):
    """The batch, and the logits of it."""
    ids = np.random.default_rng(seed).integers(0, vocab, shape).astype(np.int32)
    save_file(
        {"input_ids": ids, "labels": ids.copy(), "loss_weights": np.ones(shape, np.float32)},
        os.path.join(folder, "batch.safetensors"),
    )
    with torch.no_grad():
        logits = model.double()(torch.tensor(ids).long()).logits
    save_file({"logits": logits.numpy().astype(np.float32)}, os.path.join(folder, "expect.safetensors"))


def scramble(model, seed):
    """Unit activations throughout, so that every part shows in the logits."""
    g = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=g)
        with torch.no_grad():
            if "norm" in name:
                p.copy_(torch.rand(p.shape, generator=g) + 0.5)
            elif p.dim() == 1 or "embed" in name or "lm_head" in name:
                p.copy_(noise)
            else:
                p.copy_(noise / p.shape[1] ** 0.5)


def theirs(name, model, shape, seed, dtype=torch.float32, **how):
    folder = place(name)
    scramble(model, seed)
    model.to(dtype).save_pretrained(os.path.join(folder, "theirs"), **how)
    for extra in ("generation_config.json",):
        if os.path.exists(os.path.join(folder, "theirs", extra)):
            os.remove(os.path.join(folder, "theirs", extra))
    # read again: casting the model has rounded more than its parameters
    again = AutoModelForCausalLM.from_pretrained(os.path.join(folder, "theirs"), dtype=torch.float32)
    keep(folder, again.eval(), model.config.vocab_size, shape, seed)


def ours(tandem, name, config, weights, to, shape, seed):
    folder = place(name)
    with open(os.path.join(folder, "ours.cfg"), "w") as f:
        f.write(config)
    save_file(weights, os.path.join(folder, "ours.safetensors"))
    subprocess.run(
        [tandem, "convert", "-c", os.path.join(folder, "ours.cfg"), os.path.join(folder, "theirs"), "--to", to,
         "--weights", os.path.join(folder, "ours.safetensors")],
        check=True,
    )
    model = AutoModelForCausalLM.from_pretrained(os.path.join(folder, "theirs"), dtype=torch.float32)
    keep(folder, model.eval(), weights["model.embed_tokens.weight"].shape[0], shape, seed)


def random_weights(seed, vocab, d, layers, q, kv, ff, scale):
    r = np.random.default_rng(seed)
    w = {"model.embed_tokens.weight": r.standard_normal((vocab, d))}
    for k in range(layers):
        at = f"model.layers.{k}."
        for name, out, inner in (
            ("self_attn.q_proj", q, d), ("self_attn.k_proj", kv, d), ("self_attn.v_proj", kv, d),
            ("self_attn.o_proj", d, q), ("mlp.gate_proj", ff, d), ("mlp.up_proj", ff, d), ("mlp.down_proj", d, ff),
        ):
            w[at + name + ".weight"] = r.standard_normal((out, inner)) / inner**0.5
        if scale:
            w[at + "input_layernorm.weight"] = r.random(d) + 0.5
            w[at + "post_attention_layernorm.weight"] = r.random(d) + 0.5
    if scale:
        w["model.norm.weight"] = r.random(d) + 0.5
    return {name: x.astype(np.float32) for name, x in w.items()}


def config(vocab, d, layers, attention, norm, ff, position):
    return f"""# Made by make_cases.py.
model = {{
  plugin = "decoder-only"; vocab_size = {vocab}; d_model = {d}; layers = {layers};
  attention = {{ {attention} }};
  position = {{ plugin = "rope"; {position} }};
  norm = {{ plugin = "rms"; {norm} }};
  ffn = {{ plugin = "swiglu"; d_ff = {ff}; }};
}};
loss = {{ plugin = "causal-lm"; }};
train = {{ length = 40; }};
"""


def main(tandem):
    llama = LlamaConfig(
        vocab_size=17, hidden_size=12, intermediate_size=7, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=1, head_dim=6, rms_norm_eps=1e-3, attention_bias=True, mlp_bias=True,
        max_position_embeddings=64, tie_word_embeddings=False,
        rope_parameters={"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "beta_fast": 8.0, "beta_slow": 1.0,
                         "original_max_position_embeddings": 16},
    )
    theirs("llama", LlamaForCausalLM(llama), (2, 23), 1, max_shard_size="3KB")
    qwen3 = Qwen3Config(
        vocab_size=13, hidden_size=11, intermediate_size=5, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=6, hidden_act="gelu_pytorch_tanh", max_position_embeddings=64,
        tie_word_embeddings=True, rope_parameters={"rope_type": "linear", "rope_theta": 1e6, "factor": 2.5},
    )
    theirs("qwen3", Qwen3ForCausalLM(qwen3), (3, 17), 2, dtype=torch.bfloat16)
    ours(
        tandem, "decllm-qwen3",
        config(13, 11, 2, "heads = 3; kv_heads = 1; head_dim = 4; v_norm = false;", "scale = false;", 7, ""),
        random_weights(3, 13, 11, 2, 12, 4, 7, False), "qwen3", (2, 19), 3,
    )
    ours(
        tandem, "decllm-llama",
        config(17, 10, 2, "heads = 5; head_dim = 2; qkv_norm = false;", "eps = 1e-4;", 3, "base = 200.0;"),
        random_weights(4, 17, 10, 2, 10, 10, 3, True), "llama", (1, 40), 4,
    )


main(sys.argv[1])
