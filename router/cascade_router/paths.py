"""The paths of an engine that may be reached through a sidecar, by clients and by peers alike."""

from typing import Final

from cascade_policy.accounting import CHAT_PATH, COMPLETIONS_PATH

GENERATION_PATHS: Final = frozenset({COMPLETIONS_PATH, CHAT_PATH})
ENGINE_PATHS: Final = GENERATION_PATHS | {"/tokenize", "/detokenize"}
