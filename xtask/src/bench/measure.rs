//! How each case is measured: who runs, in which order, and what becomes a row.
//!
//! Where:  called by [`peers`](super::peers), case by case.
//! Idea:   a pass runs each program once, as a process of its own; passes follow each other, so that both programs see
//!         the same minutes. What a process measures twice itself counts once, as its median.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::busy::BusyCore;
use super::cases::{Case, Measure, Target, Who};
use super::encoding::{self, Encoding};
use super::llama_cpp::LlamaCpp;
use super::row::{Conditions, Row, RowCeiling};
use super::samples::Samples;
use super::wootz::{Speed, Wootz};

/// Both programs and how they are run.
pub(crate) struct Bench {
    pub wootz: Wootz,
    pub llama_cpp: LlamaCpp,
    /// Where models lie.
    pub dir: PathBuf,
    pub threads: usize,
    pub n_passes: usize,
    /// How often a process repeats what it measures.
    pub repeat: usize,
    pub encoding: Option<Encoding>,
    pub commit: String,
    pub date: String,
}

/// Where the streams of [`Measure::Streams`] begin to write, and how many tokens.
const STREAMS_FROM: usize = 16;
const STREAMS_TOKENS: usize = 64;
/// Tokens that are written after a long context.
const DEPTH_TOKENS: usize = 16;
/// Tokens that are written beside a busy loop: llama.cpp may take half a second for each.
const BUSY_TOKENS: usize = 32;

impl Bench {
    /// Measures a case.
    ///
    /// # Errors
    /// If a program is missing, fails or writes something else than expected.
    pub fn measure(&self, case: &Case) -> Result<Vec<Row>> {
        if let Measure::Encoding = case.measure {
            return self.encoding(case);
        }
        let model = self.wootz.model(case.model, &self.dir)?;
        let row = match case.measure {
            Measure::Prefill { tokens } => self.prefill(case, &model, tokens),
            Measure::Decode { tokens } => self.decode(case, &model, tokens),
            Measure::Streams { batch } => self.streams(case, &model, batch),
            Measure::Depth { depth, who: Who::Wootz } => self.depth(case, &model, depth),
            Measure::Depth { depth, who: Who::LlamaCpp } => self.depth_of_llama_cpp(case, &model, depth),
            Measure::BusyCore => self.busy_core(case, &model),
            Measure::FirstToken => self.first_token(case, &model),
            Measure::Resident => self.resident(case, &model),
            Measure::PrefillOn { isa, tokens } => self.lowered(case, &model, prefill_args(tokens, 1), isa),
            Measure::DecodeOn { isa, tokens } => self.lowered(case, &model, decode_args(tokens, 1), isa),
            Measure::Encoding => unreachable!("handled above"),
        };
        Ok(vec![row?])
    }

    /// A row without numbers.
    fn row(&self, case: &Case) -> Row {
        let conditions = Conditions {
            threads: self.threads,
            commit: self.commit.clone(),
            date: self.date.clone(),
            passes: self.n_passes,
            peers: self.llama_cpp.version.clone(),
            ..Conditions::default()
        };
        Row { target: case.target.text(), ..Row::empty(case.name, case.theme.name, case.title, conditions) }
    }

    fn prefill(&self, case: &Case, model: &Path, tokens: usize) -> Result<Row> {
        let args = prefill_args(tokens, self.repeat);
        let peer_args = words(&format!("-p {tokens} -n 0 -r {}", self.repeat));
        self.versus(case, model, &args, || only(&self.llama_cpp.bench(model, self.threads, &peer_args)?))
    }

    fn decode(&self, case: &Case, model: &Path, tokens: usize) -> Result<Row> {
        let args = decode_args(tokens, self.repeat);
        let peer_args = words(&format!("-p 0 -n {tokens} -r {}", self.repeat));
        self.versus(case, model, &args, || only(&self.llama_cpp.bench(model, self.threads, &peer_args)?))
    }

    /// Both write one token a stream and step, from position 16 to 80, and want logits of every stream.
    fn streams(&self, case: &Case, model: &Path, batch: usize) -> Result<Row> {
        let args = format!(
            "--prefill 0 --decode {STREAMS_TOKENS} --batch {batch} --depth {STREAMS_FROM} --repeat 1"
        );
        self.versus(case, model, &words(&args), || self.llama_cpp.streams(model, self.threads, batch))
    }

    /// Ours, theirs, ours, theirs, …
    fn versus(
        &self,
        case: &Case,
        model: &Path,
        args: &[String],
        peer: impl Fn() -> Result<f64>,
    ) -> Result<Row> {
        let mut row = self.row(case);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..self.n_passes {
            ours.push(self.speed(&mut row, case, model, self.threads, args)?);
            theirs.push(peer()?);
        }
        let (wootz, peer) = (rates(&ours), Samples::new(theirs));
        let ratio = wootz.median() / peer.median();
        let ceiling = ceiling(&ours, Some(1.0 / ratio));
        row.is_met = case.target.is_met(ratio, Some(ceiling.percent));
        Ok(Row { wootz: Some(wootz), peer: Some(peer), ratio: Some(ratio), ceiling: Some(ceiling), ..row })
    }

