//! What the environment says: where the home is, where Hugging Face's cache is, how to reach the Hub.
//!
//! Where:  read once in `main`; every command gets a reference.
//! Idea:   variables that people have set for other tools mean the same here. Nothing else in the workspace reads them.
//! Source: the environment variables of `huggingface_hub`, curl and OpenSSL.

use std::fs;
use std::path::PathBuf;

use crate::otlp;
use anyhow::{Context, Result, ensure};
use wootz_remote::{Hub, HubOptions, OFFICIAL_ENDPOINT, Places, Proxy, Token};

/// The environment, understood.
#[derive(Debug)]
pub struct Settings {
    /// `$WOOTZ_HOME`, or `~/.wootz`.
    pub home: PathBuf,
    /// Hugging Face's `hub` folder, whether or not it exists.
    pub hf_hub: Option<PathBuf>,
    /// How to reach the Hub.
    pub hub: HubOptions,
}

/// Looks up a variable; an empty one counts as not set.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Settings {
    /// Reads the variables. `offline` is the flag of the command line.
    ///
    /// # Errors
    /// When no home folder can be found, or a token or certificate file that was named cannot be read.
    pub fn from_environment(offline: bool) -> Result<Self> {
        Self::from_lookup(&variable, std::env::home_dir(), offline)
    }

    /// The same from any source, for tests.
    fn from_lookup(get: Lookup, user_home: Option<PathBuf>, offline: bool) -> Result<Self> {
        let folders = Folders::from_lookup(get, user_home)?;
        let hub = HubOptions {
            endpoint: get("HF_ENDPOINT").unwrap_or_else(|| OFFICIAL_ENDPOINT.into()),
            token: token(get, folders.hf_home.as_ref())?,
            offline: offline || get("HF_HUB_OFFLINE").is_some_and(|value| is_yes(&value)),
            proxy: proxy(get),
            ca_bundle: ca_bundle(get)?,
            ..HubOptions::default()
        };
        Ok(Self { home: folders.home, hf_hub: folders.hf_hub, hub })
    }

    /// Where models may be.
    pub fn places(&self) -> Places {
        Places { models: self.home.join("models"), hf_hub: self.hf_hub.clone() }
    }

    /// Where spans of served generations go, if anywhere. `flag` wins over variables.
    ///
    /// # Errors
    /// Variables that say what cannot be done here.
    pub fn telemetry(&self, flag: Option<&str>) -> Result<Option<wootz_serve::TelemetryOptions>> {
        otlp::options(&variable, flag, self.hub.offline)
    }

    /// A connection to the Hub. Nothing is sent yet.
    ///
    /// # Errors
    /// Settings that cannot work, such as an endpoint that is no address.
    pub fn connect(&self) -> Result<Hub> {
        Hub::new(self.hub.clone()).context("HF_ENDPOINT, HF_TOKEN or a proxy setting")
    }
}

/// Where models may be, for those who never touch the network.
///
/// # Errors
/// When no home folder can be found.
pub fn places() -> Result<Places> {
    let folders = Folders::from_lookup(&variable, std::env::home_dir())?;
    Ok(Places { models: folders.home.join("models"), hf_hub: folders.hf_hub })
}

/// Folders alone.
struct Folders {
    home: PathBuf,
    hf_home: Option<PathBuf>,
    hf_hub: Option<PathBuf>,
}

impl Folders {
    fn from_lookup(get: Lookup, user_home: Option<PathBuf>) -> Result<Self> {
        let user_home = user_home.filter(|path| !path.as_os_str().is_empty());
        let home = match (get("WOOTZ_HOME"), &user_home) {
            (Some(path), _) => PathBuf::from(path),
            (None, Some(user_home)) => user_home.join(".wootz"),
            (None, None) => {
                anyhow::bail!("no home folder\nhint: set WOOTZ_HOME to a folder for models and runs")
            }
        };
        let hf_home = match (get("HF_HOME"), get("XDG_CACHE_HOME")) {
            (Some(path), _) => Some(PathBuf::from(path)),
            (None, Some(cache)) => Some(PathBuf::from(cache).join("huggingface")),
            (None, None) => user_home.map(|path| path.join(".cache/huggingface")),
        };
        let hf_hub = get("HF_HUB_CACHE").or_else(|| get("HUGGINGFACE_HUB_CACHE")).map(PathBuf::from);
        let hf_hub = hf_hub.or_else(|| hf_home.as_ref().map(|path| path.join("hub")));
        Ok(Self { home, hf_home, hf_hub })
    }
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn is_yes(value: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str())
}

