"""The declarations of tandem's embed.h. Written by tools/python/declare; do not edit."""

from ctypes import (
    CFUNCTYPE, POINTER, Structure, c_bool, c_char, c_char_p, c_double, c_float, c_int, c_int32,
    c_int64, c_size_t, c_uint64, c_void_p,
)

TD_EIO = -1
TD_ECONFIG = -2
TD_EFORMAT = -3
TD_ENOMEM = -4
TD_EPLUGIN = -5
TD_EGRAPH = -6
TD_EUNSUPPORTED = -7
TD_EDIVERGED = -8
TD_EEND = -9
TD_ERANGE = -10


class td_error(Structure):
    _fields_ = [
        ("code", c_int),
        ("text", c_char * 2044),
    ]

TD_LOG_DEBUG = 0
TD_LOG_INFO = 1
TD_LOG_WARN = 2
TD_LOG_ERROR = 3


class td_session(Structure):
    pass

TD_PURPOSE_TRAIN = 0
TD_PURPOSE_EVALUATE = 1
TD_PURPOSE_MODEL = 2
TD_PURPOSE_GENERATE = 3


class td_session_options(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("purpose", c_int),
        ("files", POINTER(c_char_p)),
        ("texts", POINTER(c_char_p)),
        ("settings", POINTER(c_char_p)),
        ("run", c_char_p),
        ("kept", c_size_t),
        ("untrusted", c_bool),
        ("plugin_paths", POINTER(c_char_p)),
        ("allow", POINTER(c_char_p)),
        ("shipped", c_char_p),
        ("log", CFUNCTYPE(None, c_void_p, c_int, c_char_p)),
        ("log_arg", c_void_p),
        ("origin", c_char_p),
    ]


class td_footprint(Structure):
    _fields_ = [
        ("parameters", c_size_t),
        ("gradients", c_size_t),
        ("states", c_size_t),
        ("activations", c_size_t),
        ("inputs", c_size_t),
    ]


class td_flop_counts(Structure):
    _fields_ = [
        ("dense", c_double),
        ("visible", c_double),
        ("elementwise", c_double),
    ]


class td_description(Structure):
    _fields_ = [
        ("parameters", c_int64),
        ("embedding", c_int64),
        ("attention", c_int64),
        ("ffn", c_int64),
        ("norm", c_int64),
        ("other", c_int64),
        ("length", c_int64),
        ("predicted", c_int64),
        ("split_varies", c_bool),
        ("forward", td_flop_counts),
        ("backward", td_flop_counts),
        ("paper_flops", c_double),
        ("memory", td_footprint),
        ("unavailable", c_char_p),
    ]


class td_score(Structure):
    _fields_ = [
        ("source", c_char_p),
        ("sequences", c_int64),
        ("targets", c_int64),
        ("nll", c_double),
        ("nll_error", c_double),
        ("bits_per_byte", c_double),
    ]


class td_sequence_score(Structure):
    _fields_ = [
        ("source", c_int64),
        ("index", c_int64),
        ("targets", c_int64),
        ("nll", c_double),
        ("weight", c_double),
        ("bytes", c_double),
        ("hash", c_uint64),
    ]


class td_evaluation(Structure):
    _fields_ = [
        ("at", POINTER(td_score)),
        ("count", c_int64),
        ("nll", c_double),
        ("nll_error", c_double),
        ("bits_per_byte", c_double),
        ("sequences", POINTER(td_sequence_score)),
        ("n_sequences", c_int64),
    ]

td_evaluation_progress = CFUNCTYPE(c_int, c_void_p, c_int64, c_int64)


class td_scored(Structure):
    _fields_ = [
        ("given", POINTER(c_int32)),
        ("n_given", c_int64),
        ("target", POINTER(c_int32)),
        ("n_target", c_int64),
        ("logprob", c_double),
        ("greedy", c_bool),
    ]


class td_task_score(Structure):
    _fields_ = [
        ("task", c_char_p),
        ("key", c_char_p),
        ("own", c_bool),
        ("percent", c_bool),
        ("lower_is_better", c_bool),
        ("score", c_double),
        ("error", c_double),
        ("chance", c_double),
        ("items", c_int64),
        ("shots", c_int64),
    ]


class td_task_scores(Structure):
    _fields_ = [
        ("at", POINTER(td_task_score)),
        ("count", c_size_t),
    ]

td_task_progress = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int64, c_int64)

