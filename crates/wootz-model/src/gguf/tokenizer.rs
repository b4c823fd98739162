//! `tokenizer.*`: the vocabulary and the chat template that a GGUF carries.
//!
//! Source: ggml's `docs/gguf.md`, "Tokenizer".

use wootz_text::{TokenType, Vocab, VocabKind};
use wootz_weights::gguf::{Array, Value};

use super::{KeyWriter, Keys};
use crate::{Error, Result};

/// The vocabulary of a GGUF; none where it has no tokenizer.
pub(crate) fn vocab_of(keys: &Keys) -> Result<Option<Vocab>> {
    let gguf = keys.gguf();
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let Some(model) = gguf.find::<&str>(&key("model"))? else { return Ok(None) };
    if matches!(model, "no_vocab" | "none") {
        return Ok(None);
    }
    let kind = VocabKind::from_ggml(model).ok_or_else(|| Error::Config {
        file: keys.file().to_owned(),
        key: key("model"),
        expected: "llama, gpt2, bert or t5".to_owned(),
        got: model.to_owned(),
    })?;
    let types: Vec<i32> = gguf.find(&key("token_type"))?.unwrap_or_default();
    let strings = |name: &str| -> Result<Vec<String>> {
        let found: Option<Vec<&str>> = gguf.find(&key(name))?;
        Ok(found.unwrap_or_default().into_iter().map(str::to_owned).collect())
    };
    let flag = |name: &str| gguf.find::<bool>(&key(name));
    Ok(Some(Vocab {
        kind,
        pre: gguf.find::<&str>(&key("pre"))?.map(str::to_owned),
        tokens: strings("tokens")?,
        scores: gguf.find(&key("scores"))?.unwrap_or_default(),
        types: types.into_iter().map(type_of).collect(),
        merges: strings("merges")?,
        bos: keys.token("bos")?,
        eos: keys.token("eos")?,
        eot: keys.token("eot")?,
        eom: keys.token("eom")?,
        unk: keys.token("unknown")?,
        sep: keys.token("seperator")?,
        pad: keys.token("padding")?,
        cls: keys.token("cls")?,
        mask: keys.token("mask")?,
        add_bos: flag("add_bos_token")?,
        add_eos: flag("add_eos_token")?,
        add_sep: flag("add_sep_token")?,
        add_space_prefix: flag("add_space_prefix")?,
        remove_extra_whitespaces: flag("remove_extra_whitespaces")?,
        precompiled_charsmap: gguf.find(&key("precompiled_charsmap"))?.unwrap_or_default(),
    }))
}

fn type_of(number: i32) -> TokenType {
    match number {
        2 => TokenType::Unknown,
        3 => TokenType::Control,
        4 => TokenType::UserDefined,
        5 => TokenType::Unused,
        6 => TokenType::Byte,
        _ => TokenType::Normal,
    }
}

fn number_of(ty: TokenType) -> i32 {
    match ty {
        TokenType::Normal => 1,
        TokenType::Unknown => 2,
        TokenType::Control => 3,
        TokenType::UserDefined => 4,
        TokenType::Unused => 5,
        TokenType::Byte => 6,
    }
}

/// The chat template of a GGUF.
pub(crate) fn template_of(keys: &Keys) -> Result<Option<String>> {
    Ok(keys.gguf().find::<&str>("tokenizer.chat_template")?.map(str::to_owned))
}

/// Writes a vocabulary and a template.
pub(crate) fn write_tokenizer(vocab: &Vocab, template: Option<&str>, out: &mut KeyWriter) {
    let mut put = |name: &str, value: Value<'static>| out.general(&format!("tokenizer.ggml.{name}"), value);
    put("model", Value::from(vocab.kind.as_ggml()));
    if let Some(pre) = &vocab.pre {
        put("pre", Value::Str(pre.clone().into()));
    }
    put("tokens", Value::Array(Array::strings(&vocab.tokens)));
    if !vocab.scores.is_empty() {
        put("scores", Value::Array(Array::f32s(vocab.scores.iter().copied())));
    }
    if !vocab.types.is_empty() {
        put("token_type", Value::Array(Array::i32s(vocab.types.iter().map(|&ty| number_of(ty)))));
    }
    if !vocab.merges.is_empty() {
        put("merges", Value::Array(Array::strings(&vocab.merges)));
    }
    for (name, id) in [
        ("bos", vocab.bos),
        ("eos", vocab.eos),
        ("eot", vocab.eot),
        ("eom", vocab.eom),
        ("unknown", vocab.unk),
        ("seperator", vocab.sep),
        ("padding", vocab.pad),
        ("cls", vocab.cls),
        ("mask", vocab.mask),
    ] {
        if let Some(id) = id {
            put(&format!("{name}_token_id"), Value::U32(id));
        }
    }
    for (name, flag) in [
        ("add_bos_token", vocab.add_bos),
        ("add_eos_token", vocab.add_eos),
        ("add_sep_token", vocab.add_sep),
        ("add_space_prefix", vocab.add_space_prefix),
        ("remove_extra_whitespaces", vocab.remove_extra_whitespaces),
    ] {
        if let Some(flag) = flag {
            put(name, Value::Bool(flag));
        }
    }
    if !vocab.precompiled_charsmap.is_empty() {
        put("precompiled_charsmap", Value::Array(Array::u8s(vocab.precompiled_charsmap.clone())));
    }
    if let Some(template) = template {
        out.general("tokenizer.chat_template", Value::Str(template.to_owned().into()));
    }
}
