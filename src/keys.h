/* keys.h - every key of a config: what it is called, its type, default, range and help; the presets; what doesn't go together.
 *
 * defines: Config, config_fields, N_FIELDS, config_presets, config_resolve, Role, role_is_hidden, role_is_vector,
 *          optimizer_rule, rule_named, tensor_rule, tensor_decays, head_size, rule_keys, rule_lr, rule_decay, optimizer_options, lr_key,
 *          first_steps, warmup_steps, cooldown_steps, momentum_warmup_steps, steps_with_cooldown_at, config_resolve_minutes, Owners,
 *          owners_add, check_keys, check_bends, check_schedule, print_kept,
 *          print_recipe, and the enums of the keys with choices
 *
 * One table of fields drives the JSON file, --section.key=value, --help, --print-config and configs/README.md's table
 * (config.h). To add a key: a member of Config, a row of config_fields, and the code that reads it.
 * Nothing here knows the model: roles and tensors' names are words that optimizer.route may use, and owners_add is told
 * which of the tensors a model has.
 */
#ifndef KEYS_H
#define KEYS_H

#include <float.h>
#include "config.h"
#include "moe.h"             // the largest number of experts
#include "util.h"
#include "../muon.h"         // the numbers of its rules, coefficients and scales

typedef enum { NORM_LAYERNORM, NORM_RMSNORM, NORM_RMSNORM_PLAIN } NormKind;
typedef enum { POSITION_LEARNED, POSITION_ROPE } PositionKind;
typedef enum { MIXER_ATTENTION, MIXER_MLA } MixerKind;
typedef enum { MLP_GELU_TANH, MLP_GELU_ERF, MLP_RELU2, MLP_SWIGLU } MlpKind;
typedef enum { BALANCE_NONE, BALANCE_BIAS, BALANCE_QUANTILE, BALANCE_AUX } BalanceKind;
typedef enum { HEAD_TIED, HEAD_UNTIED } HeadKind;
typedef enum { INIT_GPT2, INIT_SPEEDRUN } InitKind;
typedef enum { PRECISION_AUTO, PRECISION_FP32, PRECISION_BF16 } PrecisionKind;
typedef enum { ORDER_BY_WINDOWS, ORDER_BY_DOCUMENTS } OrderKind;
typedef enum { TRAVEL_FP32, TRAVEL_BF16 } TravelKind;
typedef enum { RECOMPUTE_NONE, RECOMPUTE_BLOCK } RecomputeKind;
typedef enum { SCHEDULE_CONSTANT, SCHEDULE_COSINE, SCHEDULE_TRAPEZOID } ScheduleKind;
typedef enum { MOMENTUM_EMA, MOMENTUM_ACCUMULATE } MomentumForm;
typedef enum { DECAY_CONSTANT, DECAY_LR, DECAY_COSINE } DecaySchedule;

typedef struct {
    struct { char *dir; int64_t seed; bool lock; } run;
    struct { char *dir; int order; } data;
    struct {
        int arch, layers, heads, kv_heads, head_size, width, context, vocab;
        double dropout;
        int mixer, q_lora, kv_lora, nope, rope, v_head;
        int norm, position, mlp, mlp_width, head, init;
        double norm_eps, rope_theta, rope_factor, rope_low, rope_high, attn_softcap, logit_softcap;
        int rope_original;
        bool attn_dropout, bias, embed_norm, qk_norm;
        int experts, experts_per_token, expert_width, shared_experts, dense_layers, expert_groups, groups_per_token, balance;
        double router_scale, balance_rate;
    } model;
    struct {
        char *init;
        int steps, batch, parts, micro_batch, local_steps, eval_every, save_every, sample_every, sample_tokens, precision, recompute,
            dist_bytes;
        int64_t eval_tokens, final_eval_tokens;
        double minutes, grad_clip, outer_lr, outer_momentum;
    } train;
    struct { int kind; double warmup, cooldown, final; ConfigList bends; } schedule;
    struct {
        int name, recipe;
        struct {
            double lr, momentum, momentum_warmup, momentum_start, weight_decay;
            int momentum_form, nesterov, steps, coefficients, scale, precision;
            double look_ahead;
            ConfigList polynomial;
            double polynomial_norm, guard, rms, beta2;
            int axis, guard_form, decay_schedule;
            bool equalize, renormalize, cautious, decay_scaled, packed_qkv, per_head;
        } muon;
        struct { double lr, momentum, weight_decay; bool nesterov; } sgd;
        struct { double lr, embed_lr, head_lr, beta1, beta2, eps, weight_decay; bool nesterov, decay_vectors; } adamw;
        struct { double tau, alpha; } qk_clip;
        struct { double beta, gamma, begin, end; } ema_nesterov;
        struct { double mix, horizon, begin; } tail_ema;
        ConfigMap route;
    } optimizer;
} Config;

typedef enum { ROLE_EMBED, ROLE_NORM, ROLE_BIAS, ROLE_Q, ROLE_Q_A, ROLE_Q_B, ROLE_KV_A, ROLE_KV_B, ROLE_K, ROLE_V, ROLE_O,
               ROLE_MLP_GATE, ROLE_MLP_IN, ROLE_MLP_OUT, ROLE_HEAD, ROLE_ROUTER, ROLE_ROUTER_BIAS } Role;

// The hidden matrices: those that a rule for matrices owns.
static inline bool role_is_hidden(Role role) {
    switch (role) {
    case ROLE_Q: case ROLE_Q_A: case ROLE_Q_B: case ROLE_KV_A: case ROLE_KV_B: case ROLE_K: case ROLE_V: case ROLE_O:
    case ROLE_MLP_GATE: case ROLE_MLP_IN: case ROLE_MLP_OUT:
        return true;
    case ROLE_EMBED: case ROLE_NORM: case ROLE_BIAS: case ROLE_HEAD: case ROLE_ROUTER: case ROLE_ROUTER_BIAS:
        break;
    }
    return false;
}

static inline bool role_is_vector(Role role) { return role == ROLE_NORM || role == ROLE_BIAS || role == ROLE_ROUTER_BIAS; }

#define ROLES "embed|norm|bias|q|q_a|q_b|kv_a|kv_b|k|v|o|mlp_gate|mlp_in|mlp_out|head|router"   // in the order of Role; nobody
                                                                                               // routes router_bias
#define TENSORS "wte|wpe|norm1_w|norm1_b|wq|w_qa|w_kva|wk|wv|bq|bk|bv|q_norm_w|w_qb|kv_norm_w|w_kvb|wo|bo|" \
                "norm2_w|norm2_b|w_gate|w_in|b_gate|b_in|w_out|b_out|w_router|router_bias|w_expert_gate|w_expert_in|" \
                "w_expert_out|w_shared_gate|w_shared_in|w_shared_out|normf_w|normf_b"   // their names below; the head is called as its role
#define RULES "sgd|rmsprop|adam|adamw|muon|normuon|svd|msgd|msgds|msgdq|msgdz|adams|adamq|adamz"       // muon.h's
#define OPTIMIZERS RULES "|muonclip"
#define RECIPES "torch|torch_match|keller|optax|keras|keras312|timm|nmuon|pytorch_optimizer|kimi_k2|moonlight|heavyball|dion|" \
                "muonium|optimuon|deepspeed|deepseek_v4|nanochat|modded_track3"
#define F_(member) offsetof(Config, member)
enum { MOST_STEPS = 1000000000 };

