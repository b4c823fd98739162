//! Phi-4-mini: `<|tool_call|>[{"name": …, "arguments": {…}}]<|/tool_call|>`, or `functools[…]` without special tokens.

use super::calls::KEYS;
use super::marked::Marks;

pub(super) const MARKS: Marks =
    Marks { open: &["<|tool_call|>", "functools"], close: &["<|/tool_call|>"], keys: KEYS };
