//! The outline of one JSON object, character by character: where it ends.

/// Reads from `{` to the bracket that closes it.
#[derive(Default)]
pub(super) struct JsonObject {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl JsonObject {
    /// Whether `c`, the first being `{`, closes the object.
    pub(super) fn feed(&mut self, c: char) -> bool {
        if self.in_string {
            self.in_string = c != '"' || self.escaped;
            self.escaped = c == '\\' && !self.escaped;
            return false;
        }
        match c {
            '"' => self.in_string = true,
            '{' | '[' => self.depth += 1,
            '}' | ']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.depth == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_strings_do_not_count() {
        let end = |text: &str| {
            let mut object = JsonObject::default();
            text.chars().position(|c| object.feed(c))
        };
        assert_eq!(end(r#"{"a": "}\"}", "b": [{}]} x"#), Some(23));
        assert_eq!(end(r#"{"a": "#), None);
        assert_eq!(end("{}{}"), Some(1));
    }
}