static const Field config_fields[] = {
    // key, type, where, default, min, max, choices, help
    {"run.dir", FIELD_STRING, F_(run.dir), "", 0, 0, NULL, "folder of the run; empty: runs/<name of the config>, with -<name of data.dir> where the command line chooses another than the config; -2, -3, ... when taken ($RUNS_DIR/... where that is set)"},
    {"run.seed", FIELD_INT64, F_(run.seed), "1", 0, 9007199254740992.0, NULL, "seeds the weights, the order of the data, dropout and the samples"},
    {"run.lock", FIELD_BOOL, F_(run.lock), "true", 0, 0, NULL, "one process at a time in the folder; false: on a volume without locks (some network ones), where you see to that"},
    {"data.dir", FIELD_STRING, F_(data.dir), "build/data/kjv", 0, 0, NULL, "folder with *train*.bin, *val*.bin and tokenizer.bin or .json (`make data`)"},
    {"data.order", FIELD_CHOICE, F_(data.order), "windows", 0, 0, "windows|documents", "of training: windows of the text are shuffled; or first its documents, each from an end-of-text token to the next"},

    {"model.arch", FIELD_CHOICE, F_(model.arch), "gpt2", 0, 0, "gpt2|speedrun|llama|k2", "preset of the keys from model.bias to model.init"},
    {"model.layers", FIELD_INT, F_(model.layers), "4", 1, 1000, NULL, "L, number of blocks"},
    {"model.heads", FIELD_INT, F_(model.heads), "4", 1, 1024, NULL, "NH, query heads"},
    {"model.kv_heads", FIELD_INT, F_(model.kv_heads), "0", 0, 1024, NULL, "NKV, key/value heads shared by groups of query heads; 0: as many as heads"},
    {"model.head_size", FIELD_INT, F_(model.head_size), "0", 0, 65536, NULL, "HS, channels of a head's query, key and value; 0: width / heads"},
    {"model.width", FIELD_INT, F_(model.width), "128", 1, 65536, NULL, "C, channels of the residual stream"},
    {"model.context", FIELD_INT, F_(model.context), "64", 1, 1048576, NULL, "T, tokens of a sequence"},
    {"model.vocab", FIELD_INT, F_(model.vocab), "0", 0, 1048576, NULL, "V; 0: what the tokenizer in data.dir says"},
    {"model.dropout", FIELD_FLOAT, F_(model.dropout), "0", 0, 0.95, NULL, "rate, on the embedding, the attention weights and both residual branches"},
    {"model.attn_dropout", FIELD_BOOL, F_(model.attn_dropout), "true", 0, 0, NULL, "false: none on the attention weights"},
    {"model.bias", FIELD_BOOL, F_(model.bias), "true", 0, 0, NULL, "biases in the linear layers and in layernorm"},
    {"model.norm", FIELD_CHOICE, F_(model.norm), "layernorm", 0, 0, "layernorm|rmsnorm|rmsnorm_plain", "in front of each branch and of the head; rmsnorm_plain has no gain"},
    {"model.norm_eps", FIELD_FLOAT, F_(model.norm_eps), "1e-5", 1e-12, 1, NULL, "added to the variance, or to the mean square"},
    {"model.embed_norm", FIELD_BOOL, F_(model.embed_norm), "false", 0, 0, NULL, "rmsnorm without gain on the embedding"},
    {"model.position", FIELD_CHOICE, F_(model.position), "learned", 0, 0, "learned|rope", "a table of positions, or rotated queries and keys (half-split)"},
    {"model.rope_theta", FIELD_FLOAT, F_(model.rope_theta), "10000", 1, 1e12, NULL, "base of RoPE's wavelengths"},
    {"model.rope_factor", FIELD_FLOAT, F_(model.rope_factor), "1", 1, 1e6, NULL, "Llama 3.1's longer contexts: pairs that turn less than rope_low times within rope_original tokens turn slower by this factor, those above rope_high times stay, those between are interpolated; 1: none"},
    {"model.rope_low", FIELD_FLOAT, F_(model.rope_low), "1", 1e-6, 1e6, NULL, "turns, with rope_factor"},
    {"model.rope_high", FIELD_FLOAT, F_(model.rope_high), "4", 1e-6, 1e6, NULL, "turns, with rope_factor; more than rope_low"},
    {"model.rope_original", FIELD_INT, F_(model.rope_original), "8192", 1, 1e9, NULL, "with rope_factor: the context before it was made longer"},
    {"model.mixer", FIELD_CHOICE, F_(model.mixer), "attention", 0, 0, "attention|mla", "of tokens; mla: multi-head latent attention (DeepSeek-V2, Kimi K2), whose keys and values come from one low-rank latent"},
    {"model.q_lora", FIELD_INT, F_(model.q_lora), "0", 0, 65536, NULL, "mla: rank of the queries, with a norm between its two projections; 0: one plain projection"},
    {"model.kv_lora", FIELD_INT, F_(model.kv_lora), "0", 0, 65536, NULL, "mla: rank of keys and values, the width of the latent"},
    {"model.nope", FIELD_INT, F_(model.nope), "0", 0, 65536, NULL, "mla: unrotated channels of a head's query and key"},
    {"model.rope", FIELD_INT, F_(model.rope), "0", 0, 65536, NULL, "mla: rotated channels behind them, the key's shared by all heads; even"},
    {"model.v_head", FIELD_INT, F_(model.v_head), "0", 0, 65536, NULL, "mla: channels of a head's value"},
    {"model.qk_norm", FIELD_BOOL, F_(model.qk_norm), "false", 0, 0, NULL, "rmsnorm without gain on every query and key; not together with QK-Clip"},
    {"model.attn_softcap", FIELD_FLOAT, F_(model.attn_softcap), "0", 0, 1e6, NULL, "c > 0: attention logits become c tanh(s/c)"},
    {"model.mlp", FIELD_CHOICE, F_(model.mlp), "gelu_tanh", 0, 0, "gelu_tanh|gelu_erf|relu2|swiglu", "activation"},
    {"model.mlp_width", FIELD_INT, F_(model.mlp_width), "0", 0, 1048576, NULL, "F; 0: 4C, for swiglu 8C/3 rounded up to a multiple of 64"},
    {"model.experts", FIELD_INT, F_(model.experts), "0", 0, MOE_MOST_EXPERTS, NULL, "E, MLPs of a layer that each token goes to a few of, without biases; 0: one dense MLP for all"},
    {"model.experts_per_token", FIELD_INT, F_(model.experts_per_token), "2", 1, MOE_MOST_EXPERTS, NULL, "K, those that a token goes to: by the largest score + bias"},
    {"model.expert_width", FIELD_INT, F_(model.expert_width), "0", 0, 1048576, NULL, "width of an expert"},
    {"model.shared_experts", FIELD_INT, F_(model.shared_experts), "0", 0, 1024, NULL, "further experts that every token goes to: one MLP of as many times the width"},
    {"model.dense_layers", FIELD_INT, F_(model.dense_layers), "0", 0, 1000, NULL, "the first layers, which have a dense MLP all the same"},
    {"model.expert_groups", FIELD_INT, F_(model.expert_groups), "1", 1, MOE_MOST_EXPERTS, NULL, "groups of experts, of which a token goes to the best few; a group's score is the sum of its two best"},
    {"model.groups_per_token", FIELD_INT, F_(model.groups_per_token), "1", 1, MOE_MOST_EXPERTS, NULL, "groups that a token's experts are of"},
    {"model.router_scale", FIELD_FLOAT, F_(model.router_scale), "1", 0, 1e6, NULL, "what the weights of a token's experts add up to"},
    {"model.balance", FIELD_CHOICE, F_(model.balance), "bias", 0, 0, "none|bias|quantile|aux", "of the experts' loads. bias: after each step an expert's bias moves by balance_rate towards the mean load; quantile: it becomes what would have made the step's loads even; aux: balance_rate times DeepSeek-V3's sequence-wise balance loss is learned too"},
    {"model.balance_rate", FIELD_FLOAT, F_(model.balance_rate), "0.01", 0, 100, NULL, "of balance bias a step of the bias; of aux the weight of the loss"},
    {"model.head", FIELD_CHOICE, F_(model.head), "tied", 0, 0, "tied|untied", "logits from the embedding's matrix or from one of their own"},
    {"model.logit_softcap", FIELD_FLOAT, F_(model.logit_softcap), "0", 0, 1e6, NULL, "c > 0: logits become c tanh(z/c)"},
    {"model.init", FIELD_CHOICE, F_(model.init), "gpt2", 0, 0, "gpt2|speedrun", "how weights start (configs/README.md, Model)"},

    {"train.init", FIELD_STRING, F_(train.init), "", 0, 0, NULL, "folder of a run, or of an imported model, with whose weights the training begins (fine-tuning): keys of model. that are left open are its own; empty: weights as model.init says"},
    {"train.steps", FIELD_INT, F_(train.steps), "1000", 1, MOST_STEPS, NULL, "optimizer steps"},
    {"train.minutes", FIELD_FLOAT, F_(train.minutes), "0", 0, 1e6, NULL, "minutes that the whole run may take, from the start of the process to its last line: as many steps as fit, or train.steps where these are given beside it and are fewer. Before the cooldown begins nothing depends on them; then train.steps becomes their number and this key 0, and the run is an ordinary one, which its config.json repeats bit by bit; 0: none"},
    {"train.batch", FIELD_INT, F_(train.batch), "12", 1, 1e6, NULL, "sequences a step"},
    {"train.parts", FIELD_INT, F_(train.parts), "0", 0, 1e6, NULL, "equal parts of a batch, whose gradients are summed in a fixed tree: the same bits for 1, 2, 4, ... ranks up to so many; 0: 1, and on several ranks 8 where that goes, else one for each"},
    {"train.micro_batch", FIELD_INT, F_(train.micro_batch), "0", 0, 1e6, NULL, "sequences of a part at once, gradients add up; 0: as many as 4096 tokens hold"},
    {"train.local_steps", FIELD_INT, F_(train.local_steps), "0", 0, 1e6, NULL, "K, steps that each rank makes alone, on its own share of the batches, before all go on from a mean of their weights (MuLoCo, DiLoCo: for slow networks); on one rank an outer optimizer every K steps; 0: every step is one of all ranks together"},
    {"train.outer_lr", FIELD_FLOAT, F_(train.outer_lr), "0.7", 0, 1e6, NULL, "with local_steps: learning rate of the outer step, Nesterov's SGD on how far the ranks' mean has moved"},
    {"train.outer_momentum", FIELD_FLOAT, F_(train.outer_momentum), "0.5", 0, 0.9999, NULL, "with local_steps: its momentum"},
    {"train.eval_every", FIELD_INT, F_(train.eval_every), "250", 0, 1e9, NULL, "steps between validations; 0: only at the end"},
    {"train.eval_tokens", FIELD_INT64, F_(train.eval_tokens), "0", 0, 1e15, NULL, "tokens of a validation on the way, windows spread evenly over the split; 0: all"},
    {"train.final_eval_tokens", FIELD_INT64, F_(train.final_eval_tokens), "0", 0, 1e15, NULL, "likewise of the last validation, whose loss is the run's result; 0: the whole split"},
    {"train.save_every", FIELD_INT, F_(train.save_every), "250", 0, 1e9, NULL, "steps between checkpoints; 0: only at the end"},
    {"train.sample_every", FIELD_INT, F_(train.sample_every), "0", 0, 1e9, NULL, "steps between samples; 0: only at the end"},
    {"train.sample_tokens", FIELD_INT, F_(train.sample_tokens), "400", 0, 1e6, NULL, "tokens of a sample; 0: none is drawn"},
    {"train.precision", FIELD_CHOICE, F_(train.precision), "auto", 0, 0, "auto|fp32|bf16", "of the matrix products; auto: bf16 where the CPU has AMX tiles, else fp32"},
    {"train.recompute", FIELD_CHOICE, F_(train.recompute), "none", 0, 0, "none|block", "block: keep only each block's input and compute it again in the backward pass; less memory, a third more work"},
    {"train.dist_bytes", FIELD_CHOICE, F_(train.dist_bytes), "fp32", 0, 0, "fp32|bf16", "what gradients and weights travel as between ranks; bf16: half the bytes, what gradients lose is kept for the next step, and other bits with another number of ranks"},
    {"train.grad_clip", FIELD_FLOAT, F_(train.grad_clip), "1", 0, 1e9, NULL, "largest global norm of the gradient; 0: off"},

    {"schedule.kind", FIELD_CHOICE, F_(schedule.kind), "cosine", 0, 0, "constant|cosine|trapezoid", "of every learning rate; trapezoid: warm-up, hold, linear decay"},
    {"schedule.warmup", FIELD_FLOAT, F_(schedule.warmup), "0", 0, 1e9, NULL, "linear warm-up: steps, or below 1 a fraction of all steps"},
    {"schedule.cooldown", FIELD_FLOAT, F_(schedule.cooldown), "0.4", 0, 1e9, NULL, "trapezoid's decay: steps, or up to 1 a fraction of all steps"},
    {"schedule.final", FIELD_FLOAT, F_(schedule.final), "0.1", 0, 1, NULL, "learning rate at the end, as a fraction of the peak"},
    {"schedule.bends", FIELD_LIST, F_(schedule.bends), "", 0, MOST_STEPS, NULL, "where the clock changed the steps of a run in its trapezoid's decay (train.minutes): pairs of a step and the train.steps until then; from that step on the rate falls to the new end. Fractions of all steps are of the first ones"},

    {"optimizer.name", FIELD_CHOICE, F_(optimizer.name), "muonclip", 0, 0, OPTIMIZERS, "preset of the rules: what owns the hidden matrices, and its settings (docs/optimizers.md)"},
    {"optimizer.recipe", FIELD_CHOICE, F_(optimizer.recipe), "none", 0, 0, "none|" RECIPES, "preset of optimizer's keys: the Muon of a package or a paper, with its rates and decay (docs/recipes.md)"},
    {"optimizer.muon.lr", FIELD_FLOAT, F_(optimizer.muon.lr), "0.02", 0, 1e6, NULL, "peak learning rate of the tensors under muon, normuon, svd and the spectral family"},
    {"optimizer.muon.momentum", FIELD_FLOAT, F_(optimizer.muon.momentum), "0.95", 0, 0.9999, NULL, "decay of the gradient's running mean or sum"},
    {"optimizer.muon.momentum_form", FIELD_CHOICE, F_(optimizer.muon.momentum_form), "ema", 0, 0, "ema|accumulate", "b = mu b + (1-mu) g, or b = mu b + g"},
    {"optimizer.muon.momentum_warmup", FIELD_FLOAT, F_(optimizer.muon.momentum_warmup), "0", 0, 1e9, NULL, "the momentum rises from momentum_start: steps, or below 1 a fraction of all steps; 0: none"},
    {"optimizer.muon.momentum_start", FIELD_FLOAT, F_(optimizer.muon.momentum_start), "0.85", 0, 0.9999, NULL, "momentum at step 0 where it warms up"},
    {"optimizer.muon.nesterov", FIELD_CHOICE, F_(optimizer.muon.nesterov), "true", 0, 0, "false|true|corrected", "look ahead: (1-mu) g + mu b instead of b, or g + mu b; corrected: each of the two by its own bias correction, as optax does it"},
    {"optimizer.muon.look_ahead", FIELD_FLOAT, F_(optimizer.muon.look_ahead), "0", 0, 1e6, NULL, "where nesterov is false: b + look_ahead g (1: heavyball)"},
    {"optimizer.muon.coefficients", FIELD_CHOICE, F_(optimizer.muon.coefficients), "keller", 0, 0, "keller|polar_express|polar_express_paper|bjorck|cubic|exact12|deepseekv4|cubic5|cans|aol|youjiacheng|own", "of the Newton-Schulz polynomial; own: optimizer.muon.polynomial"},
    {"optimizer.muon.polynomial", FIELD_LIST, F_(optimizer.muon.polynomial), "", -1e6, 1e6, NULL, "a, b, c of the first step, of the second, ...; the last three serve all further steps"},
    {"optimizer.muon.polynomial_norm", FIELD_FLOAT, F_(optimizer.muon.polynomial_norm), "1", 1, 100, NULL, "of one's own polynomial: it begins with u / (norm |u|_F)"},
    {"optimizer.muon.steps", FIELD_INT, F_(optimizer.muon.steps), "0", 0, MUON_MAX_NS_STEPS, NULL, "Newton-Schulz iterations; 0: as the coefficients ask (5; bjorck 10, cubic 15, exact12 12, deepseekv4 10, aol 4, own one for each three)"},
    {"optimizer.muon.guard", FIELD_FLOAT, F_(optimizer.muon.guard), "0", 0, 1, NULL, "of the norm that a matrix is divided by before Newton-Schulz; 0: none is needed, and a gradient's size changes nothing"},
    {"optimizer.muon.guard_form", FIELD_CHOICE, F_(optimizer.muon.guard_form), "add", 0, 0, "add|max", "norm + guard, or max(norm, guard)"},
    {"optimizer.muon.equalize", FIELD_BOOL, F_(optimizer.muon.equalize), "false", 0, 0, NULL, "MuonEq: before Newton-Schulz all rows get the same length"},
    {"optimizer.muon.renormalize", FIELD_BOOL, F_(optimizer.muon.renormalize), "false", 0, 0, NULL, "Muon+: after it the matrix gets the Frobenius norm sqrt(min(rows, cols))"},
    {"optimizer.muon.scale", FIELD_CHOICE, F_(optimizer.muon.scale), "keller", 0, 0, "none|keller|match_rms_adamw|rms_one|rms_exact|spectral|keller_transposed", "of a transformed matrix u: 1, sqrt(max(1, rows/cols)), rms sqrt(max(rows, cols)), sqrt(max(rows, cols)), rms / RMS(u), sqrt(rows/cols), sqrt(max(1, cols/rows))"},
    {"optimizer.muon.rms", FIELD_FLOAT, F_(optimizer.muon.rms), "0.2", 1e-6, 1e3, NULL, "of match_rms_adamw and rms_exact: the RMS of an update over the learning rate"},
    {"optimizer.muon.weight_decay", FIELD_FLOAT, F_(optimizer.muon.weight_decay), "0", 0, 1e3, NULL, "decoupled, times the learning rate before any scale"},
    {"optimizer.muon.decay_scaled", FIELD_BOOL, F_(optimizer.muon.decay_scaled), "false", 0, 0, NULL, "times the scale too, as muonium and nanochat have it"},
    {"optimizer.muon.decay_schedule", FIELD_CHOICE, F_(optimizer.muon.decay_schedule), "constant", 0, 0, "constant|lr|cosine", "of weight_decay itself, which the learning rate multiplies: as it is; times rate / peak rate (AdamC); falling to 0 by a cosine over all steps (nanochat)"},
    {"optimizer.muon.cautious", FIELD_BOOL, F_(optimizer.muon.cautious), "false", 0, 0, NULL, "decay only the weights that the step makes smaller"},
    {"optimizer.muon.packed_qkv", FIELD_BOOL, F_(optimizer.muon.packed_qkv), "false", 0, 0, NULL, "transform a layer's Q, K and V as one matrix; the scale is then that of its shape, up to sqrt(3) larger"},
    {"optimizer.muon.per_head", FIELD_BOOL, F_(optimizer.muon.per_head), "false", 0, 0, NULL, "transform queries, keys and values head by head, each head's rows as a matrix of its own (of mla: of w_qb or wq, and w_kvb's keys and values apart)"},
    {"optimizer.muon.axis", FIELD_CHOICE, F_(optimizer.muon.axis), "rows", 0, 0, "rows|longer", "what normuon evens out: rows; or rows of tall and square matrices, columns of wide ones"},
    {"optimizer.muon.beta2", FIELD_FLOAT, F_(optimizer.muon.beta2), "0", 0, 0.999999, NULL, "decay of the second moment of a rule for matrices, such as normuon's; 0: adamw.beta2"},
    {"optimizer.muon.precision", FIELD_CHOICE, F_(optimizer.muon.precision), "auto", 0, 0, "auto|fp32|bf16", "of Newton-Schulz's products; auto: as train.precision"},
    {"optimizer.sgd.lr", FIELD_FLOAT, F_(optimizer.sgd.lr), "0.2", 0, 1e6, NULL, "peak learning rate of the tensors under sgd"},
    {"optimizer.sgd.momentum", FIELD_FLOAT, F_(optimizer.sgd.momentum), "0.9", 0, 0.9999, NULL, "decay of the gradient's running sum; 0: plain"},
    {"optimizer.sgd.nesterov", FIELD_BOOL, F_(optimizer.sgd.nesterov), "false", 0, 0, NULL, "look ahead: g + mu b instead of b"},
    {"optimizer.sgd.weight_decay", FIELD_FLOAT, F_(optimizer.sgd.weight_decay), "0", 0, 1e3, NULL, "of matrices, added to the gradient"},
    {"optimizer.adamw.lr", FIELD_FLOAT, F_(optimizer.adamw.lr), "0.005", 0, 1e6, NULL, "peak learning rate of the tensors under adamw, adam and rmsprop"},
    {"optimizer.adamw.embed_lr", FIELD_FLOAT, F_(optimizer.adamw.embed_lr), "0", 0, 1e6, NULL, "of the embeddings; 0: adamw.lr"},
    {"optimizer.adamw.head_lr", FIELD_FLOAT, F_(optimizer.adamw.head_lr), "0", 0, 1e6, NULL, "of an untied head; 0: adamw.lr"},
    {"optimizer.adamw.beta1", FIELD_FLOAT, F_(optimizer.adamw.beta1), "0.9", 0, 0.999999, NULL, "decay of the first moment"},
    {"optimizer.adamw.beta2", FIELD_FLOAT, F_(optimizer.adamw.beta2), "0.95", 0, 0.999999, NULL, "decay of every second moment, normuon's too where muon.beta2 is 0"},
    {"optimizer.adamw.eps", FIELD_FLOAT, F_(optimizer.adamw.eps), "1e-8", 1e-20, 0.1, NULL, "added to the root of the second moment"},
    {"optimizer.adamw.nesterov", FIELD_BOOL, F_(optimizer.adamw.nesterov), "false", 0, 0, NULL, "the first moment looks ahead: NAdam, as optax has it"},
    {"optimizer.adamw.weight_decay", FIELD_FLOAT, F_(optimizer.adamw.weight_decay), "0.1", 0, 1e3, NULL, "of matrices; decoupled, but added to the gradient under adam and rmsprop"},
    {"optimizer.adamw.decay_vectors", FIELD_BOOL, F_(optimizer.adamw.decay_vectors), "false", 0, 0, NULL, "decay norms and biases too"},
    {"optimizer.qk_clip.tau", FIELD_FLOAT, F_(optimizer.qk_clip.tau), "0", 0, 1e9, NULL, "largest attention logit a head may have before it is scaled down; 0: off"},
    {"optimizer.qk_clip.alpha", FIELD_FLOAT, F_(optimizer.qk_clip.alpha), "0.5", 0, 1, NULL, "the queries' share of the scaling, in the exponent"},
    {"optimizer.ema_nesterov.beta", FIELD_FLOAT, F_(optimizer.ema_nesterov.beta), "0", 0, 100, NULL, "EMA-Nesterov, around any optimizer: every step begins beta times the schedule's factor times the running mean of steps ahead, which makes steps up to 1 / (1 - beta) times as long, from 1 on without end; 0: off"},
    {"optimizer.ema_nesterov.gamma", FIELD_FLOAT, F_(optimizer.ema_nesterov.gamma), "0.99", 0, 0.999999, NULL, "decay of that mean"},
    {"optimizer.ema_nesterov.begin", FIELD_FLOAT, F_(optimizer.ema_nesterov.begin), "0.16", 0, 1e9, NULL, "the first step that begins ahead: steps, or up to 1 a fraction of all steps"},
    {"optimizer.ema_nesterov.end", FIELD_FLOAT, F_(optimizer.ema_nesterov.end), "0.77", 0, 1e9, NULL, "the first one that does so no more, likewise"},
    {"optimizer.tail_ema.mix", FIELD_FLOAT, F_(optimizer.tail_ema.mix), "0", 0, 1, NULL, "tail average: how far the last step moves the weights towards a running average of theirs, which a run that is lengthened goes on from; 0: off"},
    {"optimizer.tail_ema.horizon", FIELD_FLOAT, F_(optimizer.tail_ema.horizon), "150", 1, 1e9, NULL, "steps that this average reaches back"},
    {"optimizer.tail_ema.begin", FIELD_FLOAT, F_(optimizer.tail_ema.begin), "0.88", 0, 1e9, NULL, "behind which step it begins: steps, or up to 1 a fraction of all steps"},
    {"optimizer.route", FIELD_MAP, F_(optimizer.route), "{}", 0, 0, ROLES "|" TENSORS ":" RULES "|none", "role or tensor to rule, overriding what the optimizer's name says; a tensor's own name counts more"},
};
enum { N_FIELDS = COUNT_OF(config_fields) };

