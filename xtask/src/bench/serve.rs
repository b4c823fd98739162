//! `cargo xtask bench serve`: `wootz serve` and llama.cpp's `llama-server` under the same clients, in turn.
//!
//! Where:  a task for developers; it measures, and its exit code says nothing about speed.
//! Idea:   closed loops: each stream sends its next request when the last one has ended. All share a system prompt, so a
//!         server that keeps computed beginnings computes it once. Tokens are counted as they reach the client, in a window
//!         that begins after every stream has had a first answer. Both servers run on the same cores as the client.
//! Elsewhere: the engines alone ([`measure`](super::measure)); the record and the tables ([`row`](super::row)).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::client;
use super::llama_cpp::LlamaCpp;
use super::peers;
use super::row::{self, Conditions, Row};
use super::samples::Samples;
use super::server::Running;
use super::table;
use super::wootz::Wootz;

const HELP: &str = "\
usage: cargo xtask bench serve [OPTIONS]

Runs `wootz serve` and `llama-server` in turn on a random model with words and prints medians, spreads and ratios.
Rows are recorded in DIR/serve.json, so a run may be cut into pieces with --only and --add.

  --only A,B          streams-1, streams-8, streams-16, prefix
  --passes N          passes of each program in turn (3)
  --seconds N         length of the window in which tokens are counted (12)
  --add               add to the recorded passes of the same commit instead of replacing them
  --threads N         threads of both (all)
  --dir DIR           models, llama.cpp and results (target/bench)
  --llama-bin DIR     a ready llama-server; else it is fetched and built
  --wootz-bin FILE    a ready wootz; else it is built
  --prepare           build and make everything, measure nothing
  --markdown FILE     replace the table in FILE by all rows that are recorded
  --report            with --markdown: measure nothing";

/// What the random model is called.
const MODEL: &str = "llama-1b-q4_k_m";
/// Words of the prompt that all streams share, of each request's own, and of each answer. A word is a token.
const SHARED: usize = 128;
const OWN: usize = 24;
const ANSWER: usize = 64;
/// Words of the beginning that is cached or not.
const PREFIX: usize = 1000;
const MARK: &str = "<!-- measured by `cargo xtask bench serve` -->";

/// What is measured, and what it must show.
struct Case {
    name: &'static str,
    title: &'static str,
    measure: Measure,
    target: f64,
}

#[derive(Clone, Copy)]
enum Measure {
    /// So many closed loops; the ratio of tokens a second is at least the target.
    Streams(usize),
    /// Time to the first token behind a beginning that is cached, over that behind a new one; at most the target.
    Prefix,
}

const CASES: &[Case] = &[
    Case { name: "streams-1", title: "1 stream", measure: Measure::Streams(1), target: 1.3 },
    Case { name: "streams-8", title: "8 streams", measure: Measure::Streams(8), target: 2.0 },
    Case { name: "streams-16", title: "16 streams", measure: Measure::Streams(16), target: 2.0 },
    Case {
        name: "prefix",
        title: "first token behind 1,000 cached tokens",
        measure: Measure::Prefix,
        target: 0.1,
    },
];

pub(crate) fn run(args: &[String]) -> Result<()> {
    let Some(options) = Options::parse(args)? else {
        println!("{HELP}");
        return Ok(());
    };
    let dir = options.dir.clone().unwrap_or_else(peers::default_dir);
    std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    let record = dir.join("serve.json");
    if !options.report {
        measure(&options, &dir, &record)?;
    }
    if let Some(path) = &options.markdown {
        let document =
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let rows = row::read(&record)?;
        let rows: Vec<&Row> = rows.iter().collect();
        std::fs::write(path, table::put(&document, MARK, &rows)?)?;
    }
    Ok(())
}

