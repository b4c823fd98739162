//! `wootz serve`: models behind the APIs that people's programs already speak.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use serde_json::json;
use wootz_engine::{Host, LoadOptions};
use wootz_serve::{ApiKey, FixedCatalog, Limits, ServedModel, Server, ServerOptions, TlsFiles};

use super::print_json;
use crate::model_choice::ModelChoice;
use crate::output;
use crate::serving::{Loading, open};
use crate::session::RunningArgs;
use crate::settings::Settings;

/// Positions of one sequence unless --ctx says more: long contexts take memory that few requests need.
const DEFAULT_CONTEXT: usize = 16 << 10;

/// Serve models over HTTP
///
/// A page to talk at /, OpenAI's API under /v1. With no model named, the small one inside this program. Listens on this machine alone
/// unless --host says otherwise, which needs a key. Ctrl-C lets what runs finish; a second one does not.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  wootz serve
  wootz serve models/llama models/all-MiniLM-L6-v2 --port 9000
  wootz serve small=models/llama --host 0.0.0.0 --api-key-file keys.txt

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
    /// File of keys, one per line: sha256:DIGEST, then any of scopes=generate,embed,files,metrics rpm=60 tpm=100000
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
            handle_signals: true,
            ..ServerOptions::at(SocketAddr::new(self.host, self.port))
        };
        let host = Arc::new(Host::start().context("starting the compute thread")?);
        let models = self.load(&host)?;
        let names: Vec<String> = models.iter().map(|model| model.card.name.clone()).collect();
        let server = Server::bind(options, Arc::new(FixedCatalog::new(models)))?;
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

    fn load(&self, host: &Arc<Host>) -> anyhow::Result<Vec<ServedModel>> {
        let device = Arc::new(self.running.device());
        let mut opened: Vec<ServedModel> = Vec::new();
        for (name, choice) in self.choices()? {
            anyhow::ensure!(
                opened.iter().all(|model| model.card.name != name),
                "two models are called `{name}`\nhint: NAME=MODEL gives one another name"
            );
            let loading = Loading {
                host: host.clone(),
                device: device.clone(),
                options: self.load_options(&choice)?,
                max_queued: usize::from(self.queue).max(1) + usize::from(self.parallel),
            };
            opened.push(
                open(&name, &choice, &loading).with_context(|| format!("serving `{}`", choice.name()))?,
            );
        }
        Ok(opened)
    }

    fn load_options(&self, choice: &ModelChoice) -> anyhow::Result<LoadOptions> {
        let model = choice.open()?;
        let network = &model.network;
        let (parallel, own) = (usize::from(self.parallel), network.config.max_seq_len);
        let context = match self.running.context_limit() {
            Some(context) => context,
            None if own > DEFAULT_CONTEXT => {
                eprintln!(
                    "`{}`: {DEFAULT_CONTEXT} of {own} positions\nhint: --ctx N for more",
                    choice.name()
                );
                DEFAULT_CONTEXT
            }
            None => own,
        };
        Ok(LoadOptions {
            max_context: Some(context),
            n_sequences: parallel,
            // Few requests fill their context: blocks are shared, and who finds none waits.
            n_positions: Some((context * parallel).min(context.max(4 * DEFAULT_CONTEXT))),
            max_batch_tokens: self.running.chunk(),
            kv_type: Some(self.running.kv_type(&model)),
            ..LoadOptions::default()
        })
    }

    /// Names and models.
    fn choices(&self) -> anyhow::Result<Vec<(String, ModelChoice)>> {
        if self.models.is_empty() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_called_by_their_last_part() {
        let check = |model: &str, expected: &str| assert_eq!(short_name(model), expected);
        check("models/llama", "llama");
        check("models/llama.Q4_K_M.gguf", "llama.Q4_K_M");
        check("hf:org/name", "org/name");
        check("models/llama/", "llama");
    }
}
