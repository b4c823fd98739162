//! LoRA and its kin as weights in training: which layers change, from where they start.
//!
//! Where:  declared by the [`Learner`](crate::Learner) beside a model's weights; written as PEFT adapters by `wootz-model`.
//! Source: LoRA: Hu et al. 2021, arXiv:2106.09685, §4.1; rank-stabilised: Kalajdzievski 2023, arXiv:2312.03732; DoRA: Liu et al.
//!         2024, arXiv:2402.09353; initial values as PEFT's: A uniform in ±1/√k, B zero, magnitudes the rows' norms.

use wootz_graph::{HostTensor, LowRankChange, LowRankChanges, Param, ParamKind, ParamSpec, Params};
use wootz_kernels::{TensorType, cast};
use wootz_model::Network;

use crate::rng::uniform;
use crate::{Error, Result};

/// Settings of low-rank changes.
#[derive(Debug, Clone, PartialEq)]
pub struct LowRank {
    /// r
    pub rank: usize,
    /// α: the change counts α/r, or α/√r if rank-stabilised
    pub alpha: f64,
    /// Whether the scale is α/√r
    pub rank_stabilised: bool,
    /// Whether each row's magnitude learns apart from its direction (DoRA)
    pub magnitudes: bool,
    /// The weights that change, all of them matrices
    pub sites: Vec<Param>,
    /// Of the initial values
    pub seed: u64,
}

/// Behind a weight's name.
pub const PART_A: &str = ".lora_a";
/// Behind a weight's name.
pub const PART_B: &str = ".lora_b";
/// Behind a weight's name.
pub const PART_MAGNITUDE: &str = ".magnitude";

impl LowRank {
    /// α/r or α/√r.
    pub fn scale(&self) -> f32 {
        let by = if self.rank_stabilised { (self.rank as f64).sqrt() } else { self.rank as f64 };
        (self.alpha / by) as f32
    }

    /// Every matrix of the layers.
    pub fn all_layers(network: &Network) -> Vec<Param> {
        let is_matrix = |spec: &ParamSpec| spec.kind == ParamKind::Matrix && spec.name.starts_with("layers.");
        network.params.iter().filter(|(_, spec)| is_matrix(spec)).map(|(param, _)| param).collect()
    }

    /// Declares the changes' weights behind the model's: the changes, and what learns.
    pub(crate) fn declare(
        &self,
        network: &Network,
        params: &mut Params,
    ) -> Result<(LowRankChanges, Vec<Param>)> {
        if !(1..=wootz_graph::MAX_RANK).contains(&self.rank) {
            let message = format!("expected 1 to {}, got {}", wootz_graph::MAX_RANK, self.rank);
            return Err(Error::Setting { name: "lora_r", message });
        }
        let (mut changes, mut trained) = (LowRankChanges::new(), Vec::new());
        for &param in &self.sites {
            let spec = network.params.spec(param);
            let (name, [n, k]) = (&spec.name, [spec.shape[0], spec.shape[1]]);
            let a = params.declare(format!("{name}{PART_A}"), &[self.rank, k], ParamKind::Matrix);
            let b = params.declare(format!("{name}{PART_B}"), &[n, self.rank], ParamKind::Matrix);
            trained.extend([a, b]);
            let magnitude = self.magnitudes.then(|| {
                let magnitude = params.declare(format!("{name}{PART_MAGNITUDE}"), &[n], ParamKind::Vector);
                trained.push(magnitude);
                magnitude
            });
            changes.insert(param, LowRankChange { a, b, scale: self.scale(), magnitude });
        }
        Ok((changes, trained))
    }

    /// What a change's weight is before the first step.
    pub(crate) fn initial<'s>(
        &self,
        spec: &ParamSpec,
        network: &Network,
        source: &dyn Fn(&ParamSpec) -> wootz_graph::Result<HostTensor<'s>>,
    ) -> wootz_graph::Result<HostTensor<'s>> {
        let numbers: Vec<f32> = if spec.name.ends_with(PART_A) {
            // Kaiming's uniform with a = √5, as PEFT draws it: ±√(6/((1 + 5)·k)).
            let bound = 1.0 / (spec.shape[1] as f32).sqrt();
            let name = spec
                .name
                .bytes()
                .fold(self.seed, |seed, byte| seed.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte));
            (0..spec.n_elements() as u64).map(|i| bound * (2.0 * uniform(name, i) - 1.0)).collect()
        } else if let Some(name) = spec.name.strip_suffix(PART_MAGNITUDE) {
            let param = network.params.find(name).expect("declared from this weight");
            let weight = network.params.spec(param);
            let tensor = source(weight)?;
            let mut numbers = vec![0.0; weight.n_elements()];
            wootz_kernels::dequantize(tensor.ty, &tensor.bytes, &mut numbers);
            numbers
                .chunks_exact(weight.shape[1])
                .map(|row| row.iter().map(|w| w * w).sum::<f32>().sqrt())
                .collect()
        } else {
            vec![0.0; spec.n_elements()]
        };
        Ok(HostTensor { ty: TensorType::F32, bytes: cast::bytes_of(&numbers).to_vec().into() })
    }
}
