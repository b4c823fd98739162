//! Added tokens of a `tokenizer.json`.
//!
//! Where:  [`read`](super::read).
//! Source: Hugging Face `tokenizers` 0.23, `tokenizer/added_vocabulary.rs`.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::TokenId;
use crate::tokenizer::TokenizerError;
use crate::tokenizer::added::{AddedToken, AddedTokens, MAX_ADDED};
use crate::tokenizer::table::Tokens;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddedTokenFile {
    #[serde(rename = "id")]
    _id: Option<IgnoredAny>, // COMPAT: Hugging Face numbers them itself, see below
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    special: bool,
}

/// Those with a text; their number is bounded while they are read.
struct AddedTokenFiles(Vec<AddedTokenFile>);

impl<'de> Deserialize<'de> for AddedTokenFiles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = AddedTokenFiles;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an array of added tokens")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<AddedTokenFiles, A::Error> {
                let mut files = Vec::new();
                while let Some(file) = seq.next_element::<AddedTokenFile>()? {
                    if files.len() == MAX_ADDED {
                        return Err(A::Error::custom(format!("expected at most {MAX_ADDED} added tokens")));
                    }
                    if !file.content.is_empty() {
                        files.push(file);
                    }
                }
                Ok(AddedTokenFiles(files))
            }
        }
        deserializer.deserialize_seq(Entries)
    }
}

/// A token that the model knows keeps the model's id; others are numbered from the vocabulary's size on.
pub(super) fn added_tokens(raw: Option<&RawValue>, tokens: &Tokens) -> Result<AddedTokens, TokenizerError> {
    let mut added = AddedTokens::default();
    let Some(raw) = raw else { return Ok(added) };
    let files: Option<AddedTokenFiles> = serde_json::from_str(raw.get()).map_err(TokenizerError::Json)?;
    let mut next_id = tokens.len() as TokenId;
    for file in files.into_iter().flat_map(|files| files.0) {
        let known = added.id_of(&file.content).or_else(|| tokens.id_of(&file.content));
        let id = known.unwrap_or_else(|| {
            next_id += 1;
            next_id - 1
        });
        let AddedTokenFile { content, single_word, lstrip, rstrip, normalized, special, .. } = file;
        added.insert(id, AddedToken { content, single_word, lstrip, rstrip, normalized, special });
    }
    Ok(added)
}
