"""Models of tandem for Hugging Face's transformers: decoder-only, decoder-biattn and encoder-decoder.

`tandem convert RUN OUT --to huggingface` writes this file and modeling_parts.py beside the parameters, which keep their
names. With trust_remote_code=True they load as AutoModelForCausalLM or, with an encoder, AutoModelForSeq2SeqLM:

    model = AutoModelForSeq2SeqLM.from_pretrained("OUT", trust_remote_code=True)
    model.generate(input_ids)

A decoder-only model begins every text with config.bos_token_id, which must be part of its input; a decoder with an
encoder begins with config.decoder_start_token_id, which generate() adds, and forward() if it is given labels.

config.model has the options of the run's config under their own names. `tandem convert` refuses options and values that
are not implemented here.
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutputWithPast, Seq2SeqLMOutput

from .modeling_parts import (
    Norm,
    Scale,
    add_biases,
    add_embeddings,
    angles,
    attention_of,
    bias_of,
    capped,
    embed_positions,
    feed_forward_of,
    self_masks,
)

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


# ---- stacks ----------------------------------------------------------------------------------------------------------


class Layer(nn.Module):
    """Pre-norm sublayers; the names of the norms are Qwen3's in decoders and T5Gemma's beside an encoder."""

    def __init__(self, model, layer, names, cross):
        super().__init__()
        # a merged attention reads the encoder, too, so there is no sublayer for it
        self.merged = cross and model["attention"]["plugin"] == "merged"
        self.names, self.cached, cross = names, cross, cross and not self.merged
        self.cross = cross
        self.add_module(names[0], Norm(model))
        self.self_attn = attention_of(model, layer, False)
        if cross:
            self.pre_cross_attn_layernorm = Norm(model)
            self.cross_attn = attention_of(model, layer, True)
        self.add_module(names[1], Norm(model))
        self.mlp = feed_forward_of(model)
        self.post_norm = model["post_norm"]
        if self.post_norm:
            self.post_self_attn_layernorm = Norm(model)
            if cross:
                self.post_cross_attn_layernorm = Norm(model)
        self.post_feedforward_layernorm = Norm(model) if model.get("post_ffn_norm") else nn.Identity()

    def forward(self, x, own, memory, cache):
        """own: what self-attention is given; memory: the same of cross-attention, and its states, or None."""
        y = getattr(self, self.names[0])(x)
        kept = cache.self_attention_cache if self.cached and cache is not None else cache
        y = self.self_attn(y, y, own, kept, memory, cache) if self.merged else self.self_attn(y, y, own, kept)
        x = x + (self.post_self_attn_layernorm(y) if self.post_norm else y)
        if self.cross:
            y = self.pre_cross_attn_layernorm(x)
            y = self.cross_attn(y, memory["states"], memory, cache)
            x = x + (self.post_cross_attn_layernorm(y) if self.post_norm else y)
        return x + self.post_feedforward_layernorm(self.mlp(getattr(self, self.names[1])(x)))


def run_layers(stack, x, own, memory=None, cache=None):
    for layer in stack.layers:
        x = layer(x, own, memory, cache)
    return stack.norm(x)


def given_to_self(stack, model, masks, positions, all_positions, dtype, encoder=False):
    """What self-attention needs besides its tokens, which are the last of all, at `positions`."""
    return {
        "mask": masks[0],
        "full_mask": masks[1],
        "q_turn": angles(model, positions, dtype, 0 if encoder else -1),
        "k_turn": angles(model, positions, dtype, 0 if encoder else 1),
        "bias": bias_of(stack, model, positions, all_positions, encoder),
    }


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
        self.logit_cap = model.get("logit_cap")
        self.lm_head = None if model["tie_embeddings"] else nn.Linear(model["d_model"], model["vocab_size"], bias=False)

    def logits_of(self, hidden):
        table = self.get_input_embeddings().weight if self.lm_head is None else self.lm_head.weight
        return capped(F.linear(hidden, table) * self.logit_scale, self.logit_cap)


# ---- decoder-only ----------------------------------------------------------------------------------------------------


class Decoder(nn.Module):
    def __init__(self, model):
        super().__init__()
        names = ("input_layernorm", "post_attention_layernorm")
        self.embed_tokens = nn.Embedding(model["vocab_size"], model["d_model"])
        add_embeddings(self, model)
        add_biases(self, model)
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
        everything = positions if not done else positions_of(keys, keys.shape[1])
        prefix = None if prefix_mask is None else prefix_mask.bool() & keys
        masks = self_masks(keys, x.shape[1], True, model["attention"], prefix)
        own = given_to_self(self.model, model, masks, positions, everything, x.dtype)
        x = embed_positions(model, x, positions, getattr(self.model, "position_embeddings", None))
        logits = self.logits_of(run_layers(self.model, x, own, cache=cache))
        # as everywhere in transformers, labels are the inputs, and are shifted here
        loss = None if labels is None else token_losses(logits[:, :-1], labels[:, 1:])
        return CausalLMOutputWithPast(loss=loss, logits=logits, **{CACHE: cache})


# ---- encoder-decoder -------------------------------------------------------------------------------------------------

STACK_NAMES = ("pre_self_attn_layernorm", "pre_feedforward_layernorm")


class Encoder(nn.Module):
    def __init__(self, model, embed_tokens, position_embeddings):
        super().__init__()
        self.options = model
        # the model's; in tuples, so that they are not registered twice
        self.shared, self.positions = (embed_tokens,), (position_embeddings,)
        if not model.get("share_embeddings", True):
            self.embed_tokens = nn.Embedding(model["vocab_size"], model["d_model"])
        add_biases(self, model)
        self.layers = nn.ModuleList(Layer(model, k, STACK_NAMES, False) for k in range(model["encoder_layers"]))
        self.norm = Norm(model)

    def get_input_embeddings(self):
        return getattr(self, "embed_tokens", self.shared[0])

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None, **kwargs):
        model = self.options
        x = self.get_input_embeddings()(input_ids) if inputs_embeds is None else inputs_embeds
        keys = whole_mask(attention_mask, x.shape[0], x.shape[1], x.device)
        positions = positions_of(keys, x.shape[1])
        masks = self_masks(keys, x.shape[1], not model["bidirectional"], model["attention"])
        own = given_to_self(self, model, masks, positions, positions, x.dtype, encoder=True)
        x = embed_positions(model, x, positions, self.positions[0])
        return BaseModelOutput(last_hidden_state=run_layers(self, x, own))


class CrossDecoder(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.embed_tokens = nn.Embedding(model["vocab_size"], model["d_model"])
        add_biases(self, model)
        self.layers = nn.ModuleList(Layer(model, k, STACK_NAMES, True) for k in range(model["decoder_layers"]))
        self.norm = Norm(model)


class EncoderDecoder(nn.Module):
    def __init__(self, model):
        super().__init__()
        add_embeddings(self, model)
        self.decoder = CrossDecoder(model)
        self.encoder = Encoder(model, self.decoder.embed_tokens, getattr(self, "position_embeddings", None))


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

    def _resize_token_embeddings(self, new_num_tokens, *args, **kwargs):
        """Both tables, where the encoder has its own."""
        own = getattr(self.model.encoder, "embed_tokens", None)
        if own is not None:
            self.model.encoder.embed_tokens = self._get_resized_embeddings(own, new_num_tokens, *args, **kwargs)
        return super()._resize_token_embeddings(new_num_tokens, *args, **kwargs)

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
        turned, there = model["cross_positions"], positions_of(mask, mask.shape[1])
        return {
            "states": states,
            "mask": mask[:, None, None, :],
            "q_turn": angles(model, positions, dtype) if turned else None,
            "k_turn": angles(model, there, dtype) if turned else None,
            "merged_turn": angles(model, there, dtype, 1),  # as keys of the decoder's own
            "bias": None,  # a distance from the decoder's text into the encoder's means nothing
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
        everything = positions_of(keys, keys.shape[1])
        if model["continuous_positions"]:
            everything = everything + given.sum(-1, keepdim=True)
        positions = everything[:, done:]
        masks = self_masks(keys, x.shape[1], True, model["attention"])
        own = given_to_self(self.model.decoder, model, masks, positions, everything, x.dtype)
        x = embed_positions(model, x, positions, getattr(self.model, "position_embeddings", None))
        memory = self.memory_of(states, given, positions, x.dtype)
        logits = self.logits_of(run_layers(self.model.decoder, x, own, memory, cache))
        loss = None if labels is None else token_losses(logits, labels)
        return Seq2SeqLMOutput(loss=loss, logits=logits, encoder_last_hidden_state=states, **{CACHE: cache})