TD_NO_SHOTS = -1


class td_asking(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("tasks", POINTER(c_char_p)),
        ("n_tasks", c_size_t),
        ("data", c_char_p),
        ("shots", c_int64),
        ("limit", c_int64),
        ("batch", c_int64),
        ("generate", c_bool),
        ("chat", c_bool),
        ("directory", c_char_p),
        ("name", c_char_p),
        ("progress", td_task_progress),
        ("arg", c_void_p),
    ]


class td_comparing(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("runs", POINTER(c_char_p)),
        ("n_runs", c_size_t),
        ("by_run", c_bool),
        ("draws", c_int64),
        ("seed", c_uint64),
    ]


class td_training_step(Structure):
    _fields_ = [
        ("step", c_int64),
        ("steps", c_int64),
        ("loss", c_double),
        ("cross_entropy", c_double),
        ("gradient_norm", c_double),
        ("learning_rate", c_double),
        ("applied", c_bool),
        ("seconds", c_double),
        ("tokens_per_second", c_double),
        ("targets_per_second", c_double),
        ("share_of_peak", c_double),
    ]


class td_training(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("resume", c_bool),
        ("begin", CFUNCTYPE(c_int, c_void_p, c_int64, c_int64)),
        ("step", CFUNCTYPE(c_int, c_void_p, POINTER(td_training_step))),
        ("evaluating", CFUNCTYPE(c_int, c_void_p, c_int64, c_int64, c_int64)),
        ("scoring", CFUNCTYPE(c_int, c_void_p, c_int64, c_char_p, c_int64, c_int64)),
        ("accumulating", CFUNCTYPE(c_int, c_void_p, c_int64, c_int64, c_int64)),
        ("arg", c_void_p),
        ("lost", CFUNCTYPE(None, c_void_p, c_char_p)),
    ]


class td_trained(Structure):
    _fields_ = [
        ("directory", c_char_p),
        ("step", c_int64),
        ("stopped", c_bool),
        ("cross_entropy", c_double),
        ("seconds", c_double),
        ("tokens_per_second", c_double),
        ("targets_per_second", c_double),
        ("skipped", c_int64),
        ("evaluation", POINTER(td_evaluation)),
        ("tasks", POINTER(td_task_scores)),
        ("best_step", c_int64),
        ("best", c_double),
        ("best_name", c_char_p),
    ]


class td_given(Structure):
    _fields_ = [
        ("text", c_char_p),
        ("ids", POINTER(c_int32)),
        ("n", c_int64),
    ]


class td_answered(Structure):
    _fields_ = [
        ("prompt", c_int64),
        ("rank", c_int64),
        ("ranks", c_int64),
        ("ids", POINTER(c_int32)),
        ("n", c_int64),
        ("text", c_char_p),
        ("logprob", c_double),
        ("stopped", c_bool),
    ]


class td_generation(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("max_tokens", c_int64),
        ("min_tokens", c_int64),
        ("temperature", c_double),
        ("top_k", c_int64),
        ("top_p", c_double),
        ("min_p", c_double),
        ("repetition_penalty", c_double),
        ("seed", c_uint64),
        ("beams", c_int64),
        ("length_penalty", c_double),
        ("stops", POINTER(c_char_p)),
        ("stop_ids", POINTER(c_int32)),
        ("n_stop_ids", c_size_t),
        ("ignore_eos", c_bool),
        ("no_cache", c_bool),
        ("batch", c_int64),
        ("text", CFUNCTYPE(None, c_void_p, c_int64, c_char_p, c_size_t)),
        ("answer", CFUNCTYPE(None, c_void_p, POINTER(td_answered))),
        ("stop", CFUNCTYPE(c_int, c_void_p)),
        ("arg", c_void_p),
    ]


class td_generated(Structure):
    _fields_ = [
        ("given", c_int64),
        ("generated", c_int64),
        ("prefill", c_double),
        ("decode", c_double),
        ("cache", c_size_t),
        ("layouts", c_size_t),
        ("plans", c_size_t),
    ]


class td_parameter(Structure):
    _fields_ = [
        ("name", c_char_p),
        ("rank", c_int32),
        ("shape", c_int64 * 8),
        ("count", c_int64),
    ]

TD_STEP_NEWEST = -1
TD_STEP_BEST = -2


