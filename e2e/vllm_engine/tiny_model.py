"""`python tiny_model.py FOLDER`: writes a chat model of random weights that vLLM serves on a CPU.

Runs in the engine's environment and imports nothing of the project. Nothing is downloaded: the
tokenizer is trained on the text below.

What it is made for: streams that are cut and resumed.

- Byte-level BPE with few merges: most characters beyond ASCII are several tokens, so that cuts fall
  inside of characters.
- Large weights: with the usual ones all logits are nearly equal, and greedy answers fall into one
  repeated token. Here answers vary, and a wrong token shows.
- float32: with 16 bits, two logits are often equal, and which one wins then depends on the batch.
- Two special tokens are generated like any other: the end of a message, so that answers end, and
  its start, which has an id and no text.
"""

import sys
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

MAX_POSITION: Final = 16384
VOCABULARY: Final = 512
SEED: Final = 0
SPREAD: Final = 0.4
"""Standard deviation of the weights; the usual one is 0.02."""
NEVER: Final = ("<|endoftext|>", "<|pad|>")
START, END = "<|im_start|>", "<|im_end|>"
TEXT: Final = (
    "A request of a few words is read by one engine and answered by the next, token by token.",
    'if total > limit: return {"status": "full", "waiting": [1, 2, 3], "ok": false}\n\n',
    "The river runs through seven hills; 0.125 of 98,765 boats carry 43 % of the grain!",
    "Wörter für größere Längen, où l'été naît, señor, ¿qué? Καλημέρα κόσμε, доброе утро,",
    "東京の天気は晴れです。北京今天下雨。서울은 맑음. नमस्ते दुनिया। مرحبا بالعالم",
    "🌍🐱🎉 👩‍👩‍👧 ✅ — „Anführung“ … “quote” × ÷ ≠ ∞",
)
TEMPLATE: Final = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% elif message['content'] %}{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{% if message['tool_calls'] %}{{ message['tool_calls'] | tojson }}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if tools %}{{ '<|im_start|>tools\n' + (tools | tojson) + '<|im_end|>\n' }}{% endif %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def main() -> None:
    """Write tokenizer, configuration and weights."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer()
    tokenizer.save_pretrained(folder)
    _model(tokenizer).save_pretrained(folder, safe_serialization=True)


def _tokenizer() -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[NEVER[0], START, END, NEVER[1]],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=NEVER[1],
        model_max_length=MAX_POSITION,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = TEMPLATE
    return fast


def _model(tokenizer: Any) -> Any:
    end, pad = (tokenizer.convert_tokens_to_ids(name) for name in (END, NEVER[1]))
    torch.manual_seed(SEED)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=VOCABULARY,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=MAX_POSITION,
            initializer_range=SPREAD,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=end,
            pad_token_id=pad,
        )
    ).to(torch.float32)
    with torch.no_grad():
        for name in NEVER:
            model.lm_head.weight[tokenizer.convert_tokens_to_ids(name)] = 0.0
        model.lm_head.weight[len(tokenizer) :] = 0.0
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=pad)
    return model


if __name__ == "__main__":
    main()