fn measure(options: &Options, dir: &Path, record: &Path) -> Result<()> {
    let wootz = match &options.wootz_bin {
        Some(program) => Wootz::at(program)?,
        None => Wootz::build()?,
    };
    let llama_cpp = match &options.llama_bin {
        Some(bin) => LlamaCpp::at(bin)?,
        None => LlamaCpp::find_or_build(dir)?,
    };
    let all = std::thread::available_parallelism().map_or(1, |n| n.get());
    let bench = Bench {
        model: wootz.model_with_words(MODEL, dir)?,
        threads: options.threads.unwrap_or(all),
        window: Duration::from_secs(options.seconds.unwrap_or(12)),
        n_passes: options.passes.unwrap_or(3),
        cpu: wootz.cpu()?,
        commit: peers::commit(),
        date: peers::date(std::time::SystemTime::now()),
        wootz,
        llama_cpp,
    };
    if options.prepare {
        return Ok(());
    }
    for case in CASES.iter().filter(|case| options.wants(case.name)) {
        eprintln!("==> {}", case.title);
        let mut row = bench.measure(case)?;
        if options.add {
            let old = row::read(record)?.into_iter().find(|old| old.case == row.case);
            if let Some(old) = old.filter(|old| old.conditions.commit == row.conditions.commit) {
                row = added(&old, &row, case);
            }
        }
        println!("{}", table::text(&row));
        row::keep(record, row, |row| CASES.iter().position(|case| case.name == row.case))?;
    }
    Ok(())
}

/// The passes of both rows.
fn added(old: &Row, new: &Row, case: &Case) -> Row {
    let both = |a: &Option<Samples>, b: &Option<Samples>| match (a, b) {
        (Some(a), Some(b)) => Some(a.with(b)),
        (a, b) => a.clone().or(b.clone()),
    };
    let (wootz, peer) = (both(&old.wootz, &new.wootz), both(&old.peer, &new.peer));
    let mut row = Row { wootz, peer, ..new.clone() };
    row.conditions.passes += old.conditions.passes;
    if let (Measure::Streams(_), Some(wootz), Some(peer)) = (case.measure, &row.wootz, &row.peer) {
        let ratio = wootz.median() / peer.median();
        (row.ratio, row.is_met) = (Some(ratio), Some(ratio >= case.target));
    }
    row
}

struct Bench {
    wootz: Wootz,
    llama_cpp: LlamaCpp,
    model: PathBuf,
    threads: usize,
    window: Duration,
    n_passes: usize,
    cpu: String,
    commit: String,
    date: String,
}

/// What a pass saw of a server.
struct Seen {
    tok_per_s: f64,
    /// Median over the requests that began in the window, if any did.
    first_ms: Option<f64>,
}

impl Bench {
    fn measure(&self, case: &Case) -> Result<Row> {
        match case.measure {
            Measure::Streams(n) => self.streams(case, n),
            Measure::Prefix => self.prefix(case),
        }
    }

    fn row(&self, case: &Case) -> Row {
        let conditions = Conditions {
            cpu: self.cpu.clone(),
            instructions: String::new(),
            threads: self.threads,
            commit: self.commit.clone(),
            date: self.date.clone(),
            passes: self.n_passes,
            peers: self.llama_cpp.version.clone(),
        };
        Row::empty(case.name, "serve", case.title, conditions)
    }

    fn ours(&self, n_streams: usize) -> Result<Running> {
        let home = tempfile::tempdir()?;
        let mut command = Command::new(self.wootz.program());
        command.env("WOOTZ_HOME", home.path()).arg("serve").arg(named(&self.model));
        command.args(["--threads", &self.threads.to_string(), "--parallel", &n_streams.to_string()]);
        command.args(["--ctx", "2048", "--draft", "off"]);
        Running::wootz(&mut command)
    }

    fn theirs(&self, n_streams: usize) -> Result<Running> {
        let mut command = Command::new(self.llama_cpp.server()?);
        command.arg("-m").arg(&self.model).args(["-t", &self.threads.to_string(), "--no-ui"]);
        command.args(["-np", &n_streams.to_string(), "-c", &(2048 * n_streams).to_string()]);
        Running::told_its_port(&mut command)
    }

