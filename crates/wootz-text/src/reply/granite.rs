//! Granite 3: `<|tool_call|>[{"name": …, "arguments": {…}}, …]` to the end.

use super::calls::KEYS;
use super::marked::Marks;

pub(super) const MARKS: Marks = Marks { open: &["<|tool_call|>", "<tool_call>"], close: &[], keys: KEYS };
