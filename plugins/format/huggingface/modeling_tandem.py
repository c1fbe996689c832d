"""Models of tandem for Hugging Face's transformers: decoder-only, decoder-biattn and encoder-decoder.

`tandem convert RUN OUT --to huggingface` writes this file beside the parameters, which keep their names. With
trust_remote_code=True they load as AutoModelForCausalLM or, with an encoder, AutoModelForSeq2SeqLM:

    model = AutoModelForSeq2SeqLM.from_pretrained("OUT", trust_remote_code=True)
    model.generate(input_ids)

A decoder-only model begins every text with config.bos_token_id, which is part of its input here; a decoder with an
encoder begins with config.decoder_start_token_id, which generate() and labels add by themselves.

config.model has the options of the run's config under their own names; an option with a value that is not implemented
here was refused when the file was written.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutputWithPast, Seq2SeqLMOutput

# transformers 5.24 has renamed past_key_values; either is taken, and this one is returned
CACHE = "cache" if "cache" in {f.name for f in dataclasses.fields(CausalLMOutputWithPast)} else "past_key_values"


class TandemConfig(PretrainedConfig):
    """The options of a model, as in the group `model` of tandem's configs."""

    model_type = "tandem"
    keys_to_ignore_at_inference = ["past_key_values", "cache"]

    def __init__(self, model=None, **kwargs):
        self.model = dict(model or {})
        if self.model:
            encoder_decoder = self.model["plugin"] == "encoder-decoder"
            # the names that transformers and its users look for; resize_token_embeddings() changes only the first
            self.vocab_size = kwargs.pop("vocab_size", self.model["vocab_size"])
            self.model["vocab_size"] = self.vocab_size
            self.hidden_size = self.model["d_model"]
            self.num_hidden_layers = self.model["decoder_layers" if encoder_decoder else "layers"]
            self.num_attention_heads = self.model["attention"]["heads"]
            kwargs["is_encoder_decoder"] = encoder_decoder
        kwargs.pop("tie_word_embeddings", None)  # a tied matrix is stored, and used, once: there is nothing to tie
        super().__init__(tie_word_embeddings=False, **kwargs)


# ---- norms and feed-forward layers -----------------------------------------------------------------------------------


def rms_norm(x, weight, eps):
    """x / sqrt(mean(x^2) + eps) * weight, in float32."""
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return (wide if weight is None else wide * weight).to(x.dtype)


class Norm(nn.Module):
    def __init__(self, model):
        super().__init__()
        norm, width = model["norm"], model["d_model"]
        self.eps = norm["eps"]
        self.centred = norm["plugin"] == "layer"
        if self.centred or norm["scale"]:
            self.weight = nn.Parameter(torch.ones(width))
        else:
            self.weight = None
        self.bias = nn.Parameter(torch.zeros(width)) if self.centred and norm["bias"] else None

    def forward(self, x):
        if self.centred:
            return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)
        return rms_norm(x, self.weight, self.eps)


ACTIVATIONS = {
    "swiglu": F.silu,
    "geglu": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
}


class FeedForward(nn.Module):
    def __init__(self, model):
        super().__init__()
        ffn, width = model["ffn"], model["d_model"]
        self.activation = ACTIVATIONS[ffn["plugin"]]
        self.gated = ffn["plugin"] in ("swiglu", "geglu")
        if self.gated:
            self.gate_proj = nn.Linear(width, ffn["d_ff"], bias=ffn["bias"])
        self.up_proj = nn.Linear(width, ffn["d_ff"], bias=ffn["bias"])
        self.down_proj = nn.Linear(ffn["d_ff"], width, bias=ffn["bias"])

    def forward(self, x):
        up = self.up_proj(x)
        return self.down_proj(self.activation(self.gate_proj(x)) * up if self.gated else self.activation(up))


# ---- positions -------------------------------------------------------------------------------------------------------