class td_extrapolating(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("lengths", POINTER(c_int64)),
        ("prefixes", POINTER(c_int64)),
        ("n_lengths", c_size_t),
        ("n_prefixes", c_size_t),
        ("sequences", c_int64),
        ("progress", td_evaluation_progress),
        ("arg", c_void_p),
    ]


class td_curve_point(Structure):
    _fields_ = [
        ("prefix", c_int64),
        ("from", c_int64),
        ("to", c_int64),
        ("nll", c_double),
        ("error", c_double),
    ]


class td_extrapolation(Structure):
    _fields_ = [
        ("trained", c_int64),
        ("documents", c_bool),
        ("sequences", c_int64),
        ("lengths", POINTER(td_curve_point)),
        ("positions", POINTER(td_curve_point)),
        ("n_lengths", c_size_t),
        ("n_positions", c_size_t),
    ]


class td_analyzing(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("layers", POINTER(c_char_p)),
        ("n_layers", c_size_t),
        ("heads", POINTER(c_int64)),
        ("n_heads", c_size_t),
        ("length", c_int64),
        ("prefix", c_int64),
        ("sequences", c_int64),
        ("progress", td_evaluation_progress),
        ("arg", c_void_p),
    ]

TD_READS_ENCODER = 0
TD_READS_SELF = 1
TD_READS_CROSS = 2
TD_READS_BOTH = 3
TD_READS = 4


class td_attention_part(Structure):
    _fields_ = [
        ("from", c_int64),
        ("to", c_int64),
        ("locality", c_double),
        ("entropy", c_double),
        ("distance", c_double),
    ]


class td_attention_mean(Structure):
    _fields_ = [
        ("name", c_char_p),
        ("layer", c_int64),
        ("map", c_int64),
        ("reads", c_int),
        ("heads", c_int64),
        ("locality", c_double),
        ("entropy", c_double),
        ("distance", c_double),
        ("memory", c_double),
        ("parts", POINTER(td_attention_part)),
        ("n_parts", c_int64),
        ("own", c_int64),
        ("own_parts", c_int64),
        ("memory_tokens", c_int64),
        ("memory_parts", c_int64),
        ("own_map", POINTER(c_double)),
        ("memory_map", POINTER(c_double)),
        ("coverage", POINTER(c_double)),
    ]


class td_logprob_part(Structure):
    _fields_ = [
        ("from", c_int64),
        ("to", c_int64),
        ("logprob", c_double),
    ]


class td_analysis(Structure):
    _fields_ = [
        ("trained", c_int64),
        ("length", c_int64),
        ("prefix", c_int64),
        ("sequences", c_int64),
        ("documents", c_bool),
        ("attentions", POINTER(td_attention_mean)),
        ("n_attentions", c_size_t),
        ("all", td_attention_mean * 4),
        ("without", POINTER(c_char_p)),
        ("n_without", c_size_t),
        ("logprobs", POINTER(td_logprob_part)),
        ("n_logprobs", c_size_t),
    ]


class td_attending(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("given", POINTER(c_int32)),
        ("n_given", c_int64),
        ("target", POINTER(c_int32)),
        ("n_target", c_int64),
        ("layers", POINTER(c_char_p)),
        ("n_layers", c_size_t),
        ("heads", POINTER(c_int64)),
        ("n_heads", c_size_t),
    ]


class td_attention_weights(Structure):
    _fields_ = [
        ("name", c_char_p),
        ("layer", c_int64),
        ("map", c_int64),
        ("reads", c_int),
        ("heads", c_int64),
        ("queries", c_int64),
        ("own", c_int64),
        ("memory", c_int64),
        ("query_ids", POINTER(c_int32)),
        ("key_ids", POINTER(c_int32)),
        ("weights", POINTER(c_float)),
    ]


class td_attended(Structure):
    _fields_ = [
        ("at", POINTER(td_attention_weights)),
        ("n", c_size_t),
        ("without", POINTER(c_char_p)),
        ("n_without", c_size_t),
    ]


# Number: name and meaning.
STATUSES = {
    -1: ("TD_EIO", "a file, directory or device failed"),
    -2: ("TD_ECONFIG", "a config, option or argument is wrong"),
    -3: ("TD_EFORMAT", "a file's content is malformed"),
    -4: ("TD_ENOMEM", "out of memory"),
    -5: ("TD_EPLUGIN", "a plugin cannot be found or used"),
    -6: ("TD_EGRAPH", "a graph was built incorrectly"),
    -7: ("TD_EUNSUPPORTED", "the backend cannot do this"),
    -8: ("TD_EDIVERGED", "training diverged"),
    -9: ("TD_EEND", "end of data"),
    -10: ("TD_ERANGE", "a number is out of range"),
}

