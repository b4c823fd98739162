//! How the numbers of a stored tensor are laid out in bytes: plain dtypes and ggml's block formats.
//!
//! Where:  named by weight files, by [`PackedMatrix`](crate::PackedMatrix) and by KV caches.
//! Idea:   one table; a type is a name, ggml's id, and a block of so many numbers in so many bytes.
//! Source: ggml's `ggml_type` enumeration and block structures.

macro_rules! tensor_types {
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $name:literal, $block_len:literal, $block_bytes:literal;)*) => {
        /// The element type of a stored tensor. Row lengths are multiples of [`block_len`](Self::block_len).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(non_camel_case_types, reason = "the names are ggml's")]
        pub enum TensorType { $($(#[$doc])* $variant,)* }

        impl TensorType {
            /// Every type, in ggml's order.
            pub const ALL: &[TensorType] = &[$(TensorType::$variant,)*];

            /// ggml's number of this type, as GGUF stores it.
            pub const fn ggml_id(self) -> u32 {
                match self { $(TensorType::$variant => $id,)* }
            }

            /// The lower-case name, `q4_k`.
            pub const fn name(self) -> &'static str {
                match self { $(TensorType::$variant => $name,)* }
            }

            /// Numbers in one block; 1 for plain types.
            pub const fn block_len(self) -> usize {
                match self { $(TensorType::$variant => $block_len,)* }
            }

            /// Bytes of one block.
            pub const fn block_bytes(self) -> usize {
                match self { $(TensorType::$variant => $block_bytes,)* }
            }
        }
    };
}

tensor_types! {
    /// IEEE single precision.
    F32 = 0, "f32", 1, 4;
    /// IEEE half precision.
    F16 = 1, "f16", 1, 2;
    /// 4 bits, one f16 scale per 32.
    Q4_0 = 2, "q4_0", 32, 18;
    /// 4 bits, f16 scale and minimum per 32.
    Q4_1 = 3, "q4_1", 32, 20;
    /// 5 bits, one f16 scale per 32.
    Q5_0 = 6, "q5_0", 32, 22;
    /// 5 bits, f16 scale and minimum per 32.
    Q5_1 = 7, "q5_1", 32, 24;
    /// 8 bits, one f16 scale per 32.
    Q8_0 = 8, "q8_0", 32, 34;
    /// 8 bits with the block's sum, as activations are quantized.
    Q8_1 = 9, "q8_1", 32, 36;
    /// 2-bit k-quant.
    Q2_K = 10, "q2_k", 256, 84;
    /// 3-bit k-quant.
    Q3_K = 11, "q3_k", 256, 110;
    /// 4-bit k-quant.
    Q4_K = 12, "q4_k", 256, 144;
    /// 5-bit k-quant.
    Q5_K = 13, "q5_k", 256, 176;
    /// 6-bit k-quant.
    Q6_K = 14, "q6_k", 256, 210;
    /// 8 bits per 256 with sums, as activations are quantized.
    Q8_K = 15, "q8_k", 256, 292;
    /// 2.06 bits from a grid.
    IQ2_XXS = 16, "iq2_xxs", 256, 66;
    /// 2.31 bits from a grid.
    IQ2_XS = 17, "iq2_xs", 256, 74;
    /// 3.06 bits from a grid.
    IQ3_XXS = 18, "iq3_xxs", 256, 98;
    /// 1.56 bits from a grid.
    IQ1_S = 19, "iq1_s", 256, 50;
    /// 4 bits into a non-linear table, f16 scale per 32.
    IQ4_NL = 20, "iq4_nl", 32, 18;
    /// 3.44 bits from a grid.
    IQ3_S = 21, "iq3_s", 256, 110;
    /// 2.5 bits from a grid.
    IQ2_S = 22, "iq2_s", 256, 82;
    /// 4.25 bits into a non-linear table.
    IQ4_XS = 23, "iq4_xs", 256, 136;
    /// Signed byte.
    I8 = 24, "i8", 1, 1;
    /// Signed 16 bits.
    I16 = 25, "i16", 1, 2;
    /// Signed 32 bits.
    I32 = 26, "i32", 1, 4;
    /// Signed 64 bits.
    I64 = 27, "i64", 1, 8;
    /// IEEE double precision.
    F64 = 28, "f64", 1, 8;
    /// 1.75 bits from a grid.
    IQ1_M = 29, "iq1_m", 256, 56;
    /// The upper half of an f32.
    BF16 = 30, "bf16", 1, 2;
    /// Ternary, five digits a byte.
    TQ1_0 = 34, "tq1_0", 256, 54;
    /// Ternary, two bits each.
    TQ2_0 = 35, "tq2_0", 256, 66;
    /// 4-bit floats, one power-of-two scale per 32 (OCP microscaling).
    MXFP4 = 39, "mxfp4", 32, 17;
    /// 4-bit floats, one 8-bit float scale per 16.
    NVFP4 = 40, "nvfp4", 64, 36;
    /// One bit, one f16 scale per 128.
    Q1_0 = 41, "q1_0", 128, 18;
    /// Two bits (−1, 0, 1, 2), one f16 scale per 64.
    Q2_0 = 42, "q2_0", 64, 18;
}

impl TensorType {
    /// The type with this ggml id, unless ggml has none or has removed it.
    pub fn from_ggml_id(id: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|ty| ty.ggml_id() == id)
    }

    /// The type with this name, in either case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|ty| ty.name().eq_ignore_ascii_case(name))
    }

    /// Bytes of a row of `n` numbers, or `None` when `n` is no whole number of blocks or the size overflows.
    pub const fn row_bytes(self, n: usize) -> Option<usize> {
        if !n.is_multiple_of(self.block_len()) {
            return None;
        }
        (n / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Whether one block is one number, an element that needs no scale.
    pub const fn is_plain(self) -> bool {
        self.block_len() == 1
    }
}

impl std::fmt::Display for TensorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_lead_back_to_their_type() {
        for &ty in TensorType::ALL {
            assert_eq!(TensorType::from_ggml_id(ty.ggml_id()), Some(ty));
            assert_eq!(TensorType::from_name(&ty.name().to_uppercase()), Some(ty));
        }
        assert_eq!(TensorType::from_ggml_id(4), None, "Q4_2 was removed from ggml");
    }

    #[test]
    fn a_row_that_is_no_whole_number_of_blocks_has_no_size() {
        assert_eq!(TensorType::Q4_K.row_bytes(512), Some(288));
        assert_eq!(TensorType::Q4_K.row_bytes(500), None);
        assert_eq!(TensorType::F64.row_bytes(usize::MAX), None);
    }
}