#define SPECTRAL_MOMENTUM(name, lr, scale) \
    {"optimizer.name", name, "optimizer.muon.lr", lr}, \
    {"optimizer.name", name, "optimizer.muon.scale", scale}, \
    {"optimizer.name", name, "optimizer.muon.momentum", "0.9"}, \
    {"optimizer.name", name, "optimizer.muon.momentum_form", "accumulate"}, \
    {"optimizer.name", name, "optimizer.muon.nesterov", "false"}
#define SPECTRAL_ADAM(name, lr, scale) \
    {"optimizer.name", name, "optimizer.muon.lr", lr}, \
    {"optimizer.name", name, "optimizer.muon.scale", scale}

/* A recipe: what owns the hidden matrices; then all that another preset might say, and what the package has otherwise than
 * the table. The keys of AdamW are set where the package brings an AdamW of its own. Sources: the packages as installed
 * (docs/recipes.md has the versions) and, of models, their reports. dev/golden/packages.py runs the packages. */
#define RECIPE(name, lr, decay, scale, norm_guard, form) \
    {"optimizer.recipe", name, "optimizer.muon.lr", lr}, \
    {"optimizer.recipe", name, "optimizer.muon.weight_decay", decay}, \
    {"optimizer.recipe", name, "optimizer.muon.scale", scale}, \
    {"optimizer.recipe", name, "optimizer.muon.guard", norm_guard}, \
    {"optimizer.recipe", name, "optimizer.muon.guard_form", form}, \
    {"optimizer.recipe", name, "optimizer.qk_clip.tau", "0"}
#define RECIPE_MUON(name, key, value) {"optimizer.recipe", name, "optimizer.muon." key, value}
#define RECIPE_ADAMW(name, lr, beta1, beta2, eps, decay) \
    {"optimizer.recipe", name, "optimizer.adamw.lr", lr}, \
    {"optimizer.recipe", name, "optimizer.adamw.beta1", beta1}, \
    {"optimizer.recipe", name, "optimizer.adamw.beta2", beta2}, \
    {"optimizer.recipe", name, "optimizer.adamw.eps", eps}, \
    {"optimizer.recipe", name, "optimizer.adamw.weight_decay", decay}

