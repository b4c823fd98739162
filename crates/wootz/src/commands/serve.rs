//! `wootz serve`: models behind the APIs that people's programs already speak.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use wootz_engine::Host;
use wootz_serve::{ApiKey, Catalog, Limits, NewAdapter, Server, ServerOptions, TlsFiles};

use super::print_json;
use crate::adapters;
use crate::model_choice::ModelChoice;
use crate::serving::{DEFAULT_CONTEXT, Guessing, Loading, Stock, StockOptions};
use crate::session::RunningArgs;
use crate::settings::Settings;
use crate::{machine, output};

/// Serve models over HTTP
///
/// A page to talk at /, OpenAI's API under /v1. With no model named, the small one inside this program. Listens on this machine alone
/// unless --host says otherwise, which needs a key. Ctrl-C lets what runs finish; a second one does not.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  wootz serve
  wootz serve models/llama models/all-MiniLM-L6-v2 --port 9000
  wootz serve small=models/llama --host 0.0.0.0 --api-key-file keys.txt
  wootz serve --all --keep-alive 5m --memory 16G
  wootz serve models/llama --adapter pirate=adapters/pirate --adapter brief=adapters/brief=0.5

  curl http://127.0.0.1:8080/v1/chat/completions -d '{\"model\": \"wootz-small\", \"messages\": [{\"role\": \"user\", \"content\": \"Tell me a story.\"}]}'")]
pub(crate) struct ServeArgs {
    /// Models: paths, names in the home, hf:org/name; NAME=MODEL gives one a name
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// Port; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// Key that clients must show; may be given several times
    #[arg(long, value_name = "KEY")]
    api_key: Vec<String>,
    /// File of keys, one per line: sha256:DIGEST, then any of scopes=generate,embed,files,metrics,pull,admin rpm=60 tpm=100000
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Certificate with its chain, PEM; serves HTTPS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Origin whose web pages may ask, http://localhost:3000; may be given several times
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Requests computed at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=512))]
    parallel: u16,
    /// Requests that may wait; further ones get status 429
    #[arg(long, value_name = "N", default_value_t = 56, value_parser = clap::value_parser!(u16).range(0..=8192))]
    queue: u16,
    /// What guesses ahead, which changes no answer: lookup, off, layers:N (the model's own first N), or a small model
    #[arg(long, value_name = "MODEL", default_value = "lookup")]
    draft: String,
    /// Memory that all models together may take, 8G; most of what is free without it
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory: Option<u64>,
    /// How long a model stays in memory after it was asked for, 90s, 5m, 1h; until room is needed without it
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    keep_alive: Option<Duration>,
    /// Serve all models of the home, too; each is loaded when it is asked for
    #[arg(long)]
    all: bool,
    /// Send a span of every generation to an OpenTelemetry collector, http://localhost:4318
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
    /// Let clients have models fetched from the Hub (POST /api/pull), and serve them
    #[arg(long)]
    allow_pull: bool,
    /// LoRA over the first model, or over MODEL, served under a name of its own; may be given several times
    #[arg(long, value_name = "NAME[@MODEL]=PATH[=STRENGTH]")]
    adapter: Vec<String>,
    /// Let clients load adapters from this machine's files and unload them (POST /v1/load_lora_adapter)
    #[arg(long)]
    allow_adapters: bool,
    /// Print {"address", "models"} instead of the address
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: RunningArgs,
}

