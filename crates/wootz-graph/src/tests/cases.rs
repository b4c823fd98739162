//! The table of operators: what each is tried on.
//!
//! Idea:   widths are odd, single and wider than a vector register. A tolerance other than 1e-5 says why.

use wootz_kernels::TensorType;

use super::case::{Case, Draw, case};
use crate::ParamKind::{Matrix, Stack, Table, Vector};
use crate::{
    Activation, Attention, Axis, Cell, Dim, Groups, LogitTransform, LowRankChange, Pooling, RelativeBuckets,
    RopeScale, RopeStyle, RopeTable, ScanInputs, Shape, Type,
};

/// Every case.
pub(super) fn cases() -> Vec<Case> {
    let families: [fn() -> Vec<Case>; 9] =
        [leaves, linears, norms, elementwise, shapes, rotations, attention, experts, recurrences];
    families.into_iter().flat_map(|family| family()).chain(heads()).collect()
}

const STORED: [TensorType; 4] = [TensorType::F16, TensorType::BF16, TensorType::Q8_0, TensorType::Q4_0];

fn leaves() -> Vec<Case> {
    let embed = |kind, stored| {
        case("embed")
            .ids("token_ids", 11)
            .weight(kind, &[11, 32])
            .stored_as(stored)
            .build(|g, x, w| g.embed(x[0], w[0]))
    };
    let mut cases: Vec<Case> =
        STORED.into_iter().flat_map(|ty| [embed(Table, ty), embed(Matrix, ty)]).collect();
    cases.push(embed(Table, TensorType::F32).grad());
    cases.push(embed(Matrix, TensorType::F32).grad());
    cases.push(embed(Vector, TensorType::F32).grad());
    cases.push(
        case("embed positions")
            .ids("rows", 5)
            .weight(Table, &[5, 3])
            .grad()
            .build(|g, x, w| g.embed(x[0], w[0])),
    );
    cases
}

fn linears() -> Vec<Case> {
    let mut cases = Vec::new();
    for (n, k) in [(1, 1), (3, 7), (33, 5), (16, 64), (40, 129)] {
        let linear = case(format!("linear ({n}, {k})")).rows(&[k]).weight(Matrix, &[n, k]);
        cases.push(linear.grad().build(|g, x, w| g.linear(x[0], w[0])));
        let biased = case(format!("linear with bias ({n}, {k})"))
            .rows(&[k])
            .weight(Matrix, &[n, k])
            .weight(Vector, &[n]);
        cases.push(biased.grad().build(|g, x, w| g.linear_bias(x[0], w[0], Some(w[1]))));
    }
    let changed = |magnitude: bool| {
        case(format!("linear with a low-rank change, magnitudes {magnitude}"))
            .rows(&[7])
            .weight(Matrix, &[5, 7])
            .weight(Matrix, &[2, 7])
            .weight(Matrix, &[5, 2])
            .weight(Vector, &[5])
            .weight(Vector, &[5])
            .build(move |g, x, w| {
                let magnitude = magnitude.then_some(w[3]);
                g.changed_linear(
                    x[0],
                    w[0],
                    Some(w[4]),
                    LowRankChange { a: w[1], b: w[2], scale: 0.5, magnitude },
                )
            })
    };
    // The norm is held constant by definition, so only magnitudes and bias have their true slopes.
    cases.push(changed(false).grad_of(&[0], &[0, 1, 2, 4]));
    cases.push(changed(true).grad_of(&[0], &[3, 4]));
    for ty in STORED {
        let linear = case("linear").rows(&[64]).weight(Matrix, &[19, 64]).stored_as(ty);
        // Sums of 64 products of up to ±10.
        cases.push(linear.tolerance(3e-5).grad_of(&[0], &[]).build(|g, x, w| g.linear(x[0], w[0])));
    }
    let siblings = case("linears over the same rows")
        .rows(&[12])
        .weight(Matrix, &[5, 12])
        .weight(Matrix, &[9, 12])
        .weight(Vector, &[9])
        .weight(Matrix, &[4, 6]);
    cases.push(siblings.grad().build(|g, x, w| {
        let a = g.linear(x[0], w[0])?;
        let b = g.linear_bias(x[0], w[1], Some(w[2]))?;
        let halves = g.reshape(x[0], (Dim::Rows(Axis::Tokens, 1), 2, 6))?;
        let c = g.linear(halves, w[3])?; // (T, 2, 4): the same numbers, but rows of another width
        let c = g.reshape(c, (Dim::Rows(Axis::Tokens, 1), 8))?;
        let ab = g.concat(a, b)?;
        g.concat(ab, c)
    }));
    for (h, n, k) in [(1, 4, 3), (3, 5, 8), (4, 17, 16)] {
        let heads = case(format!("head_linear {h} × ({n}, {k})")).rows(&[h, k]).weight(Stack, &[h, n, k]);
        cases.push(heads.grad().build(|g, x, w| g.head_linear(x[0], w[0])));
    }
    cases
}

