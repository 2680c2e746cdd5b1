#!/usr/bin/env python3
"""Writes tests/data/hf/FAMILY/: tiny random models in both formats, with token ids and logits from the official code.

Each folder is a model as Hugging Face's libraries save it (config.json, safetensors, tokenizer.json, ...), and has beside
it the same weights as model.gguf, and
    golden.json   texts with the ids that the Python package tokenizers gives them (with and without the tokens that the
                  post-processor adds) and what it decodes them to; a prompt; and the positions of the logits
    logits.f32    float32, little-endian: [positions, vocab_size], from the Python package transformers in float32
The texts are in tests/data/hf/texts.json, written by hand.

Usage: tools/make_goldens.py [--out tests/data/hf] [FAMILY ...]
Needs: pip install torch transformers tokenizers sentencepiece gguf
The tokenizers are trained on the documents of this repository, so another state of it gives other (equally good) files.
"""

import argparse
import json
import pathlib
import shutil
import tempfile

import gguf
import numpy as np
import sentencepiece
import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROMPT_TOKENS = 64
POSITIONS = [0, 1, 15, 16, 40, 63]
VOCAB_SIZE = 420
METASPACE = "\u2581"

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_PATTERN = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")
TEKKEN_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def corpus():
    paths = sorted((ROOT / "docs").glob("*.md")) + [ROOT / "README.md", ROOT / "tests/data/documents/skerrow.txt"]
    return [line for path in paths for line in path.read_text(encoding="utf-8").splitlines(keepends=True)][:4000]


# --- tokenizers -------------------------------------------------------------------------------------------------------


def byte_level(pre, special, plain=(), normalizer=None, bos=None, ignore_merges=False):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(special) - len(plain),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in special])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in plain])
    tokenizer.decoder = decoders.ByteLevel()
    if bos:
        template = processors.TemplateProcessing(f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))])
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def split(pattern):
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def smollm_tokenizer():
    digits = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return byte_level(digits, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])


def llama3_tokenizer():
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    return byte_level(split(LLAMA3_PATTERN), special, bos="<|begin_of_text|>", ignore_merges=True)


def qwen_tokenizer():
    return byte_level(
        split(QWEN2_PATTERN),
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        plain=["<tool_call>", "</tool_call>"],
        normalizer=normalizers.NFC(),
    )


def tekken_tokenizer():
    return byte_level(split(TEKKEN_PATTERN), ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"], bos="<s>", ignore_merges=True)


def train_sentencepiece(folder):
    text = folder / "corpus.txt"
    text.write_text("".join(corpus()), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "spm"), model_type="bpe", vocab_size=VOCAB_SIZE, byte_fallback=True,
        character_coverage=0.995, unk_id=0, bos_id=1, eos_id=2, pad_id=-1, normalization_rule_name="identity",
        remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, split_digits=True, num_threads=1,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "spm.model"))


def sentencepiece_tokenizer(legacy):
    """A tokenizer of merges with the vocabulary of a trained sentencepiece model; also its scores."""
    with tempfile.TemporaryDirectory() as folder:
        pieces = train_sentencepiece(pathlib.Path(folder))
    size = pieces.get_piece_size()
    texts = [pieces.id_to_piece(i) for i in range(size)]
    scores = [pieces.get_score(i) for i in range(size)]
    vocab = {text: i for i, text in enumerate(texts)}
    merges = []
    for text, i in vocab.items():
        if pieces.is_byte(i) or pieces.is_control(i) or pieces.is_unknown(i):
            continue
        merges += [(-scores[i], vocab[text[:k]], vocab[text[k:]], text[:k], text[k:])
                   for k in range(1, len(text)) if text[:k] in vocab and text[k:] in vocab]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocab, merges=[merge[3:] for merge in sorted(merges)], unk_token="<unk>", fuse_unk=True,
                   byte_fallback=True)
    )
    if legacy:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(METASPACE), normalizers.Replace(" ", METASPACE)])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(METASPACE, prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(METASPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in ["<unk>", "<s>", "</s>"]])
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer, scores


