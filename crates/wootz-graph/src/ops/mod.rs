//! The closed set of operators: one file each, with its definition, source, shape rule, cost, gradient, plain f64
//! reference, and the call of its CPU kernel.
//!
//! Where:  applied by methods of [`Graph`] that stand in the same files.
//! Idea:   adding an operator is adding a file and a line to the list below.

use crate::batch::Batch;
use crate::cost::Cost;
use crate::device::cpu::{CpuRun, Outs};
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::param::ParamKind;
use crate::shape::{DType, Type};
use crate::state::State;
use crate::{Error, Result};

/// What every operator tells about itself.
pub(crate) trait Operator: std::fmt::Debug {
    /// Its name in errors and drawings.
    fn name(&self) -> &'static str;

    /// What a drawing says beside the name.
    fn detail(&self) -> String {
        String::new()
    }

    /// The type of its output, or what is wrong with the inputs.
    fn infer(&self, inputs: &[Type]) -> Result<Type, String>;

    /// How it takes one of its inputs; asked after [`infer`](Self::infer) found nothing wrong.
    fn takes(&self, _input: usize, _inputs: &[Type]) -> Takes {
        Takes::Numbers
    }

    /// Ids in its output are below this.
    fn ids_below(&self, _inputs: &[Type]) -> Option<usize> {
        None
    }

    /// Arithmetic and memory traffic in this batch.
    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        Cost::elementwise(inputs, output, batch, 1.0)
    }

    /// The input whose buffer the output is, seen through another shape.
    fn alias(&self) -> Option<usize> {
        None
    }

    /// Which part of a computation this is, where several nodes over the same inputs are made together: the gradients of one
    /// node's inputs. Devices that make each alone are right, too.
    fn part(&self) -> Option<Part> {
        None
    }

    /// Whether its CPU kernel can add to a weight's gradient; others write to a place of their own first.
    fn adds(&self) -> bool {
        false
    }

    /// The gradient of each input (`None` for ids) as operators on the output's gradient.
    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let node = g.node(at.output);
        Err(Error::NoGradient { op: node.op.name(), path: node.path.clone() })
    }

    /// The plain definition, in f64.
    fn reference(&self, run: &mut RefRun);

    /// The same by kernels, in f32. Of parts [`cpu_parts`](Self::cpu_parts) is called instead.
    fn cpu(&self, _run: &mut CpuRun) {
        unreachable!("`{}` is made in parts", self.name())
    }

    /// All parts of a computation that somebody asks for, by kernels.
    fn cpu_parts(&self, _run: &CpuRun, _outs: Outs) {
        unreachable!("`{}` has no parts", self.name())
    }
}

/// One of the nodes that are made together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The node that they are the gradients of.
    pub whole: usize,
    /// Which of them.
    pub index: usize,
}

/// How an operator takes an input. Checked when a node is added; ids from a batch are checked before every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Activations, or a weight of a few numbers.
    Numbers,
    /// Ids, all below a number where there is one.
    Ids { below: Option<usize> },
    /// A weight of one of these kinds itself, nothing computed.
    Weight(&'static [ParamKind]),
    /// Whatever there is.
    Anything,
}

/// One node on the way back.
pub(crate) struct Backward<'a> {
    /// The node's inputs.
    pub inputs: &'a [Value],
    /// Its output.
    pub output: Value,
    /// The gradient of the loss with respect to the output.
    pub dy: Value,
    /// Which inputs need a gradient; the others' may be left out.
    pub wanted: &'a [bool],
}

impl Backward<'_> {
    /// Fails where a node reads and writes a state: what earlier runs put there has no gradient.
    pub(crate) fn without(&self, g: &Graph, state: Option<State>) -> Result<()> {
        match state {
            None => Ok(()),
            Some(_) => {
                let node = g.node(self.output);
                Err(Error::NoGradient { op: node.op.name(), path: node.path.clone() })
            }
        }
    }

    /// The gradients of the wanted inputs, as parts that are made together of `inputs`.
    pub(crate) fn parts(
        &self,
        g: &mut Graph,
        inputs: &[Value],
        op: impl Fn(Part) -> Op,
    ) -> Result<Vec<Option<Value>>> {
        let whole = self.output.index();
        let part = |(index, (&wanted, &input)): (usize, (&bool, &Value))| {
            let is_wanted = wanted && g.ty(input).dtype == DType::F32;
            is_wanted.then(|| g.push(op(Part { whole, index }), inputs)).transpose()
        };
        self.wanted.iter().zip(self.inputs).enumerate().map(part).collect()
    }
}

macro_rules! operators {
    ($($module:ident: $($variant:ident),+;)*) => {
        $(pub(crate) mod $module;)*

        /// Any operator.
        #[derive(Clone, Debug)]
        pub(crate) enum Op { $($($variant($module::$variant),)+)* }

        impl std::ops::Deref for Op {
            type Target = dyn Operator;

            fn deref(&self) -> &(dyn Operator + 'static) {
                match self { $($(Op::$variant(op) => op,)+)* }
            }
        }

        #[cfg(test)]
        impl Op {
            /// Every operator there is, for tests that count them.
            pub(crate) const VARIANTS: &[&str] = &[$($(stringify!($variant)),+),*];

            pub(crate) fn variant(&self) -> &'static str {
                match self { $($(Op::$variant(_) => stringify!($variant),)+)* }
            }
        }

        $($(impl From<$module::$variant> for Op {
            fn from(op: $module::$variant) -> Op {
                Op::$variant(op)
            }
        })+)*
    };
}

operators! {
    input: Input;
    fill: Fill;
    slope: Slope;
    weight: Weight;
    embed: Embed, EmbedGrad;
    adapt: Adapt, AdaptBaseGrad, AdaptInputGrad;
    linear: Linear, LinearInputGrad, LinearWeightGrad;
    inverse_norms: InverseNorms;
    rms_norm: RmsNorm, RmsNormGrad;
    layer_norm: LayerNorm, LayerNormGrad;
    round_rows: RoundRows;
    activation: Activate, ActivationGrad, Gated, GatedGrad;
    arithmetic: Add, Mul, Scale;
    sum_rows: SumRows, SumColumns;
    dropout: Dropout;
    noise: Noise;
    reshape: Reshape;
    columns: Columns, ColumnsGrad;
    concat: Concat;
    rope: RopeTables, Rope;
    append: Append;
    attend: Attend, AttendGrad;
    select: Select, SelectGrad;
    softmax: Softmax, DividedGrad;
    top_k: TopK, Pick, PickGrad;
    expert_linear: ExpertLinear, ExpertLinearGrad;
    combine: Combine, CombineGrad;
    head_linear: HeadLinear, HeadLinearGrad;
    relative_attend: RelativeAttend, RelativeAttendGrad;
    recurrent: Recurrent, RecurrentGrad;
    decay_scan: DecayScan, DecayScanGrad;
    conv1d: Conv1d, Conv1dGrad;
    selective_scan: SelectiveScan, SelectiveScanGrad;
    ssd_scan: SsdScan, SsdScanGrad;
    pool: Pool, PoolGrad, Normalize;
    token_logprobs: TokenLogprobs, TokenLogprobsGrad;
    weighted_sum: WeightedSum;
}

/// Checks that there are this many inputs.
pub(crate) fn arity<const N: usize>(inputs: &[Type]) -> Result<[Type; N], String> {
    inputs.try_into().map_err(|_| format!("expected {N} inputs, got {}", inputs.len()))
}
