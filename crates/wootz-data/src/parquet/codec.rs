//! Packed pages, unpacked into no more bytes than they say.
//!
//! Where:  [`Column`](super::column::Column).
//! Source: Apache Parquet, "Compression.md"; LZ4's block format for `LZ4_RAW`.

use std::io::Read;

use super::values::DAMAGED;

/// Unpacks a page that says it has `n_bytes`.
pub(super) fn unpack(codec: i64, packed: &[u8], n_bytes: usize) -> Result<Vec<u8>, String> {
    let unpacked = match codec {
        0 => packed.to_vec(),
        1 => match snap::raw::decompress_len(packed) {
            Ok(n) if n == n_bytes => snap::raw::Decoder::new().decompress_vec(packed).map_err(|_| DAMAGED)?,
            _ => return Err(DAMAGED.to_owned()),
        },
        2 => read(flate2::bufread::MultiGzDecoder::new(packed), n_bytes)?,
        6 => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(packed).map_err(|_| DAMAGED)?;
            read(decoder, n_bytes)?
        }
        7 => lz4(packed, n_bytes).ok_or(DAMAGED)?,
        codec => {
            let name = ["", "", "", "LZO", "Brotli", "LZ4 in Hadoop's frames"]
                .get(codec.max(0) as usize)
                .unwrap_or(&"");
            return Err(format!(
                "pages are packed by {} (codec {codec}), expected none, Snappy, Gzip, Zstandard or LZ4",
                if name.is_empty() { "something unknown" } else { name }
            ));
        }
    };
    if unpacked.len() == n_bytes { Ok(unpacked) } else { Err(DAMAGED.to_owned()) }
}

fn read(reader: impl Read, n_bytes: usize) -> Result<Vec<u8>, String> {
    let mut unpacked = Vec::new();
    reader.take(n_bytes as u64 + 1).read_to_end(&mut unpacked).map_err(|_| DAMAGED)?;
    Ok(unpacked)
}

/// Literals and copies of what came before.
fn lz4(packed: &[u8], n_bytes: usize) -> Option<Vec<u8>> {
    let mut out: Vec<u8> = Vec::new();
    let mut rest = packed;
    let length = |first: u8, rest: &mut &[u8]| -> Option<usize> {
        let mut n = usize::from(first);
        if first == 15 {
            loop {
                let more = *rest.split_off_first()?;
                n = n.checked_add(usize::from(more))?;
                if more < 255 {
                    break;
                }
            }
        }
        Some(n)
    };
    while let Some(&token) = rest.split_off_first() {
        let n = length(token >> 4, &mut rest)?;
        out.extend_from_slice(rest.split_off(..n)?);
        if rest.is_empty() {
            break;
        }
        let back = usize::from(u16::from_le_bytes(*rest.split_off(..2)?.first_chunk()?));
        let n = length(token & 15, &mut rest)?.checked_add(4)?;
        let start = out.len().checked_sub(back).filter(|_| back > 0)?;
        if out.len() + n > n_bytes {
            return None;
        }
        (0..n).for_each(|i| out.push(out[start + i]));
    }
    (out.len() <= n_bytes).then_some(out)
}