static const ConfigPreset config_presets[] = {
    {"model.arch", "speedrun", "model.bias", "false"},
    {"model.arch", "speedrun", "model.norm", "rmsnorm_plain"},
    {"model.arch", "speedrun", "model.norm_eps", "1e-6"},
    {"model.arch", "speedrun", "model.embed_norm", "true"},
    {"model.arch", "speedrun", "model.position", "rope"},
    {"model.arch", "speedrun", "model.qk_norm", "true"},
    {"model.arch", "speedrun", "model.mlp", "relu2"},
    {"model.arch", "speedrun", "model.head", "untied"},
    {"model.arch", "speedrun", "model.logit_softcap", "15"},
    {"model.arch", "speedrun", "model.init", "speedrun"},
    {"model.arch", "llama", "model.bias", "false"},
    {"model.arch", "llama", "model.norm", "rmsnorm"},
    {"model.arch", "llama", "model.position", "rope"},
    {"model.arch", "llama", "model.mlp", "swiglu"},
    {"model.arch", "llama", "model.head", "untied"},
    // Kimi K2 (arXiv 2507.20534; its config.json) at the default width and heads: a head has its parts in K2's proportions
    // (128, 64, 128), the ranks are twice and once a head's unrotated width (12 and 4 times in K2). An expert is a third of a
    // dense MLP, so that a token's two and the shared one are as much work as that; K2 has 384 experts and takes 8.
    {"model.arch", "k2", "model.bias", "false"},
    {"model.arch", "k2", "model.norm", "rmsnorm"},
    {"model.arch", "k2", "model.norm_eps", "1e-6"},
    {"model.arch", "k2", "model.position", "rope"},
    {"model.arch", "k2", "model.rope_theta", "50000"},
    {"model.arch", "k2", "model.mixer", "mla"},
    {"model.arch", "k2", "model.q_lora", "64"},
    {"model.arch", "k2", "model.kv_lora", "32"},
    {"model.arch", "k2", "model.nope", "32"},
    {"model.arch", "k2", "model.rope", "16"},
    {"model.arch", "k2", "model.v_head", "32"},
    {"model.arch", "k2", "model.mlp", "swiglu"},
    {"model.arch", "k2", "model.experts", "8"},
    {"model.arch", "k2", "model.experts_per_token", "2"},
    {"model.arch", "k2", "model.expert_width", "128"},
    {"model.arch", "k2", "model.shared_experts", "1"},
    {"model.arch", "k2", "model.dense_layers", "1"},
    {"model.arch", "k2", "model.router_scale", "2.827"},
    {"model.arch", "k2", "model.head", "untied"},
    // A recipe's optimizer stands before the presets of optimizers, its other keys behind them.
    {"optimizer.recipe", "torch", "optimizer.name", "muon"},
    {"optimizer.recipe", "torch_match", "optimizer.name", "muon"},
    {"optimizer.recipe", "keller", "optimizer.name", "muon"},
    {"optimizer.recipe", "optax", "optimizer.name", "muon"},
    {"optimizer.recipe", "keras", "optimizer.name", "muon"},
    {"optimizer.recipe", "keras312", "optimizer.name", "muon"},
    {"optimizer.recipe", "timm", "optimizer.name", "muon"},
    {"optimizer.recipe", "nmuon", "optimizer.name", "muon"},
    {"optimizer.recipe", "pytorch_optimizer", "optimizer.name", "muon"},
    {"optimizer.recipe", "kimi_k2", "optimizer.name", "muonclip"},
    {"optimizer.recipe", "moonlight", "optimizer.name", "muon"},
    {"optimizer.recipe", "heavyball", "optimizer.name", "muon"},
    {"optimizer.recipe", "dion", "optimizer.name", "muon"},
    {"optimizer.recipe", "muonium", "optimizer.name", "muon"},
    {"optimizer.recipe", "optimuon", "optimizer.name", "normuon"},
    {"optimizer.recipe", "deepspeed", "optimizer.name", "muon"},
    {"optimizer.recipe", "deepseek_v4", "optimizer.name", "muon"},
    {"optimizer.recipe", "nanochat", "optimizer.name", "normuon"},
    {"optimizer.recipe", "modded_track3", "optimizer.name", "muon"},
    // MuonClip, the optimizer of Kimi K2 (arXiv 2507.20534): RMS-matched updates, so that AdamW's learning rate and decay
    // serve both. It looks ahead, as Moonlight does; the report's algorithm 1 does not: recipe kimi_k2.
    {"optimizer.name", "muonclip", "optimizer.muon.lr", "0.008"},
    {"optimizer.name", "muonclip", "optimizer.muon.scale", "match_rms_adamw"},
    {"optimizer.name", "muonclip", "optimizer.muon.weight_decay", "0.1"},
    {"optimizer.name", "muonclip", "optimizer.qk_clip.tau", "100"},
    {"optimizer.name", "rmsprop", "optimizer.adamw.lr", "0.000625"},
    {"optimizer.name", "rmsprop", "optimizer.adamw.beta2", "0.99"},
    {"optimizer.name", "rmsprop", "optimizer.adamw.weight_decay", "0"},
    {"optimizer.name", "adam", "optimizer.adamw.weight_decay", "0"},
    // The spectral family as its paper states it (arXiv 2602.04669): a sum of gradients, no look ahead, a scale only for
    // the power 0.
    SPECTRAL_MOMENTUM("msgd", "1", "none"),
    SPECTRAL_MOMENTUM("msgds", "0.1", "none"),
    SPECTRAL_MOMENTUM("msgdq", "0.1", "none"),
    SPECTRAL_MOMENTUM("msgdz", "0.01", "keller"),
    SPECTRAL_ADAM("adams", "0.01", "none"),
    SPECTRAL_ADAM("adamq", "0.02", "none"),
    SPECTRAL_ADAM("adamz", "0.02", "keller"),

    RECIPE("torch", "0.001", "0.1", "keller", "1e-7", "max"),
    RECIPE("torch_match", "0.001", "0.1", "match_rms_adamw", "1e-7", "max"),
    RECIPE("keller", "0.02", "0", "keller", "1e-7", "add"),
    RECIPE_ADAMW("keller", "0.0003", "0.9", "0.95", "1e-10", "0"),
    // optax asks for the rate, one for all
    RECIPE("optax", "0.02", "0", "keller", "1e-8", "add"),
    RECIPE_MUON("optax", "nesterov", "corrected"),
    RECIPE_ADAMW("optax", "0.02", "0.9", "0.999", "1e-8", "0"),
    {"optimizer.recipe", "optax", "optimizer.adamw.nesterov", "true"},
    RECIPE("keras", "0.001", "0.004", "match_rms_adamw", "1e-7", "add"),
    RECIPE_MUON("keras", "momentum_form", "accumulate"),
    RECIPE_ADAMW("keras", "0.001", "0.9", "0.999", "1e-7", "0.004"),
    {"optimizer.recipe", "keras", "optimizer.adamw.decay_vectors", "true"},
    RECIPE("keras312", "0.001", "0.1", "keller_transposed", "1e-7", "add"),
    RECIPE_MUON("keras312", "momentum_form", "accumulate"),
    RECIPE_MUON("keras312", "steps", "6"),
    RECIPE_ADAMW("keras312", "0.0001", "0.9", "0.999", "1e-7", "1"),        // of adam's tenth of the rate, 0.1 of the whole
    {"optimizer.recipe", "keras312", "optimizer.adamw.decay_vectors", "true"},
    RECIPE("timm", "0.02", "0", "match_rms_adamw", "1e-7", "max"),
    RECIPE_MUON("timm", "nesterov", "false"),
    RECIPE_MUON("timm", "coefficients", "youjiacheng"),
    RECIPE_ADAMW("timm", "0.02", "0.9", "0.95", "1e-7", "0"),
    RECIPE("nmuon", "0.02", "0", "match_rms_adamw", "1e-7", "max"),
    RECIPE_MUON("nmuon", "coefficients", "youjiacheng"),
    RECIPE_ADAMW("nmuon", "0.02", "0.9", "0.95", "1e-7", "0"),
    RECIPE("pytorch_optimizer", "0.02", "0", "keller", "1e-7", "max"),
    RECIPE_ADAMW("pytorch_optimizer", "0.0003", "0.9", "0.95", "1e-10", "0"),
    RECIPE("kimi_k2", "0.0002", "0.1", "match_rms_adamw", "0", "add"),
    RECIPE_MUON("kimi_k2", "momentum_form", "accumulate"),
    RECIPE_MUON("kimi_k2", "nesterov", "false"),
    RECIPE_ADAMW("kimi_k2", "0.0002", "0.9", "0.95", "1e-8", "0.1"),
    {"optimizer.recipe", "kimi_k2", "optimizer.qk_clip.tau", "100"},
    RECIPE("moonlight", "0.001", "0.1", "match_rms_adamw", "1e-7", "add"),
    RECIPE_MUON("moonlight", "momentum_form", "accumulate"),
    RECIPE_ADAMW("moonlight", "0.001", "0.9", "0.95", "1e-8", "0.1"),
    {"optimizer.recipe", "moonlight", "optimizer.adamw.decay_vectors", "true"},
    RECIPE("heavyball", "0.0025", "0", "keller", "1e-7", "max"),
    RECIPE_MUON("heavyball", "momentum", "0.9"),
    RECIPE_MUON("heavyball", "nesterov", "false"),
    RECIPE_MUON("heavyball", "look_ahead", "1"),
    RECIPE_MUON("heavyball", "coefficients", "youjiacheng"),
    RECIPE("dion", "0.01", "0.01", "spectral", "1e-8", "add"),
    RECIPE_MUON("dion", "momentum_form", "accumulate"),
    RECIPE_MUON("dion", "nesterov", "false"),
    RECIPE_MUON("dion", "coefficients", "polar_express"),
    RECIPE_ADAMW("dion", "0.01", "0.9", "0.95", "1e-8", "0.01"),
    RECIPE("muonium", "0.001", "0.1", "keller", "1e-7", "add"),
    RECIPE_MUON("muonium", "momentum_form", "accumulate"),
    RECIPE_MUON("muonium", "coefficients", "polar_express"),
    RECIPE_MUON("muonium", "cautious", "true"),
    RECIPE_MUON("muonium", "decay_scaled", "true"),
    RECIPE_ADAMW("muonium", "0.001", "0.9", "0.95", "1e-8", "0.1"),
    RECIPE("optimuon", "0.02", "0", "keller", "1e-6", "add"),
    RECIPE_MUON("optimuon", "coefficients", "polar_express"),
    RECIPE_MUON("optimuon", "axis", "longer"),
    RECIPE_MUON("optimuon", "beta2", "0.95"),
    RECIPE_MUON("optimuon", "cautious", "true"),
    RECIPE("deepspeed", "0.02", "0", "keller", "1e-7", "add"),
    RECIPE_ADAMW("deepspeed", "0.0003", "0.9", "0.95", "1e-10", "0"),
    RECIPE("deepseek_v4", "0.00027", "0.1", "match_rms_adamw", "0", "add"),
    RECIPE_MUON("deepseek_v4", "rms", "0.18"),
    RECIPE_MUON("deepseek_v4", "momentum_form", "accumulate"),
    RECIPE_MUON("deepseek_v4", "coefficients", "deepseekv4"),
    RECIPE_ADAMW("deepseek_v4", "0.00027", "0.9", "0.95", "1e-20", "0.1"),
    {"optimizer.recipe", "deepseek_v4", "optimizer.route", "router=muon"},
    RECIPE("nanochat", "0.02", "0.28", "keller", "1e-6", "add"),
    RECIPE_MUON("nanochat", "coefficients", "own"),                         // polar_express's, with less room
    RECIPE_MUON("nanochat", "polynomial",
                "8.156554524902461,-22.48329292557795,15.878769915207462,4.042929935166739,-2.808917465908714,0.5000178451051316,"
                "3.8916678022926607,-2.772484153217685,0.5060648178503393,3.285753657755655,-2.3681294933425376,"
                "0.46449024233003106,2.3465413258596377,-1.7097828382687081,0.42323551169305323"),
    RECIPE_MUON("nanochat", "polynomial_norm", "1.01"),
    RECIPE_MUON("nanochat", "equalize", "true"),
    RECIPE_MUON("nanochat", "renormalize", "true"),
    RECIPE_MUON("nanochat", "axis", "longer"),
    RECIPE_MUON("nanochat", "beta2", "0.9"),
    RECIPE_MUON("nanochat", "cautious", "true"),
    RECIPE_MUON("nanochat", "decay_scaled", "true"),
    RECIPE_MUON("nanochat", "decay_schedule", "cosine"),
    RECIPE_ADAMW("nanochat", "0.008", "0.8", "0.96", "1e-10", "0.01"),
    {"optimizer.recipe", "nanochat", "optimizer.adamw.embed_lr", "0.3"},
    RECIPE("modded_track3", "0.025", "0.05", "keller", "1e-7", "add"),
    RECIPE_MUON("modded_track3", "coefficients", "exact12"),
    RECIPE_ADAMW("modded_track3", "0.015", "0.8", "0.95", "1e-10", "0.001"),
    {"optimizer.recipe", "modded_track3", "optimizer.adamw.embed_lr", "0.7"},
    {"optimizer.recipe", "modded_track3", "optimizer.adamw.head_lr", "0.004"},
};

