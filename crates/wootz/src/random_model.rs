//! Models of well-known shapes with random weights, as GGUF files: for measuring speed where no real ones are at hand.
//!
//! Where:  `wootz bench --random`, and through it the comparison with other programs.
//! Idea:   speed depends on shapes and types, not on values. A few thousand random blocks are quantized once and dealt out
//!         to all tensors, so that a file of a gigabyte takes seconds.
//! Source: shapes of Llama 3.2 1B, Qwen 2.5 0.5B and SmolLM 135M; the mixes of types are those of llama.cpp's
//!         `llama-quantize`.

use std::path::Path;

use anyhow::Context;
use wootz_kernels::{TensorType, cast};
use wootz_weights::TensorInfo;
use wootz_weights::gguf::{Array, Value, Writer};

/// A shape of a decoder with tied embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub name: &'static str,
    arch: &'static str,
    d_model: usize,
    n_layers: usize,
    n_heads: usize,
    n_kv_heads: usize,
    d_ff: usize,
    vocab_size: usize,
    has_bias: bool,
}

/// The shapes that `--random` knows.
pub(crate) const SHAPES: &[Shape] = &[
    Shape {
        name: "llama-1b",
        arch: "llama",
        d_model: 2048,
        n_layers: 16,
        n_heads: 32,
        n_kv_heads: 8,
        d_ff: 8192,
        vocab_size: 128_256,
        has_bias: false,
    },
    Shape {
        name: "qwen-0.5b",
        arch: "qwen2",
        d_model: 896,
        n_layers: 24,
        n_heads: 14,
        n_kv_heads: 2,
        d_ff: 4864,
        vocab_size: 151_936,
        has_bias: true,
    },
    Shape {
        name: "smol-135m",
        arch: "llama",
        d_model: 576,
        n_layers: 30,
        n_heads: 9,
        n_kv_heads: 3,
        d_ff: 1536,
        vocab_size: 49_152,
        has_bias: false,
    },
];

/// Which type each tensor gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mix {
    pub name: &'static str,
    most: TensorType,
    /// The values' and down projections in the layers where they matter most.
    sensitive: TensorType,
    /// The table of embeddings, which is the head too.
    head: TensorType,
}

macro_rules! mixes {
    ($($name:literal $most:ident $sensitive:ident $head:ident;)*) => {
        &[$(Mix {
            name: $name,
            most: TensorType::$most,
            sensitive: TensorType::$sensitive,
            head: TensorType::$head,
        }),*]
    };
}

/// The mixes that `--quant` knows.
pub(crate) const MIXES: &[Mix] = mixes! {
    "f32" F32 F32 F32;
    "f16" F16 F16 F16;
    "bf16" BF16 BF16 BF16;
    "q8_0" Q8_0 Q8_0 Q8_0;
    "q4_0" Q4_0 Q4_0 Q6_K;
    "q4_1" Q4_1 Q4_1 Q6_K;
    "q5_0" Q5_0 Q5_0 Q6_K;
    "q5_1" Q5_1 Q5_1 Q6_K;
    "q2_k" Q2_K Q3_K Q6_K;
    "q3_k_m" Q3_K Q5_K Q6_K;
    "q4_k_m" Q4_K Q6_K Q6_K;
    "q5_k_m" Q5_K Q6_K Q6_K;
    "q6_k" Q6_K Q6_K Q6_K;
    "iq4_nl" IQ4_NL IQ4_NL Q6_K;
    "mxfp4" MXFP4 MXFP4 Q6_K;
    "tq2_0" TQ2_0 TQ2_0 Q6_K;
};

