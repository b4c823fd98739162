//! What is measured, and what it must show: one table.
//!
//! Where:  read by [`peers`](super::peers), measured by [`measure`](super::measure).

/// A section of `docs/performance.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Theme {
    /// How `--only` and the marker in the document call it.
    pub name: &'static str,
    pub title: &'static str,
}

const PREFILL: Theme = Theme { name: "prefill", title: "Prefill" };
const DECODE: Theme = Theme { name: "decode", title: "Decode" };
const STREAMS: Theme = Theme { name: "streams", title: "Many streams" };
const DEPTH: Theme = Theme { name: "depth", title: "Long contexts" };
const BUSY: Theme = Theme { name: "busy", title: "A busy core" };
const LOADING: Theme = Theme { name: "loading", title: "Loading" };
const INSTRUCTIONS: Theme = Theme { name: "instructions", title: "Lower instruction sets" };
const ENCODING: Theme = Theme { name: "encoding", title: "Encoding text" };

/// All sections, in the order of the document.
pub(crate) const THEMES: &[Theme] = &[PREFILL, DECODE, STREAMS, DEPTH, BUSY, LOADING, INSTRUCTIONS, ENCODING];

/// One row, or several where an outside script makes them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub name: &'static str,
    pub theme: Theme,
    pub title: &'static str,
    /// Shape and mix of the random model, as its file is called.
    pub model: &'static str,
    pub measure: Measure,
    pub target: Target,
}

/// How a case is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measure {
    /// A prompt taken in.
    Prefill { tokens: usize },
    /// One stream written.
    Decode { tokens: usize },
    /// Streams written together, each from position 16 on.
    Streams { batch: usize },
    /// Writing after `depth` positions, against writing at the start.
    Depth { depth: usize, who: Who },
    /// Two threads with one core taken away, against one thread on the quiet machine.
    BusyCore,
    /// From the start of the process to the end of one that writes a single token.
    FirstToken,
    /// Memory after loading.
    Resident,
    /// A prompt on other instructions.
    PrefillOn { isa: &'static str, tokens: usize },
    /// One stream on other instructions.
    DecodeOn { isa: &'static str, tokens: usize },
    /// What `golden/text/encoding_speed.py` measures.
    Encoding,
}

/// Whose speed stands against its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Wootz,
    LlamaCpp,
}

/// What a row must show.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// For comparison alone.
    None,
    /// At least this ratio; the percent of the ceiling is aimed at.
    Ratio { least: f64, aim_percent: Option<f64> },
    /// At least this ratio, or this percent of the ceiling.
    RatioOrCeiling { least: f64, percent: f64 },
    /// At most so many seconds.
    Seconds(f64),
    /// At most this times the file, plus keys and values.
    TimesFile(f64),
    /// At least these ratios to `tokenizers` and to `tiktoken`.
    Encoding { tokenizers: f64, tiktoken: f64 },
}

impl Target {
    /// Whether a ratio and a percent of the ceiling are enough; `None` where nothing is asked of them.
    pub fn is_met(self, ratio: f64, percent: Option<f64>) -> Option<bool> {
        match self {
            Target::Ratio { least, .. } => Some(ratio >= least),
            Target::RatioOrCeiling { least, percent: enough } => {
                Some(ratio >= least || percent.is_some_and(|percent| percent >= enough))
            }
            _ => None,
        }
    }

    /// What the table says.
    pub fn text(self) -> String {
        match self {
            Target::None => "–".into(),
            Target::Ratio { least, aim_percent: None } => format!("{least}"),
            Target::Ratio { least, aim_percent: Some(aim) } => format!("{least}; aim {aim} %"),
            Target::RatioOrCeiling { least, percent } => format!("{least} or {percent} %"),
            Target::Seconds(most) => format!("≤ {most} s"),
            Target::TimesFile(times) => format!("≤ {times} × file + KV"),
            Target::Encoding { tokenizers, tiktoken } => format!("{tokenizers} / {tiktoken}"),
        }
    }
}

const fn prefill(name: &'static str, title: &'static str, model: &'static str, least: f64, aim: f64) -> Case {
    let target = Target::Ratio { least, aim_percent: Some(aim) };
    Case { name, theme: PREFILL, title, model, measure: Measure::Prefill { tokens: 512 }, target }
}

const fn decode(
    name: &'static str,
    title: &'static str,
    model: &'static str,
    least: f64,
    percent: f64,
) -> Case {
    let target = Target::RatioOrCeiling { least, percent };
    Case { name, theme: DECODE, title, model, measure: Measure::Decode { tokens: 64 }, target }
}

const fn streams(name: &'static str, title: &'static str, batch: usize, least: f64) -> Case {
    let target = Target::Ratio { least, aim_percent: None };
    Case {
        name,
        theme: STREAMS,
        title,
        model: "llama-1b-q4_k_m",
        measure: Measure::Streams { batch },
        target,
    }
}