// Tokens of a micro-batch where the config leaves that open: more would only take more memory.
enum { MICRO_TOKENS = 4096 };

static inline int rule_named(const char *name) { return config_name_index("none|" RULES, name); }

// The rule that optimizer.name stands for; MuonClip is Muon with other settings.
static inline int optimizer_rule(const Config *c) {
    const char *name = config_choice_name(config_fields, N_FIELDS, "optimizer.name", c->optimizer.name);
    return rule_named(strcmp(name, "muonclip") ? name : "muon");
}

// Who updates a tensor. A rule that works on single weights owns all of them. One that works on matrices owns the hidden
// ones; embeddings, head, norms and biases then belong to AdamW (Muon's README; Moonlight, arXiv 2502.16982).
// optimizer.route overrides by role, and by name.
static inline int tensor_rule(const Config *c, Role role, const char *name) {
    const ConfigMap *route = &c->optimizer.route;
    int rule = optimizer_rule(c);
    if (role == ROLE_ROUTER_BIAS) return MUON_RULE_NONE;         // model.balance alone moves it
    if (muon_rule_is_for_matrices(rule) && !role_is_hidden(role)) rule = MUON_RULE_ADAMW;
    for (int i = 0; i < route->n; i++)
        if (config_name_index(ROLES, route->keys[i]) == (int)role) rule = rule_named(route->values[i]);
    for (int i = 0; i < route->n; i++)
        if (!strcmp(route->keys[i], name)) rule = rule_named(route->values[i]);
    return rule;
}

static inline bool tensor_decays(const Config *c, Role role) { return !role_is_vector(role) || c->optimizer.adamw.decay_vectors; }

// Channels of a head of attention, which is not latent.
static inline int head_size(const Config *c) { return c->model.head_size ? c->model.head_size : c->model.width / c->model.heads; }

// Of a matrix whose rows are head after head: a head's rows, and those of a second part behind all of these, latent attention's
// values behind its keys. Zeros for other matrices.
typedef struct { int first, second; } HeadRows;

static inline HeadRows head_rows(const Config *c, Role role) {
    bool latent = c->model.mixer == MIXER_MLA;
    switch (role) {
    case ROLE_Q: case ROLE_Q_B: return (HeadRows){latent ? c->model.nope + c->model.rope : head_size(c), 0};
    case ROLE_KV_B: return latent ? (HeadRows){c->model.nope, c->model.v_head} : (HeadRows){0, 0};
    case ROLE_K: case ROLE_V: return (HeadRows){latent ? 0 : head_size(c), 0};
    default: return (HeadRows){0, 0};
    }
}

// The section of optimizer. that has a rule's settings.
typedef enum { KEYS_ADAMW, KEYS_SGD, KEYS_MUON, KEYS_SECTIONS } RuleKeys;

static inline RuleKeys rule_keys(int rule) {
    return rule == MUON_RULE_SGD ? KEYS_SGD : muon_rule_is_for_matrices(rule) ? KEYS_MUON : KEYS_ADAMW;
}

// The peak learning rate of tensors of a role under a rule.
static inline double rule_lr(const Config *c, int rule, Role role) {
    switch (rule_keys(rule)) {
    case KEYS_SGD: return c->optimizer.sgd.lr;
    case KEYS_MUON: return c->optimizer.muon.lr;
    default: break;
    }
    if (role == ROLE_EMBED && c->optimizer.adamw.embed_lr > 0) return c->optimizer.adamw.embed_lr;
    if (role == ROLE_HEAD && c->optimizer.adamw.head_lr > 0) return c->optimizer.adamw.head_lr;
    return c->optimizer.adamw.lr;
}

static inline double rule_decay(const Config *c, int rule) {
    RuleKeys keys = rule_keys(rule);
    return keys == KEYS_SGD ? c->optimizer.sgd.weight_decay
         : keys == KEYS_MUON ? c->optimizer.muon.weight_decay : c->optimizer.adamw.weight_decay;
}

// The optimizer's options: of the tensors under a rule of each section. own: room for optimizer.muon.polynomial, to be kept.
static inline void optimizer_options(const Config *c, MuonOptions of[KEYS_SECTIONS], MuonCoefficients *own) {
    const ConfigList *polynomial = &c->optimizer.muon.polynomial;
    *own = (MuonCoefficients){.name = "own", .norm = c->optimizer.muon.polynomial_norm, .rows = polynomial->n / 3,
                              .steps = polynomial->n / 3};
    for (int i = 0; i < polynomial->n; i++) own->abc[i / 3][i % 3] = polynomial->v[i];
    MuonOptions o = muon_default_options();
    o.momentum = c->optimizer.muon.momentum;
    o.nesterov = c->optimizer.muon.nesterov;
    o.look_ahead = c->optimizer.muon.look_ahead;
    o.accumulate = c->optimizer.muon.momentum_form == MOMENTUM_ACCUMULATE;
    o.coefficients = polynomial->n ? own : muon_coefficients(c->optimizer.muon.coefficients);
    o.ns_steps = c->optimizer.muon.steps;
    o.guard = c->optimizer.muon.guard;
    o.guard_form = c->optimizer.muon.guard_form;
    o.equalize = c->optimizer.muon.equalize;
    o.renormalize = c->optimizer.muon.renormalize;
    o.scale = c->optimizer.muon.scale;
    o.rms = c->optimizer.muon.rms;
    o.decay_scaled = c->optimizer.muon.decay_scaled;
    o.cautious = c->optimizer.muon.cautious;
    o.axis = c->optimizer.muon.axis;
    o.beta1 = c->optimizer.adamw.beta1;
    o.beta2 = c->optimizer.adamw.beta2;
    o.eps = c->optimizer.adamw.eps;
    o.adam_nesterov = c->optimizer.adamw.nesterov;
    of[KEYS_MUON] = of[KEYS_SGD] = of[KEYS_ADAMW] = o;
    if (c->optimizer.muon.beta2 > 0) of[KEYS_MUON].beta2 = c->optimizer.muon.beta2;
    of[KEYS_ADAMW].cautious = 0;
    of[KEYS_SGD].momentum = c->optimizer.sgd.momentum;
    of[KEYS_SGD].nesterov = c->optimizer.sgd.nesterov ? MUON_NESTEROV : MUON_NESTEROV_OFF;
    of[KEYS_SGD].look_ahead = 0;
    of[KEYS_SGD].accumulate = 1;
}

// The key of the learning rate of most of the model: what may make a diverged run go on.
static inline const char *lr_key(const Config *c) {
    static const char *const keys[KEYS_SECTIONS] = {"optimizer.adamw.lr", "optimizer.sgd.lr", "optimizer.muon.lr"};
    return keys[rule_keys(optimizer_rule(c))];
}

// The steps that the run had when its cooldown began, before the clock changed them.
static inline int first_steps(const Config *c) { return c->schedule.bends.n > 1 ? (int)c->schedule.bends.v[1] : c->train.steps; }

// Steps that a key of the schedule means: below 1 a fraction of all steps.
static inline double warmup_steps(const Config *c) {
    return c->schedule.warmup < 1 ? c->schedule.warmup * first_steps(c) : c->schedule.warmup;
}

static inline double cooldown_steps(const Config *c) {
    return c->schedule.cooldown <= 1 ? c->schedule.cooldown * first_steps(c) : c->schedule.cooldown;
}

// Whether steps begin ahead, and whether the last weights are averaged; and from when on.
static inline bool looks_ahead(const Config *c) { return c->optimizer.ema_nesterov.beta > 0; }
static inline bool has_tail(const Config *c) { return c->optimizer.tail_ema.mix > 0; }

static inline double averages_steps(const Config *c, double key) { return key <= 1 ? key * first_steps(c) : key; }

static inline double momentum_warmup_steps(const Config *c) {
    double warmup = c->optimizer.muon.momentum_warmup;
    return warmup < 1 ? warmup * first_steps(c) : warmup;
}

// With train.minutes: the steps of a run whose cooldown begins when `step` of them are done, the fewest that have all of the warm-up
// and are a multiple of train.local_steps. Of these the first `step` have the same rates as those of any longer run.
static inline int steps_with_cooldown_at(const Config *c, int step) {
    double cooldown = c->schedule.kind == SCHEDULE_TRAPEZOID ? c->schedule.cooldown : 0, begins = fmax(step, c->schedule.warmup);
    double steps = cooldown < 1 ? ceil(begins / (1 - cooldown) - 1e-9) : ceil(begins + cooldown);
    steps = fmax(steps, floor(fmax(c->schedule.warmup, c->optimizer.muon.momentum_warmup)) + 1);
    int every = c->train.local_steps ? c->train.local_steps : 1;
    return (int)fmin(ceil(steps / every) * every, MOST_STEPS);
}

// ---------------------------------------------------------------------------------------------------------------------
// What one key alone can't tell: derived values, and what doesn't go together

