//! What an architecture is made of: the choices that differ between models, as data.
//!
//! Where:  filled from `config.json` or GGUF metadata by one file per family in [`arch`](crate::arch), turned into
//!         weights and graphs by [`Network`](crate::Network).
//! Idea:   a model is a list of layers, and a layer is a mixer, a feed-forward part, and how both meet the
//!         residual. What differs is a variant of an enum, not a flag that one model alone reads.

use std::sync::Arc;

use wootz_graph::{Activation, Groups, RopeStyle, RopeTable};

/// A model's hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The family's name in this program, `llama`.
    pub arch: &'static str,
    /// V.
    pub vocab_size: usize,
    /// C.
    pub d_model: usize,
    /// The longest sequence that the model was made for.
    pub max_seq_len: usize,
    /// How tokens become rows.
    pub embed: EmbedConfig,
    /// The layers, first to last.
    pub layers: Vec<LayerConfig>,
    /// After the last layer.
    pub final_norm: Option<Norm>,
    /// From the last rows to what is wanted.
    pub head: Head,
    /// Begin-of-sequence token.
    pub bos_token: Option<u32>,
    /// Tokens that end a sequence.
    pub eos_tokens: Vec<u32>,
}

impl Config {
    /// Whether it continues text. Encoders do not.
    pub fn is_decoder(&self) -> bool {
        matches!(self.head, Head::Lm { .. })
    }

    /// Width of the last rows, which the head reads.
    pub fn d_hidden(&self) -> usize {
        self.embed.width.unwrap_or(self.d_model)
    }
}

/// How tokens become rows.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbedConfig {
    /// Width of the table where it is not C: its rows are projected to C, and the last rows back (OPT 350M).
    pub width: Option<usize>,
    /// Multiplies the rows; 1 for most.
    pub scale: f32,
    /// Learned positions: how many.
    pub n_positions: Option<usize>,
    /// Rows of the files' table of positions that stand before the first one's (RoBERTa's padding).
    pub n_skipped_positions: usize,
    /// Token types (BERT's segments): how many. All tokens are of type 0.
    pub n_token_types: Option<usize>,
    /// After the sum.
    pub norm: Option<Norm>,
}

impl Default for EmbedConfig {
    fn default() -> Self {
        Self {
            width: None,
            scale: 1.0,
            n_positions: None,
            n_skipped_positions: 0,
            n_token_types: None,
            norm: None,
        }
    }
}

/// A norm over the last dimension.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm {
    /// Root mean square, with a weight.
    Rms {
        /// Added to the mean square.
        eps: f32,
    },
    /// Root mean square, with a weight; the row is then rounded to 8 bits of its largest number (BitNet).
    RmsRounded {
        /// Added to the mean square.
        eps: f32,
    },
    /// Mean and variance, with a weight and perhaps a bias.
    Layer {
        /// Added to the variance.
        eps: f32,
        /// Whether there is a bias.
        bias: bool,
    },
    /// Mean and variance, without weights.
    LayerPlain {
        /// Added to the variance.
        eps: f32,
    },
}

/// One layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerConfig {
    /// How mixer and feed-forward part meet the residual.
    pub residual: Residual,
    /// The norms of the layer.
    pub norm: Norm,
    /// What moves information between tokens.
    pub mixer: Mixer,
    /// What works on each token alone.
    pub ffn: Ffn,
    /// Multiplies what is added to the residual; 1 for most.
    pub residual_scale: f32,
}

/// How a layer's parts meet the residual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// `x + f(norm(x))`, twice.
    Pre,
    /// `x + f(x)` for the mixer of a first layer whose input was normed already, then as `Pre` (ModernBERT).
    PreSkippingFirst,
    /// `norm(x + f(x))`, twice (BERT).
    Post,
    /// `x + norm(f(x))`, twice (OLMo 2).
    Inner,
    /// `x + norm(f(norm(x)))`, twice (Gemma 2 and 3).
    Sandwich,
    /// `x + mixer(norm(x)) + ffn(norm(x))` with one norm (Phi-1 and 2, Falcon 7B, Cohere).
    Parallel,
    /// The same with a norm for each part (GPT-NeoX, Falcon 40B).
    ParallelTwoNorms,
}

/// What moves information between tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum Mixer {
    /// Attention with keys and values of their own.
    Attention(AttentionConfig),
    /// Attention over a shared latent (DeepSeek's MLA).
    Latent(LatentConfig),
    /// Mamba's selective scan.
    Mamba(MambaConfig),
    /// Mamba-2's scan of heads.
    Mamba2(Mamba2Config),
}

/// Attention.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionConfig {
    /// H.
    pub n_heads: usize,
    /// K.
    pub n_kv_heads: usize,
    /// D.
    pub head_dim: usize,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether the output has a bias.
    pub out_bias: bool,
    /// Norms of q and k before the rotation.
    pub qk_norm: Option<QkNorm>,
    /// How positions enter.
    pub position: Position,
    /// How far back (and, without `causal`, ahead) a token sees, its own position counted as one.
    pub window: Option<usize>,
    /// Whether tokens see only what stands before them.
    pub causal: bool,
    /// Multiplies the scores.
    pub scale: f32,
    /// Soft cap of the scores.
    pub softcap: Option<f32>,
    /// Norm before the output layer (BitNet).
    pub inner_norm: Option<Norm>,
}