# Name: result, then parameters.
FUNCTIONS = {
    "td_library_version": (c_char_p, []),
    "td_session_open": (POINTER(td_session), [POINTER(td_session_options), POINTER(td_error)]),
    "td_session_close": (None, [POINTER(td_session)]),
    "td_session_config": (c_char_p, [POINTER(td_session)]),
    "td_session_directory": (c_char_p, [POINTER(td_session)]),
    "td_session_describe": (POINTER(td_description), [POINTER(td_session), POINTER(td_error)]),
    "td_session_describe_text": (c_char_p, [POINTER(td_session), POINTER(td_error)]),
    "td_session_graph": (c_char_p, [POINTER(td_session), c_bool, POINTER(td_error)]),
    "td_session_precision": (c_char_p, [POINTER(td_session), POINTER(td_error)]),
    "td_session_mask": (c_char_p, [POINTER(td_session), c_char_p, POINTER(td_error)]),
    "td_session_evaluate": (c_int, [POINTER(td_session), td_evaluation_progress, c_void_p, POINTER(POINTER(td_evaluation)), POINTER(td_error)]),
    "td_session_encode": (c_int, [POINTER(td_session), c_char_p, c_size_t, POINTER(POINTER(c_int32)), POINTER(c_int64), POINTER(td_error)]),
    "td_session_decode": (c_char_p, [POINTER(td_session), POINTER(c_int32), c_int64, POINTER(c_size_t), POINTER(td_error)]),
    "td_session_score": (c_int, [POINTER(td_session), POINTER(td_scored), c_int64, td_evaluation_progress, c_void_p, POINTER(td_error)]),
    "td_session_encode_pair": (c_int, [POINTER(td_session), c_char_p, c_char_p, POINTER(td_scored), POINTER(td_error)]),
    "td_session_ask": (c_int, [POINTER(td_session), POINTER(td_asking), POINTER(POINTER(td_task_scores)), POINTER(td_error)]),
    "td_session_compare": (c_char_p, [POINTER(td_session), POINTER(td_comparing), POINTER(td_error)]),
    "td_session_train": (c_int, [POINTER(td_session), POINTER(td_training), POINTER(POINTER(td_trained)), POINTER(td_error)]),
    "td_session_check_generation": (c_int, [POINTER(td_session), POINTER(td_generation), POINTER(td_error)]),
    "td_session_generate": (c_int, [POINTER(td_session), POINTER(td_generation), POINTER(td_given), c_int64, POINTER(td_generated), POINTER(td_error)]),
    "td_session_vocab": (c_int64, [POINTER(td_session)]),
    "td_session_parameters": (c_int64, [POINTER(td_session), POINTER(td_error)]),
    "td_session_parameter": (c_int, [POINTER(td_session), c_int64, POINTER(td_parameter), POINTER(td_error)]),
    "td_session_view": (c_int, [POINTER(td_session), c_char_p, POINTER(POINTER(c_float)), POINTER(c_int64), POINTER(td_error)]),
    "td_session_read": (c_int, [POINTER(td_session), c_char_p, POINTER(c_float), c_int64, POINTER(td_error)]),
    "td_session_write": (c_int, [POINTER(td_session), c_char_p, POINTER(c_float), c_int64, POINTER(td_error)]),
    "td_session_load_step": (c_int, [POINTER(td_session), c_char_p, c_int64, POINTER(td_error)]),
    "td_session_load": (c_int, [POINTER(td_session), c_char_p, POINTER(td_error)]),
    "td_session_save": (c_int, [POINTER(td_session), c_char_p, POINTER(td_error)]),
    "td_session_loaded": (c_char_p, [POINTER(td_session)]),
    "td_session_extrapolate": (c_int, [POINTER(td_session), POINTER(td_extrapolating), POINTER(POINTER(td_extrapolation)), POINTER(td_error)]),
    "td_session_analyze": (c_int, [POINTER(td_session), POINTER(td_analyzing), POINTER(POINTER(td_analysis)), POINTER(td_error)]),
    "td_session_attend": (c_int, [POINTER(td_session), POINTER(td_attending), POINTER(POINTER(td_attended)), POINTER(td_error)]),
}