fn norms() -> Vec<Case> {
    let mut cases = Vec::new();
    for c in [1, 7, 32, 65] {
        let rows = |name: &str| case(format!("{name} {c}")).rows(&[c]);
        cases
            .push(rows("rms_norm").weight(Vector, &[c]).grad().build(|g, x, w| g.rms_norm(x[0], w[0], 1e-5)));
        cases.push(rows("rms_norm plain").grad().build(|g, x, _| g.rms_norm_plain(x[0], 1e-6)));
        cases.push(rows("layer_norm plain").grad().build(|g, x, _| g.layer_norm(x[0], None, None, 1e-5)));
        let weighted = rows("layer_norm weighted").weight(Vector, &[c]);
        cases.push(weighted.grad().build(|g, x, w| g.layer_norm(x[0], Some(w[0]), None, 1e-5)));
        let biased = rows("layer_norm").weight(Vector, &[c]).weight(Vector, &[c]);
        cases.push(biased.grad().build(|g, x, w| g.layer_norm(x[0], Some(w[0]), Some(w[1]), 1e-5)));
        cases.push(rows("softmax").grad().build(|g, x, _| g.softmax(x[0])));
        let positive = case(format!("normalize_sum {c}"));
        let positive = positive.drawn_rows(Axis::Tokens, 1, &[c], Draw::Between(0.01, 1.0));
        cases.push(positive.grad().build(|g, x, _| g.normalize_sum(x[0])));
        cases.push(rows("normalize").grad().build(|g, x, _| g.normalize(x[0])));
    }
    let heads = case("rms_norm of heads").rows(&[3, 8]).weight(Vector, &[8]);
    cases.push(heads.grad().build(|g, x, w| g.rms_norm(x[0], w[0], 1e-5)));
    let flat = case("rms_norm of heads in a row").rows(&[24]).weight(Vector, &[8]);
    cases.push(flat.grad().build(|g, x, w| g.rms_norm(x[0], w[0], 1e-5)));
    cases
}

