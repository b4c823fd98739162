//! Thoughts before the answer: `<think>…</think>` and its kin.
//!
//! Source: the templates of DeepSeek-R1, Qwen3, Command A and Magistral. Only a reply's beginning can be thoughts; the
//!         same markers later are text, as a model that writes about them would want.

use super::marker::Markers;
use super::{Body, Deltas};

/// How a family marks its thoughts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReasoningMarks {
    pub open: &'static [&'static str],
    pub close: &'static [&'static str],
}

/// DeepSeek-R1, Qwen3, Granite 3.3 and most others.
pub(super) const THINK: ReasoningMarks = ReasoningMarks { open: &["<think>"], close: &["</think>"] };
/// Command R7B and Command A.
pub(super) const COMMAND_R: ReasoningMarks =
    ReasoningMarks { open: &["<|START_THINKING|>"], close: &["<|END_THINKING|>"] };
/// Magistral.
pub(super) const MISTRAL: ReasoningMarks = ReasoningMarks { open: &["[THINK]"], close: &["[/THINK]"] };

/// Parts thoughts from the rest.
pub(super) struct Reasoning {
    state: State,
    marks: Option<ReasoningMarks>,
    markers: Markers,
    /// White space that is shown only if something follows it.
    space: String,
    has_begun: bool,
}

#[derive(PartialEq)]
enum State {
    /// Nothing but white space has come.
    Before,
    Inside,
    /// The answer's first character is not yet there.
    Between,
    After,
}

impl Reasoning {
    pub(super) fn new(marks: Option<ReasoningMarks>, thinks_already: bool) -> Self {
        let (state, watched): (State, &'static [&'static str]) = match marks {
            None => (State::After, &[]),
            Some(marks) if thinks_already => (State::Inside, marks.close),
            Some(marks) => (State::Before, marks.open),
        };
        Self { state, marks, markers: Markers::new(watched), space: String::new(), has_begun: false }
    }

    pub(super) fn feed(&mut self, c: char, body: &mut dyn Body, out: &mut Deltas) {
        match self.state {
            State::After => body.feed(c, out),
            State::Between if c.is_whitespace() => {}
            State::Between => {
                self.state = State::After;
                body.feed(c, out);
            }
            State::Before => self.before(c, body, out),
            State::Inside => {
                let found = self.markers.feed(c);
                self.think(&found.text, out);
                if found.marker.is_some() {
                    self.space.clear();
                    self.state = State::Between;
                }
            }
        }
    }

    fn before(&mut self, c: char, body: &mut dyn Body, out: &mut Deltas) {
        let found = self.markers.feed(c);
        self.space.push_str(&found.text);
        if found.marker.is_some() {
            let close = self.marks.expect("markers come from marks").close;
            (self.state, self.markers) = (State::Inside, Markers::new(close));
            self.space.clear();
        } else if self.space.contains(|c: char| !c.is_whitespace()) {
            self.give_up(body, out);
        }
    }

    /// What came is the answer already.
    fn give_up(&mut self, body: &mut dyn Body, out: &mut Deltas) {
        self.state = State::After;
        let text = std::mem::take(&mut self.space) + &self.markers.finish();
        text.chars().for_each(|c| body.feed(c, out));
    }

    /// Thoughts without the white space at their ends.
    fn think(&mut self, text: &str, out: &mut Deltas) {
        for c in text.chars() {
            if c.is_whitespace() {
                self.space.push(c);
                continue;
            }
            let space = std::mem::take(&mut self.space);
            if std::mem::replace(&mut self.has_begun, true) {
                out.reasoning(&space);
            }
            out.reasoning(c.encode_utf8(&mut [0; 4]));
        }
    }

    pub(super) fn finish(&mut self, body: &mut dyn Body, out: &mut Deltas) {
        match self.state {
            State::Before => self.give_up(body, out),
            State::Inside => {
                let rest = self.markers.finish();
                self.think(&rest, out);
            }
            State::Between | State::After => {}
        }
    }
}