const fn on(name: &'static str, title: &'static str, measure: Measure) -> Case {
    Case { name, theme: INSTRUCTIONS, title, model: "smol-135m-q4_k_m", measure, target: Target::None }
}

/// Everything that is measured.
pub(crate) const CASES: &[Case] = &[
    prefill("prefill-q4_k_m", "prefill 512, 1B, Q4_K_M", "llama-1b-q4_k_m", 2.2, 45.0),
    prefill("prefill-q4_0", "prefill 512, 1B, Q4_0", "llama-1b-q4_0", 1.8, 50.0),
    prefill("prefill-q6_k", "prefill 512, 1B, Q6_K", "llama-1b-q6_k", 1.3, 45.0),
    prefill("prefill-q8_0", "prefill 512, 1B, Q8_0", "llama-1b-q8_0", 3.0, 50.0),
    prefill("prefill-bf16", "prefill 512, 1B, BF16", "llama-1b-bf16", 1.4, 70.0),
    decode("decode-q4_k_m", "decode, 1B, Q4_K_M", "llama-1b-q4_k_m", 1.4, 80.0),
    decode("decode-q4_0", "decode, 1B, Q4_0", "llama-1b-q4_0", 1.4, 80.0),
    decode("decode-q8_0", "decode, 1B, Q8_0", "llama-1b-q8_0", 1.4, 80.0),
    decode("decode-135m", "decode, 135M, Q8_0", "smol-135m-q8_0", 2.0, 75.0),
    streams("streams-4", "4 streams, 1B, Q4_K_M", 4, 2.5),
    streams("streams-8", "8 streams, 1B, Q4_K_M", 8, 3.0),
    streams("streams-16", "16 streams, 1B, Q4_K_M", 16, 2.5),
    Case {
        name: "depth-wootz",
        theme: DEPTH,
        title: "decode at depth 16,384, 1B, Q4_K_M",
        model: "llama-1b-q4_k_m",
        measure: Measure::Depth { depth: 16_384, who: Who::Wootz },
        target: Target::Ratio { least: 0.5, aim_percent: None },
    },
    Case {
        name: "depth-llama.cpp",
        theme: DEPTH,
        title: "the same, llama.cpp against itself",
        model: "llama-1b-q4_k_m",
        measure: Measure::Depth { depth: 16_384, who: Who::LlamaCpp },
        target: Target::None,
    },
    Case {
        name: "busy-core",
        theme: BUSY,
        title: "decode, 1B, Q4_K_M, two threads, one core busy",
        model: "llama-1b-q4_k_m",
        measure: Measure::BusyCore,
        target: Target::Ratio { least: 0.8, aim_percent: None },
    },
    Case {
        name: "first-token",
        theme: LOADING,
        title: "`wootz run -n 1`, start to end of the process, 1B, Q4_K_M",
        model: "llama-1b-q4_k_m",
        measure: Measure::FirstToken,
        target: Target::Seconds(1.5),
    },
    Case {
        name: "resident",
        theme: LOADING,
        title: "memory after loading, 1B, Q4_K_M",
        model: "llama-1b-q4_k_m",
        measure: Measure::Resident,
        target: Target::TimesFile(1.15),
    },
    on("avx2-prefill", "prefill 64, 135M, AVX2", Measure::PrefillOn { isa: "avx2", tokens: 64 }),
    on("scalar-prefill", "prefill 64, 135M, scalar", Measure::PrefillOn { isa: "scalar", tokens: 64 }),
    on("avx2-decode", "decode, 135M, AVX2", Measure::DecodeOn { isa: "avx2", tokens: 16 }),
    on("scalar-decode", "decode, 135M, scalar", Measure::DecodeOn { isa: "scalar", tokens: 16 }),
    Case {
        name: "encoding",
        theme: ENCODING,
        title: "byte-level BPE, one thread",
        model: "",
        measure: Measure::Encoding,
        target: Target::Encoding { tokenizers: 8.0, tiktoken: 1.0 },
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_named_once() {
        for (i, case) in CASES.iter().enumerate() {
            assert!(CASES[..i].iter().all(|other| other.name != case.name), "{}", case.name);
            assert!(THEMES.contains(&case.theme), "{}", case.name);
        }
    }

    #[test]
    fn a_target_is_met_by_its_ratio_or_by_the_ceiling() {
        let or = Target::RatioOrCeiling { least: 1.4, percent: 80.0 };
        let check = |target: Target, ratio, percent, met| {
            assert_eq!(target.is_met(ratio, percent), met, "{target:?} {ratio} {percent:?}");
        };
        check(or, 1.4, None, Some(true));
        check(or, 1.3, Some(80.0), Some(true));
        check(or, 1.3, Some(79.9), Some(false));
        let ratio = Target::Ratio { least: 2.2, aim_percent: Some(45.0) };
        check(ratio, 2.1, Some(99.0), Some(false));
        check(Target::None, 9.0, None, None);
    }
}