impl ServeArgs {
    pub(crate) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let keys = self.keys()?;
        let limits =
            Limits { generations: usize::from(self.parallel) + usize::from(self.queue), ..Limits::default() };
        let options = ServerOptions {
            keys,
            origins: self.allow_origin.clone(),
            limits,
            tls: self
                .tls_cert
                .clone()
                .zip(self.tls_key.clone())
                .map(|(certificate, key)| TlsFiles { certificate, key }),
            folder: Some(settings.home.join("serve")),
            telemetry: settings.telemetry(self.otlp.as_deref())?,
            handle_signals: true,
            ..ServerOptions::at(SocketAddr::new(self.host, self.port))
        };
        let stock = self.stock(settings)?;
        let server = Server::bind(options, stock.clone())?;
        let later = stock.load_named()?;
        if !later.is_empty() {
            eprintln!("loaded when asked for, as there is no room for all: {}", later.join(", "));
        }
        for adapter in &self.adapter {
            stock.add_overlay(parse_adapter(adapter)?)?;
        }
        let names: Vec<String> = stock.list().into_iter().map(|card| card.name).collect();
        let scheme = if self.tls_cert.is_some() { "https" } else { "http" };
        let address = format!("{scheme}://{}", server.address());
        if self.json {
            print_json(&json!({"address": address, "models": names}))?;
        } else {
            output::print(&address)?;
            eprintln!(
                "serving {} · open the address in a browser, or give programs {address}/v1 · Ctrl-C stops",
                names.join(", ")
            );
        }
        Ok(server.run()?)
    }

    fn stock(&self, settings: &Settings) -> anyhow::Result<Arc<Stock>> {
        let choices = self.choices()?;
        for (name, choice) in &choices {
            let own = choice.open()?.network.config.max_seq_len;
            if self.running.context_limit().is_none() && own > DEFAULT_CONTEXT {
                eprintln!("`{name}`: {DEFAULT_CONTEXT} of {own} positions\nhint: --ctx N for more");
            }
        }
        let parallel = usize::from(self.parallel);
        let loading = Loading {
            host: Arc::new(Host::start().context("starting the compute thread")?),
            device: Arc::new(self.running.device()),
            running: self.running.clone(),
            parallel,
            max_queued: usize::from(self.queue).max(1) + parallel,
            guessing: Guessing::parse(&self.draft)?,
        };
        let hub = match self.allow_pull {
            true => Some((settings.connect()?, settings.places())),
            false => None,
        };
        let options = StockOptions {
            max_bytes: self.memory.or_else(free_memory).unwrap_or(u64::MAX),
            time_to_live: self.keep_alive,
            places: (self.all || self.allow_pull).then(|| settings.places()),
            hub,
            allows_adapters: self.allow_adapters,
        };
        Stock::new(choices, loading, options)
    }

    /// Names and models.
    fn choices(&self) -> anyhow::Result<Vec<(String, ModelChoice)>> {
        if self.models.is_empty() && !self.all {
            return Ok(vec![("wootz-small".to_owned(), ModelChoice::BuiltIn)]);
        }
        let one = |model: &String| match model.split_once('=') {
            Some((name, model)) if !ModelChoice::exists(&format!("{name}={model}")) => {
                Ok((name.to_owned(), ModelChoice::find(Some(model))?))
            }
            _ => Ok((short_name(model), ModelChoice::find(Some(model))?)),
        };
        self.models.iter().map(one).collect()
    }

    fn keys(&self) -> anyhow::Result<Vec<ApiKey>> {
        let plain = self.api_key.iter().map(|key| ApiKey::new(key).context("--api-key"));
        let mut keys = plain.collect::<anyhow::Result<Vec<ApiKey>>>()?;
        if let Some(path) = &self.api_key_file {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            for (i, line) in text.lines().enumerate() {
                let key = ApiKey::from_line(line);
                keys.extend(key.with_context(|| format!("{}:{}", path.display(), i + 1))?);
            }
        }
        Ok(keys)
    }
}

/// What clients call a model that was given no name: `org/name` of the Hub, else the last part of its path.
fn short_name(model: &str) -> String {
    if let Some(name) = model.strip_prefix("hf:") {
        return name.to_owned();
    }
    let name = Path::new(model).file_name().map_or(model.into(), |name| name.to_string_lossy());
    name.strip_suffix(".gguf").unwrap_or(&name).to_owned()
}

/// `NAME=PATH`, `NAME@MODEL=PATH=0.5`
fn parse_adapter(text: &str) -> anyhow::Result<NewAdapter> {
    let (name, path) = text
        .split_once('=')
        .with_context(|| format!("--adapter {text}: expected NAME=PATH\nhint: clients ask for the name"))?;
    let (name, base) = match name.split_once('@') {
        Some((name, base)) => (name, Some(base.to_owned())),
        None => (name, None),
    };
    let (path, strength) = adapters::parse(path).context("--adapter")?;
    Ok(NewAdapter { name: name.to_owned(), path, base, strength })
}

/// Most of the memory that is free now.
fn free_memory() -> Option<u64> {
    machine::Memory::detect().available_bytes.map(|n_bytes| n_bytes / 10 * 9)
}

/// `8G`, `512M`, `1500000000`
fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("expected a number of bytes, with K, M or G behind it if you like, got `{text}`");
    let n_digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..n_digits].parse().map_err(|_| wrong())?;
    let unit = match text[n_digits..].to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).filter(|&n_bytes| n_bytes > 0).ok_or_else(wrong)
}

/// `90s`, `5m`, `1h`
fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected a time such as 90s, 5m or 1h, got `{text}`");
    let n_digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..n_digits].parse().map_err(|_| wrong())?;
    let seconds = match &text[n_digits..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    // A hundred years are enough, and can be added to any moment.
    let total = number.checked_mul(seconds).filter(|&total| total <= 100 * 365 * 86_400).ok_or_else(wrong)?;
    Ok(Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_units() {
        assert_eq!(parse_size("8G"), Ok(8 << 30));
        assert_eq!(parse_size("512MiB"), Ok(512 << 20));
        assert_eq!(parse_size("1500"), Ok(1500));
        assert_eq!(parse_time("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse_time("90"), Ok(Duration::from_secs(90)));
        for wrong in ["", "G", "0", "-1", "99999999999999999999", "9999999999999G", "8X"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "m", "5 m", "5d", "99999999999999h"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_adapter_has_a_name_and_a_path() {
        let adapter = parse_adapter("pirate@llama=adapters/p=0.5").unwrap();
        let expected = ("pirate", Some("llama".to_owned()), PathBuf::from("adapters/p"), 0.5);
        assert_eq!((adapter.name.as_str(), adapter.base, adapter.path, adapter.strength), expected);
        assert_eq!(parse_adapter("a=b").unwrap().base, None);
        assert!(parse_adapter("adapters/p").unwrap_err().to_string().contains("NAME=PATH"));
    }

    #[test]
    fn models_are_called_by_their_last_part() {
        let check = |model: &str, expected: &str| assert_eq!(short_name(model), expected);
        check("models/llama", "llama");
        check("models/llama.Q4_K_M.gguf", "llama.Q4_K_M");
        check("hf:org/name", "org/name");
        check("models/llama/", "llama");
    }
}