static inline void config_resolve_optimizer(Config *c, const char *where) {
    const ConfigList *own = &c->optimizer.muon.polynomial;
    bool use_own = c->optimizer.muon.coefficients == MUON_COEFF_COUNT;   // "own", behind muon.h's
    if (own->n && !use_own)
        fail_usage("%s: optimizer.muon.polynomial: not used, since optimizer.muon.coefficients isn't own", where);
    if (use_own && (own->n == 0 || own->n % 3 || own->n > 3 * MUON_MAX_ROWS))
        fail_usage("%s: optimizer.muon.polynomial: %d numbers, but coefficients own needs three for each step, up to %d steps",
                   where, own->n, MUON_MAX_ROWS);
    if (c->optimizer.muon.steps == 0)
        c->optimizer.muon.steps = use_own ? own->n / 3 : muon_coefficients(c->optimizer.muon.coefficients)->steps;
    bool latent = c->model.mixer == MIXER_MLA, ranked = latent && c->model.q_lora > 0;
    if (c->optimizer.qk_clip.tau > 0 && !((ranked ? tensor_rule(c, ROLE_Q_B, "w_qb") : tensor_rule(c, ROLE_Q, "wq")) &&
                                          (latent ? tensor_rule(c, ROLE_KV_B, "w_kvb") : tensor_rule(c, ROLE_K, "wk"))))
        fail_usage("%s: optimizer.qk_clip.tau: %g, but optimizer.route keeps queries or keys as they are; set tau to 0", where,
                   c->optimizer.qk_clip.tau);
    if (latent && c->optimizer.muon.packed_qkv)
        fail_usage("%s: optimizer.muon.packed_qkv: with model.mixer mla there is no Q, K and V to pack", where);
    int q = tensor_rule(c, ROLE_Q, "wq"), k = tensor_rule(c, ROLE_K, "wk"), v = tensor_rule(c, ROLE_V, "wv");
    if (c->optimizer.muon.packed_qkv && (q != k || q != v))
        fail_usage("%s: optimizer.muon.packed_qkv: optimizer.route gives q, k and v different rules", where);
    if (c->optimizer.muon.packed_qkv && c->optimizer.muon.per_head)
        fail_usage("%s: optimizer.muon.per_head: not together with packed_qkv, which transforms all heads as one matrix", where);
    for (Role role = 0; role <= ROLE_HEAD && c->optimizer.muon.per_head; role++) {
        HeadRows head = head_rows(c, role);
        if (head.first == 1 || head.second == 1)
            fail_usage("%s: optimizer.muon.per_head: a head of one row (%s) is a vector", where,
                       latent ? "model.nope or model.v_head" : c->model.head_size ? "model.head_size" : "model.width / model.heads");
    }
}

static inline void config_resolve_experts(Config *c, const char *where) {
    int E = c->model.experts, K = c->model.experts_per_token, G = c->model.expert_groups, kept = c->model.groups_per_token;
    for (int i = 0; i < c->optimizer.route.n; i++)
        if (!strcmp(c->optimizer.route.keys[i], "router_bias"))
            fail_usage("%s: optimizer.route: router_bias has no rule: model.balance alone moves it", where);
    if (E == 0) return;
    if (c->model.expert_width == 0)
        fail_usage("%s: model.expert_width: missing; with model.experts (%d) the width of one is expected", where, E);
    if (K > E) fail_usage("%s: model.experts_per_token: %d, but model.experts is %d", where, K, E);
    if (c->model.dense_layers >= c->model.layers)
        fail_usage("%s: model.dense_layers: %d of model.layers (%d) leave none with experts", where, c->model.dense_layers,
                   c->model.layers);
    if (E % G) fail_usage("%s: model.expert_groups: %d does not divide model.experts (%d)", where, G, E);
    if (kept > G) fail_usage("%s: model.groups_per_token: %d, but model.expert_groups is %d", where, kept, G);
    if (E / G * kept < K)
        fail_usage("%s: model.groups_per_token: %d of %d groups have %d experts, fewer than model.experts_per_token (%d)", where,
                   kept, G, E / G * kept, K);
    if (c->model.balance == BALANCE_QUANTILE && G > 1)
        fail_usage("%s: model.balance: quantile knows no groups, but model.expert_groups is %d", where, G);
}

// Prepared data is looked for where make put it: in $DATA_ROOT, which `make BUILD=FOLDER` sets, instead of build/data.
static inline void config_resolve_data(Config *c) {
    const char *root = getenv("DATA_ROOT"), *prepared = "build/data/", *dir = c->data.dir;
    if (!root || !*root || strncmp(dir, prepared, strlen(prepared)) != 0 || !strncmp(dir, root, strlen(root))) return;
    char *found = format("%s/%s", root, dir + strlen(prepared));
    free(c->data.dir);
    c->data.dir = found;
}

// What latent attention asks of its sizes, and doesn't go together with.
static inline void config_resolve_mla(Config *c, const char *where) {
    const struct { const char *key; int size; } sizes[] = {
        {"model.kv_lora", c->model.kv_lora}, {"model.nope", c->model.nope}, {"model.rope", c->model.rope},
        {"model.v_head", c->model.v_head}};
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        if (sizes[i].size == 0) fail_usage("%s: %s: model.mixer mla needs it, at least 1 is expected", where, sizes[i].key);
    if (c->model.rope % 2) fail_usage("%s: model.rope: %d is odd, but RoPE rotates pairs", where, c->model.rope);
    if (c->model.kv_heads != c->model.heads)
        fail_usage("%s: model.kv_heads: %d, but with model.mixer mla every head has its own key and value; 0 is expected", where,
                   c->model.kv_heads);
    if (c->model.position != POSITION_ROPE)
        fail_usage("%s: model.position: model.mixer mla has rotated channels; rope is expected", where);
    if (c->model.bias) fail_usage("%s: model.bias: model.mixer mla has no biases; false is expected", where);
    if (c->model.qk_norm) fail_usage("%s: model.qk_norm: model.mixer mla has norms of its own; false is expected", where);
}

// Between outer steps each rank has weights of its own, of which none is the run's.
static inline void config_resolve_local(const Config *c, const char *where) {
    const struct { const char *key; int steps; } keys[] = {{"steps", c->train.steps}, {"eval_every", c->train.eval_every},
                                                           {"save_every", c->train.save_every}, {"sample_every", c->train.sample_every}};
    for (size_t i = 0; i < COUNT_OF(keys) && c->train.local_steps; i++)
        if (keys[i].steps % c->train.local_steps)
            fail_usage("%s: train.%s: %d; a multiple of train.local_steps (%d) is expected", where, keys[i].key, keys[i].steps,
                       c->train.local_steps);
    const struct { const char *key; bool on; } averages[] = {{"ema_nesterov.beta", looks_ahead(c)}, {"tail_ema.mix", has_tail(c)}};
    for (size_t i = 0; i < COUNT_OF(averages); i++)      // averages of weights that are one rank's, or rounded
        if (averages[i].on && (c->train.local_steps || c->train.dist_bytes == TRAVEL_BF16))
            fail_usage("%s: optimizer.%s: all ranks must have the same weights behind each step: with it train.local_steps 0 and "
                       "train.dist_bytes fp32 are expected", where, averages[i].key);
}

// train.minutes: nothing before the cooldown may depend on the number of steps. Fractions of it are of the train.steps that the
// config has, as whole steps from here on; that number is a limit where it is given beside the minutes, not where a file has it and
// the command line the minutes. Called before the other checks.
static inline void config_resolve_minutes(Config *c, const ConfigSource *from, bool resumed, const char *where) {
    if (c->train.minutes == 0) return;
    if (c->schedule.kind == SCHEDULE_COSINE)
        fail_usage("%s: train.minutes: a cosine needs the number of steps from the first one on; schedule.kind trapezoid is expected", where);
    if (c->schedule.kind == SCHEDULE_TRAPEZOID && c->schedule.cooldown == 1)
        fail_usage("%s: train.minutes: with schedule.cooldown 1 the rate falls from the first step on; less is expected", where);
    if (c->optimizer.muon.decay_schedule == DECAY_COSINE)
        fail_usage("%s: train.minutes: optimizer.muon.decay_schedule cosine needs the number of steps; constant or lr is expected", where);
    double holds = c->schedule.kind != SCHEDULE_TRAPEZOID ? 1 : c->schedule.cooldown <= 1 ? 1 - c->schedule.cooldown : 1;
    const struct { const char *key; bool used; double begin, least; } averages[] = {    // a fraction that lies in the cooldown will do
        {"ema_nesterov.begin", looks_ahead(c), c->optimizer.ema_nesterov.begin, 2}, {"ema_nesterov.end", looks_ahead(c), c->optimizer.ema_nesterov.end, holds},
        {"tail_ema.begin", has_tail(c), c->optimizer.tail_ema.begin, holds}};
    for (size_t i = 0; i < COUNT_OF(averages); i++)
        if (averages[i].used && averages[i].begin > 0 && averages[i].begin <= 1 && averages[i].begin < averages[i].least)
            fail_usage("%s: train.minutes: optimizer.%s: %g is a fraction of steps that nobody knows yet; a number of steps is expected",
                       where, averages[i].key, averages[i].begin);
    double *fractions[] = {&c->schedule.warmup, &c->optimizer.muon.momentum_warmup};
    for (size_t i = 0; i < COUNT_OF(fractions); i++) {
        if (!(*fractions[i] > 0 && *fractions[i] < 1)) continue;
        if (resumed) fail_usage("%s: train.minutes: the run's schedule was begun as fractions of all steps; train.steps goes on with it", where);
        *fractions[i] = ceil(*fractions[i] * c->train.steps);
    }
    ConfigSource steps = from[config_find(config_fields, N_FIELDS, "train.steps") - config_fields],
                 minutes = from[config_find(config_fields, N_FIELDS, "train.minutes") - config_fields];
    free(c->schedule.bends.v);                           // of a run that goes on, whose cooldown is behind it
    c->schedule.bends = (ConfigList){0, NULL};
    if (steps < CONFIG_FILE || steps < minutes)
        c->train.steps = MOST_STEPS - (c->train.local_steps ? MOST_STEPS % c->train.local_steps : 0);
}

// Fills in the keys whose 0 means "derive it", and refuses values that contradict each other. `where` names the file in messages.
static inline void config_resolve(Config *c, const char *where) {
    config_resolve_data(c);
    if (c->model.kv_heads == 0) c->model.kv_heads = c->model.heads;
    if (c->train.parts == 0) c->train.parts = 1;
    if (c->train.batch % c->train.parts)
        fail_usage("%s: train.parts: %d does not divide train.batch (%d)", where, c->train.parts, c->train.batch);
    int part = c->train.batch / c->train.parts;          // sequences
    if (c->train.micro_batch == 0) {
        int most = c->model.context < MICRO_TOKENS ? MICRO_TOKENS / c->model.context : 1;
        for (int n = 1; n <= part && n <= most; n++)
            if (part % n == 0) c->train.micro_batch = n;
    }
    int C = c->model.width, NH = c->model.heads, NKV = c->model.kv_heads;
    if (c->model.mlp_width == 0) c->model.mlp_width = c->model.mlp == MLP_SWIGLU ? (8 * C / 3 + 63) / 64 * 64 : 4 * C;
    const struct { const char *key; double c; } caps[] = {{"model.attn_softcap", c->model.attn_softcap},
                                                          {"model.logit_softcap", c->model.logit_softcap}};
    for (size_t i = 0; i < COUNT_OF(caps); i++)
        if (caps[i].c > 0 && caps[i].c < FLT_MIN)                  // the kernels divide by it
            fail_usage("%s: %s: %g is zero as a float; 0 is off, else at least %.2g is expected", where, caps[i].key,
                       caps[i].c, FLT_MIN);
    bool latent = c->model.mixer == MIXER_MLA;
    if (latent) config_resolve_mla(c, where);
    if (c->model.head_size && c->model.head_size * NH == C) c->model.head_size = 0;        // one way to say it
    if (!latent && !c->model.head_size && C % NH)
        fail_usage("%s: model.width: %d is not a multiple of model.heads (%d), and model.head_size is 0", where, C, NH);
    if (NH % NKV) fail_usage("%s: model.kv_heads: %d does not divide model.heads (%d)", where, NKV, NH);
    if (!latent && c->model.position == POSITION_ROPE && head_size(c) % 2)
        fail_usage("%s: model.%s: RoPE rotates pairs, but %s = %d is odd", where, c->model.head_size ? "head_size" : "heads",
                   c->model.head_size ? "head_size" : "width/heads", head_size(c));
    if (c->model.rope_factor > 1 && c->model.rope_low >= c->model.rope_high)
        fail_usage("%s: model.rope_high: %g is not above model.rope_low (%g)", where, c->model.rope_high, c->model.rope_low);
    if ((double)c->train.batch * c->model.context > 1e9)
        fail_usage("%s: train.batch: %d sequences of model.context (%d) tokens are more than a step can have, 10^9",
                   where, c->train.batch, c->model.context);
    if (part % c->train.micro_batch)
        fail_usage("%s: train.micro_batch: %d does not divide %s (%d)", where, c->train.micro_batch,
                   c->train.parts > 1 ? "train.batch / train.parts" : "train.batch", part);
    config_resolve_local(c, where);
    config_resolve_experts(c, where);
    config_resolve_optimizer(c, where);
    if (c->model.qk_norm && c->optimizer.qk_clip.tau > 0)
        fail_usage("%s: optimizer.qk_clip.tau: %g, but model.qk_norm already bounds the logits and undoes any scaling "
                   "of queries and keys; set tau to 0 (optimizer.name muon has it so) or qk_norm to false", where,
                   c->optimizer.qk_clip.tau);
}