/// `HF_TOKEN`, or what `huggingface-cli login` has written.
fn token(get: Lookup, hf_home: Option<&PathBuf>) -> Result<Option<Token>> {
    if let Some(token) = get("HF_TOKEN").or_else(|| get("HUGGING_FACE_HUB_TOKEN")) {
        return Ok(Some(Token::parse(&token).context("HF_TOKEN")?));
    }
    if get("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|value| is_yes(&value)) {
        return Ok(None);
    }
    let path = get("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| hf_home.map(|path| path.join("token")));
    let Some(path) = path.filter(|path| path.is_file()) else { return Ok(None) };
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    match text.trim() {
        "" => Ok(None),
        text => Ok(Some(Token::parse(text).with_context(|| format!("{}", path.display()))?)),
    }
}

/// The proxy for the Hub, which speaks https unless someone runs a mirror.
fn proxy(get: Lookup) -> Option<Proxy> {
    let is_plain = get("HF_ENDPOINT").is_some_and(|endpoint| endpoint.starts_with("http://"));
    let names = if is_plain { ["http_proxy", "HTTP_PROXY"] } else { ["https_proxy", "HTTPS_PROXY"] };
    let url = names.into_iter().chain(["all_proxy", "ALL_PROXY"]).find_map(get)?;
    let no_proxy = get("no_proxy").or_else(|| get("NO_PROXY")).unwrap_or_default();
    Some(Proxy { url, no_proxy })
}

/// Certificates that the user trusts instead of the built-in ones.
fn ca_bundle(get: Lookup) -> Result<Option<Vec<u8>>> {
    let path = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"].into_iter().find_map(get);
    let Some(path) = path else { return Ok(None) };
    let size = fs::metadata(&path).with_context(|| format!("reading certificates from {path}"))?.len();
    ensure!(size <= 16 << 20, "{path}: expected certificates in at most 16 MiB, got {size} bytes");
    Ok(Some(fs::read(&path).with_context(|| format!("reading certificates from {path}"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings> {
        let lookup = |name: &str| {
            variables
                .iter()
                .find(|(n, value)| *n == name && !value.is_empty())
                .map(|(_, value)| (*value).to_owned())
        };
        Settings::from_lookup(&lookup, Some("/home/ada".into()), false)
    }

    #[test]
    fn folders_follow_the_variables_that_others_use() {
        let check = |variables: &[(&str, &str)], home: &str, hub: &str| {
            let settings = settings(variables).unwrap();
            assert_eq!((settings.home, settings.hf_hub), (home.into(), Some(hub.into())), "{variables:?}");
        };
        check(&[], "/home/ada/.wootz", "/home/ada/.cache/huggingface/hub");
        check(&[("WOOTZ_HOME", ""), ("HF_HOME", "/hf")], "/home/ada/.wootz", "/hf/hub");
        check(&[("WOOTZ_HOME", "/w"), ("XDG_CACHE_HOME", "/c")], "/w", "/c/huggingface/hub");
        check(&[("HF_HUB_CACHE", "/h"), ("HF_HOME", "/hf")], "/home/ada/.wootz", "/h");
        assert!(Settings::from_lookup(&|_| None, None, false).is_err());
    }

    #[test]
    fn the_hub_is_reached_as_the_variables_say() {
        let hub = |variables: &[(&str, &str)]| settings(variables).unwrap().hub;
        assert_eq!(hub(&[]).endpoint, OFFICIAL_ENDPOINT);
        assert_eq!(hub(&[("HF_ENDPOINT", "http://127.0.0.1:1")]).endpoint, "http://127.0.0.1:1");
        assert!(hub(&[("HF_TOKEN", "hf_x")]).token.is_some() && hub(&[]).token.is_none());
        assert!(hub(&[("HF_HUB_OFFLINE", "1")]).offline && !hub(&[("HF_HUB_OFFLINE", "0")]).offline);
        let proxies = [("HTTPS_PROXY", "http://p:1"), ("HTTP_PROXY", "http://q:2"), ("NO_PROXY", "a,b")];
        let proxy = hub(&proxies).proxy.unwrap();
        assert_eq!((proxy.url.as_str(), proxy.no_proxy.as_str()), ("http://p:1", "a,b"));
        let plain = [&proxies[..], &[("HF_ENDPOINT", "http://mirror")]].concat();
        assert_eq!(hub(&plain).proxy.unwrap().url, "http://q:2");
        assert!(settings(&[("HF_TOKEN", "two words")]).is_err());
        assert!(settings(&[("SSL_CERT_FILE", "/nowhere")]).is_err());
    }

    #[test]
    fn the_token_file_is_read_unless_forbidden() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        let hf_home = ("HF_HOME", folder.path().to_str().unwrap());
        assert!(settings(&[hf_home]).unwrap().hub.token.is_some());
        assert!(settings(&[hf_home, ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).unwrap().hub.token.is_none());
    }
}