fn elementwise() -> Vec<Case> {
    let mut cases = Vec::new();
    let all = [
        Activation::Silu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::GeluQuick,
        Activation::Relu,
        Activation::ReluSquared,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Softplus,
        Activation::Exp,
        Activation::Softcap(2.5),
    ];
    for f in all {
        let alone = case(format!("{f:?}")).drawn_rows(Axis::Tokens, 1, &[13], Draw::Between(-8.0, 8.0));
        // Exp reaches e⁸; its error is relative.
        cases.push(alone.grad().build(move |g, x, _| g.activate(x[0], f)));
        if !matches!(f, Activation::Softplus | Activation::Softcap(_)) {
            let gated = case(format!("gated {f:?}")).rows(&[13]).rows(&[13]);
            cases.push(gated.grad().build(move |g, x, _| g.gated(x[0], x[1], f)));
        }
    }
    cases.push(case("slope").rows(&[5]).build(|g, x, _| g.slope(x[0], "slope")));
    for c in [1, 6, 67] {
        let two = |name: &str| case(format!("{name} {c}")).rows(&[c]).rows(&[c]);
        cases.push(two("add").grad().build(|g, x, _| g.add(x[0], x[1])));
        cases.push(two("mul").grad().build(|g, x, _| g.mul(x[0], x[1])));
        let vector = |name: &str| case(format!("{name} a vector {c}")).rows(&[c]).weight(Vector, &[c]);
        cases.push(vector("add").grad().build(|g, x, w| g.add_weight(x[0], w[0])));
        cases.push(vector("mul").grad().build(|g, x, w| g.mul_weight(x[0], w[0])));
        cases.push(case(format!("scale {c}")).rows(&[c]).grad().build(|g, x, _| g.scale(x[0], -0.75)));
    }
    for c in [1, 9, 67] {
        let rounded = case(format!("round_rows {c}")).rows(&[c]);
        cases.push(rounded.straight_through().build(|g, x, _| g.round_rows(x[0])));
    }
    for (c, p) in [(1, 0.5), (7, 0.1), (67, 0.9)] {
        cases.push(case(format!("dropout {c}")).rows(&[c]).grad().build(move |g, x, _| g.dropout(x[0], p)));
        cases.push(case(format!("noise {c}")).rows(&[c]).grad().build(|g, x, _| g.noise(x[0], 5.0)));
    }
    let heads = case("dropout of heads").rows(&[3, 5]);
    cases.push(heads.grad().build(|g, x, _| g.dropout(x[0], 0.3)));
    let twice = case("a value used twice").rows(&[5]);
    cases.push(twice.grad().build(|g, x, _| {
        let square = g.mul(x[0], x[0])?;
        g.add(square, x[0])
    }));
    let spread = |name: &str| case(name.to_owned()).rows(&[6]);
    cases.push(spread("add a number a row").rows(&[1]).grad().build(|g, x, _| g.add(x[0], x[1])));
    cases.push(spread("mul a number a row").rows(&[1]).grad().build(|g, x, _| g.mul(x[0], x[1])));
    cases.push(spread("mul a row's number").rows(&[]).grad().build(|g, x, _| g.mul(x[0], x[1])));
    let number = spread("add one number").weight(Vector, &[1]);
    cases.push(number.grad().build(|g, x, w| g.add_weight(x[0], w[0])));
    let number = spread("mul one number").weight(Vector, &[1]);
    cases.push(number.grad().build(|g, x, w| g.mul_weight(x[0], w[0])));
    let repeated = spread("add a vector to each part of a row").weight(Vector, &[3]);
    cases.push(repeated.grad().build(|g, x, w| g.add_weight(x[0], w[0])));
    let repeated = case("mul heads by a vector").rows(&[4, 3]).weight(Vector, &[3]);
    cases.push(repeated.grad().build(|g, x, w| g.mul_weight(x[0], w[0])));
    let matrix = case("mul heads by a number each").rows(&[4, 3]).weight(Vector, &[4, 3]);
    cases.push(matrix.grad().build(|g, x, w| g.mul_weight(x[0], w[0])));
    cases
}

fn shapes() -> Vec<Case> {
    let t = Dim::Rows(Axis::Tokens, 1);
    vec![
        case("reshape").rows(&[12]).grad().build(move |g, x, _| g.reshape(x[0], (t, 3, 4))),
        case("reshape twice, read both ways").rows(&[12]).grad().build(move |g, x, _| {
            let heads = g.reshape(x[0], (t, 3, 4))?;
            let y = g.scale(heads, 2.0)?;
            let y = g.reshape(y, (t, 2, 6))?;
            let y = g.reshape(y, (t, 12))?;
            g.add(y, x[0])
        }),
        case("reshape rows").rows(&[4, 3]).grad().build(|g, x, _| {
            let rows = Dim::Rows(Axis::Tokens, 4);
            g.reshape(x[0], (rows, 3))
        }),
        case("columns").rows(&[9]).grad().build(|g, x, _| g.columns(x[0], 2, 5)),
        case("columns of heads").rows(&[3, 9]).grad().build(|g, x, _| g.columns(x[0], 8, 1)),
        case("concat").rows(&[9]).rows(&[4]).grad().build(|g, x, _| g.concat(x[0], x[1])),
        case("concat heads").rows(&[2, 3]).rows(&[2, 5]).grad().build(|g, x, _| g.concat(x[0], x[1])),
        case("select_outputs").rows(&[7]).grad().build(|g, x, _| g.select_outputs(x[0])),
        case("select_outputs of heads").rows(&[2, 3]).grad().build(|g, x, _| g.select_outputs(x[0])),
        case("sum_rows").rows(&[7]).build(|g, x, _| g.sum_rows(x[0], 7)),
        case("sum_columns").rows(&[7]).grad().build(|g, x, _| g.sum_columns(x[0])),
        case("inner product of rows").rows(&[7]).rows(&[7]).grad().build(|g, x, _| {
            let product = g.mul(x[0], x[1])?;
            g.sum_columns(product)
        }),
        case("sum_rows of heads").rows(&[3, 4]).build(|g, x, _| g.sum_rows(x[0], 4)),
        case("fill").build(move |g, _, _| g.fill(0.5, Type::f32((t, 3)))),
        pooled("mean", Pooling::Mean),
        pooled("max", Pooling::Max),
        pooled("cls", Pooling::Cls),
        pooled("last", Pooling::Last),
    ]
}