/// Writes a model of this shape to `path`, with words if they are wanted.
pub(crate) fn write(shape: &Shape, mix: &Mix, has_words: bool, path: &Path) -> anyhow::Result<()> {
    let tensors = tensors(shape, mix);
    let mut metadata = metadata(shape);
    metadata.extend(if has_words {
        words(shape)
    } else {
        vec![("tokenizer.ggml.model".into(), "no_vocab".into())]
    });
    let mut writer = Writer::create(path, &metadata, &tensors)
        .with_context(|| format!("writing random weights to {}", path.display()))?;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut decks: Vec<Deck> = Vec::new();
    for tensor in &tensors {
        let n = tensor.n_elements().expect("shapes are small");
        if tensor.shape.len() == 1 {
            let value = if tensor.name.ends_with("norm.weight") { 1.0_f32 } else { 0.0 };
            writer.write(cast::bytes_of(&vec![value; n]))?;
            continue;
        }
        let deck = match decks.iter().position(|deck| deck.ty == tensor.ty) {
            Some(index) => &decks[index],
            None => {
                decks.push(Deck::new(tensor.ty, &mut random)?);
                decks.last().expect("just pushed")
            }
        };
        let mut left = tensor.n_bytes().expect("rows are whole blocks");
        while left > 0 {
            // Whole blocks: what follows a cut one would have numbers where its scales belong.
            let piece = deck.deal(&mut random, left.min(PIECE_BLOCKS * deck.block_bytes));
            writer.write(&piece)?;
            left -= piece.len();
        }
    }
    Ok(writer.finish()?)
}

fn metadata(shape: &Shape) -> Vec<(String, Value<'static>)> {
    let arch = shape.arch;
    let count = |n: usize| Value::from(u32::try_from(n).expect("shapes are small"));
    let mut metadata = vec![
        ("general.architecture".to_owned(), Value::from(arch)),
        ("general.name".to_owned(), Value::from(format!("{} with random weights", shape.name))),
        (format!("{arch}.vocab_size"), count(shape.vocab_size)),
        (format!("{arch}.context_length"), count(32768)),
        (format!("{arch}.embedding_length"), count(shape.d_model)),
        (format!("{arch}.block_count"), count(shape.n_layers)),
        (format!("{arch}.feed_forward_length"), count(shape.d_ff)),
        (format!("{arch}.attention.head_count"), count(shape.n_heads)),
        (format!("{arch}.attention.head_count_kv"), count(shape.n_kv_heads)),
        (format!("{arch}.rope.freq_base"), Value::from(500_000.0_f32)),
        (format!("{arch}.attention.layer_norm_rms_epsilon"), Value::from(1e-5_f32)),
    ];
    if arch == "llama" {
        metadata.push((format!("{arch}.rope.dimension_count"), count(shape.d_model / shape.n_heads)));
    }
    metadata
}

/// A vocabulary as Llama 3's: bytes, then words of four letters with a space before them, each of which is one token.
fn words(shape: &Shape) -> Vec<(String, Value<'static>)> {
    let n = shape.vocab_size;
    let letter = |i: usize| char::from(b'a' + (i % 26) as u8);
    let word = |i: usize| -> String {
        match i {
            0..256 => byte_symbol(i as u8).to_string(),
            256 => "Ġa".to_owned(), // what the only merge makes
            _ if i == n - 2 => "<s>".to_owned(),
            _ if i == n - 1 => "</s>".to_owned(),
            _ => ['Ġ', letter(i / 17_576), letter(i / 676), letter(i / 26), letter(i)].iter().collect(),
        }
    };
    let id = |i: usize| Value::from(u32::try_from(i).expect("shapes are small"));
    let kinds = (0..n).map(|i| if i + 2 < n { 1 } else { 3 });
    vec![
        ("tokenizer.ggml.model".into(), "gpt2".into()),
        ("tokenizer.ggml.pre".into(), "llama-bpe".into()),
        ("tokenizer.ggml.tokens".into(), Array::strings((0..n).map(word)).into()),
        ("tokenizer.ggml.token_type".into(), Array::i32s(kinds).into()),
        ("tokenizer.ggml.merges".into(), Array::strings(["Ġ a"]).into()),
        ("tokenizer.ggml.bos_token_id".into(), id(n - 2)),
        ("tokenizer.ggml.eos_token_id".into(), id(n - 1)),
        (
            "tokenizer.chat_template".into(),
            "{% for m in messages %} {{ m.role }} {{ m.content }}{% endfor %} assistant".into(),
        ),
    ]
}