    /// The speed that one process of ours measures; what it says of the machine goes into the row.
    fn speed(
        &self,
        row: &mut Row,
        case: &Case,
        model: &Path,
        threads: usize,
        args: &[String],
    ) -> Result<Speed> {
        let report = self.wootz.bench(model, threads, args)?;
        row.conditions.cpu = report.text("/machine/cpu").unwrap_or("unknown").into();
        row.conditions.instructions = report.text("/machine/instructions")?.into();
        match case.measure {
            Measure::Prefill { .. } | Measure::PrefillOn { .. } => report.prefill(),
            _ => report.decode(0),
        }
    }

    fn depth(&self, case: &Case, model: &Path, depth: usize) -> Result<Row> {
        let mut row = self.row(case);
        let args = |depth| words(&format!("--prefill 0 --decode {DEPTH_TOKENS} --depth {depth} --repeat 3"));
        let mut at = |depth| self.speed(&mut row, case, model, self.threads, &args(depth));
        // Both processes measure three times; they are one pass.
        let (shallow, deep) = (at(0)?, at(depth)?);
        let ratio = deep.tok_per_s / shallow.tok_per_s;
        row.note = format!("of {:.1} at depth 0", shallow.tok_per_s);
        row.is_met = case.target.is_met(ratio, None);
        row.conditions.passes = 1;
        let ceiling = Some(ceiling(&[deep], None));
        Ok(Row { wootz: Some(rates(&[deep])), ratio: Some(ratio), ceiling, ..row })
    }

    fn depth_of_llama_cpp(&self, case: &Case, model: &Path, depth: usize) -> Result<Row> {
        let mut row = self.row(case);
        let args = words(&format!("-p 0 -n {DEPTH_TOKENS} -d 0,{depth} -r 1"));
        let rates = self.llama_cpp.bench(model, self.threads, &args)?;
        let [shallow, deep] = rates[..] else {
            anyhow::bail!("`llama-bench -d 0,{depth}`: expected two tests")
        };
        row.note = format!("of {shallow:.1} at depth 0");
        row.conditions.passes = 1;
        Ok(Row { peer: Some(Samples::new(vec![deep])), ratio: Some(deep / shallow), ..row })
    }

    /// All threads beside a busy loop, against one thread on the quiet machine; llama.cpp likewise.
    fn busy_core(&self, case: &Case, model: &Path) -> Result<Row> {
        let mut row = self.row(case);
        let args = decode_args(BUSY_TOKENS, 1);
        let peer_args = words(&format!("-p 0 -n {BUSY_TOKENS} -r 1"));
        let peer = |threads| only(&self.llama_cpp.bench(model, threads, &peer_args)?);
        let (mut quiet, mut busy, mut peer_quiet, mut peer_busy) = (vec![], vec![], vec![], vec![]);
        for _ in 0..self.n_passes {
            quiet.push(self.speed(&mut row, case, model, 1, &args)?);
            peer_quiet.push(peer(1)?);
            let _loop = BusyCore::start()?;
            busy.push(self.speed(&mut row, case, model, self.threads, &args)?);
            peer_busy.push(peer(self.threads)?);
        }
        let (wootz, peer) = (rates(&busy), Samples::new(peer_busy));
        let (quiet, peer_quiet) = (rates(&quiet).median(), Samples::new(peer_quiet).median());
        let ratio = wootz.median() / quiet;
        row.note = format!(
            "of {quiet:.1}, one thread alone; llama.cpp {:.2} of {peer_quiet:.1}",
            peer.median() / peer_quiet
        );
        row.is_met = case.target.is_met(ratio, None);
        Ok(Row { wootz: Some(wootz), peer: Some(peer), ratio: Some(ratio), ..row })
    }

    fn first_token(&self, case: &Case, model: &Path) -> Result<Row> {
        let mut row = self.row(case);
        // The first puts the file into the page cache and does not count.
        self.wootz.first_token(model, self.threads)?;
        let passes =
            (0..self.n_passes).map(|_| Ok(self.wootz.first_token(model, self.threads)?.as_secs_f64()));
        let seconds = Samples::new(passes.collect::<Result<_>>()?);
        if let Target::Seconds(most) = case.target {
            row.is_met = Some(seconds.median() <= most);
        }
        Ok(Row { unit: "s".into(), wootz: Some(seconds), ..row })
    }