    fn streams(&self, case: &Case, n_streams: usize) -> Result<Row> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..self.n_passes {
            ours.push(closed_loops(self.ours(n_streams)?.address, n_streams, self.window)?);
            theirs.push(closed_loops(self.theirs(n_streams)?.address, n_streams, self.window)?);
        }
        let rates = |seen: &[Seen]| Samples::new(seen.iter().map(|seen| seen.tok_per_s).collect());
        let first = |seen: &[Seen]| {
            let all: Vec<f64> = seen.iter().filter_map(|seen| seen.first_ms).collect();
            if all.is_empty() { "–".to_owned() } else { format!("{:.0}", Samples::new(all).median()) }
        };
        let (wootz, peer) = (rates(&ours), rates(&theirs));
        let ratio = wootz.median() / peer.median();
        Ok(Row {
            note: format!("first token {} ms, llama.cpp {} ms", first(&ours), first(&theirs)),
            target: format!("≥ {:.1}", case.target),
            is_met: Some(ratio >= case.target),
            wootz: Some(wootz),
            peer: Some(peer),
            ratio: Some(ratio),
            ..self.row(case)
        })
    }

    fn prefix(&self, case: &Case) -> Result<Row> {
        let (ours, theirs) = (self.ours(1)?, self.theirs(1)?);
        let (mut new, mut cached, mut peer_new, mut peer_cached) = (vec![], vec![], vec![], vec![]);
        for (address, new, cached) in
            [(ours.address, &mut new, &mut cached), (theirs.address, &mut peer_new, &mut peer_cached)]
        {
            first_token(address, &words(1, 8))?;
            for pass in 0..self.n_passes as u64 {
                let beginning = words(100 + pass, PREFIX);
                let behind = |own: u64| first_token(address, &format!("{beginning}{}", words(own, 16)));
                new.push(behind(200 + pass)?);
                cached.push(behind(300 + pass)?);
            }
        }
        let median = |times: &[f64]| Samples::new(times.to_vec()).median();
        let ratio = median(&cached) / median(&new);
        Ok(Row {
            unit: "ms".into(),
            note: format!(
                "of {:.0} ms uncached; llama.cpp {:.2} of {:.0} ms",
                median(&new),
                median(&peer_cached) / median(&peer_new),
                median(&peer_new)
            ),
            target: format!("≤ {:.1}", case.target),
            is_met: Some(ratio <= case.target),
            wootz: Some(Samples::new(cached)),
            peer: Some(Samples::new(peer_cached)),
            ratio: Some(ratio),
            ..self.row(case)
        })
    }
}

/// `bench=PATH`: what the model is called.
fn named(path: &Path) -> std::ffi::OsString {
    let mut named = std::ffi::OsString::from("bench=");
    named.push(path);
    named
}

/// `n` words of four letters, each with a space before it. All are tokens of the random model.
fn words(seed: u64, n: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ seed.wrapping_mul(0xd134_2543_de82_ef95);
    let mut word = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        300 + (state >> 40) as usize % 100_000
    };
    let letter = |i: usize| char::from(b'a' + (i % 26) as u8);
    let spelled = |i: usize| [' ', letter(i / 17_576), letter(i / 676), letter(i / 26), letter(i)];
    (0..n).flat_map(|_| spelled(word())).collect()
}

fn request(prompt: &str, n_tokens: usize, seed: u64) -> Value {
    json!({
        "model": "bench", "prompt": prompt, "max_tokens": n_tokens, "ignore_eos": true, "stream": true, "seed": seed,
        // Said outright, since the defaults differ.
        "temperature": 1, "top_k": 40, "top_p": 0.95, "min_p": 0.05,
    })
}

/// Milliseconds until the first token of an answer; it is left after a few.
fn first_token(address: SocketAddr, prompt: &str) -> Result<f64> {
    let first = client::events(address, "/v1/completions", &request(prompt, 4, 1), || true)?;
    Ok(1e3 * first.as_secs_f64())
}

