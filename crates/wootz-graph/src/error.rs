//! The errors of building, planning and running graphs.

/// The result of building, planning or running.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with a graph or with what it is run on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operator does not take these inputs.
    #[error("`{op}` at `{path}`: {message}")]
    Operator {
        /// The operator's name.
        op: &'static str,
        /// Where in the model, `layers.7.attn`.
        path: String,
        /// Expected and given shapes, in words.
        message: String,
    },
    /// A handle that another graph made.
    #[error("`{op}` at `{path}`: input {index} belongs to another graph")]
    ForeignValue {
        /// The operator's name.
        op: &'static str,
        /// Where in the model.
        path: String,
        /// Which input.
        index: usize,
    },
    /// The operator has no gradient for an input that needs one.
    #[error("`{op}` at `{path}` has no gradient")]
    NoGradient {
        /// The operator's name.
        op: &'static str,
        /// Where in the model.
        path: String,
    },
    /// A weight that cannot be loaded as the model declares it.
    #[error("weight `{name}`: {message}")]
    Weight {
        /// The model's name for it.
        name: String,
        /// Expected and given.
        message: String,
    },
    /// A run-time input that does not fit the graph.
    #[error("input `{name}`: {message}")]
    Input {
        /// The input's name.
        name: String,
        /// Expected and given.
        message: String,
    },
    /// Weights, states or a plan of another device or model.
    #[error("{0}")]
    Mismatch(String),
}
