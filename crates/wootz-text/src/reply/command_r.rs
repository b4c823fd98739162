//! Command R: ``Action: ```json [{"tool_name": …, "parameters": {…}}] ``` ``; Command R7B and Command A: the same list
//! between `<|START_ACTION|>` and `<|END_ACTION|>`, the answer between `<|START_RESPONSE|>` and `<|END_RESPONSE|>`.

use super::calls::Keys;
use super::marked::{Marked, Marks};
use super::marker::Markers;
use super::{Body, Deltas};

const KEYS: Keys = Keys { name: &["tool_name", "name"], arguments: &["parameters"], id: &["tool_call_id"] };

pub(super) const MARKS: Marks = Marks {
    open: &["Action: ```json", "Action:```json", "<|START_ACTION|>"],
    close: &["```", "<|END_ACTION|>"],
    keys: KEYS,
};

/// Marks around the answer, which say nothing.
const FRAME: &[&str] =
    &["<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>", "<|CHATBOT_TOKEN|>"];

/// Calls as [`Marked`] finds them, in text without its frame.
pub(super) struct CommandR {
    frame: Markers,
    marked: Marked,
}

impl CommandR {
    pub(super) fn new() -> Self {
        Self { frame: Markers::new(FRAME), marked: Marked::new(&MARKS) }
    }
}

impl Body for CommandR {
    fn feed(&mut self, c: char, out: &mut Deltas) {
        let found = self.frame.feed(c);
        found.text.chars().for_each(|c| self.marked.feed(c, out));
    }

    fn finish(&mut self, out: &mut Deltas) {
        let rest = self.frame.finish();
        rest.chars().for_each(|c| self.marked.feed(c, out));
        self.marked.finish(out);
    }
}