/// Norms of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum QkNorm {
    /// Each head by itself, one weight for all heads (Qwen3, Gemma 3).
    Head(Norm),
    /// Each head by itself, a weight for each head (Cohere, StableLM).
    OwnHead(Norm),
    /// All heads as one row (OLMo 2).
    Row(Norm),
}

/// How positions enter attention.
#[derive(Clone, Debug, PartialEq)]
pub enum Position {
    /// Not here.
    None,
    /// By rotation.
    Rope(Arc<RopeTable>, RopeStyle),
    /// By a linear penalty on distance.
    Alibi(Vec<f32>),
}

/// Attention over a latent. DeepSeek-AI 2024, arXiv:2405.04434, §2.1.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentConfig {
    /// H.
    pub n_heads: usize,
    /// Width of the queries' latent; `None` where queries are made directly.
    pub q_rank: Option<usize>,
    /// Width of the latent that keys and values share.
    pub kv_rank: usize,
    /// Width of the part of a key that is not rotated.
    pub d_nope: usize,
    /// Width of the rotated part, shared by all heads.
    pub d_rope: usize,
    /// Width of a value.
    pub d_v: usize,
    /// Rotation.
    pub rope: Arc<RopeTable>,
    /// Which numbers form a pair.
    pub rope_style: RopeStyle,
    /// Multiplies the scores.
    pub scale: f32,
    /// Whether the projections to latents have biases.
    pub bias: bool,
    /// Added to the mean square by the norms of the latents.
    pub norm_eps: f32,
}

/// Mamba. Gu & Dao 2023, arXiv:2312.00752.
#[derive(Clone, Debug, PartialEq)]
pub struct MambaConfig {
    /// Channels of the scan.
    pub d_inner: usize,
    /// N: numbers of state a channel.
    pub d_state: usize,
    /// Width of the convolution.
    pub d_conv: usize,
    /// Rank of the step size's projection.
    pub dt_rank: usize,
    /// Whether the convolution has a bias.
    pub conv_bias: bool,
    /// Whether the projections in and out have biases.
    pub proj_bias: bool,
}

/// Mamba-2. Dao & Gu 2024, arXiv:2405.21060.
#[derive(Clone, Debug, PartialEq)]
pub struct Mamba2Config {
    /// H.
    pub n_heads: usize,
    /// P: channels a head.
    pub head_dim: usize,
    /// G: groups of heads that share B and C.
    pub n_groups: usize,
    /// N: numbers of state a channel.
    pub d_state: usize,
    /// Width of the convolution.
    pub d_conv: usize,
    /// Whether the convolution has a bias.
    pub conv_bias: bool,
    /// Whether the projections in and out have biases.
    pub proj_bias: bool,
    /// Added to the mean square by the gated norm.
    pub norm_eps: f32,
}

/// What works on each token alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Ffn {
    /// Nothing (Mamba).
    None,
    /// `down(f(up(x)))`.
    Plain {
        /// F.
        d_ff: usize,
        /// f.
        activation: Activation,
        /// Whether both layers have biases.
        bias: bool,
    },
    /// `down(f(gate(x))·up(x))`.
    Gated {
        /// F.
        d_ff: usize,
        /// f.
        activation: Activation,
        /// Whether the layers have biases.
        bias: bool,
        /// Norm before the last layer (BitNet).
        inner_norm: Option<Norm>,
    },
    /// Routed experts, each gated.
    Experts(ExpertsConfig),
}

/// A mixture of gated experts.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertsConfig {
    /// E.
    pub n_experts: usize,
    /// k: experts a token goes to.
    pub n_used: usize,
    /// F of one expert.
    pub d_ff: usize,
    /// f.
    pub activation: Activation,
    /// How experts are chosen.
    pub router: Router,
    /// Whether the chosen weights are made to sum to one.
    pub normalize: bool,
    /// Multiplies the chosen weights.
    pub scale: f32,
    /// F of the experts that every token goes to, together.
    pub shared_d_ff: Option<usize>,
}

/// How experts are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Router {
    /// By the soft-max of the scores.
    Softmax {
        /// Only from the best groups.
        groups: Option<Groups>,
    },
    /// By the sigmoid of the scores plus a learned bias that the weights do not contain (DeepSeek-V3).
    SigmoidBiased {
        /// Only from the best groups.
        groups: Option<Groups>,
    },
}

/// From the last rows to what is wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum Head {
    /// The rows themselves: an encoder.
    None,
    /// Logits of the next token.
    Lm {
        /// Whether the embedding table is the head as well.
        tied: bool,
        /// Whether there is a bias.
        bias: bool,
        /// Multiplies the logits.
        scale: f32,
        /// Soft cap of the logits.
        softcap: Option<f32>,
    },
    /// Scores of a whole sequence (cross-encoders).
    Classifier(ClassifierConfig),
}

/// A sequence classifier: `out(f(dense(pooled)))`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassifierConfig {
    /// How many scores.
    pub n_labels: usize,
    /// f of the dense layer.
    pub activation: Activation,
    /// Whether the dense layer has a bias.
    pub dense_bias: bool,
    /// Norm after the dense layer (ModernBERT).
    pub norm: Option<Norm>,
    /// Mean over the tokens rather than the first one.
    pub mean: bool,
}
