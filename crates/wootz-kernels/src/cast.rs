//! Bytes seen as numbers and numbers seen as bytes, checked.
//!
//! Where:  wherever stored bytes meet kernels.
//! Idea:   only types of which every bit pattern is a value take part, so length and alignment are all there is to check.

use half::{bf16, f16};

mod sealed {
    /// # Safety
    /// Every bit pattern is a value, and there is no padding.
    pub unsafe trait Plain: Copy + 'static {}
}

/// A number type that is only bits: `u8 i8 u16 u32 i32 u64 f32 f64 f16 bf16`.
pub trait Plain: sealed::Plain {}

macro_rules! plain {
    ($($ty:ty)*) => { $(
        // SAFETY: every bit pattern of this number is a value, without padding.
        unsafe impl sealed::Plain for $ty {}
        impl Plain for $ty {}
    )* };
}

plain!(u8 i8 u16 u32 i32 u64 i64 f32 f64 f16 bf16);

/// `bytes` as numbers, or `None` if the length is no multiple of the size or the start is not aligned.
pub fn cast<T: Plain>(bytes: &[u8]) -> Option<&[T]> {
    if !fits::<T>(bytes) {
        return None;
    }
    // SAFETY: aligned, whole numbers, and every bit pattern is a value.
    Some(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<T>()) })
}

/// `bytes` as numbers to write, or `None` as [`cast`] says.
pub fn cast_mut<T: Plain>(bytes: &mut [u8]) -> Option<&mut [T]> {
    if !fits::<T>(bytes) {
        return None;
    }
    // SAFETY: aligned, whole numbers, and every bit pattern is a value of both types.
    Some(unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len() / size_of::<T>()) })
}

/// Numbers as their bytes, in the machine's order.
pub fn bytes_of<T: Plain>(numbers: &[T]) -> &[u8] {
    // SAFETY: numbers have no padding, and bytes need no alignment.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

/// Numbers as their bytes, to write.
pub fn bytes_of_mut<T: Plain>(numbers: &mut [T]) -> &mut [u8] {
    // SAFETY: numbers have no padding, bytes need no alignment, and any bytes make numbers.
    unsafe { std::slice::from_raw_parts_mut(numbers.as_mut_ptr().cast(), size_of_val(numbers)) }
}

fn fits<T: Plain>(bytes: &[u8]) -> bool {
    bytes.len().is_multiple_of(size_of::<T>()) && bytes.as_ptr().cast::<T>().is_aligned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_bytes_are_the_same_memory() {
        let mut numbers = [1.0_f32, -2.0, 3.5];
        assert_eq!(cast::<f32>(bytes_of(&numbers)), Some(&numbers[..]));
        cast_mut::<f32>(bytes_of_mut(&mut numbers)).unwrap()[1] = 9.0;
        assert_eq!(numbers[1], 9.0);
    }

    #[test]
    fn crooked_lengths_and_starts_are_refused() {
        let numbers = [0_u32; 4];
        assert!(cast::<u32>(&bytes_of(&numbers)[..15]).is_none());
        assert!(cast::<u32>(&bytes_of(&numbers)[1..13]).is_none());
        assert!(cast::<u8>(&bytes_of(&numbers)[1..14]).is_some());
    }
}