fn pooled(name: &str, pooling: Pooling) -> Case {
    case(format!("pool {name}")).rows(&[9]).grad().build(move |g, x, _| g.pool(x[0], pooling))
}

fn rotations() -> Vec<Case> {
    let mut cases = Vec::new();
    let plain = RopeTable::plain(10_000.0, 8);
    let long = RopeScale::Long { beyond: 50, inv_freq: vec![0.5, 0.25, 0.125, 0.01] };
    let dynamic = RopeScale::Dynamic { theta: 10_000.0, factor: 2.0, beyond: 40 };
    let tables = [
        ("plain", plain.clone()),
        ("longrope", RopeTable { scale: long, factor: 1.19, ..plain.clone() }),
        ("dynamic", RopeTable { scale: dynamic, ..plain }),
    ];
    for (name, table) in tables {
        for style in [RopeStyle::Halves, RopeStyle::Pairs] {
            for (h, d) in [(1, 8), (3, 8), (2, 11)] {
                let table = table.clone();
                let turned = case(format!("rope {name} {style:?} ({h}, {d})")).rows(&[h, d]);
                cases.push(turned.grad().build(move |g, x, _| g.rope(x[0], &table, style)));
            }
        }
    }
    cases
}

/// Scores like those of a trained layer.
pub(super) fn attention_spec(n_heads: usize, n_kv_heads: usize, d_k: usize, d_v: usize) -> Attention {
    Attention {
        n_heads,
        n_kv_heads,
        d_k,
        d_v,
        scale: 1.0 / (d_k as f32).sqrt(),
        softcap: None,
        back: None,
        ahead: Some(0),
        alibi_slopes: None,
    }
}

/// Every mask, cap and bias that models have.
pub(super) fn attention_specs() -> Vec<(&'static str, Attention)> {
    let causal = |n_heads, n_kv_heads, d_k, d_v| attention_spec(n_heads, n_kv_heads, d_k, d_v);
    vec![
        ("causal", causal(2, 2, 4, 4)),
        ("one head", causal(1, 1, 3, 5)),
        ("grouped", causal(6, 2, 8, 8)),
        ("one key head", causal(4, 1, 16, 20)),
        ("wide heads", causal(2, 1, 80, 33)),
        ("both ways", Attention { ahead: None, ..causal(2, 2, 4, 4) }),
        ("window", Attention { back: Some(4), ..causal(4, 2, 8, 8) }),
        ("itself only", Attention { back: Some(0), ..causal(2, 2, 4, 4) }),
        ("window both ways", Attention { back: Some(3), ahead: Some(3), ..causal(2, 2, 4, 4) }),
        ("softcap", Attention { softcap: Some(1.5), ..causal(4, 2, 8, 8) }),
        ("alibi", Attention { alibi_slopes: Some(vec![0.5, 0.25, 0.125, 0.0625]), ..causal(4, 4, 8, 8) }),
        (
            "all at once",
            Attention {
                softcap: Some(2.0),
                back: Some(6),
                alibi_slopes: Some(vec![0.5, 0.1]),
                ..causal(2, 1, 5, 7)
            },
        ),
    ]
}

fn attention() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, spec) in attention_specs() {
        let (h, k, d_k, d_v) = (spec.n_heads, spec.n_kv_heads, spec.d_k, spec.d_v);
        let dense = case(format!("attend {name}")).rows(&[h * d_k]).rows(&[k * d_k]).rows(&[k * d_v]);
        cases.push(dense.grad().build(move |g, x, _| {
            let kv = g.append(None, x[1], x[2])?;
            g.attend(x[0], kv, spec.clone())
        }));
    }
    let latent = case("attend over a latent").rows(&[3 * 10]).rows(&[10]);
    cases.push(latent.grad().build(|g, x, _| {
        let kv = g.append_latent(None, x[1], 6)?;
        g.attend(x[0], kv, attention_spec(3, 1, 10, 6))
    }));
    for (name, both_ways, spec) in [
        ("both ways", true, Attention { ahead: None, ..attention_spec(4, 2, 5, 3) }),
        ("causal", false, attention_spec(2, 2, 8, 20)),
        ("window", true, Attention { back: Some(5), ahead: Some(2), ..attention_spec(3, 1, 4, 4) }),
    ] {
        let (h, k, d_k, d_v) = (spec.n_heads, spec.n_kv_heads, spec.d_k, spec.d_v);
        let relative =
            case(format!("attend_relative {name}")).rows(&[h * d_k]).rows(&[k * d_k]).rows(&[k * d_v]);
        let buckets = RelativeBuckets { n_buckets: 8, max_distance: 20, both_ways };
        cases.push(
            relative
                .weight(Vector, &[8, h])
                .grad()
                .build(move |g, x, w| g.attend_relative([x[0], x[1], x[2]], w[0], buckets, spec.clone())),
        );
    }
    let cross = case("cross-attention").own_keys().rows(&[12]);
    let cross =
        cross.drawn_rows(Axis::Keys, 1, &[6], Draw::Normal).drawn_rows(Axis::Keys, 1, &[4], Draw::Normal);
    cases.push(cross.grad().build(|g, x, _| {
        let kv = g.append(None, x[1], x[2])?;
        g.attend(x[0], kv, Attention { ahead: None, ..attention_spec(4, 2, 3, 2) })
    }));
    cases
}

