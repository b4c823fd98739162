//! Finding markers in text that comes character by character.

/// Watches for any of a few markers, none of which begins another.
pub(super) struct Markers {
    markers: &'static [&'static str],
    held: String,
}

/// What one character made certain.
pub(super) struct Found {
    /// Text that belongs to no marker.
    pub text: String,
    /// The number of the marker that is complete now; it stood after `text`.
    pub marker: Option<usize>,
}

impl Markers {
    pub(super) fn new(markers: &'static [&'static str]) -> Self {
        Self { markers, held: String::new() }
    }

    pub(super) fn feed(&mut self, c: char) -> Found {
        self.held.push(c);
        let mut text = String::new();
        loop {
            if let Some(marker) = self.markers.iter().position(|marker| *marker == self.held) {
                self.held.clear();
                return Found { text, marker: Some(marker) };
            }
            if self.held.is_empty() || self.markers.iter().any(|marker| marker.starts_with(&self.held)) {
                return Found { text, marker: None };
            }
            text.push(self.held.remove(0));
        }
    }

    /// What was held back and is no marker after all.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_found_and_near_misses_are_text() {
        let check = |input: &str, expected: &str| {
            let mut markers = Markers::new(&["<a>", "<b>"]);
            let mut seen = String::new();
            for c in input.chars() {
                let found = markers.feed(c);
                seen.push_str(&found.text);
                if let Some(marker) = found.marker {
                    seen.push_str(["[A]", "[B]"][marker]);
                }
            }
            assert_eq!(seen + &markers.finish(), expected, "{input}");
        };
        check("x<a>y<b>", "x[A]y[B]");
        check("<<a>", "<[A]");
        check("<a<b>", "<a[B]");
        check("<a", "<a");
        check("ü<ü", "ü<ü");
    }
}