    fn resident(&self, case: &Case, model: &Path) -> Result<Row> {
        let mut row = self.row(case);
        const MIB: f64 = (1 << 20) as f64;
        let (mut resident, mut load_ms, mut most) = (Vec::new(), Vec::new(), f64::INFINITY);
        for _ in 0..self.n_passes {
            let report = self.wootz.bench(model, self.threads, &words("--prefill 0 --decode 0"))?;
            resident.push(report.number("/rss_mib")?);
            load_ms.push(report.number("/load_ms")?);
            row.conditions.cpu = report.text("/machine/cpu").unwrap_or("unknown").into();
            row.conditions.instructions = report.text("/machine/instructions")?.into();
            if let Target::TimesFile(times) = case.target {
                most = (times * report.number("/model/file_bytes")? + report.number("/model/state_bytes")?)
                    / MIB;
            }
        }
        let resident = Samples::new(resident);
        row.note = format!("`load_ms` {:.0}", Samples::new(load_ms).median());
        row.target = format!("≤ {most:.0} MiB, {}", case.target.text().trim_start_matches("≤ "));
        row.is_met = Some(resident.median() <= most);
        Ok(Row { unit: "MiB".into(), wootz: Some(resident), ..row })
    }

    /// Ours on other instructions, against ours on the best ones.
    fn lowered(&self, case: &Case, model: &Path, args: Vec<String>, isa: &str) -> Result<Row> {
        let mut row = self.row(case);
        let lower = [&args[..], &words(&format!("--isa {isa}"))].concat();
        let (mut best, mut lowered) = (Vec::new(), Vec::new());
        for _ in 0..self.n_passes {
            best.push(self.speed(&mut row, case, model, self.threads, &args)?);
            lowered.push(self.speed(&mut row, case, model, self.threads, &lower)?);
        }
        let (best, wootz) = (rates(&best).median(), rates(&lowered));
        let ceiling = ceiling(&lowered, None);
        row.note = format!("of {best:.1} on the best instructions");
        Ok(Row { ratio: Some(wootz.median() / best), wootz: Some(wootz), ceiling: Some(ceiling), ..row })
    }

    fn encoding(&self, case: &Case) -> Result<Vec<Row>> {
        let encoding = self.encoding.as_ref().with_context(|| {
            "encoding: no text\nhint: --text FILE --tokenizers A.json,B.json (and --python with `tokenizers` and `tiktoken`)"
        })?;
        encoding::rows(encoding, case, &self.row(case))
    }
}

fn prefill_args(tokens: usize, repeat: usize) -> Vec<String> {
    words(&format!("--prefill {tokens} --decode 0 --repeat {repeat}"))
}

fn decode_args(tokens: usize, repeat: usize) -> Vec<String> {
    words(&format!("--prefill 0 --decode {tokens} --repeat {repeat}"))
}

fn words(args: &str) -> Vec<String> {
    args.split(' ').map(str::to_owned).collect()
}

fn rates(speeds: &[Speed]) -> Samples {
    Samples::new(speeds.iter().map(|speed| speed.tok_per_s).collect())
}

/// Medians of the ceiling and of what was reached of it; the peer's part follows from its speed over ours.
fn ceiling(speeds: &[Speed], peer_over_ours: Option<f64>) -> RowCeiling {
    let median = |of: fn(&Speed) -> f64| Samples::new(speeds.iter().map(of).collect()).median();
    let percent = median(|speed| speed.percent);
    RowCeiling {
        what: speeds[0].ceiling.what.into(),
        unit: speeds[0].ceiling.unit.into(),
        value: median(|speed| speed.ceiling.value),
        percent,
        peer_percent: peer_over_ours.map(|ratio| ratio * percent),
    }
}

fn only(rates: &[f64]) -> Result<f64> {
    match rates {
        [rate] => Ok(*rate),
        _ => anyhow::bail!("`llama-bench`: expected one test, got {}", rates.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::wootz::Ceiling;
    use super::*;

    #[test]
    fn a_ceiling_is_that_of_the_middle_pass() {
        let speed = |percent: f64, value: f64| Speed {
            tok_per_s: percent,
            percent,
            ceiling: Ceiling { what: "reading", unit: "GB/s", value },
        };
        let ceiling = ceiling(&[speed(30.0, 40.0), speed(50.0, 60.0), speed(40.0, 50.0)], Some(0.5));
        assert_eq!((ceiling.percent, ceiling.value, ceiling.peer_percent), (40.0, 50.0, Some(20.0)));
        assert_eq!((ceiling.what.as_str(), ceiling.unit.as_str()), ("reading", "GB/s"));
    }

    #[test]
    fn one_test_is_one_speed() {
        assert_eq!(only(&[2.0]).unwrap(), 2.0);
        assert!(only(&[1.0, 2.0]).is_err() && only(&[]).is_err());
    }
}