def frequencies(rope, width):
    """theta_j of plugins/position/rope.c, computed in double."""
    base, factor, scaling = rope["base"], rope["factor"], rope["scaling"]
    if scaling == "ntk":
        base *= factor ** (width / max(width - 2, 1))
    theta = [base ** (-2 * j / width) for j in range(width // 2)]
    if scaling == "linear":
        theta = [x / factor for x in theta]
    if scaling == "yarn":

        def wave_of(turns):
            return width * math.log(rope["original_length"] / (turns * 2 * math.pi)) / (2 * math.log(base))

        low = max(math.floor(wave_of(rope["beta_fast"])), 0)
        high = min(math.ceil(wave_of(rope["beta_slow"])), width - 1)
        for j, x in enumerate(theta):
            share = min(max((j - low) / max(high - low, 0.001), 0), 1)
            theta[j] = share * x / factor + (1 - share) * x
    return theta


def angles(model, positions, dtype):
    """cos and sin [B, 1, T, E/2] for positions [B, T]; None without rotation."""
    rope = model["position"]
    if rope["plugin"] != "rope":
        return None
    theta = torch.tensor(frequencies(rope, model["attention"]["head_dim"]), dtype=torch.float32)
    a = positions[:, None, :, None].float() * theta.to(positions.device)
    grow = 0.1 * math.log(rope["factor"]) + 1 if rope["scaling"] == "yarn" else 1
    return (a.cos() * grow).to(dtype), (a.sin() * grow).to(dtype)


def rotate(x, turn):
    """x [B, H, T, E], half-split: (u, v) -> (u cos - v sin, v cos + u sin)."""
    if turn is None:
        return x
    cos, sin = turn
    u, v = x.chunk(2, -1)
    return torch.cat((u * cos - v * sin, v * cos + u * sin), -1)


# ---- attention -------------------------------------------------------------------------------------------------------


def self_mask(keys, queries, causal, window, prefix=None):
    """Which keys [B, K] the last `queries` tokens see: bool [B, 1, Q, K]. keys: True where a token is real."""
    total = keys.shape[1]
    k = torch.arange(total, device=keys.device)
    q = k[total - queries :, None]
    seen = torch.ones(queries, total, dtype=torch.bool, device=keys.device)
    if causal:
        seen = k <= q
    if prefix is not None:  # given tokens see each other
        seen = seen | (prefix[:, total - queries :, None] & prefix[:, None, :])
    if window:
        seen = seen & (q - k < window)
    # padding sees itself, so that its softmax is not NaN
    return ((seen & keys[:, None, :]) | (k == q))[:, None]


class Attention(nn.Module):
    def __init__(self, model, layer, cross):
        super().__init__()
        a, width = model["attention"], model["d_model"]
        self.options, self.layer, self.cross = a, layer, cross
        self.heads, self.kv_heads, self.width = a["heads"], a["kv_heads"] or a["heads"], a["head_dim"]
        self.q_proj = nn.Linear(width, self.heads * self.width, bias=a["bias"])
        self.k_proj = nn.Linear(width, self.kv_heads * self.width, bias=a["bias"])
        self.v_proj = nn.Linear(width, self.kv_heads * self.width, bias=a["bias"])
        self.o_proj = nn.Linear(self.heads * self.width, width, bias=a["bias"])
        self.q_norm = self.k_norm = None
        if a["qk_norm_scale"]:
            self.q_norm, self.k_norm = Scale(self.width), Scale(self.width)

    def split(self, x, heads):
        return x.view(x.shape[0], x.shape[1], heads, self.width).transpose(1, 2)

    def normalized(self, x, scale):
        return rms_norm(x, None if scale is None else scale.weight, self.options["eps"])

    def queries(self, x, turn):
        q = self.split(self.q_proj(x), self.heads)
        return rotate(self.normalized(q, self.q_norm) if self.options["qkv_norm"] else q, turn)

    def keys_and_values(self, x, turn):
        k, v = self.split(self.k_proj(x), self.kv_heads), self.split(self.v_proj(x), self.kv_heads)
        if self.options["qkv_norm"]:
            k = self.normalized(k, self.k_norm)
        if self.options["qkv_norm"] and self.options["v_norm"]:
            v = self.normalized(v, None)
        return rotate(k, turn), v

    def cached(self, x, turn, cache):
        """Keys and values of all tokens so far, or of the encoder's, which are computed once."""
        if cache is None:
            return self.keys_and_values(x, turn)
        if not self.cross:
            return cache.update(*self.keys_and_values(x, turn), self.layer)
        if not cache.is_updated.get(self.layer):
            cache.is_updated[self.layer] = True
            return cache.cross_attention_cache.update(*self.keys_and_values(x, turn), self.layer)
        kept = cache.cross_attention_cache.layers[self.layer]
        return kept.keys, kept.values

    def forward(self, x, source, mask, q_turn, k_turn, cache=None):
        q = self.queries(x, q_turn)
        k, v = self.cached(source, k_turn, cache)
        group = self.heads // self.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        scores = (q @ k.transpose(-1, -2)) * self.width**-0.5
        scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        # a query without any key reads nothing
        weights = scores.softmax(-1).to(v.dtype) * mask.any(-1, keepdim=True)
        out = weights @ v
        if self.options["output_norm"]:
            out = self.normalized(out, None)
        return self.o_proj(out.transpose(1, 2).flatten(2))


class Scale(nn.Module):
    """The learnable scale of a norm over a head, under the name that Qwen3 gives it."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))


# ---- stacks ----------------------------------------------------------------------------------------------------------


class Layer(nn.Module):
    """Pre-norm sublayers; the names of the norms are Qwen3's in decoders and T5Gemma's beside an encoder."""

    def __init__(self, model, layer, names, cross):
        super().__init__()
        self.names, self.cross = names, cross
        self.add_module(names[0], Norm(model))
        self.self_attn = Attention(model, layer, False)
        if cross:
            self.pre_cross_attn_layernorm = Norm(model)
            self.cross_attn = Attention(model, layer, True)
        self.add_module(names[1], Norm(model))
        self.mlp = FeedForward(model)
        self.post_norm = model["post_norm"]
        if self.post_norm:
            self.post_self_attn_layernorm = Norm(model)
            if cross:
                self.post_cross_attn_layernorm = Norm(model)

    def forward(self, x, own, memory, cache):
        """own: mask and rotation of self-attention; memory: what cross-attention reads, or None."""
        y = getattr(self, self.names[0])(x)
        kept = cache.self_attention_cache if self.cross and cache is not None else cache
        y = self.self_attn(y, y, own["mask"], own["turn"], own["turn"], kept)
        x = x + (self.post_self_attn_layernorm(y) if self.post_norm else y)
        if self.cross:
            y = self.pre_cross_attn_layernorm(x)
            y = self.cross_attn(y, memory["states"], memory["mask"], memory["q_turn"], memory["k_turn"], cache)
            x = x + (self.post_cross_attn_layernorm(y) if self.post_norm else y)
        return x + self.mlp(getattr(self, self.names[1])(x))


def run_layers(stack, x, own, memory=None, cache=None):
    for layer in stack.layers:
        x = layer(x, own, memory, cache)
    return stack.norm(x)


def positions_of(mask, queries):
    """Positions of the last tokens, counting only real ones: [B, Q]."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)[:, mask.shape[1] - queries :]


def length_of(cache):
    return 0 if cache is None else cache.get_seq_length()


def whole_mask(mask, rows, total, device):
    """A mask of all tokens so far as bool; without one, all are real."""
    if mask is None:
        return torch.ones(rows, total, dtype=torch.bool, device=device)
    return mask.bool()


def token_losses(logits, labels):
    """The mean cross-entropy; labels of -100 do not count."""
    return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=-100)


class TandemPreTrainedModel(PreTrainedModel):
    config_class = TandemConfig
    base_model_prefix = "model"
    _no_split_modules = ["Layer"]
    # forward() takes the mean itself: without this, Trainer would not divide it by the steps it accumulates
    accepts_loss_kwargs = False

    def _init_weights(self, module):
        """As tandem initializes: unit embeddings, linear layers by their inputs."""
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)
        elif isinstance(module, (Norm, Scale)):
            if module.weight is not None:
                nn.init.ones_(module.weight)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)

    def add_head(self, model):
        self.logit_scale = model["d_model"] ** -0.5 if model["logit_scale"] == "rsqrt" else 1.0
        self.lm_head = None if model["tie_embeddings"] else nn.Linear(model["d_model"], model["vocab_size"], bias=False)

    def logits_of(self, hidden):
        table = self.get_input_embeddings().weight if self.lm_head is None else self.lm_head.weight
        return F.linear(hidden, table) * self.logit_scale