/// How GPT-2's vocabulary spells a byte: itself where it can be seen, else a letter from beyond.
fn byte_symbol(byte: u8) -> char {
    let is_seen = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match is_seen(byte) {
        true => char::from(byte),
        false => {
            let n_before = (0..byte).filter(|&other| !is_seen(other)).count() as u32;
            char::from_u32(256 + n_before).expect("a letter of Latin Extended-A")
        }
    }
}

fn tensors(shape: &Shape, mix: &Mix) -> Vec<TensorInfo> {
    let (c, f) = (shape.d_model, shape.d_ff);
    let kv = c / shape.n_heads * shape.n_kv_heads;
    let matrix = |name: String, n: usize, k: usize, ty| TensorInfo::new(name, [n, k], fitting(ty, k));
    let vector = |name: String, n: usize| TensorInfo::new(name, [n], TensorType::F32);
    let mut tensors = vec![
        matrix("token_embd.weight".to_owned(), shape.vocab_size, c, mix.head),
        vector("output_norm.weight".to_owned(), c),
    ];
    for layer in 0..shape.n_layers {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let sensitive = if is_sensitive(layer, shape.n_layers) { mix.sensitive } else { mix.most };
        tensors.extend([
            vector(name("attn_norm.weight"), c),
            matrix(name("attn_q.weight"), c, c, mix.most),
            matrix(name("attn_k.weight"), kv, c, mix.most),
            matrix(name("attn_v.weight"), kv, c, sensitive),
            matrix(name("attn_output.weight"), c, c, mix.most),
            vector(name("ffn_norm.weight"), c),
            matrix(name("ffn_gate.weight"), f, c, mix.most),
            matrix(name("ffn_up.weight"), f, c, mix.most),
            matrix(name("ffn_down.weight"), c, f, sensitive),
        ]);
        if shape.has_bias {
            let biases = [("attn_q.bias", c), ("attn_k.bias", kv), ("attn_v.bias", kv)];
            tensors.extend(biases.map(|(part, n)| vector(name(part), n)));
        }
    }
    tensors
}

/// The first and last eighth of the layers, and every third between them.
fn is_sensitive(layer: usize, n_layers: usize) -> bool {
    let eighth = n_layers / 8;
    layer < eighth || layer >= 7 * n_layers / 8 || (layer - eighth) % 3 == 2
}

/// The type that stands in where a row is no whole number of blocks.
fn fitting(ty: TensorType, k: usize) -> TensorType {
    if ty.row_bytes(k).is_some() {
        return ty;
    }
    match ty {
        TensorType::Q2_K | TensorType::Q3_K => TensorType::Q4_0,
        TensorType::Q4_K => TensorType::Q5_0,
        TensorType::Q5_K => TensorType::Q5_1,
        TensorType::Q6_K => TensorType::Q8_0,
        _ => TensorType::F16,
    }
}

/// Blocks that are written at a time.
const PIECE_BLOCKS: usize = 1 << 13;

/// Random blocks of one type.
struct Deck {
    ty: TensorType,
    bytes: Vec<u8>,
    block_bytes: usize,
}