# --- models -----------------------------------------------------------------------------------------------------------

COMMON = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
}
CHATML_TOKENS = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}
SPM_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


class Family:
    def __init__(self, config, dtype, tokenizer, pre, tokens, template=None, shard_size=None):
        self.config = config
        self.dtype = dtype
        self.tokenizer = tokenizer
        self.pre = pre  # of tokenizer.ggml.pre; None: a sentencepiece vocabulary
        self.tokens = tokens
        self.template = template
        self.shard_size = shard_size


def llama(**more):
    return transformers.LlamaConfig(**COMMON, **more)


FAMILIES = {
    "llama2-linear": lambda: Family(
        llama(rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}),
        torch.float16, lambda: sentencepiece_tokenizer(legacy=True), None, SPM_TOKENS),
    "llama3": lambda: Family(
        llama(rope_parameters={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                               "original_max_position_embeddings": 32, "rope_theta": 500.0}),
        torch.bfloat16, llama3_tokenizer, "llama-bpe",
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}, CHATML, shard_size="40KB"),
    "llama-yarn": lambda: Family(
        llama(tie_word_embeddings=True,
              rope_parameters={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32,
                               "rope_theta": 10000.0}),
        torch.float32, smollm_tokenizer, "smollm", CHATML_TOKENS, CHATML),
    "mistral": lambda: Family(
        transformers.MistralConfig(**COMMON, head_dim=24, sliding_window=None),
        torch.bfloat16, lambda: sentencepiece_tokenizer(legacy=False), None, SPM_TOKENS),
    "mistral-nemo": lambda: Family(
        transformers.MistralConfig(**COMMON, head_dim=16, sliding_window=None),
        torch.bfloat16, tekken_tokenizer, "tekken", SPM_TOKENS),
    "qwen2": lambda: Family(
        transformers.Qwen2Config(**COMMON, tie_word_embeddings=True), torch.bfloat16, qwen_tokenizer, "qwen2",
        CHATML_TOKENS, CHATML),
    "qwen3": lambda: Family(
        transformers.Qwen3Config(**COMMON, head_dim=16), torch.float16, qwen_tokenizer, "qwen2", CHATML_TOKENS, CHATML),
}


def randomise(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            if "norm" in name:
                parameter.copy_(1 + 0.1 * noise)
            elif parameter.ndim == 1:
                parameter.copy_(0.5 * noise)
            elif "embed" in name and not model.config.tie_word_embeddings:
                parameter.copy_(noise)
            else:
                gain = 2 if "lm_head" in name or "embed" in name else 1
                parameter.copy_(gain * noise / parameter.shape[1] ** 0.5)


def write_tokenizer(family, tokenizer, folder):
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False,
                                                **family.tokens)
    if family.template:
        fast.chat_template = family.template
    fast.save_pretrained(folder)


def goldens(family, tokenizer, model, folder):
    texts = json.loads((folder.parent / "texts.json").read_text(encoding="utf-8"))
    cases = []
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        cases.append({"ids": ids, "with_special": tokenizer.encode(text).ids,
                      "decoded": tokenizer.decode(ids, skip_special_tokens=True)})
    prompt = torch.randint(0, model.config.vocab_size, (PROMPT_TOKENS,), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        logits = model(prompt[None]).logits[0, POSITIONS]
    logits.numpy().astype("<f4").tofile(folder / "logits.f32")
    golden = {"prompt": prompt.tolist(), "positions": POSITIONS, "texts": cases}
    (folder / "golden.json").write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")) + "\n",
                                        encoding="utf-8")


# --- GGUF -------------------------------------------------------------------------------------------------------------

GGUF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}
GGML_TYPES = {torch.float32: gguf.GGMLQuantizationType.F32, torch.float16: gguf.GGMLQuantizationType.F16,
              torch.bfloat16: gguf.GGMLQuantizationType.BF16}


def gguf_name(name):
    stem, kind = name.rsplit(".", 1)
    if stem.startswith("model.layers."):
        layer, role = stem.removeprefix("model.layers.").split(".", 1)
        return f"blk.{layer}.{GGUF_NAMES[role]}.{kind}"
    return f"{GGUF_NAMES[stem]}.{kind}"