fn experts() -> Vec<Case> {
    let mut cases = Vec::new();
    let scores = |e: usize| case("").drawn_rows(Axis::Tokens, 1, &[e], Draw::Between(0.0, 1.0));
    for (e, k, groups) in [
        (4, 1, None),
        (9, 4, None),
        (5, 5, None),
        (8, 3, Some(Groups { n_groups: 4, n_kept: 2, n_summed: 1 })),
        (12, 4, Some(Groups { n_groups: 3, n_kept: 2, n_summed: 2 })),
    ] {
        let name = format!("top_k {k} of {e} in {groups:?}");
        cases.push(scores(e).named(format!("ids of {name}")).build(move |g, x, _| g.top_k(x[0], k, groups)));
        cases.push(scores(e).named(name).grad().build(move |g, x, _| {
            let ids = g.top_k(x[0], k, groups)?;
            g.pick(x[0], ids)
        }));
    }
    let ties = case("top_k of equal scores").drawn_rows(Axis::Tokens, 1, &[12], Draw::Between(0.0, 1.0));
    cases.push(ties.build(|g, x, _| {
        let none = g.scale(x[0], 0.0)?;
        let groups = Groups { n_groups: 3, n_kept: 2, n_summed: 2 };
        g.top_k(none, 5, Some(groups))
    }));
    for (e, k, n, c, stored) in [
        (4, 2, 7, 5, TensorType::F32),
        (3, 3, 16, 16, TensorType::F32),
        (8, 1, 33, 9, TensorType::F32),
        (4, 2, 32, 64, TensorType::Q8_0),
    ] {
        let routed = case(format!("expert_linear {k} of {e} × ({n}, {c})")).stored_as(stored);
        let routed = routed.drawn_rows(Axis::Tokens, 1, &[e], Draw::Between(0.0, 1.0)).rows(&[c]);
        let routed = routed.weight(Stack, &[e, n, c]).weight(Stack, &[e, c, n]).tolerance(3e-5);
        // A quantized stack is frozen.
        let routed = if stored == TensorType::F32 { routed.grad() } else { routed.grad_of(&[0, 1], &[]) };
        cases.push(routed.build(move |g, x, w| {
            let ids = g.top_k(x[0], k, None)?;
            let weights = g.pick(x[0], ids)?;
            let y = g.expert_linear(x[1], ids, w[0])?; // (T·k, n)
            let y = g.expert_linear(y, ids, w[1])?; // (T·k, C)
            g.combine(y, weights)
        }));
    }
    cases
}