impl Deck {
    fn new(ty: TensorType, random: &mut Random) -> anyhow::Result<Self> {
        const N: usize = 1 << 18;
        let mut bytes = vec![0; ty.row_bytes(N).expect("whole blocks")];
        match scales(ty) {
            None => {
                let numbers: Vec<f32> = (0..N).map(|_| 0.02 * random.normal()).collect();
                wootz_kernels::quantize(ty, &numbers, &mut bytes)?;
            }
            Some(scales) => {
                bytes.fill_with(|| (random.next() >> 40) as u8);
                for block in bytes.chunks_exact_mut(ty.block_bytes()) {
                    for &(at, scale) in scales {
                        block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
                    }
                }
            }
        }
        let numbers_per_block = ty.block_len().max(256);
        Ok(Self { ty, block_bytes: ty.row_bytes(numbers_per_block).expect("whole blocks"), bytes })
    }

    /// `len` bytes of blocks in random order.
    fn deal(&self, random: &mut Random, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + self.block_bytes);
        let n_blocks = (self.bytes.len() / self.block_bytes) as u64;
        while out.len() < len {
            let block = ((random.next() >> 33) % n_blocks) as usize;
            out.extend_from_slice(&self.bytes[block * self.block_bytes..][..self.block_bytes]);
        }
        out.truncate(len);
        out
    }
}

/// Where the blocks of types that cannot be quantized to yet keep their scales, and f16 values that make weights of about
/// 0.02. Every other byte of such a block may be anything.
fn scales(ty: TensorType) -> Option<&'static [(usize, u16)]> {
    const D: u16 = 0x0a8e; // 2e-4
    const MIN: u16 = 0x1625; // 1.5e-3
    match ty {
        TensorType::Q2_K => Some(&[(80, 0x1a66), (82, 0x1e66)]),
        TensorType::Q3_K => Some(&[(108, D)]),
        TensorType::Q4_K | TensorType::Q5_K => Some(&[(0, D), (2, MIN)]),
        TensorType::Q6_K => Some(&[(208, 0x01a3)]),
        TensorType::IQ4_NL => Some(&[(0, 0x0e8e)]),
        _ => None,
    }
}

/// Numbers that look random enough for weights: xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// About normal: a sum of four even numbers, with variance 1.
    fn normal(&mut self) -> f32 {
        let even = |bits: u64| (bits & 0xffff) as f32 / 65535.0 - 0.5;
        let bits = self.next();
        let sum: f32 = (0..4).map(|i| even(bits >> (16 * i))).sum();
        sum * 3.0_f32.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_and_mix_is_a_model_that_opens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("random.gguf");
        for shape in SHAPES {
            // Two layers and few words are enough to see that every name and size is understood.
            let small = Shape { n_layers: 2, vocab_size: 64, ..*shape };
            for mix in MIXES {
                write(&small, mix, false, &path).unwrap();
                wootz_model::Model::open(&path).unwrap();
                std::fs::remove_file(&path).unwrap();
            }
        }
    }

    #[test]
    fn words_are_one_token_each() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("random.gguf");
        let small = Shape { n_layers: 2, vocab_size: 1024, ..SHAPES[2] };
        write(&small, &MIXES[0], true, &path).unwrap();
        let model = wootz_model::Model::open(&path).unwrap();
        let words = wootz_model::Words::of(&model).unwrap();
        let tokenizer = words.tokenizer.unwrap();
        let ids = tokenizer.encode(" aanf aaog a\n", false, false);
        assert_eq!(ids[..3], [13 * 26 + 5, 14 * 26 + 6, 256]);
        assert_eq!(tokenizer.decode(&ids, true), " aanf aaog a\n");
        assert!(words.template.is_some());
        assert_eq!(words.end_tokens, [1023]);
        assert_eq!([b' ', b'\n', b'a', 0xff, 0xad].map(byte_symbol), ['Ġ', 'Ċ', 'a', 'ÿ', 'Ń']);
    }

    #[test]
    fn a_mix_spends_its_bits_where_llama_cpp_does() {
        let wanted: Vec<usize> = (0..16).filter(|&layer| is_sensitive(layer, 16)).collect();
        assert_eq!(wanted, [0, 1, 4, 7, 10, 13, 14, 15]);
    }
}