# ---- decoder-only ----------------------------------------------------------------------------------------------------


class Decoder(nn.Module):
    def __init__(self, model):
        super().__init__()
        names = ("input_layernorm", "post_attention_layernorm")
        self.embed_tokens = nn.Embedding(model["vocab_size"], model["d_model"])
        self.layers = nn.ModuleList(Layer(model, k, names, False) for k in range(model["layers"]))
        self.norm = Norm(model)


class TandemForCausalLM(TandemPreTrainedModel, GenerationMixin):
    """A decoder-only model. In decoder-biattn the given tokens, those with prefix_mask, see each other; generate()
    takes the whole prompt for given, and without a mask all tokens are read causally."""

    def __init__(self, config):
        super().__init__(config)
        self.model = Decoder(config.model)
        self.add_head(config.model)
        self.post_init()

    def get_input_embeddings(self):
        return self.model.embed_tokens

    def set_input_embeddings(self, value):
        self.model.embed_tokens = value

    def prepare_inputs_for_generation(
        self, input_ids, past_key_values=None, attention_mask=None, cache=None, **kwargs
    ):
        cache = past_key_values if cache is None else cache
        done = length_of(cache)
        inputs = {
            "input_ids": input_ids[:, done:],
            CACHE: cache,
            "attention_mask": attention_mask,
            "use_cache": kwargs.get("use_cache"),
        }
        if self.config.model["plugin"] == "decoder-biattn":
            # once cached, given tokens need not be told apart; without a cache all tokens are read again
            place = torch.arange(input_ids.shape[1], device=input_ids.device)
            given = place < kwargs.get("given", input_ids.shape[1])
            inputs["prefix_mask"] = None if done else given.expand(input_ids.shape)
        return inputs

    def _update_model_kwargs_for_generation(self, outputs, model_kwargs, *args, **kwargs):
        model_kwargs.setdefault("given", outputs.logits.shape[1])  # the first pass reads the prompt
        return super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **kwargs)

    def forward(
        self, input_ids=None, attention_mask=None, past_key_values=None, inputs_embeds=None, labels=None,
        use_cache=None, prefix_mask=None, position_ids=None, return_dict=None, cache=None, **kwargs
    ):
        model = self.config.model
        if prefix_mask is not None and model["plugin"] != "decoder-biattn":
            raise ValueError("prefix_mask is for decoder-biattn: this model is causal")
        x = self.model.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        cache = past_key_values if cache is None else cache
        if use_cache and cache is None:
            cache = DynamicCache()
        done = length_of(cache)
        keys = whole_mask(attention_mask, x.shape[0], done + x.shape[1], x.device)
        positions = positions_of(keys, x.shape[1]) if position_ids is None else position_ids
        prefix = None if prefix_mask is None else prefix_mask.bool() & keys
        own = {
            "mask": self_mask(keys, x.shape[1], True, model["attention"]["window"], prefix),
            "turn": angles(model, positions, x.dtype),
        }
        logits = self.logits_of(run_layers(self.model, x, own, cache=cache))
        # as everywhere in transformers, labels are the inputs, and are shifted here
        loss = None if labels is None else token_losses(logits[:, :-1], labels[:, 1:])
        return CausalLMOutputWithPast(loss=loss, logits=logits, **{CACHE: cache})


