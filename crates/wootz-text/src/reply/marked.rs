//! Text with marked places in which calls stand as JSON.
//!
//! Where:  the whole of several families' formats; each is a constant of [`Marks`].

use super::calls::{Calls, Keys, Scan};
use super::marker::Markers;
use super::{Body, Deltas};

/// How a family marks its calls.
pub(super) struct Marks {
    pub open: &'static [&'static str],
    /// None: what is no call any more ends the place.
    pub close: &'static [&'static str],
    pub keys: Keys,
}

/// Parser of a format that is all in its [`Marks`].
pub(super) struct Marked {
    marks: &'static Marks,
    open: Markers,
    place: Option<Place>,
}

/// A marked place.
struct Place {
    /// What opened it.
    opener: &'static str,
    close: Markers,
    calls: Calls,
}

impl Marked {
    pub(super) fn new(marks: &'static Marks) -> Self {
        Self { marks, open: Markers::new(marks.open), place: None }
    }

    fn outside(&mut self, c: char, out: &mut Deltas) {
        let found = self.open.feed(c);
        out.text(&found.text);
        if let Some(i) = found.marker {
            let (opener, close) = (self.marks.open[i], Markers::new(self.marks.close));
            self.place = Some(Place { opener, close, calls: Calls::new(self.marks.keys, None) });
        }
    }

    /// The place is over; what in it was no call is text.
    fn leave(&mut self, closer: &str, out: &mut Deltas) {
        let Some(mut place) = self.place.take() else { return };
        let rest = place.calls.take_rest();
        if place.calls.has_calls() {
            out.text(&rest);
        } else {
            [place.opener, &rest, closer].iter().for_each(|text| out.text(text));
        }
    }
}

impl Body for Marked {
    fn feed(&mut self, c: char, out: &mut Deltas) {
        let Some(place) = &mut self.place else { return self.outside(c, out) };
        // Inside an object a marker would be part of a string.
        let (text, closer) = if place.calls.is_inside() {
            (c.to_string(), None)
        } else {
            let found = place.close.feed(c);
            (found.text, found.marker.map(|i| self.marks.close[i]))
        };
        for (at, c) in text.char_indices() {
            let Some(place) = &mut self.place else { break };
            if place.calls.feed(c, out) == Scan::Refused {
                let held = place.close.finish();
                self.leave("", out);
                let rest = text[at..].to_owned() + &held;
                rest.chars().for_each(|c| self.outside(c, out));
            }
        }
        if let Some(closer) = closer {
            self.leave(closer, out);
        }
    }

    fn finish(&mut self, out: &mut Deltas) {
        if let Some(place) = &mut self.place {
            let held = place.close.finish();
            self.leave("", out);
            out.text(&held);
        }
        let rest = self.open.finish();
        out.text(&rest);
    }
}