fn recurrences() -> Vec<Case> {
    let mut cases = Vec::new();
    for c in [1, 7, 40] {
        let factors =
            case(format!("decay_scan {c}")).drawn_rows(Axis::Tokens, 1, &[c], Draw::Between(0.0, 1.0));
        cases.push(factors.rows(&[c]).grad().build(|g, x, _| g.decay_scan(x[0], x[1], None)));
    }
    for cell in [Cell::Plain, Cell::Lstm, Cell::Gru] {
        for c in [1, 5, 18] {
            let gates = cell.n_gates() * c;
            let small = Draw::Between(-0.5, 0.5);
            let layer = |name: &str| {
                let layer = case(format!("{name} {cell:?} {c}")).rows(&[gates]);
                layer.drawn_weight(Matrix, &[gates, c], small)
            };
            cases.push(
                layer("recurrent").grad().build(move |g, x, w| g.recurrent(cell, x[0], w[0], None, None)),
            );
            let biased = layer("recurrent with bias").weight(Vector, &[gates]);
            cases.push(biased.grad().build(move |g, x, w| g.recurrent(cell, x[0], w[0], Some(w[1]), None)));
        }
    }
    for (c, width) in [(1, 1), (5, 4), (40, 2), (16, 3)] {
        let conv =
            |name: &str| case(format!("conv1d{name} {c} × {width}")).rows(&[c]).weight(Vector, &[c, width]);
        cases.push(conv("").grad().build(|g, x, w| g.conv1d(x[0], w[0], None, None)));
        cases.push(
            conv(" biased")
                .weight(Vector, &[c])
                .grad()
                .build(|g, x, w| g.conv1d(x[0], w[0], Some(w[1]), None)),
        );
    }
    for (c, n) in [(1, 1), (3, 4), (33, 16)] {
        let scan = case(format!("selective_scan {c} × {n}")).rows(&[c]);
        let scan = scan.drawn_rows(Axis::Tokens, 1, &[c], Draw::Between(0.01, 0.5)).rows(&[n]).rows(&[n]);
        let scan = scan.drawn_weight(Vector, &[c, n], Draw::Between(-4.0, -0.1)).weight(Vector, &[c]);
        cases.push(scan.grad().build(|g, x, w| {
            g.selective_scan(ScanInputs { x: x[0], dt: x[1], b: x[2], c: x[3], a: w[0], d: w[1] }, None)
        }));
    }
    for (h, p, groups, n) in [(1, 1, 1, 1), (4, 3, 2, 5), (2, 16, 1, 16), (6, 17, 3, 4)] {
        let scan = case(format!("ssd_scan {h} × {p}, {groups} × {n}")).rows(&[h, p]);
        let scan = scan.drawn_rows(Axis::Tokens, 1, &[h], Draw::Between(0.01, 0.5));
        let scan = scan.rows(&[groups, n]).rows(&[groups, n]);
        let scan = scan.drawn_weight(Vector, &[h], Draw::Between(-4.0, -0.1)).weight(Vector, &[h]);
        cases.push(scan.grad().build(|g, x, w| {
            g.ssd_scan(ScanInputs { x: x[0], dt: x[1], b: x[2], c: x[3], a: w[0], d: w[1] }, None)
        }));
    }
    cases
}

fn heads() -> Vec<Case> {
    let mut cases = Vec::new();
    for (scale, softcap) in [(1.0, None), (0.5, None), (1.0, Some(3.0)), (0.25, Some(2.0))] {
        let transform = LogitTransform { scale, softcap };
        let head = |name: &str| {
            case(format!("{name} {scale} {softcap:?}")).rows(&[9]).ids("targets", 21).weight(Matrix, &[21, 9])
        };
        cases.push(
            head("token_logprobs")
                .grad()
                .build(move |g, x, w| g.token_logprobs(x[0], w[0], None, x[1], transform)),
        );
        let biased = head("token_logprobs with bias").weight(Vector, &[21]).grad();
        cases.push(biased.build(move |g, x, w| g.token_logprobs(x[0], w[0], Some(w[1]), x[1], transform)));
    }
    for (name, selected) in [("three targets a row", false), ("three targets of chosen rows", true)] {
        let several = case(format!("token_logprobs of {name}")).rows(&[9]);
        let several =
            several.drawn_rows(Axis::Tokens, 1, &[21], Draw::Between(0.0, 1.0)).weight(Matrix, &[21, 9]);
        cases.push(several.grad_of(&[0], &[0]).build(move |g, x, w| {
            let (rows, scores) = match selected {
                true => (g.select_outputs(x[0])?, g.select_outputs(x[1])?),
                false => (x[0], x[1]),
            };
            let targets = g.top_k(scores, 3, None)?;
            g.token_logprobs(rows, w[0], None, targets, LogitTransform { scale: 1.0, softcap: None })
        }));
    }
    let weighted = case("weighted_sum").rows(&[]).rows(&[]);
    cases.push(weighted.grad_of(&[0], &[]).build(|g, x, _| g.weighted_sum(x[0], x[1])));
    let one = case("one number for every row").weight(Vector, &[1]);
    cases.push(one.grad().build(|g, _, w| {
        let ones = g.fill(1.0, Type::f32(Shape::new(&[Dim::Rows(Axis::Tokens, 1)])))?;
        g.mul_weight(ones, w[0])
    }));
    cases
}