// ---------------------------------------------------------------------------------------------------------------------
// Keys that change nothing. A preset may set what a model doesn't have; a user who does is told.

enum { OWNERS_MOST = 64 };               // tensors of a table

// Which rule owns which of a model's tensors, and what that says of the keys. Begins as {.c = config}.
typedef struct {
    const Config *c;
    struct { const char *name; Role role; bool there; } tensors[OWNERS_MOST];    // all that a model may have
    int n;
    struct { bool owns, decays; int uses; } of[KEYS_SECTIONS];   // a tensor; one that decays; MUON_USES_* of their rules
    bool adamw_lr, embed_lr, head_lr;    // a tensor under adamw or its kin has its rate from optimizer.adamw.lr; is of this role
    bool heads;                          // a matrix whose rows are heads is under a rule for matrices
    bool decays_vectors;                 // a norm or a bias is under a rule with weight decay
} Owners;

static inline void owners_add(Owners *o, const char *name, Role role, bool there) {
    if (o->n == OWNERS_MOST) fail("more than %d tensors", OWNERS_MOST);
    o->tensors[o->n].name = name, o->tensors[o->n].role = role, o->tensors[o->n++].there = there;
    int rule = tensor_rule(o->c, role, name);
    RuleKeys keys = rule_keys(rule);
    if (!there || rule == MUON_RULE_NONE) return;
    o->of[keys].owns = true;
    o->of[keys].decays |= tensor_decays(o->c, role);
    o->of[keys].uses |= muon_rule_uses(rule);
    o->heads |= head_rows(o->c, role).first > 0 && muon_rule_is_for_matrices(rule);
    o->decays_vectors |= role_is_vector(role) && rule_decay(o->c, rule) > 0;
    if (keys != KEYS_ADAMW) return;
    o->embed_lr |= role == ROLE_EMBED;
    o->head_lr |= role == ROLE_HEAD;
    o->adamw_lr |= !(role == ROLE_EMBED && o->c->optimizer.adamw.embed_lr > 0) &&
                   !(role == ROLE_HEAD && o->c->optimizer.adamw.head_lr > 0);
}

// The key that decides whether the model has this tensor; NULL: it always does.
static inline const char *tensor_socket(const Config *c, const char *name, Role role) {
    switch (role) {
    case ROLE_EMBED: return strcmp(name, "wpe") ? NULL : "model.position";
    case ROLE_HEAD: return "model.head";
    case ROLE_MLP_GATE: case ROLE_MLP_IN: case ROLE_MLP_OUT: {
        bool expert = strstr(name, "expert") || strstr(name, "shared"), dense = !c->model.experts || c->model.dense_layers;
        if (role == ROLE_MLP_GATE && c->model.mlp != MLP_SWIGLU) return "model.mlp";
        if (expert) return c->model.experts && strstr(name, "shared") ? "model.shared_experts" : "model.experts";
        return dense ? NULL : "model.dense_layers";
    }
    case ROLE_ROUTER: case ROLE_ROUTER_BIAS: return "model.experts";
    case ROLE_Q: case ROLE_Q_A: case ROLE_Q_B: return c->model.mixer == MIXER_MLA ? "model.q_lora" : "model.mixer";
    case ROLE_KV_A: case ROLE_KV_B: case ROLE_K: case ROLE_V: return "model.mixer";
    case ROLE_NORM:
        if (strstr(name, "q_norm") || strstr(name, "kv_norm")) return tensor_socket(c, name, *name == 'q' ? ROLE_Q_A : ROLE_KV_A);
        return strstr(name, "_b") && c->model.norm == NORM_LAYERNORM ? "model.bias" : "model.norm";
    case ROLE_BIAS:
        if (name[1] == '_' && c->model.experts && !c->model.dense_layers) return "model.dense_layers";      // b_in and the like
        return strcmp(name, "b_gate") || c->model.mlp == MLP_SWIGLU ? "model.bias" : "model.mlp";
    default: return NULL;
    }
}

// Why a role or a tensor of optimizer.route changes nothing: the model has none of it. To be freed; NULL: it has them all.
static inline char *route_unused(const Owners *o) {
    const ConfigMap *route = &o->c->optimizer.route;
    for (int i = 0; i < route->n; i++) {
        bool found = false;
        const char *socket = NULL;
        for (int k = 0; k < o->n; k++) {
            if (strcmp(route->keys[i], o->tensors[k].name) &&
                config_name_index(ROLES, route->keys[i]) != (int)o->tensors[k].role) continue;
            found = found || o->tensors[k].there;
            socket = tensor_socket(o->c, o->tensors[k].name, o->tensors[k].role);
        }
        if (found || !socket) continue;
        char *value = config_value_text(o->c, config_find(config_fields, N_FIELDS, socket));
        char *why = format("the model has no %s (%s is %s)", route->keys[i], socket, value);
        free(value);
        return why;
    }
    return NULL;
}

// Why `key` changes nothing in this config, to be freed; NULL where it does something.
static inline char *key_unused(const Owners *o, const char *key) {
    const Config *c = o->c;
    bool decays = c->schedule.kind == SCHEDULE_COSINE || (c->schedule.kind == SCHEDULE_TRAPEZOID && c->schedule.cooldown > 0);
    bool matrix = o->of[KEYS_MUON].owns, momentum = o->of[KEYS_MUON].uses & MUON_USES_MOMENTUM,
         polar = o->of[KEYS_MUON].uses & MUON_USES_NEWTON_SCHULZ, sgd = o->of[KEYS_SGD].owns,
         uses_momentum = c->optimizer.muon.momentum > 0 || c->optimizer.muon.momentum_warmup > 0;
    bool experts = c->model.experts > 0, muon_decays = c->optimizer.muon.weight_decay > 0;
    int moments = o->of[KEYS_ADAMW].uses | o->of[KEYS_MUON].uses;
    static const char no_matrix[] = "no tensor is under muon or one of its family", no_sgd[] = "no tensor is under sgd",
                      no_momentum[] = "no tensor is under a rule with muon's momentum",
                      no_muon_momentum[] = "optimizer.muon.momentum is 0", no_polar[] = "no tensor is under muon or normuon",
                      no_decay[] = "optimizer.muon.weight_decay is 0",
                      no_second[] = "no tensor is under a rule with second moments", no_mla[] = "model.mixer isn't mla",
                      no_experts[] = "model.experts is 0";
    bool latent = c->model.mixer == MIXER_MLA;
    const struct { const char *key; bool used; const char *otherwise; } uses[] = {
        {"model.attn_dropout", c->model.dropout > 0, "model.dropout is 0"},
        {"model.head_size", !latent || c->model.head_size == 0, "model.mixer is mla: nope, rope and v_head are a head's sizes"},
        {"model.kv_heads", !latent || c->model.kv_heads == 0, "model.mixer is mla: every head has its own key and value"},
        {"model.q_lora", latent || c->model.q_lora == 0, no_mla},
        {"model.kv_lora", latent || c->model.kv_lora == 0, no_mla},
        {"model.nope", latent || c->model.nope == 0, no_mla},
        {"model.rope", latent || c->model.rope == 0, no_mla},
        {"model.v_head", latent || c->model.v_head == 0, no_mla},
        {"model.rope_theta", c->model.position == POSITION_ROPE, "model.position isn't rope"},
        {"model.rope_factor", c->model.position == POSITION_ROPE, "model.position isn't rope"},
        {"model.rope_low", c->model.rope_factor > 1, "model.rope_factor is 1"},
        {"model.rope_high", c->model.rope_factor > 1, "model.rope_factor is 1"},
        {"model.rope_original", c->model.rope_factor > 1, "model.rope_factor is 1"},
        {"model.mlp_width", !c->model.experts || c->model.dense_layers > 0, "model.dense_layers is 0: all layers have experts"},
        {"model.experts_per_token", experts, no_experts},
        {"model.expert_width", experts, no_experts},
        {"model.shared_experts", experts, no_experts},
        {"model.dense_layers", experts, no_experts},
        {"model.expert_groups", experts, no_experts},
        {"model.groups_per_token", experts, no_experts},
        {"model.groups_per_token", c->model.expert_groups > 1, "model.expert_groups is 1"},
        {"model.router_scale", experts, no_experts},
        {"model.balance", experts, no_experts},
        {"model.balance_rate", experts, no_experts},
        {"model.balance_rate", c->model.balance == BALANCE_BIAS || c->model.balance == BALANCE_AUX,
         "model.balance is neither bias nor aux"},
        {"train.outer_lr", c->train.local_steps > 0, "train.local_steps is 0"},
        {"train.dist_bytes", c->train.local_steps == 0, "train.local_steps is above 0: the ranks' weights travel as they are"},
        {"train.outer_momentum", c->train.local_steps > 0, "train.local_steps is 0"},
        {"train.sample_every", !c->train.sample_every || c->train.sample_tokens > 0, "train.sample_tokens is 0"},
        {"schedule.cooldown", c->schedule.kind == SCHEDULE_TRAPEZOID, "schedule.kind isn't trapezoid"},
        {"schedule.bends", c->schedule.kind == SCHEDULE_TRAPEZOID, "schedule.kind isn't trapezoid"},
        {"schedule.final", decays, "the schedule never falls"},
        {"optimizer.recipe", matrix, no_matrix},
        {"optimizer.muon.lr", matrix, no_matrix},
        {"optimizer.muon.momentum", momentum, no_momentum},
        {"optimizer.muon.momentum_form", momentum, no_momentum},
        {"optimizer.muon.momentum_form", uses_momentum, no_muon_momentum},
        {"optimizer.muon.momentum_warmup", momentum, no_momentum},
        {"optimizer.muon.momentum_start", momentum, no_momentum},
        {"optimizer.muon.momentum_start", c->optimizer.muon.momentum_warmup > 0, "optimizer.muon.momentum_warmup is 0"},
        {"optimizer.muon.nesterov", momentum, no_momentum},
        {"optimizer.muon.nesterov", uses_momentum, no_muon_momentum},
        {"optimizer.muon.look_ahead", momentum, no_momentum},
        {"optimizer.muon.look_ahead", c->optimizer.muon.nesterov == MUON_NESTEROV_OFF, "optimizer.muon.nesterov isn't false"},
        {"optimizer.muon.coefficients", polar, no_polar},
        {"optimizer.muon.polynomial", polar, no_polar},
        {"optimizer.muon.polynomial_norm", polar, no_polar},
        {"optimizer.muon.polynomial_norm", c->optimizer.muon.coefficients == MUON_COEFF_COUNT,
         "optimizer.muon.coefficients isn't own"},
        {"optimizer.muon.steps", polar, no_polar},
        {"optimizer.muon.precision", polar, no_polar},
        {"optimizer.muon.guard", polar, no_polar},
        {"optimizer.muon.guard_form", polar, no_polar},
        {"optimizer.muon.guard_form", c->optimizer.muon.guard > 0, "optimizer.muon.guard is 0"},
        {"optimizer.muon.equalize", polar, no_polar},
        {"optimizer.muon.renormalize", polar, no_polar},
        {"optimizer.muon.scale", matrix, no_matrix},
        {"optimizer.muon.rms", matrix, no_matrix},
        {"optimizer.muon.rms", c->optimizer.muon.scale == MUON_SCALE_MATCH_RMS_ADAMW || c->optimizer.muon.scale == MUON_SCALE_RMS_EXACT,
         "optimizer.muon.scale is neither match_rms_adamw nor rms_exact"},
        {"optimizer.muon.weight_decay", o->of[KEYS_MUON].decays, no_matrix},
        {"optimizer.muon.cautious", o->of[KEYS_MUON].decays, no_matrix},
        {"optimizer.muon.cautious", muon_decays, no_decay},
        {"optimizer.muon.decay_scaled", o->of[KEYS_MUON].decays, no_matrix},
        {"optimizer.muon.decay_scaled", muon_decays, no_decay},
        {"optimizer.muon.decay_schedule", o->of[KEYS_MUON].decays, no_matrix},
        {"optimizer.muon.decay_schedule", muon_decays, no_decay},
        {"optimizer.muon.packed_qkv", muon_rule_is_for_matrices(tensor_rule(c, ROLE_Q, "wq")),
         "q, k and v aren't under muon or one of its family"},
        {"optimizer.muon.per_head", o->heads, "neither queries nor keys nor values are under muon or one of its family"},
        {"optimizer.muon.axis", o->of[KEYS_MUON].uses & MUON_USES_AXIS, "no tensor is under normuon"},
        {"optimizer.muon.beta2", o->of[KEYS_MUON].uses & MUON_USES_BETA2, "no tensor is under normuon or another with second moments"},
        {"optimizer.sgd.lr", sgd, no_sgd},
        {"optimizer.sgd.momentum", sgd, no_sgd},
        {"optimizer.sgd.nesterov", sgd, no_sgd},
        {"optimizer.sgd.nesterov", c->optimizer.sgd.momentum > 0, "optimizer.sgd.momentum is 0"},
        {"optimizer.sgd.weight_decay", o->of[KEYS_SGD].decays, "no matrix is under sgd"},
        {"optimizer.adamw.lr", o->adamw_lr, "no tensor under adamw or its kin has this rate"},
        {"optimizer.adamw.embed_lr", o->embed_lr, "no embedding is under adamw or its kin"},
        {"optimizer.adamw.head_lr", c->model.head == HEAD_UNTIED, "model.head is tied: the head is the embedding"},
        {"optimizer.adamw.head_lr", o->head_lr, "the head isn't under adamw or its kin"},
        {"optimizer.adamw.beta1", moments & MUON_USES_BETA1, "no tensor is under a rule with first moments"},
        {"optimizer.adamw.beta2", moments & MUON_USES_BETA2, no_second},
        {"optimizer.adamw.nesterov", moments & MUON_USES_BETA1, "no tensor is under a rule with first moments"},
        {"optimizer.adamw.eps", moments & MUON_USES_BETA2, no_second},
        {"optimizer.adamw.weight_decay", o->of[KEYS_ADAMW].decays, "no matrix is under adamw or its kin"},
        {"optimizer.adamw.decay_vectors", o->decays_vectors, "no norm or bias is under a rule with weight decay"},
        {"optimizer.qk_clip.alpha", c->optimizer.qk_clip.tau > 0, "optimizer.qk_clip.tau is 0"},
        {"optimizer.ema_nesterov.gamma", looks_ahead(c), "optimizer.ema_nesterov.beta is 0"},
        {"optimizer.ema_nesterov.begin", looks_ahead(c), "optimizer.ema_nesterov.beta is 0"},
        {"optimizer.ema_nesterov.end", looks_ahead(c), "optimizer.ema_nesterov.beta is 0"},
        {"optimizer.tail_ema.horizon", has_tail(c), "optimizer.tail_ema.mix is 0"},
        {"optimizer.tail_ema.begin", has_tail(c), "optimizer.tail_ema.mix is 0"},
    };
    for (size_t i = 0; i < COUNT_OF(uses); i++)
        if (!strcmp(uses[i].key, key) && !uses[i].used) return xstrdup(uses[i].otherwise);
    return strcmp(key, "optimizer.route") ? NULL : route_unused(o);
}

