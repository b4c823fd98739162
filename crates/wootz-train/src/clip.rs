//! Gradients as long as they may be.
//!
//! Source: Pascanu, Mikolov, Bengio 2013, arXiv:1211.5063, alg. 1.

/// The Euclidean norm of all gradients together, summed in f64 in their order.
pub fn grad_norm<'a>(grads: impl IntoIterator<Item = &'a [f32]>) -> f64 {
    let squares = |grad: &[f32]| grad.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>();
    grads.into_iter().map(squares).sum::<f64>().sqrt()
}

/// Shortens gradients to `max_norm` if their norm is larger. PyTorch adds 1e-6 to the norm; so do we.
pub fn clip<'a>(grads: impl IntoIterator<Item = &'a mut [f32]>, norm: f64, max_norm: f64) {
    let factor = max_norm / (norm + 1e-6);
    if factor < 1.0 {
        let factor = factor as f32;
        grads.into_iter().flatten().for_each(|g| *g *= factor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_gradients_become_short_and_short_ones_stay() {
        let (mut a, mut b) = (vec![3.0_f32, 0.0], vec![4.0_f32]);
        let norm = grad_norm([&a[..], &b[..]]);
        assert_eq!(norm, 5.0);
        clip([&mut a[..], &mut b[..]], norm, 10.0);
        assert_eq!((a[0], b[0]), (3.0, 4.0));
        clip([&mut a[..], &mut b[..]], norm, 1.0);
        assert!((grad_norm([&a[..], &b[..]]) - 1.0).abs() < 1e-6);
    }
}