/// Keeps `n_streams` requests going and counts tokens while `window` lasts.
fn closed_loops(address: SocketAddr, n_streams: usize, window: Duration) -> Result<Seen> {
    let shared = words(7, SHARED);
    let n_tokens = AtomicUsize::new(0);
    let (counts, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let firsts = Mutex::new(Vec::new());
    let ready = std::sync::Barrier::new(n_streams + 1);
    let stream = |stream: u64| -> Result<()> {
        let prompt = |i: u64| format!("{shared}{}", words(1000 + 100 * stream + i, OWN));
        let warm = client::events(address, "/v1/completions", &request(&prompt(0), 4, stream), || true);
        ready.wait();
        warm?;
        for i in 1.. {
            let seen = || {
                n_tokens.fetch_add(usize::from(counts.load(Ordering::Relaxed)), Ordering::Relaxed);
                !is_over.load(Ordering::Relaxed)
            };
            let was_counting = counts.load(Ordering::Relaxed);
            let first = client::events(address, "/v1/completions", &request(&prompt(i), ANSWER, i), seen)?;
            if was_counting {
                firsts.lock().expect("nobody panics").push(1e3 * first.as_secs_f64());
            }
            if is_over.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
        Ok(())
    };
    let seconds = std::thread::scope(|scope| -> Result<f64> {
        let streams: Vec<_> = (0..n_streams as u64).map(|i| scope.spawn(move || stream(i))).collect();
        ready.wait();
        // Streams that began together drift apart a little, as users do.
        std::thread::sleep(Duration::from_secs(2));
        counts.store(true, Ordering::Relaxed);
        let start = Instant::now();
        std::thread::sleep(window);
        counts.store(false, Ordering::Relaxed);
        let seconds = start.elapsed().as_secs_f64();
        is_over.store(true, Ordering::Relaxed);
        for stream in streams {
            stream.join().expect("a stream does not panic")?;
        }
        Ok(seconds)
    })?;
    let firsts = firsts.into_inner().expect("nobody panics");
    let first_ms = (!firsts.is_empty()).then(|| Samples::new(firsts).median());
    let tok_per_s = n_tokens.into_inner() as f64 / seconds;
    ensure!(tok_per_s > 0.0, "no token came in {seconds:.0} s");
    Ok(Seen { tok_per_s, first_ms })
}

#[derive(Default)]
struct Options {
    only: Vec<String>,
    passes: Option<usize>,
    seconds: Option<u64>,
    add: bool,
    threads: Option<usize>,
    dir: Option<PathBuf>,
    llama_bin: Option<PathBuf>,
    wootz_bin: Option<PathBuf>,
    prepare: bool,
    markdown: Option<PathBuf>,
    report: bool,
}

impl Options {
    /// `None`: help was asked for.
    fn parse(args: &[String]) -> Result<Option<Self>> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().cloned().with_context(|| format!("`{arg}`: expected a value"));
            let mut count = |most: usize| -> Result<usize> {
                let text = value()?;
                let n = text.parse().ok().filter(|n| (1..=most).contains(n));
                n.with_context(|| format!("`{arg}`: expected a number from 1 to {most}, got `{text}`"))
            };
            match arg.as_str() {
                "--passes" => options.passes = Some(count(100)?),
                "--seconds" => options.seconds = Some(count(600)? as u64),
                "--threads" => options.threads = Some(count(1024)?),
                "--only" => options.only = value()?.split(',').map(|part| part.trim().to_owned()).collect(),
                "--add" => options.add = true,
                "--dir" => options.dir = Some(value()?.into()),
                "--llama-bin" => options.llama_bin = Some(value()?.into()),
                "--wootz-bin" => options.wootz_bin = Some(value()?.into()),
                "--prepare" => options.prepare = true,
                "--markdown" => options.markdown = Some(value()?.into()),
                "--report" => options.report = true,
                "-h" | "--help" => return Ok(None),
                other => bail!("unexpected argument `{other}`\nhint: `cargo xtask bench serve --help`"),
            }
        }
        if let Some(name) = options.only.iter().find(|name| CASES.iter().all(|case| case.name != *name)) {
            bail!("--only {name}: no such case");
        }
        ensure!(!options.report || options.markdown.is_some(), "--report needs --markdown FILE");
        Ok(Some(options))
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    fn parse(line: &str) -> Result<Option<Options>> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(parse("--only prefix --passes 2").unwrap().unwrap().wants("prefix"));
        assert!(parse("--help").unwrap().is_none());
        for wrong in ["--fast", "--only x", "--passes 0", "--passes", "--report"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn words_are_alike_for_a_seed_and_of_four_letters() {
        assert_eq!(words(3, 50), words(3, 50));
        assert_ne!(words(3, 50), words(4, 50));
        let all = words(5, 1000);
        assert_eq!(all.len(), 5000);
        assert!(all.split(' ').skip(1).all(|word| word.len() == 4));
    }

    /// A server that answers every request with three events at once.
    #[test]
    fn tokens_are_counted_while_the_window_lasts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 8192]);
                std::thread::sleep(Duration::from_millis(5));
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\ndata: {}\n\ndata: {}\n\ndata: {}\n\n");
            }
        });
        let seen = closed_loops(address, 2, Duration::from_millis(300)).unwrap();
        assert!(seen.tok_per_s > 3.0 && seen.first_ms >= Some(5.0), "{} {:?}", seen.tok_per_s, seen.first_ms);
    }
}