/* Refuses keys that a user has set and that change nothing: of the command line those without effect in the whole config;
 * of the file those without effect in the whole and in the file alone, since the command line may choose another
 * optimizer for a file than its own. A file that sets most of the keys there are is one that a run has written. */
static inline void check_keys(const Owners *whole, const ConfigSource *from, const Owners *alone, const ConfigSource *from_file,
                       const char *where) {
    int given = 0;
    for (int i = 0; i < N_FIELDS; i++) given += from_file[i] == CONFIG_FILE;
    for (int i = 0; i < N_FIELDS; i++) {
        const char *key = config_fields[i].key;
        char *why = from[i] >= CONFIG_FILE ? key_unused(whole, key) : NULL;
        if (why && from[i] == CONFIG_COMMAND) fail_usage("--%s: changes nothing, since %s", key, why);
        char *why_alone = why && given <= N_FIELDS / 2 ? key_unused(alone, key) : NULL;
        if (why_alone) fail_usage("%s: %s: changes nothing, since %s", where, key, why_alone);
        free(why);
    }
}

// Pairs of a step of the cooldown and the steps until then, in order.
static inline void check_bends(const Config *c, const char *where) {
    const ConfigList *b = &c->schedule.bends;
    double since = first_steps(c) - cooldown_steps(c);
    for (int i = 0; i < b->n; since = b->v[i], i += 2) {
        bool pair = i + 1 < b->n && b->v[i] == floor(b->v[i]) && b->v[i + 1] == floor(b->v[i + 1]);
        if (!pair || b->v[i] < since || b->v[i] >= fmin(b->v[i + 1], c->train.steps))
            fail_usage("%s: schedule.bends: item %d: expected pairs of a step in the cooldown, above the one before it and below "
                       "train.steps (%d), and the steps until then", where, i + 1, c->train.steps);
    }
}

// Refuses a schedule that the steps cut off: rates and momentum would never be what the config says.
static inline void check_schedule(const Owners *o, const char *where) {
    const Config *c = o->c;
    int steps = first_steps(c);
    double warmup = warmup_steps(c), cooldown = c->schedule.kind == SCHEDULE_TRAPEZOID ? cooldown_steps(c) : 0;
    double momentum = o->of[KEYS_MUON].uses & MUON_USES_MOMENTUM ? momentum_warmup_steps(c) : 0;
    static const char hint[] = "; numbers below 1 are fractions of all steps";
    if (warmup >= steps)
        fail_usage("%s: schedule.warmup: %g steps, but train.steps is %d%s", where, warmup, steps, hint);
    if (warmup + cooldown > steps * (1 + 1e-12))
        fail_usage("%s: schedule.warmup and schedule.cooldown: %g and %g steps, but train.steps is %d%s", where, warmup,
                   cooldown, steps, hint);
    if (momentum >= steps)
        fail_usage("%s: optimizer.muon.momentum_warmup: %g steps, but train.steps is %d%s", where, momentum, steps, hint);
    double begin = averages_steps(c, c->optimizer.ema_nesterov.begin), end = averages_steps(c, c->optimizer.ema_nesterov.end);
    double tail = averages_steps(c, c->optimizer.tail_ema.begin);
    if (looks_ahead(c) && begin >= end)
        fail_usage("%s: optimizer.ema_nesterov.end: %g steps, but begin is %g%s", where, end, begin, hint);
    if (has_tail(c) && tail >= steps)
        fail_usage("%s: optimizer.tail_ema.begin: %g steps, but train.steps is %d%s", where, tail, steps, hint);
}

// Whether the presets of `chooser`, or of one choice of it (NULL: any), set `key`.
static inline bool is_governed(const char *chooser, const char *choice, const char *key) {
    for (size_t i = 0; i < COUNT_OF(config_presets); i++) {
        const ConfigPreset *p = &config_presets[i];
        if (!strcmp(p->field, chooser) && !strcmp(p->key, key) && (!choice || !strcmp(p->choice, choice))) return true;
    }
    return false;
}

// Says which values of the file stay where the command line chooses another preset than the file, which has its own.
static inline void print_kept(const Owners *o, const ConfigSource *from, const Config *file, const char *where) {
    for (int k = 0; k < N_FIELDS; k++) {
        const Field *chooser = &config_fields[k];
        const int *now = (const void *)((const char *)o->c + chooser->offset), *before = (const void *)((const char *)file + chooser->offset);
        if (chooser->type != FIELD_CHOICE || from[k] != CONFIG_COMMAND || *now == *before) continue;
        if (!strcmp(chooser->key, "optimizer.recipe")) continue;                 // print_recipe says it
        char *choice = format("--%s=%s", chooser->key, config_choice_name(config_fields, N_FIELDS, chooser->key, *now)), error[256];
        Config preset;
        bool any = false;
        if (!config_try(&preset, config_fields, N_FIELDS, config_presets, COUNT_OF(config_presets), NULL, 0, "", 1, &choice, NULL,
                        error, sizeof error))
            fail("%s", error);
        for (int i = 0; i < N_FIELDS; i++) {
            const Field *f = &config_fields[i];
            if (from[i] != CONFIG_FILE || !is_governed(chooser->key, NULL, f->key)) continue;
            char *kept = config_value_text(o->c, f), *own = config_value_text(&preset, f), *unused = key_unused(o, f->key);
            if (strcmp(kept, own) && !unused) {
                if (!any) printf("preset     %s, but %s keeps", choice, where);
                printf("%s %s %s (its own: %s)", any ? "," : "", f->key, kept, own);
                any = true;
            }
            free(kept); free(own); free(unused);
        }
        if (any) printf("\n");
        config_free(&preset, config_fields, N_FIELDS);
        free(choice);
    }
}

// Says which keys optimizer.recipe has set, and which of its keys have another source.
static inline void print_recipe(const Config *c, const ConfigSource *from) {
    if (!c->optimizer.recipe) return;
    char *recipe = xstrdup(config_choice_name(config_fields, N_FIELDS, "optimizer.recipe", c->optimizer.recipe));
    for (int given = 0; given < 2; given++) {
        const char *before = given ? "\n           given: " : "sets ";
        if (!given) printf("recipe     %s ", recipe);
        for (int i = 0; i < N_FIELDS; i++) {
            const Field *f = &config_fields[i];
            if (!is_governed("optimizer.recipe", recipe, f->key) || (from[i] >= CONFIG_FILE) != given) continue;
            char *value = config_value_text(c, f);
            printf("%s%s %s", before, f->key + strlen("optimizer."), value);
            before = ", ";
            free(value);
        }
    }
    printf("\n");
    free(recipe);
}

#endif // KEYS_H
