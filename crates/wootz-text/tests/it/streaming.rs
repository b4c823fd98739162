//! Decoding token by token gives what decoding at once gives, and never half a character.

use wootz_text::{StreamDecoder, TokenId, Tokenizer};

use crate::golden_tokenizers::{NAMES, open, texts};
use crate::memory::alone;

fn stream(tokenizer: &Tokenizer, ids: &[TokenId], skip_special: bool) -> String {
    let mut decoder = StreamDecoder::new(skip_special);
    let mut text: String = ids.iter().map(|&id| decoder.push(tokenizer, id)).collect();
    text.push_str(&decoder.flush(tokenizer));
    text
}

#[test]
fn streaming_agrees_with_decoding_at_once() {
    let _alone = alone();
    for name in NAMES {
        let tokenizer = open(name);
        let mut seed = 5_u64;
        for text in texts() {
            let ids = tokenizer.encode(&text, true, true);
            let random: Vec<TokenId> = (0..ids.len())
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (seed >> 33) as TokenId % (tokenizer.vocab_size() as TokenId + 2)
                })
                .collect();
            for ids in [ids, random] {
                for skip_special in [false, true] {
                    let at_once = tokenizer.decode(&ids, skip_special);
                    assert_eq!(stream(&tokenizer, &ids, skip_special), at_once, "{name}");
                }
            }
        }
    }
}

#[test]
fn a_character_of_several_tokens_appears_whole() {
    let _alone = alone();
    let tokenizer = open("bpe-llama3");
    let ids = tokenizer.encode("🦀", false, false);
    assert!(ids.len() > 1);
    let mut decoder = StreamDecoder::new(false);
    let shown: Vec<String> = ids.iter().map(|&id| decoder.push(&tokenizer, id)).collect();
    assert_eq!(shown.last().map(String::as_str), Some("🦀"));
    assert!(shown[..shown.len() - 1].iter().all(String::is_empty));
    decoder.push(&tokenizer, ids[0]);
    assert_eq!(decoder.flush(&tokenizer), "\u{fffd}");
}

#[test]
fn token_bytes_are_what_a_token_adds() {
    let _alone = alone();
    let check = |name: &str, token: &str, expected: &[u8]| {
        let tokenizer = open(name);
        let id = tokenizer.token_id(token).unwrap_or_else(|| panic!("{name} has no `{token}`"));
        assert_eq!(tokenizer.token_bytes(id).as_deref(), Some(expected), "{name} {token}");
        assert_eq!(tokenizer.token_text(id), Some(token));
    };
    check("bpe-llama3", "Ġthe", b" the");
    check("bpe-llama2", "▁the", b" the");
    check("bpe-llama2", "<0x0A>", b"\n");
    check("unigram", "▁the", b" the");
    check("wordpiece", "the", b" the");
    check("wordpiece", "##ing", b"ing");
}
