//! Where a file keeps each weight: its name there, and which part of the tensor of that name it is.
//!
//! Where:  one table for each architecture and format; used to load weights and, backwards, to write them.
//! Idea:   weights have one canonical name each (`layers.7.wq`). A table maps patterns of them to patterns of file
//!         names, `{}` being the layer and `{e}` the expert; a [`Part`] says how to cut fused or turned tensors. Where
//!         files of one architecture are spelled in two ways, a weight has two places, and the first is written.

use std::collections::HashMap;

/// Which part of a file's tensor a weight is, and how it lies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// The tensor's rows are `groups` equal groups; of each group the rows `start..start + len`, one group after
    /// the other. Fused q, k and v have one group, or one for each (KV) head where they are interleaved.
    Rows {
        /// How many groups.
        groups: usize,
        /// First row within a group.
        start: usize,
        /// Rows of each group.
        len: usize,
    },
    /// Stored (inputs, outputs): the columns `start..start + len`, turned (GPT-2's Conv1D).
    Columns {
        /// First column.
        start: usize,
        /// How many.
        len: usize,
    },
    /// As `Rows`, each group's rows turned: (groups·(…), k) → (groups, k, len).
    RowsTurned {
        /// How many groups.
        groups: usize,
        /// First row within a group.
        start: usize,
        /// Rows of each group.
        len: usize,
    },
    /// The number plus one (Gemma's norms).
    PlusOne,
    /// `−eˣ` (Mamba's decay).
    NegExp,
    /// Rows of each head stand in pairs in the file and in halves here: row `2i + j` there is row `j·n_rot/2 + i`
    /// here, for the first `n_rot` rows of a head.
    HalvesFromPairs {
        /// Heads.
        n_heads: usize,
        /// Rotated rows of a head.
        n_rot: usize,
    },
    /// The other way round: in halves in the file, in pairs here.
    PairsFromHalves {
        /// Heads.
        n_heads: usize,
        /// Rotated rows of a head.
        n_rot: usize,
    },
    /// −1, 0 or 1, two bits each, four rows in one: the tensor's row `r` of `n` holds the rows `r`, `n + r`, …, lowest
    /// bits first. Times a number, or by it, that stands beside under `…_scale` (BitNet).
    Ternary(TernaryScale),
    /// Rounded to −1, 0 or 1 times the mean magnitude (BitNet's weights in training).
    MadeTernary,
}

/// How ternary weights are scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TernaryScale {
    /// They are multiplied.
    Times,
    /// They are divided.
    By,
}

/// A weight's place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The tensor's name, with `{e}` where there is one tensor for each expert.
    pub file_name: String,
    /// Which part of it.
    pub part: Part,
}

/// A table of places by canonical pattern.
#[derive(Clone, Debug, Default)]
pub struct Names {
    places: HashMap<String, Vec<(String, Part)>>,
    /// Beginnings of file names and what may stand there instead; the first that fits the file is used.
    pub renames: Vec<(&'static str, &'static str)>,
}

impl Names {
    /// A table of whole tensors: canonical pattern, file pattern.
    pub fn whole(rows: &[(&str, &str)]) -> Self {
        let entry =
            |&(canonical, file): &(&str, &str)| (canonical.to_owned(), vec![(file.to_owned(), Part::Whole)]);
        Self { places: rows.iter().map(entry).collect(), renames: vec![("", "")] }
    }

    /// The same table with more, or other, whole tensors.
    pub fn and(mut self, rows: &[(&str, &str)]) -> Self {
        self.places.extend(Self::whole(rows).places);
        self
    }

    /// The same table with one entry that is a part.
    pub fn part(mut self, canonical: &str, file: &str, part: Part) -> Self {
        self.places.insert(canonical.to_owned(), vec![(file.to_owned(), part)]);
        self
    }

    /// The same table with a place that an entry has in other files.
    pub fn or(mut self, canonical: &str, file: &str, part: Part) -> Self {
        self.places.entry(canonical.to_owned()).or_default().push((file.to_owned(), part));
        self
    }

    /// The same table with another part of the same tensor, where the table has the weight.
    pub fn with_part(mut self, canonical: &str, part: Part) -> Self {
        for place in self.places.get_mut(canonical).into_iter().flatten() {
            place.1 = part;
        }
        self
    }

    /// The same table with all whole matrices of layers stored in another way.
    pub fn with_matrices(mut self, part: Part) -> Self {
        let is_matrix = |canonical: &str| canonical.starts_with("layers.{}.w");
        let matrices = self.places.iter_mut().filter(|(canonical, _)| is_matrix(canonical));
        for place in matrices.flat_map(|(_, places)| places).filter(|place| place.1 == Part::Whole) {
            place.1 = part;
        }
        self
    }

    /// The same table with some weights of a layer where another table has them.
    pub fn joined(mut self, other: Self, weights: &[&str]) -> Self {
        let keys = weights.iter().map(|weight| format!("layers.{{}}.{weight}"));
        let places = keys.filter_map(|key| Some((key.clone(), other.places.get(&key)?.clone())));
        self.places.extend(places.collect::<Vec<_>>());
        self
    }

    /// The same table with prefixes under which file names may stand.
    pub fn under(mut self, prefixes: &[&'static str]) -> Self {
        self.renames = prefixes.iter().map(|prefix| ("", *prefix)).collect();
        self
    }

    /// The same table for files that may begin names with `to` where it says `from`.
    pub fn or_renamed(mut self, from: &'static str, to: &'static str) -> Self {
        self.renames.push((from, to));
        self
    }

    /// The place of a weight, not renamed: the first of those it may have.
    pub fn place(&self, canonical: &str) -> Option<Place> {
        self.places(canonical).next()
    }

    /// The places that a weight may have, not renamed.
    pub fn places(&self, canonical: &str) -> impl Iterator<Item = Place> {
        let (pattern, layer) = pattern_of(canonical);
        let fill = move |(file, part): &(String, Part)| Place {
            file_name: layer.map_or_else(|| file.clone(), |layer| file.replace("{}", layer)),
            part: *part,
        };
        self.places.get(&pattern).into_iter().flatten().map(fill)
    }
}

/// A file name whose beginning is changed, if it has that beginning.
pub(crate) fn renamed(file_name: &str, (from, to): (&str, &str)) -> String {
    match file_name.strip_prefix(from) {
        Some(rest) => format!("{to}{rest}"),
        None => file_name.to_owned(),
    }
}

/// `layers.7.wq` → (`layers.{}.wq`, `7`).
fn pattern_of(canonical: &str) -> (String, Option<&str>) {
    let Some(rest) = canonical.strip_prefix("layers.") else { return (canonical.to_owned(), None) };
    match rest.split_once('.') {
        Some((layer, name)) => (format!("layers.{{}}.{name}"), Some(layer)),
        None => (canonical.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_filled_with_its_layer() {
        let names = Names::whole(&[("layers.{}.wq", "model.layers.{}.self_attn.q_proj.weight")]);
        let place = names.place("layers.11.wq").unwrap();
        assert_eq!(place.file_name, "model.layers.11.self_attn.q_proj.weight");
        assert_eq!(names.place("layers.11.wk"), None);
    }
}
