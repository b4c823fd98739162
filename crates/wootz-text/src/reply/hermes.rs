//! Hermes 2 and 3, Qwen 2.5 and 3, Granite 4: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, once per call.

use super::calls::KEYS;
use super::marked::Marks;

pub(super) const MARKS: Marks = Marks { open: &["<tool_call>"], close: &["</tool_call>"], keys: KEYS };