def interleave(weight, heads):
    """Rows of a head from halves (i, i + n/2) to pairs (2i, 2i + 1)."""
    rows = weight.shape[0]
    return weight.reshape(heads, 2, rows // heads // 2, -1).transpose(1, 2).reshape(weight.shape)


def add_config(writer, config, family):
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if rope["rope_type"] == "llama3":
        scaled, _ = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
        plain = rope["rope_theta"] ** -(torch.arange(0, head_dim, 2).float() / head_dim)
        writer.add_tensor("rope_freqs.weight", (plain / scaled).numpy())


def add_tokenizer(writer, family, tokenizer, scores):
    vocab = {i: text for text, i in tokenizer.get_vocab().items()}
    added = {i: token for i, token in tokenizer.get_added_tokens_decoder().items()}
    Type = gguf.TokenType
    types = []
    for i in range(len(vocab)):
        if i in added:
            types.append(Type.UNKNOWN if vocab[i] == "<unk>" else Type.CONTROL if added[i].special else Type.USER_DEFINED)
        elif not family.pre and vocab[i].startswith("<0x"):
            types.append(Type.BYTE)
        else:
            types.append(Type.NORMAL)
    writer.add_tokenizer_model("gpt2" if family.pre else "llama")
    if family.pre:
        writer.add_tokenizer_pre(family.pre)
        merges = json.loads(tokenizer.to_str())["model"]["merges"]
        writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    else:
        writer.add_token_scores(scores)
    writer.add_token_list([vocab[i] for i in range(len(vocab))])
    writer.add_token_types(types)
    writer.add_bos_token_id(tokenizer.token_to_id(family.tokens["bos_token"]))
    writer.add_eos_token_id(tokenizer.token_to_id(family.tokens["eos_token"]))
    writer.add_add_bos_token(len(tokenizer.encode("a").ids) > len(tokenizer.encode("a", add_special_tokens=False).ids))
    if family.template:
        writer.add_chat_template(family.template)


def write_gguf(family, model, tokenizer, scores, path):
    config = model.config
    architecture = "llama" if config.model_type == "mistral" else config.model_type
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(path.parent.name)
    add_config(writer, config, family)
    add_tokenizer(writer, family, tokenizer, scores)
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if weight.ndim == 1:
            writer.add_tensor(gguf_name(name), weight.float().numpy())
            continue
        if architecture == "llama" and "q_proj" in name:
            weight = interleave(weight, config.num_attention_heads)
        if architecture == "llama" and "k_proj" in name:
            weight = interleave(weight, config.num_key_value_heads)
        packed = weight.contiguous().view(torch.uint8).numpy()
        writer.add_tensor(gguf_name(name), packed, raw_dtype=GGML_TYPES[family.dtype])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_family(name, out):
    family = FAMILIES[name]()
    tokenizer = family.tokenizer()
    scores = None
    if isinstance(tokenizer, tuple):
        tokenizer, scores = tokenizer
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    family.config.vocab_size = tokenizer.get_vocab_size()
    family.config.bos_token_id = tokenizer.token_to_id(family.tokens["bos_token"])
    family.config.eos_token_id = tokenizer.token_to_id(family.tokens["eos_token"])
    model = transformers.AutoModelForCausalLM.from_config(family.config, attn_implementation="eager").eval()
    randomise(model, seed=len(name))
    for parameter in model.parameters():
        parameter.data = parameter.data.to(family.dtype).float()
    goldens(family, tokenizer, model, folder)  # before RoPE's frequencies are rounded with the weights
    model = model.to(family.dtype)
    model.save_pretrained(folder, **({"max_shard_size": family.shard_size} if family.shard_size else {}))
    write_tokenizer(family, tokenizer, folder)
    write_gguf(family, model, tokenizer, scores, folder / "model.gguf")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tests/data/hf")
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    args = parser.parse_args()
    for name in args.families:
        write_family(name, args.out)


if __name__ == "__main__":
    main()