# ---- encoder-decoder -------------------------------------------------------------------------------------------------

STACK_NAMES = ("pre_self_attn_layernorm", "pre_feedforward_layernorm")


class Encoder(nn.Module):
    def __init__(self, model, embed_tokens):
        super().__init__()
        self.options = model
        self.shared = (embed_tokens,)  # the decoder's module; in a tuple, so that it is registered once
        self.layers = nn.ModuleList(Layer(model, k, STACK_NAMES, False) for k in range(model["encoder_layers"]))
        self.norm = Norm(model)

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None, **kwargs):
        model = self.options
        x = self.shared[0](input_ids) if inputs_embeds is None else inputs_embeds
        keys = whole_mask(attention_mask, x.shape[0], x.shape[1], x.device)
        own = {
            "mask": self_mask(keys, x.shape[1], not model["bidirectional"], model["attention"]["window"]),
            "turn": angles(model, positions_of(keys, x.shape[1]), x.dtype),
        }
        return BaseModelOutput(last_hidden_state=run_layers(self, x, own))


class CrossDecoder(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.embed_tokens = nn.Embedding(model["vocab_size"], model["d_model"])
        self.layers = nn.ModuleList(Layer(model, k, STACK_NAMES, True) for k in range(model["decoder_layers"]))
        self.norm = Norm(model)


class EncoderDecoder(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.decoder = CrossDecoder(model)
        self.encoder = Encoder(model, self.decoder.embed_tokens)


class TandemForSeq2SeqLM(TandemPreTrainedModel, GenerationMixin):
    """RedLLM: cross-attention rotates queries and keys, and the decoder's positions continue after the encoder's real
    tokens, as the options say."""

    def __init__(self, config):
        super().__init__(config)
        self.model = EncoderDecoder(config.model)
        self.add_head(config.model)
        self.post_init()

    def get_input_embeddings(self):
        return self.model.decoder.embed_tokens

    def set_input_embeddings(self, value):
        self.model.decoder.embed_tokens = value
        self.model.encoder.shared = (value,)

    def get_encoder(self, *args, **kwargs):
        return self.model.encoder

    def get_decoder(self, *args, **kwargs):
        return self.model.decoder

    def required_id(self, name):
        """An id of the config. Some versions of transformers leave out those that are None."""
        value = getattr(self.config, name, None)
        if value is None:
            raise ValueError(f"decoder_input_ids are made from labels with config.{name}, which is missing: set it")
        return value

    def prepare_decoder_input_ids_from_labels(self, labels):
        """<s> and all labels but the last; those of -100 are padding."""
        start = labels.new_full((labels.shape[0], 1), self.required_id("decoder_start_token_id"))
        given, ignored = labels[:, :-1], labels[:, :-1] == -100
        if ignored.any():
            given = given.masked_fill(ignored, self.required_id("pad_token_id"))
        return torch.cat((start, given), -1)

    def prepare_inputs_for_generation(
        self, input_ids, past_key_values=None, attention_mask=None, encoder_outputs=None, cache=None, **kwargs
    ):
        cache = past_key_values if cache is None else cache
        return {
            "decoder_input_ids": input_ids[:, length_of(cache) :],
            CACHE: cache,
            "attention_mask": attention_mask,
            "decoder_attention_mask": kwargs.get("decoder_attention_mask"),
            "encoder_outputs": encoder_outputs,
            "use_cache": kwargs.get("use_cache"),
        }

    def memory_of(self, states, mask, positions, dtype):
        """What cross-attention reads."""
        model = self.config.model
        turned = model["cross_positions"]
        return {
            "states": states,
            "mask": mask[:, None, None, :],
            "q_turn": angles(model, positions, dtype) if turned else None,
            "k_turn": angles(model, positions_of(mask, mask.shape[1]), dtype) if turned else None,
        }

    def forward(
        self, input_ids=None, attention_mask=None, decoder_input_ids=None, decoder_attention_mask=None,
        encoder_outputs=None, past_key_values=None, inputs_embeds=None, labels=None, use_cache=None, return_dict=None,
        cache=None, **kwargs
    ):
        model = self.config.model
        if encoder_outputs is None:
            encoder_outputs = self.model.encoder(input_ids, attention_mask, inputs_embeds)
        states = encoder_outputs[0]
        given = whole_mask(attention_mask, states.shape[0], states.shape[1], states.device)
        if decoder_input_ids is None and labels is not None:
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        cache = past_key_values if cache is None else cache
        if use_cache and cache is None:
            cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        done = length_of(cache)
        x = self.model.decoder.embed_tokens(decoder_input_ids)
        keys = whole_mask(decoder_attention_mask, x.shape[0], done + x.shape[1], x.device)
        positions = positions_of(keys, x.shape[1])
        if model["continuous_positions"]:
            positions = positions + given.sum(-1, keepdim=True)
        own = {
            "mask": self_mask(keys, x.shape[1], True, model["attention"]["window"]),
            "turn": angles(model, positions, x.dtype),
        }
        memory = self.memory_of(states, given, positions, x.dtype)
        logits = self.logits_of(run_layers(self.model.decoder, x, own, memory, cache))
        loss = None if labels is None else token_losses(logits, labels)
        return Seq2SeqLMOutput(loss=loss, logits=logits, encoder_last_hidden_state=states, **{CACHE: cache})
