//! SHA-1 and SHA-256, written out plainly, so that the fake Hub names files without the code under test.
//!
//! Where:  [`HubServer`](crate::HubServer)'s ETags.
//! Source: FIPS 180-4, §6.1 and §6.2; git's object format for blob names.

/// Lower-case hexadecimal SHA-256.
pub fn sha256_hex(data: &[u8]) -> String {
    let mut state: [u32; 8] = first_bits_of_roots(8, 2);
    let k: [u32; 64] = first_bits_of_roots(64, 3);
    for block in padded(data).chunks_exact(64) {
        let mut w = [0_u32; 64];
        for (t, word) in block.chunks_exact(4).enumerate() {
            w[t] = u32::from_be_bytes([word[0], word[1], word[2], word[3]]);
        }
        for t in 16..64 {
            let s0 = w[t - 15].rotate_right(7) ^ w[t - 15].rotate_right(18) ^ (w[t - 15] >> 3);
            let s1 = w[t - 2].rotate_right(17) ^ w[t - 2].rotate_right(19) ^ (w[t - 2] >> 10);
            w[t] = w[t - 16].wrapping_add(s0).wrapping_add(w[t - 7]).wrapping_add(s1);
        }
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
        for t in 0..64 {
            let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
            let choice = (e & f) ^ (!e & g);
            let t1 = h.wrapping_add(s1).wrapping_add(choice).wrapping_add(k[t]).wrapping_add(w[t]);
            let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
            let majority = (a & b) ^ (a & c) ^ (b & c);
            (h, g, f, e, d, c, b, a) =
                (g, f, e, d.wrapping_add(t1), c, b, a, t1.wrapping_add(s0).wrapping_add(majority));
        }
        for (s, v) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *s = s.wrapping_add(v);
        }
    }
    hex(&state)
}

/// The name that git gives to a file with this content: SHA-1 over `blob <size>\0` and the content.
pub fn git_blob_sha1_hex(data: &[u8]) -> String {
    sha1_hex(&[format!("blob {}\0", data.len()).as_bytes(), data].concat())
}

/// Lower-case hexadecimal SHA-1.
pub fn sha1_hex(data: &[u8]) -> String {
    let mut state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0_u32];
    for block in padded(data).chunks_exact(64) {
        let mut w = [0_u32; 80];
        for (t, word) in block.chunks_exact(4).enumerate() {
            w[t] = u32::from_be_bytes([word[0], word[1], word[2], word[3]]);
        }
        for t in 16..80 {
            w[t] = (w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (t, word) in w.iter().enumerate() {
            let (f, k) = match t / 20 {
                0 => ((b & c) | (!b & d), 0x5a82_7999),
                1 => (b ^ c ^ d, 0x6ed9_eba1),
                2 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6_u32),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(*word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (s, v) in state.iter_mut().zip([a, b, c, d, e]) {
            *s = s.wrapping_add(v);
        }
    }
    hex(&state)
}

/// The first 32 bits of the fractional parts of the square or cube roots of the first primes.
fn first_bits_of_roots<const N: usize>(n: usize, root: u32) -> [u32; N] {
    let is_prime = |x: &u64| (2..*x).all(|d| !x.is_multiple_of(d));
    let mut bits = [0; N];
    for (bit, prime) in bits.iter_mut().zip((2_u64..).filter(is_prime)).take(n) {
        // The integer root of prime·2^(32·root), by bisection, has the fraction in its lower half.
        let target = u128::from(prime) << (32 * root);
        let (mut low, mut high) = (0_u128, 1_u128 << 40);
        while high - low > 1 {
            let middle = (low + high) / 2;
            if middle.pow(root) <= target { low = middle } else { high = middle }
        }
        *bit = low as u32;
    }
    bits
}

/// `data`, a one bit, zeros, and the length in bits: a whole number of 64-byte blocks.
fn padded(data: &[u8]) -> Vec<u8> {
    let mut padded = data.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((data.len() as u64 * 8).to_be_bytes());
    padded
}

fn hex(words: &[u32]) -> String {
    words.iter().map(|word| format!("{word:08x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_standard_and_of_git() {
        assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(sha256_hex(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(sha1_hex(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        // `printf 'hello\n' | git hash-object --stdin`
        assert_eq!(git_blob_sha1_hex(b"hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
        let long = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        assert_eq!(
            sha256_hex(long.as_bytes()),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        );
        assert_eq!(sha1_hex(long.as_bytes()), "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    }
}
